"""What a study can say about its networks, from a table of runs (`tables.frame`).

A number over seeds has two kinds of uncertainty. Another seed trains another network: that is the
one treated here, and every interval below is over seeds. Other test images would give the same
networks other accuracies: all networks of a table are tested on the same images, so this does not
enter a paired difference as it enters an accuracy, and no number here contains it.

Comparisons are paired: networks of one seed share the order of the images, their augmentation, and
the initial weights of the layers that they have in common.

One test for one claim: a figure, a table and a sentence about a difference take it from the same
table of pairs, and call it significant where `significant` does. "Not significant" is not "equal":
for that there is `equivalence`.
"""

from collections.abc import Callable, Mapping, Sequence

import numpy as np
import pandas as pd
from scipy import stats
from scipy.sparse.csgraph import connected_components
from statsmodels.regression.linear_model import OLS

from attention.checks import fraction, instance, one_of, positive
from attention.results.power import detectable, smallest_shift
from attention.results.tables import DESCRIBING

LEAST = 3  # seeds, for an interval of a mean
# Columns in which all rows of a table must agree, or the runs are no fair comparison.
SETTING = ("dataset", "train_images", "epochs", "recipe")


def by_seed(table: pd.DataFrame, value: str = "test_accuracy") -> pd.DataFrame:
    """A row a seed and a column a network, in the table's order; a run that is missing is nan.

    table: a frame with the columns name, seed and `value`; a value that is nan is a run that is
    missing. Raises ValueError when a column is missing or not a number, a value infinite, when the
    rows come from several datasets or settings, or when a network has two rows for one seed.
    """
    columns = list(instance(pd.DataFrame, "table", table).columns)
    for column in ("name", "seed"):
        one_of("table: column", column, columns)
    one_of("value", value, columns)
    if not len(table):
        raise ValueError("table: expected at least one run, got none")
    if not pd.api.types.is_numeric_dtype(table[value]):
        raise ValueError(
            f"value must name a column of numbers, got {value!r} of {table[value].dtype}"
        )
    if np.isinf(table[value]).any():
        raise ValueError(f"table: column {value} must be finite, got an infinite value")
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


def means(
    table: pd.DataFrame, value: str = "test_accuracy", confidence: float = 0.95
) -> pd.DataFrame:
    """One row a network: its seeds n, mean, and the t interval (low, high) of the mean over seeds.

    The other columns of numbers (parameters, seconds, …) follow, as means over seeds, and the
    columns that describe the network. Fewer than `LEAST` seeds give a mean and no interval: two
    that happen to agree would claim to know it exactly.
    """
    wide = by_seed(table, value)
    n = wide.count()
    half = stats.t.ppf((1 + fraction("confidence", confidence)) / 2, n - 1) * wide.std() / n**0.5
    mean, half = wide.mean(), half.where(n >= LEAST)
    result = pd.DataFrame({"n": n, "mean": mean, "low": mean - half, "high": mean + half})
    others = table.select_dtypes("number").columns
    others = others.difference(["seed", value, *DESCRIBING], sort=False)
    return described(result.join(table.groupby("name")[list(others)].mean()), table)


def described(result: pd.DataFrame, table: pd.DataFrame) -> pd.DataFrame:
    """`result`, a frame by name, with what `table` says of these networks beside it."""
    columns = [column for column in DESCRIBING if column in table]
    about = table.drop_duplicates("name").set_index("name")[columns]
    return result.join(about.drop(columns=result.columns.intersection(columns)))


