"""Records into tables, and what the repository reports: README, addresses, notebooks."""

import json
import re
import subprocess

import nbformat
import pandas as pd
import pytest
from address import ROOT, address, change, places

from attention.results import readme
from attention.results import tables as records


def record(name, seed, accuracy, seconds, dataset="shapes10"):
    return {
        "name": name,
        "run": {"seed": seed, "epochs": 2},
        "dataset": {"name": dataset, "train_images": 100, "test_images": 50},
        "result": {"test_accuracy": accuracy, "parameters": 1000, "flops": 2_500_000},
        "cost": {"seconds": seconds, "images_per_second": 10.0},
        "machine": {"hardware": "abacus", "threads": 2, "precision": "float32"},
    }


def rows_of(text):
    lines = [line for line in text.splitlines() if line.startswith("|")]
    return [[cell.strip() for cell in line.split("|")[1:-1]] for line in lines]


def test_markdown_keeps_datasets_apart_and_marks_single_runs():
    text = readme.markdown([record("a", 0, 80.0, 10), record("a", 0, 50.0, 10, "flowers")])
    assert text.count("| network") == 2
    assert "**shapes10**, 100 training images, 2 epochs" in text and "**flowers**" in text
    [row] = [row for row in rows_of(text) if "80.00" in row]
    assert row == ["a", "1", "80.00", "–", "1,000", "2.5"]


def test_markdown_gives_intervals_differences_and_costs():
    values = {"net (plain)": (80.0, 82.0), "net + a": (84.0, 86.5)}
    runs = [record(n, seed, v, 10) for n, row in values.items() for seed, v in enumerate(row)]
    costs = pd.DataFrame({"step_ms": [12.3], "latency_ms": [4.0], "memory_mib": [7.0]}, ["net + a"])
    plain, block = rows_of(readme.markdown(runs, costs))[2:4]
    # with two seeds: t = 12.706 (97.5 %, one degree of freedom) times half the distance
    assert plain[:6] == ["net (plain)", "2", "81.00", "68.3 to 93.7", "–", "–"]
    assert block[1:6] == ["2", "85.25", "69.4 to 101.1", "+4.25 *", "+1.1 to +7.4"]
    assert plain[-3:] == ["–", "–", "–"] and block[-3:] == ["12", "4.00", "7"]


def test_advice_names_the_cheapest_that_is_as_good_as_the_best():
    values = {"net (plain)": (80.0, 81.0, 82.0), "net + a": (80.2, 80.9, 82.3),
              "net + b": (84.0, 85.1, 86.0)}  # fmt: skip
    runs = [record(n, seed, v, 10) for n, row in values.items() for seed, v in enumerate(row)]
    costs = pd.DataFrame({"step_ms": [10.0, 10.1, 14.0], "latency_ms": [1.0, 1.0, 2.0],
                          "memory_mib": [5.0, 5.0, 5.0]}, list(values))  # fmt: skip
    text = readme.markdown(runs, costs)
    rows = {row[0]: row[1:] for row in rows_of(text) if "≤" in row[0]}
    cheap, dear = rows["step (ms) ≤ 11.0 (plain × 1.1)"], rows["step (ms) ≤ 15.0 (plain × 1.5)"]
    assert cheap[0] == "net (plain)" and cheap[2] == "a" and cheap[3] == "−0.13"
    assert dear == ["b", "85.03", "b", "–", "–", "1"]
    one = [run for run in runs if run["run"]["seed"] == 0]
    assert "≤" not in readme.markdown(one, costs)  # one seed is no ground for advice


def test_runs_of_two_machines_stand_in_one_table_that_names_both():
    runs = [record("a", seed, 80.0 + seed, 10) for seed in range(3)]
    runs[0]["machine"] = {"hardware": "slide rule", "threads": 1, "precision": "bfloat16"}
    text = readme.markdown(runs)
    assert "seed 0 on slide rule, bfloat16; seed 1, 2 on abacus, float32:" in text
    assert text.count("| network") == 1


