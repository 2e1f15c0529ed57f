"""Is there anything but noise? The half-normal plot of many differences."""

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import seaborn as sns
from matplotlib.figure import Figure
from scipy import stats

from attention.checks import positive
from attention.figures.base import LEADER, PALETTE, apart, not_empty


def half_normal(differences: pd.Series, error: float, named: int = 4) -> Figure:
    """The sizes of differences, sorted, over what as many draws of noise would give.

    differences: a series by name. error: their standard error. named: how many of the largest
    carry their name. Differences that are all noise lie on the line |difference| = error · z, with
    z the quantiles of a half-normal distribution (Daniel, Technometrics 1959), within the band that
    the one of each rank keeps to in 95 % of cases.
    """
    positive("error", error)
    sizes = not_empty("differences", differences.dropna()).abs().sort_values()
    count = len(sizes)
    rank = np.arange(1, count + 1)
    z = stats.halfnorm.ppf((rank - 0.5) / count)
    # the k-th smallest of n uniform draws has the distribution Beta(k, n + 1 − k)
    low, high = (
        stats.halfnorm.ppf(stats.beta.ppf(p, rank, count + 1 - rank)) for p in (0.025, 0.975)
    )
    figure, axis = plt.subplots(figsize=(9.5, 4.6))
    axis.fill_between(z, error * low, error * high, color="0.9", label="95 % of cases of noise")
    axis.plot(z, error * z, color="0.4", lw=1, label="noise alone")
    axis.plot(z, sizes, ls="", marker="o", color=sns.color_palette(PALETTE)[0], label="measured")
    largest = sizes[-named:]
    ends = apart(largest, 0.06 * max(sizes.max(), error * high[-1]))
    for (name, y), x, end in zip(largest.items(), z[-named:], ends, strict=True):
        axis.annotate(
            f"{name} ({differences[name]:+.2f})".replace("-", "−"), (x, y), (1.03, end),
            textcoords=axis.get_yaxis_transform(), va="center", fontsize="small", arrowprops=LEADER,
        )  # fmt: skip
    axis.set(
        xlabel="quantile of the half-normal distribution", ylabel="size of the difference (points)"
    )
    axis.set_title(f"{count} differences to their defaults, sorted by size")
    axis.set_ylim(bottom=0)
    axis.legend(fontsize="small", loc="upper left")
    return figure
