"""The first two code cells, the same in every notebook: one finds the course, one is a form.

python tests/setup_cell.py      writes them into all notebooks
"""

import contextlib
import io
import json

from address import ROOT, address

from attention import settings

SETUP = """\
# Find the course; where there is none (Colab, Kaggle, an empty folder), fetch it.
import subprocess
import sys
from importlib.metadata import distributions
from pathlib import Path

address, here = "https://github.com/{slug}", Path.cwd()
folders = [here, *here.parents, *sorted(here.glob("attention-course*"))]
course = next((one for one in folders if (one / "setup_course.py").exists()), None)
if not course and not [*distributions(name="attention-in-image-classifiers")]:
    course = here / "attention-course"
    while course.exists():  # a clone that was broken off
        course = course.with_name(f"{{course.name}}-again")
    clone = ["git", "clone", "--quiet", "--depth=1", address, course]
    if "OWNER/" in address or subprocess.run(clone).returncode:
        sys.exit(f"{{address}} could not be fetched. Is it the course's? Is the internet on?")
if course:
    sys.path.insert(0, str(course))
    import setup_course

    setup_course.install()  # what is missing; what is there stays as it is"""

FORM = """\
# @title What to run { display-mode: "form" }
# automatic: as the environment variables say (README), else by what this machine has
profile = "automatic"  # @param ["automatic", "smoke", "quick", "full"]
dataset = "automatic"  # @param ["automatic", "cifar10", "shapes10"] {"allow-input": true}
minutes = "automatic"  # @param ["automatic", "10", "30", "60", "240"] {"allow-input": true}
keep_on_drive = False  # @param {type: "boolean"}

from attention import settings

settings.choose(profile, dataset, minutes, keep_on_drive)"""

# What Colab reads: a machine with a GPU is asked for.
METADATA = {"accelerator": "GPU", "colab": {"gpuType": "T4"}}
NOTEBOOKS = sorted((ROOT / "notebooks").glob("[0-9]*.ipynb"))


def cells() -> list[str]:
    """The sources of the two cells."""
    return [SETUP.format(slug=address()), FORM]


def write(notebook: dict) -> None:
    """Put the two cells, what the form prints here, and the metadata into a notebook."""
    code = [cell for cell in notebook["cells"] if cell["cell_type"] == "code"]
    if "settings.choose(" not in "".join(code[1]["source"]):
        form = code[0] | {"id": "form", "metadata": {"tags": ["nbval-ignore-output"]}}
        notebook["cells"].insert(notebook["cells"].index(code[0]) + 1, form)
        code.insert(1, form)
    for cell, source in zip(code, cells(), strict=False):
        cell["source"] = source.splitlines(keepends=True)
    printed = io.StringIO()
    with contextlib.redirect_stdout(printed):
        settings.choose()
    text = printed.getvalue().splitlines(keepends=True)
    code[1]["outputs"] = [{"name": "stdout", "output_type": "stream", "text": text}]
    for number, cell in enumerate(code, 1):
        cell["execution_count"] = number
        for output in cell["outputs"]:
            if "execution_count" in output:
                output["execution_count"] = number
    notebook["metadata"] = METADATA | notebook["metadata"] | METADATA


if __name__ == "__main__":
    for path in NOTEBOOKS:
        notebook = json.loads(path.read_text(encoding="utf-8"))
        write(notebook)
        text = json.dumps(notebook, indent=1, ensure_ascii=False) + "\n"
        path.write_text(text, encoding="utf-8", newline="\n")
