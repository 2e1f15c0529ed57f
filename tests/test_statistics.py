"""Statistics of a study: against the libraries, against formulas, and against a planted truth."""

import numpy as np
import pandas as pd
import pytest
from scipy import stats
from statsmodels.stats.multitest import multipletests
from statsmodels.stats.power import TTestPower
from statsmodels.stats.weightstats import ttost_paired

from attention.results import guide, power, ranking, statistics


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
    ranked = ranking.ranks(runs({name: base for name in "abc"}))
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
    smallest = power.detectable(0.3, seeds, comparisons)
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
    expected = [power.detectable(s, 5, 10) for s in result.spread]
    assert result.detectable.to_list() == pytest.approx(expected)


def test_detectable_is_that_of_the_library_where_the_library_has_an_answer():
    for seeds, alpha in ((34, 0.05), (12, 0.05), (12, 0.01), (100, 0.001)):
        expected = TTestPower().solve_power(nobs=seeds, alpha=alpha, power=0.8)
        found = power.detectable(2.0, seeds, confidence=1 - alpha)
        assert found == pytest.approx(2 * expected, rel=1e-4)
    # 34 pairs for half a standard deviation: Cohen's tables
    assert power.seeds_needed(0.5, 1.0) == 34
    needed = power.seeds_needed(0.4, 0.3, comparisons=20)
    assert power.detectable(0.3, needed, 20) <= 0.4
    assert power.detectable(0.3, needed - 1, 20) > 0.4


def test_means_have_the_interval_of_one_sample_and_keep_the_costs():
    sizes = {"a": 10, "b": 20}
    table = runs({"a": [70.0, 72.0, 71.0], "b": [75.0, None, None]}, parameters=sizes)
    result = statistics.means(table)
    expected = stats.ttest_1samp([70.0, 72.0, 71.0], 0).confidence_interval()
    assert (result.low["a"], result.high["a"]) == pytest.approx(tuple(expected))
    assert result["mean"].to_dict() == {"a": 71.0, "b": 75.0}
    assert np.isnan(result.low["b"]) and result.n["b"] == 1
    agreeing = statistics.means(runs({"a": [70.0, 70.0]})).loc["a"]
    assert np.isnan(agreeing.low) and agreeing["mean"] == 70.0  # and not "70.0 to 70.0"
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
    ranked = ranking.ranks(table)
    assert len(ranked.by_seed) == 3  # the seed without "late" does not count
    assert ranked.table.loc["late", ["mean", "best", "worst"]].to_list() == [9 / 3, 1, 7]
    seats = ranked.by_seed.to_numpy()
    assert (np.sort(seats) == np.arange(1, 8)).all()
    sums = seats.sum(0)
    n, k = seats.shape
    by_formula = 12 * ((sums - sums.mean()) ** 2).sum() / (n**2 * (k**3 - k))
    assert ranked.agreement == pytest.approx(by_formula)
    stable = ranking.ranks(runs({"a": [3.0, 13.0], "b": [2.0, 12.0], "c": [1.0, 11.0]}))
    assert stable.agreement == pytest.approx(1) and list(stable.table.index) == ["a", "b", "c"]


def test_a_budget_gives_the_cheapest_of_those_that_are_shown_to_be_as_good():
    values = {
        "best": [80.0, 81.0, 82.0],
        "as good": [79.9, 80.8, 81.9],
        "worse": [78.0, 79.1, 80.0],
        "too large": [90.0, 91.0, 92.0],
        "single": [85.0, None, None],
    }
    sizes = {"best": 90, "as good": 60, "worse": 10, "too large": 101, "single": 5}
    table = runs(values, parameters=sizes, step_ms={name: 7.0 for name in values})
    row = guide.within(table, {"parameters": 100, "step_ms": 8})
    assert (row["best"], row["choice"], row["cost"]) == ("best", "as good", 60)
    assert row["as_good"] == ["as good", "best"] and row["untested"] == ["single"]
    difference = np.subtract(values["as good"], values["best"])
    assert row["difference"] == pytest.approx(difference.mean())
    expected = stats.ttest_1samp(difference, 0, alternative="greater").confidence_interval(0.95)
    assert row["difference_low"] == pytest.approx(expected.low)  # the library's one-sided bound
    assert row["budget"] == "parameters ≤ 100, step_ms ≤ 8"
    tight = guide.within(table, {"parameters": 50})
    assert (tight["choice"], tight["best"], tight["difference"]) == ("worse", "worse", 0)
    assert guide.within(table, {"parameters": 3})["choice"] is None


