"""The figure of a search: everything that was tried, not only what won."""

import matplotlib.pyplot as plt
import pandas as pd
import seaborn as sns
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from attention.figures.base import MARKERS, PALETTE, not_empty

KINDS = ("plain", "parent", "candidate", "finalist")


def search(table: pd.DataFrame, label: str = "accuracy on held-out images (%)") -> Figure:
    """One line a trial: an open mark for the first round, filled ones for later seeds.

    A bar marks the mean of the later seeds: the first round is what the finalists were picked by,
    so theirs is too high.

    table: as `trials.trials` gives it; it is also the table behind the figure.
    """
    rows = not_empty("table", table).sort_values("first")
    colours = dict(zip(KINDS, ["0.35", *sns.color_palette(PALETTE)[:3]], strict=True))
    figure, axis = plt.subplots(figsize=(11, 0.27 * len(rows) + 1.7))
    for y, row in enumerate(rows.itertuples()):
        colour, marker = colours[row.kind], MARKERS[KINDS.index(row.kind)]
        axis.plot(row.first, y, color=colour, marker=marker, mfc="white", ms=7, ls="")
        later = row.each[1:]
        axis.plot(later, [y] * len(later), color=colour, marker=marker, ms=5, ls="", alpha=0.8)
        if later:
            axis.vlines(row.later, y - 0.38, y + 0.38, color=colour, lw=2)
    for name in rows.index[rows.kind == "plain"]:
        axis.axvline(rows["first"][name], color="0.7", lw=1, ls=":", zorder=0)
    axis.set_yticks(range(len(rows)), rows.index, fontsize="small")
    axis.set(xlabel=label, ylim=(-0.7, len(rows) - 0.3))
    axis.set_title(f"{len(rows)} networks tried: open, the first round; filled, later seeds")
    handles = [
        Line2D([], [], color=colours[kind], marker=marker, ls="", label=kind)
        for kind, marker in zip(KINDS, MARKERS, strict=False)
        if (rows.kind == kind).any()
    ]
    figure.legend(handles=handles, fontsize="small", loc="outside upper center", ncols=4)
    return figure
