"""Context encoding: what the positions hold, told against a small dictionary of codewords."""

import torch
from torch import nn

from attention.blocks.dot_product import tokens
from attention.blocks.gate import CHANNEL, CODEWORDS, Map
from attention.checks import at_least_one, expect_batch, expect_maps


class Assignment(Map):
    """The share of each codeword in each position: softmax over codewords; its output IS the map.

    logits (N, K, H, W) → shares of the same shape.
    """

    kind = CODEWORDS

    def forward(self, logits):
        return logits.softmax(1)


class ContextEncoding(nn.Module):
    """One logit a channel, from the residuals between positions and K learned codewords.

    r_ik = x_i − d_k,  a_ik = softmax_k(−s_k ‖r_ik‖²),  e_k = Σ_i a_ik r_ik,
    logits = W Σ_k ReLU(BN(e_k))                       (N, C, H, W) → (N, C, 1, 1)

    Zhang et al., "Context Encoding for Semantic Segmentation", CVPR 2018, eq. 1 and 2, and section
    3.1 for the logits. The sum over positions is divided by their number here, so that the logits
    do not grow with the image.

    Training needs at least 2 images a batch, for the BatchNorm.
    """

    kind = CHANNEL

    def __init__(self, channels, codewords=16):
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

    def forward(self, x):
        expect_maps(x, self.channels)
        if self.training:
            expect_batch(x)
        # in the weights' precision: in bfloat16 the squares would lose the differences
        with torch.autocast(x.device.type, enabled=False):
            encoded = self.encode(tokens(x).to(self.codewords.dtype), x.shape[2:])
            return self.linear(encoded)[:, :, None, None]

    def encode(self, positions, size):
        """(N, H·W, C) → (N, C): Σ_k ReLU(BN(e_k))"""
        # ‖x − d‖² = ‖x‖² − 2 x·d + ‖d‖²: the residuals of all pairs, (i × k × C), are never made
        squared = (
            positions.square().sum(-1, keepdim=True)
            - 2 * positions @ self.codewords.T
            + self.codewords.square().sum(-1)
        )
        logits = -self.smoothing * squared
        shares = self.assignment(logits.mT.unflatten(2, size)).flatten(2)  # (N, K, H·W)
        encoded = shares @ positions - shares.sum(2, keepdim=True) * self.codewords
        return self.norm(encoded / positions.shape[1]).relu().sum(1)
