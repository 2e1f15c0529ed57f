"""Global context (Cao et al. 2019): one weighted sum of all positions, and every one gets it."""

import torch
from torch import nn

from attention.blocks.dot_product import tokens
from attention.blocks.gate import Weights
from attention.checks import at_least_one, expect_maps


class GlobalContext(nn.Module):
    """Global context: x_i + W₂ ReLU(LayerNorm(W₁ Σ_j softmax_j(w·x_j) x_j)).

    Cao et al., "GCNet: Non-local Networks Meet Squeeze-Excitation Networks and Beyond", ICCV
    Workshops 2019, the GC block of figure 4(d): the maps of a trained non-local block are nearly
    the same for all queries, so there is one for all of them. W₂ starts at 0, as in the authors'
    release: the block starts as the identity. (timm's block of that name multiplies by a sigmoid.)

    (N, C, H, W) → the same shape.

    Parameters, with h = C/r, and never less than 4: 2·h·C + 2C + 3h + 1.
    """

    def __init__(self, channels: int, reduction: int = 16) -> None:
        super().__init__()
        self.channels = at_least_one("channels", channels)
        # fewer than four: a LayerNorm of one number is a constant, of two a sign
        hidden = max(4, channels // at_least_one("reduction", reduction))
        self.score = nn.Linear(channels, 1)
        self.weights = Weights()
        self.transform = nn.Sequential(
            nn.Linear(channels, hidden),
            nn.LayerNorm(hidden),
            nn.ReLU(),
            nn.Linear(hidden, channels),
        )
        nn.init.zeros_(self.transform[-1].weight)
        nn.init.zeros_(self.transform[-1].bias)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        expect_maps(x, self.channels)
        positions = tokens(x)
        logits = self.score(positions).mT  # (N, 1, H·W)
        context = self.weights(logits[:, None], x.shape[2:])[:, 0] @ positions  # (N, 1, C)
        return x + self.transform(context).mT[..., None]
