"""What lies in a folder, a tar or a zip: names and sizes first, a content when it is asked for.

Nothing is ever extracted, and of no file is more read than its size says.
"""

import bz2
import gzip
import io
import lzma
import os
import stat
import tarfile
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from attention.data.dataset import DataError

TARS = {".tar": open, ".tar.gz": gzip.open, ".tgz": gzip.open, ".tar.xz": lzma.open,
        ".txz": lzma.open, ".tar.bz2": bz2.open, ".tbz2": bz2.open}  # fmt: skip
ENDINGS = (".zip", *TARS)
MOST_FILE_BYTES = 1 << 28  # of one image file or header: more is a mistake, or a bomb

Parts = tuple[str, ...]  # of a path below the folder, or inside the archive


class Unreadable(Exception):
    """Why a file gives no picture, in words that follow its name: "is a link"."""


@dataclass(frozen=True)
class File:
    """size: in bytes. place: in the archive, which is read in this order. changed: when, in ns.

    wrong: why its content cannot be had, in words that follow its name.
    """

    size: int
    place: int = 0
    changed: int = 0
    wrong: str = ""


Inside = dict[str, File | None]  # what a folder holds, by name; None: a folder


def shown(parts: Parts) -> str:
    """A path as it can be printed, whatever bytes its name is made of."""
    return "/".join(parts).encode(errors="backslashreplace").decode()


def ending(path: Path) -> str:
    """The ending of the archive at `path`; a DataError if it is none."""
    found = next((e for e in ENDINGS if path.name.lower().endswith(e)), None)
    if found is None or not path.is_file():
        raise DataError(f"{path}: expected a folder, or an archive (*{', *'.join(ENDINGS)})")
    return found


class Folder:
    """A folder on disk. Links are followed; each folder is listed only when it is asked for."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def inside(self, parts: Parts) -> Inside:
        """What lies in the folder at `parts`."""
        try:
            with os.scandir(self.path.joinpath(*parts)) as entries:
                return {entry.name: _on_disk(entry) for entry in entries}
        except OSError as error:
            raise DataError(f"{self.path}: cannot list its files ({error})") from error

    def content(self, parts: Parts) -> bytes:
        """The bytes of the file at `parts`; Unreadable if they cannot be had."""
        try:
            return self.path.joinpath(*parts).read_bytes()
        except OSError as error:
            raise Unreadable(f"cannot be read ({error.strerror})") from error


def _on_disk(entry):
    try:
        status = entry.stat()
    except OSError as error:  # a link that leads nowhere, or in a circle
        return File(0, wrong=f"cannot be read ({error.strerror})")
    if stat.S_ISDIR(status.st_mode):
        return None
    # reading a pipe would hang
    wrong = "" if stat.S_ISREG(status.st_mode) else "is no file, but a pipe, socket or device"
    return File(status.st_size, changed=status.st_mtime_ns, wrong=wrong)


class _Archive:
    """The tree of an archive, made from the paths of its members."""

    def __init__(self, path, members):
        """members: {parts: (its File, or None for a folder, and what the archive calls it)}"""
        self.path, self._members, self._inside = path, members, {(): {}}
        members.pop((), None)  # "./", or no name at all
        for parts, (file, _) in members.items():
            for depth in range(len(parts)):  # folders need not be members themselves
                self._inside.setdefault(parts[:depth], {}).setdefault(parts[depth], None)
            if file is None:
                self._inside.setdefault(parts, {})
            else:
                self._inside[parts[:-1]][parts[-1]] = file

    def inside(self, parts):
        return self._inside.get(parts, {})


class Tar(_Archive):
    """A tar, open for reading. It is read to the checksum of its end before anything is decoded."""

    def __init__(self, path: Path, tar: tarfile.TarFile) -> None:
        members = {}
        for member in tar:
            wrong = "" if member.isreg() else "is a link or device, not a picture"
            file = None if member.isdir() else File(member.size, member.offset, wrong=wrong)
            members[_parts(member.name)] = file, member
        rest = 0
        while chunk := tar.fileobj.read(1 << 20):  # zeros, or tarfile stopped at a broken header
            rest += len(chunk)
            if any(chunk):
                raise tarfile.ReadError("a broken header")
        if rest == 0:
            raise tarfile.ReadError("the end is missing")
        super().__init__(path, members)
        self._tar = tar

    def content(self, parts: Parts) -> bytes:
        """The bytes of the file at `parts`."""
        return self._tar.extractfile(self._members[parts][1]).read()


class Zip(_Archive):
    """A zip, open for reading: stored or deflated, as nearly all are."""

    def __init__(self, path: Path, file: zipfile.ZipFile) -> None:
        members = {}
        for info in file.infolist():
            name = _zip_name(info).replace("\\", "/")  # as some programs for Windows write them
            found = File(info.file_size, info.header_offset, wrong=_wrong_in_zip(info))
            if _parts(name) in members and not name.endswith("/"):
                raise zipfile.BadZipFile(f"two files are called {name!a}")
            members[_parts(name)] = None if name.endswith("/") else found, info
        super().__init__(path, members)
        self._file = file

    def content(self, parts: Parts) -> bytes:
        """The bytes of the file at `parts`, its CRC checked; Unreadable if they cannot be had."""
        info = self._members[parts][1]
        try:
            with self._file.open(info) as file:
                return file.read(info.file_size)  # a number, or a bomb is unpacked first
        except Exception as error:  # zipfile raises nearly anything for a damaged member
            raise Unreadable(f"is damaged ({error})") from error


def _zip_name(info):
    """The name of a member. What macOS packs is UTF-8 and does not say so."""
    if info.flag_bits & 0x800:
        return info.filename
    try:
        return info.filename.encode("cp437").decode("utf-8")
    except UnicodeError:
        return info.filename


def _wrong_in_zip(info):
    if stat.S_ISLNK(info.external_attr >> 16):
        return "is a link, not a picture"
    if info.flag_bits & 1:
        return "is encrypted"
    if info.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
        # zipfile puts no bound to what the other methods unpack
        return "is compressed by another method than deflate: pack the zip anew"
    return ""


def _parts(name):
    return tuple(part for part in PurePosixPath(name).parts if part not in (".", "/", "//"))


class _Bounded(io.BufferedReader):
    """A file of which nobody reads too much at once: a header may claim any length."""

    def read(self, size=-1):
        if not 0 <= size <= MOST_FILE_BYTES:
            raise tarfile.ReadError(f"a header of {size:,} bytes")
        return super().read(size)


Tree = Folder | Tar | Zip


@contextmanager
def opened(path: Path) -> Iterator[Tree]:
    """The tree at `path`. A DataError if it is an archive and damaged."""
    if path.is_dir():
        yield Folder(path)
        return
    kind = ending(path)
    try:
        if kind == ".zip":
            with zipfile.ZipFile(path) as file:
                yield Zip(path, file)
        else:
            with (
                TARS[kind](path, "rb") as file,
                tarfile.open(fileobj=_Bounded(file), mode="r:") as tar,
            ):
                yield Tar(path, tar)
    except (
        tarfile.TarError, zipfile.BadZipFile, NotImplementedError, EOFError, lzma.LZMAError,
        zlib.error, OSError,
    ) as error:  # fmt: skip
        raise DataError(f"{path} is damaged or incomplete ({error})") from error
