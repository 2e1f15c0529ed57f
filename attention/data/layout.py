"""Which file of a tree is a picture of which split and class.

    train/<class>/*.jpg   val/<class>/*.jpg   test/<class>/*.jpg     val and test may be missing
    <class>/*.jpg                                                    nobody has split them

A single folder around it all is looked through. Hidden files and those of file managers are
ignored; what else torchvision's ImageFolder would skip in silence is said, or is a `DataError`.
"""

from collections.abc import Mapping
from dataclasses import dataclass

from attention.data.dataset import DataError
from attention.data.trees import MOST_FILE_BYTES, File, Parts, Tree, shown

SPLITS = {
    "train": "train", "training": "train", "test": "test", "testing": "test",
    "val": "validation", "valid": "validation", "validation": "validation",
}  # fmt: skip
IMAGE_ENDINGS = (".jpg", ".jpeg", ".png", ".webp", ".bmp")
OTHER_ENDINGS = (".gif", ".tif", ".tiff", ".heic", ".heif", ".avif")
IGNORED = ("__macosx", "thumbs.db", "ehthumbs.db", "desktop.ini")
DEEPEST = 4  # so many folders around it all are looked through: a link may lead in a circle


@dataclass(frozen=True)
class Picture:
    """split: train, validation or test. wrong: why it cannot be read, in words after its name."""

    split: str
    label: str
    parts: Parts
    file: File
    wrong: str = ""

    def __str__(self) -> str:
        return shown(self.parts)


def pictures(tree: Tree) -> tuple[list[Picture], list[str]]:
    """All pictures, sorted by split, class and name; and what is to be said about the rest.

    Raises a `DataError` that says what was expected, and what is there.
    """
    found, notes = [], []
    places, beside = _split_places(tree)
    if beside:
        notes.append(f"left out, beside train/: {', '.join(beside)}")
    for split, place in places.items():
        loose = [name for name, file in _visible(tree, place).items() if file is not None]
        for name in loose:
            if wrong := tree.inside(place)[name].wrong:  # it may stand for a class
                raise DataError(f"{tree.path}: {shown((*place, name))} {wrong}")
        loose = sum(name.lower().endswith(IMAGE_ENDINGS) for name in loose)
        if loose:
            where = shown(place) or "the top folder"
            notes.append(f"left out: {counted(loose, 'picture')} in {where}, in no class folder")
        for label in _folders(tree, place):
            found += _of_class(tree, split, label, (*place, label))
    found.sort(key=lambda picture: (picture.split, picture.label, picture.parts))
    _expect_classes(tree, found)
    return found, notes


def counted(number: int, what: str) -> str:
    """ "1 file", "2 files"."""
    return f"{number:,} {what}{'s' * (number != 1)}"


def expect_left(tree: Tree, found: list[Picture], skipped: Mapping[Picture, str]) -> None:
    """Raise a DataError if one of the class folders has nothing left without what is skipped."""
    left = {picture.parts[:-1] for picture in found if picture not in skipped}
    for picture in found:
        if picture.parts[:-1] not in left:
            raise DataError(
                f"{tree.path}: the class folder {shown(picture.parts[:-1])} has no images that can "
                f"be read: {picture} {skipped[picture]}"
            )


def _expect_classes(tree, found):
    """Raise a DataError unless every split has the same classes, at least two of them."""
    classes = {}
    for picture in found:
        classes.setdefault(picture.split, set()).add(picture.label)
    train = classes["train"]
    for split, names in classes.items():
        if names != train:
            raise DataError(
                f"{tree.path}: train and {split} must have the same classes; only in train: "
                f"{sorted(train - names) or 'none'}, only in {split}: "
                f"{sorted(names - train) or 'none'}"
            )
    if len(train) < 2:
        raise DataError(
            f"{tree.path}: expected a folder for each class, and there is only {max(train)!r}"
        )


def _split_places(tree):
    """{split: the folder that holds its class folders}, and the folders beside them."""
    top = _top(tree)
    folders = _folders(tree, top)
    named = [name for name in folders if name.lower() in SPLITS]
    if len(named) == 1 < len(folders) and not _folders(tree, (*top, named[0])):
        named = []  # a class of trains, say, among others
    places = {}
    for name in named:
        split, place = SPLITS[name.lower()], (*top, name)
        if split in places:
            raise DataError(
                f"{tree.path}: {shown(places[split])}/ and {shown(place)}/ are both named as "
                f"{split} images are: keep one"
            )
        if not _folders(tree, place):
            cure = "" if split == "train" else (
                f"; without {shown(place)}/, {split} images are held out from train/"
            )  # fmt: skip
            raise DataError(
                f"{tree.path}: expected a folder for each class in {shown(place)}/, and there is "
                f"none{cure}"
            )
        places[split] = place
    if not folders:
        raise DataError(
            f"{tree.path}: expected a folder for each class, on their own or in train/, val/ and "
            f"test/, with pictures in it; there is no folder"
        )
    if places and "train" not in places:
        raise DataError(
            f"{tree.path}: expected images in train/<class>/, and there is only "
            f"{', '.join(shown(place) + '/' for place in places.values())}"
        )
    beside = [f"{shown((*top, name))}/" for name in folders if places and name not in named]
    return places or {"train": top}, beside


def _top(tree):
    """The folder of the splits or classes: a single folder around them is looked through."""
    top = ()
    for _ in range(DEEPEST):
        folders = _folders(tree, top)
        if len(folders) != 1 or folders[0].lower() in SPLITS:
            break
        inside = _visible(tree, (*top, folders[0]))
        if any(name.lower().endswith(IMAGE_ENDINGS) for name in inside) or not any(
            file is None for file in inside.values()
        ):
            break  # a class
        top = (*top, folders[0])
    return top


def _of_class(tree, split, label, place):
    """The pictures of a class folder; a DataError if there are none, or folders in it."""
    if not label.isprintable():
        raise DataError(f"{tree.path}: the class folder {label!a} has a name that nobody can print")
    found = []
    for name, file in _visible(tree, place).items():
        parts = (*place, name)
        if file is None:
            raise DataError(
                f"{tree.path}: expected only images (*{', *'.join(IMAGE_ENDINGS)}) in the class "
                f"folder {shown(place)}, but {shown(parts)} is a folder"
            )
        found.append(Picture(split, label, parts, file, file.wrong or _wrong(name, file)))
    if not any(picture.parts[-1].lower().endswith(IMAGE_ENDINGS) for picture in found):
        there = f": {found[0]} {found[0].wrong}" if found else ""
        raise DataError(f"{tree.path}: the class folder {shown(place)} has no images{there}")
    return found


def _wrong(name, file):
    """Why a file is not read at all."""
    if name.lower().endswith(OTHER_ENDINGS):
        return "is in a format that is not read here: save it as PNG or JPEG"
    if not name.lower().endswith(IMAGE_ENDINGS):
        return f"is no picture (*{', *'.join(IMAGE_ENDINGS)})"
    if file.size > MOST_FILE_BYTES:
        return f"has {file.size:,} bytes, more than the {MOST_FILE_BYTES:,} an image may have"
    return ""


def _visible(tree, place):
    """What lies in a folder, sorted by name, without what is hidden or of a file manager."""
    return {
        name: file
        for name, file in sorted(tree.inside(place).items(), key=lambda item: item[0])
        if not name.startswith(".") and name.lower() not in IGNORED
    }


def _folders(tree, place):
    return [name for name, file in _visible(tree, place).items() if file is None]
