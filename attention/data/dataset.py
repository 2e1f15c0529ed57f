"""What all networks are trained and measured on: two splits of images of one size."""

import hashlib
import re
from dataclasses import dataclass
from functools import cached_property

import torch

from attention.checks import between

# The name becomes a folder's, and stands in tables and figures: nothing that a path, HTML or
# mathtext would read as its own.
NAME = re.compile(r"\w[\w .()+-]{0,99}")
MOST_BYTES = 4 << 30  # of decoded pixels: they are held in memory


class DataError(ValueError):
    """A dataset that cannot be had or is not as it should be. The message says what to do."""


@dataclass(frozen=True, eq=False)
class Split:
    """images: uint8 (N,3,H,W). labels: int64 (N,). masks: bool (N,H,W), the objects, or None."""

    images: torch.Tensor
    labels: torch.Tensor
    masks: torch.Tensor | None = None

    def __post_init__(self) -> None:
        expect_images(self.images)
        n, _, height, width = self.images.shape
        _expect("labels", self.labels, torch.int64, (n,))
        if n and self.labels.min() < 0:
            raise DataError(f"labels must count classes from 0, got {self.labels.min().item()}")
        if self.masks is not None:
            _expect("masks", self.masks, torch.bool, (n, height, width))

    def __len__(self) -> int:
        return len(self.labels)

    def take(self, index: torch.Tensor) -> "Split":
        """The images numbered by `index`, an int64 or bool tensor (n,), as a Split."""
        masks = None if self.masks is None else self.masks[index]
        return Split(self.images[index], self.labels[index], masks)

    def spread(self, n: int) -> "Split":
        """n images, the same ones each time, spread evenly over the classes, in their order here.

        Every (len/n)-th image is taken after sorting by class, so that all classes appear whether
        the images are shuffled or not. A ValueError if n is not in 1 … len.
        """
        n = between(1, len(self), "n", n)
        by_class = self.labels.argsort(stable=True)
        return self.take(by_class[torch.arange(n) * len(self) // n].sort().values)


@dataclass(frozen=True, eq=False)
class Dataset:
    """Two or three splits with images of one size. labels index `classes`.

    name: of letters, digits, spaces and .()+-_ alone, since folders and table rows are called so.
    validation: images to choose by that the dataset came with, see `held_out`; None: it has none.
    notes: what its reader should know, a sentence each: a split that was made, pictures left out.
    """

    name: str
    train: Split
    test: Split
    classes: tuple[str, ...]
    validation: Split | None = None
    notes: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if not isinstance(self.name, str) or not NAME.fullmatch(self.name):
            raise DataError(
                "name must be up to 100 letters, digits, spaces and .()+-_ and begin with a letter "
                f"or digit, got {self.name!r}"
            )
        classes = self.classes
        if not isinstance(classes, tuple) or not all(isinstance(c, str) for c in classes):
            raise DataError(f"classes must be a tuple of names, got {classes!r}")
        notes = self.notes
        if not isinstance(notes, tuple) or not all(isinstance(note, str) for note in notes):
            raise DataError(f"notes must be a tuple of sentences, got {notes!r}")
        for part, split in self.splits.items():
            if not isinstance(split, Split) or len(split) == 0:
                raise DataError(f"{part} must be a Split with at least one image, got {split!r}")
            lowest, highest = split.labels.min().item(), split.labels.max().item()
            if lowest < 0 or highest >= len(classes):
                raise DataError(
                    f"the labels of {part} must be 0 … {len(classes) - 1}, since there are "
                    f"{len(classes)} classes, got {lowest} … {highest}"
                )
            if split.images.shape[2:] != self.size:
                raise DataError(
                    f"train and {part} must have images of one size, got {self.size} and "
                    f"{tuple(split.images.shape[2:])}"
                )

    def __repr__(self) -> str:
        (height, width), between = self.size, ""
        if self.validation is not None:
            between = f", {len(self.validation):,} validation"
        return (
            f"{self.name}: {len(self.train):,} training{between} and {len(self.test):,} test "
            f"images of {height}×{width}, {len(self.classes)} classes"
        )

    @property
    def splits(self) -> dict[str, Split]:
        """The splits that there are, by name: train, validation if there is one, test."""
        named = {"train": self.train, "validation": self.validation, "test": self.test}
        if self.validation is None:
            del named["validation"]
        return named

    @property
    def size(self) -> tuple[int, int]:
        """(height, width) of the images in pixels."""
        return tuple(self.train.images.shape[2:])

    @cached_property
    def checksum(self) -> str:
        """SHA-256 over the pixels and labels of train and test and the class names.

        What a record was made from. Validation images are in none, but as those of `held_out`.
        """
        digest = hashlib.sha256("\n".join(self.classes).encode())
        for split in (self.train, self.test):
            digest.update(str(tuple(split.images.shape)).encode())
            digest.update(split.images.contiguous().numpy())
            digest.update(split.labels.contiguous().numpy())
        return digest.hexdigest()

    @property
    def mean(self) -> torch.Tensor:
        """Per-channel mean of the train images, float32 (3,), with pixels from 0 to 1."""
        return self._mean_and_std[0]

    @property
    def std(self) -> torch.Tensor:
        """Per-channel standard deviation of the train images, float32 (3,)."""
        return self._mean_and_std[1]

    @cached_property
    def _mean_and_std(self):
        return mean_and_std(self.train.images)


def mean_and_std(images: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Mean and standard deviation of each channel, float32 (3,), with pixels from 0 to 1.

    images: uint8 (N,3,H,W), at least one.
    """
    expect_images(images)
    if images.numel() == 0:
        raise DataError("there are no pixels to take the mean of")
    # From exact counts of the 256 values, so that the order of the images does not matter.
    counts = torch.stack([torch.bincount(c.flatten(), minlength=256) for c in images.unbind(1)])
    values = torch.arange(256, dtype=torch.float64, device=images.device) / 255
    share = counts / counts.sum(1, keepdim=True, dtype=torch.float64)
    mean = share @ values
    variance = (share * (values - mean[:, None]) ** 2).sum(1)
    # A channel that never varies is divided by a small number instead of 0.
    return mean.float(), variance.sqrt().clamp_min(1 / 255).float()


def expect_images(images: torch.Tensor) -> None:
    """Raise a DataError unless `images` is a uint8 tensor (N,3,H,W)."""
    shape = getattr(images, "shape", ())
    n, height, width = (shape[0], *shape[2:]) if len(shape) == 4 else ("N", "H", "W")
    _expect("images", images, torch.uint8, (n, 3, height, width))


def expect_room(about: str, count: int, height: int, width: int) -> None:
    """Raise a DataError if so many images of this size are too large to hold in memory."""
    if count * 3 * height * width > MOST_BYTES:
        raise DataError(
            f"{about}{count:,} images of {width}×{height} pixels take "
            f"{count * 3 * height * width / 2**30:,.1f} GiB decoded; the limit is "
            f"{MOST_BYTES / 2**30:.1f} GiB (MOST_BYTES in attention/data/dataset.py): choose a "
            "smaller size, or fewer images"
        )


def _expect(argument, tensor, dtype, shape):
    if not isinstance(tensor, torch.Tensor):
        came = f"{type(tensor).__module__}.{type(tensor).__name__}"
    elif tensor.dtype != dtype or tuple(tensor.shape) != shape:
        came = f"{tensor.dtype} {tuple(tensor.shape)}"
    else:
        return
    wanted = ", ".join(map(str, shape)) + "," * (len(shape) == 1)
    kind = str(dtype).removeprefix("torch.")
    raise DataError(f"{argument} must be {kind} ({wanted}), a torch.Tensor, got {came}")
