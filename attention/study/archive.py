"""All records as one file, to carry them from machine to machine."""

import json
import tempfile
import zipfile
from pathlib import Path, PurePosixPath

from attention.files import replacing
from attention.results.tables import read_record
from attention.settings import home

FOLDERS = ("runs", "explanations", "benchmarks")


def pack(file):
    """Write all records below data/ (its `FOLDERS`) to the zip `file`; gives how many.

    Raises ValueError that names a file which is not a record.
    """
    root = home() / "data"
    paths = [path for folder in FOLDERS for path in sorted((root / folder).glob("**/*.json"))]
    for path in paths:
        _check(path, path.relative_to(root))
    with (
        replacing(file) as temporary,
        zipfile.ZipFile(temporary, "w", zipfile.ZIP_DEFLATED) as packed,
    ):
        for path in paths:
            packed.write(path, path.relative_to(root).as_posix())
    return len(paths)


def unpack(file):
    """Put the records of the zip `file` below data/, beside those that are there.

    A record that is here already stays as it is, also where the packed one differs.

    Returns {what happened: names}. Raises ValueError, before anything is written, for a file that
    is no zip, and for a packed file that is not a record or would lie elsewhere.
    """
    root = home() / "data"
    outcomes = {"new": [], "here already": [], "differ from the one here, which was kept": []}
    new, same, different = outcomes.values()
    with tempfile.TemporaryDirectory() as folder:
        names = _extract(file, Path(folder))
        for name in names:
            try:
                _check(Path(folder, name), PurePosixPath(name))
            except ValueError as error:
                raise ValueError(f"{name} in {file} is not a record; nothing unpacked") from error
        for name in names:
            content, path = Path(folder, name).read_bytes(), root / name
            if path.exists():
                (same if path.read_bytes() == content else different).append(name)
                continue
            with replacing(path) as temporary:
                temporary.write_bytes(content)
            new.append(name)
    return outcomes


def _extract(file, folder):
    """Extract the zip, whose files must all lie where records lie; gives their names."""
    try:
        with zipfile.ZipFile(file) as packed:
            names = [entry.filename for entry in packed.infolist() if not entry.is_dir()]
            for name in names:
                parts = name.split("/")
                inside = parts[0] in FOLDERS and not {"", ".", ".."} & set(parts)
                if not inside or set(name) & set("\\:") or not name.endswith(".json"):
                    raise ValueError(f"{name!r} in {file} is not where records lie; not unpacked")
            packed.extractall(folder, names)
    except zipfile.BadZipFile as error:
        raise ValueError(f"{file} is not a zip file that can be read: {error}") from error
    return names


def _check(path, name):
    """Raise a ValueError unless the file is what its folder holds."""
    if name.parts[0] == "runs":
        read_record(path)
    else:
        json.loads(path.read_text(encoding="utf-8"))
