"""Datasets as plain arrays: CIFAR-10, image folders, Shapes-10.

`load()` gives a `Dataset`: all images of one size in one uint8 array. Whatever was decoded is kept
in the cache folder, so that the next load takes a second.
"""

import hashlib
import os
import textwrap
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
import torch

from attention.checks import at_least
from attention.data import cifar10, shapes
from attention.data.batches import mean_and_std
from attention.data.folder import SPLITS, DataError, Source
from attention.files import replacing
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
        return mean_and_std(self.train.images)


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


def shapes10(train=3000, test=1000, seed=0, size=32):
    """Draw Shapes-10 (see `attention.shapes`): a Dataset whose splits have masks.

    train, test: numbers of images, multiples of 10 (the classes are balanced). size: height and
    width in pixels, at least 16. The same arguments give the same bytes on every machine.
    """
    return _dataset("shapes10", *_draw_shapes10(train, test, seed, size))


def _draw_shapes10(train=3000, test=1000, seed=0, size=32):
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
