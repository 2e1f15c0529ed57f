"""Self-attention with relative position (BoTNet): every pixel to every, in several heads."""

import torch
from torch import nn

from attention.blocks.dot_product import MultiHead, as_maps, fused, tokens
from attention.blocks.gate import laid_out_as
from attention.checks import at_least_one, expect_maps

torch.fx.wrap("fused")


class SelfAttention(MultiHead):
    """Multi-head self-attention over a feature map, with relative position: every pixel to every.

    logits_ij = (q_i·k_j + q_i·r_row(y_j − y_i) + q_i·r_column(x_j − x_i)) / √d

    Srinivas et al., "Bottleneck Transformers for Visual Recognition" (BoTNet), CVPR 2021, fig. 4,
    with W_O (Vaswani et al. 2017), which BoTNet leaves to the next convolution.

    (N, C, H, W) → the same shape. Offsets beyond `reach` share the last embedding (Shaw et al.
    2018, section 3.2), so that any H and W will do.

    Parameters: 4C² + 4C + 2(2·reach + 1)·C/heads.
    """

    def __init__(self, channels: int, heads: int = 4, reach: int = 16) -> None:
        super().__init__(at_least_one("channels", channels), heads)
        self.channels, self.reach = channels, at_least_one("reach", reach)
        width = channels // heads
        self.rows = nn.Parameter(width**-0.5 * torch.randn(2 * reach + 1, width))
        self.columns = nn.Parameter(width**-0.5 * torch.randn(2 * reach + 1, width))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        expect_maps(x, self.channels)
        size = x.shape[2:]
        query, key, value = self.project(tokens(x), tokens(x))
        to_rows, to_columns = self.ways(query, size)
        if self.weights.wanted:
            ways = to_rows[..., :, None] + to_columns[..., None, :]  # (N, heads, H, W, H, W)
            logits = self.scale * (query @ key.mT + ways.flatten(4).flatten(2, 3))
            mixed = self.weights(logits, size) @ value
        else:
            query, key = widened(query, key, to_rows, to_columns)
            mixed = fused(query, key, value, self.scale)
        return laid_out_as(x, as_maps(self.merge(mixed), size))

    def ways(self, query: torch.Tensor, size: tuple[int, int]) -> tuple[torch.Tensor, torch.Tensor]:
        """q_i·r_row to each row, and q_i·r_column to each column, of the map of this size (H, W).

        query (N, heads, H·W, d) → (N, heads, H, W, H) and (N, heads, H, W, W)
        """
        grid = query.unflatten(2, size)
        height, width = size
        rows, columns = self.offsets(self.rows, height), self.offsets(self.columns, width)
        to_rows = torch.einsum("nhyxd,yzd->nhyxz", grid, rows)
        return to_rows, torch.einsum("nhyxd,xzd->nhyxz", grid, columns)

    def offsets(self, table: torch.Tensor, length: int) -> torch.Tensor:
        """(length, length, d): the embedding of the way from each place to each other."""
        places = torch.arange(length, device=table.device)
        steps = (places - places[:, None]).clamp(-self.reach, self.reach)
        return table[steps + self.reach]


@torch.fx.wrap  # one step of a traced network, as `fused`
def widened(
    query: torch.Tensor, key: torch.Tensor, to_rows: torch.Tensor, to_columns: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor]:
    """Query and key of d + H + W numbers whose dot product is all of √d · logits_ij.

    So the fused kernel can do the rest, and no matrix of all pairs is made. A position enters only
    through its row and its column: each query is continued by what it gives to every row and to
    every column, each key by ones at its own.
    """
    height, width = to_rows.shape[-1], to_columns.shape[-1]
    grid = query.unflatten(2, (height, width))
    row = torch.eye(height)[:, None].expand(-1, width, -1)  # (H, W, H)
    column = torch.eye(width).expand(height, -1, -1)  # (H, W, W)
    own = torch.cat([row, column], 2).flatten(0, 1).to(key).expand(*key.shape[:2], -1, -1)
    query = torch.cat([grid, to_rows, to_columns], -1).flatten(2, 3)
    return query, torch.cat([key, own], -1)
