"""CBAM: which channels, then where.

Woo, Park, Lee, Kweon, "CBAM: Convolutional Block Attention Module", ECCV 2018.
"""

from collections.abc import Sequence

import torch
from torch import nn

from attention.blocks.gate import CHANNEL, SPATIAL, Gate, Score, channels_last
from attention.checks import at_least_one, expect_maps, odd, one_of, some_of

POOLS = {"avg": lambda x, dim: x.mean(dim), "max": lambda x, dim: x.max(dim).values}


class PooledMLP(Score):
    """MLP(AvgPool(F)) + MLP(MaxPool(F)), one W₁ ReLU(W₀ ·) for both: a logit a channel, eq. 2.

    (N, C, H, W) → (N, C, 1, 1). The hidden width is C/r, rounded down, and never less than 1.

    pools: which of the two poolings over positions there are.
    """

    kind = CHANNEL

    def __init__(
        self,
        channels: int,
        reduction: int = 16,
        pools: Sequence[str] = ("avg", "max"),
        bias: bool = False,
    ) -> None:
        super().__init__()
        self.channels = at_least_one("channels", channels)
        hidden = max(1, channels // at_least_one("reduction", reduction))
        self.pools = some_of("pools", pools, POOLS)
        self.mlp = nn.Sequential(
            nn.Linear(channels, hidden, bias=bias),
            nn.ReLU(),
            nn.Linear(hidden, channels, bias=bias),
        )

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        expect_maps(x, self.channels)
        positions = channels_last(x).flatten(1, 2)  # (N, H·W, C)
        logits = sum(self.mlp(POOLS[name](positions, 1)) for name in self.pools)
        return logits[:, :, None, None]


class SpatialConv(Score):
    """f_k×k([AvgPool(F); MaxPool(F)]), pooled over channels: a logit a position, eq. 3.

    (N, C, H, W) → (N, 1, H, W). No bias.

    pools: the maps that the convolution sees, in their order.
    norm: a BatchNorm after the convolution, as in the authors' release. Its weight starts at 0, so
        that the gate starts at exactly ½ everywhere.
    """

    kind = SPATIAL

    def __init__(
        self,
        channels: int,
        kernel_size: int = 7,
        pools: Sequence[str] = ("avg", "max"),
        norm: bool = False,
    ) -> None:
        super().__init__()
        self.channels = at_least_one("channels", channels)
        self.pools = some_of("pools", pools, POOLS)
        kernel_size = odd("kernel_size", kernel_size)
        self.conv = nn.Conv2d(len(self.pools), 1, kernel_size, padding=kernel_size // 2, bias=False)
        self.norm = nn.BatchNorm2d(1, momentum=0.01) if norm else nn.Identity()
        if norm:
            nn.init.zeros_(self.norm.weight)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        expect_maps(x, self.channels)
        # Stacked channels last: a CPU convolves two maps that lie channels first three times as
        # slowly, unless the weights lie channels last.
        pooled = torch.stack([POOLS[name](channels_last(x), 3) for name in self.pools], dim=3)
        return self.norm(self.conv(pooled.permute(0, 3, 1, 2)))


class CBAM(nn.Module):
    """Convolutional block attention: F' = F · Mc(F), F'' = F' · Ms(F'), eq. 1.

    Mc = σ(MLP(avg F) + MLP(max F)),  Ms = σ(f_k×k([avg F'; max F']))

    (N, C, H, W) → the same shape.

    pools: the poolings over positions and those over channels.
    variant: "paper", as the equations have it, or "official", as the authors released it: an MLP
        with biases; over channels always both poolings, in the order (max, avg); and a BatchNorm
        after the k×k convolution. It takes the published weights in their order.

    Parameters of the paper's: 2C·⌊C/r⌋ + 2k².
    """

    def __init__(
        self,
        channels: int,
        reduction: int = 16,
        kernel_size: int = 7,
        pools: Sequence[str] = ("avg", "max"),
        variant: str = "paper",
    ) -> None:
        super().__init__()
        official = one_of("variant", variant, ("paper", "official")) == "official"
        self.channel = PooledMLP(channels, reduction, pools, bias=official)
        self.channel_gate = Gate(CHANNEL)
        over_channels = ("max", "avg") if official else pools
        self.spatial = SpatialConv(channels, kernel_size, over_channels, norm=official)
        self.spatial_gate = Gate(SPATIAL)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = x * self.channel_gate(self.channel(x))
        return x * self.spatial_gate(self.spatial(x))


class SpatialGate(nn.Module):
    """The second half of CBAM alone: x · σ(f_k×k([avg x; max x])), eq. 3.

    (N, C, H, W) → the same shape.

    Parameters: 2k².
    """

    def __init__(
        self, channels: int, kernel_size: int = 7, pools: Sequence[str] = ("avg", "max")
    ) -> None:
        super().__init__()
        self.score = SpatialConv(channels, kernel_size, pools)
        self.gate = Gate(SPATIAL)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x * self.gate(self.score(x))
