"""Records into tables, and what the repository reports: README, addresses, notebooks."""

import json
import re

import nbformat
import pandas as pd
import pytest
from address import ROOT, address, change, places
from invented import block, record, study

from attention import results
from attention.files import load_weights, write_record
from attention.networks import SETTINGS
from attention.results import everything, readme, report, statistics, trials
from attention.results.tables import DESCRIBING
from attention.study import grids

PLAIN = "fast-16 (plain)"


def rows_of(text):
    lines = [line for line in text.splitlines() if line.startswith("|")]
    return [[cell.strip() for cell in re.split(r"(?<!\\)\|", line)[1:-1]] for line in lines]


def test_a_frame_has_a_row_a_record_and_names_are_not_taken_apart():
    records = [
        record("any name + at all", 3, 81.5, width=None),
        block("cbam", 0, 82.0, family="both", options={"variant": "official"}, at="stage",
              stages=[1, 2], sessions=2),
        block("mine", 0, 83.0, family="own"),
    ]  # fmt: skip
    table = results.frame(records)
    assert pd.isna(table.block[0]) and table.block.to_list()[1:] == ["cbam", "mine"]
    assert table.family.to_list() == ["plain", "both", "own"]
    assert table.width.isna()[0] and table.width[1] == 16
    assert pd.isna(table.place[0]) and table.place.to_list()[1:] == [
        "stage, stages 1, 2",
        "residual",
    ]
    assert table.options[1] == {"variant": "official"} and table.mflops[0] == 2.5
    assert table.precision.to_list() == ["float32", "bfloat16, then float32", "float32"]
    assert table.seed[0] == 3 and table.test_accuracy[2] == 83.0
    assert set(DESCRIBING) < set(table.columns)
    assert results.frame([]).empty
    usual = {"learning_rate": 0.75, "batch_size": 512}
    other = {"learning_rate": 0.1 * 3, "batch_size": 64, "optimizer": "adamw"}
    told = results.frame([record(**usual), record(**other)]).recipe.to_list()
    assert told == ["", "optimizer adamw, batch size 64, learning rate 0.3"]


def test_labels_say_what_is_needed_to_tell_networks_apart():
    def short(*records):
        return list(results.labels(results.frame(records)).values())

    assert short(record(), block("se")) == [PLAIN, "se"]
    official = block("cbam", options={"variant": "official"})
    official["name"] = "fast-16 + cbam (official)"
    assert short(block("cbam"), official) == ["cbam", "cbam (official)"]
    pools = block("cbam", options={"pools": ["avg", "max"], "kernel_size": 3})
    assert short(pools) == ["cbam (pools avg, max; kernel_size 3)"]
    ours = SETTINGS["hybrid"]["options"]
    assert short(block("hybrid", family="hybrid", options=ours)) == ["hybrid"]
    [another] = short(block("hybrid", family="hybrid", options=ours | {"reduction": 2}))
    assert another.endswith("reduction 2)") and "channel " in another
    after = block("cbam", at="stage")
    after["name"] = "fast-16 + cbam (at stage)"
    assert short(block("cbam"), after) == ["cbam (residual)", "cbam (stage)"]
    other = block("se")
    other["name"] = "resnet20 + se"
    assert short(block("se"), other) == [
        "fast-16 + se",
        "resnet20 + se",
    ]
    assert results.labels(pd.DataFrame({"name": ["a + b"]})) == {"a + b": "a + b"}
    means = statistics.means(results.frame([record(), block("se")]))  # names as the index
    assert results.labels(means) == {PLAIN: PLAIN, "fast-16 + se": "se"}


def test_tables_made_of_a_table_keep_what_describes_a_network():
    table = results.frame(study({PLAIN: (70, 71, 72), "fast-16 + se": (71, 72.5, 74)}))
    pairs = statistics.paired(table, PLAIN)
    tables = [statistics.means(table), pairs, statistics.pooled(table, PLAIN),
              statistics.versus(table, "fast-16 + se", [PLAIN]), statistics.matched(table, [PLAIN]),
              statistics.equivalence(pairs, 1), results.ranking.ranks(table).table]  # fmt: skip
    for made in tables:
        assert set(DESCRIBING) < set(made.columns)
        assert (made.family == made.index.map({PLAIN: "plain", "fast-16 + se": "channel"})).all()


def test_histories_have_a_row_an_epoch_and_one_setting():
    records = [record("a", 0, 41, history=[10, 40]), record("a", 1, 51, history=[30, 50])]
    table = results.histories(records)
    assert table.train_accuracy.to_list() == [10, 40, 30, 50]
    assert table.test_accuracy.to_list() == [41, 41, 51, 51]
    with pytest.raises(ValueError, match="one record a seed of a"):
        results.histories([*records, record("a", 1, history=[1, 2])])
    with pytest.raises(ValueError, match="one setting .* of b"):
        results.histories([record("b", 0, history=[1]), record("b", 1, history=[1, 2])])
    with pytest.raises(ValueError, match="records: expected at least one"):
        results.histories([])


