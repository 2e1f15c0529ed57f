"""Squeeze and excitation: the average of every channel decides how much of each channel passes.

Hu, Shen, Sun, "Squeeze-and-Excitation Networks", CVPR 2018.
"""

import torch
from torch import nn

from attention.blocks.gate import CHANNEL, Gate, Score, channels_last
from attention.checks import at_least_one, expect_maps, one_of


class ChannelMLP(Score):
    """s = W₂ ReLU(W₁ z), z the average of each channel: one logit a channel.

    (N, C, H, W) → (N, C, 1, 1). The hidden width is C/r, rounded down, and never less than 1.
    """

    kind = CHANNEL

    def __init__(self, channels: int, reduction: int = 16, bias: bool = True) -> None:
        super().__init__()
        self.channels = at_least_one("channels", channels)
        hidden = max(1, channels // at_least_one("reduction", reduction))
        one_of("bias", bias, (False, True))
        self.reduce = nn.Linear(channels, hidden, bias=bias)
        self.expand = nn.Linear(hidden, channels, bias=bias)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        expect_maps(x, self.channels)
        squeezed = channels_last(x).flatten(1, 2).mean(1)  # z, eq. 2
        excited = self.expand(self.reduce(squeezed).relu())  # eq. 3
        return excited[:, :, None, None]


class SE(nn.Module):
    """Squeeze-and-excitation: x · σ(W₂ ReLU(W₁ GAP(x))), eq. 2–4.

    (N, C, H, W) → the same shape. The paper's text leaves the biases out "to simplify"; the
    released models have them, and so does bias=True.

    Parameters: 2C·⌊C/r⌋, and C + ⌊C/r⌋ with biases.
    """

    def __init__(self, channels: int, reduction: int = 16, bias: bool = True) -> None:
        super().__init__()
        self.score = ChannelMLP(channels, reduction, bias)
        self.gate = Gate(CHANNEL)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x * self.gate(self.score(x))  # eq. 3, σ, and eq. 4