def test_what_is_chosen_by_or_explained_is_not_among_the_results(tmp_path):
    (tmp_path / "runs").mkdir()
    (tmp_path / "benchmarks").mkdir()
    for name in ("flowers", "flowers-validation", "flowers-random-labels", "shapes10"):
        text = json.dumps(record("a", 0, 80.0, 10, name))
        (tmp_path / "runs" / f"{name}.json").write_text(text)
    row = {"name": "a", "step_ms": 1.0, "time": 1.0, "latency_ms": 1.0, "memory_mib": 1.0}
    machine = {"hardware": "abacus", "threads": 2, "precision": "float32"}
    measured = {"machine": machine, "rounds": 3, "batch_size": 8, "rows": [row]}
    (tmp_path / "benchmarks" / "mechanisms.json").write_text(json.dumps(measured))
    text = readme.report(tmp_path)
    assert text.count("| network") == 1 and "**flowers**" in text
    (tmp_path / "benchmarks" / "mechanisms.json").unlink()  # nobody has measured costs
    assert readme.report(tmp_path).count("| network") == 1
    (tmp_path / "runs" / "flowers.json").unlink()
    assert readme.report(tmp_path).startswith("No run has a record yet")


def test_readme_is_written_between_the_marks_only(tmp_path):
    path = tmp_path / "README.md"
    path.write_text(f"before\n{readme.MARKS[0]}\nold\n{readme.MARKS[1]}\nafter\n")
    readme.write_readme(path, "new")
    text = path.read_text()
    assert text.startswith(f"before\n{readme.MARKS[0]}\nnew")
    assert text.endswith(f"{readme.MARKS[1]}\nafter\n") and "old" not in text
    path.write_text("no marks")
    with pytest.raises(ValueError, match="has no lines"):
        readme.write_readme(path, "new")


def test_a_file_that_is_no_record_is_named(tmp_path):
    (tmp_path / "good.json").write_text(json.dumps(record("a", 0, 80.0, 10)))
    assert len(records.read(tmp_path)) == 1
    (tmp_path / "bad.json").write_text('{"name": "a"')
    with pytest.raises(ValueError, match="bad.json .* is not a record"):
        records.read(tmp_path)


def committed_files():
    command = ["git", "ls-files", "data/runs", "data/benchmarks"]
    listed = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    if listed.returncode:
        pytest.skip("not a git checkout: which records are committed is not known")
    return listed.stdout.split()


def test_the_tables_in_the_readme_are_those_of_the_committed_records(tmp_path):
    for name in committed_files():  # one's own runs, which lie beside them, do not count
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_bytes((ROOT / name).read_bytes())
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    shown = text.split(f"{readme.MARKS[0]}\n")[1].split(f"\n{readme.MARKS[1]}")[0]
    assert shown == readme.report(tmp_path / "data"), "stale: run `make results`"


def test_every_address_is_the_one_in_pyproject():
    slug = address()
    for path in places():
        text = path.read_text(encoding="utf-8")
        named = set(re.findall(r"github(?:\.com)?/([\w.-]+/[\w.-]+?)(?=[/\"\\\s)]|$)", text))
        assert named == {slug}, path.name


def test_the_address_is_changed_everywhere_at_once(tmp_path):
    for path in places():
        copy = tmp_path / path.relative_to(ROOT)
        copy.parent.mkdir(exist_ok=True)
        copy.write_text(path.read_text(encoding="utf-8"), encoding="utf-8")
    old = address()
    change("somebody/some.where", tmp_path)
    for path in places(tmp_path):
        text = path.read_text(encoding="utf-8")
        assert "somebody/some.where" in text and old not in text
    with pytest.raises(SystemExit, match="expected owner/repository"):
        change("https://github.com/a/b", tmp_path)


NOTEBOOKS = [path for path in places() if path.suffix == ".ipynb"]


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_a_committed_notebook_shows_one_clean_run_and_no_machine(path):
    notebook = nbformat.read(path, as_version=4)
    code = [cell for cell in notebook.cells if cell.cell_type == "code"]
    assert [cell.execution_count for cell in code] == list(range(1, len(code) + 1))
    shown = json.dumps([cell.outputs for cell in code])
    assert '"output_type": "error"' not in shown and '"stderr"' not in shown
    assert not re.search(r"/(home|root|tmp|Users|content|work)/", shown)
    assert "READING_" not in path.read_text(encoding="utf-8")
    assert max(len(cell.source.splitlines()) for cell in code) <= 25
    pictures = sum("image/png" in o.get("data", {}) for cell in code for o in cell.outputs)
    assert pictures >= 3
    assert "cifar10-jpeg75" in shown
