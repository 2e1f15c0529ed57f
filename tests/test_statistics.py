"""Statistics of a study: against the libraries, against formulas, and against a planted truth."""

import numpy as np
import pandas as pd
import pytest
from scipy import stats
from statsmodels.stats.multitest import multipletests
from statsmodels.stats.power import TTestPower

from attention.results import statistics


def runs(values, **columns):
    """{name: values of the seeds 0, 1, …} → a table of runs; a value that is None is no run."""
    return pd.DataFrame([
        {"dataset": "flowers", "name": name, "seed": seed, "epochs": 3, "test_accuracy": value}
        | {column: of[name] for column, of in columns.items()}
        for name, row in values.items()
        for seed, value in enumerate(row)
        if value is not None
    ])  # fmt: skip


@pytest.fixture
def rng():
    return np.random.default_rng(0)


@pytest.fixture(autouse=True)
def no_collection(monkeypatch):
    """statsmodels collects garbage at every correction: slow where torch is loaded."""
    monkeypatch.setattr("gc.collect", lambda: 0)


# Extra hours of sleep of ten patients under two drugs: Student, Biometrika 1908.
SLEEP = {
    "first": [0.7, -1.6, -0.2, -1.2, -0.1, 3.4, 3.7, 0.8, 0.0, 2.0],
    "second": [1.9, 0.8, 1.1, 0.1, -0.1, 4.4, 5.5, 1.6, 4.6, 3.4],
}


def test_a_pair_gives_the_published_numbers_of_students_sleep_data():
    row = statistics.paired(runs(SLEEP), "second").loc["first"]
    assert (row.n, row.baseline) == (10, "second")
    assert row.difference == pytest.approx(-1.58) and row["mean"] == pytest.approx(0.75)
    assert row.p == pytest.approx(0.002833, abs=1e-6)
    assert (row.low, row.high) == pytest.approx((-2.4598858, -0.7001142), abs=1e-7)


def test_pairs_are_those_of_the_textbook_and_of_the_libraries(rng):
    values = {name: rng.normal(70, 1, 5).tolist() for name in "abcdef"}
    table = runs(values).sample(frac=1, random_state=1)  # the order of the rows says nothing
    result = statistics.paired(table, "c", confidence=0.9)
    assert set(result.index) == set("abdef")
    for name, row in result.iterrows():
        d = np.subtract(values[name], values["c"])
        error = np.sqrt(((d - d.mean()) ** 2).sum() / 4) / np.sqrt(5)
        half = 2.131847 * error  # the 95 % quantile of t with 4 degrees of freedom, from a table
        assert (row.low, row.high) == pytest.approx((d.mean() - half, d.mean() + half), rel=1e-5)
        assert row.spread == pytest.approx(error * np.sqrt(5))
        assert row.p == pytest.approx(stats.ttest_rel(values[name], values["c"]).pvalue)
    expected = multipletests(result.p, method="holm")[1]
    assert result.p_corrected.to_numpy() == pytest.approx(expected)
    # Holm by hand: the smallest p times 5, the next times 4, …, never below the one before
    ordered = np.sort(result.p) * [5, 4, 3, 2, 1]
    by_hand = np.minimum(np.maximum.accumulate(ordered), 1)
    assert np.sort(result.p_corrected) == pytest.approx(by_hand)


def test_only_shared_seeds_are_paired_and_too_few_give_nan():
    table = runs({
        "base": [70.0, 71.0, 72.0, None],
        "all": [71.0, 72.5, 74.0, 50.0],
        "two": [None, 72.0, 72.5, 90.0],
        "one": [75.0, None, None, 90.0],
        "none": [None, None, None, 80.0],
    })  # fmt: skip
    result = statistics.paired(table, "base")
    assert result.n.to_dict() == {"all": 3, "two": 2, "one": 1, "none": 0}
    assert result.difference["all"] == pytest.approx(1.5)
    assert result["mean"]["two"] == pytest.approx(72.25)
    assert result.difference["one"] == 5.0
    missing = result.loc[["one", "none"], ["spread", "low", "high", "p", "p_corrected"]]
    assert missing.isna().all(axis=None) and np.isnan(result.detectable["one"])
    # what was not tested does not count among the comparisons: Holm over two
    expected = multipletests(result.p[["all", "two"]], method="holm")[1]
    assert result.p_corrected[["all", "two"]].to_numpy() == pytest.approx(expected)


