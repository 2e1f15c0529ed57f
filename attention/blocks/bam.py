"""BAM: channels and positions scored side by side, and one gate on both.

Park, Woo, Lee, Kweon, "BAM: Bottleneck Attention Module", BMVC 2018.

There are two BAMs in the world: the paper adds the two scores, the authors' release multiplies
them. Both are here.
"""

import torch
from torch import nn

from attention.blocks.gate import BOTH, CHANNEL, SPATIAL, Gate, Score, channels_last
from attention.checks import at_least_one, expect_batch, expect_maps, one_of


class ChannelBranch(Score):
    """BN(W₁ ReLU(W₀ AvgPool(F))): one logit a channel, eq. 3.

    (N, C, H, W) → (N, C, 1, 1). The hidden width is C/r, rounded down, and never less than 1.

    norm: where the BatchNorm stands: "output", as in the equation, or "hidden", in front of the
        ReLU, as in the authors' release. In training mode it needs a batch of at least 2 images.
    """

    kind = CHANNEL

    def __init__(self, channels: int, reduction: int = 16, norm: str = "output") -> None:
        super().__init__()
        self.channels = at_least_one("channels", channels)
        hidden = max(1, channels // at_least_one("reduction", reduction))
        before = one_of("norm", norm, ("output", "hidden")) == "hidden"
        self.mlp = nn.Sequential(
            nn.Linear(channels, hidden),
            nn.BatchNorm1d(hidden) if before else nn.Identity(),
            nn.ReLU(),
            nn.Linear(hidden, channels),
            nn.Identity() if before else nn.BatchNorm1d(channels),
        )

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        expect_maps(x, self.channels)
        if self.training:
            expect_batch(x)
        return self.mlp(channels_last(x).flatten(1, 2).mean(1))[:, :, None, None]


class SpatialBranch(Score):
    """BN(f₁ₓ₁ f₃ₓ₃ f₃ₓ₃ f₁ₓ₁ F), the two 3×3 dilated by d: one logit a position, eq. 4.

    (N, C, H, W) → (N, 1, H, W). The hidden width is C/r, rounded down, and never less than 1.

    norm: "output", one BatchNorm at the end, as in the equation (which has no non-linearity between
        the convolutions), or "hidden", BatchNorm and ReLU after every convolution but the last, as
        in the authors' release.
    """

    kind = SPATIAL

    def __init__(
        self, channels: int, reduction: int = 16, dilation: int = 4, norm: str = "output"
    ) -> None:
        super().__init__()
        self.channels = at_least_one("channels", channels)
        hidden = max(1, channels // at_least_one("reduction", reduction))
        dilation = at_least_one("dilation", dilation)
        dilated = dict(padding=dilation, dilation=dilation)
        convs = [
            nn.Conv2d(channels, hidden, 1),
            nn.Conv2d(hidden, hidden, 3, **dilated),
            nn.Conv2d(hidden, hidden, 3, **dilated),
        ]
        if one_of("norm", norm, ("output", "hidden")) == "hidden":
            layers = [layer for f in convs for layer in (f, nn.BatchNorm2d(hidden), nn.ReLU())]
            self.convs = nn.Sequential(*layers, nn.Conv2d(hidden, 1, 1))
        else:
            self.convs = nn.Sequential(*convs, nn.Conv2d(hidden, 1, 1), nn.BatchNorm2d(1))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        expect_maps(x, self.channels)
        return self.convs(x)


class BAM(nn.Module):
    """Bottleneck attention: F + F · M(F) with M = σ(Mc + Ms), eq. 1 and 2.

    (N, C, H, W) → the same shape. It stands between the stages of a network. In training mode it
    needs a batch of at least 2 images.

    variant: "paper", as the equations have it, or "official", as the authors released it: the
        product Mc · Ms in place of the sum, and BatchNorm and ReLU after the hidden layers in place
        of BatchNorm at the end. It takes the published weights in their order.
    """

    def __init__(
        self, channels: int, reduction: int = 16, dilation: int = 4, variant: str = "paper"
    ) -> None:
        super().__init__()
        self.variant = one_of("variant", variant, ("paper", "official"))
        norm = "output" if variant == "paper" else "hidden"
        self.channel = ChannelBranch(channels, reduction, norm)
        self.spatial = SpatialBranch(channels, reduction, dilation, norm)
        self.gate = Gate(BOTH)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        channel, spatial = self.channel(x), self.spatial(x)
        logits = channel + spatial if self.variant == "paper" else channel * spatial
        return x + x * self.gate(logits)
