"""Maps that know little or nothing: what any explanation has to beat.

A map that a network gives is smooth, an enlarged 8×8 map, and noise is not: to be compared with
are maps of the same smoothness, and the maps of other images.
"""

from typing import Any

import torch
from torch.nn import functional as F

from attention.checks import at_least, at_least_one, positive
from attention.explain.checks import expect_eval, expect_images, expect_relevance, targets


def random_maps(images: torch.Tensor, seed: int = 0) -> torch.Tensor:
    """(N, H, W) uniform noise in [0, 1): knows nothing."""
    expect_images(images)
    return torch.rand(len(images), *images.shape[2:], generator=_generator(seed))


def smooth_noise(images: torch.Tensor, size: int = 8, seed: int = 0) -> torch.Tensor:
    """(N, H, W) noise as smooth as a map of size × size positions, enlarged: knows nothing."""
    expect_images(images)
    coarse = torch.rand(
        len(images), 1, at_least_one("size", size), size, generator=_generator(seed)
    )
    return F.interpolate(coarse, images.shape[2:], mode="bilinear", align_corners=False)[:, 0]


def centred_gaussian(images: torch.Tensor, width: float = 0.25) -> torch.Tensor:
    """(N, H, W): a bell in the middle of every image; knows only that photographers aim.

    width: its standard deviation, as a share of the image's sides.
    """
    return _bell(images, -0.5, width)


def corner_gaussian(images: torch.Tensor, width: float = 0.25) -> torch.Tensor:
    """(N, H, W): the same bell around the upper left corner: knows nothing."""
    return _bell(images, 0.0, width)


def _bell(images, start, width):
    """A bell around 0, where the sides of the images go from `start` to `start` + 1."""
    expect_images(images)
    positive("width", width)
    sides = (torch.linspace(start, start + 1, length) / width for length in images.shape[2:])
    y, x = (torch.exp(-0.5 * side**2) for side in sides)
    return (y[:, None] * x).expand(len(images), -1, -1).clone()


def of_another_image(maps: torch.Tensor, seed: int = 0) -> torch.Tensor:
    """(N, H, W) → the same maps, each at another image: they know the network, not the image."""
    expect_relevance(maps)
    return maps[others(len(maps), _generator(seed))]


def others(count: int, generator: torch.Generator) -> torch.Tensor:
    """(count,) numbers of images in a random order that leaves none at its place."""
    if count < 2:
        raise ValueError(f"another image needs a batch of at least 2, got {count}")
    ring = torch.randperm(count, generator=generator)  # each takes the place of the next
    return ring.roll(-1)[ring.argsort()]


def gradient_magnitude(
    network: torch.nn.Module, images: torch.Tensor, target: Any = None
) -> torch.Tensor:
    """(N, H, W): the largest |∂y_target / ∂pixel| over the three colours.

    Simonyan, Vedaldi, Zisserman, "Deep Inside Convolutional Networks", 2014, section 3.1.
    network, images, target: as in `grad_cam`.
    """
    expect_eval(network)
    expect_images(images)
    with torch.enable_grad():
        images = images.detach().requires_grad_()
        logits = network(images)
        scores = logits.gather(1, targets(target, logits)[:, None])
        [gradient] = torch.autograd.grad(scores.sum(), images)
    return gradient.abs().amax(1).float().cpu()


def _generator(seed):
    return torch.Generator().manual_seed(at_least(0, "seed", seed))
