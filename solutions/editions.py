"""Both editions of the notebooks: python solutions/editions.py, or make editions.

student    editions/student: the notebooks as they are in notebooks/, less any cell that is tagged
           "solution", "mistake" or "teacher"
teacher    editions/teacher: the same, with the page of solutions/<notebook>.md in front, and behind
           every exercise its solution, the usual mistakes and the marks

A file in solutions/ is a page for the teacher and then a section for each exercise, headed
"## 01.3 (2 marks)". Its code is fenced with a tag, ```python tags=["solution"]: jupytext reads it.
"""

import re
import sys
from collections.abc import Iterator
from pathlib import Path

import jupytext
import nbformat
from nbconvert.preprocessors import TagRemovePreprocessor
from nbformat import NotebookNode

SOLUTIONS = Path(__file__).resolve().parent
ROOT = SOLUTIONS.parent
TAGS = ("solution", "mistake", "teacher")
SECTION = re.compile(r"## (\d\d\w?\.\d+) \((\d+) marks?\)")


def sections(path: Path) -> dict[str, list[NotebookNode]]:
    """{"": the cells of the page, "01.1": those of an exercise, …}; each cell with a tag."""
    text = path.read_text(encoding="utf-8")
    found, key = {"": []}, ""
    for cell in jupytext.reads(text, fmt={"extension": ".md", "split_at_heading": True}).cells:
        if cell.cell_type == "markdown" and (section := SECTION.match(cell.source)):
            key = section[1]
            if key in found:
                raise ValueError(f"{path.name}: {key} stands there twice")
            found[key] = []
        cell.metadata.setdefault("tags", ["teacher"])
        if not set(cell.metadata.tags) & set(TAGS):
            raise ValueError(f"{path.name}: {key}: a cell must be tagged one of {', '.join(TAGS)}")
        found[key].append(cell)
    return found


def asked(notebook: NotebookNode) -> dict[str, int]:
    """{"01.3": the number of the cell that checks the answer}"""
    checks = (
        (number, re.search(r'^check\("(.+?)", answer\)', cell.source, re.M))
        for number, cell in enumerate(notebook.cells)
        if cell.cell_type == "code"
    )
    return {check[1]: number for number, check in checks if check}


def teacher(notebook: NotebookNode, solutions: dict[str, list[NotebookNode]]) -> NotebookNode:
    """The notebook with the page in front and each solution behind its exercise."""
    places = asked(notebook)
    if places.keys() != solutions.keys() - {""}:
        unlike = sorted(places.keys() ^ (solutions.keys() - {""}))
        raise ValueError(f"exercise and solution must come in pairs: {', '.join(unlike)}")
    behind = {number: solutions[key] for key, number in places.items()}
    cells = list(solutions[""])
    for number, cell in enumerate(notebook.cells):
        cells += [cell, *behind.get(number, [])]
    whole = nbformat.from_dict({**notebook, "cells": cells})
    for number, cell in enumerate(cells):
        if set(cell.metadata.get("tags", [])) & set(TAGS):
            cell.id = f"teacher-{number}"  # the same each time
    return whole


def student(notebook: NotebookNode) -> NotebookNode:
    """The notebook less what is for the teacher."""
    stripped, _ = TagRemovePreprocessor(remove_cell_tags=set(TAGS)).preprocess(notebook, {})
    return stripped


def editions() -> Iterator[tuple[str, NotebookNode, NotebookNode]]:
    """(file name, student's edition, teacher's edition) of each notebook."""
    for path in sorted((ROOT / "notebooks").glob("*.ipynb")):
        notebook = nbformat.read(path, as_version=4)
        whole = teacher(notebook, sections(SOLUTIONS / f"{path.stem}.md"))
        yield path.name, student(nbformat.from_dict(whole)), whole


def main(folder: Path) -> None:
    for name, handed_out, whole in editions():
        for edition, notebook in (("student", handed_out), ("teacher", whole)):
            (folder / edition).mkdir(parents=True, exist_ok=True)
            nbformat.write(notebook, folder / edition / name)
        print(f"{name}: {len(whole.cells) - len(handed_out.cells)} cells for the teacher alone")
    print(f"both editions: {folder}")


if __name__ == "__main__":
    main(Path(sys.argv[1]) if len(sys.argv) > 1 else ROOT / "editions")
