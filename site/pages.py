"""The pages that are written by hand, with their numbers put in when the site is built."""

import re
from collections.abc import Sequence
from pathlib import Path

import evidence
import explorer
import jinja2
import sources

PAGES = Path(__file__).resolve().parent / "pages"


def notebook(word: str) -> str:
    """A link to the notebook whose name has this word; an error if there is none."""
    found = [path for path in sources.notebooks() if f"_{word}" in path.stem]
    if not found:
        raise ValueError(f"no notebook has {word!r} in its name")
    path = found[0]
    number, words = re.fullmatch(r"(\w+)\s*·\s*(.+)", short(path)).groups()
    return f"[notebook {number}, {words}](notebooks/{path.name})"


def short(path: Path) -> str:
    """A notebook's title without the question in it: for the list at the side."""
    return sources.title(path).split(":")[0]


def write(folder: Path, shown: Sequence[dict]) -> None:
    """Every page of pages/, into `folder`. shown: what `explorer.write` has given."""
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(PAGES), undefined=jinja2.StrictUndefined,
        trim_blocks=True, lstrip_blocks=True,
    )  # fmt: skip
    ready = [one for one in shown if one["networks"]]
    context = {
        "notebook": notebook, "notebooks": sources.notebooks(), "short": short,
        "evidence": evidence, "shown": shown, "scale": explorer.scale(),
        "ready": ready, "missing": [one for one in shown if not one["networks"]],
        "measured": explorer.MEASURED, "folds": explorer.FOLDS,
    }  # fmt: skip
    for path in sorted(PAGES.glob("*.md")):
        text = environment.get_template(path.name).render(**context)
        (folder / path.name).write_text(text, encoding="utf-8")
