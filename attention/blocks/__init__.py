"""The blocks: each takes (N, C, H, W) and gives the same shape, for any H and W.

gate        a map leaves through a module: `Gate`, `Weights`, and the kinds of map
papers      SE, ECA, CBAM, BAM, SSE, SpatialGate, EncodingGate
dot_product    scaled dot-product and multi-head attention; DotProductGate ("qkv")
non_local, global_context, self_attention, local    what mixes positions, one paper each
additive    what pooling's AdditivePool asks with
pooling     in place of the global average pooling
hybrid      Hybrid: scores put together in every way
table       `known`: what is known of each block, in one row; `register`: a row for one's own
"""

from attention.blocks.additive import Additive
from attention.blocks.dot_product import DotProductGate, MultiHead, as_maps, attend, tokens
from attention.blocks.gate import (
    BOTH,
    CHANNEL,
    CODEWORDS,
    POSITIONS,
    SPATIAL,
    Gate,
    Map,
    Score,
    Weights,
    wanting,
)
from attention.blocks.gates import Product, Rescale, Sum
from attention.blocks.global_context import GlobalContext
from attention.blocks.hybrid import SPACE, Hybrid, Parallel, Pooled
from attention.blocks.local import LocalAttention
from attention.blocks.non_local import NonLocal
from attention.blocks.papers import (
    BAM,
    CBAM,
    ECA,
    SE,
    SSE,
    EncodingGate,
    SpatialGate,
)
from attention.blocks.pooling import (
    AdditivePool,
    AveragePool,
    DotProductPool,
    FeatureGate,
    MultiHeadPool,
)
from attention.blocks.self_attention import SelfAttention
from attention.blocks.table import BLOCKS, FAMILIES, POOLINGS, Block, known, register

__all__ = [
    "BAM", "BLOCKS", "BOTH", "CBAM", "CHANNEL", "CODEWORDS", "ECA", "FAMILIES", "POOLINGS",
    "POSITIONS", "SE", "SPACE", "SPATIAL", "SSE", "Additive", "AdditivePool", "AveragePool",
    "Block", "DotProductGate", "DotProductPool", "EncodingGate", "FeatureGate", "Gate",
    "GlobalContext", "Hybrid", "LocalAttention", "Map", "MultiHead", "MultiHeadPool",
    "NonLocal", "Parallel", "Pooled", "Product", "Rescale", "Score", "SelfAttention",
    "SpatialGate", "Sum", "Weights", "as_maps", "attend", "known", "register", "tokens",
    "wanting",
]  # fmt: skip
