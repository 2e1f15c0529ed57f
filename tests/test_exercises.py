"""The exercises: open ones stop nothing, the solutions are right, the usual mistakes are not."""

import contextlib
import io
import re
import sys
from pathlib import Path

import nbformat
import pytest
import torch
from torch import nn

import attention
from attention.exercises import EXERCISES, check, digests_of, leaderboard
from attention.training import compared

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT / "solutions"))

import editions  # noqa: E402

NOTEBOOKS = sorted((ROOT / "notebooks").glob("*.ipynb"))
PAGES = sorted((ROOT / "solutions").glob("*.md"))
IMPORT = "from attention.exercises import check"


def number(path):
    """What a notebook's name begins with: "06b" of 06b_vision_transformer."""
    return path.stem.split("_")[0]


def read(path):
    return nbformat.read(path, as_version=4)


def printed(source, namespace):
    with contextlib.redirect_stdout(io.StringIO()) as said:
        exec(compile(source, "a cell", "exec"), namespace)
    return said.getvalue().strip()


@pytest.mark.parametrize("path", NOTEBOOKS, ids=number)
def test_the_solutions_are_right_and_the_mistakes_are_not(path, own_home):
    notebook = read(path)
    parts = editions.sections(ROOT / "solutions" / f"{path.stem}.md")
    places, namespace = editions.asked(notebook), {"__name__": "a_notebook"}
    imports = [cell.source for cell in notebook.cells if IMPORT in cell.source]
    printed(imports[0], namespace)  # an exercise needs this cell, and none behind it
    for key, place in places.items():
        cell = notebook.cells[place]
        assert printed(cell.source, namespace) == f"{key}: not answered yet."
        assert cell.outputs[0].text == f"{key}: not answered yet.\n"
        tags = [tag for cell in parts[key] for tag in cell.metadata.tags]
        assert tags.count("solution") == 1 and tags.count("mistake") >= 1, key
        for cell in parts[key]:
            if cell.cell_type == "code":
                says = printed(cell.source, namespace)
                begins = f"{key}: right." if "solution" in cell.metadata.tags else f"{key}: not yet"
                lines = (
                    1 if "solution" in cell.metadata.tags else 3
                )  # what is wrong, wanted, a hint
                assert says.startswith(begins), f"{cell.source}\n{says}"
                assert len(says.splitlines()) == lines


def test_every_notebook_has_its_exercises_and_its_page():
    assert [page.stem for page in PAGES] == [path.stem for path in NOTEBOOKS]
    found = [key for path in NOTEBOOKS for key in editions.asked(read(path))]
    assert sorted(found) == sorted(EXERCISES) and len(set(found)) == len(found)
    for path in NOTEBOOKS:
        keys = list(editions.asked(read(path)))
        assert keys == [f"{number(path)}.{place}" for place in range(1, len(keys) + 1)]
        assert len(keys) >= 4


def test_the_table_for_teachers_has_the_minutes_and_marks_of_the_pages():
    text = (ROOT / "docs" / "teachers.md").read_text(encoding="utf-8")
    rows = [re.split(r" *\| *", line)[1:-1] for line in text.splitlines() if line.startswith("|")]
    said = list(zip(*(row[1:] for row in rows if "---" not in row[0]), strict=True))
    assert [name for name, *_ in said] == [number(page).lstrip("0") or "0" for page in PAGES]
    for (_, read_and_run, exercises, marks), page in zip(said, PAGES, strict=True):
        wanted = r"\*\*Minutes.\*\* (\d+) to read .*?(\d+) for the .*?\*\*Marks:\*\* (\d+)"
        found = re.search(wanted, page.read_text(encoding="utf-8"), re.DOTALL)
        assert found.groups() == (read_and_run, exercises.partition(",")[0], marks), page.stem


@pytest.mark.parametrize("page", PAGES, ids=number)
def test_the_page_for_the_teacher(page):
    text = page.read_text(encoding="utf-8")
    for heading in ("**Aims.**", "**Minutes.**", "**Usual mistakes.**"):
        assert heading in text
    marks = [int(mark) for _, mark in editions.SECTION.findall(text)]
    assert int(re.search(r"\*\*Marks:\*\* (\d+)", text)[1]) == sum(marks)


