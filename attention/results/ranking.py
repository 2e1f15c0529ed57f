"""How stable an order is: the ranks of networks over seeds."""

from typing import NamedTuple

import numpy as np
import pandas as pd
from scipy import stats

from attention.results.statistics import by_seed, described


def complete(table: pd.DataFrame) -> pd.DataFrame:
    """The runs of those networks that have as many seeds as any has: what ranks can compare."""
    count = table.groupby("name").seed.transform("nunique")
    return table[count == count.max()]


class Ranks(NamedTuple):
    """table: a row a network, with mean, best and worst rank, best network first; by_seed: a row
    a seed, a column a network; agreement: Kendall's W, 1 where all seeds give the same order, about
    one over the number of seeds where their orders have nothing to do with each other; p: of
    Friedman's test that all networks rank alike."""

    table: pd.DataFrame
    by_seed: pd.DataFrame
    agreement: float
    p: float


def ranks(table: pd.DataFrame, value: str = "test_accuracy") -> Ranks:
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
    return Ranks(described(result, table), seats[result.index], agreement, p)
