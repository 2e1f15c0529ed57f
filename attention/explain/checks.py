"""Checks that the measures share."""

from typing import Any

import torch
from torch import nn

from attention.checks import instance


def expect_eval(network: nn.Module) -> None:
    """Raise an error unless `network` is a network, and no part of it is in training mode."""
    instance(nn.Module, "network", network)
    if any(module.training for module in network.modules()):
        raise ValueError(
            "network must be in eval mode (call network.eval()): in training mode its answer "
            "depends on the other images of the batch"
        )


def expect_images(images: torch.Tensor) -> None:
    """Raise a ValueError unless `images` are finite numbers (N, C, H, W), and at least one."""
    if not isinstance(images, torch.Tensor) or images.ndim != 4 or not images.numel():
        found = tuple(images.shape) if isinstance(images, torch.Tensor) else type(images).__name__
        raise ValueError(f"images must be at least one, (N, 3, H, W), got {found}")
    if not images.is_floating_point():
        raise ValueError(f"images must be normalised (see `normalise`), got {images.dtype}")
    if not images.isfinite().all():
        raise ValueError("images must be finite, got values that are not")


def targets(target: Any, logits: torch.Tensor) -> torch.Tensor:
    """(N,) classes: `target` for each image, or the network's own answers where it is None."""
    if logits.ndim != 2:
        raise ValueError(f"network must answer with logits (N, classes), got {tuple(logits.shape)}")
    count, classes = logits.shape
    if target is None:
        return logits.argmax(1)
    try:
        chosen = torch.as_tensor(target, device=logits.device)
        whole = not (
            chosen.is_floating_point() or chosen.is_complex() or chosen.dtype is torch.bool
        )
    except (TypeError, ValueError, RuntimeError):
        whole = False
    if not whole or chosen.shape not in ((), (count,)):
        raise ValueError(
            f"target must be a class or one class for each of the {count} images, got {target!r}"
        )
    if not ((chosen >= 0) & (chosen < classes)).all():
        raise ValueError(f"target must be a class from 0 to {classes - 1}, got {target!r}")
    return chosen.expand(count).long()


def expect_relevance(
    maps: torch.Tensor, images: torch.Tensor | None = None, argument: str = "maps"
) -> None:
    """Raise a ValueError unless `maps` are finite (N, H, W), of the size of the images if given."""
    if not isinstance(maps, torch.Tensor):
        raise ValueError(f"{argument} must be a tensor (N, H, W), got {type(maps).__name__}")
    if maps.ndim != 3 or not maps.numel():
        raise ValueError(f"{argument} must be (N, H, W), got {tuple(maps.shape)}")
    if images is not None and maps.shape != (len(images), *images.shape[-2:]):
        wanted = (len(images), *images.shape[-2:])
        raise ValueError(f"{argument} must be {wanted}, as the images are, got {tuple(maps.shape)}")
    if not maps.isfinite().all():
        raise ValueError(f"{argument} must be finite, got values that are not")