def paired(
    table: pd.DataFrame,
    baseline: str | Mapping[str, str],
    value: str = "test_accuracy",
    confidence: float = 0.95,
) -> pd.DataFrame:
    """Every network against a baseline, over the seeds that both have.

    baseline: the name of a network, or {name: the name of its own baseline}.

    One row a network: baseline; n, the seeds both have; over these, the network's mean, the mean
    difference to the baseline, the spread (standard deviation) of the differences, the standard
    error of their mean and its degrees of freedom; low and high, the paired t interval; p of the
    paired t-test; p_corrected (Holm, Scandinavian Journal of Statistics 1979) for all rows with a
    p; detectable, see `power.detectable`; confidence; and what describes the network. Fewer than
    two shared seeds give nan.

    The interval is that of one comparison on its own. It can exclude zero where the corrected p is
    not below 1 − confidence: "significant" is said by p_corrected, see `significant`.
    """
    wide = by_seed(table, value)
    fraction("confidence", confidence)
    names = list(wide.columns)
    if not isinstance(baseline, Mapping):
        one_of("baseline", baseline, names)
        baseline = {name: baseline for name in names if name != baseline}
    for name, other in baseline.items():
        one_of("baseline: name", name, names)
        one_of(f"baseline of {name}", other, names)
    rows = [
        {"baseline": other, **_pair(wide[name].to_numpy(), wide[other].to_numpy(), confidence)}
        for name, other in baseline.items()
    ]
    columns = [
        "baseline", "n", "mean", "difference", "spread", "error", "freedom", "low", "high", "p",
    ]  # fmt: skip
    result = pd.DataFrame(rows, index=pd.Index(list(baseline), name="name"), columns=columns)
    result["p_corrected"] = holm(result.p)
    count = int(result.p.count())
    result["detectable"] = [
        detectable(row.spread, int(row.n), count, confidence) if row.n > 1 else np.nan
        for row in result.itertuples()
    ]
    return described(result.assign(confidence=confidence), table)


def _pair(ours, theirs, confidence):
    """The numbers of one paired comparison; what too few seeds cannot give is left out."""
    both = ~np.isnan(ours) & ~np.isnan(theirs)
    ours, theirs = ours[both], theirs[both]
    difference = ours - theirs
    n = len(difference)
    if not n:
        return {"n": 0}
    result = {"n": n, "mean": ours.mean(), "difference": difference.mean()}
    if n == 1:
        return result
    if np.ptp(difference) <= 1e-12 * np.abs([ours, theirs]).max():
        # no spread, only rounding of floats: the limit of the formulas, which divide by it
        spread, low, high = 0.0, difference.mean(), difference.mean()
        p = float(difference.mean() == 0)
    else:
        test = stats.ttest_rel(ours, theirs)
        spread, p = difference.std(ddof=1), test.pvalue
        low, high = test.confidence_interval(confidence)
    error = spread / n**0.5
    return result | dict(spread=spread, error=error, freedom=n - 1, low=low, high=high, p=p)


def holm(p: pd.Series, family: int | None = None) -> pd.Series:
    """p corrected for all comparisons that have one (Holm, as in `paired`); nan stays nan.

    The smallest p times their number, the next times one less, …, never below the one before.
    family: a larger number, where more were planned. The missing p then count as 1, their worst.
    """
    # statsmodels' multipletests collects garbage at every call: a second each where torch is loaded
    ordered = p.astype(float).dropna().sort_values()
    if (family := len(ordered) if family is None else family) < len(ordered):
        raise ValueError(f"family must be at least {len(ordered)}, all p there are, got {family}")
    corrected = (ordered * (family - np.arange(len(ordered)))).cummax().clip(upper=1)
    return corrected.reindex(p.index)


def significant(pairs: pd.DataFrame) -> pd.Series:
    """By name: whether a difference stays significant after the correction for all rows.

    pairs: from `paired`, `pooled`, `matched` or `versus`.
    """
    return pairs.p_corrected < 1 - pairs.confidence


