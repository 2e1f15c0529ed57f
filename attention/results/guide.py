"""What to take within a budget: the cheapest network that is shown to be no worse than the best."""

from collections.abc import Callable, Mapping, Sequence

import numpy as np
import pandas as pd
from scipy import stats

from attention.checks import finite, one_of, positive
from attention.results.statistics import means, paired
from attention.results.tables import COSTS


def within(
    table: pd.DataFrame,
    limits: Mapping[str, float],
    margin: float = 0.5,
    value: str = "test_accuracy",
    confidence: float = 0.95,
    test: Callable = paired,
) -> dict:
    """What to take within a budget: one row of a decision guide.

    pd.DataFrame([within(table, {"parameters": 130_000}), within(table, {"step_ms": 150})])

    limits: {column of the table: the most that it may be}. The best is the network with the
    highest mean among those that obey all limits. The rule is non-inferiority: as good is what is
    shown to be worse than the best by less than `margin`, points of `value`: the one-sided lower
    bound of its difference to the best, at `confidence`, lies above −margin. A network whose seeds
    vary is not as good because nothing is known of it. The choice is the cheapest of these, by the
    first column of `limits`. test: `statistics.paired` or `pooled`.

    Gives budget, the limits in words; choice, with its mean, low and high over seeds, and its cost
    in the first column; best; difference, choice minus best, with its lower bound difference_low;
    as_good, all names of that kind, cheapest first, the best among them; untested, the names that
    obey the limits but have not two seeds, or not two that the best has. Where no network can be
    chosen, choice is None, with only budget and untested beside it.

    The best is picked by the numbers that are shown, so its mean is too high rather than too low.
    The bounds are not corrected for the number of pairs: the guide errs on the side of cheapness in
    `confidence` of cases for each pair, not for all.
    """
    positive("margin", margin)
    everything = means(table, value, confidence)
    if value in limits:
        raise ValueError(f"limits: {value} is what is maximised, it cannot be limited too")
    if not limits:
        raise ValueError("limits: expected at least one column with its limit, got none")
    costs = everything.select_dtypes("number").columns.difference(["n", "mean", "low", "high"])
    for column, most in limits.items():
        one_of("limits: column", column, list(costs))
        finite(f"limits: {column}", most)
    cost = next(iter(limits))
    obeys = np.all([everything[column] <= most for column, most in limits.items()], axis=0)
    allowed = everything[obeys]
    row = {"budget": ", ".join(f"{column} ≤ {most:,}" for column, most in limits.items())}
    candidates = allowed[allowed.n >= 2]
    if not len(candidates):
        return {**row, "choice": None, "untested": list(allowed.index)}
    best = candidates["mean"].idxmax()
    difference, bound = pd.Series({best: 0.0}), pd.Series({best: 0.0})
    if len(candidates) > 1:
        pairs = test(table[table.name.isin(candidates.index)], best, value, confidence)
        below = stats.t.ppf(confidence, pairs.freedom) * pairs.error
        difference = pd.concat([difference, pairs.difference])
        bound = pd.concat([bound, pairs.difference - below])
    as_good = candidates.loc[bound.index[bound > -margin]]
    as_good = as_good.sort_values([cost, "mean"], ascending=[True, False])
    choice = as_good.index[0]
    chosen = as_good.iloc[0]
    return {
        **row,
        "choice": choice,
        "mean": chosen["mean"],
        "low": chosen.low,
        "high": chosen.high,
        "cost": chosen[cost],
        "difference": difference[choice],
        "difference_low": bound[choice],
        "best": best,
        "as_good": list(as_good.index),
        "untested": [name for name in allowed.index if np.isnan(bound.get(name, np.nan))],
    }


def guide(
    table: pd.DataFrame,
    plain: str,
    factors: Sequence[float] = (1.02, 1.1, 1.5),
    columns: Sequence[str] = ("parameters", *COSTS),
    margin: float = 0.5,
    test: Callable = paired,
) -> pd.DataFrame:
    """A decision guide: `within` for budgets that are multiples of what the network `plain` takes.

    table: the runs of one setting, with their costs (`tables.beside`). A column without a number
    for the plain network is left out. margin, test: as in `within`.
    """
    found = means(table)
    one_of("plain", plain, list(found.index))
    rows = []
    for column in columns:
        if column not in found or pd.isna(found[column][plain]):
            continue
        for factor in factors:
            limit = float(f"{factor * found[column][plain]:.3g}")
            limits = {column: int(limit) if limit >= 100 else limit}
            rows.append({"plain's times": factor, **within(table, limits, margin, test=test)})
    return pd.DataFrame(rows)
