"""Checks that the measures share."""

import torch


def expect_eval(network):
    """Raise a ValueError when a part of the network is in training mode."""
    if any(module.training for module in network.modules()):
        raise ValueError(
            "network must be in eval mode (call network.eval()): in training mode its answer "
            "depends on the other images of the batch"
        )


def targets(target, logits):
    """(N,) classes: `target` for each image, or the network's own answers where it is None."""
    count, classes = logits.shape
    if target is None:
        return logits.argmax(1)
    chosen = torch.as_tensor(target, device=logits.device)
    if chosen.is_floating_point() or chosen.shape not in ((), (count,)):
        raise ValueError(
            f"target must be a class or one class for each of the {count} images, got {target!r}"
        )
    if not ((chosen >= 0) & (chosen < classes)).all():
        raise ValueError(f"target must be a class from 0 to {classes - 1}, got {target!r}")
    return chosen.expand(count).long()


def expect_relevance(maps, images=None):
    """Raise a ValueError unless `maps` are finite (N, H, W), of the size of the images if given."""
    if maps.ndim != 3:
        raise ValueError(f"maps must be (N, H, W), got {tuple(maps.shape)}")
    if images is not None and maps.shape != (len(images), *images.shape[-2:]):
        wanted = (len(images), *images.shape[-2:])
        raise ValueError(f"maps must be {wanted}, as the images are, got {tuple(maps.shape)}")
    if not maps.isfinite().all():
        raise ValueError("maps must be finite, got values that are not")
