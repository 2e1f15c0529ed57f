"""Figures of trainings and of cost tables."""

from collections.abc import Mapping

import matplotlib.pyplot as plt
import pandas as pd
import seaborn as sns
from matplotlib.figure import Figure
from matplotlib.ticker import EngFormatter, MaxNLocator

from attention.checks import one_of
from attention.figures.base import MARKERS, PALETTE, not_empty
from attention.figures.study import over_seeds
from attention.results import labels

IN_LEGEND = 5


def curves(table: pd.DataFrame) -> Figure:
    """Learning curves: the mean over seeds, with a band from the lowest seed to the highest.

    At the right the accuracy of every seed after its final epoch, on images that it was not trained
    on; the bar is their mean. The axis shows the range that they take, not 0 to 100, and at least
    two points: less than that two runs of one network may lie apart. More than `IN_LEGEND` networks
    are named there alone: a legend of them would lie on the lines.

    table: as `results.histories` gives it; it is also the table behind the figure.
    """
    names = list(not_empty("table", table).name.unique())
    short = labels(table)
    figure, axes = plt.subplots(1, 3, figsize=(13, 3.9), width_ratios=(2, 2, 1.5))
    for number, (name, colour) in enumerate(
        zip(names, sns.color_palette(PALETTE, len(names)), strict=True)
    ):
        own, marker = table[table.name == name], MARKERS[number % len(MARKERS)]
        for axis, column in zip(axes, ("train_loss", "train_accuracy"), strict=False):
            by_epoch = own.groupby("epoch")[column].agg(["mean", "min", "max"])
            every = 1 + len(by_epoch) // 20  # of many epochs a marker on some
            axis.plot(
                by_epoch["mean"], color=colour, marker=marker, ms=4, markevery=every,
                label=short[name],
            )  # fmt: skip
            axis.fill_between(
                by_epoch.index, by_epoch["min"], by_epoch["max"], color=colour, alpha=0.2, lw=0
            )
        tests = own.drop_duplicates("seed").test_accuracy
        axes[2].plot(tests, [number] * len(tests), color=colour, marker=marker, ls="", alpha=0.7)
        if len(tests) > 1:
            axes[2].vlines(tests.mean(), number - 0.3, number + 0.3, color=colour)
        place = (1.02, number)
        axes[2].annotate(
            f"{tests.mean():.2f}", place, xycoords=axes[2].get_yaxis_transform(), va="center",
            fontsize="small",
        )  # fmt: skip
    axes[0].set(xlabel="epoch", ylabel="training loss", title="Loss")
    axes[1].set(
        xlabel="epoch", ylabel="accuracy (%)", title="Accuracy on augmented training images"
    )
    axes[2].set(xlabel="accuracy (%)", title="Test images, final epoch")
    axes[2].xaxis.set_major_locator(MaxNLocator(4))
    low, high = table.test_accuracy.min(), table.test_accuracy.max()
    middle, half = (low + high) / 2, 0.65 * max(high - low, 2)
    axes[2].set_xlim(middle - half, middle + half)
    axes[2].set_yticks(range(len(names)), [short[name] for name in names], fontsize="small")
    axes[2].set_ylim(len(names) - 0.5, -0.5)
    for axis in axes[:2]:
        axis.xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))
    if len(names) <= IN_LEGEND:
        axes[0].legend(fontsize="small")
    seeds = table.groupby("name").seed.nunique()
    if seeds.max() > 1:
        figure.suptitle(f"Mean and range {over_seeds(seeds)}", fontsize="medium")
    return figure


def cost_bars(table: pd.DataFrame, columns: Mapping[str, str], baseline: str) -> Figure:
    """What each network takes beyond the one named `baseline`: bars, a panel a column.

    table: a row a network. columns: {column: what stands below its panel}; above it stands what the
    baseline itself takes.
    """
    one_of("baseline", baseline, list(table.index))
    for column in not_empty("columns", columns):
        one_of("columns", column, list(table.columns))
    rows = table[table.index != baseline]
    figure, axes = plt.subplots(
        1, len(columns), figsize=(4.2 * len(columns), 0.45 * len(rows) + 2), sharey=True,
        squeeze=False,
    )  # fmt: skip
    for axis, (column, label) in zip(axes[0], columns.items(), strict=True):
        added = rows[column] - table[column][baseline]
        axis.barh(rows.index, added, color=sns.color_palette(PALETTE)[0])
        axis.axvline(0, color="0.4", lw=1)
        axis.set(xlabel=f"{label}, added", title=f"{baseline}: {_number(table[column][baseline])}")
        axis.margins(x=0.3)
        axis.xaxis.set_major_locator(MaxNLocator(5))
        axis.xaxis.set_major_formatter(EngFormatter(sep=" "))
        for number, value in enumerate(added):
            side = "left" if value >= 0 else "right"
            text = f" +{_number(value)} " if value > 0 else f" {_number(value)} "
            axis.text(value, number, text, va="center", ha=side, fontsize="small")
    axes[0, 0].set_ylim(len(rows) - 0.5, -0.5)
    return figure


def _number(value):
    return (f"{value:,.0f}" if abs(value) >= 100 else f"{value:.3g}").replace("-", "−")
