"""What a study can say about its networks, from a table of runs (`records.frame`).

A number over seeds has two kinds of uncertainty. Another seed trains another network: that is the
one treated here, and every interval below is over seeds. Other test images would give the same
networks other accuracies: all networks of a table are tested on the same images, so this does not
enter a paired difference as it enters an accuracy, and no number here contains it.

Comparisons are paired: networks of one seed share the order of the images, their augmentation, and
the initial weights of the layers that they have in common.
"""

import itertools
from typing import NamedTuple

import numpy as np
import pandas as pd
from scipy import special, stats
from statsmodels.regression.linear_model import OLS
from statsmodels.stats.multitest import multipletests

from attention.checks import at_least, at_least_one, one_of

# Columns in which all rows of a table must agree, or the runs are no fair comparison.
SETTING = ("dataset", "train_images", "epochs")


def by_seed(table, value="test_accuracy"):
    """A row a seed and a column a network, in the table's order; a run that is missing is nan.

    table: a frame with the columns name, seed and `value`. Raises ValueError when a column is
    missing or not a number, when the rows come from several datasets or settings, or when a
    network has two rows for one seed.
    """
    for column in ("name", "seed", value):
        one_of("table: column", column, list(table.columns))
    if not len(table):
        raise ValueError("table: expected at least one run, got none")
    if not pd.api.types.is_numeric_dtype(table[value]):
        raise ValueError(f"table: column {value} must hold numbers, got {table[value].dtype}")
    for column in SETTING:
        if column in table and table[column].nunique() > 1:
            found = ", ".join(map(str, table[column].unique()))
            raise ValueError(
                f"table: expected runs of one setting, got {column} {found}; select the rows of "
                "one, or drop the column where the difference is meant"
            )
    twice = table[table.duplicated(["name", "seed"])]
    if len(twice):
        name, seed = twice.iloc[0][["name", "seed"]]
        raise ValueError(f"table: expected one row a name and seed, got two of {name}, seed {seed}")
    wide = table.pivot(index="seed", columns="name", values=value)
    return wide[table["name"].unique()].astype(float)


def means(table, value="test_accuracy", confidence=0.95):
    """One row a network: its seeds n, mean, and the t interval (low, high) of the mean over seeds.

    The other columns of numbers (parameters, seconds, …) follow, as means over seeds. One seed
    gives a mean and no interval.
    """
    wide = by_seed(table, value)
    n = wide.count()
    half = stats.t.ppf(1 - _alpha(confidence) / 2, n - 1) * wide.std() / np.sqrt(n)
    mean = wide.mean()
    result = pd.DataFrame({"n": n, "mean": mean, "low": mean - half, "high": mean + half})
    others = table.select_dtypes("number").columns.difference(["seed", value], sort=False)
    return result.join(table.groupby("name")[list(others)].mean())


def _alpha(confidence):
    """How often an interval of this confidence misses, and a test at its level errs."""
    if not 0 < confidence < 1:
        raise ValueError(f"confidence must lie between 0 and 1, got {confidence!r}")
    return 1 - confidence


def paired(table, baseline, value="test_accuracy", confidence=0.95):
    """Every network against a baseline, over the seeds that both have.

    baseline: the name of a network, or {name: the name of its own baseline}.

    One row a network: baseline; n, the seeds both have; over these, the network's mean, the mean
    difference to the baseline, and the spread (standard deviation) of the differences; low and
    high, the paired t interval; p of the paired t-test; p_corrected (Holm, Scandinavian Journal of
    Statistics 1979) for all rows with a p; detectable, see `detectable`; confidence. Fewer than
    two shared seeds give nan.

    The interval is that of one comparison on its own. It can exclude zero where the corrected p is
    not below 1 − confidence: "significant" is said by p_corrected.
    """
    wide = by_seed(table, value)
    _alpha(confidence)
    names = list(wide.columns)
    if not isinstance(baseline, dict):
        one_of("baseline", baseline, names)
        baseline = {name: baseline for name in names if name != baseline}
    for name, other in baseline.items():
        one_of("baseline: name", name, names)
        one_of(f"baseline of {name}", other, names)
    columns = ["baseline", "n", "mean", "difference", "spread", "low", "high", "p"]
    values = {name: column.to_numpy() for name, column in wide.items()}
    rows = [
        (other, *_pair(values[name], values[other], confidence)) for name, other in baseline.items()
    ]
    result = pd.DataFrame(rows, index=pd.Index(list(baseline), name="name"), columns=columns)
    tested = result.p.notna()
    result["p_corrected"] = np.nan
    if tested.any():
        result.loc[tested, "p_corrected"] = multipletests(result.p[tested], method="holm")[1]
    result["detectable"] = [
        detectable(row.spread, row.n, tested.sum(), confidence) if row.n >= 2 else np.nan
        for row in result.itertuples()
    ]
    return result.assign(confidence=confidence)


