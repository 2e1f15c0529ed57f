"""Figures of the maps of gates."""

from collections.abc import Mapping, Sequence

import matplotlib.pyplot as plt
import pandas as pd
import seaborn as sns
import torch
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from attention.figures.base import (
    MAPS,
    PALETTE,
    SIGNED,
    as_picture,
    not_empty,
    same_number,
)


def spatial_maps(
    images: torch.Tensor,
    maps: Mapping[str, torch.Tensor],
    titles: Sequence[str],
    scale: tuple[float, float] = (0, 1),
) -> Figure:
    """Each image above its map, in the map's own resolution.

    images: uint8 (N, 3, H, W). maps: {row label: (N, 1, h, w) or (N, h, w)}.
    """
    for label, values in not_empty("maps", maps).items():
        same_number(
            images=not_empty("images", images), titles=titles, **{f"maps of {label}": values}
        )
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
        for axis, values_of_image in zip(row, values, strict=True):
            drawn = axis.imshow(
                values_of_image.reshape(values.shape[-2:]).cpu().numpy(),
                cmap=MAPS,
                vmin=scale[0],
                vmax=scale[1],
            )
    figure.colorbar(drawn, ax=axes[1:], label=_scale_label(scale), shrink=0.9)
    return figure


def _scale_label(scale):
    fixed = "fixed scale" if scale == (0, 1) else f"scale {scale[0]:.3f} to {scale[1]:.3f}"
    return f"gate ({fixed})"


def branches(
    images: torch.Tensor,
    titles: Sequence[str],
    channel: torch.Tensor,
    spatial: torch.Tensor,
    gate: torch.Tensor,
    title: str,
) -> Figure:
    """A gate over two scores: under each image the logits of both branches, then the map.

    channel: (N, C, 1, 1), a stripe a channel, sorted by the mean; spatial: (N, 1, H, W); both on
    one scale centred on 0. gate: (N, C, H, W), its mean over channels, also over the picture.
    """
    same_number(images=not_empty("images", images), titles=titles, channel=channel,
                spatial=spatial, gate=gate)  # fmt: skip
    limit = float(max(channel.abs().max(), spatial.abs().max()))
    logits, fixed = dict(cmap=SIGNED, vmin=-limit, vmax=limit), dict(cmap=MAPS, vmin=0, vmax=1)
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


def two_scales(images: torch.Tensor, maps: torch.Tensor, title: str, label: str) -> Figure:
    """Each image above its map, once on the fixed scale and once stretched to the maps' range.

    images: uint8 (N, 3, H, W). maps: (N, 1, h, w) or (N, h, w). label: what the rows are called.
    """
    same_number(images=not_empty("images", images), maps=maps)
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
        for axis, values in zip(row, maps, strict=False):
            values = values.reshape(maps.shape[-2:]).cpu().numpy()
            drawn = axis.imshow(values, cmap=MAPS, vmin=low, vmax=high)
        bar = figure.colorbar(drawn, cax=row[-1], ticks=MaxNLocator(4))
        bar.set_label(f"{low:.3g} to {high:.3g}", fontsize="small")
    figure.suptitle(title)
    return figure


def channel_weights(
    weights: torch.Tensor,
    labels: torch.Tensor,
    classes: Sequence[str],
    title: str,
    scale: tuple[float, float] = (0, 1),
) -> Figure:
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


def channel_table(
    weights: torch.Tensor, labels: torch.Tensor, classes: Sequence[str]
) -> pd.DataFrame:
    """The mean channel weights behind `channel_weights`, as a frame: classes × channels."""
    same_number(weights=not_empty("weights", weights), labels=labels)
    frame = pd.DataFrame(weights.flatten(1).cpu().numpy())
    by_class = frame.groupby(labels.cpu().numpy()).mean()
    by_class.index = [classes[number] for number in by_class.index]
    return by_class


def variation(maps: Mapping[str, torch.Tensor]) -> Figure:
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
    axes[0].set_ylabel("gate")
    axes[0].axvline(0.5, color="0.6", lw=1, ls=":")
    return figure


def variation_table(maps: Mapping[str, torch.Tensor]) -> pd.DataFrame:
    """One row a weight: its gate, its mean and its standard deviation over the images."""
    rows = []
    for name, values in not_empty("maps", maps).items():
        values = values.flatten(1).float()
        rows.append(pd.DataFrame({
            "gate": name,
            "value": values.mean(0).cpu().numpy(),
            "spread": values.std(0, correction=0).cpu().numpy(),
        }))  # fmt: skip
    return pd.concat(rows, ignore_index=True)
