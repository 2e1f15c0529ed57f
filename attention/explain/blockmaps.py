"""A block's own map as an explanation: from any captured map to one number a pixel."""

import dataclasses

import torch
from torch.nn import functional as F

from attention.explain.capture import capture, rollout
from attention.explain.checks import expect_eval
from attention.gates import BOTH, CHANNEL, CODEWORDS, POSITIONS, SPATIAL


@dataclasses.dataclass
class Relevance:
    """maps: (N, H, W), at least 0, on the CPU. how: what was done to get them, in a sentence."""

    maps: torch.Tensor
    how: str


def relevance(network, images, path):
    """What one attention map of a network says about each pixel of the images.

    network: in eval mode. images: (N, 3, H, W), normalised. path: of a captured module, as in the
    dict of `capture`; or "rollout", for a vision transformer.

        spatial      the gate itself
        both         the gate's mean over channels
        channel      Σ_c max(0, g_c − mean g) · |x_c|: where the channels that the gate raises are
                     active, x being what the gate is applied to
        positions    the weights that a position gets, mean over heads and queries; of a
                     transformer's layer, from the class token alone
        rollout      the class token's row of the attention rollout through all layers

    Maps are enlarged to the images bilinearly, and not stretched: a flat gate gives a flat map.
    """
    expect_eval(network)
    if path == "rollout":
        return _rollout(network, images)
    inputs = []
    with torch.no_grad(), capture(network) as captured:
        if path not in captured:
            raise ValueError(f"path must be one of {', '.join(captured)}, or rollout; got {path!r}")
        owner = network.get_submodule(path.rpartition(".")[0])
        handle = owner.register_forward_pre_hook(lambda module, given: inputs.append(given[0]))
        try:
            network(images)
        finally:
            handle.remove()
    one = captured[path]
    if len(one.maps) != 1:
        raise ValueError(f"{path!r} must give one map a pass; this network calls it otherwise")
    if one.kind == SPATIAL:
        maps, how = one.cat()[:, 0], "the spatial gate itself"
    elif one.kind == BOTH:
        maps, how = one.cat().mean(1), "the gate, mean over channels"
    elif one.kind == CHANNEL:
        gate, x = one.cat(), inputs[0].float().cpu()
        raised = (gate - gate.mean(1, keepdim=True)).clamp_min(0)
        maps = (raised * x.abs()).sum(1)
        how = "where the channels are active that the gate raises above its mean"
    elif one.kind == POSITIONS:
        weights = one.over_image().mean(1)  # (N, Q, h, w)
        height, width = one.size
        if _has_class_token(one):
            maps, how = weights[:, 0], "weights from the class token, mean over heads"
        else:
            maps, how = weights.mean(1), "what a position gets, mean over heads and queries"
    else:
        raise ValueError(f"a map of kind {CODEWORDS!r} says nothing about which positions matter")
    return Relevance(_enlarge(maps, images), how)


def _rollout(network, images):
    with torch.no_grad(), capture(network) as captured:
        network(images)
    layers = list(captured.values())
    if any(one.kind != POSITIONS or not _has_class_token(one) for one in layers):
        raise ValueError(
            "rollout needs a network whose attention is self-attention in every layer, with a "
            "class token"
        )
    height, width = layers[0].size
    from_class = rollout([one.cat() for one in layers])[:, 0, -height * width :]
    maps = from_class.unflatten(1, (height, width))
    return Relevance(_enlarge(maps, images), "attention rollout, the class token's row")


def _has_class_token(one):
    height, width = one.size
    return all(maps.shape[2:] == 2 * (height * width + 1,) for maps in one.maps)


def _enlarge(maps, images):
    size = images.shape[2:]
    return F.interpolate(maps[:, None], size=size, mode="bilinear", align_corners=False)[:, 0]
