"""ELA: every row and every column of every channel is weighed, by a convolution along the strip.

Xu and Wan, "ELA: Efficient Local Attention for Deep Convolutional Neural Networks", arXiv
2403.01123, 2024.
"""

import math

import torch
from torch import nn

from attention.blocks.gate import BOTH, CrossGate, Score
from attention.checks import at_least_one, expect_maps, odd


class StripConv(Score):
    """GN(F z), F a convolution along the strip, each channel for itself: logits of rows or columns.

    (N, C, L) → the same shape, for a strip of L averages.
    """

    kind = BOTH

    def __init__(self, channels: int, kernel_size: int = 7, norm_groups: int = 16) -> None:
        super().__init__()
        at_least_one("channels", channels)
        kernel_size = odd("kernel_size", kernel_size)
        self.conv = nn.Conv1d(
            channels, channels, kernel_size, padding=kernel_size // 2, groups=channels, bias=False
        )
        self.norm = nn.GroupNorm(
            math.gcd(at_least_one("norm_groups", norm_groups), channels), channels
        )

    def forward(self, strip: torch.Tensor) -> torch.Tensor:
        norm = self.norm  # not called: it refuses one value a group, where the norm is its bias
        return torch.group_norm(self.conv(strip), norm.num_groups, norm.weight, norm.bias, norm.eps)


class ELA(nn.Module):
    """Efficient local attention: y = x · σ(GN(F z^h)) · σ(GN(F z^w)).

    z^h (N, C, H) are the averages of the rows, z^w (N, C, W) those of the columns, for every
    channel. One convolution and one norm serve both, as in the authors' listing and release.

    (N, C, H, W) → the same shape. The map is the product of the two gates, as large as x.

    kernel_size, norm_groups: the defaults are the paper's ELA-B; 5 and 32 make ELA-T. ELA-S and
        ELA-L, whose convolutions mix 8 channels, are not here. Where norm_groups does not divide
        the channels, it is their greatest common divisor. With as many groups as channels, a
        channel's mean over the image is lost: only the differences along a strip count.

    Parameters: kC + 2C.
    """

    def __init__(self, channels: int, kernel_size: int = 7, norm_groups: int = 16) -> None:
        super().__init__()
        self.channels = at_least_one("channels", channels)
        self.score = StripConv(channels, kernel_size, norm_groups)
        self.gate = CrossGate()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        expect_maps(x, self.channels)
        rows = self.score(x.mean(3))  # (N, C, H)
        columns = self.score(x.mean(2))  # (N, C, W)
        return x * self.gate(rows[..., None], columns[:, :, None])
