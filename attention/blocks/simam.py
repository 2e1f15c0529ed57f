"""SimAM: a neuron counts that differs from the others of its channel. Nothing is learned.

Yang, Zhang, Li, Xie, "SimAM: A Simple, Parameter-Free Attention Module for Convolutional Neural
Networks", ICML 2021.
"""

import torch
from torch import nn

from attention.blocks.gate import BOTH, Gate, Score
from attention.checks import at_least_one, expect_maps, positive


class InverseEnergy(Score):
    """1 / e*, where e* = 4(σ² + λ) / ((x − μ)² + 2σ² + 2λ) is the least energy of a neuron, eq. 5.

    (N, C, H, W) → the same shape: at least ½, and ½ where x is its channel's mean. μ and σ² are of
    one channel of one image. The energy is low, and its inverse high, for a neuron that a line can
    tell from the others.
    """

    kind = BOTH

    def __init__(self, channels: int, regularisation: float = 1e-4) -> None:
        super().__init__()
        self.channels = at_least_one("channels", channels)
        self.regularisation = positive("regularisation", regularisation)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        expect_maps(x, self.channels)
        distance = (x - x.mean((2, 3), keepdim=True)).square()
        variance = distance.mean((2, 3), keepdim=True)
        spread = variance + self.regularisation
        return (distance + 2 * spread) / (4 * spread)


class SimAM(nn.Module):
    """Simple attention: x · σ(1 / E), eq. 6, E the energy of every neuron.

    (N, C, H, W) → the same shape.

    regularisation: λ; the authors take 1e-4 on CIFAR and 0.1 on ImageNet.

    The authors' release divides the variance by H·W − 1, the paper by H·W, as here: so a map of one
    position has a gate too. Their networks hold it right after the second convolution of a block,
    in front of the BatchNorm; here it stands where other gates do.

    Parameters: none.
    """

    def __init__(self, channels: int, regularisation: float = 1e-4) -> None:
        super().__init__()
        self.score = InverseEnergy(channels, regularisation)
        self.gate = Gate(BOTH)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x * self.gate(self.score(x))
