"""What a study of a given size can find: the smallest difference, and the seeds that it takes."""

import bisect

import numpy as np
from scipy import special, stats

from attention.checks import at_least, at_least_one, fraction, not_negative, positive

MOST_SEEDS = 1_000_000
LEAST_ALPHA = 1e-5  # scipy's non-central t does not come to an end far below it


def detectable(
    spread: float, seeds: int, comparisons: int = 1, confidence: float = 0.95, power: float = 0.8
) -> float:
    """The smallest true difference that a paired t-test finds with probability `power`.

    spread: the standard deviation of the paired differences; the result has its unit. The test is
    two-sided at α = (1 − confidence) / comparisons: what Holm's correction asks of the smallest p,
    so the probability is at least this, whatever the other comparisons give.
    """
    at_least(2, "seeds", seeds)
    not_negative("spread", spread)
    alpha = (1 - fraction("confidence", confidence)) / at_least_one("comparisons", comparisons)
    if alpha < LEAST_ALPHA:
        raise ValueError(
            f"comparisons: expected (1 − confidence) / comparisons of at least {LEAST_ALPHA}, got "
            f"{alpha:.3g} for {comparisons} comparisons at confidence {confidence}"
        )
    if not alpha < power < 1:
        raise ValueError(f"power must lie between {alpha:.3g} and 1, got {power!r}")
    return float(smallest_shift(spread / np.sqrt(seeds), seeds - 1, alpha, power))


def smallest_shift(error, freedom, alpha: float, power: float = 0.8):
    """The same, from the standard error of a difference and its degrees of freedom."""
    critical = stats.t.ppf(1 - alpha / 2, freedom)
    # the shift of a non-central t; statsmodels' solve_power gives wrong numbers for few seeds
    return error * special.nctdtrinc(freedom, 1 - power, critical)


def seeds_needed(
    difference: float,
    spread: float,
    comparisons: int = 1,
    confidence: float = 0.95,
    power: float = 0.8,
) -> int:
    """How many seeds find a true `difference` with probability `power`; see `detectable`.

    Raises a ValueError where even `MOST_SEEDS` do not suffice.
    """
    positive("difference", difference)

    def enough(seeds):
        return detectable(spread, seeds, comparisons, confidence, power) <= difference

    if not enough(MOST_SEEDS):
        raise ValueError(
            f"difference must be one that {MOST_SEEDS:,} seeds can find, got {difference!r} "
            f"with a spread of {spread!r}"
        )
    return 2 + bisect.bisect_left(range(2, MOST_SEEDS), True, key=enough)