def test_what_varies_is_not_as_good_because_nothing_is_known_of_it():
    sizes = {"steady": 20, "noisy": 10, "quiet": 5}
    values = {"steady": (78.9, 79.0, 78.94), "noisy": (70.0, 78.9, 74.0)}
    row = guide.within(runs(values, parameters=sizes), {"parameters": 100})
    assert row["choice"] == "steady" and row["as_good"] == ["steady"]
    # nor is one whose mean lies within the margin
    near = guide.within(
        runs(values | {"noisy": (78.0, 80.0, 78.7)}, parameters=sizes), {"epochs": 3}
    )
    assert near["as_good"] == ["steady"] and near["best"] == "steady"
    # −2.8 points with a wide interval is not as good, −0.3 with a narrow one is
    noisy, quiet = (74.1, 79.2, 75.2), (78.61, 78.69, 78.64)
    values = {"steady": values["steady"], "noisy": noisy, "quiet": quiet}
    table = runs(values, parameters=sizes)
    pairs = statistics.paired(table, "steady")
    assert pairs.high["noisy"] > 0 > pairs.high["quiet"]  # "not significantly worse" says otherwise
    row = guide.within(table, {"parameters": 100})
    assert row["choice"] == "quiet" and row["as_good"] == ["quiet", "steady"]
    assert guide.within(table, {"parameters": 100}, margin=0.25)["choice"] == "steady"


def test_a_guide_may_use_the_noise_of_all():
    table = study_of(8, 3, effects=(0.2,)).assign(parameters=1)
    alone = guide.within(table, {"parameters": 1})
    together = guide.within(table, {"parameters": 1}, test=statistics.pooled)
    assert together["best"] == alone["best"]
    assert len(together["as_good"]) > len(alone["as_good"])


def test_the_guide_sets_budgets_by_the_plain_network():
    sizes = {"plain": 100, "wide": 120, "block": 110}
    steps = {"plain": 10, "wide": 14, "block": 11}
    values = {"plain": (70.0, 71.0, 72.0), "wide": (71, 73, 72.0), "block": (72, 73.5, 74)}
    rows = runs(values, parameters=sizes, step_ms=steps)
    found = guide.guide(rows, "plain", factors=(1, 1.2), columns=("parameters", "step_ms"))
    assert list(found.budget) == [
        "parameters ≤ 100", "parameters ≤ 120", "step_ms ≤ 10.0", "step_ms ≤ 12.0",
    ]  # fmt: skip
    assert found.choice[0] == "plain" and found.best[1] == "block" and found.best[3] == "block"
    without = guide.guide(rows.drop(columns="step_ms"), "plain", columns=("parameters", "step_ms"))
    assert len(without) == 3
    with pytest.raises(ValueError, match="plain must be one of"):
        guide.guide(rows, "fast")