def pooled(
    table: pd.DataFrame,
    baseline: str,
    value: str = "test_accuracy",
    confidence: float = 0.95,
) -> pd.DataFrame:
    """`paired`, with one spread for all networks, estimated from all of them together.

    A row a network other than the baseline, with the columns of `paired`. A model of two factors,
    accuracy = network + seed + noise, is fitted by least squares (randomised blocks, Fisher 1935).
    With few seeds this sees far smaller differences than a t-test of a few pairs, at a price: it
    holds only if the noise is alike in all. Leave out networks for which it plainly is not. Seeds
    may be missing. A network that shares none with the baseline has n = 0 and nan; it takes part in
    the fit where others link the two. spread: the standard deviation of a difference of two runs of
    one seed, √2 times the noise. Raises ValueError where nothing tells the noise.
    """
    alpha, wide = 1 - fraction("confidence", confidence), by_seed(table, value)
    one_of("baseline", baseline, list(wide.columns))
    common = wide.notna().T.astype(int) @ wide.notna().astype(int)  # seeds, of every two networks
    shared = common[baseline].drop(baseline)
    others = shared.index[shared > 0]
    if not len(others):
        raise ValueError(f"table: no network has a seed in common with {baseline}")
    _, island = connected_components(common.to_numpy())
    linked = common.index[island == island[common.index.get_loc(baseline)]].drop(baseline)
    runs = table[table.name.isin([baseline, *linked])].dropna(subset=value)
    networks = pd.get_dummies(runs.name, dtype=float)[linked]
    seeds, first = pd.get_dummies(runs.seed, dtype=float), slice(len(linked))
    fit = OLS(runs[value].to_numpy(float), np.hstack([networks, seeds])).fit()
    if fit.df_resid < 1:
        raise ValueError("table: expected two networks with two seeds in common, got fewer")
    low, high = fit.conf_int(alpha)[first].T
    numbers = {
        "difference": fit.params[first], "spread": (2 * max(fit.mse_resid, 0.0)) ** 0.5, "low": low,
        "high": high, "error": fit.bse[first], "freedom": fit.df_resid, "p": fit.pvalues[first],
    }  # fmt: skip
    found = pd.DataFrame(numbers, index=linked).loc[others]
    found["p_corrected"] = holm(found.p)
    found["detectable"] = smallest_shift(found.error, found.freedom, alpha / len(others))
    result = pd.DataFrame({"baseline": baseline, "n": shared, "mean": wide.mean()[shared.index]})
    return described(result.join(found).rename_axis("name").assign(confidence=confidence), table)


def versus(
    table: pd.DataFrame,
    name: str,
    others: Sequence[str],
    test: Callable = paired,
    confidence: float = 0.95,
) -> pd.DataFrame:
    """A test the other way round: `name` minus each of `others`, a row for each.

    test: `paired` or `pooled`. Only those of `others` that have runs get a row, none if `name` has
    none. The correction (Holm) is for these comparisons alone, and so is detectable.
    """
    there = [other for other in others if {name, other} <= set(table.name)]
    if not there:
        return paired(table, {}, confidence=confidence)
    pairs = test(table, name, confidence=confidence).loc[there]
    turned = {"difference": -pairs.difference, "low": -pairs.high, "high": -pairs.low}
    alpha = (1 - confidence) / max(1, pairs.p.notna().sum())
    within_reach = smallest_shift(pairs.error, pairs.freedom, alpha)
    return pairs.assign(**turned, p_corrected=holm(pairs.p), detectable=within_reach)


def equivalence(pairs: pd.DataFrame, margin: float) -> pd.DataFrame:
    """Two one-sided tests: is the true difference within ± `margin`? (Schuirmann, Journal of
    Pharmacokinetics and Biopharmaceutics 1987)

    pairs: from `paired`, `pooled`, `matched` or `versus`. margin: in the unit of the difference,
    points of accuracy; to be chosen before the numbers are seen.

    One row a network: baseline, n, difference; low and high, the interval of 1 − 2α that must lie
    within the margin (α = 1 − confidence); p, the larger of both tests; p_corrected (Holm) for all
    rows; equivalent, whether that is below α; margin and confidence. Fewer than two seeds shared
    are nan and not equivalent.
    """
    positive("margin", margin)
    half = stats.t.ppf(pairs.confidence, pairs.freedom) * pairs.error
    with np.errstate(divide="ignore", invalid="ignore"):  # no spread is no doubt
        above = stats.t.sf((pairs.difference + margin) / pairs.error, pairs.freedom)
        below = stats.t.cdf((pairs.difference - margin) / pairs.error, pairs.freedom)
    result = pairs[["baseline", "n", "difference"]].assign(
        low=pairs.difference - half, high=pairs.difference + half, p=np.maximum(above, below)
    )
    result["p_corrected"] = holm(result.p)
    result["equivalent"] = result.p_corrected < 1 - pairs.confidence
    return described(result.assign(margin=margin, confidence=pairs.confidence), pairs.reset_index())


def matched(
    table: pd.DataFrame,
    baselines: Sequence[str],
    value: str = "test_accuracy",
    confidence: float = 0.95,
) -> pd.DataFrame:
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
