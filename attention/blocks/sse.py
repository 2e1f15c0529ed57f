"""Spatial squeeze and excitation: the smallest published spatial gate.

Roy, Navab, Wachinger, "Concurrent Spatial and Channel 'Squeeze & Excitation' in Fully Convolutional
Networks", MICCAI 2018.
"""

import torch
from torch import nn

from attention.blocks.gate import SPATIAL, Gate, Score
from attention.checks import at_least_one, expect_maps


class PositionConv(Score):
    """q = W_sq ⋆ U, a 1×1 convolution without bias: a logit a position, from its channels alone.

    (N, C, H, W) → (N, 1, H, W)
    """

    kind = SPATIAL

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.channels = at_least_one("channels", channels)
        self.conv = nn.Conv2d(channels, 1, 1, bias=False)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        expect_maps(x, self.channels)
        return self.conv(x)


class SSE(nn.Module):
    """Spatial squeeze and excitation: x · σ(w·x_ij), section 2, sSE.

    (N, C, H, W) → the same shape.

    Parameters: C.

    The spatial gate "even smaller than BAM's" behind the name SResNet50 was never published in a
    form that could be found; `insert(torchvision.models.resnet50(), "sse")` stands in for it.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.score = PositionConv(channels)
        self.gate = Gate(SPATIAL)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x * self.gate(self.score(x))
