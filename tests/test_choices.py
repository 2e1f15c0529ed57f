"""Settings beside their default, and the comparison's networks by another recipe."""

import numpy as np
import pandas as pd
import pytest
from invented import record
from scipy import stats
from statsmodels.formula.api import ols
from statsmodels.stats.multitest import multipletests

from attention import results
from attention.networks import SETTINGS
from attention.results import choices, everything, plan, report
from attention.study import grids

NOISE = np.random.default_rng(1).normal(0, 0.2, 60)


def held_out(run, accuracy):
    """A record of a run on held-out images that never was."""
    about = {name: getattr(run, name) for name in ("at", "stages", "start", "network", "width")}
    rate = run.resolved().learning_rate
    return record(
        run.name, run.seed, accuracy, "flowers-validation", run.block, run.family,
        dict(run.options), **about, learning_rate=rate, epochs=run.epochs,
    )  # fmt: skip


def objected(gain, seeds=1, later=()):
    """The records of the objections; half the learning rate gains so much for SE."""
    runs = grids.objections(seeds) + [grids.chosen(*one) for one in later]
    found = []
    for run, noise in zip(runs, NOISE, strict=False):
        helped = run.block == "se" and run.learning_rate == 0.07
        found.append(held_out(run, 80 + gain * helped + 0.3 * (run.seed - 100) + noise))
    return found


@pytest.fixture(autouse=True)
def quick(monkeypatch):
    monkeypatch.setenv("ATTENTION_PROFILE", "quick")


def test_settings_are_compared_with_their_own_default_and_corrected_together():
    rng = np.random.default_rng(0)
    table = pd.DataFrame([
        {"name": name, "seed": seed, "test_accuracy": 80 + shift + seed + rng.normal(0, 0.1)}
        for name, shift in {"a": 0, "a1": 1, "b": 5, "b1": 5, "b2": 4.5}.items()
        for seed in range(3)
        if (name, seed) != ("b2", 2)
    ])  # fmt: skip
    asked = pd.DataFrame(
        [("A", "as it is", "a"), ("A", "one", "a1"), ("B", "as it is", "b"), ("B", "one", "b1"),
         ("B", "two", "b2"), ("C", "as it is", "c"), ("C", "one", "a")],
        columns=["question", "setting", "name"],
    )  # fmt: skip
    pairs = choices.beside_default(table, asked)
    assert list(pairs.index) == [("A", "one"), ("B", "one"), ("B", "two")]
    model = ols("test_accuracy ~ C(name, Treatment('b')) + C(seed)", table).fit()
    own = "C(name, Treatment('b'))[T.b2]"
    row = pairs.loc["B", "two"]
    assert row.difference == pytest.approx(model.params[own])
    assert row.p == pytest.approx(model.pvalues[own])
    assert (row.low, row.high) == pytest.approx(tuple(model.conf_int().loc[own]))
    wanted = multipletests(pairs.p.to_numpy(), method="holm")[1]
    assert pairs.p_corrected.to_numpy() == pytest.approx(wanted)
    assert choices.beside_default(table, asked[asked.question == "C"]) is None
    with pytest.raises(ValueError, match="asked: column must be one of .*; got 'setting'"):
        choices.beside_default(table, asked.drop(columns="setting"))


def test_a_recipe_that_serves_one_block_better_is_found():
    later = [(name, seed) for name in (None, "se", "eca") for seed in (101, 102)]
    table = results.frame(objected(3.0, later=later))
    runs, pairs = choices.objections(table)
    assert list(runs.question.unique()) == ["plain", *plan.PAPERS]
    assert runs.groupby("question").choice.first().eq(choices.AS_COMPARED).all()
    of_a_block = ["as compared", "learning rate 0.07", "learning rate 0.28",
                  "start as the identity"]  # fmt: skip
    assert list(runs[runs.question == "cbam"].choice.unique()) == of_a_block
    assert list(runs[runs.question == "plain"].choice.unique()) == of_a_block[:3]
    assert len(pairs) == 2 + 3 * 4
    half = pairs.loc["se", "learning rate 0.07"]
    assert half.difference == pairs.difference.max() and half.p_corrected < 0.05
    # 14 + 5 networks and 3 seeds, of 14 + 5 + 6 runs; a difference of two that share one seed
    assert half.freedom == 25 - (19 + 3 - 1)
    assert half.high - half.difference == pytest.approx(stats.t.ppf(0.975, 4) * half.error)
    text = choices.markdown(runs, pairs)
    assert "se, learning rate 0.07 of 14" in text and text.count("\n| ") == 19


def test_what_others_were_picked_by_says_nothing_of_the_noise():
    later = [(None, 101), ("se", 101), (None, 102)]
    records = objected(0.0, later=later)
    own = {"options": SETTINGS["se"]["options"] | {"reduction": 2}}
    other = [held_out(grids.chosen("se", seed, **own), 80.0 + 50 * (seed == 100))
             for seed in (100, 101, 102)]  # fmt: skip
    without = choices.objections(results.frame([*records, *other[1:]]))[1]
    pd.testing.assert_frame_equal(choices.objections(results.frame([*records, *other]))[1], without)
    nothing = choices.objections(results.frame(records))[1]
    assert nothing.spread.iloc[0] != without.spread.iloc[0]


def test_one_seed_gives_accuracies_and_no_intervals():
    runs, pairs = choices.objections(results.frame(objected(1.0)))
    assert pairs is None
    text = choices.markdown(runs, pairs)
    assert "95 %" not in text and text.count("\n| ") == 19


def test_a_network_by_another_recipe_is_none_of_the_plan_and_has_a_table_of_its_own(tmp_path):
    records = [one | {"dataset": one["dataset"] | {"name": "flowers"}} for one in objected(1.0)]
    table = results.frame(records)
    assert set(results.answer.planned(table).recipe) == {""}
    with pytest.raises(ValueError, match="runs of one setting, got recipe"):
        results.statistics.means(table)
    text = everything.markdown(records)
    assert text.count("| network") == 3 and "5 epochs, learning rate 0.28, final epoch" in text
    assert report.objected(tmp_path) == ""
