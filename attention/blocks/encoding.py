"""Context encoding: what the positions hold, told against a small dictionary of codewords.

Zhang, Dana, Shi, Zhang, Wang, Tyagi, Agrawal, "Context Encoding for Semantic Segmentation"
(EncNet), CVPR 2018.
"""

import torch
from torch import nn

from attention.blocks.gate import CHANNEL, CODEWORDS, Gate, Map, Score, channels_last
from attention.checks import at_least_one, expect_batch, expect_maps


class Assignment(Map):
    """The share of each codeword in each position: softmax over codewords; its output IS the map.

    logits (N, K, H, W) → shares of the same shape.
    """

    kind = CODEWORDS

    def forward(self, logits: torch.Tensor) -> torch.Tensor:
        return logits.softmax(1)


class ContextEncoding(Score):
    """One logit a channel, from the residuals between positions and K learned codewords.

    r_ik = x_i − d_k,  a_ik = softmax_k(−s_k ‖r_ik‖²),  e_k = Σ_i a_ik r_ik                eq. 1, 2
    logits = W Σ_k ReLU(BN(e_k))                                                        section 3.1

    (N, C, H, W) → (N, C, 1, 1). The sum over positions is divided by their number here, so that the
    logits do not grow with the image. Training needs at least 2 images a batch, for the BatchNorm.
    """

    kind = CHANNEL

    def __init__(self, channels: int, codewords: int = 16) -> None:
        super().__init__()
        self.channels = at_least_one("channels", channels)
        codewords = at_least_one("codewords", codewords)
        # as the authors initialise: d uniform within ±1/√(K·C), s uniform in (−1, 0) for −s
        bound = (codewords * channels) ** -0.5
        self.codewords = nn.Parameter(torch.empty(codewords, channels).uniform_(-bound, bound))
        self.smoothing = nn.Parameter(torch.rand(codewords))
        self.assignment = Assignment()
        self.norm = nn.BatchNorm1d(codewords)
        self.linear = nn.Linear(channels, channels)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        expect_maps(x, self.channels)
        if self.training:
            expect_batch(x)
        # in the weights' precision: in bfloat16 the squares would lose the differences
        with without_autocast(x):
            positions = channels_last(x).flatten(1, 2).to(self.codewords.dtype)  # (N, H·W, C)
            logits = -self.smoothing * squared_distances(positions, self.codewords)
            shares = self.assignment(logits.mT.unflatten(2, x.shape[2:])).flatten(2)  # (N, K, H·W)
            # Σ_i a_ik (x_i − d_k): the residuals of all pairs, (i × k × C), are never made
            residuals = shares @ positions - shares.sum(2, keepdim=True) * self.codewords
            encoded = self.norm(residuals / positions.shape[1]).relu().sum(1)
            return self.linear(encoded)[:, :, None, None]


def without_autocast(x: torch.Tensor) -> torch.autocast:
    """No autocast where x is.

    Raises TraceError while torch.fx traces: its graphs hold operations, no such contexts.
    """
    if isinstance(x, torch.fx.Proxy):
        raise torch.fx.proxy.TraceError(
            "torch.fx cannot trace a block that switches autocast off: keep it whole, as a leaf "
            "(create_feature_extractor(…, tracer_kwargs={'leaf_modules': [ContextEncoding]})), or "
            "use torch.export"
        )
    # the meta device has no autocast to switch off
    return torch.autocast("cpu" if x.is_meta else x.device.type, enabled=False)


def squared_distances(positions: torch.Tensor, codewords: torch.Tensor) -> torch.Tensor:
    """‖x − d‖² = ‖x‖² − 2 x·d + ‖d‖²: (N, H·W, C), (K, C) → (N, H·W, K)"""
    return (
        positions.square().sum(-1, keepdim=True)
        - 2 * positions @ codewords.T
        + codewords.square().sum(-1)
    )


class EncodingGate(nn.Module):
    """The channels that fit what is in the image, by a dictionary of codewords: x · σ(W e).

    (N, C, H, W) → the same shape; e = Σ_k ReLU(BN(e_k)), see `ContextEncoding`. In training mode it
    needs a batch of at least 2 images.

    Parameters, with K codewords: C² + C + K·C + 3K.
    """

    def __init__(self, channels: int, codewords: int = 16) -> None:
        super().__init__()
        self.score = ContextEncoding(channels, codewords)
        self.gate = Gate(CHANNEL)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x * self.gate(self.score(x))
