"""Figures from records and maps, and the place where they are kept.

Every function returns a matplotlib Figure. Attention maps are drawn on a fixed scale from 0 to 1
unless a scale is given, and then the colour bar says so: a map stretched to its own range makes a
flat gate look dramatic.
"""

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import seaborn as sns
from matplotlib.patches import FancyBboxPatch
from matplotlib.ticker import EngFormatter, MaxNLocator

from attention.files import replacing
from attention.settings import home, profile

MAPS = "viridis"  # readable for the colour-blind, and in grey
PALETTE = "colorblind"


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
        with replacing(folder(dataset) / f"{name}.csv") as path:
            table.to_csv(path, float_format="%.6g")
    return figure


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


def curves(records):
    """Training loss and accuracy by epoch, and the final test accuracy, one colour a record."""
    figure, axes = plt.subplots(1, 3, figsize=(13, 3.8), width_ratios=(2, 2, 1.3))
    names = [record["name"] for record in records]
    colours = dict(zip(names, sns.color_palette(PALETTE, len(names)), strict=True))
    markers = "osD^vPX*"
    for number, record in enumerate(records):
        history = pd.DataFrame(record["result"]["history"])
        look = dict(
            color=colours[record["name"]], marker=markers[number % 8], ms=5, label=record["name"]
        )
        axes[0].plot(history.epoch, history.train_loss, **look)
        axes[1].plot(history.epoch, history.train_accuracy, **look)
        accuracy = record["result"]["test_accuracy"]
        axes[2].barh(number, accuracy, color=colours[record["name"]])
        axes[2].text(accuracy + 1, number, f"{accuracy:.2f}", va="center")
    axes[0].set(xlabel="epoch", ylabel="training loss (with label smoothing)", title="Loss")
    axes[1].set(
        xlabel="epoch", ylabel="accuracy (%)", title="Accuracy on augmented training images"
    )
    axes[2].set(xlabel="accuracy (%)", xlim=(0, 125), title="Test images, final epoch")
    axes[2].set_xticks(range(0, 101, 25))
    axes[2].set_yticks(range(len(names)), names)
    axes[2].invert_yaxis()
    for axis in axes[:2]:
        axis.xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))
    axes[0].legend(fontsize="small")
    return figure


def spatial_maps(images, maps, titles, scale=(0, 1)):
    """Each image above its map, in the map's own resolution.

    images: uint8 (N, 3, H, W). maps: {row label: (N, 1, h, w) or (N, h, w)}.
    """
    rows, columns = 1 + len(maps), len(images)
    figure, axes = plt.subplots(
        rows, columns, figsize=(1.25 * columns + 1.4, 1.35 * rows), squeeze=False
    )
    for axis in axes.flat:
        axis.set_xticks([])
        axis.set_yticks([])
        sns.despine(ax=axis, left=True, bottom=True)
    for axis, image, title in zip(axes[0], images, titles, strict=True):
        axis.imshow(as_picture(image))
        axis.set_title(title, fontsize="small")
    axes[0, 0].set_ylabel("image", rotation=0, ha="right", va="center")
    for row, (label, values) in zip(axes[1:], maps.items(), strict=True):
        row[0].set_ylabel(label, rotation=0, ha="right", va="center")
        for axis, one in zip(row, values, strict=True):
            drawn = axis.imshow(
                one.reshape(one.shape[-2:]).cpu().numpy(), cmap=MAPS, vmin=scale[0], vmax=scale[1]
            )
    figure.colorbar(drawn, ax=axes[1:], label=_scale_label(scale), shrink=0.9)
    return figure


def _scale_label(scale):
    fixed = "fixed scale" if scale == (0, 1) else f"scale {scale[0]:.3f} to {scale[1]:.3f}"
    return f"gate ({fixed})"


