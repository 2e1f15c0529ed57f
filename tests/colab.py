"""Colab, Kaggle and an empty folder, simulated: notebooks that fetch the course and are killed.

python tests/colab.py           (make colab); the first time it makes .venv-colab

What is real: the notebooks, run from their files in the smoke profile; git, which clones this
folder as it is under an address set by tests/address.py; pip and what it installs; kernels that are
killed with all their children. What is not: Python is the one that runs this, torch is borrowed
from its environment (another copy would take 6 GB), and `google.colab` mounts a folder.
"""

import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path

import nbformat
from address import ROOT, change
from nbclient import NotebookClient
from nbclient.exceptions import CellExecutionError, DeadKernelError
from packaging.requirements import Requirement

BARE = ROOT / ".venv-colab"
# What Colab has of its own (August 2026), and what of it cannot be replaced.
PINNED = (
    "ipykernel==6.17.1", "ipython==7.34.0", "ipywidgets==7.7.1", "jupyter-server==2.14.0",
    "numpy==2.1.3", "pandas==2.2.3",
)  # fmt: skip
SLUG = "somebody/attention-course"
# Every kernel runs it first: who it is, and on "Colab" the module that tells that it is Colab.
STARTUP = """
import os, pathlib, sys, types

pathlib.Path(os.environ["SIMULATED_PID"]).write_text(str(os.getpid()))
if "SIMULATED_DRIVE" in os.environ:
    def mount(path):
        from attention import settings
        settings.DRIVE = pathlib.Path(os.environ["SIMULATED_DRIVE"])

    google = sys.modules["google"] = types.ModuleType("google")
    google.colab = sys.modules["google.colab"] = types.ModuleType("google.colab")
    google.colab.drive = types.SimpleNamespace(mount=mount)
"""


def environment() -> Path:
    """The Python of an environment with what Colab pins, and torch from the one that runs this."""
    python = BARE / "bin" / "python"
    if (BARE / "ready").exists():
        return python
    print("making", BARE.name, flush=True)
    subprocess.run([sys.executable, "-m", "venv", "--clear", BARE], check=True)
    subprocess.run([python, "-m", "pip", "install", "--quiet", *PINNED], check=True)
    borrow(("torch", "torchvision"), site(BARE))
    (BARE / "ready").touch()
    return python


def site(environment: Path) -> Path:
    return next(environment.glob("lib/python*/site-packages"))


def borrow(names, where: Path) -> None:
    """Link distributions, and what they require and `where` lacks, into the folder `where`."""
    names, seen = list(names), set()
    there = {path.name.partition("-")[0].lower() for path in where.glob("*.dist-info")}
    while names:
        name = names.pop().lower().replace("-", "_")
        if name in seen or name in there:
            continue
        seen.add(name)
        try:
            found = distribution(name)
        except PackageNotFoundError:
            continue  # of another system
        for top in {path.parts[0] for path in found.files} - {"..", "__pycache__"}:
            if not (where / top).exists():
                (where / top).symlink_to(found.locate_file(top))
        for line in found.requires or ():
            required = Requirement(line)
            if required.marker is None or required.marker.evaluate({"extra": ""}):
                names.append(required.name)


def copied(folder: Path) -> Path:
    """The Python of a copy of the bare environment; torch stays a link."""
    shutil.copytree(BARE, folder, symlinks=True)
    return folder / "bin" / "python"


def versions(python: Path) -> dict[str, str]:
    """{name: version} of what is installed."""
    command = [python, "-m", "pip", "list", "--format=json"]
    listed = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    return {one["name"].lower(): one["version"] for one in json.loads(listed)}


def remote(folder: Path) -> Path:
    """A repository that holds this folder as it is, with an address."""
    git = ["git", "-c", "user.name=n", "-c", "user.email=e", "-C"]
    listed = [*git, ROOT, "ls-files", "--cached", "--others", "--exclude-standard", "-z"]
    names = subprocess.run(listed, check=True, capture_output=True, text=True).stdout.split("\0")
    for name in filter(None, names):
        if (ROOT / name).exists():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(ROOT / name, folder / name)
    change(SLUG, folder)
    subprocess.run([*git, folder, "init", "--quiet"], check=True)
    subprocess.run([*git, folder, "add", "--all"], check=True)
    subprocess.run([*git, folder, "commit", "--quiet", "--message=all"], check=True)
    return folder


