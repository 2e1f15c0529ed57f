"""Coordinate attention: every row and every column of every channel is weighed.

Hou, Zhou, Feng, "Coordinate Attention for Efficient Mobile Network Design", CVPR 2021.
"""

import torch
from torch import nn

from attention.blocks.gate import BOTH, CrossGate, Score
from attention.checks import at_least_one, expect_maps


class SideConv(Score):
    """F_h f^h or F_w f^w, a 1×1 convolution: logits of the rows, or of the columns, eq. 7 and 8.

    (N, hidden, H, 1) → (N, C, H, 1), or (N, hidden, 1, W) → (N, C, 1, W)
    """

    kind = BOTH

    def __init__(self, hidden: int, channels: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(hidden, channels, 1)

    def forward(self, encoded: torch.Tensor) -> torch.Tensor:
        return self.conv(encoded)


class CoordinateAttention(nn.Module):
    """Coordinate attention: y_c(i, j) = x_c(i, j) · g^h_c(i) · g^w_c(j), eq. 4–9.

    f = δ(F₁[z^h, z^w]),  g^h = σ(F_h f^h),  g^w = σ(F_w f^w), with z^h the averages of the rows and
    z^w those of the columns, for every channel

    (N, C, H, W) → the same shape. The map is g^h · g^w, as large as x.

    As the authors released it: δ is a BatchNorm and then h-swish (the equation names only a
    non-linearity), and the hidden width is C/r but never less than 8 (the paper: C/r).

    Parameters, with h = max(8, ⌊C/r⌋): 3hC + 3h + 2C.
    """

    def __init__(self, channels: int, reduction: int = 32) -> None:
        super().__init__()
        self.channels = at_least_one("channels", channels)
        hidden = max(8, channels // at_least_one("reduction", reduction))
        self.encode = nn.Sequential(
            nn.Conv2d(channels, hidden, 1), nn.BatchNorm2d(hidden), nn.Hardswish()
        )
        self.rows = SideConv(hidden, channels)
        self.columns = SideConv(hidden, channels)
        self.gate = CrossGate()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        expect_maps(x, self.channels)
        height, width = x.shape[2:]
        rows = x.mean(3, keepdim=True)  # z^h, eq. 4 (N, C, H, 1)
        columns = x.mean(2, keepdim=True).mT  # z^w, eq. 5, upright (N, C, W, 1)
        encoded = self.encode(torch.cat([rows, columns], dim=2))  # f, eq. 6
        rows, columns = encoded.split([height, width], dim=2)
        return x * self.gate(self.rows(rows), self.columns(columns.mT))  # eq. 7–9
