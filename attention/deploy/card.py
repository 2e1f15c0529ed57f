"""`Card`: what whoever uses a network needs to know beside its weights."""

import dataclasses
from collections.abc import Iterable, Sequence

import torch
from torch.nn import functional as F

from attention.checks import at_least_one, finite, positive


@dataclasses.dataclass(frozen=True)
class Card:
    """What a saved network knows of its pictures; None: nobody has told it.

    classes: the name of each output. mean, std: of each channel, of pixels from 0 to 1, by which
    the network's input is normalised. size: (height, width) of its pictures, in pixels; one number
    for both.
    """

    classes: tuple[str, ...] | None = None
    mean: tuple[float, ...] | None = None
    std: tuple[float, ...] | None = None
    size: tuple[int, int] | None = None

    def __post_init__(self) -> None:
        for name, check in (
            ("classes", _names),
            ("mean", _means),
            ("std", _spreads),
            ("size", _size),
        ):
            value = getattr(self, name)
            if value is not None:
                object.__setattr__(self, name, check(value))
        if (self.mean and len(self.mean)) != (self.std and len(self.std)):
            raise ValueError(
                f"mean and std must be of the same channels, got {self.mean} and {self.std}"
            )

    def prepare(self, images: torch.Tensor) -> torch.Tensor:
        """uint8 pictures (N, C, H, W), or one (C, H, W) → the input, float32 (N, C, h, w).

        They are resized to `size`, whatever their shape, as `attention.load(…, size=)` does it
        (bilinear, with the pixels between averaged), and normalised by `mean` and `std`.

        Raises ValueError for other images, and where mean and std were not told.
        """
        if self.mean is None:
            raise ValueError("mean and std were not told when this network was saved")
        channels = len(self.mean)
        shape = tuple(images.shape) if isinstance(images, torch.Tensor) else type(images).__name__
        right = isinstance(shape, tuple) and len(shape) in (3, 4) and shape[-3] == channels
        if not right or not images.numel() or images.dtype is not torch.uint8:
            raise ValueError(f"images must be uint8 (N, {channels}, H, W), got {shape}")
        images = images if images.ndim == 4 else images[None]
        if self.size is not None and images.shape[2:] != self.size:
            images = F.interpolate(images, self.size, mode="bilinear", antialias=True)
        mean, std = (
            torch.tensor(v, device=images.device)[:, None, None] for v in (self.mean, self.std)
        )
        return (images / 255 - mean) / std


def _listed(argument, value):
    if isinstance(value, torch.Tensor):
        value = value.tolist()
    if isinstance(value, str) or not isinstance(value, Iterable) or not (listed := list(value)):
        raise ValueError(f"{argument} must be a list of at least one, got {value!r}")
    return listed


def _names(value):
    names = _listed("classes", value)
    if not all(isinstance(name, str) for name in names):
        raise ValueError(f"classes must be names, got {value!r}")
    return tuple(names)


def _means(value):
    return tuple(finite("mean", number) for number in _listed("mean", value))


def _spreads(value):
    return tuple(positive("std", number) for number in _listed("std", value))


def _size(value):
    sides = list(value) if isinstance(value, Sequence) else [value, value]
    if len(sides) != 2:
        raise ValueError(f"size must be (height, width) or one number, got {value!r}")
    return tuple(at_least_one("size", side) for side in sides)
