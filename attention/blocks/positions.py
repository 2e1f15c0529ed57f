"""From queries to positions: additive, scaled dot-product and multi-head attention.

A query asks, each position answers with a weight, and what comes back is the weighted sum of what
the positions hold. Positions are the rows of matrices here: `tokens` turns maps (N, C, H, W) into
(N, H·W, C), `as_maps` turns them back.

Weights leave through a `Weights` module, so that `attention.capture` sees them. As long as
nobody captures, dot products go through torch's fused kernel, which gives the weighted sum without
ever holding the (queries × positions) matrix of weights.
"""

import torch
from torch import nn
from torch.nn import functional as F

from attention.blocks.gate import SPATIAL, Weights
from attention.checks import at_least_one, divides, expect_maps


def tokens(x):
    """(N, C, H, W) → (N, H·W, C), row by row."""
    return x.permute(0, 2, 3, 1).flatten(1, 2)


def as_maps(x, size):
    """(N, H·W, C) → (N, C, H, W), with size = (H, W)."""
    return x.unflatten(1, size).permute(0, 3, 1, 2)


def attend(query, key, value, weights, size, scale):
    """softmax(scale · query keyᵀ) value: scaled dot-product attention.

    query (N, heads, Q, D), key (N, heads, K, D), value (N, heads, K, V) → (N, heads, Q, V)

    Vaswani et al., "Attention Is All You Need", NeurIPS 2017, eq. 1, with scale = 1/√D.

    weights: the `Weights` through which the weights go while somebody captures. Else
    torch's fused kernel runs: the same result, in memory that grows with Q + K, not with Q·K.
    """
    if weights.wanted:
        return weights(scale * query @ key.transpose(-2, -1), size) @ value
    # zeros behind the vectors change no product; the kernels want one width for all three, and on a
    # GPU a multiple of 8, or the slow way is taken, which makes the weights
    wanted = value.shape[-1]
    width = max(query.shape[-1], wanted)
    if query.is_cuda:
        width = -(-width // 8) * 8
    query, key, value = (
        F.pad(t, (0, width - t.shape[-1])) if t.shape[-1] < width else t
        for t in (query, key, value)
    )
    return F.scaled_dot_product_attention(query, key, value, scale=scale)[..., :wanted]


class Additive(nn.Module):
    """Additive attention: weights = softmax_j(vᵀ tanh(W q + U k_j)), the result Σ_j weights_j k_j.

    queries (N, Q, D), keys (N, K, D) → (N, Q, D)

    Bahdanau, Cho, Bengio, "Neural Machine Translation by Jointly Learning to Align and Translate",
    ICLR 2015 (arXiv 1409.0473), section 3.1 and appendix A.1.2.
    """

    def __init__(self, features, hidden=None):
        super().__init__()
        hidden = max(1, features // 4) if hidden is None else at_least_one("hidden", hidden)
        self.query = nn.Linear(features, hidden)
        self.key = nn.Linear(features, hidden, bias=False)
        self.energy = nn.Linear(hidden, 1, bias=False)
        self.weights = Weights()

    def forward(self, queries, keys, size):
        hidden = torch.tanh(self.query(queries)[:, :, None] + self.key(keys)[:, None])
        logits = self.energy(hidden)[..., 0]
        return self.weights(logits[:, None], size)[:, 0] @ keys


class MultiHead(nn.Module):
    """Multi-head attention: several scaled dot-products side by side, each on its share of D.

    head_i = attend(q W_iQ, k W_iK, k W_iV),  result = concat(head_1, …) W_O
    queries (N, Q, D), keys (N, K, D) → (N, Q, D)

    Vaswani et al. 2017, section 3.2.2.

    Parameters: 4D² + 4D.
    """

    def __init__(self, features, heads=4):
        super().__init__()
        self.heads = divides("heads", heads, features)
        self.query = nn.Linear(features, features)
        self.key = nn.Linear(features, features)
        self.value = nn.Linear(features, features)
        self.out = nn.Linear(features, features)
        self.weights = Weights()
        self.scale = (features // heads) ** -0.5

    def split(self, x):
        """(N, T, D) → (N, heads, T, D/heads)"""
        return x.unflatten(2, (self.heads, -1)).transpose(1, 2)

    def merge(self, x):
        """(N, heads, T, D/heads) → (N, T, D), and W_O"""
        return self.out(x.transpose(1, 2).flatten(2))

    def project(self, queries, keys):
        """Query, key and value of each head."""
        projected = self.query(queries), self.key(keys), self.value(keys)
        return [self.split(x) for x in projected]

    def forward(self, queries, keys, size):
        query, key, value = self.project(queries, keys)
        return self.merge(attend(query, key, value, self.weights, size, self.scale))


class PositionDotProduct(nn.Module):
    """One logit a position, from all positions: dot-product attention as a score.

    logits_i = Σ_j softmax_j(q_i·k_j / √d) v_j, with d = C/r and one value a position
    (N, C, H, W) → (N, 1, H, W)

    Vaswani et al. 2017, eq. 1, with query, key and value maps from 1×1 convolutions, as in SAGAN
    (Zhang et al., ICML 2019, section 3). What it finds is the score of a spatial gate, and is not
    added to x. The softmax makes all logits averages of the same values; v has a bias.
    """

    kind = SPATIAL

    def __init__(self, channels, reduction=8):
        super().__init__()
        self.channels = at_least_one("channels", channels)
        hidden = max(1, channels // at_least_one("reduction", reduction))
        self.query, self.key = nn.Linear(channels, hidden), nn.Linear(channels, hidden)
        self.value = nn.Linear(channels, 1)
        self.weights = Weights()
        self.scale = hidden**-0.5

    def forward(self, x):
        expect_maps(x, self.channels)
        positions, size = tokens(x), x.shape[2:]
        projected = (f(positions)[:, None] for f in (self.query, self.key, self.value))
        return as_maps(attend(*projected, self.weights, size, self.scale)[:, 0], size)
