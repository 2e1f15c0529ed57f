"""A block's own map as an explanation: from any captured map to one number a pixel."""

import dataclasses

import torch
from torch.nn import functional as F

from attention.blocks.gate import BOTH, CHANNEL, CODEWORDS, POSITIONS, SPATIAL, Map
from attention.explain.capture import capture, rollout
from attention.explain.checks import expect_eval


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
    captured, inputs = _captured(network, images)
    if path == "rollout":
        return _rollout(captured, images)
    if path not in captured:
        raise ValueError(f"path must be one of {', '.join(captured)}, or rollout; got {path!r}")
    one = captured[path]
    if len(one.maps) != 1:
        raise ValueError(f"{path!r} must give one map a pass; this network calls it otherwise")
    if one.kind == CODEWORDS:
        raise ValueError(f"a map of kind {CODEWORDS!r} says nothing about which positions matter")
    return _over_pixels(one, inputs.get(path), images)


def relevances(network, images, batch_size=100):
    """{path: `Relevance`} of all maps of a network that say which positions matter, in its order.

    Left out are shares of codewords, gates on a vector that has no positions any more, and modules
    that give several maps a pass. A vision transformer has its "rollout" beside its layers; a
    network without attention has none. The images go through in parts of `batch_size`.
    """
    expect_eval(network)
    if not any(isinstance(module, Map) for module in network.modules()):
        return {}
    parts = [_all_over_pixels(network, part) for part in images.split(batch_size)]
    return {
        path: Relevance(torch.cat([part[path].maps for part in parts]), parts[0][path].how)
        for path in parts[0]
    }


def _captured(network, images):
    """The dict of `capture`, and for channel gates what they are applied to, by path."""
    expect_eval(network)
    inputs, handles = {}, []

    def keep(path):
        return lambda module, given: inputs.update({path: given[0].float().cpu()})

    with torch.no_grad(), capture(network) as captured:
        for path, one in captured.items():
            if one.kind == CHANNEL:
                owner = network.get_submodule(path.rpartition(".")[0])
                handles.append(owner.register_forward_pre_hook(keep(path)))
        try:
            network(images)
        finally:
            for handle in handles:
                handle.remove()
    return captured, inputs


def _all_over_pixels(network, images):
    captured, inputs = _captured(network, images)
    found = {
        path: _over_pixels(one, inputs.get(path), images)
        for path, one in captured.items()
        if len(one.maps) == 1
        and one.kind != CODEWORDS
        and not (one.kind == CHANNEL and inputs[path].shape[2:].numel() == 1)
    }
    if all(_has_class_token(one) for one in captured.values()):
        found["rollout"] = _rollout(captured, images)
    return found


def _over_pixels(one, x, images):
    """Relevance of a captured map; x: what a channel gate is applied to."""
    if one.kind == SPATIAL:
        maps, how = one.cat()[:, 0], "the spatial gate itself"
    elif one.kind == BOTH:
        maps, how = one.cat().mean(1), "the gate, mean over channels"
    elif one.kind == CHANNEL:
        gate = one.cat()
        raised = (gate - gate.mean(1, keepdim=True)).clamp_min(0)
        maps = (raised * x.abs()).sum(1)
        how = "where the channels are active that the gate raises above its mean"
    else:
        weights = one.over_image().mean(1)  # (N, Q, h, w)
        if _has_class_token(one):
            maps, how = weights[:, 0], "weights from the class token, mean over heads"
        else:
            maps, how = weights.mean(1), "what a position gets, mean over heads and queries"
    return Relevance(_enlarge(maps, images), how)


def _rollout(captured, images):
    layers = list(captured.values())
    if not all(_has_class_token(one) for one in layers):
        raise ValueError(
            "rollout needs a network whose attention is self-attention in every layer, with a "
            "class token"
        )
    height, width = layers[0].size
    from_class = rollout([one.cat() for one in layers])[:, 0, -height * width :]
    maps = from_class.unflatten(1, (height, width))
    return Relevance(_enlarge(maps, images), "attention rollout, the class token's row")


def _has_class_token(one):
    if one.kind != POSITIONS:
        return False
    height, width = one.size
    return all(maps.shape[2:] == 2 * (height * width + 1,) for maps in one.maps)


def _enlarge(maps, images):
    size = images.shape[2:]
    return F.interpolate(maps[:, None], size=size, mode="bilinear", align_corners=False)[:, 0]
