"""A search and its end: nothing that was tried is lost, and the verdict follows the numbers."""

import numpy as np
import pandas as pd
import pytest
from invented import block, record

from attention import figures, results
from attention.blocks.hybrid import SPACE
from attention.figures.search import search
from attention.results import statistics, trials
from attention.study import grids

PART = dict(channel="mlp", spatial=None, combine="channel first", pool=None, mixing=None,
            residual=False)  # fmt: skip
BOTH = "mlp & conv, channel first"


@pytest.mark.parametrize(
    "options, place, words, kin",
    [
        (PART | dict(spatial="conv"), "residual", BOTH, ["se", "spatial"]),
        (
            PART | dict(channel="conv", pool="additive", mixing="context", residual=True),
            "stage",
            "context → conv (additive), 1 + map, after stages",
            ["eca", "context"],
        ),
        (
            PART | dict(channel=None, spatial="dilated", mixing="nonlocal"),
            "residual, stages 2, 3",
            "nonlocal → dilated, in stages 2, 3",
            ["bam", "nonlocal"],
        ),
        (
            PART | dict(channel="mlp avg+max", spatial="dot product", combine="sum"),
            "stage, stages 2, 3",
            "mlp avg+max & dot product, sum, after stages 2, 3",
            ["cbam", "qkv"],
        ),
    ],
)
def test_a_hybrid_in_words_and_its_parents(options, place, words, kin):
    assert trials.described(options, place) == words and trials.parents(options) == kin


def test_every_part_of_the_space_but_none_has_a_parent():
    for part, blocks in trials.PUBLISHED.items():
        assert set(blocks) == {name for name in SPACE[part] if name is not None}


def test_all_candidates_have_different_names():
    assert len({trials.described(options, at) for options, at in grids.candidates(40)}) == 40


def searched(accuracies):
    """The runs of a search of four: {seed: accuracies of plain, se and two hybrids}."""
    records = []
    for seed, (plain, se, single, both) in accuracies.items():
        hybrids = {"mlp": (single, PART), "both": (both, PART | {"spatial": "conv"})}
        found = [record("plain", seed, plain), block("se", seed, se)]
        found += [
            block(f"hybrid {name}", seed, value, family="hybrid", options=options)
            for name, (value, options) in hybrids.items()
        ]
        records += [r for r in found if r["result"]["test_accuracy"] is not None]
    return results.frame(records)


def test_trials_keep_everything_that_was_tried():
    accuracies = {100: (70, 71, 72, 75), 101: (71, 71.5, None, 72), 102: (72, None, None, 73)}
    table = trials.trials(searched(accuracies).sample(frac=1, random_state=1))
    assert list(table.kind) == ["finalist", "candidate", "parent", "plain"]  # 75, 72, 71, 70
    best = table.loc[BOTH]
    assert (best["first"], best.later, best.n) == (75, 72.5, 3)
    assert best["mean"] == pytest.approx(220 / 3) and best.each == [75, 72, 73]
    assert best.options["spatial"] == "conv" and best["name"] == "fast-16 + hybrid both"
    assert table.n["se"] == 2 and np.isnan(table.later["mlp"])
    assert trials.winner(table) == BOTH


def test_over_plain_takes_out_what_a_seed_does_to_all():
    accuracies = {100: (70, 71, 72, 75), 101: (80, 81.5, None, 82), 102: (None, 60, None, 61)}
    runs = searched(accuracies)
    table = trials.trials(trials.over_plain(runs, "plain"))
    assert table.loc["plain", "each"] == [0, 0] and table.loc["se", "each"] == [1, 1.5]
    assert table.loc[BOTH, "each"] == [5, 2]  # seed 102 has no plain one
    assert runs.test_accuracy[0] == 70  # the runs stay as they are


def test_nothing_wins_by_the_round_that_it_was_picked_by():
    accuracies = {100: (70, 71, 72, 75), 101: (None,) * 4, 102: (None,) * 4}
    table = trials.trials(searched(accuracies))
    assert len(table) == 4 and trials.winner(table) is None
    only = trials.trials(searched(accuracies)[:0])
    assert only.empty and trials.winner(only) is None


