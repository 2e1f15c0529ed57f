"""The blocks: `BLOCKS` maps a name to a class. Each takes (N, C, H, W) and gives the same shape.

Any H and W, any batch size (BAM and EncodingGate: at least 2 images in training mode, for their
BatchNorms). Gates are put together here; blocks that mix positions come from mixing.py and
local.py.
`at` is the place where the block's paper puts it, see `attention.insert`.
"""

import math

from torch import nn

from attention.blocks.encoding import ContextEncoding
from attention.blocks.gates import (
    ChannelConv,
    ChannelMLP,
    DilatedConvs,
    PositionConv,
    Product,
    Rescale,
    SpatialConv,
    Sum,
)
from attention.checks import at_least_one, one_of


class SE(Rescale):
    """Squeeze-and-excitation: x · σ(W₂ ReLU(W₁ GAP(x))).

    Hu, Shen, Sun, "Squeeze-and-Excitation Networks", CVPR 2018, eq. 2–4. The text leaves the
    biases out; the released models have them, and so does bias=True.

    Parameters: 2C·⌊C/r⌋, and C + ⌊C/r⌋ with biases.
    """

    def __init__(self, channels, reduction=16, bias=True):
        super().__init__(ChannelMLP(channels, reduction, bias))


class ECA(Rescale):
    """Efficient channel attention: x · σ(Conv1d_k(GAP(x))).

    Wang et al., "ECA-Net: Efficient Channel Attention for Deep CNNs", CVPR 2020, eq. 9; without a
    kernel_size, k follows from the channels by eq. 12 (`ECA.rule`).

    Parameters: k.
    """

    def __init__(self, channels, kernel_size=None):
        at_least_one("channels", channels)
        super().__init__(
            ChannelConv(channels, self.rule(channels) if kernel_size is None else kernel_size)
        )

    @staticmethod
    def rule(channels):
        """k = |(log₂ C + 1) / 2| taken to an odd number (eq. 12 with γ = 2, b = 1)."""
        t = int((math.log2(channels) + 1) / 2)
        return t if t % 2 else t + 1


class CBAM(nn.Sequential):
    """Convolutional block attention: a channel gate, then a spatial gate.

    x' = x · σ(MLP(avg x) + MLP(max x)),  x'' = x' · σ(f_k×k([avg x'; max x']))

    Woo et al., "CBAM: Convolutional Block Attention Module", ECCV 2018, eq. 1–3.

    variant="paper": as the equations have it. variant="official": as the authors released it: an
    MLP with biases, the pooled maps in the order (max, avg), and a BatchNorm after the k×k
    convolution whose weight starts at 0. It takes the published weights in their order.
    """

    def __init__(
        self, channels, reduction=16, kernel_size=7, pools=("avg", "max"), variant="paper"
    ):
        official = one_of("variant", variant, ("paper", "official")) == "official"
        super().__init__()
        self.channel = Rescale(ChannelMLP(channels, reduction, official, pools))
        stacked = sorted(pools, reverse=True) if official else pools
        self.spatial = Rescale(SpatialConv(channels, kernel_size, stacked, norm=official))


class BAM(Rescale):
    """Bottleneck attention: x · (1 + σ(Mc + Ms)), both branches under one sigmoid.

    Mc = BN(MLP(avg x)),  Ms = BN(f₁ₓ₁ f₃ₓ₃ f₃ₓ₃ f₁ₓ₁ x), the 3×3 dilated

    Park et al., "BAM: Bottleneck Attention Module", BMVC 2018, eq. 1–4; it stands between stages.

    variant="paper": the sum, as the equations have it. variant="official": as the authors
    released it: the product Mc · Ms, and BatchNorm and ReLU after the hidden layers instead of
    BatchNorm at the end. It takes the published weights in their order.
    """

    def __init__(self, channels, reduction=16, dilation=4, variant="paper"):
        official = one_of("variant", variant, ("paper", "official")) == "official"
        norm = "hidden" if official else "output"
        channel = ChannelMLP(channels, reduction, norm=norm)
        spatial = DilatedConvs(channels, reduction, dilation, norm)
        combine = Product if official else Sum
        super().__init__(combine(channel=channel, spatial=spatial), residual=True)


class SSE(Rescale):
    """Spatial squeeze and excitation: x · σ(w·x_ij), the smallest published spatial gate.

    Roy, Navab, Wachinger, "Concurrent Spatial and Channel 'Squeeze & Excitation' in Fully
    Convolutional Networks", MICCAI 2018, section 2, sSE.

    Parameters: C.

    The spatial gate "even smaller than BAM's" behind the name SResNet50 was never published in a
    form that could be found; `insert(torchvision.models.resnet50(), "sse")` stands in for it.
    """

    def __init__(self, channels):
        super().__init__(PositionConv(channels))


class SpatialGate(Rescale):
    """The second half of CBAM alone: x · σ(f_k×k([avg x; max x])), pooled over channels.

    Woo et al., "CBAM: Convolutional Block Attention Module", ECCV 2018, eq. 3.

    Parameters: 2k².
    """

    def __init__(self, channels, kernel_size=7, pools=("avg", "max")):
        super().__init__(SpatialConv(channels, kernel_size, pools))


class EncodingGate(Rescale):
    """The channels that fit what is in the image, by a dictionary of codewords: x · σ(W e).

    Zhang et al., "Context Encoding for Semantic Segmentation" (EncNet), CVPR 2018, section 3.1; see
    `encoding.ContextEncoding` for e.

    Parameters, with K codewords: C² + C + K·C + 3K.
    """

    def __init__(self, channels, codewords=16):
        super().__init__(ContextEncoding(channels, codewords))
