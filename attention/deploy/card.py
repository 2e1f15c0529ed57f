"""`Card`: what whoever uses a network needs to know beside its weights."""

import dataclasses
from collections.abc import Iterable, Sequence

import torch
from PIL import Image, ImageOps

from attention.checks import at_least_one, finite, one_of, positive


@dataclasses.dataclass(frozen=True)
class Card:
    """What a saved network knows of its pictures; None: nobody has told it.

    classes: the name of each output. mean, std: of each channel, of pixels from 0 to 1, by which
    the network's input is normalised. size: (height, width) of its pictures, in pixels; one number
    for both. resize: how others get that size, as in `attention.load`: "squash", both sides become
    that long; "crop", the picture fills it, and the middle stays.
    """

    classes: tuple[str, ...] | None = None
    mean: tuple[float, ...] | None = None
    std: tuple[float, ...] | None = None
    size: tuple[int, int] | None = None
    resize: str = "squash"

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
        one_of("resize", self.resize, ("squash", "crop"))
        if (self.mean and len(self.mean)) != (self.std and len(self.std)):
            raise ValueError(
                f"mean and std must be of the same channels, got {self.mean} and {self.std}"
            )

    def prepare(self, images: torch.Tensor | Image.Image) -> torch.Tensor:
        """Pictures → the network's input, float32 (N, C, h, w), resized and normalised.

        images: one of Pillow, as `Image.open` gives it, or uint8 (N, C, H, W) or (C, H, W). Those
        of another size than `size` are resized, in Pillow, to the pixels that `attention.load`
        gives for the same file.

        Raises ValueError for other images, and where mean and std were not told.
        """
        from torchvision.transforms.functional import pil_to_tensor, to_pil_image

        if self.mean is None:
            raise ValueError("mean and std were not told when this network was saved")
        channels = len(self.mean)
        if isinstance(images, Image.Image):
            images = pil_to_tensor(self._resized(_upright(images, "L" if channels == 1 else "RGB")))
        elif not isinstance(images, torch.Tensor) or images.dtype is not torch.uint8:
            kind = images.dtype if isinstance(images, torch.Tensor) else type(images).__name__
            raise ValueError(f"images must be one of Pillow, or of dtype uint8, got {kind}")
        images = images[None] if images.ndim == 3 else images
        if images.ndim != 4 or images.shape[1] != channels or not images.numel():
            raise ValueError(f"images must be (N, {channels}, H, W), got {tuple(images.shape)}")
        if self.size is not None and images.shape[2:] != self.size:
            pictures = [self._resized(to_pil_image(image)) for image in images.cpu()]
            images = torch.stack([pil_to_tensor(p) for p in pictures]).to(images.device)
        mean, std = torch.tensor([self.mean, self.std], device=images.device)[..., None, None]
        return (images / 255 - mean) / std

    def _resized(self, image):
        if self.size is None or image.size == self.size[::-1]:
            return image
        if self.resize == "crop":
            return ImageOps.fit(image, self.size[::-1], Image.Resampling.BILINEAR)
        return image.resize(self.size[::-1], Image.Resampling.BILINEAR)


def _upright(image, mode):
    """A photograph turned as its Exif says, without transparency."""
    image = ImageOps.exif_transpose(image)
    if "transparency" in image.info:
        image = image.convert("RGBA")
    return image.convert(mode)


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
