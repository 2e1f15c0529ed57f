"""The look of figures, and the place where they are kept."""

import matplotlib.pyplot as plt
import seaborn as sns

from attention.files import replacing
from attention.settings import home, profile

MAPS = "viridis"  # readable for the colour-blind, and in grey
PALETTE = "colorblind"
MARKERS = "osD^vPX*"


def style():
    """The look of all figures; call it once, at the top of a notebook."""
    sns.set_theme(context="notebook", style="ticks", palette=PALETTE)
    plt.rcParams.update({
        "figure.dpi": 90, "savefig.dpi": 150, "figure.constrained_layout.use": True,
        "axes.spines.top": False, "axes.spines.right": False, "axes.titlesize": "medium",
        "legend.frameon": False, "image.interpolation": "nearest",
    })  # fmt: skip


def folder(dataset):
    """Where figures of this dataset and profile lie: figures/<dataset>/<profile>."""
    return home() / "figures" / dataset / profile()


def save(figure, name, dataset, table=None, drawn_from_data=True):
    """Write a figure as PNG and PDF, and the table behind it as CSV; returns the figure.

    The figure gets a line at its foot that names the dataset and the profile, unless it is a
    drawing that owes nothing to them.
    """
    if drawn_from_data:
        figure.supxlabel(f"data: {dataset} · {profile()} profile", fontsize="x-small", color="0.4")
    for ending in ("png", "pdf"):
        with replacing(folder(dataset) / f"{name}.{ending}") as path:
            # without the date in it, an unchanged figure is an unchanged file
            metadata = {"CreationDate": None} if ending == "pdf" else None
            figure.savefig(path, format=ending, metadata=metadata, bbox_inches="tight")
    if table is not None:
        save_table(table, name, dataset)
    return figure


def save_table(table, name, dataset):
    """Write a table as CSV to where the figures of this dataset and profile lie."""
    with replacing(folder(dataset) / f"{name}.csv") as path:
        table.to_csv(path, float_format="%.6g")


def as_picture(image):
    """(3, H, W) uint8 → (H, W, 3) for imshow."""
    return image.permute(1, 2, 0).cpu().numpy()


def pictures(images, titles, columns=10):
    """A grid of images, uint8 (N, 3, H, W), with a title over each."""
    columns = min(columns, len(images))
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
