"""Batches made on the device from one uint8 array: cut, flipped and normalised."""

import numpy as np
import torch

from attention.checks import at_least
from attention.data.folder import DataError


def mean_and_std(images):
    """Mean and standard deviation of each channel, float32 (3,), with pixels from 0 to 1."""
    # From exact counts of the 256 values, so that the order of the images does not matter.
    counts = torch.stack([torch.bincount(c.flatten(), minlength=256) for c in images.unbind(1)])
    values = torch.arange(256, dtype=torch.float64) / 255
    share = counts / counts.sum(1, keepdim=True, dtype=torch.float64)
    mean = share @ values
    variance = (share * (values - mean[:, None]) ** 2).sum(1)
    # A channel that never varies is divided by a small number instead of 0.
    return mean.float(), variance.sqrt().clamp_min(1 / 255).float()


def normalise(images, mean, std):
    """uint8 (N,3,H,W) → float32 (N,3,H,W) in channels_last: pixels 0…1, minus mean, by std.

    mean, std: 3 numbers each. The result lies on the device of the images.
    """
    if images.dtype != torch.uint8 or images.ndim != 4 or images.shape[1] != 3:
        came = f"{images.dtype} {tuple(images.shape)}"
        raise DataError(f"images must be uint8 (N, 3, H, W), got {came}")
    mean, std = (
        torch.as_tensor(x, dtype=torch.float32, device=images.device).view(3, 1, 1)
        for x in (mean, std)
    )
    x = images.float().sub_(255 * mean).div_(255 * std)
    return x.contiguous(memory_format=torch.channels_last)


def in_order(split, batch_size, mean, std, device="cpu"):
    """Yield (images, labels) for evaluation: in order, all of them, normalised only."""
    at_least(1, "batch_size", batch_size)
    for images, labels in zip(split.images.split(batch_size), split.labels.split(batch_size),
                              strict=True):  # fmt: skip
        yield normalise(images.to(device), mean, std), labels.to(device)


class Batches:
    """Augmented training batches, made on the device from one uint8 array.

    split: a `Split`. batch_size: at least 1; the N images are split into ceil(N / batch_size)
        nearly equal batches, so that none is left out and no batch is tiny.
    seed: every random choice depends on (seed, epoch) and on the number of the image alone, so it
        is the same for any batch size and device, and no epoch needs the ones before it.
    mean, std: 3 numbers each for `normalise`; None: those of the split.
    augment: False leaves only the random order and the normalisation.
    crop: the images are padded by so many reflected pixels, and a window of their size is cut out.
    cutout: side in pixels of a square set to zero (the mean colour) at a random place, cut off at
        the border (arXiv 1708.04552); 0: none.

    A random half of the images is mirrored in even epochs, the other half in odd ones, so that an
    image is seen both ways in any two epochs (alternating flips, arXiv 2404.00498).
    """

    def __init__(self, split, batch_size, seed=0, device="cpu", mean=None, std=None,
                 augment=True, crop=4, cutout=0):  # fmt: skip
        self.batch_size = at_least(1, "batch_size", batch_size)
        self.seed = at_least(0, "seed", seed)
        self.augment, self.device = augment, torch.device(device)
        self.crop = at_least(0, "crop", crop) if augment else 0
        self.cutout = at_least(0, "cutout", cutout) if augment else 0
        n, _, self.height, self.width = split.images.shape
        if n == 0:
            raise DataError("there are no images to make batches of")
        if self.crop >= min(self.height, self.width):
            raise DataError(f"crop must be less than the images' size {self.height}×{self.width}")
        if mean is None or std is None:
            mean, std = mean_and_std(split.images)
        self.mean, self.std = (torch.as_tensor(x, device=self.device) for x in (mean, std))
        self.labels = split.labels.to(self.device)
        border = [(0, 0), (0, 0), (self.crop, self.crop), (self.crop, self.crop)]
        padded = torch.from_numpy(np.pad(split.images.numpy(), border, mode="reflect"))
        # (N, 3, rows, columns, H, W): every window of every image, as a view
        self._windows = padded.to(self.device).unfold(2, self.height, 1).unfold(3, self.width, 1)

    def __len__(self):
        """Batches per epoch."""
        return -(-len(self.labels) // self.batch_size)

    def epoch(self, number):
        """Yield (images float32 (B,3,H,W) in channels_last, labels (B,)) of epoch 0, 1, …"""
        n, random = len(self.labels), _generator(self.seed, at_least(0, "number", number) + 1)
        order = torch.randperm(n, generator=random)
        row, column = torch.randint(2 * self.crop + 1, (2, n), generator=random)
        y = torch.randint(self.height, (n,), generator=random)
        x = torch.randint(self.width, (n,), generator=random)
        half = torch.randperm(n, generator=_generator(self.seed, 0)) % 2
        flip = self.augment * (half + number) % 2
        choices = torch.stack([row, column, flip, y, x])[:, order].to(self.device)
        batches = zip(order.to(self.device).tensor_split(len(self)),
                      choices.tensor_split(len(self), dim=1), strict=True)  # fmt: skip
        for index, (row, column, flip, y, x) in batches:
            images = self._windows[index, :, row, column]
            images = torch.where(flip.bool().view(-1, 1, 1, 1), images.flip(3), images)
            images = normalise(images, self.mean, self.std)
            if self.cutout:
                inside = self._near(y, self.height)[:, :, None] & self._near(x, self.width)[:, None]
                images.masked_fill_(inside[:, None], 0)
            yield images, self.labels[index]

    def _near(self, centre, length):
        """bool (B, length): which rows or columns the cutout square around `centre` covers."""
        offset = torch.arange(length, device=self.device) - centre[:, None] + self.cutout // 2
        return (offset >= 0) & (offset < self.cutout)


def _generator(*seeds):
    """A CPU generator whose stream is unrelated to that of any other tuple of seeds."""
    state = np.random.SeedSequence(seeds).generate_state(1)
    return torch.Generator().manual_seed(int(state[0]))
