"""Images from disk: an image-folder tree, or a tar of one.

    train/<class>/*.jpg   test/<class>/*.jpg        .jpg, .jpeg, .png in any case; grey becomes RGB

What torchvision's ImageFolder would skip or cut short in silence (an empty class, a truncated
archive, 16 bits a channel) is a `DataError` that names the file. A tar is read, never extracted.
"""

import gzip
import hashlib
import io
import lzma
import os
import re
import stat
import tarfile
import warnings
import zlib
from contextlib import contextmanager
from pathlib import Path, PurePosixPath

import numpy as np
import torch
from PIL import Image, ImageOps
from tqdm.auto import tqdm

from attention.data.dataset import DataError, Dataset, Split, expect_room

SPLITS = ("train", "test")
IMAGE_ENDINGS = (".jpg", ".jpeg", ".png")
TARS = {".tar": open, ".tar.gz": gzip.open, ".tgz": gzip.open, ".tar.xz": lzma.open}
MOST_FILE_BYTES = 1 << 28  # of one image file or header: more is a mistake, or a bomb


def name(path: Path) -> str:
    """What the dataset at `path` is called: the file name without the ending, made harmless."""
    ending = "" if path.is_dir() else _ending(path)
    harmless = re.sub(r"[^\w .()+-]", "-", path.name[: len(path.name) - len(ending)])
    return harmless.lstrip(" .()+-")[:64] or "images"


def state(path: Path) -> str:
    """A text that changes whenever the files do. Nothing is decoded."""
    files = _list_folder(path) if path.is_dir() else {(): path.stat()}
    lines = [f"{'/'.join(key)} {file.st_size} {file.st_mtime_ns}" for key, file in files.items()]
    return hashlib.sha256("\n".join(lines).encode(errors="surrogateescape")).hexdigest()


def read(path: Path, name: str, size: int | None = None) -> Dataset:
    """Read the folder or tar at the absolute `path`, as a Dataset called `name`.

    size: resize the images to size × size pixels; None: all must have one size.
    """
    if path.is_dir():
        files = _list_folder(path)
        pixels = _decode(path, _read_folder(path, files), sorted(files), size)
    else:
        with _open_tar(path) as tar:
            files = _list_tar(path, tar)
            pixels = _decode(path, _read_tar(tar, files), sorted(files), size)
    classes = {name: number for number, name in enumerate(sorted({key[1] for key in files}))}
    images, labels = torch.from_numpy(pixels), torch.tensor([classes[k[1]] for k in sorted(files)])
    n = sum(key[0] == "test" for key in files)  # which are sorted before "train"
    train, test = Split(images[n:], labels[n:]), Split(images[:n], labels[:n])
    return Dataset(name, train, test, tuple(classes))


def _decode(path, contents, keys, size):
    """uint8 (N,3,H,W) in the order of the keys; contents: pairs of a key and its file's bytes."""
    about, place, pixels = f"{path}: ", {key: n for n, key in enumerate(keys)}, None
    if size is not None:
        expect_room(about, len(keys), size, size)
    for key, content in tqdm(contents, f"Decoding {path.name}", len(keys), unit=" images"):
        try:
            image = _decode_image(content, size)
        except Exception as error:  # Pillow's decoders raise nearly anything
            file = "/".join(key)
            raise DataError(f"{about}{file} is no readable JPEG or PNG image ({error})") from error
        if pixels is None:
            expect_room(about, len(keys), *image.shape[1:])
            pixels, first = np.empty((len(keys), *image.shape), np.uint8), key
        if image.shape != pixels.shape[1:]:
            one, other = (f"{'/'.join(k)} {x.shape[2]}×{x.shape[1]}"
                          for k, x in ((first, pixels[0]), (key, image)))  # fmt: skip
            raise DataError(
                f"{about}expected images of one size, but {one} and {other} pixels differ; "
                "pass size= to resize them"
            )
        pixels[place[key]] = image
    return pixels


def _decode_image(content, size):
    """The bytes of a JPEG or PNG file → uint8 (3,H,W)."""
    with warnings.catch_warnings():
        warnings.simplefilter("error", Image.DecompressionBombWarning)
        opened = Image.open(io.BytesIO(content), formats=("JPEG", "PNG"))
    with opened as image:
        if image.format == "PNG" and content[24] > 8:  # the bit depth, in the header
            raise ValueError("it has 16 bits a channel, of which 8 would be lost")
        image = ImageOps.exif_transpose(image)  # photographs lie on their side without it
        if "transparency" in image.info:
            image = image.convert("RGBA")
        image = image.convert("RGB")
        if size is not None:
            image = image.resize((size, size), Image.Resampling.BILINEAR)
        return np.asarray(image).transpose(2, 0, 1)