def branches(images, titles, channel, spatial, gate, title):
    """A gate over two scores: under each image the logits of both branches, then the map.

    channel: (N, C, 1, 1), a stripe a channel, sorted by the mean; spatial: (N, 1, H, W); both on
    one scale centred on 0. gate: (N, C, H, W), its mean over channels, also over the picture.
    """
    limit = float(max(channel.abs().max(), spatial.abs().max()))
    logits, fixed = dict(cmap="PuOr", vmin=-limit, vmax=limit), dict(cmap=MAPS, vmin=0, vmax=1)
    channel = channel[:, channel.mean((0, 2, 3)).argsort(descending=True), :, 0].numpy()
    spatial, over_channels = spatial[:, 0].numpy(), gate.mean(1).numpy()
    (height, width), count = images.shape[2:], len(images)
    extent = (-0.5, width - 0.5, height - 0.5, -0.5)  # that of the image
    figure, axes = plt.subplots(5, count, figsize=(1.25 * count + 2.4, 6.6), squeeze=False)
    for axis in axes.flat:
        axis.set(xticks=[], yticks=[])
    for n, column in enumerate(axes.T):
        column[0].imshow(as_picture(images[n]))
        column[0].set_title(titles[n], fontsize="small")
        scores = column[1].imshow(channel[n], extent=extent, **logits)
        column[2].imshow(spatial[n], **logits)
        weights = column[3].imshow(over_channels[n], **fixed)
        column[4].imshow(as_picture(images[n]))
        column[4].imshow(over_channels[n], alpha=0.6, extent=extent, **fixed)
    names = ("image", "channel logits", "spatial logits", "map, mean\nover channels", "over image")
    for axis, name in zip(axes[:, 0], names, strict=True):
        axis.set_ylabel(name, rotation=0, ha="right", va="center")
    figure.colorbar(scores, ax=axes[1:3], label=f"logit (−{limit:.1f} to {limit:.1f})")
    figure.colorbar(weights, ax=axes[3:], label="gate (fixed scale)")
    figure.suptitle(title)
    return figure


def two_scales(images, maps, title, label):
    """Each image above its map, once on the fixed scale and once stretched to the maps' range.

    images: uint8 (N, 3, H, W). maps: (N, 1, h, w) or (N, h, w). label: what the rows are called.
    """
    scales = ((0.0, 1.0), (float(maps.min()), float(maps.max())))
    figure, axes = plt.subplots(
        3, len(images) + 1, figsize=(1.25 * len(images) + 1.6, 4.2), squeeze=False,
        width_ratios=[1] * len(images) + [0.12],
    )  # fmt: skip
    for axis in axes[:, :-1].flat:
        axis.set(xticks=[], yticks=[])
        sns.despine(ax=axis, left=True, bottom=True)
    for axis, image in zip(axes[0], images, strict=False):
        axis.imshow(as_picture(image))
    axes[0, -1].axis("off")
    axes[0, 0].set_ylabel("image", rotation=0, ha="right", va="center")
    for row, (low, high), name in zip(axes[1:], scales, ("fixed", "stretched"), strict=True):
        row[0].set_ylabel(f"{label}\n{name} scale", rotation=0, ha="right", va="center")
        for axis, one in zip(row, maps, strict=False):
            drawn = axis.imshow(one.reshape(one.shape[-2:]).numpy(), cmap=MAPS, vmin=low, vmax=high)
        bar = figure.colorbar(drawn, cax=row[-1], ticks=MaxNLocator(4))
        bar.set_label(f"gate, {low:.3g} to {high:.3g}", fontsize="small")
    figure.suptitle(title)
    return figure


def channel_weights(weights, labels, classes, title, scale=(0, 1)):
    """Mean channel weight for the images of each class: a row a class, a column a channel.

    weights: (N, C, 1, 1) or (N, C). labels: (N,). Channels are sorted by their mean weight.
    """
    table = channel_table(weights, labels, classes)
    figure, axis = plt.subplots(figsize=(11, 0.3 * len(classes) + 1.2))
    table = table[table.mean().sort_values().index]
    sns.heatmap(
        table, ax=axis, cmap=MAPS, vmin=scale[0], vmax=scale[1], xticklabels=False,
        cbar_kws={"label": _scale_label(scale)},
    )  # fmt: skip
    axis.set(title=title, xlabel=f"{table.shape[1]} channels, sorted by mean weight", ylabel="")
    return figure


def channel_table(weights, labels, classes):
    """The mean channel weights behind `channel_weights`, as a frame: classes × channels."""
    frame = pd.DataFrame(weights.flatten(1).cpu().numpy())
    by_class = frame.groupby(labels.cpu().numpy()).mean()
    by_class.index = [classes[number] for number in by_class.index]
    return by_class


