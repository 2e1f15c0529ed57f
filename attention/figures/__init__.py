"""Figures from tables and maps, and the place where they are kept.

Every function returns a matplotlib Figure. Attention maps are drawn on a fixed scale from 0 to 1
unless a scale is given, and then the colour bar says so: a map stretched to its own range makes a
flat gate look dramatic.

base        the look, the folder, and a grid of images
answers     pictures with a network's answer and its maps; which classes it confuses
runs        learning curves; what networks cost beside another
costs       what blocks cost beside those of other libraries
maps        the maps of gates
positions   the maps of queries, growth with size, curves over time
families    how a network is drawn: by its family
study       many networks and seeds: against costs, differences, ranks, ablations
search      everything that a search has tried
noise       whether many differences are more than noise
explanations   maps beside their picture, pixels that go, what measures say
drawings    what a block is made of
"""

from attention.figures.answers import answers, confusion
from attention.figures.base import (
    MAPS,
    PALETTE,
    SIGNED,
    as_picture,
    folder,
    pictures,
    save,
    save_table,
    style,
)
from attention.figures.costs import beside_peers
from attention.figures.drawings import before_after, diagram, in_network
from attention.figures.explanations import cascade, dots, explained, removal, without
from attention.figures.maps import (
    branches,
    channel_table,
    channel_weights,
    spatial_maps,
    two_scales,
    variation,
    variation_table,
)
from attention.figures.noise import half_normal
from attention.figures.positions import over_time, patches, queries, scaling
from attention.figures.runs import cost_bars, curves
from attention.figures.search import search
from attention.figures.study import (
    ablation,
    ablation_table,
    against,
    differences,
    rank_plot,
)

__all__ = [
    "MAPS", "PALETTE", "SIGNED", "ablation", "ablation_table", "against", "answers",
    "as_picture", "before_after", "beside_peers", "branches", "cascade", "channel_table",
    "channel_weights", "confusion", "cost_bars", "curves", "diagram", "differences", "dots",
    "explained", "folder", "half_normal", "in_network", "over_time", "patches", "pictures",
    "queries", "rank_plot", "removal", "save", "save_table", "scaling", "search",
    "spatial_maps", "style", "two_scales", "variation", "variation_table", "without",
]  # fmt: skip
