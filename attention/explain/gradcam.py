"""Grad-CAM: where the evidence for a class lies in the maps of a convolutional layer."""

from typing import Any

import torch
from torch import nn
from torch.nn import functional as F

from attention.explain.checks import expect_eval, expect_images, targets
from attention.networks import last_stage


def grad_cam(
    network: nn.Module,
    images: torch.Tensor,
    target: Any = None,
    layer: nn.Module | str | None = None,
) -> torch.Tensor:
    """Grad-CAM maps (N, H, W) in [0, 1], each divided by its own maximum, on the CPU.

    L = ReLU(Σ_c α_c A_c),  α_c = mean over positions of ∂y_target / ∂A_c

    Selvaraju et al., "Grad-CAM: Visual Explanations from Deep Networks via Gradient-based
    Localization", ICCV 2017, eq. 1 and 2; A are the maps of the layer, y the logits.

    network: in eval mode. images: (N, 3, H, W), normalised, as the network takes them.
    target: a class, or one for each image (N,); None: the class that the network answers.
    layer: a module of the network or its path; its output must be maps. None: what gives the last
        maps, where the network's anatomy is known (see `networks.last_stage`).

    The maps are enlarged to the images bilinearly. A map without any positive evidence is 0.
    """
    expect_eval(network)
    expect_images(images)
    layer = _layer(network, layer)
    kept = []

    def keep(module, inputs, output):
        kept.append(output)
        # what comes next may change its input in place (torchvision's ReLUs): it gets a copy
        return output.clone() if isinstance(output, torch.Tensor) else output

    handle = layer.register_forward_hook(keep)
    try:
        with torch.enable_grad():  # from the images on, also where all weights are frozen
            logits = network(images.detach().requires_grad_())
            chosen = targets(target, logits)
            if not kept or not isinstance(kept[0], torch.Tensor) or kept[0].ndim != 4:
                raise ValueError(
                    "layer must give maps (N, C, H, W) when the network runs; "
                    f"{type(layer).__name__} does not"
                )
            scores = logits.gather(1, chosen[:, None])
            [gradient] = torch.autograd.grad(scores.sum(), kept[0], allow_unused=True)
            if gradient is None:
                raise ValueError("layer must have a part in the answer, which this one has not")
    finally:
        handle.remove()
    weights = gradient.mean((2, 3), keepdim=True)
    maps = (weights * kept[0].detach()).sum(1, keepdim=True).relu().float()
    maps = F.interpolate(maps, size=images.shape[2:], mode="bilinear", align_corners=False)[:, 0]
    highest = maps.amax((1, 2), keepdim=True)
    return (maps / torch.where(highest > 0, highest, 1)).cpu()


def _layer(network, layer):
    if isinstance(layer, nn.Module):
        if not any(module is layer for module in network.modules()):
            raise ValueError(f"layer must be a module of the network, got {layer!r}")
        return layer
    if isinstance(layer, str):
        known = dict(network.named_modules())
        if layer not in known:
            raise ValueError(f"layer {layer!r} is no module of this {type(network).__name__}")
        return known[layer]
    if layer is not None:
        raise ValueError(f"layer must be a module, its path or None, got {layer!r}")
    if (found := last_stage(network)) is None:
        raise ValueError(
            f"layer must be given for a {type(network).__name__}: it has no stages, layer4 or "
            "features (for a vision transformer, see attention.rollout)"
        )
    return found