def _place(path, parts):
    """The parts of a path below the top if it is a class folder or in one, else None: ignored.

    Hidden files (`.DS_Store`, `._0001.jpg`) are ignored too. A DataError if a class folder holds
    anything but images.
    """
    hidden = any(p.startswith(".") or p.lower() in ("thumbs.db", "desktop.ini") for p in parts)
    if hidden or len(parts) < 2 or parts[0] not in SPLITS:
        return None
    if len(parts) > 3 or (len(parts) == 3 and not parts[2].lower().endswith(IMAGE_ENDINGS)):
        raise DataError(
            f"{path}: expected only images (*{', *'.join(IMAGE_ENDINGS)}) in train/<class>/ and "
            f"test/<class>/, but there is {'/'.join(parts)}"
        )
    return parts


def _check(path, sizes):
    """Raise a DataError unless train and test have the same classes, each with images.

    sizes: {(split, class, file name): its bytes, (split, class): 0}
    """
    classes = {split: {key[1] for key in sizes if key[0] == split} for split in SPLITS}
    filled = {key[:2] for key in sizes if len(key) == 3}
    for split in SPLITS:
        if not classes[split]:
            raise DataError(
                f"{path}: expected images in train/<class>/ and test/<class>/, "
                f"but there is no {split}/<class>/"
            )
        for name in sorted(classes[split]):
            if (split, name) not in filled:
                raise DataError(f"{path}: the class folder {split}/{name} has no images")
    train, test = classes.values()
    if train != test:
        raise DataError(
            f"{path}: train and test must have the same classes; only in train: "
            f"{sorted(train - test) or 'none'}, only in test: {sorted(test - train) or 'none'}"
        )
    largest = max(sizes, key=sizes.get)
    if sizes[largest] > MOST_FILE_BYTES:
        raise DataError(
            f"{path}: {'/'.join(largest)} has {sizes[largest]:,} bytes, more than the "
            f"{MOST_FILE_BYTES:,} that an image may have"
        )


def _list_folder(path):
    """{(split, class, file name): its stat}, sorted and checked."""
    files, classes = {}, {}
    try:
        for split in SPLITS:
            for folder in (path / split).iterdir() if (path / split).exists() else ():
                if not _place(path, (split, folder.name)) or folder.is_file():
                    continue
                classes[split, folder.name] = 0
                for entry in os.scandir(folder):
                    key = _place(path, (split, folder.name, entry.name))
                    if key is None:
                        continue
                    files[key] = entry.stat()
                    if not stat.S_ISREG(files[key].st_mode):  # reading a pipe would hang
                        raise DataError(f"{path}: {'/'.join(key)} is no file")
    except OSError as error:  # a link that leads nowhere, a folder that may not be read
        raise DataError(f"{path}: cannot list its files ({error})") from error
    _check(path, classes | {key: file.st_size for key, file in files.items()})
    return dict(sorted(files.items()))


def _read_folder(path, files):
    """Yield (split, class, file name), bytes."""
    for key in files:
        try:
            yield key, path.joinpath(*key).read_bytes()
        except OSError as error:
            raise DataError(f"{path}: cannot read {'/'.join(key)} ({error})") from error


def _ending(path):
    ending = next((e for e in TARS if path.name.lower().endswith(e)), None)
    if ending is None or not path.is_file():
        raise DataError(f"{path}: expected a folder or a tar (*{', *'.join(TARS)})")
    return ending


class _Bounded(io.BufferedReader):
    """A file of which nobody reads too much at once: a header may claim any length."""

    def read(self, size=-1):
        if not 0 <= size <= MOST_FILE_BYTES:
            raise tarfile.ReadError(f"a header of {size:,} bytes")
        return super().read(size)


@contextmanager
def _open_tar(path):
    try:
        with (
            TARS[_ending(path)](path, "rb") as file,
            tarfile.open(fileobj=_Bounded(file), mode="r:") as tar,
        ):
            yield tar
    except (tarfile.TarError, EOFError, lzma.LZMAError, zlib.error, OSError) as error:
        raise DataError(f"{path} is damaged or incomplete ({error})") from error


def _list_tar(path, tar):
    """{(split, class, file name): its member}, checked. The tar is read to its end's checksum."""
    members, classes, tops = {}, {}, set()
    for member in tar:
        parts = tuple(p for p in PurePosixPath(member.name).parts if p != ".")
        top = ()
        if parts and parts[0] not in SPLITS:  # everything may lie in one folder
            top, parts = parts[:1], parts[1:]
        key = _place(path, parts) if not "".join(top).startswith(".") else None
        if key is None or (len(key) == 2 and member.isreg()):
            continue
        tops.add(top)
        if len(tops) > 1:
            raise DataError(f"{path}: more than one folder has a train/ or test/")
        if len(key) == 2 and member.isdir():
            classes[key] = 0
        elif member.isreg():
            members[key] = member
        else:
            raise DataError(f"{path}: {member.name} is a link or folder, not an image")
    rest = 0
    while chunk := tar.fileobj.read(1 << 20):  # zeros alone, or tarfile stopped at a broken header
        rest += len(chunk)
        if any(chunk):
            raise tarfile.ReadError("a broken header")
    if rest == 0:
        raise tarfile.ReadError("the end is missing")
    _check(path, classes | {key: member.size for key, member in members.items()})
    return members


def _read_tar(tar, members):
    """Yield (split, class, file name), bytes."""
    for key, member in members.items():
        yield key, tar.extractfile(member).read()
