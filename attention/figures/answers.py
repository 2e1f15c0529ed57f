"""What a network answers: pictures with answer and maps, and which classes it confuses."""

from collections.abc import Mapping, Sequence

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import seaborn as sns
import torch
from matplotlib.figure import Figure

from attention.figures.base import MAPS, as_picture, not_empty, same_number

RIGHT, WRONG = "#1a7f37", "#c4320a"


def answers(
    images: torch.Tensor,
    logits: torch.Tensor,
    labels: torch.Tensor,
    names: Sequence[str],
    gates: Mapping[str, torch.Tensor] | None = None,
    heat: Mapping[str, torch.Tensor] | None = None,
) -> Figure:
    """Pictures in a row, over each its answer, below each the maps of it.

    images: uint8 (N, 3, H, W). logits: (N, classes). labels: (N,). names: of the classes. Over a
    picture stand the answer and its probability, green where it is right; else the truth too.
    gates: {heading: (N, h, w)}, drawn in their own resolution on the fixed scale from 0 to 1.
    heat: {heading: (N, h, w)}, at least 0, like Grad-CAM: each map from 0 to its own highest value,
    laid over the grey picture.
    """
    gates, heat = gates or {}, heat or {}
    same_number(images=not_empty("images", images), logits=logits, labels=labels)
    for heading, maps in {**gates, **heat}.items():
        if maps.ndim != 3 or len(maps) != len(images):
            raise ValueError(
                f"{heading}: expected maps ({len(images)}, h, w), got {tuple(maps.shape)}"
            )
    rows, columns = 1 + len(gates) + len(heat), len(images)
    figure, axes = plt.subplots(
        rows, columns, figsize=(1.25 * columns + 0.9, 1.35 * rows + 0.35), squeeze=False
    )
    for axis in axes.flat:
        axis.set(xticks=[], yticks=[])
        axis.spines[:].set_visible(False)
    for axis, image, share, label in zip(
        axes[0], images, logits.softmax(1), labels.tolist(), strict=True
    ):
        answer = int(share.argmax())
        axis.imshow(as_picture(image))
        truth = "" if answer == label else f"\nit is: {names[label]}"
        axis.set_title(
            f"{names[answer]} {share[answer]:.0%}{truth}", fontsize="small",
            color=RIGHT if answer == label else WRONG,
        )  # fmt: skip
    for row, (heading, maps) in zip(axes[1:], {**gates, **heat}.items(), strict=True):
        row[0].set_ylabel(heading, fontsize="small")
        for axis, image, values in zip(row, images, maps.cpu(), strict=True):
            if heading in gates:
                drawn = axis.imshow(values.numpy(), cmap=MAPS, vmin=0, vmax=1)
            else:
                grey = as_picture(image).mean(2)
                size = (-0.5, grey.shape[1] - 0.5, grey.shape[0] - 0.5, -0.5)
                axis.imshow(grey, cmap="gray", vmin=0, vmax=255)
                scaled = (values / values.max().clamp(min=1e-12)).numpy()
                axis.imshow(scaled, cmap="inferno", vmin=0, vmax=1, alpha=0.6, extent=size)
    if gates:
        bar = figure.colorbar(drawn, ax=axes[1 : 1 + len(gates)], aspect=12 * len(gates))
        bar.set_label("gate, fixed scale", fontsize="small")
    return figure


def confusion(table: pd.DataFrame, title: str) -> Figure:
    """A row a true class, a column an answer, the share of the row in percent.

    table: what `results.confusions` gives. The diagonal, the right answers, has no colour: else it
    would outshine what the figure is about.
    """
    shares = 100 * table.div(table.sum(axis=1).replace(0, np.nan), axis=0)
    right = np.eye(len(table), dtype=bool)
    figure, axis = plt.subplots(figsize=(0.62 * len(table) + 2.4, 0.47 * len(table) + 1.7))
    sns.heatmap(
        shares.mask(right), cmap="Oranges", vmin=0, ax=axis, linewidths=0.5,
        cbar_kws={"label": "wrong answers (% of the class)"},
    )  # fmt: skip
    highest = shares.mask(right).max(axis=None)
    for (row, column), share in np.ndenumerate(shares.to_numpy()):
        if not np.isnan(share) and (row == column or round(share) >= 1):
            weight = "bold" if row == column else "normal"
            dark = row != column and share > 0.6 * highest
            axis.text(
                column + 0.5, row + 0.5, f"{share:.0f}", ha="center", va="center", weight=weight,
                fontsize="small", color="white" if dark else "black",
            )  # fmt: skip
    axis.set(title=title, xlabel="answer", ylabel="truth")
    axis.tick_params(length=0)
    axis.set_xticklabels(axis.get_xticklabels(), rotation=45, ha="right")
    axis.tick_params(axis="y", rotation=0)
    return figure
