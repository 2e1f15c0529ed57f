"""A map leaves through a module: `Gate` and `Weights`, and the kinds of map that there are.

`attention.capture` collects what these modules give. A gate is called as a module, never as a
function: a sigmoid beside it would leave no trace.
"""

import contextlib
from collections.abc import Iterator

import torch
from torch import nn

from attention.checks import one_of

CHANNEL, SPATIAL, BOTH = "channel", "spatial", "both"
POSITIONS, CODEWORDS = "positions", "codewords"  # maps of the mechanisms that are no gates


class Map(nn.Module):
    """A module whose output is an attention map.

    kind: what the map weighs, one of the names at the top of this file.
    wanted: how many `wanting` blocks want this map now. A module that can do without making its
        map (see `Weights`) makes it only then.
    """

    kind: str

    def __init__(self) -> None:
        super().__init__()
        self.wanted = 0

    def __getstate__(self) -> dict:
        """A copy of a module is wanted by nobody."""
        return self.__dict__ | {"wanted": 0}


@contextlib.contextmanager
def wanting(network: nn.Module) -> Iterator[list[Map]]:
    """For the `with` block, every map of the network is made; gives the modules that make them."""
    maps = [module for module in network.modules() if isinstance(module, Map)]
    for module in maps:
        module.wanted += 1
    try:
        yield maps
    finally:
        for module in maps:
            module.wanted -= 1


class Score(nn.Module):
    """A module x (N, C, H, W) → logits that broadcast to x: what goes into a gate.

    kind: what its logits are about, "channel", "spatial" or "both".
    """

    kind: str


class Gate(Map):
    """map = σ(logits), the same shape; `kind` says what it weighs: channels, positions, or both."""

    def __init__(self, kind: str) -> None:
        super().__init__()
        self.kind = one_of("kind", kind, (CHANNEL, SPATIAL, BOTH))

    def forward(self, logits: torch.Tensor) -> torch.Tensor:
        return logits.sigmoid()

    def extra_repr(self) -> str:
        return self.kind


class CrossGate(Gate):
    """map = σ(rows) · σ(columns): a gate on every row and one on every column, each channel's own.

    rows (N, C, H, 1), columns (N, C, 1, W) → (N, C, H, W)
    """

    def __init__(self) -> None:
        super().__init__(BOTH)

    def forward(self, rows: torch.Tensor, columns: torch.Tensor) -> torch.Tensor:
        return rows.sigmoid() * columns.sigmoid()


class Weights(Map):
    """weights = softmax(logits) over the positions looked at; its output IS the map.

    logits (N, heads, Q, K) → weights of the same shape, a row for each of Q queries.

    normalise: "softmax", or "count": logits / K (Wang et al. 2018, for their two last modes).
    window: k, if the K = k² positions are the window around each query, row by row.
    size: of the call: (H, W) of the positions, which the weights alone do not say. K may be larger
        than H·W by tokens that stand in front of them, ViT's class token.

    Where a fused kernel can do without the (Q × K) matrix, the weights are made only while they
    are `wanted`.
    """

    kind = POSITIONS

    def __init__(self, normalise: str = "softmax", window: int | None = None) -> None:
        super().__init__()
        self.normalise = one_of("normalise", normalise, ("softmax", "count"))
        self.window = window
        self.size = None

    def forward(self, logits: torch.Tensor, size: tuple[int, int]) -> torch.Tensor:
        if self.wanted:
            self.size = tuple(size)  # for those who want the map; a hook may not see how it came
        return logits.softmax(-1) if self.normalise == "softmax" else logits / logits.shape[-1]


def channels_last(x: torch.Tensor) -> torch.Tensor:
    """(N, C, H, W) → (N, H, W, C): the same numbers, to be pooled.

    Networks here keep their maps so in memory, and gradients that come back from a pooling in
    another order are added up slowly: two layers of CBAM take 1.3 to 1.5 times as long.
    """
    return x.permute(0, 2, 3, 1)


def laid_out_as(x: torch.Tensor, maps: torch.Tensor) -> torch.Tensor:
    """The same maps, in the order that x has in memory: channels last, where x has them so."""
    return torch.empty_like(x, dtype=maps.dtype).copy_(maps)
