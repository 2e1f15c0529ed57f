"""How a network is named and drawn in the figures of a study: by the family of its mechanism."""

import re

import seaborn as sns
from matplotlib.lines import Line2D

from attention.figures.base import MARKERS, PALETTE

FAMILIES = {
    "plain": (),
    "channel": ("se", "eca", "encoding"),
    "spatial": ("sse", "spatial", "qkv"),
    "both": ("cbam", "bam"),
    "mixing": ("nonlocal", "context", "selfattention", "local"),
    "pooling": ("average_pool", "additive_pool", "dot_pool", "multihead_pool", "feature_gate"),
    "transformer": (),
    "hybrid": ("hybrid",),
}


def family(name):
    """The family of a network, by the name of its run; what is in no list is a hybrid."""
    block = re.search(r" \+ (\w+)", name)
    if not block:
        return "transformer" if "vit" in name else "plain" if "(plain)" in name else "hybrid"
    return next((one for one, blocks in FAMILIES.items() if block[1] in blocks), "hybrid")


def look(name):
    """The colour and the marker of a network: those of its family."""
    number = list(FAMILIES).index(family(name))
    colours = ["0.5", *sns.color_palette(PALETTE)[: len(FAMILIES) - 2], "black"]
    return colours[number], MARKERS[number]


def labels(names):
    """{name: a shorter one}: "fast-16 + se" → "se", unless two names would then be the same."""
    short = {name: name.split(" + ")[-1] for name in names}
    return short if len(set(short.values())) == len(short) else {name: name for name in names}


def legend(place, names, marks=(), **options):
    """A legend of the families of these networks, and of what else the figure marks."""
    one_of_each = {family(name): look(name) for name in names}
    handles = [
        Line2D([], [], color=one_of_each[one][0], marker=one_of_each[one][1], ls="", label=one)
        for one in FAMILIES
        if one in one_of_each
    ]
    place.legend(handles=[*handles, *marks], fontsize="small", **options)