@pytest.mark.parametrize(
    ("call", "says"),
    [
        (lambda t: statistics.paired(t, "c"), "baseline must be one of a, b; got 'c'"),
        (lambda t: statistics.paired(t, {"a": "c"}), "baseline of a must be one of a, b; got 'c'"),
        (lambda t: statistics.paired(t, "a", "speed"), "value must be one of .*; got 'speed'"),
        (lambda t: statistics.paired(t, "a", confidence=95), "confidence must be between 0 and 1"),
        (lambda t: statistics.pooled(t, "a", confidence=95), "confidence must be between 0 and 1"),
        (lambda t: statistics.means(t, confidence=95), "confidence must be between 0 and 1"),
        (lambda t: statistics.paired(t, "a", "dataset"), "value must name a column of numbers"),
        (lambda t: statistics.means(t.assign(test_accuracy=np.inf)), "must be finite"),
        (lambda t: statistics.paired(pd.concat([t, t]), "a"), "two of a, seed 0"),
        (lambda t: ranking.ranks(t[:0]), "at least one run"),
        (lambda t: ranking.ranks(t.assign(dataset=list("xyxy"))), "got dataset x, y"),
        (lambda t: ranking.ranks(t.drop([0, 3])), "no seed has a run of all 2"),
        (lambda t: statistics.matched(t, ["a"]), "got 'parameters'"),
        (lambda t: statistics.matched(t.assign(parameters=1), []), "baselines: expected"),
        (lambda t: statistics.equivalence(statistics.paired(t, "a"), 0), "margin must be above 0"),
        (lambda t: statistics.holm(t.epochs / 100, 3), "family must be at least 4, .* got 3"),
        (lambda t: guide.within(t, {}), "limits: expected"),
        (lambda t: guide.within(t, {"watts": 3}), "limits: column must .* got 'watts'"),
        (lambda t: guide.within(t, {"seed": 5}), "limits: column must .* got 'seed'"),
        (lambda t: guide.within(t, {"epochs": np.nan}), "limits: epochs must be a finite number"),
        (lambda t: guide.within(t, {"epochs": 5}, margin=-1), "margin must be above 0"),
        (lambda t: power.detectable(1.0, 1), "seeds must be .* at least 2, got 1"),
        (lambda t: power.detectable(-1, 5), "spread must be at least 0, got -1"),
        (lambda t: power.detectable(1, 5, 10**6), "for 1000000 comparisons"),
        (lambda t: power.seeds_needed(0, 1.0), "difference must be above 0"),
        (lambda t: power.seeds_needed(1, np.nan), "spread must be a finite number, got nan"),
        (lambda t: power.seeds_needed(np.nan, 1), "difference must be a finite number, got nan"),
        (lambda t: power.seeds_needed(1e-6, 1), "1,000,000 seeds can find, got 1e-06"),
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


def test_pooled_learns_the_noise_from_what_others_link_with_the_baseline():
    """A baseline and a setting with one seed; the plain network shares it, and later ones with c.

    Two networks over two seeds leave one degree of freedom: the difference of their differences.
    """
    values = {"a": [70.0, None, None], "b": [70.5, None, None], "plain": [71.0, 72.0, 71.5],
              "c": [None, 72.4, 71.6]}  # fmt: skip
    found = statistics.pooled(runs(values), "a").loc["b"]
    assert found.n == 1 and found.freedom == 1 and found.difference == pytest.approx(0.5)
    twice = (72.4 - 72.0) - (71.6 - 71.5)  # a normal variable of variance 4 · noise²
    assert found.spread == pytest.approx(2**0.5 * abs(twice) / 2)
    assert found.error == pytest.approx(found.spread)  # one pair
    assert found.high - 0.5 == pytest.approx(stats.t.ppf(0.975, 1) * found.error)
    assert np.isnan(statistics.pooled(runs(values), "a").difference["c"])  # shares no seed with a


def test_what_shares_no_seed_with_the_baseline_has_no_difference_to_it():
    values = {"a": [70.0, 71.0, None, None], "b": [70.5, 71.2, None, None],
              "c": [None, None, 110.0, 111.5], "d": [None, None, 110.2, 111.0]}  # fmt: skip
    found = statistics.pooled(runs(values), "a")
    assert found.n.to_dict() == {"b": 2, "c": 0, "d": 0}
    columns = ["difference", "low", "high", "p", "p_corrected", "detectable", "spread"]
    assert found.loc[["c", "d"], columns].isna().all(axis=None)
    alone = statistics.paired(runs({name: values[name] for name in "ab"}), "a").loc["b"]
    for column in columns:  # as if c and d were not there
        assert found.loc["b", column] == pytest.approx(alone[column]), column
    with pytest.raises(ValueError, match="no network has a seed in common with a"):
        statistics.pooled(runs({name: values[name] for name in "acd"}), "a")


@pytest.mark.parametrize("test", [statistics.paired, statistics.pooled])
def test_an_accuracy_that_is_nan_is_a_run_that_is_missing(test):
    table = study_of(5, 4, effects=(0, 1))
    damaged = table.copy()
    damaged.loc[damaged.index[6], "test_accuracy"] = np.nan  # of n1
    pd.testing.assert_frame_equal(test(damaged, "n0"), test(table.drop(index=6), "n0"))
    assert test(damaged, "n0").n.to_dict() == {"n1": 3, "n2": 4, "n3": 4, "n4": 4}
    assert test(damaged, "n0").p.notna().all()


def test_names_that_look_like_seeds_are_names():
    table = study_of(4, 3, effects=(0, 1))
    renamed = table.assign(name=table.name.str.removeprefix("n"))
    ours, theirs = statistics.pooled(renamed, "0"), statistics.pooled(table, "n0")
    np.testing.assert_allclose(ours.difference, theirs.difference)


@pytest.mark.parametrize("networks", [2, 5, 12])
def test_pooled_detects_as_often_as_it_says_after_the_correction(networks):
    found = statistics.pooled(study_of(networks, 4), "n0")
    comparisons, freedom = networks - 1, (networks - 1) * 3
    shift = found.detectable / (found.spread / 4**0.5)
    critical = stats.t.ppf(1 - 0.05 / comparisons / 2, freedom)
    assert stats.nct.sf(critical, freedom, shift) == pytest.approx(np.full(comparisons, 0.8))


def test_versus_is_the_comparison_turned_round():
    values = {"mine": (80, 81, 83.0), "se": (78, 80, 80.0), "plain": (79, 82, 81.0)}
    table = runs(values)
    pairs = statistics.versus(table, "mine", ["se", "plain", "not trained"])
    assert list(pairs.index) == ["se", "plain"] and set(pairs.baseline) == {"mine"}
    other = statistics.paired(table[table.name != "plain"], "se").loc["mine"]
    columns = ["difference", "low", "high", "p", "detectable"]
    one = statistics.versus(table, "mine", ["se"])  # one comparison, nothing to correct
    assert one.loc["se", columns].to_list() == pytest.approx(other[columns].to_list())
    assert one.p_corrected["se"] == pytest.approx(other.p)
    alone = statistics.paired(table, "mine").p_corrected
    assert pairs.p_corrected.to_dict() == pytest.approx(alone[["se", "plain"]].to_dict())
    pooled = statistics.versus(table, "mine", ["se"], statistics.pooled).loc["se"]
    whole = statistics.pooled(table, "mine").loc["se"]
    assert (pooled.difference, pooled.low) == pytest.approx((-whole.difference, -whole.high))
    assert statistics.versus(table, "other", ["se"]).empty


# ------------------------------------------------------------------------------------ equivalence


def test_equivalence_is_the_librarys_two_one_sided_tests(rng):
    values = {name: rng.normal(70, 0.3, 5) for name in "abcd"}
    found = statistics.equivalence(statistics.paired(runs(values), "a"), margin=0.6)
    expected = [ttost_paired(values[name], values["a"], -0.6, 0.6)[0] for name in "bcd"]
    assert found.p.to_list() == pytest.approx(expected)
    assert found.p_corrected.to_list() == pytest.approx(multipletests(expected, method="holm")[1])
    pairs = statistics.paired(runs(values), "a", confidence=0.9)  # 1 − 2α for α = 5 %
    assert found.low.to_list() == pytest.approx(pairs.low.to_list())
    inside = (found.low > -0.6) & (found.high < 0.6)
    assert ((found.p < 0.05) == inside).all()


def test_equal_is_what_is_shown_to_be_equal():
    base = [70.0, 71.0, 72.0, 73.0]
    shifts = {"same": (0.1, 0, -0.1, 0), "other": (2, 2.1, 2, 1.9), "unknown": (-3, 3, 2, -2)}
    values = {"base": base, "tie": base, "one": [70.0, None, None, None]}
    values |= {name: list(np.add(base, shift)) for name, shift in shifts.items()}
    pairs = statistics.paired(runs(values), "base")
    found = statistics.equivalence(pairs, margin=0.5)
    assert found.equivalent.to_dict() == {
        "tie": True, "one": False, "same": True, "other": False, "unknown": False,
    }  # fmt: skip
    assert not statistics.significant(pairs)["unknown"]  # not significant is not equal
    assert not statistics.equivalence(pairs, margin=0.05).equivalent["same"]
    # one test of several may be lucky: Holm
    near = found.assign(p=[0.03, np.nan, 0.03, 1, 1])
    assert (statistics.holm(near.p).dropna() >= 0.03 * 4 - 1e-12).all()