@pytest.mark.filterwarnings("error")
def test_ties_are_no_difference_and_warn_of_nothing():
    base = [70.1, 71.7, 72.9]
    table = runs({"base": base, "same": base, "more": [value + 0.3 for value in base]})
    result = statistics.paired(table, "base")
    same, more = result.loc["same"], result.loc["more"]
    assert (same.difference, same.low, same.high, same.p, same.p_corrected) == (0, 0, 0, 1, 1)
    assert (more.low, more.high) == pytest.approx((0.3, 0.3)) and more.p == 0
    ranked = statistics.ranks(runs({name: base for name in "abc"}))
    assert (ranked.by_seed == 2).all(axis=None) and np.isnan(ranked.agreement)


def test_where_nothing_differs_findings_are_as_rare_as_alpha_for_the_whole_family(rng):
    studies, names, seeds = 200, 5, 5
    any_raw = any_corrected = 0
    for _ in range(studies):
        of_seed = rng.normal(0, 2, seeds)  # what all networks of a seed share
        values = {str(n): 80 + of_seed + rng.normal(0, 0.3, seeds) for n in range(names)}
        result = statistics.paired(runs(values), "0")
        any_raw += (result.p < 0.05).any()
        any_corrected += (result.p_corrected < 0.05).any()
    assert any_raw / studies > 0.1  # four tests at 5 % each
    assert 0.005 < any_corrected / studies < 0.08


def test_planted_differences_are_found_as_often_as_the_power_says(rng):
    seeds, comparisons = 5, 20
    smallest = statistics.detectable(0.3, seeds, comparisons)
    # the spread of differences is 0.3; what all networks of a seed share does not hurt
    found = rng.normal(smallest, 0.3, (20_000, seeds))
    p = stats.ttest_1samp(found, 0, axis=1).pvalue
    assert (p < 0.05 / comparisons).mean() == pytest.approx(0.8, abs=0.01)
    values = {"base": 80 + rng.normal(0, 2, seeds)}
    for number in range(10):
        shift = 3 * (number < 3)
        values[f"{number}"] = values["base"] + shift + rng.normal(0, 0.3, seeds)
    result = statistics.paired(runs(values), "base")
    assert set(result.index[result.p_corrected < 0.05]) == {"0", "1", "2"}
    expected = [statistics.detectable(s, 5, 10) for s in result.spread]
    assert result.detectable.to_list() == pytest.approx(expected)


def test_detectable_is_that_of_the_library_where_the_library_has_an_answer():
    for seeds, alpha in ((34, 0.05), (12, 0.05), (12, 0.01), (100, 0.001)):
        expected = TTestPower().solve_power(nobs=seeds, alpha=alpha, power=0.8)
        found = statistics.detectable(2.0, seeds, confidence=1 - alpha)
        assert found == pytest.approx(2 * expected, rel=1e-4)
    # 34 pairs for half a standard deviation: Cohen's tables
    assert statistics.seeds_needed(0.5, 1.0) == 34
    needed = statistics.seeds_needed(0.4, 0.3, comparisons=20)
    assert statistics.detectable(0.3, needed, 20) <= 0.4
    assert statistics.detectable(0.3, needed - 1, 20) > 0.4


def test_means_have_the_interval_of_one_sample_and_keep_the_costs():
    sizes = {"a": 10, "b": 20}
    table = runs({"a": [70.0, 72.0, 71.0], "b": [75.0, None, None]}, parameters=sizes)
    result = statistics.means(table)
    expected = stats.ttest_1samp([70.0, 72.0, 71.0], 0).confidence_interval()
    assert (result.low["a"], result.high["a"]) == pytest.approx(tuple(expected))
    assert result["mean"].to_dict() == {"a": 71.0, "b": 75.0}
    assert np.isnan(result.low["b"]) and result.n["b"] == 1
    assert result.parameters.to_dict() == sizes


