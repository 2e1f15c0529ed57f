"""The commands of the Makefile, for Windows too: it needs Python and nothing else.

python make.py environment      make the environment in .venv, with the versions of the tests
python make.py notebooks        run all notebooks from top to bottom; the copies go to executed/
python make.py test             lint, unit tests, and every notebook in seconds
python make.py site             build the site, from what is stored: site/_build/html/index.html
python make.py editions         the student's and the teacher's notebooks, to editions/

Each makes the environment first, if it is not there or older than the lists of what is in it.
"""

import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parent
VENV = ROOT / os.environ.get("VENV", ".venv")
PYTHON = VENV / ("Scripts/python.exe" if os.name == "nt" else "bin/python")
READY = VENV / ".installed"
LISTS = ("requirements.txt", "tests/requirements.txt", "site/requirements.txt")
NOTEBOOKS = sorted(str(path.relative_to(ROOT)) for path in ROOT.glob("notebooks/[0-9]*.ipynb"))
# Tests run in as many processes as there are cores; each needs about 1 GB.
WORKERS = ("-n", "auto", "--maxprocesses", "4")


def python(*arguments: str, **variables: str) -> None:
    """Run the environment's Python; where that fails, so does this."""
    done = subprocess.run([PYTHON, *arguments], cwd=ROOT, env=os.environ | variables)
    if done.returncode:
        sys.exit(done.returncode)


def environment() -> None:
    """Make the environment, unless it is there."""
    lists = (*LISTS, "constraints.txt", "pyproject.toml")
    newest = max((ROOT / name).stat().st_mtime for name in lists)
    if READY.exists() and READY.stat().st_mtime >= newest:
        return
    subprocess.run([sys.executable, "-m", "venv", VENV], check=True)
    wanted = [word for name in LISTS for word in ("-r", name)]
    python("-m", "pip", "install", "--quiet", "-c", "constraints.txt", *wanted, "--editable", ".")
    READY.touch()


def notebooks() -> None:
    """Run all notebooks, in the quick profile if nobody says another."""
    environment()
    profile = os.environ.get("ATTENTION_PROFILE") or "quick"
    convert = (
        "-m", "nbconvert", "--execute", "--to", "notebook", "--output-dir", "executed",
        "--log-level", "ERROR", "--ExecutePreprocessor.extra_arguments=--IPKernelApp.log_level=40",
    )  # fmt: skip
    for notebook in NOTEBOOKS:
        print(f"{time.strftime('%H:%M:%S')}  {notebook}", flush=True)
        start = time.monotonic()
        python(*convert, notebook, ATTENTION_PROFILE=profile)
        print(f"          done in {time.monotonic() - start:.0f} s")
    print("executed copies: executed/    figures: figures/")


def test() -> None:
    """Lint, unit tests (what takes long is named), and the notebooks' fixed outputs."""
    environment()
    python("-m", "ruff", "check", ".")
    python("-m", "ruff", "format", "--check", ".")
    python("-m", "pytest", "-q", *WORKERS, "--durations=5", "--durations-min=5")
    with tempfile.TemporaryDirectory() as home:
        python(
            "-m", "pytest", "-q", *WORKERS, "--dist", "loadfile", "--nbval", *NOTEBOOKS,
            ATTENTION_HOME=home, ATTENTION_DATA="shapes10", ATTENTION_PROFILE="smoke",
            OMP_NUM_THREADS="1",  # as many kernels as cores: more threads wait for each other
        )  # fmt: skip


def site() -> None:
    """Build the site, offline."""
    environment()
    python("site/build.py")


def editions() -> None:
    """Both editions of the notebooks."""
    environment()
    python("solutions/editions.py")


COMMANDS = {command.__name__: command for command in (environment, notebooks, test, editions, site)}

if __name__ == "__main__":
    if len(sys.argv) != 2 or sys.argv[1] not in COMMANDS:
        sys.exit(__doc__)
    COMMANDS[sys.argv[1]]()
