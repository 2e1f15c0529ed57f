"""Images from disk: an image-folder tree, or a tar of one, as arrays.

    train/<class>/*.jpg   test/<class>/*.jpg        .jpg, .jpeg, .png in any case; grey becomes RGB

Whatever is not as expected gives one `DataError` that names the file.
"""

import gzip
import hashlib
import io
import lzma
import os
import tarfile
import zlib
from pathlib import PurePosixPath

import numpy as np
from PIL import Image, ImageOps
from tqdm.auto import tqdm

SPLITS = ("train", "test")
IMAGE_ENDINGS = (".jpg", ".jpeg", ".png")
TARS = {  # ending → how the opened file is decompressed
    ".tar": lambda file: file, ".tar.gz": gzip.open, ".tgz": gzip.open, ".tar.xz": lzma.open,
}  # fmt: skip


class DataError(ValueError):
    """A dataset that cannot be had or is not as it should be. The message says what to do."""


class Source:
    """A folder or tar of images. Nothing is decoded before `read()`.

    path: an existing absolute Path. size: resize the images to size × size pixels; None: all must
    have one size.
    name: the file name without the ending. state: changes whenever the files do.
    """

    def __init__(self, path, size=None):
        self.path, self.size = path, size
        if path.is_dir():
            self.name, files = path.name, _list_folder(path)
            lines = [f"{'/'.join(k)} {s.st_size} {s.st_mtime_ns}" for k, s in files.items()]
            self.state = hashlib.sha256("\n".join(lines).encode()).hexdigest()
            self._contents = _read_folder(path, files)
        else:
            ending = next((e for e in TARS if path.name.lower().endswith(e)), None)
            if ending is None:
                raise DataError(f"{path}: expected a folder or a tar (*{', *'.join(TARS)})")
            self.name = path.name[: -len(ending)]
            self.state = f"{path.stat().st_size} {path.stat().st_mtime_ns}"
            self._contents = _read_tar(path, TARS[ending])

    def read(self):
        """({split: (images uint8 (N,3,H,W), labels int64 (N,))}, class names), sorted by name."""
        return _decode(self.path, self._contents, self.size)


def _decode(path, contents, size):
    """Decode what an iterator over (split, class, file name), bytes gives."""
    images, counts, problem, first = {}, {s: {} for s in SPLITS}, None, None
    for key, content in contents:
        _count(counts, key)
        if content is None or problem:  # damage of an archive shows at its end: read on till there
            continue
        try:
            image = images[key] = _decode_image(content, size)
        except Exception as error:  # Pillow's decoders raise nearly anything
            problem = f"{path}: {'/'.join(key)} is no readable JPEG or PNG image ({error})"
            continue
        first = first or key
        if image.shape != images[first].shape:
            one, other = (f"{'/'.join(k)} {images[k].shape[2]}×{images[k].shape[1]}"
                          for k in (first, key))  # fmt: skip
            problem = (
                f"{path}: expected images of one size, but {one} and {other} pixels differ; "
                "pass size= to resize them"
            )
    if problem:
        raise DataError(problem)
    _check_classes(path, counts)
    classes = sorted(counts["train"])
    splits = {}
    for split in SPLITS:
        keys = sorted(key for key in images if key[0] == split)
        labels = np.array([classes.index(key[1]) for key in keys], np.int64)
        splits[split] = np.stack([images[key] for key in keys]), labels
    return splits, classes


def _decode_image(content, size):
    """The bytes of a JPEG or PNG file → uint8 (3,H,W)."""
    with Image.open(io.BytesIO(content), formats=("JPEG", "PNG")) as image:
        if image.mode.startswith(("I", "F")):
            raise DataError("more than 8 bits a channel, which would be clipped")
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


def _count(counts, key):
    """Count an image (split, class, file name), or note a class folder (split, class)."""
    counts[key[0]][key[1]] = counts[key[0]].get(key[1], 0) + (len(key) == 3)


def _check_classes(path, counts):
    """Raise a DataError unless train and test have the same classes, none of them empty.

    counts: {split: {class: number of images}}
    """
    for split, classes in counts.items():
        if not classes:
            raise DataError(
                f"{path}: expected images in train/<class>/ and test/<class>/, "
                f"but there is no {split}/<class>/"
            )
        for name, images in classes.items():
            if images == 0:
                raise DataError(f"{path}: the class folder {split}/{name} has no images")
    train, test = map(set, counts.values())
    if train != test:
        raise DataError(
            f"{path}: train and test must have the same classes; only in train: "
            f"{sorted(train - test) or 'none'}, only in test: {sorted(test - train) or 'none'}"
        )


def _list_folder(path):
    """{(split, class, file name): its stat}, sorted; the classes are checked."""
    files, counts = {}, {split: {} for split in SPLITS}
    try:
        for split in SPLITS:
            for folder in (path / split).iterdir() if (path / split).is_dir() else ():
                if not folder.is_dir() or not _place(path, (split, folder.name)):
                    continue
                _count(counts, (split, folder.name))
                for entry in os.scandir(folder):
                    if key := _place(path, (split, folder.name, entry.name)):
                        _count(counts, key)
                        files[key] = entry.stat()
    except OSError as error:  # a link that leads nowhere, a folder that may not be read
        raise DataError(f"{path}: cannot list its files ({error})") from error
    _check_classes(path, counts)
    return dict(sorted(files.items()))


def _read_folder(path, files):
    """Yield (split, class, file name), bytes."""
    for key in tqdm(files, desc=f"Decoding {path.name}", unit=" images"):
        try:
            yield key, path.joinpath(*key).read_bytes()
        except OSError as error:
            raise DataError(f"{path}: cannot read {'/'.join(key)} ({error})") from error


def _read_tar(path, decompress):
    """Yield (split, class, file name), bytes, or (split, class), None, in the tar's order.

    Nothing is written to disk. All of the archive is read: its checksum comes last.
    """
    bar = {"total": path.stat().st_size, "desc": f"Decoding {path.name}"}
    try:
        with open(path, "rb") as file, tqdm.wrapattr(file, "read", **bar) as file:
            content, tops = decompress(file), set()
            with tarfile.open(fileobj=content, mode="r:") as tar:
                for member in tar:
                    parts = tuple(p for p in PurePosixPath(member.name).parts if p != ".")
                    if parts and parts[0] not in SPLITS:  # everything may lie in one folder
                        top, parts = parts[:1], parts[1:]
                    else:
                        top = ()
                    key = _place(path, parts) if not "".join(top).startswith(".") else None
                    if key is None or (len(key) == 2 and member.isreg()):
                        continue
                    tops.add(top)
                    if len(tops) > 1:
                        raise DataError(f"{path}: more than one folder has a train/ or test/")
                    if len(key) == 2 and member.isdir():
                        yield key, None
                    elif member.isreg():
                        yield key, tar.extractfile(member).read()
                    else:
                        raise DataError(f"{path}: {member.name} is a link or folder, not an image")
                _read_end(content)
    except (tarfile.TarError, EOFError, lzma.LZMAError, zlib.error, OSError) as error:
        raise DataError(f"{path} is damaged or incomplete ({error})") from error


def _read_end(content):
    """Read what follows the last member: only zeros, or tarfile has stopped at a broken header."""
    size = 0
    while chunk := content.read(1 << 20):
        size += len(chunk)
        if any(chunk):
            raise tarfile.ReadError("a broken header")
    if size == 0:
        raise tarfile.ReadError("the end is missing")
