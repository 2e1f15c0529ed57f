"""What Sphinx reads: notebooks, RESULTS.md and docs/ as they are stored, but for addresses."""

import json
import re
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
ADDRESS = re.compile(r'^repository = "(https://github\.com/[\w.-]+/[\w.-]+)"$', re.MULTILINE)
PLACEHOLDER = "OWNER/REPOSITORY"
BADGE = re.compile(r"\[!\[[^\]]*\]\([^)]*\)\]\(([^)]*)\)[ \t]*")
LINK = re.compile(r"(?<!!)\[([^\]]*)\]\((?!https?:|#|mailto:)([^)#\s]+)(#[^)\s]*)?\)")
DOCS = sorted((ROOT / "docs").glob("*.md"))
PAGES = {"RESULTS.md": "results.md", "README.md": "index.md"} | {
    f"docs/{path.name}": f"docs/{path.name}" for path in DOCS
}


def notebooks() -> list[Path]:
    """The notebooks, in their order."""
    return sorted((ROOT / "notebooks").glob("[0-9]*.ipynb"))


def title(path: Path) -> str:
    """The first heading of a notebook."""
    for cell in json.loads(path.read_text(encoding="utf-8"))["cells"]:
        found = re.match(r"# (.+)", "".join(cell["source"]))
        if cell["cell_type"] == "markdown" and found:
            return found[1].strip()
    raise ValueError(f"{path.name} has no heading")


def repository() -> str | None:
    """The address of the repository; None while it is a placeholder."""
    found = ADDRESS.search((ROOT / "pyproject.toml").read_text(encoding="utf-8"))[1]
    return None if found.endswith(PLACEHOLDER) else found


def write_notebooks(folder: Path) -> None:
    """The notebooks with addresses that hold in the site."""
    folder.mkdir(parents=True, exist_ok=True)
    for path in notebooks():
        notebook = json.loads(path.read_text(encoding="utf-8"))
        for cell in notebook["cells"]:
            if cell["cell_type"] == "markdown":
                cell["source"] = readdressed("".join(cell["source"]), "notebooks")
        code = [cell for cell in notebook["cells"] if cell["cell_type"] == "code"]
        for cell in code[:1] + [cell for cell in code[1:] if "@title" in "".join(cell["source"])]:
            cell["metadata"]["tags"] = ["hide-input"]  # what Colab needs is one click away
        text = json.dumps(notebook, ensure_ascii=False)
        (folder / path.name).write_text(text, encoding="utf-8")


def readdressed(text: str, folder: str) -> str:
    """Markdown of a file in `folder` of the repository, as a page in the site's own `folder`.

    Badges, whose pictures lie elsewhere, become words. A link to a file that is no page here goes
    to the repository, or becomes words while its address is not known.
    """

    def badge(found):
        return "" if PLACEHOLDER in found[1] else f"[Open in Colab]({found[1]}) "

    def link(found):
        words, target, part = found[1], found[2], found[3] or ""
        path = (ROOT / folder / target).resolve()
        if path in notebooks() or not path.is_relative_to(ROOT):
            return found[0]
        inside = path.relative_to(ROOT).as_posix()
        up = "../" if folder else ""
        if inside in PAGES:
            return f"[{words}]({up}{PAGES[inside]}{part})"
        if repository():
            return f"[{words}]({repository()}/blob/main/{inside}{part})"
        return f"{words} (`{inside}`)"

    return LINK.sub(link, BADGE.sub(badge, text))


def write_results(path: Path) -> None:
    """RESULTS.md, as it is."""
    text = (ROOT / "RESULTS.md").read_text(encoding="utf-8")
    path.write_text(readdressed(text, ""), encoding="utf-8")


def write_docs(folder: Path) -> None:
    """The pages of docs/, as they are."""
    folder.mkdir(parents=True, exist_ok=True)
    for path in DOCS:
        text = readdressed(path.read_text(encoding="utf-8"), "docs")
        (folder / path.name).write_text(text, encoding="utf-8")
