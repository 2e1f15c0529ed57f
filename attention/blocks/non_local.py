"""The non-local block (Wang et al. 2018): all positions, four ways to compare two."""

import torch
from torch import nn

from attention.blocks.dot_product import as_maps, fused, tokens
from attention.blocks.gate import Weights
from attention.checks import at_least_one, expect_maps, one_of

torch.fx.wrap("fused")


class NonLocal(nn.Module):
    """Non-local block: x_i + W_z Σ_j f(x_i, x_j) g(x_j) / normaliser.

    mode                f(x_i, x_j)                     divided by
    "embedded"          exp(θ(x_i)·φ(x_j))              Σ_j f: a softmax
    "gaussian"          exp(x_i·x_j)                    Σ_j f: a softmax
    "dot"               θ(x_i)·φ(x_j)                   the number of positions
    "concatenation"     ReLU(w·[θ(x_i); φ(x_j)])        the number of positions

    Wang et al., "Non-local Neural Networks", CVPR 2018, eq. 1–6: θ, φ, g of half the channels, no
    1/√d, W_z followed by a BatchNorm whose weight starts at 0, so that the block starts as the
    identity (section 4.1). (The authors' code scales the logits by 1/√(C/2); the paper does not.)

    (N, C, H, W) → the same shape. The first three modes hold the (H·W × H·W) matrix of all pairs
    only while their weights are wanted, "concatenation" always.

    Parameters, embedded, with h = C/2: 4·h·C + 3h + 3C.
    """

    def __init__(self, channels: int, mode: str = "embedded") -> None:
        super().__init__()
        modes = ("embedded", "gaussian", "dot", "concatenation")
        self.mode = one_of("mode", mode, modes)
        self.channels = at_least_one("channels", channels)
        hidden = max(1, channels // 2)
        if mode == "gaussian":
            self.theta = self.phi = nn.Identity()
        else:
            self.theta, self.phi = nn.Linear(channels, hidden), nn.Linear(channels, hidden)
        if mode == "concatenation":
            self.first = nn.Linear(hidden, 1, bias=False)  # w, its part for θ
            self.second = nn.Linear(hidden, 1, bias=False)  # and for φ
        self.g = nn.Linear(channels, hidden)
        self.weights = Weights("softmax" if mode in ("embedded", "gaussian") else "count")
        self.out = nn.Conv2d(hidden, channels, 1)
        self.norm = nn.BatchNorm2d(channels)
        nn.init.zeros_(self.norm.weight)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        expect_maps(x, self.channels)
        positions, size = tokens(x), x.shape[2:]
        theta, phi, g = self.theta(positions), self.phi(positions), self.g(positions)
        if self.mode == "concatenation":
            pairs = (self.first(theta) + self.second(phi).mT).relu()  # w·[θ; φ] = w₁·θ + w₂·φ
            mixed = self.weights(pairs[:, None], size)[:, 0] @ g
        elif self.weights.wanted:
            mixed = self.weights((theta @ phi.mT)[:, None], size)[:, 0] @ g
        else:
            mixed = self.without_pairs(theta, phi, g)
        return x + self.norm(self.out(as_maps(mixed, size)))

    def without_pairs(
        self, theta: torch.Tensor, phi: torch.Tensor, g: torch.Tensor
    ) -> torch.Tensor:
        """The weighted sum of the first three modes without the (H·W × H·W) matrix θ φᵀ."""
        if self.mode == "dot":  # (θ φᵀ) g = θ (φᵀ g): no softmax between them
            return theta @ (phi.mT @ g / g.shape[1])
        # the kernel wants the numbers of a position side by side
        theta, phi, g = (rows.contiguous()[:, None] for rows in (theta, phi, g))
        return fused(theta, phi, g, scale=1.0)[:, 0]