def test_each_network_is_matched_with_the_smallest_plain_one_of_at_least_its_size():
    sizes = {"plain": 100, "wide": 120, "wider": 150, "se": 110, "eca": 120, "big": 500, "tiny": 9}
    table = runs({name: [70.0 + size, 71.0] for name, size in sizes.items()}, parameters=sizes)
    result = statistics.matched(table, ["wider", "plain", "wide"])
    assert result.baseline.to_dict() == {
        "se": "wide", "eca": "wide", "big": "wider", "tiny": "plain",
    }  # fmt: skip
    assert result.outgrown.to_dict() == {"se": False, "eca": False, "big": True, "tiny": False}
    assert result.baseline_parameters["se"] == 120
    expected = statistics.paired(table, "wide").loc["se", ["difference", "low", "high", "p"]]
    found = result.loc["se", ["difference", "low", "high", "p"]]
    assert found.to_list() == pytest.approx(expected.to_list())


def test_ranks_and_kendalls_w_by_the_formula(rng):
    values = rng.normal(70, 1, (6, 4))  # networks × seeds
    table = runs({str(n): row for n, row in enumerate(values)} | {"late": [99.0, 99.0, 1.0, None]})
    ranked = statistics.ranks(table)
    assert len(ranked.by_seed) == 3  # the seed without "late" does not count
    assert ranked.table.loc["late", ["mean", "best", "worst"]].to_list() == [9 / 3, 1, 7]
    seats = ranked.by_seed.to_numpy()
    assert (np.sort(seats) == np.arange(1, 8)).all()
    sums = seats.sum(0)
    n, k = seats.shape
    by_formula = 12 * ((sums - sums.mean()) ** 2).sum() / (n**2 * (k**3 - k))
    assert ranked.agreement == pytest.approx(by_formula)
    stable = statistics.ranks(runs({"a": [3.0, 13.0], "b": [2.0, 12.0], "c": [1.0, 11.0]}))
    assert stable.agreement == pytest.approx(1) and list(stable.table.index) == ["a", "b", "c"]


def test_a_budget_gives_the_cheapest_of_those_that_are_as_good_as_the_best():
    values = {
        "best": [80.0, 81.0, 82.0],
        "as good": [80.2, 80.6, 81.9],
        "worse": [78.0, 79.1, 80.0],
        "too large": [90.0, 91.0, 92.0],
        "single": [85.0, None, None],
    }
    sizes = {"best": 90, "as good": 60, "worse": 10, "too large": 101, "single": 5}
    table = runs(values, parameters=sizes, step_ms={name: 7.0 for name in values})
    row = statistics.within(table, {"parameters": 100, "step_ms": 8})
    assert (row["best"], row["choice"], row["cost"]) == ("best", "as good", 60)
    assert row["as_good"] == ["as good", "best"] and row["untested"] == ["single"]
    pair = statistics.paired(table, "best").loc["as good"]
    assert pair.low < 0 < pair.high
    assert row["difference"] == pytest.approx(pair.difference)
    assert (row["difference_low"], row["difference_high"]) == (pair.low, pair.high)
    assert row["budget"] == "parameters ≤ 100, step_ms ≤ 8"
    tight = statistics.within(table, {"parameters": 50})
    assert (tight["choice"], tight["best"], tight["difference"]) == ("worse", "worse", 0)
    assert statistics.within(table, {"parameters": 3})["choice"] is None