def test_plain_networks_are_those_of_the_family_the_smallest_first():
    table = results.frame(
        [record("wide", parameters=9), record("narrow", parameters=5), block("se")]
    )
    assert results.plain_networks(table) == ["narrow", "wide"]
    with pytest.raises(ValueError, match="got 'family'"):
        results.plain_networks(pd.DataFrame({"name": ["a"]}))


def test_beside_puts_a_networks_columns_on_each_of_its_runs():
    table = results.frame(study({PLAIN: (70, 71), "fast-16 + se": (71, 72)}))
    columns = pd.DataFrame({"step_ms": [5.0], "parameters": [1]}, index=["fast-16 + se"])
    rows = results.beside(table, columns)
    assert rows.step_ms.to_list()[2:] == [5, 5] and len(rows) == 4
    assert rows.parameters.to_list()[2:] == [1, 1]  # replaced, not doubled
    assert rows.step_ms.isna().to_list()[:2] == [True, True]


def test_markdown_keeps_datasets_apart_and_marks_single_runs():
    text = everything.markdown([record(), record("fast-16 (plain)", 0, 50.0, "shapes")])
    assert text.count("| network") == 2
    assert "**shapes**, 100 training images, 2 epochs" in text and "**flowers**" in text
    [row] = [row for row in rows_of(text) if "80.00" in row]
    assert row[:4] == [PLAIN, "1", "80.00", "–"] and row[-2:] == ["1,000", "2.5"]


def test_markdown_gives_intervals_differences_and_costs():
    runs = study({PLAIN: (80.0, 81.0, 82.0), "fast-16 + a": (84.0, 85.0, 86.5)})
    costs = pd.DataFrame({"step_ms": [12.3], "latency_ms": [4.0], "memory_mib": [7.0]},
                         ["fast-16 + a"])  # fmt: skip
    heading, _, better, plain = rows_of(everything.markdown(runs, costs))[:4]
    # with three seeds: t = 4.303 (97.5 %, two degrees of freedom) times spread / √3
    assert plain[:6] == [PLAIN, "3", "81.00", "78.5 to 83.5", "–", "–"]
    assert better[:6] == ["a", "3", "85.17", "82.0 to 88.3", "+4.17", "+4.17"]
    assert plain[-3:] == ["–", "–", "–"] and better[-3:] == ["12", "4.00", "7"]
    assert heading[4:6] == ["minus plain", "minus plain of its size"]


def test_only_the_answer_tests_anything():
    """One test for one claim: what is beside the plan has differences, and no test of them."""
    text = report.text(ROOT / "data")
    before, after = text.split("## Every network that was trained")
    for heading in ("p (Holm) |", "its interval |", "verdict |"):
        assert heading in before and heading not in after


def test_advice_names_the_cheapest_that_is_shown_to_be_as_good_as_the_best():
    values = {PLAIN: (80.0, 81.0, 82.0), "fast-16 + a": (80.2, 81.1, 82.3),
              "fast-16 + b": (84.0, 85.1, 86.0)}  # fmt: skip
    costs = pd.DataFrame({"step_ms": [10.0, 10.1, 14.0], "latency_ms": [1.0, 1.0, 2.0],
                          "memory_mib": [5.0, 5.0, 5.0]}, list(values))  # fmt: skip
    runs = results.frame(study(values)).assign(role=["plain"] * 3 + ["block"] * 6)
    text = report.advice(results.beside(runs, costs))
    rows = {row[0]: row[1:] for row in rows_of(text) if "≤" in row[0]}
    cheap, dear = rows["step (ms) ≤ 11.0 (plain × 1.1)"], rows["step (ms) ≤ 15.0 (plain × 1.5)"]
    # 0.2 ± 0.1, with t = 2.92: at least −0.20 − 2.92 · 0.1 / √3
    assert cheap == [PLAIN, "81.00", "a", "−0.20", "−0.37", "2"]
    assert dear == ["b", "85.03", "b", "–", "–", "1"]


def test_runs_of_two_machines_stand_in_one_table_that_names_both():
    runs = [record(seed=seed, accuracy=80.0 + seed) for seed in range(3)]
    runs[0]["cost"]["sessions"][0] |= {"hardware": "slide rule", "precision": "bfloat16"}
    text = everything.markdown(runs)
    assert "seed 0 on slide rule, bfloat16; seed 1, 2 on abacus, float32:" in text
    assert text.count("| network") == 1


def test_what_markdown_would_read_as_its_own_is_escaped():
    text = everything.markdown([block("a|b<script>")])
    assert r"a\|b&lt;script&gt;" in text and "<script>" not in text


