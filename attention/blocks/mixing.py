"""Blocks that mix positions: every position of a feature map takes something from others.

A gate multiplies what is there; these bring something from elsewhere.

    SelfAttention     all positions, several heads, with relative position (BoTNet)
    NonLocal          all positions, four ways to compare two
    GlobalContext     one weighted sum of all positions, the same for each of them

`LocalAttention`, to the window around each position, has its own file, local.py.
"""

import torch
from torch import nn
from torch.nn import functional as F

from attention.blocks.gate import Weights
from attention.blocks.positions import MultiHead, as_maps, attend, tokens
from attention.checks import at_least_one, expect_maps, one_of


class SelfAttention(MultiHead):
    """Multi-head self-attention over a feature map, with relative position: every pixel to every.

    logits_ij = (q_i·k_j + q_i·r_row(y_j − y_i) + q_i·r_column(x_j − x_i)) / √d

    Srinivas et al., "Bottleneck Transformers for Visual Recognition" (BoTNet), CVPR 2021, fig. 4,
    with W_O (Vaswani et al. 2017), which BoTNet leaves to the next convolution.

    (N, C, H, W) → the same shape. Offsets beyond `reach` share the last embedding (Shaw et al.
    2018, section 3.2), so that any H and W will do.

    Parameters: 4C² + 4C + 2(2·reach + 1)·C/heads.
    """

    at = "residual"

    def __init__(self, channels, heads=4, reach=16):
        super().__init__(at_least_one("channels", channels), heads)
        self.channels, self.reach = channels, at_least_one("reach", reach)
        width = channels // heads
        self.rows = nn.Parameter(width**-0.5 * torch.randn(2 * reach + 1, width))
        self.columns = nn.Parameter(width**-0.5 * torch.randn(2 * reach + 1, width))

    def offsets(self, table, length):
        """(length, length, d): the embedding of the way from each place to each other."""
        places = torch.arange(length, device=table.device)
        ways = (places - places[:, None]).clamp(-self.reach, self.reach)
        return table[ways + self.reach]

    def forward(self, x):
        expect_maps(x, self.channels)
        size = height, width = x.shape[2:]
        query, key, value = self.project(tokens(x), tokens(x))
        # A position enters through its row and its column, so q·r has H + W values a query. Beside
        # q, with k continued by ones at the key's own row and column, they become part of the dot
        # product, and the fused kernel does the rest: no (positions × positions) matrix of q·r.
        grid = query.unflatten(2, size)
        rows = torch.einsum("nhyxd,yzd->nhyxz", grid, self.offsets(self.rows, height))
        columns = torch.einsum("nhyxd,xzd->nhyxz", grid, self.offsets(self.columns, width))
        query = torch.cat([grid, rows, columns], -1).flatten(2, 3)
        row, column = (torch.eye(side).to(key) for side in size)
        own = torch.cat([row.repeat_interleave(width, 0), column.repeat(height, 1)], 1)
        key = torch.cat([key, own.expand(*key.shape[:2], -1, -1)], -1)
        return as_maps(self.merge(attend(query, key, value, self.weights, size, self.scale)), size)


