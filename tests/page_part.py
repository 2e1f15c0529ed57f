"""The parts of docs/your_network.md that a table in tests/ writes, between two marks."""

from address import ROOT

from attention.files import replacing

PAGE = ROOT / "docs" / "your_network.md"


def between(marks: tuple[str, str]) -> tuple[str, str, str]:
    """What stands on the page before, between and behind the marks."""
    before, rest = PAGE.read_text(encoding="utf-8").split(marks[0])
    inside, behind = rest.split(marks[1])
    return before + marks[0], inside, marks[1] + behind


def write(marks: tuple[str, str], table: str) -> None:
    """Put the table between the marks."""
    before, _, behind = between(marks)
    with replacing(PAGE) as temporary:
        temporary.write_text(before + table + behind, encoding="utf-8")