def test_what_is_chosen_by_or_explained_is_not_among_the_results(tmp_path):
    for name in ("flowers", "flowers-validation", "flowers-random-labels"):
        write_record(tmp_path / "runs" / f"{name}.json", record(dataset=name))
    row = {"name": PLAIN, "step_ms": 1.0, "time": 1.0, "latency_ms": 1.0, "memory_mib": 1.0}
    machine = {"hardware": "abacus", "threads": 2, "precision": "float32"}
    measured = {"machine": machine, "rounds": 3, "batch_size": 8, "rows": [row]}
    write_record(tmp_path / "benchmarks" / "mechanisms.json", measured)
    text = everything.text(tmp_path)
    assert text.count("| network") == 1 and "**flowers**" in text
    assert "Step: one training step, 8 images of 32×32" in text and "3 rounds, on abacus, 2" in text
    beside = everything.held_out(tmp_path)
    assert beside.count("| network") == 1 and "**flowers-validation**" in beside
    assert everything.held_out(tmp_path / "nowhere") == ""
    (tmp_path / "benchmarks" / "mechanisms.json").write_text("{}")
    with pytest.raises(ValueError, match="mechanisms.json"):
        everything.text(tmp_path)
    (tmp_path / "benchmarks" / "mechanisms.json").unlink()  # nobody has measured costs
    assert everything.text(tmp_path).count("| network") == 1
    (tmp_path / "runs" / "flowers.json").unlink()
    assert everything.text(tmp_path) == ""


def test_hybrids_that_were_chosen_among_are_told_by_their_parts():
    tables = everything.held_out(ROOT / "data").split("**cifar10-jpeg75-validation**")[1:]
    shown = [[row[0] for row in rows_of(table)] for table in tables]  # a table for each recipe
    assert all(len(set(rows)) == len(rows) and "resnet20 (plain)" in rows for rows in shown)
    own = trials.described(SETTINGS["hybrid"]["options"])
    assert own in shown[0] and not any(row.startswith("hybrid") for row in sum(shown, []))


def test_the_networks_whose_maps_notebook_9_shows_come_trained(monkeypatch):
    """With their records alone a fresh clone would train them again, for minutes."""
    monkeypatch.setenv("ATTENTION_PROFILE", "quick")
    question, setting = "CBAM: attention inside", "dot product as the spatial gate"
    runs = grids.chosen("cbam"), grids.ablation(question, setting)
    wanted = [run.resolved().plain() for run in runs]
    for path in (ROOT / "data/runs/cifar10-jpeg75-validation").glob("*-seed100-*.json"):
        kept = json.loads(path.read_text(encoding="utf-8"))
        if kept["run"] in wanted:
            wanted.remove(kept["run"])
            assert load_weights(path.with_suffix(".safetensors"), kept["result"]["weights"])
    assert not wanted


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
    committed = (ROOT / "README.md").read_text(encoding="utf-8")
    assert all(committed.count(mark) == 1 for mark in readme.MARKS)


def test_a_file_that_is_no_record_is_named(tmp_path):
    write_record(tmp_path / "good.json", record())
    assert len(results.read(tmp_path)) == 1
    (tmp_path / "bad.json").write_text('{"name": "a"')
    with pytest.raises(ValueError, match="bad.json .* is not a record"):
        results.read(tmp_path)


# Projects that a page links to: the authors' code of the mechanisms, and libraries.
OTHERS = {
    "hujie-frank/SENet", "BangguWu/ECANet", "Jongchan/attention-module",
    "ai-med/squeeze_and_excitation", "facebookresearch/video-nonlocal-net", "xvjiarui/GCNet",
    "zhanghang1989/PyTorch-Encoding", "Andrew-Qibin/CoordAttention", "ZjjConan/SimAM",
    "google-research/vision_transformer", "facebookresearch/detr", "ramprs/grad-cam",
    "leaderj1001/Stand-Alone-Self-Attention", "huggingface/pytorch-image-models",
}  # fmt: skip


def test_every_address_is_the_one_in_pyproject():
    slug = address()
    for path in places():
        text = path.read_text(encoding="utf-8")
        named = set(re.findall(r"github(?:\.com)?/([\w.-]+/[\w.-]+?)(?=[/\"\\\s)]|$)", text))
        assert named - OTHERS == {slug}, path.name


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


def test_accuracies_in_the_boxes_of_notebooks_are_those_of_the_records():
    kept = [json.loads(p.read_text()) for p in ROOT.glob("data/runs/cifar10-jpeg75/*.json")]
    seen = {
        record["run"]["block"] or "plain": record["result"]["test_accuracy"]
        for record in kept
        if record["name"].startswith(("resnet20 (", "resnet20 +"))  # not of another width
        and not record["run"]["seed"] and record["run"]["options"] in ({}, {"reduction": 4})
    }  # fmt: skip
    said = [(name, accuracy) for path in NOTEBOOKS
            for cell in nbformat.read(path, as_version=4).cells if "What we saw" in cell.source
            for name, accuracy in re.findall(r"(\w+) (\d\d\.\d\d) %", cell.source)]  # fmt: skip
    assert len(said) >= 6
    assert all(f"{seen[name.lower()]:.2f}" == accuracy for name, accuracy in said)
