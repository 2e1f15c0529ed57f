"""The answer in the README: `python -m attention.results.readme` writes it anew."""

import re
from pathlib import Path

from attention.files import replacing
from attention.results import report

MARKS = (
    "<!-- results: written by python -m attention.results.readme -->", "<!-- end of results -->",
)  # fmt: skip


def write_readme(path: str | Path, said: str) -> None:
    """Put what is said between the two marks of a Markdown file."""
    path = Path(path)
    text = path.read_text(encoding="utf-8")
    between = re.compile(f"({re.escape(MARKS[0])}\n).*({re.escape(MARKS[1])})", re.DOTALL)
    if not between.search(text):
        raise ValueError(f"{path.name} has no lines {MARKS[0]!r} and {MARKS[1]!r}")
    new = between.sub(lambda found: f"{found[1]}{said}\n{found[2]}", text)
    if new != text:
        with replacing(path) as temporary:
            temporary.write_text(new, encoding="utf-8")


if __name__ == "__main__":
    write_readme(Path(__file__).resolve().parents[2] / "README.md", report.answered(short=True))
