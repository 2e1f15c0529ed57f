"""Networks that were trained for longer as well, beside themselves and beside plain."""

import pandas as pd
from address import ROOT
from invented import block, record, study

from attention import figures, results
from attention.files import write_record
from attention.networks import SETTINGS
from attention.results import lengths, plan, report
from attention.study import grids

SHORT, LONG = (50.0, 60.0), (50.0, 60.0, 70.0, 80.0)


def trained():
    return [
        record("plain net", 0, 80.0, history=SHORT),
        block("se", 0, 80.5, history=SHORT),
        block("eca", 0, 99.0, history=SHORT),  # of one length alone
        block("se", 0, 84.75, history=LONG, epochs=4),
        record("plain net", 0, 85.0, history=LONG, epochs=4),
        record("plain net", 1, 10.0, history=SHORT),
    ]


def test_each_length_stands_beside_the_shortest_and_beside_plain_of_the_same_length():
    table = lengths.by_length(trained())
    assert list(table.epochs) == [2] * 2 + [4] * 4 + [2] * 2 + [4] * 4
    found = lengths.ends(table)
    se = "fast-16 + se"
    assert list(found.index) == [("plain net", 2), ("plain net", 4), (se, 2), (se, 4)]
    assert list(found.test_accuracy) == [80.0, 85.0, 80.5, 84.75]
    assert list(found.train_accuracy) == [60.0, 80.0, 60.0, 80.0] and (found.seeds == 1).all()
    assert list(found.longer) == [0, 5.0, 0, 4.25]
    assert list(found.minus_plain.loc[se]) == [0.5, -0.25]
    assert found.minus_plain.loc["plain net"].isna().all()
    assert lengths.sentence(table) == (
        "Trained for 4 epochs in place of 2 (one seed, exploratory): plain net 85.00 % (+5.00); "
        "se 84.75 % (+4.25), −0.25 beside the network without a block (+0.50 before)."
    )
    rows = lengths.markdown(table).splitlines()
    assert [cell.strip() for cell in rows[-1].split("|")[1:-1]] == [
        "se", "4", "1", "80.00", "84.75", "+4.25", "−0.25"
    ]  # fmt: skip
    assert "–" in rows[2] and "+5.00" in rows[3]


def test_a_second_plain_network_stands_beside_the_first_and_is_no_part_of_the_baseline():
    wider = [record("plain wider", 0, 82.0, history=SHORT, width=32),
             record("plain wider", 0, 86.0, history=LONG, epochs=4, width=32)]  # fmt: skip
    found = lengths.ends(lengths.by_length([*wider, *trained()]))
    assert list(found.minus_plain.loc["fast-16 + se"]) == [0.5, -0.25]
    assert list(found.minus_plain.loc["plain wider"]) == [2.0, 1.0]
    alone = lengths.ends(lengths.by_length([one for one in trained() if one["block"]]))
    assert len(alone) == 2 and alone.minus_plain.isna().all()


def test_what_has_one_length_or_another_recipe_is_left_out():
    one = record("plain net", history=SHORT)
    other = record("plain net", history=LONG, epochs=4, network="resnet20", learning_rate=9.0)
    assert lengths.by_length([]).empty and lengths.by_length([one, other]).empty
    fewer = record("plain net", history=LONG, epochs=4)
    assert len(lengths.by_length([one, fewer])) == 6
    fewer["dataset"]["train_images"] = 10
    assert lengths.by_length([one, fewer]).empty


def test_the_comparison_has_the_sentence_and_keeps_its_own_length(tmp_path):
    values = {"net": [80.0, 80.2], **{f"fast-16 + {name}": [81.0, 81.1] for name in ("se", "eca")}}
    found = study(values, network="resnet20", width=None, options=SETTINGS["se"]["options"])
    found = [one for one in found if one["block"] is None or one["block"]["name"] == "se"]
    for one in found:
        one["result"]["history"] = record(history=SHORT)["result"]["history"]
    long = block("se", 0, 90.0, history=LONG, epochs=4, network="resnet20", width=None,
                 options=SETTINGS["se"]["options"])  # fmt: skip
    for number, one in enumerate([*found, long]):
        write_record(tmp_path / "runs" / f"{number}.json", one)
    text = report.answered(tmp_path)
    assert "- Trained for 4 epochs in place of 2 (one seed, exploratory): se" in text
    assert "100 training images, 2 epochs" in text and "**Trained for longer**" in text
    assert "**Trained for longer**" not in report.answered(tmp_path, short=True)


def test_the_block_that_is_trained_for_longer_is_the_most_accurate_of_the_committed_comparison():
    table = results.frame(results.read(ROOT / "data" / "runs" / "cifar10-jpeg75"))
    runs = results.answer.planned(table)
    means = runs[runs.role == "block"].groupby("block").test_accuracy.mean()
    assert runs.seed.nunique() == plan.SEEDS
    assert means.idxmax() == plan.MOST_ACCURATE


def test_the_longer_runs_are_those_of_the_comparison_but_for_their_length(monkeypatch):
    monkeypatch.setenv("ATTENTION_PROFILE", "quick")
    runs, primary = grids.longer(), {run.name: run for run in grids.primary(1)}
    assert [run.block for run in runs] == [None, "se"]
    for run in runs:
        before = vars(primary[run.name].resolved())
        assert vars(run.resolved()) == before | {"epochs": 60} and before["epochs"] == 10


def test_the_curves_of_two_lengths_can_be_drawn():
    table = lengths.by_length(trained())
    names = table.name + ", " + table.epochs.astype(str) + " epochs"
    figure = figures.curves(table.assign(name=names).drop(columns="block"))
    shown = [label.get_text() for label in figure.axes[2].get_yticklabels()]
    assert shown == list(pd.unique(names)) and len(shown) == 4
