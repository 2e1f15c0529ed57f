"""A dataset written as a folder of pictures: what people have who bring their own."""

import os
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path

from PIL import Image

from attention.checks import at_least_one, instance, one_of, some_of
from attention.data.dataset import NAME, DataError, Dataset, expect_room


def write_folder(
    data: Dataset, path: str | os.PathLike, classes: Sequence[str] | None = None,
    images: int | Mapping[str, int] | None = None, size: int | None = None,
    split: str | None = None, ending: str = ".png",
) -> Path:  # fmt: skip
    """Write the pictures of a dataset as `<path>/<split>/<class>/<split>-<number>.png`.

    classes: the names of those to write; None: all.
    images: so many of each class and split, the first there are in the order of the dataset, or a
        number for each class, as {"cat": 300, "dog": 60}; None: all of them.
    size: enlarged (or made smaller) to size × size pixels, bicubic; None: as they are.
    split: only this one, as `<path>/<class>/…`: a folder that nobody has split; None: all.
    ending: ".png", which loses nothing, or ".jpg" (quality 95).

    `load(path)` reads it back, with the classes in the order of their names; masks are not written.
    The folder appears whole or not at all; what is there already is never written over: DataError.
    """
    splits = instance(Dataset, "data", data).splits
    if not isinstance(path, str | os.PathLike) or not os.fspath(path):
        raise TypeError(f"path must be the path of a folder, got {path!r}")
    names = data.classes if classes is None else some_of("classes", classes, data.classes)
    for name in names:
        if not NAME.fullmatch(name) or name.endswith((" ", ".")):
            raise DataError(f"classes must be names that a folder can have, got {name!r}")
    if split is not None:
        splits = {one_of("split", split, splits): splits[split]}
    one_of("ending", ending, (".png", ".jpg"))
    chosen = {
        (key, name): _first(data, key, name, _number(images, name, names))
        for key in splits for name in names
    }  # fmt: skip
    if size is not None:
        expect_room("size: ", sum(map(len, chosen.values())), *[at_least_one("size", size)] * 2)

    path = Path(path).expanduser().absolute()
    if path.exists() and not (path.is_dir() and not any(path.iterdir())):
        raise DataError(f"path must be a folder that is not there yet, and {path} is")
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        for (key, name), numbers in chosen.items():
            folder = temporary / name if split else temporary / key / name
            folder.mkdir(parents=True)
            for number in numbers:
                pixels = splits[key].images[number].permute(1, 2, 0).contiguous().numpy()
                picture = Image.fromarray(pixels)
                if size is not None:
                    picture = picture.resize((size, size), Image.Resampling.BICUBIC)
                picture.save(folder / f"{key}-{number:05}{ending}", quality=95)
        if path.exists():
            path.rmdir()  # empty
        os.replace(temporary, path)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
    return path


def _number(images, name, names):
    """How many pictures of the class `name` are asked for; None: all."""
    if isinstance(images, Mapping):
        if set(images) != set(names):
            raise ValueError(f"images must have a number for each of {names}, got {images!r}")
        images = images[name]
    return None if images is None else at_least_one("images", images)


def _first(data, split, name, number):
    """The numbers, within the split, of the first images of a class."""
    found = (data.splits[split].labels == data.classes.index(name)).nonzero().flatten().tolist()
    if len(found) < (number or 1):
        raise DataError(
            f"images: {split} of {data.name} has {len(found)} images of {name!r}, not {number or 1}"
        )
    return found[:number]