class Place:
    """A machine with one notebook in a folder: Colab, Kaggle, or neither.

    form: {name in the form: its value}. variables: of the environment of the kernel.
    """

    def __init__(self, folder: Path, python: Path, course: Path, **variables: str) -> None:
        self.folder, self.python, self.course = folder, python, course
        self.pid = folder.parent / "pid"
        profile = folder.parent / "ipython" / "profile_default" / "startup"
        profile.mkdir(parents=True)
        (profile / "00.py").write_text(STARTUP)
        kernel = folder.parent / "jupyter" / "kernels" / "bare"
        kernel.mkdir(parents=True)
        argv = [
            str(python),
            "-Xfrozen_modules=off",
            "-m",
            "ipykernel_launcher",
            "-f",
            "{connection_file}",
        ]
        spec = {"argv": argv, "display_name": "bare", "language": "python"}
        (kernel / "kernel.json").write_text(json.dumps(spec))
        own = ("ATTENTION_", "PYTHON", "SIMULATED_", "KAGGLE_", "COLAB_")
        self.variables = {k: v for k, v in os.environ.items() if not k.startswith(own)} | {
            "IPYTHONDIR": str(profile.parents[1]), "SIMULATED_PID": str(self.pid),
            "OMP_NUM_THREADS": "1", "PYDEVD_DISABLE_FILE_VALIDATION": "1", "GIT_CONFIG_COUNT": "1",
            "GIT_CONFIG_KEY_0": f"url.file://{course}.insteadOf",
            "GIT_CONFIG_VALUE_0": f"https://github.com/{SLUG}", **variables,
        }  # fmt: skip

    def run(self, name: str, until=None, **form) -> str | None:
        """Run a notebook; what went wrong, or None. until: the kernel is killed when it is true."""
        self.folder.mkdir(exist_ok=True)
        os.environ["JUPYTER_PATH"] = str(self.folder.parent / "jupyter")
        notebook = nbformat.read(self.course / "notebooks" / f"{name}.ipynb", as_version=4)
        for cell in notebook.cells:
            for key, value in form.items() if "settings.choose(" in cell.source else ():
                lines = cell.source.splitlines()
                [line] = [line for line in lines if line.startswith(f"{key} = ")]
                cell.source = cell.source.replace(line, f"{key} = {value!r}")
        nbformat.write(notebook, self.folder / f"{name}.ipynb")
        resources = {"metadata": {"path": str(self.folder)}}
        client = NotebookClient(
            notebook, timeout=None, kernel_name="bare", resources=resources, startup_timeout=300
        )
        self.pid.unlink(missing_ok=True)
        over = threading.Event()
        watcher = threading.Thread(target=self._kill, args=(until, over))
        watcher.start()
        try:
            client.execute(env=self.variables)
        except (CellExecutionError, DeadKernelError) as error:
            return str(error)
        finally:
            over.set()
            watcher.join()
            self.shown = notebook
        return None

    def _kill(self, until, over):
        while until and not over.is_set():
            if self.pid.exists() and until():
                os.killpg(os.getpgid(int(self.pid.read_text())), signal.SIGKILL)
                return
            time.sleep(0.01)

    def printed(self) -> str:
        """What the cells of the last run have printed."""
        cells = [cell for cell in self.shown.cells if cell.cell_type == "code"]
        return "".join(o.text for cell in cells for o in cell.outputs if o.output_type == "stream")


def records(home: Path) -> dict[Path, tuple[float, bytes]]:
    """{record: when it was written, what it says}; without what comes with the course."""
    came = {path.name for path in ROOT.glob("data/runs/shapes10/*.json")}
    found = [path for path in home.glob("data/runs/shapes10/*.json") if path.name not in came]
    return {path: (path.stat().st_mtime, path.read_bytes()) for path in sorted(found)}


def says(what: str) -> None:
    print(f"{time.strftime('%T')}  {what}", flush=True)


