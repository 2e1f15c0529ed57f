"""Figures of records and of cost tables."""

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import seaborn as sns
from matplotlib.ticker import EngFormatter, MaxNLocator

from attention.figures.base import MARKERS, PALETTE


def curves(records):
    """Training loss and accuracy by epoch, and the final test accuracy, one colour a record."""
    figure, axes = plt.subplots(1, 3, figsize=(13, 3.8), width_ratios=(2, 2, 1.3))
    names = [record["name"] for record in records]
    colours = dict(zip(names, sns.color_palette(PALETTE, len(names)), strict=True))
    for number, record in enumerate(records):
        history = pd.DataFrame(record["result"]["history"])
        look = dict(
            color=colours[record["name"]],
            marker=MARKERS[number % len(MARKERS)],
            ms=5,
            label=record["name"],
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
