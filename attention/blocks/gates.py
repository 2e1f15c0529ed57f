"""Scores, the gate, and how a gate's map is applied: the three parts of every gating block.

    score    x (N, C, H, W) → logits, broadcastable to x     the paper's mathematics
    Gate     logits → map in (0, 1)                          a sigmoid; its output IS the map
    Rescale  x · map, or x · (1 + map)                       how the map is applied

A block is a chain of `Rescale` (CBAM: channel, then spatial) or one `Rescale` over a `Sum` or
`Product` of scores (BAM). Every map leaves through a `Gate` module, so that a forward hook on the
`Gate` modules sees all of them; see `attention.capture`.
"""

from collections import OrderedDict

import torch
from torch import nn
from torch.nn import functional as F

from attention.blocks.gate import BOTH, CHANNEL, SPATIAL, Gate
from attention.checks import at_least_one, expect_batch, expect_maps, odd

# Pooling goes through views with the channels last. Networks here keep their maps so in memory, and
# gradients that come back in another order are added up slowly: CBAM took 1.4 to 1.5 times as long.


def avg_over_positions(x):
    return x.permute(0, 2, 3, 1).flatten(1, 2).mean(1)


def max_over_positions(x):
    return F.adaptive_max_pool2d(x, 1).flatten(1)


def avg_over_channels(x):
    return x.permute(0, 2, 3, 1).mean(3)


def max_over_channels(x):
    return x.permute(0, 2, 3, 1).max(3).values


# (N, C, H, W) → (N, C), and → (N, H, W)
OVER_POSITIONS = {"avg": avg_over_positions, "max": max_over_positions}
OVER_CHANNELS = {"avg": avg_over_channels, "max": max_over_channels}


def pools_named(pools, known):
    """Return the functions in `known` that `pools`, a sequence of names, calls for."""
    if isinstance(pools, str) or not pools or any(name not in known for name in pools):
        names = ", ".join(known)
        raise ValueError(f"pools must be a tuple of one or more of {names}; got {pools!r}")
    return [known[name] for name in pools]


