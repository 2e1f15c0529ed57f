"""The blocks: each takes (N, C, H, W) and gives the same shape, for any H and W.

gate          a map leaves through a module: `Gate`, `Weights`, and the kinds of map
se, eca       gates on channels: squeeze and excitation; efficient channel attention
encoding      a gate on channels from a dictionary of codewords
sse           a gate on positions, each from its own channels
cbam, bam     gates on both: one after the other; under one sigmoid (also CBAM's second half alone)
coordinate    gates on the rows and the columns of every channel;   ela: the same by convolutions
simam         a gate on every neuron, from its energy: nothing is learned
dot_product   scaled dot-product and multi-head attention; a gate on positions made of it
non_local, self_attention, local, global_context    what mixes positions, one paper each
pooling       in place of the global average pooling;   additive: what AdditivePool asks with
combine       scores put together under gates;   hybrid: every combination, and the search's winner
table         `known`: what is known of each block, in one row; `register`: a row for one's own
"""

from attention.blocks.additive import Additive
from attention.blocks.bam import BAM, ChannelBranch, SpatialBranch
from attention.blocks.cbam import CBAM, PooledMLP, SpatialConv, SpatialGate
from attention.blocks.combine import Parallel, Pooled, Product, Rescale, Sum
from attention.blocks.coordinate import CoordinateAttention
from attention.blocks.dot_product import (
    DotProductGate,
    DotProductScore,
    MultiHead,
    as_maps,
    attend,
    tokens,
)  # fmt: skip
from attention.blocks.eca import ECA, ChannelConv
from attention.blocks.ela import ELA
from attention.blocks.encoding import ContextEncoding, EncodingGate
from attention.blocks.gate import (
    BOTH,
    CHANNEL,
    CODEWORDS,
    POSITIONS,
    SPATIAL,
    CrossGate,
    Gate,
    Map,
    Score,
    Weights,
    wanting,
)  # fmt: skip
from attention.blocks.global_context import GlobalContext
from attention.blocks.hybrid import SPACE, Hybrid
from attention.blocks.local import LocalAttention
from attention.blocks.non_local import NonLocal
from attention.blocks.pooling import (
    AdditivePool,
    AveragePool,
    DotProductPool,
    FeatureGate,
    MultiHeadPool,
)  # fmt: skip
from attention.blocks.se import SE, ChannelMLP
from attention.blocks.self_attention import SelfAttention
from attention.blocks.simam import SimAM
from attention.blocks.sse import SSE, PositionConv
from attention.blocks.table import BLOCKS, FAMILIES, POOLINGS, Block, known, register

__all__ = [
    "BAM", "BLOCKS", "BOTH", "CBAM", "CHANNEL", "CODEWORDS", "ECA", "ELA", "FAMILIES", "POOLINGS",
    "POSITIONS", "SE", "SPACE", "SPATIAL", "SSE", "Additive", "AdditivePool", "AveragePool",
    "Block", "ChannelBranch", "ChannelConv", "ChannelMLP", "ContextEncoding",
    "CoordinateAttention", "CrossGate", "DotProductGate", "DotProductPool", "DotProductScore",
    "EncodingGate", "FeatureGate", "Gate", "GlobalContext", "Hybrid", "LocalAttention", "Map",
    "MultiHead", "MultiHeadPool", "NonLocal", "Parallel", "Pooled", "PooledMLP", "PositionConv",
    "Product", "Rescale", "Score", "SelfAttention", "SimAM", "SpatialBranch", "SpatialConv",
    "SpatialGate", "Sum", "Weights", "as_maps", "attend", "known", "register", "tokens", "wanting",
]  # fmt: skip
