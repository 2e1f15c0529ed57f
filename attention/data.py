"""Datasets as plain arrays (CIFAR-10, image folders, Shapes-10), and batches made from them.

`load()` gives a `Dataset`: all images of one size in one uint8 array. Whatever was decoded is kept
in the cache folder, so that the next load takes a second. `Batches` cuts, flips and normalises
training batches on the device.
"""

import hashlib
import os
import textwrap
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
import torch

from attention import cifar10, shapes
from attention.checks import at_least
from attention.files import replacing
from attention.images import SPLITS, DataError, Source
from attention.settings import home

PARTS = ("images", "labels", "masks")


@dataclass(frozen=True, eq=False)
class Split:
    """images: uint8 (N,3,H,W). labels: int64 (N,). masks: bool (N,H,W), the objects, or None."""

    images: torch.Tensor
    labels: torch.Tensor
    masks: torch.Tensor | None = None

    def __post_init__(self):
        if self.images.dtype != torch.uint8 or self.images.ndim != 4 or self.images.shape[1] != 3:
            came = f"{self.images.dtype} {tuple(self.images.shape)}"
            raise DataError(f"images must be uint8 (N, 3, H, W), got {came}")
        n, _, height, width = self.images.shape
        if self.labels.dtype != torch.int64 or self.labels.shape != (n,):
            came = f"{self.labels.dtype} {tuple(self.labels.shape)}"
            raise DataError(f"labels of {n} images must be int64 ({n},), got {came}")
        if self.masks is not None and (
            self.masks.dtype != torch.bool or self.masks.shape != (n, height, width)
        ):
            came = f"{self.masks.dtype} {tuple(self.masks.shape)}"
            raise DataError(f"masks must be bool ({n}, {height}, {width}), got {came}")

    def __len__(self):
        return len(self.labels)

    def take(self, index):
        """The images numbered by `index`, an int64 or bool tensor, as a Split."""
        masks = None if self.masks is None else self.masks[index]
        return Split(self.images[index], self.labels[index], masks)

    def first(self, n):
        """n images, the same ones each time, spread evenly over the classes, in their order here.

        Every (len/n)-th image is taken after sorting by class, so that all classes appear whether
        the images are shuffled or not. A ValueError if n is not in 1 … len.
        """
        if at_least(1, "n", n) > len(self):
            raise DataError(f"n must be at most the {len(self)} images of the split, got {n}")
        by_class = self.labels.argsort(stable=True)
        return self.take(by_class[torch.arange(n) * len(self) // n].sort().values)


@dataclass(frozen=True, eq=False)
class Dataset:
    """Two splits with images of one size. labels index `classes`."""

    name: str
    train: Split
    test: Split
    classes: tuple[str, ...]

    def __repr__(self):
        (height, width), counts = self.size, (len(self.train), len(self.test))
        return "{}: {:,} training and {:,} test images of {}×{}, {} classes".format(
            self.name, *counts, height, width, len(self.classes)
        )

    @property
    def size(self):
        """(height, width) of the images in pixels."""
        return tuple(self.train.images.shape[2:])

    @cached_property
    def checksum(self):
        """SHA-256 over the pixels and labels of both splits and the class names."""
        digest = hashlib.sha256("\n".join(self.classes).encode())
        for split in (self.train, self.test):
            digest.update(str(tuple(split.images.shape)).encode())
            digest.update(split.images.contiguous().numpy())
            digest.update(split.labels.contiguous().numpy())
        return digest.hexdigest()

    @property
    def mean(self):
        """Per-channel mean of the train images, float32 (3,), with pixels from 0 to 1."""
        return self._mean_and_std[0]

    @property
    def std(self):
        """Per-channel standard deviation of the train images, float32 (3,)."""
        return self._mean_and_std[1]

    @cached_property
    def _mean_and_std(self):
        return _mean_and_std(self.train.images)


def _mean_and_std(images):
    # From exact counts of the 256 values, so that the order of the images does not matter.
    counts = torch.stack([torch.bincount(c.flatten(), minlength=256) for c in images.unbind(1)])
    values = torch.arange(256, dtype=torch.float64) / 255
    share = counts / counts.sum(1, keepdim=True, dtype=torch.float64)
    mean = share @ values
    variance = (share * (values - mean[:, None]) ** 2).sum(1)
    # A channel that never varies is divided by a small number instead of 0.
    return mean.float(), variance.sqrt().clamp_min(1 / 255).float()


def load(name=None, root=None, size=None):
    """Load a dataset, from the cache if it has been loaded before.

    name: "cifar10", "shapes10", "auto" (CIFAR-10 from disk, else downloaded, else Shapes-10 with a
        banner), or the path of an image-folder tree `train/<class>/*`, `test/<class>/*` (.jpg,
        .jpeg, .png) or of a tar of one (.tar, .tar.gz, .tgz, .tar.xz). None: `$ATTENTION_DATA`,
        else "auto". With ATTENTION_OFFLINE=1 nothing is downloaded.
    root: the folder of downloads and of the cache; None: `home() / "data"`.
    size: for paths: resize the images to size × size pixels (bilinear, antialiased); None: take
        them as they are, all of one size.

    A dataset read from a path is called by its file name without the ending; if that is the name
    of a built-in dataset, "-files" is added, since nothing says that it is the same.
    Returns a `Dataset`. Raises a `DataError`, a ValueError that says what was expected and found.
    """
    name = os.fspath(name or os.environ.get("ATTENTION_DATA") or "auto")
    root = home() / "data" if root is None else Path(root).expanduser()
    if size is not None:
        at_least(1, "size", size)
    path = Path(name).expanduser()
    if name in DATASETS:
        if size is not None:
            raise DataError(f"size= resizes images read from a path; {name} has its own size")
        return DATASETS[name](root)
    if not path.exists():
        raise DataError(
            f"unknown dataset {name!r}: expected one of {', '.join(DATASETS)}, or the path of an "
            "image folder or a tar of one (nothing lies at this path)"
        )
    source = Source(path.resolve(), size)
    name = source.name + "-files" * (source.name in DATASETS)
    where = hashlib.sha256(f"{source.path} {size}".encode()).hexdigest()[:12]
    return _cached(root / "cache" / f"{name}-{where}.npz", name, source.state, source.read)


def shapes10(train=5000, test=1000, seed=0, size=32):
    """Draw Shapes-10 (see `attention.shapes`): a Dataset whose splits have masks.

    train, test: numbers of images, multiples of 10 (the classes are balanced). size: height and
    width in pixels, at least 16. The same arguments give the same bytes on every machine.
    """
    return _dataset("shapes10", *_draw_shapes10(train, test, seed, size))


def _draw_shapes10(train=5000, test=1000, seed=0, size=32):
    at_least(16, "size", size)
    splits = {}
    for number, (split, count) in enumerate({"train": train, "test": test}.items()):
        if at_least(1, split, count) % len(shapes.CLASSES):
            raise DataError(f"{split} must be a multiple of {len(shapes.CLASSES)}, got {count}")
        rng = np.random.RandomState([at_least(0, "seed", seed), number])
        splits[split] = shapes.draw(count // len(shapes.CLASSES), rng, size)
    return splits, shapes.CLASSES


def _load_shapes10(root):
    code = hashlib.sha256(Path(shapes.__file__).read_bytes()).hexdigest()
    return _cached(root / "cache" / "shapes10.npz", "shapes10", code, _draw_shapes10)


def _load_cifar10(root):
    file, md5 = root / "cache" / "cifar10.npz", cifar10.CIFAR10.tgz_md5
    return _cached(file, "cifar10", md5, lambda: cifar10.read(root))


def _load_auto(root):
    try:
        return _load_cifar10(root)
    except DataError as error:
        text = (
            "NOT CIFAR-10: these are the drawn images of Shapes-10. Everything below is about "
            f"Shapes-10 and says nothing about CIFAR-10.\n\nWhy: {error}"
        )
    lines = [part for line in text.split("\n") for part in textwrap.wrap(line, 84) or [""]]
    edge = "#" * 90
    print(edge, *(f"#  {line:84}  #" for line in ["", *lines, ""]), edge, sep="\n", flush=True)
    return _load_shapes10(root)


DATASETS = {"cifar10": _load_cifar10, "shapes10": _load_shapes10, "auto": _load_auto}


def _dataset(name, splits, classes):
    parts = {split: map(torch.from_numpy, arrays) for split, arrays in splits.items()}
    return Dataset(name, *(Split(*parts[split]) for split in SPLITS), tuple(classes))


def _cached(file, name, state, read):
    """The dataset stored in `file` if its source was in this `state` then, else read() it anew."""
    try:
        with np.load(file, allow_pickle=False) as stored:
            if str(stored["state"]) == state:
                keys = {s: [f"{s}_{p}" for p in PARTS if f"{s}_{p}" in stored] for s in SPLITS}
                splits = {s: [stored[key] for key in keys[s]] for s in SPLITS}
                return _dataset(name, splits, stored["classes"].tolist())
    except Exception:  # none yet, or damaged, which shows in many ways
        pass
    splits, classes = read()
    arrays = {f"{s}_{p}": x for s in SPLITS for p, x in zip(PARTS, splits[s], strict=False)}
    try:
        with replacing(file) as temporary, open(temporary, "wb") as out:
            np.savez(out, state=np.array(state), classes=np.array(classes), **arrays)
    except OSError as error:
        print(f"{name} is not cached and will be decoded again next time: {error}")
    return _dataset(name, splits, classes)


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
            mean, std = _mean_and_std(split.images)
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
