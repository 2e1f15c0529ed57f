"""Make a notebook ready: install what is missing. The first cell of every notebook calls it.

What is there is never replaced. Colab and Kaggle have versions that belong together (torch, numpy,
ipywidgets); pip is bound to them, and to all else that is installed.

The cell takes a folder for the whole course if this file is in it: git writes it after all that the
notebooks need, so a clone that was broken off does not have it.
"""

import importlib
import subprocess
import sys
import tempfile
from importlib.metadata import distributions
from pathlib import Path

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from packaging.version import Version

NEEDED = Path(__file__).parent / "requirements.txt"
FOR_TESTS = ("jupyter", "nbval")  # in requirements.txt, and no notebook imports them


def needed() -> list[Requirement]:
    """What the notebooks import."""
    lines = NEEDED.read_text(encoding="utf-8").splitlines()
    found = [Requirement(line) for line in lines if line.strip() and not line.startswith("#")]
    return [one for one in found if one.name not in FOR_TESTS]


def installed() -> dict[str, Version]:
    """{name: version} of all that is installed; where there are two, of the one that is imported.

    pip unpacks what tells the version last: what was broken off on the way is not in here.
    """
    found = {}
    for one in distributions():
        try:
            found.setdefault(canonicalize_name(one.metadata["Name"]), Version(one.version))
        except (AttributeError, LookupError, OSError, TypeError, ValueError):
            continue  # the remains of something, or a version of a system's own kind
    return found


def install() -> None:
    """Install what is missing of requirements.txt. Raises SystemExit, saying why, if pip fails."""
    there = installed()
    missing = [one for one in needed() if canonicalize_name(one.name) not in there]
    for one in needed():
        version = there.get(canonicalize_name(one.name))
        if version and not one.specifier.contains(version, prereleases=True):
            print(f"{one.name} {version} stays, though the course was tested with {one.specifier}")
    if not missing:
        return
    print("installing", ", ".join(one.name for one in missing), flush=True)
    with tempfile.TemporaryDirectory() as folder:
        pins = Path(folder, "installed.txt")
        lines = [f"{name}=={version}\n" for name, version in there.items()]
        pins.write_text("".join(lines), encoding="utf-8")
        pip = [sys.executable, "-m", "pip", "install", "--quiet", "--constraint", str(pins)]
        done = subprocess.run([*pip, *map(str, missing)])
    if done.returncode:
        raise SystemExit(
            f"pip could not install {', '.join(map(str, missing))}: its last lines say why. On "
            "Kaggle the internet has to be on (Settings). Then run this cell again."
        )
    importlib.invalidate_caches()
