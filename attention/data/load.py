"""`load()` finds a dataset by name or path, and keeps what was decoded for the next time."""

import hashlib
import os
import textwrap
from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np
import torch

from attention.checks import at_least_one, one_of
from attention.data import cifar10, folder
from attention.data.dataset import DataError, Dataset, Split
from attention.data.decode import RESIZE
from attention.data.shapes10 import shapes10, source
from attention.files import replacing
from attention.settings import home

NAMES = ("cifar10", "shapes10", "auto")


def load(
    name: str | os.PathLike | None = None,
    root: str | os.PathLike | None = None,
    size: int | None = None,
    resize: str = "squash",
    broken: str = "refuse",
) -> Dataset:
    """Load a dataset, from the cache if it has been loaded before.

    name: "cifar10", "shapes10", "auto" (CIFAR-10 from disk, else downloaded, else Shapes-10 with a
        banner), or the path of a folder of pictures (.jpg, .jpeg, .png, .webp, .bmp), or of a zip
        or tar of one: `train/<class>/*`, and `val/<class>/*` and `test/<class>/*` if they are
        there; or `<class>/*` alone. None: `$ATTENTION_DATA`, else "auto". With ATTENTION_OFFLINE=1
        nothing is downloaded.
    root: the folder of downloads and of the cache; None: `home() / "data"`.
    size: for paths: resize the images to size × size pixels (bilinear, antialiased); None: take
        them as they are, all of one size.
    resize: "squash": height and width become `size` each; "crop", as is usual for photographs: the
        shorter side becomes `size`, and the square in the middle is kept.
    broken: of files in class folders that are no picture or cannot be read, "refuse" names the
        first few in an error; "skip" leaves them out, and says so.

    Where there is no test split, one is made: a fifth of each class, always the same. Images of
    `val` are `Dataset.validation`, for `held_out`. What was made, left out, or is in two splits at
    once is printed, and stands in `Dataset.notes`.
    A dataset read from a path is called by its file name without the ending; what could not stand
    in a folder's name or a table becomes "-". If that is the name of a built-in dataset, "-files"
    is added, since nothing says that it is the same.
    Raises a `DataError`, a ValueError that says what was expected and found.
    """
    name = os.environ.get("ATTENTION_DATA") or "auto" if name is None else name
    root = home() / "data" if root is None else root
    for argument, value in (("name", name), ("root", root)):
        if not isinstance(value, str | os.PathLike) or not os.fspath(value):
            raise DataError(f"{argument} must be a name or a path, got {value!r}")
    if size is not None:
        at_least_one("size", size)
    one_of("resize", resize, RESIZE)
    one_of("broken", broken, ("refuse", "skip"))
    if resize != "squash" and size is None:
        raise DataError(f"resize={resize!r} needs a size=")
    root = Path(root).expanduser()
    if name not in NAMES:
        data = _load_path(os.fspath(name), root, size, resize, broken)
        for note in data.notes:
            print(f"{data.name}: {note}")
        return data
    if size is not None:
        raise DataError(f"size= resizes images read from a path; {name} has its own size")
    return {"cifar10": _load_cifar10, "shapes10": _load_shapes10, "auto": _load_auto}[name](root)


def _load_cifar10(root):
    file, md5 = root / "cache" / "cifar10.npz", cifar10.ARCHIVE_MD5
    return _cached(file, md5, lambda: cifar10.read(root))


def _load_shapes10(root):
    code = hashlib.sha256(source()).hexdigest()  # drawn anew when the code that draws them changes
    return _cached(root / "cache" / "shapes10.npz", code, shapes10)


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


def _load_path(path, root, size, resize, broken):
    try:
        path = Path(path).expanduser().resolve(strict=True)
    except (OSError, RuntimeError, ValueError) as error:  # none there, a loop of links, no path
        raise DataError(
            f"name must be one of {', '.join(NAMES)}, or the path of a folder of pictures or of a "
            f"zip or tar of one, got {path!r} ({error})"
        ) from error
    name = folder.name(path)
    name += "-files" * (name.lower() in NAMES)
    what = f"{path} {size} {resize} {broken}"
    where = hashlib.sha256(what.encode(errors="surrogateescape")).hexdigest()[:12]
    file = root / "cache" / f"{name}-{where}.npz"
    read = partial(folder.read, path, name, size, resize, broken)
    return _cached(file, folder.state(path), read)


def _cached(file: Path, state: str, read: Callable[[], Dataset]) -> Dataset:
    """The dataset stored in `file` if its source was in this `state` then, else read() it anew."""
    try:
        with np.load(file, allow_pickle=False) as stored:
            if str(stored["state"]) == state:
                splits = {}
                for split in ("train", "validation", "test"):
                    parts = {key.removeprefix(f"{split}_"): torch.from_numpy(stored[key])
                             for key in stored if key.startswith(f"{split}_")}  # fmt: skip
                    if parts:
                        splits[split] = Split(**parts)
                notes = stored["notes"].tolist() if "notes" in stored else ()
                classes = tuple(stored["classes"].tolist())
                return Dataset(str(stored["name"]), classes=classes, notes=tuple(notes), **splits)
    except Exception:  # none yet, or damaged, which shows in many ways
        pass
    data = read()
    arrays = {
        f"{name}_{part}": tensor.numpy()
        for name, split in data.splits.items()
        for part, tensor in vars(split).items()  # images, labels and, where there are any, masks
        if tensor is not None
    }
    arrays |= {"state": np.array(state), "name": data.name, "classes": np.array(data.classes),
               "notes": np.array(data.notes, str)}  # fmt: skip
    try:
        with replacing(file) as temporary, open(temporary, "wb") as out:
            np.savez(out, **arrays)
    except OSError as error:
        print(f"{data.name} is not cached and will be decoded again next time: {error}")
    return data