class ChannelMLP(nn.Module):
    """One logit a channel, from the pooled channels through a shared two-layer perceptron.

    logits = Σ_pool W₂ ReLU(W₁ pool(x))          (N, C, H, W) → (N, C, 1, 1)

    SE, eq. 3 (Hu et al. 2018) with pools=("avg",); CBAM, eq. 2 (Woo et al. 2018) with both pools.

    reduction: the hidden width is channels // reduction, and never less than 1.
    norm: where a BatchNorm stands: None, "hidden" (before the ReLU) or "output" (after W₂).
    """

    kind = CHANNEL

    def __init__(self, channels, reduction=16, bias=True, pools=("avg",), norm=None):
        super().__init__()
        self.channels = at_least_one("channels", channels)
        hidden = max(1, channels // at_least_one("reduction", reduction))
        self.pools = pools_named(pools, OVER_POSITIONS)
        self.normalised = norm is not None
        layers = OrderedDict(reduce=nn.Linear(channels, hidden, bias=bias))
        if norm == "hidden":
            layers["norm"] = nn.BatchNorm1d(hidden)
        layers["relu"] = nn.ReLU()
        layers["expand"] = nn.Linear(hidden, channels, bias=bias)
        if norm == "output":
            layers["norm"] = nn.BatchNorm1d(channels)
        self.mlp = nn.Sequential(layers)

    def forward(self, x):
        expect_maps(x, self.channels)
        if self.normalised and self.training:
            expect_batch(x)
        logits = sum(self.mlp(pool(x)) for pool in self.pools)
        return logits[:, :, None, None]


class ChannelConv(nn.Module):
    """One logit a channel, from its own average and those of its k−1 neighbours.

    logits = Conv1d_k(mean over positions of x)          (N, C, H, W) → (N, C, 1, 1)

    ECA, eq. 8 and 9 (Wang et al. 2020): one kernel for all channels, no bias, zero padding.
    """

    kind = CHANNEL

    def __init__(self, channels, kernel_size):
        super().__init__()
        self.channels = at_least_one("channels", channels)
        self.conv = nn.Conv1d(
            1, 1, odd("kernel_size", kernel_size), padding=kernel_size // 2, bias=False
        )

    def forward(self, x):
        expect_maps(x, self.channels)
        averages = avg_over_positions(x)
        return self.conv(averages[:, None]).transpose(1, 2)[..., None]


class SpatialConv(nn.Module):
    """One logit a position, from a k×k neighbourhood of the maps pooled over channels.

    logits = f_k×k([avg over channels; max over channels])          (N, C, H, W) → (N, 1, H, W)

    CBAM, eq. 3 (Woo et al. 2018). No bias.

    norm: a BatchNorm after the convolution, as in the official release. Its weight starts at 0, so
    that the gate starts at exactly ½ everywhere.
    """

    kind = SPATIAL

    def __init__(self, channels, kernel_size=7, pools=("avg", "max"), norm=False):
        super().__init__()
        self.channels = at_least_one("channels", channels)
        self.pools = pools_named(pools, OVER_CHANNELS)
        self.conv = nn.Conv2d(
            len(pools), 1, odd("kernel_size", kernel_size), padding=kernel_size // 2, bias=False
        )
        self.norm = nn.BatchNorm2d(1, momentum=0.01) if norm else nn.Identity()
        if norm:
            nn.init.zeros_(self.norm.weight)

    def forward(self, x):
        expect_maps(x, self.channels)
        pooled = torch.stack([pool(x) for pool in self.pools], dim=1)
        return self.norm(self.conv(pooled))


class PositionConv(nn.Module):
    """One logit a position, from its own channels alone.

    logits = w·x_ij          (N, C, H, W) → (N, 1, H, W)

    sSE, section 2 (Roy et al. 2018): a 1×1 convolution, no bias.
    """

    kind = SPATIAL

    def __init__(self, channels):
        super().__init__()
        self.channels = at_least_one("channels", channels)
        self.conv = nn.Conv2d(channels, 1, 1, bias=False)

    def forward(self, x):
        expect_maps(x, self.channels)
        return self.conv(x)


class DilatedConvs(nn.Module):
    """One logit a position, from a wide neighbourhood of all channels.

    logits = f₁ₓ₁ f₃ₓ₃ f₃ₓ₃ f₁ₓ₁ x, the 3×3 dilated          (N, C, H, W) → (N, 1, H, W)

    BAM, eq. 4 (Park et al. 2018).

    norm: "output", one BatchNorm at the end, as the equation has it (it writes no non-linearity
    between the convolutions), or "hidden", BatchNorm and ReLU after every convolution but the
    last, as in the official release.
    """

    kind = SPATIAL

    def __init__(self, channels, reduction=16, dilation=4, norm="output"):
        super().__init__()
        self.channels = at_least_one("channels", channels)
        hidden = max(1, channels // at_least_one("reduction", reduction))
        dilation = at_least_one("dilation", dilation)
        layers = []
        for inputs, size in ((channels, 1), (hidden, 3), (hidden, 3)):
            spread = dict(padding=dilation, dilation=dilation) if size == 3 else {}
            layers.append(nn.Conv2d(inputs, hidden, size, **spread))
            if norm == "hidden":
                layers += [nn.BatchNorm2d(hidden), nn.ReLU()]
        layers.append(nn.Conv2d(hidden, 1, 1))
        if norm == "output":
            layers.append(nn.BatchNorm2d(1))
        self.convs = nn.Sequential(*layers)

    def forward(self, x):
        expect_maps(x, self.channels)
        return self.convs(x)


class Sum(nn.Module):
    """Σ of named scores, broadcast to each other: Sum(channel=…, spatial=…)."""

    def __init__(self, **scores):
        super().__init__()
        for name, score in scores.items():
            self.add_module(name, score)
        kinds = {score.kind for score in scores.values()}
        self.kind = kinds.pop() if len(kinds) == 1 else BOTH

    def combine(self, a, b):
        return a + b

    def forward(self, x):
        logits = None
        for score in self._modules.values():  # children() would skip a score that is used twice
            logits = score(x) if logits is None else self.combine(logits, score(x))
        return logits


class Product(Sum):
    """Π of named scores, broadcast to each other: Product(channel=…, spatial=…)."""

    def combine(self, a, b):
        return a * b


class Rescale(nn.Module):
    """x · map, or with residual=True x · (1 + map), where map = σ(score(x)).

    score: a module x (N, C, H, W) → logits that broadcast to x, with an attribute `kind`
    ("channel", "spatial" or "both"); one without it takes the argument `kind`.
    """

    def __init__(self, score, residual=False, kind=None):
        super().__init__()
        self.score = score
        self.gate = Gate(kind or getattr(score, "kind", None))
        self.residual = residual

    def forward(self, x):
        weights = self.gate(self.score(x))
        return x * (1 + weights) if self.residual else x * weights
