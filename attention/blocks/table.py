"""What is known of each block, in one row: its class, its family, where its paper puts it."""

import dataclasses
import re
import types
from collections.abc import Callable

from torch import nn

from attention.blocks.bam import BAM
from attention.blocks.cbam import CBAM, SpatialGate
from attention.blocks.coordinate import CoordinateAttention
from attention.blocks.dot_product import DotProductGate
from attention.blocks.eca import ECA
from attention.blocks.ela import ELA
from attention.blocks.encoding import EncodingGate
from attention.blocks.global_context import GlobalContext
from attention.blocks.hybrid import Hybrid
from attention.blocks.local import LocalAttention
from attention.blocks.non_local import NonLocal
from attention.blocks.pooling import (
    AdditivePool,
    AveragePool,
    DotProductPool,
    FeatureGate,
    MultiHeadPool,
)
from attention.blocks.se import SE
from attention.blocks.self_attention import SelfAttention
from attention.blocks.simam import SimAM
from attention.blocks.sse import SSE
from attention.checks import one_of

FAMILIES = (
    "plain", "channel", "spatial", "both", "mixing", "pooling", "transformer", "hybrid", "own",
)  # fmt: skip


@dataclasses.dataclass(frozen=True)
class Block:
    """One row of the table.

    cls: a callable channels, **options → module; it takes (N, C, H, W) and gives the same shape,
        or (N, C, 1, 1) if at="pool".
    family: one of `FAMILIES`.
    at: where its paper puts it: "residual", on every residual branch before the addition; "stage",
        after the stages, with skip_last=True all but the last; "pool", in place of the pooling.
    version: raised by one whenever the same options would give another result than before, so that
        earlier records are not taken for the new block's.
    """

    name: str
    cls: Callable[..., nn.Module]
    family: str
    at: str = "residual"
    skip_last: bool = False
    version: int = 1


_rows = {
    row.name: row
    for row in (
        Block("se", SE, "channel"),
        Block("eca", ECA, "channel"),
        Block("encoding", EncodingGate, "channel"),
        Block("sse", SSE, "spatial"),
        Block("spatial", SpatialGate, "spatial"),
        Block("qkv", DotProductGate, "spatial"),
        Block("cbam", CBAM, "both"),
        Block("bam", BAM, "both", at="stage", skip_last=True),
        Block("coordinate", CoordinateAttention, "both"),
        Block("simam", SimAM, "both"),
        Block("ela", ELA, "both"),
        Block("hybrid", Hybrid, "hybrid"),
        Block("nonlocal", NonLocal, "mixing", at="stage", skip_last=True),
        Block("context", GlobalContext, "mixing"),
        Block("selfattention", SelfAttention, "mixing"),
        Block("local", LocalAttention, "mixing"),
        Block("average_pool", AveragePool, "pooling", at="pool"),
        Block("additive_pool", AdditivePool, "pooling", at="pool"),
        Block("dot_pool", DotProductPool, "pooling", at="pool"),
        Block("multihead_pool", MultiHeadPool, "pooling", at="pool"),
        Block("feature_gate", FeatureGate, "pooling", at="pool"),
    )
}
_published = frozenset(_rows)
_blocks = {row.name: row.cls for row in _rows.values() if row.at != "pool"}
_poolings = {row.name: row.cls for row in _rows.values() if row.at == "pool"}

# name → class, to be read; `register` adds to them
BLOCKS = types.MappingProxyType(_blocks)
POOLINGS = types.MappingProxyType(_poolings)


def known(block: str | Callable[..., nn.Module]) -> Block:
    """The row of a block: by its name, or by its class.

    A callable channels → module that is in no row gets one: its own name, family "own",
    at="residual".

    Raises ValueError for an unknown name, which lists the names, and for what cannot make a module
    for any number of channels.
    """
    if isinstance(block, str):
        return _rows[one_of("block", block, _rows)]
    _expect_maker("block", block)
    for row in _rows.values():
        if row.cls is block:
            return row
    name = getattr(block, "__name__", type(block).__name__).strip("<>")  # a lambda: "<lambda>"
    return Block(f"own {name}" if name in _rows else name, block, "own")


def register(
    name: str, cls: Callable[..., nn.Module], at: str = "residual", family: str = "own"
) -> None:
    """Give a block of one's own a name, by which it can be inserted, trained and compared.

    name: letters, digits and " _.+-"; not one of the package's own. A name of one's own may be
        given again: the last counts.
    cls, at, family: as in `Block`.

    Raises ValueError for anything else.
    """
    if not isinstance(name, str) or not re.fullmatch(r"\w[\w .+-]*", name):
        raise ValueError(f"name must be letters, digits and ' _.+-', got {name!r}")
    if name in _published:
        raise ValueError(f"name must not be that of a block of this package, got {name!r}")
    _expect_maker("cls", cls)
    one_of("at", at, ("residual", "stage", "pool"))
    _rows[name] = Block(name, cls, one_of("family", family, FAMILIES), at)
    for table in (_blocks, _poolings):
        table.pop(name, None)
    (_poolings if at == "pool" else _blocks)[name] = cls


def _expect_maker(argument, block):
    """Raise a ValueError unless `block` can be called with a number of channels."""
    if isinstance(block, nn.Module) or not callable(block):
        raise ValueError(
            f"{argument} must be a class or another callable channels → module, got {block!r}"
        )
