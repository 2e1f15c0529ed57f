"""Coordinate attention and ELA against timm and the papers' equations, one number at a time."""

import functools

import pytest
import torch
from parity import EXACT, assert_equal_to, assert_same_as_module, leaf, randomise, same, sigmoid
from timm.layers.coord_attn import CoordAttn, EfficientLocalAttn
from torch import nn

from attention.blocks import ELA, CoordinateAttention

shapes = pytest.mark.parametrize("shape", [(3, 16, 5, 7), (1, 16, 6, 3), (2, 16, 1, 4)])


@shapes
@pytest.mark.parametrize("training", [False, True])
def test_coordinate_attention_equals_timm(shape, training):
    reference = randomise(CoordAttn(16, rd_channels=8, bias=True)).double().train(training)
    block = CoordinateAttention(16).double().train(training)
    for mine, other in zip(block.buffers(), reference.buffers(), strict=True):
        mine.copy_(other)
    assert_same_as_module(block, reference, shape, [same] * 8)


def coordinate_equations(block, x):
    """Hou et al. 2021, eq. 4–9, in eval mode: every row and every column for itself."""
    (f1, f1_bias), norm = block.encode[0].parameters(), block.encode[1]

    def encoded(average):  # eq. 6, of one row or column: (N, C) → (N, hidden)
        values = average @ f1.flatten(1).T + f1_bias
        values = (values - norm.running_mean) / (norm.running_var + norm.eps).sqrt()
        values = values * norm.weight + norm.bias
        return values * (values + 3).clamp(0, 6) / 6  # h-swish

    def gate(conv, average):  # eq. 7 or 8
        return sigmoid(encoded(average) @ conv.weight.flatten(1).T + conv.bias)

    height, width = x.shape[2:]
    rows = [gate(block.rows.conv, sum(x[:, :, i].unbind(2)) / width) for i in range(height)]
    columns = [gate(block.columns.conv, sum(x[..., j].unbind(2)) / height) for j in range(width)]
    pixels = [x[:, :, i, j] * rows[i] * columns[j] for i in range(height) for j in range(width)]
    return torch.stack(pixels, 2).unflatten(2, (height, width))


@shapes
def test_coordinate_attention_equals_the_equations(shape):
    block = randomise(CoordinateAttention(16, reduction=2)).double().eval()
    expected = functools.partial(coordinate_equations, block)
    assert_equal_to(expected, block, block, leaf(*shape))


def ela_equations(block, x):
    """σ(GN(F z)) of the rows and of the columns, one channel, one place and one group at a time."""
    kernel, norm = block.score.conv.weight, block.score.norm
    reach = kernel.shape[2] // 2

    def gate(strip):  # (N, C, L)
        length = strip.shape[2]
        values = [
            sum(
                kernel[:, 0, reach + k] * strip[:, :, place + k]
                for k in range(-reach, reach + 1)
                if 0 <= place + k < length
            )
            for place in range(length)
        ]
        groups = torch.stack(values, 2).chunk(norm.num_groups, 1)
        whole = []
        for group in groups:
            mean = group.sum((1, 2), keepdim=True) / group[0].numel()
            var = ((group - mean) ** 2).sum((1, 2), keepdim=True) / group[0].numel()
            whole.append((group - mean) / (var + 1e-5).sqrt())
        return sigmoid(torch.cat(whole, 1) * norm.weight[:, None] + norm.bias[:, None])

    rows, columns = gate(x.sum(3) / x.shape[3]), gate(x.sum(2) / x.shape[2])
    return torch.einsum("nchw,nch,ncw->nchw", x, rows, columns)


@shapes
@pytest.mark.parametrize("options", [{"norm_groups": 4}, {"kernel_size": 3, "norm_groups": 2}])
def test_ela_equals_the_equations(shape, options):
    block = randomise(ELA(16, **options)).double()
    assert_equal_to(functools.partial(ela_equations, block), block, block, leaf(*shape))


def test_ela_equals_timm_with_the_papers_norm_and_one_convolution_for_both():
    norm = functools.partial(nn.GroupNorm, 16)
    reference = EfficientLocalAttn(32, norm_layer=norm, act_layer=nn.Identity).double()
    block = randomise(ELA(32)).double()
    kernel, weight, bias = block.parameters()
    for side in ("h", "w"):
        conv, group_norm = getattr(reference, f"conv_{side}"), getattr(reference, f"norm_{side}")
        conv.weight.data = kernel.data.view(conv.weight.shape)
        group_norm.weight.data, group_norm.bias.data = weight.data, bias.data
    x = torch.randn(2, 32, 9, 8, dtype=torch.float64)
    torch.testing.assert_close(block(x), reference(x), **EXACT)


@pytest.mark.parametrize("channels, groups", [(64, 16), (24, 8), (3, 1), (16, 16)])
def test_elas_groups_divide_the_channels(channels, groups):
    block = ELA(channels).eval()
    assert block.score.norm.num_groups == groups
    assert [tuple(p.shape) for p in block.parameters()] == [
        (channels, 1, 7),
        (channels,),
        (channels,),
    ]
    assert block(torch.randn(1, channels, 1, 1)).isfinite().all()


@pytest.mark.parametrize("channels, hidden", [(16, 8), (320, 10), (351, 10), (2, 8)])
def test_coordinate_attentions_hidden_width_is_the_releases(channels, hidden):
    block = CoordinateAttention(channels)
    assert block.encode[0].weight.shape == (hidden, channels, 1, 1)
    count = 3 * hidden * channels + 3 * hidden + 2 * channels
    assert sum(p.numel() for p in block.parameters()) == count
