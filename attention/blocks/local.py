"""Local self-attention: every position looks at the window around it, and at nothing else.

The windows of neighbours overlap, so to copy them out would take k² times the memory of the map.
Here the map is shifted instead, once for each of the k² places in a window: three sums over shifts,
`dots`, `mix` and `spread`, each of which is what the others need for their gradients.
"""

import torch
from torch import nn
from torch.nn import functional as F

from attention.blocks.gate import Weights
from attention.checks import at_least_one, divides, expect_maps, odd


def shifts(padded, k):
    """The k² views (…, H, W) of a map (…, H + k − 1, W + k − 1), the window's places row by row."""
    height, width = padded.shape[-2] - k + 1, padded.shape[-1] - k + 1
    for y in range(k):
        for x in range(k):
            yield padded[..., y : y + height, x : x + width]


def dots(query, padded, k):
    """query_i · key_j for j in the window of i: (N, h, d, H, W), padded keys → (N, h, k², H, W)"""
    return torch.stack([(query * keys).sum(2) for keys in shifts(padded, k)], 2)


def mix(weights, padded, k):
    """Σ_j weights_ij value_j over the window: (N, h, k², H, W), padded values → (N, h, d, H, W)"""
    total = 0
    for share, values in zip(weights.unbind(2), shifts(padded, k), strict=True):
        total = total + share[:, :, None] * values
    return total


def spread(weights, rows, k):
    """Σ_i weights_ij rows_i over all i whose window holds j: the transpose of `mix`."""
    height, width = rows.shape[-2] + k - 1, rows.shape[-1] + k - 1
    total = rows.new_zeros(*rows.shape[:-2], height, width)
    for share, place in zip(weights.unbind(2), shifts(total, k), strict=True):
        place += share[:, :, None] * rows
    return total


class Dots(torch.autograd.Function):
    """`dots`, with gradients that are sums over shifts too; autograd's own hold k² maps."""

    @staticmethod
    def forward(ctx, query, padded, k):
        ctx.save_for_backward(query, padded)
        ctx.k = k
        return dots(query, padded, k)

    @staticmethod
    def backward(ctx, gradient):
        query, padded = ctx.saved_tensors
        return mix(gradient, padded, ctx.k), spread(gradient, query, ctx.k), None


class Mix(torch.autograd.Function):
    """`mix`, likewise."""

    @staticmethod
    def forward(ctx, weights, padded, k):
        ctx.save_for_backward(weights, padded)
        ctx.k = k
        return mix(weights, padded, k)

    @staticmethod
    def backward(ctx, gradient):
        weights, padded = ctx.saved_tensors
        return dots(gradient, padded, ctx.k), spread(weights, gradient, ctx.k), None


class LocalAttention(nn.Module):
    """Stand-alone local self-attention: every position to the k×k window around it.

    y_i = Σ_{j in window} softmax_j(q_i·k_j + q_i·r_{j−i}) v_j

    Ramachandran et al., "Stand-Alone Self-Attention in Vision Models", NeurIPS 2019, eq. 2 and 3.
    Of each head's channels, one half of r is the embedding of the offset's row, the other half that
    of its column. No 1/√d. The softmax is over the positions of the window inside the map.

    (N, C, H, W) → the same shape. Time grows with H·W·k²·C, memory with H·W·(C + k²·heads).

    Parameters: 3C² + k·C.
    """

    at = "residual"

    def __init__(self, channels, kernel_size=7, heads=4):
        super().__init__()
        self.channels = at_least_one("channels", channels)
        self.kernel_size = odd("kernel_size", kernel_size)
        # two halves a head: one for the rows' embeddings, one for the columns'
        divides("2 · heads", 2 * at_least_one("heads", heads), channels)
        self.heads, half = heads, channels // heads // 2
        self.query, self.key, self.value = (
            nn.Conv2d(channels, channels, 1, bias=False) for _ in range(3)
        )
        self.rows = nn.Parameter(torch.randn(heads, kernel_size, 1, half))
        self.columns = nn.Parameter(torch.randn(heads, 1, kernel_size, half))
        self.weights = Weights(window=kernel_size)

    def split(self, x):
        """(N, C, H, W) → (N, heads, C/heads, H, W)"""
        return x.contiguous().unflatten(1, (self.heads, -1))

    def forward(self, x):
        expect_maps(x, self.channels)
        size, k = x.shape[2:], self.kernel_size
        margin = (k // 2,) * 4
        query = self.split(self.query(x))
        keys, values = (F.pad(self.split(f(x)), margin) for f in (self.key, self.value))
        offset = torch.cat([self.rows.expand(-1, k, k, -1), self.columns.expand(-1, k, k, -1)], -1)
        places = torch.einsum("nhdyx,hwd->nhwyx", query, offset.flatten(1, 2))
        inside = F.pad(x.new_ones(size), margin)
        inside = torch.stack(list(shifts(inside, k))) > 0  # (k², H, W)
        logits = (Dots.apply(query, keys, k) + places).masked_fill(~inside, -torch.inf)
        # Weights has the positions looked at last: (N, heads, H·W, k²)
        weights = self.weights(logits.flatten(3).transpose(2, 3), size)
        mixed = Mix.apply(weights.transpose(2, 3).unflatten(3, size), values, k)
        return mixed.flatten(1, 2)
