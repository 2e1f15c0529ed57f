"""Additive attention (Bahdanau et al. 2015): a small network compares query and position."""

import torch
from torch import nn

from attention.blocks.gate import Weights
from attention.checks import at_least_one, expect_rows


class Additive(nn.Module):
    """Additive attention: weights = softmax_j(vᵀ tanh(W q + U k_j)), the result Σ_j weights_j k_j.

    queries (N, Q, D), keys (N, K, D) → (N, Q, D)

    Bahdanau, Cho, Bengio, "Neural Machine Translation by Jointly Learning to Align and Translate",
    ICLR 2015 (arXiv 1409.0473), section 3.1 and appendix A.1.2.

    hidden: the length of v; None: D/4. Parameters: 2·hidden·D + 2·hidden.
    """

    def __init__(self, features: int, hidden: int | None = None) -> None:
        super().__init__()
        self.features = at_least_one("features", features)
        hidden = max(1, features // 4) if hidden is None else at_least_one("hidden", hidden)
        self.query = nn.Linear(features, hidden)
        self.key = nn.Linear(features, hidden, bias=False)
        self.energy = nn.Linear(hidden, 1, bias=False)
        self.weights = Weights()

    def forward(
        self, queries: torch.Tensor, keys: torch.Tensor, size: tuple[int, int]
    ) -> torch.Tensor:
        """size: (H, W) of the positions that the keys are; see `Weights`."""
        expect_rows("queries", queries, self.features)
        expect_rows("keys", keys, self.features)
        pairs = self.query(queries)[:, :, None] + self.key(keys)[:, None]  # (N, Q, K, hidden)
        logits = self.energy(pairs.tanh())[..., 0]
        return self.weights(logits[:, None], size)[:, 0] @ keys
