"""Efficient channel attention: a channel is weighed by its average and those of its neighbours.

Wang, Wu, Zhu, Li, Zuo, Hu, "ECA-Net: Efficient Channel Attention for Deep CNNs", CVPR 2020.
"""

import math

import torch
from torch import nn

from attention.blocks.gate import CHANNEL, Gate, Score, channels_last
from attention.checks import at_least_one, expect_maps, odd


class ChannelConv(Score):
    """A convolution of width k over the averages of the channels, in their order: C1D_k(GAP(x)).

    (N, C, H, W) → (N, C, 1, 1). One kernel for all channels, no bias, zero padding.
    """

    kind = CHANNEL

    def __init__(self, channels: int, kernel_size: int = 3) -> None:
        super().__init__()
        self.channels = at_least_one("channels", channels)
        kernel_size = odd("kernel_size", kernel_size)
        self.conv = nn.Conv1d(1, 1, kernel_size, padding=kernel_size // 2, bias=False)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        expect_maps(x, self.channels)
        averages = channels_last(x).flatten(1, 2).mean(1)
        return self.conv(averages[:, None])[:, 0, :, None, None]


class ECA(nn.Module):
    """Efficient channel attention: x · σ(C1D_k(GAP(x))), eq. 9.

    (N, C, H, W) → the same shape. Without a kernel_size, k follows from the channels (`ECA.rule`);
    the released code takes it from the command line.

    Parameters: k.
    """

    def __init__(self, channels: int, kernel_size: int | None = None) -> None:
        super().__init__()
        if kernel_size is None:
            kernel_size = self.rule(channels)
        self.score = ChannelConv(channels, kernel_size)
        self.gate = Gate(CHANNEL)

    @staticmethod
    def rule(channels: int) -> int:
        """k = |(log₂ C + 1) / 2| taken to an odd number: eq. 12 with γ = 2, b = 1."""
        t = int((math.log2(at_least_one("channels", channels)) + 1) / 2)
        return t if t % 2 else t + 1

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x * self.gate(self.score(x))  # eq. 9
