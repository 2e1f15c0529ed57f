"""Attention pooling: from a feature map to one vector, in place of the global average or maximum.

Each takes (N, C, H, W) and gives (N, C, 1, 1), for any H and W; `attention.insert(network,
"additive_pool")` puts it where the network's own global pooling stood.
"""

import torch
from torch import nn

from attention.blocks.additive import Additive
from attention.blocks.dot_product import MultiHead, tokens
from attention.blocks.gate import CHANNEL, Gate
from attention.blocks.se import ChannelMLP
from attention.checks import at_least_one, expect_maps


class AveragePool(nn.Module):
    """The mean over positions, without attention: what attention pooling has to beat."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.channels = at_least_one("channels", channels)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        expect_maps(x, self.channels)
        return tokens(x).mean(1)[:, :, None, None]


class QueryPool(nn.Module):
    """One learned query asks all positions; what comes back is the pooled vector.

    attend: a module (queries (N, 1, C), keys (N, H·W, C), (H, W)) → (N, 1, C).
    """

    def __init__(self, channels: int, attend: nn.Module) -> None:
        super().__init__()
        self.channels = channels
        self.query = nn.Parameter(torch.randn(1, 1, channels))
        self.attend = attend

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        expect_maps(x, self.channels)
        queries = self.query.expand(x.shape[0], -1, -1)
        return self.attend(queries, tokens(x), x.shape[2:]).mT[..., None]


class AdditivePool(QueryPool):
    """Σ_j softmax_j(vᵀ tanh(W q + U x_j)) x_j, with a learned query q.

    Additive attention (Bahdanau et al. 2015, see additive.py) as a pooling. At first its weights
    are nearly equal: it starts close to the average.
    """

    def __init__(self, channels: int, hidden: int | None = None) -> None:
        super().__init__(channels, Additive(at_least_one("channels", channels), hidden))


class DotProductPool(QueryPool):
    """Σ_j softmax_j(q·W_K x_j / √C) W_V x_j, with a learned query q: one head, then W_O.

    Scaled dot-product attention (Vaswani et al. 2017, eq. 1, see dot_product.py) as a pooling.
    """

    def __init__(self, channels: int) -> None:
        super().__init__(channels, MultiHead(at_least_one("channels", channels), heads=1))


class MultiHeadPool(QueryPool):
    """Multi-head attention from one learned query: every head pools its own positions.

    Vaswani et al. 2017, section 3.2.2; as DETR's object queries ask (Carion et al., ECCV 2020), and
    as CLIP pools its ResNet (Radford et al., ICML 2021, section 2.4; there the average asks).
    """

    def __init__(self, channels: int, heads: int = 4) -> None:
        super().__init__(channels, MultiHead(at_least_one("channels", channels), heads))


class FeatureGate(nn.Module):
    """The average over positions, then a gate on the features that enter the classifier.

    v = GAP(x),  v · σ(W₂ ReLU(W₁ v)): squeeze and excitation (Hu et al. 2018, eq. 3 and 4) of a
    vector.
    """

    def __init__(self, channels: int, reduction: int = 16) -> None:
        super().__init__()
        self.pool = AveragePool(channels)
        self.score = ChannelMLP(channels, reduction)
        self.gate = Gate(CHANNEL)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        v = self.pool(x)
        return v * self.gate(self.score(v))
