"""Figures for the mechanisms that mix positions: growth, patches, maps of a query, time.

Weights over positions add up to 1, so each is small where there are many. They are drawn times the
number of positions: 1 is what an even share would be. The scale is fixed and logarithmic, and 1 is
its middle.
"""

from collections.abc import Mapping, Sequence

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import seaborn as sns
import torch
from matplotlib.colors import LogNorm
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from attention.checks import at_least_one
from attention.figures.base import (
    MARKERS,
    PALETTE,
    SIGNED,
    as_picture,
    not_empty,
    same_number,
)
from attention.results import labels


def scaling(
    tables: Mapping[str, pd.DataFrame],
    xlabel: str,
    titles: Sequence[str],
    guides: Mapping[str, float] | None = None,
) -> Figure:
    """Curves over a size, both axes logarithmic: one panel a table, one curve a column.

    tables: {label of the y axis: frame whose index is the size}. titles: one a panel.
    guides: {label: exponent}, dotted lines of that growth from the start of the lowest curve.
    """
    same_number(tables=not_empty("tables", tables), titles=titles)
    figure, axes = plt.subplots(1, len(tables), figsize=(6.2 * len(tables), 4.4), squeeze=False)
    for axis, (ylabel, table), title in zip(axes[0], tables.items(), titles, strict=True):
        sizes = np.array(table.index, dtype=float)
        for number, name in enumerate(table):
            colour = sns.color_palette(PALETTE)[number % 10]
            marker = MARKERS[number % 8]
            axis.plot(sizes, table[name], color=colour, marker=marker, ms=6, label=name)
        limits = axis.get_ylim()
        start = table.iloc[0].min()
        for label, exponent in (guides or {}).items():
            line = start * (sizes / sizes[0]) ** exponent
            axis.plot(sizes, line, color="0.5", ls=":", lw=1.5)
            axis.text(sizes[-1], line[-1], f" {label}", color="0.4", va="center", clip_on=True)
        axis.set(xscale="log", yscale="log", xlabel=xlabel, ylabel=ylabel, title=title)
        axis.set_ylim(table.min(axis=None) / 1.5, max(limits[1], table.max(axis=None) * 1.5))
        axis.set_xticks(sizes, [f"{size:,.0f}" for size in sizes])
        axis.minorticks_off()
        axis.legend(fontsize="small")
    return figure


