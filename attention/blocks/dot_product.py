"""Scaled dot-product attention, several heads of it, and a gate that is made of it ("qkv").

Vaswani et al., "Attention Is All You Need", NeurIPS 2017. A query asks, each position answers with
a weight, and what comes back is the weighted sum of what the positions hold. Positions are the rows
of matrices here: `tokens` turns maps (N, C, H, W) into (N, H·W, C), `as_maps` turns them back.
"""

import torch
from torch import nn
from torch.nn import functional as F

from attention.blocks.gate import SPATIAL, Gate, Score, Weights
from attention.checks import at_least_one, divides, expect_maps, expect_rows

# Weights of a head, queries times keys, up to which writing them out is faster than torch's fused
# kernel, on a CPU and in bfloat16: its backward pass takes up to six times as long there, in
# float32 it does not.
FEW = 256 * 256


def tokens(x: torch.Tensor) -> torch.Tensor:
    """(N, C, H, W) → (N, H·W, C), row by row."""
    return x.permute(0, 2, 3, 1).flatten(1, 2)


def as_maps(x: torch.Tensor, size: tuple[int, int]) -> torch.Tensor:
    """(N, H·W, C) → (N, C, H, W), with size = (H, W)."""
    return x.unflatten(1, size).permute(0, 3, 1, 2)


def attend(
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    weights: Weights,
    size: tuple[int, int],
    scale: float,
) -> torch.Tensor:
    """softmax(scale · query keyᵀ) value: Vaswani et al. 2017, eq. 1, with scale = 1/√D.

    query (N, heads, Q, D), key (N, heads, K, D), value (N, heads, K, V) → (N, heads, Q, V)

    weights: the module through which the weights go while they are wanted, with the `size` (H, W)
    of the positions looked at. As long as nobody wants them, `fused` gives the same.
    """
    if weights.wanted:
        return weights(scale * query @ key.mT, size) @ value
    return fused(query, key, value, scale)


@torch.fx.wrap  # one step of a traced network: it asks for the width and the device of its rows
def fused(
    query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, scale: float
) -> torch.Tensor:
    """`attend` by torch's fused kernel: it never holds the (Q × K) weights, unless they are few.

    Memory grows with Q + K, not with Q·K. The kernel has first derivatives only: for second ones,
    work within `wanting`.
    """
    few = query.shape[-2] * key.shape[-2] <= FEW
    if few and query.device.type == "cpu" and query.dtype == torch.bfloat16:
        return (scale * query @ key.mT).softmax(-1) @ value
    # zeros behind the vectors change no product; the kernels want one width for all three, and on a
    # GPU a multiple of 8, or the slow way is taken, which makes the weights
    features = value.shape[-1]
    width = max(query.shape[-1], features)
    if query.is_cuda:
        width = -(-width // 8) * 8
    query, key, value = (
        F.pad(rows, (0, width - rows.shape[-1])) if rows.shape[-1] < width else rows
        for rows in (query, key, value)
    )
    return F.scaled_dot_product_attention(query, key, value, scale=scale)[..., :features]


class MultiHead(nn.Module):
    """Multi-head attention: several scaled dot-products side by side, each on its share of D.

    head_h = softmax(Q W_hQ (K W_hK)ᵀ / √d) K W_hV,  result = concat(head_1, …) W_O, d = D/heads
    queries Q (N, Q, D), keys K (N, K, D) → (N, Q, D); what is looked at is also what is summed up

    Vaswani et al. 2017, eq. 1 and section 3.2.2; the projections have biases.

    Parameters: 4D² + 4D.
    """

    def __init__(self, features: int, heads: int = 4) -> None:
        super().__init__()
        self.features = at_least_one("features", features)
        self.heads = divides("heads", heads, features)
        self.query = nn.Linear(features, features)
        self.key = nn.Linear(features, features)
        self.value = nn.Linear(features, features)
        self.out = nn.Linear(features, features)
        self.weights = Weights()
        self.scale = (features // heads) ** -0.5

    def forward(
        self, queries: torch.Tensor, keys: torch.Tensor, size: tuple[int, int]
    ) -> torch.Tensor:
        """size: (H, W) of the positions that the keys are; see `Weights`."""
        query, key, value = self.project(queries, keys)
        return self.merge(attend(query, key, value, self.weights, size, self.scale))

    def project(self, queries: torch.Tensor, keys: torch.Tensor) -> list[torch.Tensor]:
        """Query, key and value of each head: (N, heads, Q, d), and twice (N, heads, K, d)."""
        expect_rows("queries", queries, self.features)
        expect_rows("keys", keys, self.features)
        projected = self.query(queries), self.key(keys), self.value(keys)
        return [rows.unflatten(2, (self.heads, -1)).transpose(1, 2) for rows in projected]

    def merge(self, heads: torch.Tensor) -> torch.Tensor:
        """(N, heads, Q, d) → (N, Q, D): the heads side by side, then W_O."""
        return self.out(heads.transpose(1, 2).flatten(2))


class DotProductScore(Score):
    """One logit a position, from all positions: Σ_j softmax_j(q_i·k_j / √d) v_j, one v a position.

    (N, C, H, W) → (N, 1, H, W), with d = C/r

    Vaswani et al. 2017, eq. 1, with query, key and value maps from 1×1 convolutions, as in SAGAN
    (Zhang et al., ICML 2019, section 3). The softmax makes all logits averages of the same values;
    v has a bias.
    """

    kind = SPATIAL

    def __init__(self, channels: int, reduction: int = 8) -> None:
        super().__init__()
        self.channels = at_least_one("channels", channels)
        hidden = max(1, channels // at_least_one("reduction", reduction))
        self.query = nn.Linear(channels, hidden)
        self.key = nn.Linear(channels, hidden)
        self.value = nn.Linear(channels, 1)
        self.weights = Weights()
        self.scale = hidden**-0.5

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        expect_maps(x, self.channels)
        positions, size = tokens(x)[:, None], x.shape[2:]  # one head
        query, key, value = self.query(positions), self.key(positions), self.value(positions)
        logits = attend(query, key, value, self.weights, size, self.scale)
        return as_maps(logits[:, 0], size)


class DotProductGate(nn.Module):
    """A spatial gate from query, key and value maps: x · σ(softmax(q kᵀ/√d) v), one v a position.

    (N, C, H, W) → the same shape. What dot-product attention finds is the score of a gate here, see
    `DotProductScore`; it is not added to x.

    Parameters, with d = C/r: 2·d·C + 2d + C + 1.
    """

    def __init__(self, channels: int, reduction: int = 8) -> None:
        super().__init__()
        self.score = DotProductScore(channels, reduction)
        self.gate = Gate(SPATIAL)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x * self.gate(self.score(x))
