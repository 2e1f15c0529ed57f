"""Local self-attention (Ramachandran et al. 2019): every position to the window around it."""

from collections.abc import Iterator

import torch
from torch import nn
from torch.nn import functional as F

from attention.blocks.gate import Weights, laid_out_as
from attention.checks import at_least_one, divides, expect_maps, odd


class LocalAttention(nn.Module):
    """Stand-alone local self-attention: every position to the k×k window around it.

    y_i = Σ_{j in window} softmax_j(q_i·k_j + q_i·r_{j−i}) v_j

    Ramachandran et al., "Stand-Alone Self-Attention in Vision Models", NeurIPS 2019, eq. 2 and 3.
    Of each head's channels, one half of r is the embedding of the offset's row, the other half that
    of its column. No 1/√d. The softmax is over the positions of the window inside the map.

    (N, C, H, W) → the same shape. Time grows with H·W·k²·C; memory with H·W·(C + k²·heads), and
    while the weights are wanted with H·W·k²·C.

    Parameters: 3C² + k·C.
    """

    def __init__(self, channels: int, kernel_size: int = 7, heads: int = 4) -> None:
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

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        expect_maps(x, self.channels)
        size, k = x.shape[2:], self.kernel_size
        query, key, value = (
            projection(x).contiguous().unflatten(1, (self.heads, -1))  # (N, heads, d, H, W)
            for projection in (self.query, self.key, self.value)
        )
        offsets = torch.cat([self.rows.expand(-1, k, k, -1), self.columns.expand(-1, k, k, -1)], -1)
        if self.weights.wanted:
            dots = torch.einsum("nhdyx,nhdyxij->nhyxij", query, windows(key, k))
            ways = torch.einsum("nhdyx,hijd->nhyxij", query, offsets)
            outside = windows(x.new_ones(size), k) == 0  # (H, W, k, k)
            logits = (dots + ways).masked_fill(outside, -torch.inf)
            weights = self.weights(logits.flatten(4).flatten(2, 3), size)  # (N, heads, H·W, k²)
            weights = weights.unflatten(3, (k, k)).unflatten(2, size)
            mixed = torch.einsum("nhyxij,nhdyxij->nhdyx", weights, windows(value, k))
        else:
            mixed = by_shifts(query, key, value, offsets)
        return laid_out_as(x, mixed.flatten(1, 2))


def windows(x: torch.Tensor, k: int) -> torch.Tensor:
    """(…, H, W) → (…, H, W, k, k): the window around each position, with zeros outside the map."""
    return F.pad(x, (k // 2,) * 4).unfold(-2, k, 1).unfold(-2, k, 1)


@torch.fx.wrap  # one step of a traced network: it runs through the rows of a map
def by_shifts(
    query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, offsets: torch.Tensor
) -> torch.Tensor:
    """The weighted sum over each window, without copying windows out.

    query, key, value (N, heads, d, H, W), offsets (heads, k, k, d) → (N, heads, d, H, W)

    Windows of neighbours overlap: copies of them take k² times the memory of the map. Here the map
    is shifted instead, once for each of the k² places in a window.
    """
    k = offsets.shape[1]
    dots = torch.stack([(query * shifted).sum(2) for shifted in shifts(key, k)], 2)
    ways = torch.einsum("nhdyx,hwd->nhwyx", query, offsets.flatten(1, 2))
    outside = torch.stack(list(shifts(query.new_ones(query.shape[-2:]), k))) == 0
    weights = (dots + ways).masked_fill(outside, -torch.inf).softmax(2)  # (N, heads, k², H, W)
    places = zip(weights.unbind(2), shifts(value, k), strict=True)
    return sum(share[:, :, None] * shifted for share, shifted in places)


def shifts(x: torch.Tensor, k: int) -> Iterator[torch.Tensor]:
    """k² views of a map (…, H, W): for each place in the window, row by row, what stands there."""
    height, width = x.shape[-2:]
    padded = F.pad(x, (k // 2,) * 4)
    for row in range(k):
        for column in range(k):
            yield padded[..., row : row + height, column : column + width]
