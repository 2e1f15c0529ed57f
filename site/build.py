"""Build the site: `make site`, or `python site/build.py`. It lies in site/_build/html then.

Nothing is trained, run or downloaded: notebooks show the outputs that they are stored with,
numbers come from the records in data/, the map explorer from the networks in data/runs/. The
pictures that it shows are those of the dataset: Shapes-10 is drawn; of CIFAR-10 they are taken if
it lies on this machine, or where ATTENTION_DATA names it.
"""

import filecmp
import os
import shutil
import sys
import tempfile
import time
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE), str(HERE.parent)]
os.environ["ATTENTION_OFFLINE"] = "1"

BUILT = HERE / "_build"


def stage(folder: Path) -> None:
    """Everything that Sphinx reads, in one folder; what has not changed keeps its time."""
    import explorer
    import pages
    import reference
    import sources

    with tempfile.TemporaryDirectory() as temporary:
        new = Path(temporary)
        shutil.copytree(HERE / "static", new / "static")
        sources.write_notebooks(new / "notebooks")
        sources.write_results(new / "results.md")
        sources.write_docs(new / "docs")
        reference.write_pages(new / "api")
        shown = explorer.write(new / "static")
        pages.write(new, shown)
        files = {path.relative_to(new) for path in new.rglob("*") if path.is_file()}
        there = {path.relative_to(folder) for path in folder.rglob("*") if path.is_file()}
        if there - files:  # pages that are gone would stay in the site
            shutil.rmtree(BUILT)
            there = set()
        for name in sorted(files):
            if name not in there or not filecmp.cmp(new / name, folder / name, shallow=False):
                (folder / name).parent.mkdir(parents=True, exist_ok=True)
                shutil.copyfile(new / name, folder / name)


def main() -> int:
    from sphinx.cmd.build import main as sphinx

    started, source, html = time.monotonic(), BUILT / "source", BUILT / "html"
    stage(source)
    # every warning, a link that leads nowhere, say, is an error; what is read is kept from the last
    # time, but all pages are written, for each has the list of all of them at its side
    arguments = ["-q", "-a", "-W", "--keep-going", "-b", "html", "-c", str(HERE)]
    failed = sphinx([*arguments, "-d", str(BUILT / "doctrees"), str(source), str(html)])
    if not failed:
        size = sum(path.stat().st_size for path in html.rglob("*") if path.is_file())
        took = time.monotonic() - started
        print(f"{html / 'index.html'}: {size / 2**20:.1f} MiB, built in {took:.0f} s")
    return failed


if __name__ == "__main__":
    sys.exit(main())