def _pair(ours, theirs, confidence):
    """n, our mean, the mean difference, its spread, low, high and p of one paired comparison."""
    both = ~np.isnan(ours) & ~np.isnan(theirs)
    ours, theirs = ours[both], theirs[both]
    difference = ours - theirs
    n = len(difference)
    if not n:
        return (0, *[np.nan] * 6)
    mean = difference.mean()
    if n == 1:
        return (1, ours.mean(), mean, *[np.nan] * 4)
    if np.ptp(difference) <= 1e-12 * np.abs([ours, theirs]).max():
        # no spread, only rounding of floats: the limit of the formulas, which divide by it
        return n, ours.mean(), mean, 0.0, mean, mean, float(mean == 0)
    test = stats.ttest_rel(ours, theirs)
    low, high = test.confidence_interval(confidence)
    return n, ours.mean(), mean, difference.std(ddof=1), low, high, test.pvalue


def pooled(table, baseline, value="test_accuracy", confidence=0.95):
    """`paired`, with one spread for all networks, estimated from all of them together.

    A row a network other than the baseline, with the columns of `paired`. A model of two factors,
    accuracy = network + seed + noise, is fitted to the whole table (randomised blocks, Fisher 1935)
    by least squares. With few seeds this sees far smaller differences than a t-test of a few pairs,
    at a price: it holds only if the noise is alike for all networks. Leave out those for which it
    plainly is not. Seeds may be missing; a network without one that another has is left out.

    spread: the standard deviation of a difference of two runs of one seed, √2 times the noise.
    Raises ValueError when the table leaves nothing to estimate the noise from.
    """
    alpha, names = _alpha(confidence), list(by_seed(table, value).columns)
    one_of("baseline", baseline, names)
    others = [name for name in names if name != baseline]
    factors = pd.concat([
        pd.get_dummies(table.name, dtype=float)[others],
        pd.get_dummies(table.seed, dtype=float),
    ], axis=1)  # fmt: skip
    fit = OLS(table[value].astype(float), factors.rename(columns=str)).fit()
    if fit.df_resid < 1:
        raise ValueError("table: expected two networks with two seeds in common, got fewer")
    noise = np.sqrt(max(fit.mse_resid, 0.0))
    ends = fit.conf_int(alpha).loc[others]
    runs = table.groupby("name").seed.agg(set)
    result = pd.DataFrame({
        "baseline": baseline,
        "n": [len(runs[name] & runs[baseline]) for name in others],
        "mean": by_seed(table, value)[others].mean(),
        "difference": fit.params[others],
        "spread": np.sqrt(2) * noise,
        "low": ends[0],
        "high": ends[1],
        "p": fit.pvalues[others],
    }, index=pd.Index(others, name="name"))  # fmt: skip
    result["p_corrected"] = multipletests(result.p, method="holm")[1]
    level = 1 - alpha / len(others)
    result["detectable"] = _detectable(fit.bse[others], fit.df_resid, level, 0.8)
    return result.assign(confidence=confidence)


def detectable(spread, seeds, comparisons=1, confidence=0.95, power=0.8):
    """The smallest true difference that a paired t-test finds with probability `power`.

    spread: the standard deviation of the paired differences; the result has its unit. The test is
    two-sided at α = (1 − confidence) / comparisons: what Holm's correction asks of the smallest p,
    so the probability is at least this, whatever the other comparisons give.
    """
    at_least(2, "seeds", int(seeds))
    alpha = _alpha(confidence) / at_least_one("comparisons", int(comparisons))
    if not alpha < power < 1:
        raise ValueError(f"power must lie between {alpha:.3g} and 1, got {power!r}")
    return float(_detectable(spread / np.sqrt(seeds), seeds - 1, 1 - alpha, power))


def _detectable(error, freedom, confidence, power):
    """The same, from the standard error of a difference and its degrees of freedom."""
    critical = stats.t.ppf((1 + confidence) / 2, freedom)
    # the shift of a non-central t; statsmodels' solve_power gives wrong numbers for few seeds
    return error * special.nctdtrinc(freedom, 1 - power, critical)


def seeds_needed(difference, spread, comparisons=1, confidence=0.95, power=0.8):
    """How many seeds find a true `difference` with probability `power`; see `detectable`."""
    if not difference > 0:
        raise ValueError(f"difference must be above 0, got {difference!r}")
    for seeds in itertools.count(2):
        if detectable(spread, seeds, comparisons, confidence, power) <= difference:
            return seeds