class NonLocal(nn.Module):
    """Non-local block: x_i + W_z Σ_j f(x_i, x_j) g(x_j) / normaliser.

    mode                f(x_i, x_j)                     divided by
    "embedded"          exp(θ(x_i)·φ(x_j))              Σ_j f: a softmax
    "gaussian"          exp(x_i·x_j)                    Σ_j f: a softmax
    "dot"               θ(x_i)·φ(x_j)                   the number of positions
    "concatenation"     ReLU(w·[θ(x_i); φ(x_j)])        the number of positions

    Wang et al., "Non-local Neural Networks", CVPR 2018, eq. 1–6: θ, φ, g of half the channels, no
    1/√d, W_z followed by a BatchNorm whose weight starts at 0, so that the block starts as the
    identity (section 4.1). (The authors' code scales the logits by 1/√(C/2); the paper does not.)

    (N, C, H, W) → the same shape. After a stage, as the paper has it after a residual block.

    Parameters, embedded, with h = C/2: 4·h·C + 3h + 3C.
    """

    at = "stage"
    between_stages = True

    def __init__(self, channels, mode="embedded"):
        super().__init__()
        modes = {
            "embedded": self.embedded, "gaussian": self.gaussian, "dot": self.dot,
            "concatenation": self.concatenation,
        }  # fmt: skip
        self.mode = one_of("mode", mode, modes)
        self.channels = at_least_one("channels", channels)
        hidden = max(1, channels // 2)
        if mode != "gaussian":
            self.theta, self.phi = nn.Linear(channels, hidden), nn.Linear(channels, hidden)
        if mode == "concatenation":
            self.first = nn.Linear(hidden, 1, bias=False)  # w, its part for θ
            self.second = nn.Linear(hidden, 1, bias=False)  # and for φ
        self.g = nn.Linear(channels, hidden)
        self.out = nn.Conv2d(hidden, channels, 1)
        self.norm = nn.BatchNorm2d(channels)
        nn.init.zeros_(self.norm.weight)
        softmax = mode in ("embedded", "gaussian")
        self.weights = Weights("softmax" if softmax else "count")

    def forward(self, x):
        expect_maps(x, self.channels)
        mixed = getattr(self, self.mode)(tokens(x), x.shape[2:])
        return x + self.norm(self.out(as_maps(mixed, x.shape[2:])))

    def embedded(self, x, size):
        pairs = (t[:, None] for t in (self.theta(x), self.phi(x), self.g(x)))
        return attend(*pairs, self.weights, size, scale=1)[:, 0]

    def gaussian(self, x, size):
        x = x.contiguous()  # the fused kernel wants the numbers of a position side by side
        pairs = (t[:, None] for t in (x, x, self.g(x)))
        return attend(*pairs, self.weights, size, scale=1)[:, 0]

    def dot(self, x, size):
        theta, phi, g = self.theta(x), self.phi(x), self.g(x)
        if self.weights.wanted:
            return self.weights((theta @ phi.mT)[:, None], size)[:, 0] @ g
        # (θ φᵀ) g = θ (φᵀ g): without a softmax between them the small product can come first
        return theta @ (phi.mT @ g / x.shape[1])

    def concatenation(self, x, size):
        # w·[θ_i; φ_j] is a sum of one number for i and one for j
        first, second = self.first(self.theta(x)), self.second(self.phi(x))  # (N, H·W, 1)
        if self.weights.wanted:
            return self.weights(F.relu(first + second.mT)[:, None], size)[:, 0] @ self.g(x)
        terms = (t.to(self.out.weight.dtype) for t in (first, second, self.g(x)))
        return relu_sum(*terms) / x.shape[1]  # running sums want more than bfloat16


def relu_sum(first, second, values):
    """Σ_j ReLU(first_i + second_j) values_j, without a (Q × K) matrix.

    first (N, Q, 1), second (N, K, 1), values (N, K, V) → (N, Q, V)

    With the keys in the order of `second`, those above the ReLU's bend are the last ones for each
    query, and Σ (first_i + second_j) values_j over them is first_i·A + B, with A and B from running
    sums over the keys: memory and time of K log K.
    """
    second, order = second.sort(1)
    values = values.gather(1, order.expand_as(values))

    def sum_from(terms):  # (N, K, V) → (N, K + 1, V): the sum of all terms from each key on
        return F.pad(terms.flip(1).cumsum(1).flip(1), (0, 0, 0, 1))

    # right: a sum of exactly 0 is below the bend, and gets no gradient, as in torch's ReLU
    bend = -first[..., 0].contiguous()
    start = torch.searchsorted(second[..., 0].contiguous(), bend, right=True)
    start = start[..., None].expand(-1, -1, values.shape[2])
    plain, weighted = sum_from(values).gather(1, start), sum_from(second * values).gather(1, start)
    return first * plain + weighted


class GlobalContext(nn.Module):
    """Global context: x + W₂ ReLU(LayerNorm(W₁ Σ_j softmax_j(w·x_j) x_j)).

    Cao et al., "GCNet: Non-local Networks Meet Squeeze-Excitation Networks and Beyond", ICCV
    Workshops 2019, eq. 4: the maps of a trained non-local block are nearly the same for all
    queries, so there is one for all of them. W₂ starts at 0, as in the authors' release: the block
    starts as the identity. (timm's block of that name multiplies by a sigmoid instead.)

    (N, C, H, W) → the same shape.

    Parameters, with h = C/r, and never less than 4: 2·h·C + 2C + 3h + 1.
    """

    at = "residual"

    def __init__(self, channels, reduction=16):
        super().__init__()
        self.channels = at_least_one("channels", channels)
        # fewer than four: a LayerNorm of one number is a constant, of two a sign
        hidden = max(4, channels // at_least_one("reduction", reduction))
        self.score = nn.Linear(channels, 1)
        self.weights = Weights()
        self.transform = nn.Sequential(
            nn.Linear(channels, hidden),
            nn.LayerNorm(hidden),
            nn.ReLU(),
            nn.Linear(hidden, channels),
        )
        nn.init.zeros_(self.transform[-1].weight)
        nn.init.zeros_(self.transform[-1].bias)

    def forward(self, x):
        expect_maps(x, self.channels)
        positions = tokens(x)
        weights = self.weights(self.score(positions).mT[:, None], x.shape[2:])  # (N, 1, 1, H·W)
        context = self.transform(weights[:, 0] @ positions)  # (N, 1, C)
        return x + context.permute(0, 2, 1)[..., None]
