"""BAM against the paper's equations, and the authors' release on its list of tensors."""

import pytest
import torch
from parity import (
    EXACT,
    assert_holds_published,
    assert_takes_published,
    assert_trains_as,
    average,
    convolve,
    norm_entries,
    normalise,
    randomise,
    relu,
    sigmoid,
)  # fmt: skip
from torch import nn
from torch.nn import functional as F

from attention.blocks import BAM


def bam_equations(x, tensors, training, dilation=4):
    """Park et al. 2018, eq. 1–4."""
    w0, b0, w1, b1, *norm_c = tensors[:8]
    f0, a0, f1, a1, f2, a2, f3, a3, *norm_s = tensors[9:21]
    channel = relu(average(x, (2, 3)) @ w0.T + b0) @ w1.T + b1
    channel = normalise(channel, *norm_c, training)
    spatial = convolve(x, f0, a0)
    spatial = convolve(spatial, f1, a1, dilation)
    spatial = convolve(spatial, f2, a2, dilation)
    spatial = normalise(convolve(spatial, f3, a3), *norm_s, training)
    return x + x * sigmoid(channel[:, :, None, None] + spatial)


def published_bam(c, h):
    """The state dict of the authors' BAM(c): names and shapes, in its order."""
    channel, spatial = "channel_att.gate_c.gate_c", "spatial_att.gate_s.gate_s"
    return [
        (f"{channel}_fc_0.weight", (h, c)),
        (f"{channel}_fc_0.bias", (h,)),
        *norm_entries(f"{channel}_bn_1", h),
        (f"{channel}_fc_final.weight", (c, h)),
        (f"{channel}_fc_final.bias", (c,)),
        (f"{spatial}_conv_reduce0.weight", (h, c, 1, 1)),
        (f"{spatial}_conv_reduce0.bias", (h,)),
        *norm_entries(f"{spatial}_bn_reduce0", h),
        (f"{spatial}_conv_di_0.weight", (h, h, 3, 3)),
        (f"{spatial}_conv_di_0.bias", (h,)),
        *norm_entries(f"{spatial}_bn_di_0", h),
        (f"{spatial}_conv_di_1.weight", (h, h, 3, 3)),
        (f"{spatial}_conv_di_1.bias", (h,)),
        *norm_entries(f"{spatial}_bn_di_1", h),
        (f"{spatial}_conv_final.weight", (1, h, 1, 1)),
        (f"{spatial}_conv_final.bias", (1,)),
    ]


def bam_release(x, tensors, training):
    def norm_relu(values, weight, bias, mean, var, _):
        return F.relu(F.batch_norm(values, mean, var, weight, bias, training, 0.1, 1e-5))

    t = tensors
    channel = norm_relu(F.linear(F.avg_pool2d(x, x.shape[2:]).flatten(1), t[0], t[1]), *t[2:7])
    channel = F.linear(channel, t[7], t[8])
    spatial = norm_relu(F.conv2d(x, t[9], t[10]), *t[11:16])
    spatial = norm_relu(F.conv2d(spatial, t[16], t[17], padding=4, dilation=4), *t[18:23])
    spatial = norm_relu(F.conv2d(spatial, t[23], t[24], padding=4, dilation=4), *t[25:30])
    spatial = F.conv2d(spatial, t[30], t[31])
    logits = channel[:, :, None, None].expand_as(x) * spatial.expand_as(x)
    return (1 + torch.sigmoid(logits)) * x


def test_bams_dilation_is_that_of_both_3x3_convolutions():
    block = randomise(BAM(8, reduction=2, dilation=2)).double().eval()
    x = torch.randn(2, 8, 7, 6, dtype=torch.float64)
    expected = bam_equations(x, list(block.state_dict().values()), False, dilation=2)
    torch.testing.assert_close(block(x), expected, **EXACT)


@pytest.mark.parametrize("variant", ["paper", "official"])
def test_bam_in_training_mode_refuses_a_single_image_and_says_why(variant):
    with pytest.raises(ValueError, match="batch of at least 2 images, got 1"):
        BAM(8, 2, variant=variant)(torch.randn(1, 8, 5, 7))


@pytest.mark.parametrize("channels", [64, 32])
def test_official_bam_holds_the_published_tensors_in_the_published_order(channels):
    assert_holds_published(
        BAM(channels, variant="official"), published_bam(channels, channels // 16)
    )


def test_published_tensors_loaded_by_order_give_the_published_output():
    assert_takes_published(BAM(64, variant="official"), published_bam(64, 4), bam_release)


@pytest.mark.parametrize(
    "shape, training",
    [((3, 8, 5, 7), False), ((3, 8, 5, 7), True), ((2, 8, 1, 1), False), ((1, 8, 6, 3), False)],
)
@pytest.mark.parametrize("variant", ["paper", "official"])
def test_output_gradients_and_running_statistics_equal_the_reference(variant, shape, training):
    reference = bam_equations if variant == "paper" else bam_release
    block = BAM(8, 2, variant=variant)
    assert_trains_as(block, reference, shape, training, statistics=variant == "official")


@pytest.mark.parametrize("variant", ["paper", "official"])
@pytest.mark.parametrize("channels, hidden", [(40, 2), (47, 2), (16, 1), (3, 1)])
def test_the_papers_reduction_and_dilation_are_the_defaults(variant, channels, hidden):
    block = BAM(channels, variant=variant)
    assert block.channel.mlp[0].weight.shape == (hidden, channels)
    convs = [module for module in block.spatial.modules() if isinstance(module, nn.Conv2d)]
    assert [conv.weight.shape[:2] for conv in convs] == [
        (hidden, channels), (hidden, hidden), (hidden, hidden), (1, hidden),
    ]  # fmt: skip
    assert [conv.dilation for conv in convs] == [(1, 1), (4, 4), (4, 4), (1, 1)]