def test_the_winner_is_the_best_mean_of_those_with_all_seeds():
    rows = {"early": (1, 90.0), "steady": (3, 80.0), "good": (3, 81.0)}
    table = pd.DataFrame.from_dict(rows, orient="index", columns=["n", "mean"])
    assert trials.winner(table.assign(kind="finalist")) == "good"
    table["kind"] = ["finalist", "finalist", "candidate"]
    assert trials.winner(table) == "steady"


def test_the_figure_shows_every_seed_of_every_trial():
    accuracies = {100: (70, 71, 72, 75), 101: (71, 71.5, None, 72), 102: (72, None, None, 73)}
    figure = search(trials.trials(searched(accuracies)))
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


def test_the_verdict_says_when_the_goal_is_reached_and_why_not():
    rivals = {"se": (78, 79, 80.1), "bam": (77, 78.1, 79), "plain": (78, 79, 80.5)}
    better = contest(hybrid=(80, 81, 82.0), **rivals)
    text = trials.verdict(statistics.versus(better, "hybrid", rivals), ["se", "bam"], STEPS)
    assert "hybrid is better than se (+1.97, " in text and "costliest: reached" in text
    assert "worse" not in text and "not clearly different" not in text

    pairs = statistics.versus(better, "hybrid", rivals)
    slow = trials.verdict(pairs, ["se", "bam"], pd.Series({**STEPS, "hybrid": 99.0}))
    assert "costliest: not reached (2 of 2 parents, beyond its time)" in slow

    unknown = trials.verdict(statistics.versus(better, "hybrid", rivals), ["se"], STEPS[["plain"]])
    assert "goal" in unknown and "reached" not in unknown

    even = contest(hybrid=(78, 80, 79.0), **rivals)
    text = trials.verdict(statistics.versus(even, "hybrid", rivals), ["se", "bam"], STEPS)
    assert "not significantly different from" in text and "not reached" in text

    worse = contest(hybrid=(60, 61, 62.0), **rivals)
    text = trials.verdict(statistics.versus(worse, "hybrid", rivals), ["se", "bam"], STEPS)
    assert (
        "hybrid is worse than se (−18.03, −18.18 to −17.89, 3 seeds)" in text
        and "0 of 2 parents" in text
    )


def test_the_verdict_is_that_of_the_corrected_test():
    base = (78.0, 79.0, 80.1)
    rivals = {f"rival {n}": tuple(v + n for v in (77.0, 81.0, 78.0)) for n in range(8)}
    rivals["near"] = tuple(v - d for v, d in zip(base, (1.0, 1.3, 1.1), strict=True))
    pairs = statistics.versus(contest(hybrid=base, **rivals), "hybrid", rivals)
    assert pairs.low["near"] > 0 and pairs.p["near"] < 0.05 < pairs.p_corrected["near"]
    text = trials.verdict(pairs, ["near"], pd.Series({"hybrid": 1.0, "near": 2.0}))
    assert "better than" not in text and "worse than" not in text
    assert "Corrected for 9 comparisons" in text and "not reached (0 of 1 parents" in text


def test_without_seeds_there_is_no_verdict():
    one = contest(hybrid=(80.0,), se=(78.0, 79.0), plain=(77.0,))
    pairs = statistics.versus(one, "hybrid", ["se", "plain"])
    assert trials.verdict(pairs, ["se"], STEPS).startswith("No verdict: fewer than two seeds")
    some = contest(hybrid=(80.0, 81.0), se=(78.0, 79.01), plain=(77.0,))
    text = trials.verdict(statistics.versus(some, "hybrid", ["se", "plain"]), ["se"], STEPS)
    assert "Not tested, for want of seeds: plain." in text and "better" in text
    none = statistics.versus(contest(se=(1.0, 2.0)), "hybrid", ["se"])
    assert len(none) == 0 and trials.verdict(none, [], STEPS).startswith("No verdict")
