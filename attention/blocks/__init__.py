"""The blocks: each takes (N, C, H, W) and gives the same shape, for any H and W.

gate        a map leaves through a module: `Gate`, `Weights`, and the kinds of map
papers      SE, ECA, CBAM, BAM, SSE, SpatialGate, DotProductGate, EncodingGate
mixing      NonLocal, SelfAttention, GlobalContext;   local: LocalAttention
pooling     in place of the global average pooling
hybrid      Hybrid: scores put together in every way
table       `known`: what is known of each block, in one row; `register`: a row for one's own
"""

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
from attention.blocks.hybrid import SPACE, Hybrid, Parallel, Pooled
from attention.blocks.local import LocalAttention
from attention.blocks.mixing import GlobalContext, NonLocal, SelfAttention
from attention.blocks.papers import (
    BAM,
    CBAM,
    ECA,
    SE,
    SSE,
    DotProductGate,
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
from attention.blocks.table import BLOCKS, FAMILIES, POOLINGS, Block, known, register

__all__ = [
    "BAM", "BLOCKS", "BOTH", "CBAM", "CHANNEL", "CODEWORDS", "ECA", "FAMILIES", "POOLINGS",
    "POSITIONS", "SE", "SPACE", "SPATIAL", "SSE", "AdditivePool", "AveragePool", "Block",
    "DotProductGate", "DotProductPool", "EncodingGate", "FeatureGate", "Gate", "GlobalContext",
    "Hybrid", "LocalAttention", "Map", "MultiHeadPool", "NonLocal", "Parallel", "Pooled", "Product",
    "Rescale", "Score", "SelfAttention", "SpatialGate", "Sum", "Weights", "known", "register",
    "wanting",
]  # fmt: skip
