"""A search and its end: nothing that was tried is lost, and the verdict follows the numbers."""

import dataclasses

import numpy as np
import pandas as pd
import pytest

from attention import figures
from attention.blocks.hybrid import SPACE
from attention.figures.search import search
from attention.results import statistics, trials
from attention.study import grids
from attention.training import Run

PART = dict(channel="mlp", spatial=None, combine="channel first", pool=None, mixing=None,
            residual=False)  # fmt: skip


def hybrid(at="residual", **changes):
    return Run(block="hybrid", at=at, options=PART | changes, epochs=1, train_images=10)


def record(run, accuracy):
    return {"name": run.name, "run": {"seed": run.seed}, "result": {"test_accuracy": accuracy}}


@pytest.mark.parametrize(
    "run, words, kin",
    [
        (hybrid(spatial="conv"), "mlp & conv, channel first", ["se", "spatial"]),
        (
            hybrid("stage", channel="conv", pool="additive", mixing="context", residual=True),
            "context → conv (additive), 1 + map, after stages",
            ["eca", "context"],
        ),
        (
            hybrid(channel=None, spatial="dilated", mixing="nonlocal"),
            "nonlocal → dilated",
            ["bam", "nonlocal"],
        ),
        (
            hybrid(channel="mlp avg+max", spatial="dot product", combine="sum"),
            "mlp avg+max & dot product, sum",
            ["cbam", "qkv"],
        ),
    ],
)
def test_a_hybrid_in_words_and_its_parents(run, words, kin):
    assert trials.described(run) == words and trials.parents(run) == kin


def test_every_part_of_the_space_but_none_has_a_parent():
    for part, blocks in trials.PARENTS.items():
        assert set(blocks) == {one for one in SPACE[part] if one is not None}


def test_all_candidates_have_different_names():
    runs = [Run(block="hybrid", options=options, at=at) for options, at in grids.candidates(40)]
    assert len({trials.described(run) for run in runs}) == 40


def searched(accuracies):
    """Runs and records of a search of four: {seed: accuracies of plain, se and two hybrids}."""
    first = [Run(seed=100), Run(block="se", seed=100), hybrid(), hybrid(spatial="conv")]
    first = [dataclasses.replace(run, seed=100) for run in first]
    again = [dataclasses.replace(run, seed=s) for s in (101, 102) for run in (*first[:2], first[3])]
    runs, records = first + again, []
    for run in runs:
        value = accuracies[run.seed][[r.name for r in first].index(run.name)]
        if value is not None:
            records.append(record(run, value))
    return runs, records


def test_trials_keep_everything_that_was_tried():
    accuracies = {100: (70, 71, 72, 75), 101: (71, 71.5, None, 72), 102: (72, None, None, 73)}
    runs, records = searched(accuracies)
    table = trials.trials(runs, records)
    assert list(table.kind) == ["finalist", "candidate", "parent", "plain"]  # 75, 72, 71, 70
    best = table.loc["mlp & conv, channel first"]
    assert (best["first"], best.later, best.n) == (75, 72.5, 3)
    assert best["mean"] == pytest.approx(220 / 3) and best.each == [75, 72, 73]
    assert table.n["se"] == 2 and np.isnan(table.later["mlp"])
    assert trials.winner(table) == "mlp & conv, channel first"


def test_over_plain_takes_out_what_a_seed_does_to_all():
    accuracies = {100: (70, 71, 72, 75), 101: (80, 81.5, None, 82), 102: (None, 60, None, 61)}
    runs, records = searched(accuracies)
    for one in records:
        one["run"]["block"] = None if "plain" in one["name"] else "some"
    table = trials.trials(runs, trials.over_plain(records))
    assert table.loc["plain", "each"] == [0, 0] and table.loc["se", "each"] == [1, 1.5]
    assert table.loc["mlp & conv, channel first", "each"] == [5, 2]  # seed 102 has no plain one
    assert records[0]["result"]["test_accuracy"] == 70  # the records stay as they are


def test_nothing_wins_by_the_round_that_it_was_picked_by():
    accuracies = {100: (70, 71, 72, 75), 101: (None,) * 4, 102: (None,) * 4}
    table = trials.trials(*searched(accuracies))
    assert len(table) == 4 and trials.winner(table) is None
    only = trials.trials([Run(seed=100)], [])
    assert only.empty and trials.winner(only) is None


def test_the_winner_is_the_best_mean_of_those_with_all_seeds():
    rows = {"early": (1, 90.0), "steady": (3, 80.0), "good": (3, 81.0)}
    table = pd.DataFrame.from_dict(rows, orient="index", columns=["n", "mean"])
    assert trials.winner(table.assign(kind="finalist")) == "good"
    table["kind"] = ["finalist", "finalist", "candidate"]
    assert trials.winner(table) == "steady"


