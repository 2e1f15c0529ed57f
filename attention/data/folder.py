"""Images from disk: a folder of pictures, or a tar or zip of one, as a Dataset.

Where there is no test split one is made: a fifth of each class, the files whose SHA-256 comes
first. So it is the same in whatever order and under whatever names they lie, copies of one file are
never on both sides, and a picture that is added changes the place of one other at most.
"""

import hashlib
import re
from pathlib import Path

import numpy as np
import torch
from tqdm.auto import tqdm

from attention.data import decode, layout
from attention.data.dataset import DataError, Dataset, Split, expect_room
from attention.data.trees import Unreadable, ending, opened

FORM = 2  # of what is read from the same files: another number, and caches are made anew
TEST_SHARE = 0.2
SIZES = (32, 64, 96, 128, 160, 192, 224)  # that are usual, to suggest one


def name(path: Path) -> str:
    """What the dataset at `path` is called: the file name without the ending, made harmless."""
    end = "" if path.is_dir() else ending(path)
    harmless = re.sub(r"[^\w .()+-]", "-", path.name[: len(path.name) - len(end)])
    return harmless.lstrip(" .()+-")[:64] or "images"


def state(path: Path) -> str:
    """A text that changes whenever the files do. Nothing is decoded."""
    if path.is_dir():
        with opened(path) as tree:
            files = [(str(p), p.file.size, p.file.changed) for p in layout.pictures(tree)[0]]
    else:
        files = [(ending(path), path.stat().st_size, path.stat().st_mtime_ns)]
    return hashlib.sha256(repr((FORM, files)).encode()).hexdigest()


def read(
    path: Path, name: str, size: int | None = None, resize: str = "squash", broken: str = "refuse"
) -> Dataset:
    """Read the folder or archive at the absolute `path`, as a Dataset called `name`.

    size: resize the images to size × size pixels; None: all must have one size. resize: "squash"
    or "crop", see `decode.pixels`. broken: "refuse" or "skip" what cannot be read.
    """
    with opened(path) as tree:
        pictures, notes = layout.pictures(tree)
        wrong = {picture: picture.wrong for picture in pictures if picture.wrong}
        if wrong and broken == "refuse":
            raise _broken(path, wrong, len(pictures))
        readable = [picture for picture in pictures if not picture.wrong]
        images, digests, undecodable = _decode(tree, readable, size, resize)
        wrong |= undecodable
        if wrong and broken == "refuse":
            raise _broken(path, wrong, len(pictures))
        layout.expect_left(tree, pictures, wrong)
    if wrong:
        files = layout.counted(len(wrong), "file")
        notes.append(f"skipped: {files} that cannot be read: {_named(wrong, 100)}")
    splits = {}
    for number, picture in enumerate(readable):
        if picture not in wrong:
            splits.setdefault(picture.split, []).append(number)
    if "test" not in splits:
        total, labels = len(splits["train"]), [picture.label for picture in readable]
        splits["test"] = _cut(path, splits["train"], labels, digests)
        splits["train"] = sorted(set(splits["train"]) - set(splits["test"]))
        notes.append(
            f"there is no test split: {len(splits['test']):,} of {total:,} images are held out as "
            "one, a fifth of each class, by the SHA-256 of their files, so always the same ones"
        )
    notes += _shared(splits, images, readable)
    classes = sorted({picture.label for picture in readable})
    labels = torch.tensor([classes.index(picture.label) for picture in readable])
    made = {split: _take(images, labels, numbers) for split, numbers in splits.items()}
    return Dataset(
        name, made["train"], made["test"], tuple(classes), made.get("validation"), tuple(notes)
    )


def _decode(tree, pictures, size, resize):
    """(uint8 (N,3,H,W), the SHA-256 of each file, {picture: why it cannot be read})"""
    about, count = f"{tree.path}: ", len(pictures)
    images, digests, wrong, first = None, [None] * count, {}, None
    if size is not None:
        expect_room(about, count, size, size)
    # an archive is read from its beginning to its end
    order = sorted(range(count), key=lambda number: pictures[number].file.place)
    for number in tqdm(order, f"Decoding {tree.path.name}", unit=" images"):
        picture = pictures[number]
        try:
            content = tree.content(picture.parts)
            with decode.header(content) as opened_image:
                if images is None and size is None:
                    _expect_room(about, count, *opened_image.size[::-1])
                image = decode.pixels(opened_image, size, resize)
        except Unreadable as error:
            wrong[picture] = str(error)
            continue
        digests[number] = hashlib.sha256(content).digest()
        if images is None:
            images, first = np.empty((count, *image.shape), np.uint8), picture
        if image.shape != images.shape[1:]:
            (_, *one), (_, *other) = images.shape[1:], image.shape
            raise DataError(
                f"{about}expected images of one size, but {first} {one[1]}×{one[0]} and {picture} "
                f"{other[1]}×{other[0]} pixels differ; {_cure(*one, *other)}"
            )
        images[number] = image
    return images, digests, wrong


def _expect_room(about, count, height, width):
    """A DataError if so many images are too large to be taken as they are."""
    try:
        expect_room(about, count, height, width)
    except DataError as error:
        raise DataError(f"{error}; {_cure(height, width)}") from None


def _cure(*sides):
    """What to do about images of these sides."""
    usual = [size for size in SIZES if size <= min(sides)] or SIZES[:1]
    return f"pass size= to resize them, say size={usual[-1]}"


def _cut(path, numbers, labels, digests):
    """Those of the numbers that become test images: a share of each class, by their digests."""
    classes = {}  # {label: {digest: the numbers of equal files, which stay together}}
    for number in numbers:
        same = classes.setdefault(labels[number], {})
        same.setdefault(digests[number], []).append(number)
    test = []
    for label, same in classes.items():
        if len(same) < 2:
            raise DataError(
                f"{path}: there is no test split, and none can be held out: the class {label!r} "
                "needs at least 2 different pictures"
            )
        wanted = max(1, round(TEST_SHARE * sum(map(len, same.values()))))
        chosen = []
        for digest in sorted(same)[:-1]:
            if len(chosen) < wanted:
                chosen += same[digest]
        test += chosen
    return sorted(test)


def _shared(splits, images, pictures):
    """A note for each two splits that have pictures in common, pixel for pixel."""
    seen, notes = {}, []
    for split in ("train", "validation", "test"):
        twice = {}
        for number in splits.get(split, ()):
            digest = hashlib.sha256(images[number]).digest()
            other, before = seen.setdefault(digest, (split, number))
            if other != split:
                twice.setdefault(other, {})[pictures[number]] = f"is {pictures[before]}"
        notes += [
            f"in {split} and in {other}: {layout.counted(len(found), 'image')}, the same pixel for "
            f"pixel, so that what is measured there says little: {_named(found, 5)}"
            for other, found in twice.items()
        ]
    return notes


def _take(images, labels, numbers):
    """The Split of these rows; a view where they follow each other."""
    first, last = numbers[0], numbers[-1]
    index = slice(first, last + 1) if len(numbers) == last + 1 - first else numbers
    return Split(torch.from_numpy(images[index]), labels[index])


def _broken(path, wrong, total):
    return DataError(
        f"{path}: {len(wrong):,} of {total:,} files cannot be read: {_named(wrong, 5)}; "
        'load(…, broken="skip") leaves such out'
    )


def _named(reasons, most):
    """{picture: reason} in words, the first few of them."""
    listed = sorted(f"{picture} {reason}" for picture, reason in reasons.items())[:most]
    more = [f"and {len(reasons) - most} more"] if len(reasons) > most else []
    return "; ".join(listed + more)
