"""Batches made on the device from one uint8 array: cut, flipped and normalised."""

import math
from collections.abc import Iterator, Sequence

import numpy as np
import torch

from attention.checks import at_least, at_least_one, between
from attention.checks import device as expect_device
from attention.data.dataset import DataError, Split, expect_images, mean_and_std

Channels = torch.Tensor | Sequence[float]  # 3 numbers


def normalise(images: torch.Tensor, mean: Channels, std: Channels) -> torch.Tensor:
    """uint8 (N,3,H,W) → float32 (N,3,H,W) in channels_last: pixels 0…1, minus mean, by std.

    mean, std: 3 numbers each. The result lies on the device of the images.
    """
    expect_images(images)
    return _normalised(images, *_per_channel(mean, std, images.device))


def in_order(
    split: Split, batch_size: int, mean: Channels, std: Channels, device: str | torch.device = "cpu"
) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
    """(images, labels) for evaluation: all of them, in order, normalised only, on the device."""
    at_least_one("batch_size", batch_size)
    mean, std = _per_channel(mean, std, device)
    parts = zip(split.images.split(batch_size), split.labels.split(batch_size), strict=True)
    return ((_normalised(x.to(device), mean, std), labels.to(device)) for x, labels in parts)


class Batches:
    """Augmented training batches, made on the device from one uint8 array.

    split: a `Split`. batch_size: at least 1; the N images are split into ceil(N / batch_size)
        nearly equal batches, so that none is left out and no batch is tiny.
    seed: every random choice depends on (seed, epoch) and on the number of the image alone, so it
        is the same for any batch size and device, and no epoch needs the ones before it.
    mean, std: 3 numbers each for `normalise`; None: those of the split.
    crop: the images are padded by so many reflected pixels, and a window of their size is cut out.

    A random half of the images is mirrored in even epochs, the other half in odd ones, so that an
    image is seen both ways in any two epochs (alternating flips, arXiv 2404.00498).
    """

    def __init__(
        self, split: Split, batch_size: int, seed: int = 0, device: str | torch.device = "cpu",
        mean: Channels | None = None, std: Channels | None = None, crop: int = 4,
    ) -> None:  # fmt: skip
        if not isinstance(split, Split) or len(split) == 0:
            raise DataError(f"split must be a Split with at least one image, got {split!r}")
        if (mean is None) != (std is None):
            raise ValueError(f"mean and std belong together, got {mean!r} and {std!r}")
        self.batch_size = at_least_one("batch_size", batch_size)
        self.seed = at_least(0, "seed", seed)
        self.device = expect_device("device", device)
        self.height, self.width = split.images.shape[2:]
        self.crop = between(0, min(self.height, self.width) - 1, "crop", crop)
        statistics = mean_and_std(split.images) if mean is None else (mean, std)
        self.mean, self.std = _per_channel(*statistics, self.device)
        self.labels = split.labels.to(self.device)
        border = [(0, 0), (0, 0), (self.crop, self.crop), (self.crop, self.crop)]
        padded = torch.from_numpy(np.pad(split.images.numpy(), border, mode="reflect"))
        # (N, 3, rows, columns, H, W): every window of every image, as a view
        self._windows = padded.to(self.device).unfold(2, self.height, 1).unfold(3, self.width, 1)

    def __len__(self) -> int:
        """Batches per epoch."""
        return -(-len(self.labels) // self.batch_size)

    def epoch(self, number: int) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
        """Yield (images float32 (B,3,H,W) in channels_last, labels (B,)) of epoch 0, 1, …"""
        n, random = len(self.labels), _random(self.seed, at_least(0, "number", number) + 1)
        order = torch.randperm(n, generator=random)
        row, column = torch.randint(2 * self.crop + 1, (2, n), generator=random)
        half = torch.randperm(n, generator=_random(self.seed, 0)) % 2
        flip = (half + number) % 2
        choices = torch.stack([row, column, flip])[:, order].to(self.device)
        batches = zip(order.to(self.device).tensor_split(len(self)),
                      choices.tensor_split(len(self), dim=1), strict=True)  # fmt: skip
        for index, (row, column, flip) in batches:
            images = self._windows[index, :, row, column]
            images = torch.where(flip.bool().view(-1, 1, 1, 1), images.flip(3), images)
            yield _normalised(images, self.mean, self.std), self.labels[index]


def _random(seed, stream):
    """A CPU generator whose numbers are unrelated to those of any other (seed, stream)."""
    state = np.random.SeedSequence((seed, stream)).generate_state(1)
    return torch.Generator().manual_seed(int(state[0]))


def _per_channel(mean, std, device):
    """Mean and std as float32 (3,1,1) on the device, checked once for all batches."""
    device, channels = torch.device(device), []
    for name, values, lowest in (("mean", mean, -math.inf), ("std", std, 0)):
        wrong = f"{name} must be 3 finite numbers above {lowest}, got {values!r}"
        try:
            numbers = torch.as_tensor(values, dtype=torch.float32)
        except (TypeError, ValueError, RuntimeError) as error:
            raise ValueError(wrong) from error
        if numbers.numel() != 3 or not (numbers.isfinite() & (numbers > lowest)).all():
            raise ValueError(wrong)
        channels.append(numbers.view(3, 1, 1).to(device))
    return channels


def _normalised(images, mean, std):
    x = images.float().sub_(255 * mean).div_(255 * std)
    return x.contiguous(memory_format=torch.channels_last)