def test_the_figure_shows_every_seed_of_every_trial():
    accuracies = {100: (70, 71, 72, 75), 101: (71, 71.5, None, 72), 102: (72, None, None, 73)}
    figure = search(trials.trials(*searched(accuracies)))
    axis = figure.axes[0]
    open_, filled = [], []
    for line in axis.lines:
        points = zip(line.get_xdata(), line.get_ydata(), strict=True)
        points = [(float(x), int(y)) for x, y in points if y > 0]
        if line.get_linestyle() == "None":
            (open_ if line.get_markerfacecolor() == "white" else filled).extend(points)
    assert sorted(open_) == [(71, 1), (72, 2), (75, 3)]  # and the plain network in line 0
    assert sorted(filled) == [(71.5, 1), (72, 3), (73, 3)]
    labels = [label.get_text() for label in axis.get_yticklabels()]
    assert labels == ["plain", "se", "mlp", "mlp & conv, channel first"]
    assert figures.search is search


def contest(**accuracies):
    return pd.DataFrame([
        {"name": name, "seed": seed, "test_accuracy": value}
        for name, values in accuracies.items()
        for seed, value in enumerate(values)
    ])  # fmt: skip


STEPS = pd.Series({"hybrid": 12.0, "se": 11.0, "bam": 13.0, "plain": 10.0})


def test_versus_is_the_paired_comparison_turned_round():
    table = contest(hybrid=(80, 81, 83.0), se=(78, 80, 80.0), plain=(79, 82, 81.0))
    pairs = trials.versus(table, "hybrid", ["se", "plain", "not trained"])
    assert list(pairs.index) == ["se", "plain"]
    other = statistics.paired(table[table.name != "plain"], "se").loc["hybrid"]
    row = pairs.loc["se"]
    assert (row.difference, row.low, row.high) == pytest.approx(
        (other.difference, other.low, other.high)
    )
    assert row.p == pytest.approx(other.p)
    alone = statistics.paired(table, "hybrid").p_corrected
    assert pairs.p_corrected.to_dict() == pytest.approx(alone[["se", "plain"]].to_dict())
    [planned] = trials.versus(table, "hybrid", ["se"]).p_corrected
    assert planned == pytest.approx(other.p)  # one comparison, nothing to correct
    pooled = trials.versus(table, "hybrid", ["se"], statistics.pooled).loc["se"]
    whole = statistics.pooled(table, "hybrid").loc["se"]
    assert (pooled.difference, pooled.low) == pytest.approx((-whole.difference, -whole.high))


def test_the_verdict_says_when_the_goal_is_reached_and_why_not():
    rivals = {"se": (78, 79, 80.1), "bam": (77, 78.1, 79), "plain": (78, 79, 80.5)}
    better = contest(hybrid=(80, 81, 82.0), **rivals)
    text = trials.verdict(trials.versus(better, "hybrid", rivals), ["se", "bam"], STEPS)
    assert "hybrid is better than se (+1.97, " in text and "costliest: reached" in text
    assert "worse" not in text and "not clearly different" not in text

    slow = trials.verdict(
        trials.versus(better, "hybrid", rivals), ["se", "bam"], pd.Series({**STEPS, "hybrid": 99.0})
    )
    assert "costliest: not reached (2 of 2 parents, beyond its time)" in slow

    unknown = trials.verdict(trials.versus(better, "hybrid", rivals), ["se"], STEPS[["plain"]])
    assert "goal" in unknown and "reached" not in unknown

    even = contest(hybrid=(78, 80, 79.0), **rivals)
    text = trials.verdict(trials.versus(even, "hybrid", rivals), ["se", "bam"], STEPS)
    assert "not clearly different from" in text and "not reached" in text and "none of them" in text

    worse = contest(hybrid=(60, 61, 62.0), **rivals)
    text = trials.verdict(trials.versus(worse, "hybrid", rivals), ["se", "bam"], STEPS)
    assert (
        "hybrid is worse than se (−18.03, −18.18 to −17.89, 3 seeds)" in text
        and "0 of 2 parents" in text
    )


def test_without_seeds_there_is_no_verdict():
    one = contest(hybrid=(80.0,), se=(78.0, 79.0), plain=(77.0,))
    pairs = trials.versus(one, "hybrid", ["se", "plain"])
    assert trials.verdict(pairs, ["se"], STEPS).startswith("No verdict: fewer than two seeds")
    some = contest(hybrid=(80.0, 81.0), se=(78.0, 79.01), plain=(77.0,))
    text = trials.verdict(trials.versus(some, "hybrid", ["se", "plain"]), ["se"], STEPS)
    assert "Not tested, for want of seeds: plain." in text and "better" in text
    none = trials.versus(contest(se=(1.0, 2.0)), "hybrid", ["se"])
    assert len(none) == 0 and trials.verdict(none, [], STEPS).startswith("No verdict")
