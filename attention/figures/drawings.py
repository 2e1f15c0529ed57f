"""Drawings of what a block is made of, and of what it does to a few numbers."""

from collections.abc import Mapping, Sequence

import matplotlib.pyplot as plt
import numpy as np
import seaborn as sns
import torch
from matplotlib.figure import Figure
from matplotlib.patches import FancyBboxPatch

from attention.checks import one_of
from attention.figures.base import PALETTE, SIGNED, not_empty


def diagram(gates: Sequence[tuple[list, list, str]]) -> Figure:
    """A block as a chain of gates: boxes from x to the map, and the way of x around them.

    gates: a list of (branches, join, result): `branches`, lists of box texts that start at x;
    `join`, the boxes that all branches lead to; `result`, what is done with x and the map.
    """
    height = max(len(branches) for branches, _, _ in not_empty("gates", gates))
    length = sum(max(map(len, branches)) + len(join) + 2 for branches, join, _ in gates) + 1
    figure, axis = plt.subplots(figsize=(1.6 * length, 1.1 * height + 0.9), layout="constrained")
    axis.axis("off")
    colours = sns.color_palette(PALETTE)
    column = 0.0

    def box(x, y, text, colour):
        axis.add_patch(
            FancyBboxPatch(
                (x - 0.4, y - 0.28), 0.8, 0.56, boxstyle="round,pad=0.02", fc=(*colour, 0.25),
                ec=colour,
            )
        )  # fmt: skip
        axis.text(x, y, text, ha="center", va="center", fontsize=11)

    def arrow(start, end, bend="arc3"):
        axis.annotate(
            "", end, start,
            arrowprops={"arrowstyle": "-|>", "color": "0.3", "connectionstyle": bend, "lw": 1.2},
        )  # fmt: skip

    for branches, join, result in gates:
        if column == 0:
            axis.text(0, 0, "x\nN×C×H×W", ha="center", va="center", fontsize=11)
        start, widest = column, max(map(len, branches))
        for number, branch in enumerate(branches):
            y = -0.8 * (number - (len(branches) - 1) / 2)
            for step, text in enumerate(branch, 1):
                box(start + step, y, text, colours[number])
                arrow((start + step - 0.58, y if step > 1 else 0), (start + step - 0.42, y))
            # several branches meet in the middle of the next box, one goes straight on
            meet = 0.12 * (y > 0) - 0.12 * (y < 0)
            arrow((start + len(branch) + 0.42, y), (start + widest + 0.58, meet))
        for step, text in enumerate(join, widest + 1):
            box(start + step, 0, text, colours[2])
            arrow((start + step + 0.42, 0), (start + step + 0.58, 0))
        column = start + widest + len(join) + 1
        box(column, 0, result, colours[3])
        top = 0.4 * len(branches) + 0.25
        left = start + 0.2 if start else start  # a later gate takes what leaves the box before it
        axis.plot([left, left, column, column], [0.3, top, top, 0.5], color="0.3", lw=1.2)
        arrow((column, 0.5), (column, 0.3))
    arrow((column + 0.42, 0), (column + 0.62, 0))
    axis.text(column + 0.95, 0, "out\nN×C×H×W", ha="center", va="center", fontsize=11)
    axis.set(xlim=(-0.5, column + 1.4), ylim=(-0.4 * height - 0.2, 0.4 * height + 0.4))
    return figure


def in_network(block: str, at: str = "residual") -> Figure:
    """Where a block stands in a ResNet: a residual block, or a stage, with the block in it.

    at: "residual", on the branch before the addition, or "stage", after the last residual block.
    """
    one_of("at", at, ("residual", "stage"))
    colours = sns.color_palette(PALETTE)
    grey, own = (0.5, 0.5, 0.5), colours[3]
    if at == "residual":
        boxes = [("3×3 conv\nnorm, ReLU", grey), ("3×3 conv\nnorm", grey), (block, own)]
    else:
        boxes = [("residual\nblock", grey), ("residual\nblock", grey), ("residual\nblock", grey)]
        boxes += [(block, own), ("next\nstage", grey)]
    length = 1.35 * len(boxes) + (2.2 if at == "residual" else 0.6)
    figure, axis = plt.subplots(figsize=(1.15 * length + 1, 1.9), layout="constrained")
    axis.axis("off")
    x = 0.0

    def arrow(start, end):
        axis.annotate(
            "", (end, 0), (start, 0), arrowprops={"arrowstyle": "-|>", "color": "0.3", "lw": 1.4}
        )

    axis.text(x, 0, "x", ha="center", va="center", fontsize=13)
    for text, colour in boxes:
        arrow(x + (0.15 if x == 0 else 0.55), x + 0.8)
        x += 1.35
        axis.add_patch(
            FancyBboxPatch(
                (x - 0.5, -0.3), 1.0, 0.6, boxstyle="round,pad=0.03", fc=(*colour, 0.2), ec=colour
            )
        )
        axis.text(x, 0, text, ha="center", va="center", fontsize=12)
    if at == "residual":
        arrow(x + 0.55, x + 0.95)
        x += 1.1
        axis.text(x, 0, "+", ha="center", va="center", fontsize=16)
        axis.plot([0.35, 0.35, x, x], [0, 0.72, 0.72, 0.45], color="0.3", lw=1.4)
        axis.annotate(
            "", (x, 0.13), (x, 0.5), arrowprops={"arrowstyle": "-|>", "color": "0.3", "lw": 1.4}
        )
        axis.text(x / 2, 0.78, "shortcut", ha="center", va="bottom", fontsize=12, color="0.3")
        arrow(x + 0.15, x + 0.55)
        axis.text(x + 0.65, 0, "ReLU, out", ha="left", va="center", fontsize=12)
        x += 1.2
    axis.set(xlim=(-0.3, x + 0.8), ylim=(-0.5, 1.05 if at == "residual" else 0.5))
    return figure


def before_after(maps: Mapping[str, tuple[torch.Tensor, torch.Tensor]]) -> Figure:
    """Pairs of feature maps, before and after a gate, each pair on one common scale.

    maps: {title: (before, after)}, both (H, W).
    """
    figure = plt.figure(figsize=(4.6 * len(not_empty("maps", maps)), 2.7))
    for part, (title, pair) in zip(
        np.atleast_1d(figure.subfigures(1, len(maps))), maps.items(), strict=True
    ):
        part.suptitle(title, fontsize="medium")
        axes = part.subplots(1, 2)
        limit = float(max(values.abs().max() for values in pair))
        for axis, values, label in zip(axes, pair, ("in", "out"), strict=True):
            drawn = axis.imshow(values.detach().cpu().numpy(), cmap=SIGNED, vmin=-limit, vmax=limit)
            axis.set(xticks=[], yticks=[], xlabel=label)
        part.colorbar(drawn, ax=axes, shrink=0.8)
    return figure