def colab(folder: Path, python: Path, course: Path) -> None:
    """Colab: a half-made clone, an install that is broken off, a disconnect, all kept on Drive."""
    content, drive, packages = folder / "content", folder / "drive", site(python.parents[1])
    home, name = drive / "MyDrive" / "attention-course", "01_squeeze_and_excitation"
    form = {"profile": "smoke", "dataset": "shapes10", "keep_on_drive": True}
    place = Place(content, python, course, SIMULATED_DRIVE=str(drive))
    before = versions(python)
    (content / "attention-course" / ".git").mkdir(parents=True)

    assert "died" in place.run(name, until=(packages / "scipy").exists, **form).lower()
    assert not [*packages.glob("scipy-*.dist-info/RECORD")], "scipy was installed in no time"
    says("Colab: killed while pip was unpacking scipy")

    place.run(name, until=lambda: records(home), **form)
    first = records(home)
    assert len(first) == 1
    after = versions(python)
    assert before.items() <= after.items() and "scipy" in after and after["ipywidgets"] == "7.7.1"
    says(f"Colab: {len(after) - len(before)} packages installed, none of {len(before)} replaced")

    shutil.rmtree(content)
    assert (problem := place.run(name, **form)) is None, problem
    second = records(home)
    assert len(second) == 2 and first.items() <= second.items()
    assert "Runtime, Change runtime type" in place.printed() and "installing" not in place.printed()
    says("Colab: the machine was lost after one of two trainings; a new one went on from the Drive")

    assert (problem := place.run(name, **form)) is None, problem
    assert records(home) == second
    assert not any(records(clone) for clone in content.glob("attention-course*"))
    says("Colab: run again, nothing was trained again")


def kaggle(folder: Path, python: Path, course: Path) -> None:
    """Kaggle: the course in /kaggle/working; a kernel that is killed goes on."""
    working = folder / "kaggle" / "working"
    working.parent.mkdir()
    place = Place(working, python, course, KAGGLE_KERNEL_RUN_TYPE="Interactive")
    home, name = working / "attention-course", "02_efficient_channel_attention"
    form = {"profile": "smoke", "dataset": "shapes10"}
    place.run(name, until=lambda: records(home), **form)
    first = records(home)
    assert len(first) == 1
    assert (problem := place.run(name, **form)) is None, problem
    second = records(home)
    assert len(second) == 3 and first.items() <= second.items()
    assert "Accelerator" in place.printed()
    says("Kaggle: killed after one of three trainings; started again, it went on")


def nowhere(folder: Path, python: Path, course: Path) -> None:
    """An empty folder outside both; the environment says what the form leaves open."""
    chosen = {"ATTENTION_PROFILE": "smoke", "ATTENTION_DATA": "shapes10"}
    place = Place(folder / "empty", python, course, **chosen)
    assert (problem := place.run("00_start_here")) is None, problem
    first = records(folder / "empty" / "attention-course")
    assert first and "profile   smoke" in place.printed()
    assert (problem := place.run("00_start_here")) is None, problem
    assert records(folder / "empty" / "attention-course") == first
    says("an empty folder: the notebook ran, and ran again without training")


def unknown(folder: Path, python: Path, course: Path) -> None:
    """The address has not been set: a sentence, and nothing is left behind."""
    shutil.copytree(course, folder / "unset")
    change("OWNER/REPOSITORY", folder / "unset")
    place = Place(folder / "empty", python, folder / "unset")
    problem = place.run("00_start_here")
    assert "could not be fetched. Is it the course's?" in problem and "Traceback" not in problem
    assert [path.name for path in (folder / "empty").iterdir()] == ["00_start_here.ipynb"]
    says("an address that was not set: a sentence")


def main() -> None:
    environment()
    with tempfile.TemporaryDirectory() as folder:
        folder = Path(folder)
        python, course = copied(folder / "python"), remote(folder / "source")
        for scenario in (unknown, colab, kaggle, nowhere):  # the first that gets far installs
            own = folder / scenario.__name__
            own.mkdir()
            scenario(own, python, course)


if __name__ == "__main__":
    main()