def matched(table, baselines, value="test_accuracy", confidence=0.95):
    """Every network against the plain network of its size: `paired`, with a baseline for each.

    baselines: names of plain networks of several widths. A network is compared with the smallest
    of them that has at least as many parameters; one that is larger than all of them is compared
    with the largest. Three columns are added: parameters, baseline_parameters, and outgrown, True
    where the network is larger than every baseline: there the comparison favours it.
    """
    one_of("table: column", "parameters", list(table.columns))
    sizes = table.groupby("name", sort=False).parameters.first()
    for name in baselines:
        one_of("baselines", name, list(sizes.index))
    if not len(baselines):
        raise ValueError("baselines: expected at least one name, got none")
    plain = sizes[list(baselines)].sort_values()
    place = plain.searchsorted(sizes.drop(plain.index)).clip(max=len(plain) - 1)
    others = dict(zip(sizes.drop(plain.index).index, plain.index[place], strict=True))
    result = paired(table, others, value, confidence)
    result["parameters"] = sizes[result.index].to_numpy()
    result["baseline_parameters"] = plain[result.baseline].to_numpy()
    result["outgrown"] = result.parameters > result.baseline_parameters
    return result


class Ranks(NamedTuple):
    """table: a row a network, with mean, best and worst rank, best network first; by_seed: a row
    a seed, a column a network; agreement: Kendall's W, from 0 (another order each seed) to 1 (the
    same order); p: of Friedman's test that all networks rank alike."""

    table: pd.DataFrame
    by_seed: pd.DataFrame
    agreement: float
    p: float


def ranks(table, value="test_accuracy"):
    """How stable the order of the networks is over seeds; rank 1 is the highest value.

    Only seeds count in which all networks are there; none is a ValueError. Ties share their mean
    rank. W = χ² / (n (k − 1)), with χ² of Friedman's test over n seeds and k networks (Kendall and
    Babington Smith, Annals of Mathematical Statistics 1939). It is nan for one seed, for fewer than
    three networks, and where nothing differs. Its p is an approximation, rough below ten seeds.
    """
    wide = by_seed(table, value)
    whole = wide.dropna()
    if not len(whole):
        raise ValueError(f"table: no seed has a run of all {wide.shape[1]} networks")
    seats = whole.rank(axis=1, ascending=False)
    result = pd.DataFrame({"mean": seats.mean(), "best": seats.min(), "worst": seats.max()})
    result = result.sort_values(["mean", "worst"], kind="stable")
    n, k = whole.shape
    agreement = p = np.nan
    if n > 1 and k > 2 and (np.ptp(whole.to_numpy(), axis=1) > 0).any():
        test = stats.friedmanchisquare(*whole.to_numpy().T)
        agreement, p = float(test.statistic / (n * (k - 1))), float(test.pvalue)
    return Ranks(result, seats[result.index], agreement, p)


def within(table, limits, value="test_accuracy", confidence=0.95):
    """What to take within a budget: one row of a decision guide, a dict.

    pd.DataFrame([within(table, {"parameters": 130_000}), within(table, {"step_ms": 150})])

    limits: {column of the table: the most that it may be}. The best is the network with the
    highest mean among those that obey all limits. As good is what cannot be told from it: the
    interval of the paired difference to it includes zero. No significant difference: the choice is
    the cheapest of these, by the first column of `limits`.

    Gives budget, the limits in words; choice, with its mean, low and high over seeds, and its cost
    in the first column; best; difference, choice minus best, with difference_low and
    difference_high; as_good, all names of that kind, cheapest first, the best among them;
    untested, the names that obey the limits but have not two seeds, or not two that the best has.
    Where no network can be chosen, choice is None, with only budget and untested beside it.

    The best is picked by the numbers that are shown, so its mean is too high rather than too low.
    The intervals are not corrected for the number of pairs: a correction would call more networks
    as good as the best, and the guide would give more away.
    """
    if not limits:
        raise ValueError("limits: expected at least one column with its limit, got none")
    for column in limits:
        one_of("limits: column", column, list(table.columns))
    cost = next(iter(limits))
    everything = means(table, value, confidence)
    if value in limits:
        raise ValueError(f"limits: {value} is what is maximised, it cannot be limited too")
    obeys = np.all([everything[column] <= most for column, most in limits.items()], axis=0)
    allowed = everything[obeys]
    row = {"budget": ", ".join(f"{column} ≤ {most:,}" for column, most in limits.items())}
    candidates = allowed[allowed.n >= 2]
    if not len(candidates):
        return {**row, "choice": None, "untested": list(allowed.index)}
    best = candidates["mean"].idxmax()
    pairs = paired(table, {name: best for name in candidates.index}, value, confidence)
    # the best against itself is a tie, and so as good as the best
    same = pairs.index[(pairs.low <= 0) & (pairs.high >= 0)]
    as_good = candidates.loc[same].sort_values([cost, "mean"], ascending=[True, False])
    choice = as_good.index[0]
    pair, chosen = pairs.loc[choice], as_good.iloc[0]
    return {
        **row,
        "choice": choice,
        "mean": chosen["mean"],
        "low": chosen.low,
        "high": chosen.high,
        "cost": chosen[cost],
        "difference": pair.difference,
        "difference_low": pair.low,
        "difference_high": pair.high,
        "best": best,
        "as_good": list(as_good.index),
        "untested": [name for name in allowed.index if name not in pairs.index[pairs.n >= 2]],
    }