@pytest.mark.parametrize(
    ("call", "says"),
    [
        (lambda t: statistics.paired(t, "c"), "baseline must be one of a, b; got 'c'"),
        (lambda t: statistics.paired(t, {"a": "c"}), "baseline of a must be one of a, b; got 'c'"),
        (lambda t: statistics.paired(t, "a", "speed"), "column must be one of .*; got 'speed'"),
        (lambda t: statistics.paired(t, "a", confidence=95), "confidence must lie between 0 and 1"),
        (lambda t: statistics.paired(t, "a", "dataset"), "must hold numbers"),
        (lambda t: statistics.paired(pd.concat([t, t]), "a"), "two of a, seed 0"),
        (lambda t: statistics.ranks(t[:0]), "at least one run"),
        (lambda t: statistics.ranks(t.assign(dataset=list("xyxy"))), "got dataset x, y"),
        (lambda t: statistics.ranks(t.drop([0, 3])), "no seed has a run of all 2"),
        (lambda t: statistics.matched(t, ["a"]), "got 'parameters'"),
        (lambda t: statistics.matched(t.assign(parameters=1), []), "baselines: expected"),
        (lambda t: statistics.within(t, {}), "limits: expected"),
        (lambda t: statistics.within(t, {"watts": 3}), "limits: column must .* got 'watts'"),
        (lambda t: statistics.detectable(1.0, 1), "seeds must be .* at least 2, got 1"),
        (lambda t: statistics.seeds_needed(0, 1.0), "difference must be above 0"),
    ],
)
def test_what_cannot_be_compared_is_named(call, says):
    with pytest.raises(ValueError, match=says):
        call(runs({"a": [70.0, 71.0], "b": [72.0, 73.0]}))


# ---------------------------------------------------------------------------------------- pooled


def study_of(networks, seeds, noise=0.3, effects=(), rng=None):
    """A table of `networks` and `seeds`, with the true effects of the first networks."""
    rng = rng or np.random.default_rng(0)
    by_seed = rng.normal(0, 1, seeds)
    rows = []
    for number in range(networks):
        effect = effects[number] if number < len(effects) else 0
        for seed in range(seeds):
            accuracy = 80 + effect + by_seed[seed] + rng.normal(0, noise)
            rows.append({"name": f"n{number}", "seed": seed, "test_accuracy": accuracy})
    return pd.DataFrame(rows)


def test_pooled_over_two_networks_is_the_paired_test():
    table = study_of(2, 6, effects=(0, 0.5))
    ours, theirs = (
        statistics.pooled(table, "n0").loc["n1"],
        statistics.paired(table, "n0").loc["n1"],
    )
    for column in ("n", "mean", "difference", "spread", "low", "high", "p", "detectable"):
        assert ours[column] == pytest.approx(theirs[column]), column


def test_pooled_equals_the_textbooks_analysis_of_randomised_blocks():
    table = study_of(7, 4, effects=(0, 1, -1))
    wide = table.pivot(index="seed", columns="name", values="test_accuracy").to_numpy()
    noise = wide - wide.mean(0) - wide.mean(1, keepdims=True) + wide.mean()
    freedom = 6 * 3
    error = (2 / 4 * (noise**2).sum() / freedom) ** 0.5
    found = statistics.pooled(table, "n0", confidence=0.9)
    differences = wide[:, 1:].mean(0) - wide[:, 0].mean()
    np.testing.assert_allclose(found.difference, differences)
    half = stats.t.ppf(0.95, freedom) * error
    np.testing.assert_allclose(found.high - found.low, 2 * half)
    np.testing.assert_allclose(found.p, 2 * stats.t.sf(abs(differences) / error, freedom))


def test_pooled_finds_what_few_pairs_cannot_and_seldom_what_is_not_there():
    rng, found, false, paired = np.random.default_rng(3), 0, 0, 0
    for _ in range(60):
        table = study_of(15, 3, effects=(0, 1.5), rng=rng)
        p = statistics.pooled(table, "n0").p_corrected
        found += p["n1"] < 0.05
        false += (p.drop("n1") < 0.05).any()
        paired += statistics.paired(table, "n0").p_corrected["n1"] < 0.05
    assert found >= 55 and paired <= 20 and false <= 9


def test_pooled_with_missing_runs_and_with_too_few():
    table = study_of(6, 3, effects=(0, 2))
    gaps = table.drop(index=[4, 8])  # n1 and n2 lack a seed
    found = statistics.pooled(gaps, "n0")
    assert list(found.n) == [2, 2, 3, 3, 3] and found.low["n1"] > 0
    with pytest.raises(ValueError, match="two seeds in common"):
        statistics.pooled(study_of(4, 1), "n0")
    with pytest.raises(ValueError, match="baseline"):
        statistics.pooled(table, "n9")
