"""What blocks cost beside those of other libraries."""

import matplotlib.pyplot as plt
import pandas as pd
import seaborn as sns
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, NullFormatter

from attention.figures.base import MARKERS, PALETTE, not_empty


def beside_peers(table: pd.DataFrame) -> Figure:
    """Blocks as multiples of a product with a given gate: a panel a shape, a row a precision.

    table: as `benchmark.beside_peers` gives it, with a column precision. Bars are quartiles over
    the rounds; a black line is the bound that follows from the bytes that must be moved.
    """
    rows = not_empty("table", table)[table.form.ne("here") | table.bound.gt(1)]
    shapes, precisions = list(rows["shape"].unique()), list(rows.precision.unique())
    blocks, forms = list(rows.block.unique()), list(rows.form.unique())
    figure, axes = plt.subplots(
        len(precisions), len(shapes), sharey=True, squeeze=False,
        figsize=(3.6 * len(shapes) + 1.5, (0.42 * len(blocks) + 1.1) * len(precisions)),
    )  # fmt: skip
    for line, precision in zip(axes, precisions, strict=True):
        for axis, shape in zip(line, shapes, strict=True):
            part = rows[(rows["shape"] == shape) & (rows.precision == precision)]
            for number, form in enumerate(forms):
                own = part[part.form == form]
                y = own.block.map(blocks.index) + 0.15 * (number - (len(forms) - 1) / 2)
                spread = (own.times - own.low).clip(0), (own.high - own.times).clip(0)
                axis.errorbar(
                    own.times, y, xerr=spread, ls="", marker=MARKERS[number], ms=6, label=form,
                    color=sns.color_palette(PALETTE)[number],
                )  # fmt: skip
            bound = part.drop_duplicates("block")
            places = bound.block.map(blocks.index)
            axis.vlines(bound.bound, places - 0.4, places + 0.4, color="black", lw=1.5)
            axis.set_xscale("log")
            axis.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
            axis.xaxis.set_minor_formatter(NullFormatter())
            axis.set_xticks([1, 2, 4, 8, 16])
            axis.set_xlim(0.9, max(16, 1.2 * rows.times.max()))
            axis.set_title(f"{shape}, {precision}", fontsize="medium")
            axis.grid(axis="x", color="0.93")
            axis.set_axisbelow(True)
    for axis in axes[-1]:
        axis.set_xlabel("times a product with a given gate")
    axes[0, 0].set_yticks(range(len(blocks)), [block.upper() for block in blocks])
    axes[0, 0].set_ylim(len(blocks) - 0.5, -0.5)
    handles, names = axes[0, 0].get_legend_handles_labels()
    figure.legend(handles, names, loc="outside right center", fontsize="small")
    return figure