def test_both_editions(tmp_path, capsys):
    editions.main(tmp_path)
    for path in NOTEBOOKS:
        given, whole = (
            read(tmp_path / "student" / path.name),
            read(tmp_path / "teacher" / path.name),
        )
        assert given == read(path)  # what is handed out is what stands in notebooks/
        left = [c for c in whole.cells if not set(c.metadata.get("tags", [])) & set(editions.TAGS)]
        assert left == given.cells
        nbformat.validate(whole)
        said = number(path).lstrip("0") or "0"
        assert whole.cells[0].source.startswith(f"# {said} · For the teacher")
        for key, place in editions.asked(whole).items():
            behind = whole.cells[place + 1]
            assert behind.source.startswith(f"## {key} (") and behind.metadata.tags == ["teacher"]


def test_what_is_tagged_in_a_notebook_is_not_handed_out():
    notebook = nbformat.v4.new_notebook(cells=[
        nbformat.v4.new_code_cell("answer = 42", metadata={"tags": ["solution"]}),
        nbformat.v4.new_code_cell("answer = None", metadata={"tags": ["nbval-ignore-output"]}),
    ])  # fmt: skip
    assert [cell.source for cell in editions.student(notebook).cells] == ["answer = None"]


def test_an_exercise_without_a_solution_is_named():
    notebook = read(NOTEBOOKS[0])
    parts = editions.sections(PAGES[0])
    with pytest.raises(ValueError, match=r"in pairs: 00\.2"):
        editions.teacher(notebook, {key: part for key, part in parts.items() if key != "00.2"})


@pytest.mark.parametrize(
    ("answer", "says"),
    [
        (None, "not answered yet."),
        ((None, 1.0), "not answered yet."),
        ("four", "2 numbers are asked for"),
        (("four", 10.125), "TypeError: a number is asked for, 'four' came"),
        ((0.375,), "2 numbers are asked for, 1 came"),
        ((0.375, 3.4), "other numbers are right in the places 2"),
        ((torch.tensor(0.375), 10.1251), "right."),
        ((float("nan"), 10.125), "a number is asked for, nan came"),
        (torch.ones(3, 3), "not yet"),
    ],
)
def test_check_says_how_an_answer_is(answer, says, capsys):
    check("00.2", answer)
    said = capsys.readouterr().out
    assert said.startswith("00.2: ") and says in said


def test_a_key_that_there_is_not_is_named():
    with pytest.raises(ValueError, match="99.1"):
        check("99.1", 1)


def test_a_check_leaves_the_block_and_the_random_numbers_alone(capsys):
    block = attention.CBAM(32).train()
    before = {name: value.clone() for name, value in block.state_dict().items()}
    state = torch.random.get_rng_state()
    check("03.3", block)
    assert torch.equal(torch.random.get_rng_state(), state) and block.training
    assert all(torch.equal(before[name], value) for name, value in block.state_dict().items())


@pytest.mark.parametrize(("answer", "step"), [(7, 0), (0.335, 0.01), ((1.5, -2), 0.1), ("bd", 0)])
def test_a_digest_is_of_one_place(answer, step):
    assert digests_of("01.1", answer, step) != digests_of("01.2", answer, step)
    assert len(set(digests_of("01.1", (3, 3)))) == 2


class Mine(nn.Module):
    def __init__(self, channels):
        super().__init__()
        self.gate = attention.Gate("channel")

    def forward(self, x):
        return x * self.gate(x.std((2, 3), keepdim=True))


def test_the_leaderboard(own_home, monkeypatch):
    data = attention.data.shapes10(100, 10)
    assert leaderboard(data).empty and not list(own_home.rglob("*.json"))  # nothing was trained
    board = leaderboard(data, [Mine])
    assert len(board) == 3 and board.held_out.is_monotonic_decreasing and (board.seeds == 1).all()
    assert list(board.index[board.yours]) == [name for name in board.index if "Mine" in name]
    plain = board[board.index.str.contains("plain")].iloc[0]
    assert plain.minus_plain == 0
    assert ((board.held_out - plain.held_out) - board.minus_plain).abs().max() < 1e-9

    # another setting does not stand on it, and nothing is trained twice
    held = attention.data.held_out(data)
    other = compared("eca", learning_rate=0.01)
    attention.fit(other, held, progress=False)
    records = sorted(own_home.rglob("data/runs/**/*.json"))
    assert leaderboard(data, [Mine]).equals(board)
    assert sorted(own_home.rglob("data/runs/**/*.json")) == records

    monkeypatch.setattr(
        Mine, "forward", lambda self, x: x * self.gate(x.amax((2, 3), keepdim=True))
    )
    again = leaderboard(data, [Mine])
    assert len(again) == 4 and again.index.str.contains("earlier").sum() == 1