def patches(image: torch.Tensor, side: int, columns: int = 16) -> Figure:
    """An image with the grid of its patches, and the patches as a sequence, row by row.

    image: uint8 (3, H, W), H and W multiples of `side`, the side of a patch in pixels.
    """
    height, width = image.shape[1:]
    if height % at_least_one("side", side) or width % side:
        raise ValueError(f"side must divide {height}×{width} pixels into whole patches, got {side}")
    parts = image.unfold(1, side, side).unfold(2, side, side).flatten(1, 2)  # (3, patches, …)
    count = parts.shape[1]
    rows = -(-count // columns)
    figure, (left, right) = plt.subplots(1, 2, figsize=(12.5, 3.6), width_ratios=(1, 3.2))
    left.imshow(as_picture(image))
    for lines, length in ((left.axhline, height), (left.axvline, width)):
        for place in np.arange(0, length + 1, side) - 0.5:
            lines(place, color="white", lw=1)
    left.set(xticks=[], yticks=[], title=f"{height}×{width} pixels")
    for number in range(count):
        y, x = divmod(number, columns)
        y = 1.35 * y
        right.imshow(as_picture(parts[:, number]), extent=(x, x + 0.9, y + 0.9, y))
        right.text(x + 0.45, y - 0.05, number + 1, ha="center", va="bottom", fontsize="x-small")
    right.set(xlim=(-0.1, columns), ylim=(1.35 * rows, -0.4))
    right.set_title(f"{count} patches of {side}×{side} pixels, one token each")
    right.axis("off")
    return figure


def queries(
    images: torch.Tensor,
    maps: Mapping[str, torch.Tensor],
    titles: Sequence[str],
    marks: Mapping[str, tuple[int, int]] | None = None,
    limit: int = 8,
    positions: str = "positions",
) -> Figure:
    """Each image above its maps: what a query takes from every position.

    images: uint8 (N, 3, H, W). maps: {row label: (N, h, w)}, weights × number of positions.
    marks: {row label: (row, column)}: where on the map the query stands, drawn as a square there
    and on the image. limit: the scale runs from 1/limit to limit. positions: which were counted,
    for the label of the colour bar.
    """
    for label, values in not_empty("maps", maps).items():
        same_number(
            images=not_empty("images", images), titles=titles, **{f"maps of {label}": values}
        )
    marks, norm = marks or {}, LogNorm(1 / limit, limit)
    figure, axis = plt.subplots(figsize=(1.2 * len(images) + 3, 1.25 * (1 + len(maps)) + 0.4))
    # one axis for all: every picture is a square of side 1, the next one begins 1.1 further
    pictures = [[as_picture(image) for image in images]]
    pictures += [values.cpu().numpy() for values in maps.values()]
    for row, line in enumerate(pictures):
        for column, picture in enumerate(line):
            x, y = 1.1 * column, 1.1 * row
            look = dict(cmap=SIGNED, norm=norm) if row else {}
            # the logarithm of 0 would leave a hole
            picture = picture.clip(1e-6) if row else picture
            drawn = axis.imshow(picture, extent=(x, x + 1, y + 1, y), **look)
            frame = Rectangle((x, y), 1, 1, fill=False, ec="0.7", lw=0.6)
            axis.add_patch(frame)
    for row, (label, values) in enumerate(maps.items(), 1):
        for column in range(len(images)) if label in marks else ():
            for where in (0, row):
                _mark(axis, marks[label], values.shape[1:], 1.1 * column, 1.1 * where)
    for column, title in enumerate(titles):
        axis.text(1.1 * column + 0.5, -0.06, title, ha="center", va="bottom", fontsize="small")
    axis.set_yticks([1.1 * row + 0.5 for row in range(len(pictures))], ["image", *maps])
    axis.tick_params(left=False)
    axis.set(xticks=[], xlim=(-0.02, 1.1 * len(images)), ylim=(1.1 * len(pictures), -0.35))
    sns.despine(ax=axis, left=True, bottom=True)
    ticks = [1 / limit, 1, limit]
    bar = figure.colorbar(drawn, ax=axis, extend="both", ticks=ticks, shrink=0.9, aspect=25)
    bar.ax.set_yticklabels([f"1/{limit}", "1", f"{limit}"])
    bar.minorticks_off()
    bar.set_label(f"weight × number of {positions}\n1 = uniform; logarithmic", fontsize="small")
    return figure


def _mark(axis, place, size, x, y):
    """A square around position `place` of a map of `size` that is drawn from (x, y) on."""
    (row, column), (height, width) = place, size
    corner = (x + column / width, y + row / height)
    for colour, thickness in (("white", 3), ("black", 1.5)):
        square = Rectangle(corner, 1 / width, 1 / height, fill=False, ec=colour, lw=thickness)
        axis.add_patch(square)


def over_time(table: pd.DataFrame, epoch_seconds: Mapping[str, float]) -> Figure:
    """Training accuracy of each epoch against the training time so far, and the test accuracy.

    table: as `results.histories` gives it. epoch_seconds: {name: the time of one epoch in s}.
    """
    short = labels(not_empty("table", table))
    figure, axis = plt.subplots(figsize=(9, 4.6))
    for number, (name, rows) in enumerate(table.groupby("name", sort=False)):
        history = rows.groupby("epoch")[["train_accuracy", "test_accuracy"]].mean()
        seconds = epoch_seconds[name] * history.index
        look = dict(color=sns.color_palette(PALETTE)[number], marker=MARKERS[number % 8])
        axis.plot(seconds, history.train_accuracy, **look, ms=5, label=short[name])
        axis.scatter(
            seconds[-1], history.test_accuracy.iloc[-1], color=look["color"], marker="*", s=220,
            edgecolor="black", zorder=3,
        )  # fmt: skip
    axis.scatter([], [], color="white", marker="*", s=160, edgecolor="black", label="test images")
    axis.set(xlabel="training time so far (s)", ylabel="accuracy (%)", ylim=(0, 100))
    axis.set_xlim(0, 1.05 * axis.get_xlim()[1])
    axis.legend(fontsize="small", loc="best")
    return figure
