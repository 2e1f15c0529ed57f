"""How a network is drawn in the figures of a study: by the family of its mechanism."""

from collections.abc import Iterable

import pandas as pd
import seaborn as sns
from matplotlib.lines import Line2D

from attention.checks import one_of
from attention.figures.base import MARKERS, PALETTE

# As in the table of blocks; "own": a block from a notebook cell, or of a table that does not say.
FAMILIES = (
    "plain", "channel", "spatial", "both", "mixing", "pooling", "transformer", "hybrid", "own",
)  # fmt: skip
_colours = sns.color_palette(PALETTE)
COLOURS = ["0.5", *_colours[:6], "black", _colours[9]]


def look(family: str) -> tuple:
    """The colour and the marker of a family's networks."""
    number = FAMILIES.index(one_of("family", family, FAMILIES))
    return COLOURS[number], MARKERS[number]


def families(table: pd.DataFrame) -> pd.Series:
    """The column family of a table; "own" for all in a table without it."""
    if "family" not in table:
        return pd.Series("own", table.index)
    return table.family.fillna("own")


def legend(place, shown: Iterable[str], marks=(), **options) -> None:
    """A legend of these families, in the order of `FAMILIES`, and of what else is marked."""
    shown = set(shown)
    handles = [
        Line2D([], [], color=look(family)[0], marker=look(family)[1], ls="", label=family)
        for family in FAMILIES
        if family in shown
    ]
    place.legend(handles=[*handles, *marks], fontsize="small", **options)
