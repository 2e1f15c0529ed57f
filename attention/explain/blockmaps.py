"""A block's own map as an explanation: from any captured map to one number a pixel."""

import dataclasses

import torch
from torch import nn
from torch.nn import functional as F

from attention.blocks import BOTH, CHANNEL, CODEWORDS, POSITIONS, SPATIAL, Map
from attention.checks import at_least_one
from attention.explain.capture import Captured, capture, rollout
from attention.explain.checks import expect_eval, expect_images


@dataclasses.dataclass
class Relevance:
    """maps: (N, H, W), at least 0, on the CPU. how: what was done to get them, in a sentence."""

    maps: torch.Tensor
    how: str


def relevance(network: nn.Module, images: torch.Tensor, path: str) -> Relevance:
    """What one attention map of a network says about each pixel of the images.

    network: in eval mode. images: (N, 3, H, W), normalised. path: of a captured module, as in the
    dict of `capture`; or "rollout", for a vision transformer.

        spatial      the gate itself
        both         the gate's mean over channels (of coordinate attention, the product of its two)
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
    found = captured[path]
    if len(found.maps) != 1:
        raise ValueError(f"{path!r} must give one map a pass; this network calls it otherwise")
    if found.kind == CODEWORDS:
        raise ValueError(f"a map of kind {CODEWORDS!r} says nothing about which positions matter")
    x = inputs.get(path)
    if found.kind == CHANNEL and not _belongs(found, x):
        raise ValueError(f"the module around {path!r} must take the maps that its gate weighs")
    return _over_pixels(found, x, images)


def relevances(
    network: nn.Module, images: torch.Tensor, batch_size: int = 100
) -> dict[str, Relevance]:
    """{path: `Relevance`} of all maps of a network that say which positions matter, in its order.

    Left out are shares of codewords, gates on a vector that has no positions any more, and modules
    that give several maps a pass. A vision transformer has its "rollout" beside its layers; a
    network without attention has none. The images go through in parts of `batch_size`.
    """
    expect_eval(network)
    expect_images(images)
    if not any(isinstance(module, Map) for module in network.modules()):
        return {}
    parts = [
        _all_over_pixels(network, part)
        for part in images.split(at_least_one("batch_size", batch_size))
    ]
    return {
        path: Relevance(torch.cat([part[path].maps for part in parts]), parts[0][path].how)
        for path in parts[0]
    }


def _captured(network, images):
    """The dict of `capture`, and for channel gates what they are applied to, by path."""
    expect_eval(network)
    expect_images(images)
    inputs, handles = {}, []

    def keep(path):
        def hook(module, given, named):
            inputs[path] = [*given, *named.values()][0].float().cpu()

        return hook

    with torch.no_grad(), capture(network) as captured:
        for path, found in captured.items():
            if found.kind == CHANNEL:
                owner = network.get_submodule(path.rpartition(".")[0])
                handles.append(owner.register_forward_pre_hook(keep(path), with_kwargs=True))
        try:
            network(images)
        finally:
            for handle in handles:
                handle.remove()
    return captured, inputs


def _belongs(gate, x):
    """Is `x` the maps whose channels the captured gate weighs?"""
    return x.ndim == 4 and x.shape[:2] == gate.maps[0].shape[:2]


def _all_over_pixels(network, images):
    captured, inputs = _captured(network, images)
    relevant = {}
    for path, found in captured.items():
        x = inputs.get(path)
        if len(found.maps) != 1 or found.kind == CODEWORDS:
            continue
        if found.kind == CHANNEL and not (_belongs(found, x) and x.shape[2:].numel() > 1):
            continue
        relevant[path] = _over_pixels(found, x, images)
    if all(_has_class_token(found) for found in captured.values()):
        relevant["rollout"] = _rollout(captured, images)
    return relevant


def _over_pixels(found, x, images):
    """Relevance of a captured map; x: what a channel gate is applied to."""
    if found.kind == SPATIAL:
        maps, how = found.cat()[:, 0], "the spatial gate itself"
    elif found.kind == BOTH:
        maps, how = found.cat().mean(1), "the gate, mean over channels"
    elif found.kind == CHANNEL:
        gate = found.cat()
        raised = (gate - gate.mean(1, keepdim=True)).clamp_min(0)
        maps = (raised * x.abs()).sum(1)
        how = "where the channels are active that the gate raises above its mean"
    else:
        weights = found.over_image().mean(1)  # (N, Q, h, w)
        if _has_class_token(found):
            maps, how = weights[:, 0], "weights from the class token, mean over heads"
        else:
            maps, how = weights.mean(1), "what a position gets, mean over heads and queries"
    return Relevance(_enlarge(maps, images), how)


def _rollout(captured, images):
    layers = list(captured.values())
    if not all(_has_class_token(layer) for layer in layers):
        raise ValueError(
            "rollout needs a network whose attention is self-attention in every layer, with a "
            "class token"
        )
    height, width = layers[0].size
    from_class = rollout([layer.cat() for layer in layers])[:, 0, -height * width :]
    maps = from_class.unflatten(1, (height, width))
    return Relevance(_enlarge(maps, images), "attention rollout, the class token's row")


def _has_class_token(found: Captured) -> bool:
    if found.kind != POSITIONS or found.size is None:
        return False
    height, width = found.size
    return all(maps.shape[2:] == 2 * (height * width + 1,) for maps in found.maps)


def _enlarge(maps, images):
    size = images.shape[2:]
    return F.interpolate(maps[:, None], size=size, mode="bilinear", align_corners=False)[:, 0]
