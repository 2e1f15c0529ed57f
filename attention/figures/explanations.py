"""Figures of explanations: maps beside their picture, pixels that go, and what measures say."""

from collections.abc import Mapping, Sequence

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import seaborn as sns
import torch
from matplotlib.figure import Figure

from attention.figures.base import MAPS, MARKERS, PALETTE, as_picture, not_empty

# Of the maps that measures compare: each has its colour in every figure, whichever are there.
ORDER = (
    "own", "Grad-CAM", "Grad-CAM, chosen stage", "gradient", "centre", "random", "smooth noise",
    "corner", "Grad-CAM, another image",
)  # fmt: skip


def explained(
    image: torch.Tensor,
    maps: Mapping[str, torch.Tensor],
    mask: torch.Tensor | None = None,
    mark: tuple[int, int] | None = None,
    columns: int = 6,
) -> Figure:
    """A picture, and beside it what each map says about its pixels.

    image: uint8 (3, H, W). maps: {title: (H, W), at least 0}; each is drawn from 0 to its own
    highest value, so that a flat map is bright all over. mask: bool (H, W), drawn as an outline.
    mark: (row, column) of a pixel, drawn as a cross.
    """
    columns = min(columns, 1 + len(not_empty("maps", maps)))
    rows = -(-(1 + len(maps)) // columns)
    size = (1.7 * columns + 0.9, 1.95 * rows)
    figure, axes = plt.subplots(rows, columns, figsize=size, squeeze=False)
    for axis in axes.flat:
        axis.axis("off")
    axes.flat[0].imshow(as_picture(image))
    axes.flat[0].set_title("picture", fontsize="small")
    for axis, (title, values) in zip(axes.flat[1:], maps.items(), strict=False):
        values = values.cpu().numpy()
        drawn = axis.imshow(values / max(values.max(), 1e-12), cmap=MAPS, vmin=0, vmax=1)
        axis.set_title(f"{title}\nhighest {values.max():.2g}", fontsize="x-small")
    for axis in axes.flat[: 1 + len(maps)]:
        if mask is not None:
            for colour, width in (("white", 2.5), ("black", 1)):
                axis.contour(mask.cpu().float().numpy(), [0.5], colors=colour, linewidths=width)
        if mark is not None:
            axis.plot(mark[1], mark[0], "+", color="white", ms=13, mew=4)
            axis.plot(mark[1], mark[0], "+", color="black", ms=12, mew=2)
    bar = figure.colorbar(drawn, ax=axes, shrink=0.8, ticks=[0, 1], aspect=15)
    bar.ax.set_yticklabels(["0", "highest"])
    bar.set_label("each map on its own scale", fontsize="small")
    return figure


def removal(
    rows: Mapping[str, Sequence[torch.Tensor]],
    share: Sequence[float],
    curves: Mapping[str, tuple[Sequence[float], Sequence[float]]],
    ylabel: str,
) -> Figure:
    """A picture while its pixels go, one row a map, above the curves of the answer.

    rows: {map: a list of uint8 (3, H, W)}, the picture after each share. share: those shares, 0 …
    1. curves: {map: (shares, probabilities)}.
    """
    count = len(not_empty("rows", rows))
    figure = plt.figure(figsize=(1.15 * len(share) + 1.6, 1.25 * count + 3.4))
    top, bottom = figure.subfigures(2, 1, height_ratios=(1.25 * count, 3))
    axes = top.subplots(count, len(share), squeeze=False)
    for axis, part in zip(axes[0], share, strict=True):
        axis.set_title(f"{part:.0%} gone", fontsize="small")
    for line, (label, pictures) in zip(axes, rows.items(), strict=True):
        for axis, picture in zip(line, pictures, strict=True):
            axis.imshow(as_picture(picture))
            axis.set(xticks=[], yticks=[])
            sns.despine(ax=axis, left=True, bottom=True)
        line[0].set_ylabel(label, rotation=0, ha="right", va="center", fontsize="small")
    axis = bottom.subplots()
    for number, (label, (shares, values)) in enumerate(curves.items()):
        look = dict(marker=MARKERS[number], ms=5, color=sns.color_palette(PALETTE)[number])
        axis.plot(shares, values, label=label, **look)
    axis.set(xlabel="share of the pixels gone", ylabel=ylabel, ylim=(-0.02, 1.02), xlim=(0, 1))
    axis.xaxis.set_major_formatter("{x:.0%}")
    axis.legend(fontsize="small", loc="center left", bbox_to_anchor=(1, 0.5))
    return figure


def dots(
    table: pd.DataFrame,
    labels: Mapping[str, str],
    by: str,
    limits: tuple[float, float] | None = None,
) -> Figure:
    """What measures say about the maps of many networks: a panel a measure, a line a network.

    table: as `findings.over_seeds` gives it; the intervals are drawn as bars where there are any.
    labels: {measure: what stands at its axis}. by: the map whose first measure orders the networks.
    Maps have the colours of `ORDER`; where `by` is not among them, it has the first one.
    limits: of the axes; an interval may go beyond what a measure can be.
    """
    first = next(iter(not_empty("labels", labels)))
    order = ORDER if by in ORDER else (by,)
    order = [*order, *(name for name in table.index.unique(1) if name not in order)]
    maps = [name for name in order if name in table.index.unique(1)]
    means = table[first, "mean"].unstack()
    means = means.sort_values(by, na_position="first") if by in means else means
    places = {name: place for place, name in enumerate(means.index)}
    figure, axes = plt.subplots(
        1, len(labels), figsize=(3.7 * len(labels) + 2.6, 0.36 * len(places) + 1.5), sharey=True,
        squeeze=False,
    )  # fmt: skip
    for axis, (measure, label) in zip(axes[0], labels.items(), strict=True):
        for number, name in enumerate(maps):
            part = table.xs(name, level=1)[measure]
            y = np.array([places[n] for n in part.index]) + 0.09 * (len(maps) / 2 - number)
            spread = np.abs(part[["low", "high"]].sub(part["mean"], axis=0)).T.to_numpy()
            place = order.index(name)
            colour = sns.color_palette(PALETTE)[place % 10]
            marker = MARKERS[place % len(MARKERS)]
            axis.errorbar(
                part["mean"], y, xerr=np.nan_to_num(spread), fmt=marker, color=colour, ms=5,
                lw=1.2, label=name,
            )  # fmt: skip
        axis.set(xlabel=label, xlim=limits)
        axis.locator_params(axis="x", nbins=5)
        axis.grid(axis="y", color="0.93")
        axis.set_axisbelow(True)
    axes[0, 0].set_yticks(range(len(places)), list(places))
    if len(maps) > 1:
        handles, names = axes[0, 0].get_legend_handles_labels()
        figure.legend(handles, names, loc="outside right center", fontsize="small")
    return figure


def cascade(table: pd.DataFrame, title: str) -> Figure:
    """How maps change while layers lose what they learned: a line a map, with its interval.

    table: a row a layer and map, with the columns layer, map, mean, low and high; the layers in the
    order in which they were randomised.
    """
    layers = list(dict.fromkeys(not_empty("table", table).layer))
    figure, axis = plt.subplots(figsize=(0.42 * len(layers) + 4, 4.4))
    for number, (name, part) in enumerate(table.groupby("map", sort=False)):
        colour = sns.color_palette(PALETTE)[number]
        x = [layers.index(layer) for layer in part.layer]
        axis.plot(x, part["mean"], marker=MARKERS[number], ms=5, color=colour, label=name)
        axis.fill_between(x, part.low, part.high, color=colour, alpha=0.2, lw=0)
    axis.axhline(0, color="0.6", lw=1, ls=":")
    axis.set_xticks(range(len(layers)), layers, rotation=60, ha="right", fontsize="x-small")
    axis.set(
        ylim=(min(-0.1, table.low.min() - 0.05), 1.05),
        ylabel="rank correlation with\nthe trained network's map",
    )
    axis.set(xlabel="randomised up to this layer, from the output to the input", title=title)
    axis.legend(fontsize="small")
    return figure


def without(table: pd.DataFrame) -> Figure:
    """What a network's accuracy loses when one of its maps is replaced: a line a network.

    table: as `findings.effects` gives it, with a column "label" for the lines. Every map of a
    network is a marker; the colour says what it was replaced by.
    """
    ways = {"mean": "its mean", "ones": "ones", "shuffled": "another image's"}
    places = {name: place for place, name in enumerate(dict.fromkeys(table.label[::-1]))}
    figure, axis = plt.subplots(figsize=(9.5, 0.36 * len(places) + 1.5))
    for number, (way, label) in enumerate(ways.items()):
        change = table[f"accuracy_{way}"] - table.accuracy_whole
        y = table.label.map(places) + 0.2 * (1 - number)
        colour, marker = sns.color_palette(PALETTE)[number], MARKERS[number]
        axis.scatter(change, y, color=colour, marker=marker, s=28, alpha=0.8, label=label)
    axis.axvline(0, color="0.6", lw=1)
    axis.set_yticks(range(len(places)), list(places))
    axis.set(xlabel="change of accuracy (points) when the map is replaced by …")
    axis.grid(axis="y", color="0.93")
    axis.legend(fontsize="small", loc="center left", bbox_to_anchor=(1, 0.5))
    return figure