def variation(maps):
    """How far gates move between images: the spread of each weight over the images.

    maps: {name: (N, …)}, one map an image. A gate that gives the same map to every image has a
    spread of 0, however uneven that map is.
    """
    table = variation_table(maps)
    figure, axes = plt.subplots(1, 2, figsize=(11, 0.5 * len(maps) + 1.9), sharey=True)
    colours = sns.color_palette(PALETTE)
    for axis, column, label, title in (
        (axes[0], "value", "mean weight over all images", "Where the gate stands"),
        (axes[1], "spread", "standard deviation over images", "How far it moves between images"),
    ):
        sns.boxplot(
            table, x=column, y="gate", ax=axis, color=colours[0], fliersize=2, whis=(0, 100)
        )
        axis.set(xlabel=label, ylabel="", title=title, xlim=(0, 1 if column == "value" else None))
        axis.xaxis.set_major_locator(MaxNLocator(5))
    axes[0].axvline(0.5, color="0.6", lw=1, ls=":")
    return figure


def variation_table(maps):
    """One row a weight: its gate, its mean and its standard deviation over the images."""
    rows = []
    for name, values in maps.items():
        values = values.flatten(1).float()
        rows.append(pd.DataFrame({
            "gate": name,
            "value": values.mean(0).cpu().numpy(),
            "spread": values.std(0, correction=0).cpu().numpy(),
        }))  # fmt: skip
    return pd.concat(rows, ignore_index=True)


def costs(table, columns, baseline):
    """Bars for the columns of a cost table, one row a network; `baseline` is drawn in grey."""
    figure, axes = plt.subplots(
        1, len(columns), figsize=(4.2 * len(columns), 0.45 * len(table) + 1.6), sharey=True
    )
    colours = ["0.6" if name == baseline else sns.color_palette(PALETTE)[0] for name in table.index]
    for axis, (column, label) in zip(np.atleast_1d(axes), columns.items(), strict=True):
        axis.barh(table.index, table[column], color=colours)
        axis.set(xlabel=label)
        axis.margins(x=0.25)
        axis.xaxis.set_major_formatter(EngFormatter(sep=" "))
        for number, value in enumerate(table[column]):
            text = f" {value:,.0f}" if value >= 100 else f" {value:.3g}"
            axis.text(value, number, text, va="center", fontsize="small")
    np.atleast_1d(axes)[0].invert_yaxis()
    return figure


def diagram(gates):
    """A block as a chain of gates: boxes from x to the map, and the way of x around them.

    gates: a list of (branches, join, result): `branches`, lists of box texts that start at x;
    `join`, the boxes that all branches lead to; `result`, what is done with x and the map.
    """
    height = max(len(branches) for branches, _, _ in gates)
    length = sum(max(map(len, branches)) + len(join) + 2 for branches, join, _ in gates) + 1
    figure, axis = plt.subplots(figsize=(1.55 * length, 1.1 * height + 0.9), layout="constrained")
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
        axis.text(x, y, text, ha="center", va="center", fontsize=9)

    def arrow(start, end, bend="arc3"):
        axis.annotate(
            "", end, start,
            arrowprops={"arrowstyle": "-|>", "color": "0.3", "connectionstyle": bend, "lw": 1.2},
        )  # fmt: skip

    for branches, join, result in gates:
        if column == 0:
            axis.text(0, 0, "x\nN×C×H×W", ha="center", va="center", fontsize=9)
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
    axis.text(column + 0.95, 0, "out\nN×C×H×W", ha="center", va="center", fontsize=9)
    axis.set(xlim=(-0.5, column + 1.4), ylim=(-0.4 * height - 0.2, 0.4 * height + 0.4))
    return figure


def before_after(maps):
    """Pairs of feature maps, before and after a gate, each pair on one common scale.

    maps: {title: (before, after)}, both (H, W).
    """
    figure = plt.figure(figsize=(4.6 * len(maps), 2.7))
    for part, (title, pair) in zip(
        np.atleast_1d(figure.subfigures(1, len(maps))), maps.items(), strict=True
    ):
        part.suptitle(title, fontsize="medium")
        axes = part.subplots(1, 2)
        limit = float(max(one.abs().max() for one in pair))
        for axis, one, label in zip(axes, pair, ("in", "out"), strict=True):
            drawn = axis.imshow(one.detach().cpu().numpy(), cmap="PuOr", vmin=-limit, vmax=limit)
            axis.set(xticks=[], yticks=[], xlabel=label)
        part.colorbar(drawn, ax=axes, shrink=0.8)
    return figure
