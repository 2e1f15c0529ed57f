"""The look of figures, and the place where they are kept."""

from collections.abc import Sequence, Sized
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import seaborn as sns
import torch
from matplotlib.figure import Figure
from scipy.optimize import isotonic_regression

from attention.checks import at_least_one, instance
from attention.files import replacing
from attention.settings import home, profile

MAPS = "viridis"  # readable for the colour-blind, and in grey
PALETTE = "colorblind"
SIGNED = "PuOr_r"  # two-sided: purple below the middle, orange above; for the colour-blind too
MARKERS = "osD^vPX*>"
# From a label to its point. Without clipping at either end: that took half the time of a figure.
LEADER = {
    "arrowstyle": "-", "color": "0.8", "lw": 0.6, "relpos": (0, 0.5), "patchA": None,
    "shrinkA": 0, "shrinkB": 0,
}  # fmt: skip


def style() -> None:
    """The look of all figures; call it once, at the top of a notebook."""
    sns.set_theme(context="notebook", style="ticks", palette=PALETTE)
    plt.rcParams.update({
        "figure.dpi": 90, "savefig.dpi": 150, "figure.constrained_layout.use": True,
        "axes.spines.top": False, "axes.spines.right": False, "axes.titlesize": "medium",
        "legend.frameon": False, "image.interpolation": "nearest",
    })  # fmt: skip


def folder(dataset: str) -> Path:
    """Where figures of this dataset and profile lie: figures/<dataset>/<profile>."""
    return home() / "figures" / _one_part("dataset", dataset) / profile()


def _one_part(argument, name):
    """A name that stays where it is put: no separator in it, and not the folder above."""
    if not isinstance(name, str) or not name or name in (".", "..") or set(name) & set("/\\:\0"):
        raise ValueError(f"{argument} must be a name without a folder in it, got {name!r}")
    return name


def not_empty(argument: str, given: Sized) -> Sized:
    """Return what is to be drawn, or raise a ValueError when there is nothing."""
    if not len(instance(Sized, argument, given)):
        raise ValueError(f"{argument}: expected at least one, got none")
    return given


def save(
    figure: Figure,
    name: str,
    dataset: str,
    table: pd.DataFrame | None = None,
    drawn_from_data: bool = True,
) -> Figure:
    """Write a figure as PNG and PDF, and the table behind it as CSV; returns the figure.

    The figure gets a line at its foot that names the dataset and the profile, unless it is a
    drawing that owes nothing to them.
    """
    instance(Figure, "figure", figure)
    if drawn_from_data:
        figure.supxlabel(f"data: {dataset} · {profile()} profile", fontsize="x-small", color="0.4")
    stem = folder(dataset) / _one_part("name", name)
    for ending in ("png", "pdf"):
        with replacing(f"{stem}.{ending}") as path:
            # without the date in it, an unchanged figure is an unchanged file
            metadata = {"CreationDate": None} if ending == "pdf" else None
            figure.savefig(path, format=ending, metadata=metadata, bbox_inches="tight")
    if table is not None:
        save_table(table, name, dataset)
    return figure


def save_table(table: pd.DataFrame, name: str, dataset: str) -> None:
    """Write a table as CSV to where the figures of this dataset and profile lie."""
    with replacing(folder(dataset) / f"{_one_part('name', name)}.csv") as path:
        table.to_csv(path, float_format="%.6g")


def same_number(**given: Sized) -> None:
    """Raise a ValueError unless all of these have the same length."""
    if len({len(instance(Sized, name, part)) for name, part in given.items()}) > 1:
        lengths = ", ".join(f"{len(part)} {name}" for name, part in given.items())
        raise ValueError(f"expected as many of each, got {lengths}")


def apart(places: Sequence[float], gap: float) -> np.ndarray:
    """`places`, ascending, moved by as little as may be until neighbours are `gap` apart."""
    steps = gap * np.arange(len(places))
    return isotonic_regression(np.asarray(places) - steps).x + steps


def as_picture(image: torch.Tensor) -> np.ndarray:
    """(3, H, W) uint8 → (H, W, 3) for imshow."""
    return image.permute(1, 2, 0).cpu().numpy()


def pictures(images: torch.Tensor, titles: Sequence[str], columns: int = 10) -> Figure:
    """A grid of images, uint8 (N, 3, H, W), with a title over each."""
    same_number(images=not_empty("images", images), titles=titles)
    columns = min(at_least_one("columns", columns), len(images))
    rows = -(-len(images) // columns)
    figure, axes = plt.subplots(
        rows, columns, figsize=(1.1 * columns, 1.3 * rows + 0.2), squeeze=False
    )
    for axis in axes.flat:
        axis.axis("off")
    for axis, image, title in zip(axes.flat, images, titles, strict=False):
        axis.imshow(as_picture(image))
        axis.set_title(title, fontsize="small")
    return figure
