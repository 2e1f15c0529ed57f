"""CBAM against timm, the paper's equations, and the authors' release on its list of tensors."""

import pytest
import torch
from parity import (
    EXACT,
    assert_holds_published,
    assert_same_as_module,
    assert_takes_published,
    assert_trains_as,
    average,
    convolve,
    gate_maps,
    linear,
    maximum,
    norm_entries,
    randomise,
    relu,
    same,
    sigmoid,
)  # fmt: skip
from timm.layers.cbam import CbamModule
from torch import nn
from torch.nn import functional as F

from attention.blocks import CBAM


def swapped(tensor):
    """The two input maps of a convolution in the other order."""
    return tensor.flip(1)


@pytest.mark.parametrize("shape", [(3, 16, 5, 7), (2, 16, 1, 1), (1, 16, 6, 3)])
def test_cbam_paper_equals_timm_once_timms_batchnorm_is_the_identity(shape):
    reference = randomise(CbamModule(16, rd_ratio=1 / 4)).double()
    reference.spatial.conv.bn = nn.Identity()
    block = CBAM(16, reduction=4).double()
    assert_same_as_module(block, reference, shape, [linear, linear, same])


@pytest.mark.parametrize("training", [False, True])
@pytest.mark.parametrize("shape", [(3, 16, 5, 7), (1, 16, 6, 3)])
def test_cbam_official_equals_timm_with_biases_and_the_pools_swapped(shape, training):
    reference = randomise(CbamModule(16, rd_ratio=1 / 4, mlp_bias=True)).double()
    block = CBAM(16, reduction=4, variant="official").double()
    bn = reference.spatial.conv.bn
    block.spatial.norm.running_mean.copy_(bn.running_mean)
    block.spatial.norm.running_var.copy_(bn.running_var)
    views = [linear] * 4 + [swapped, same, same]
    assert_same_as_module(block.train(training), reference.train(training), shape, views)


def cbam_equations(x, tensors, training):
    """Woo et al. 2018, eq. 1–3."""
    w1, w2, f = tensors

    def mlp(pooled):
        return relu(pooled @ w1.T) @ w2.T

    channel = sigmoid(mlp(average(x, (2, 3))) + mlp(maximum(x.flatten(2))))
    x = x * channel[:, :, None, None]
    pooled = torch.stack([average(x, 1), maximum(x.movedim(1, -1))], 1)
    return x * sigmoid(convolve(pooled, f))


def published_cbam(c, h):
    """The state dict of the authors' CBAM(c): names and shapes, in its order."""
    return [
        ("ChannelGate.mlp.1.weight", (h, c)),
        ("ChannelGate.mlp.1.bias", (h,)),
        ("ChannelGate.mlp.3.weight", (c, h)),
        ("ChannelGate.mlp.3.bias", (c,)),
        ("SpatialGate.spatial.conv.weight", (1, 2, 7, 7)),
        *norm_entries("SpatialGate.spatial.bn", 1),
    ]


def cbam_release(x, tensors, training):
    w1, b1, w2, b2, conv, gamma, beta, mean, var, _ = tensors
    total = 0
    for pool in (F.avg_pool2d, F.max_pool2d):
        pooled = pool(x, x.shape[2:]).flatten(1)
        total = total + F.linear(F.relu(F.linear(pooled, w1, b1)), w2, b2)
    x = x * torch.sigmoid(total)[:, :, None, None].expand_as(x)
    pooled = torch.cat([x.max(1, keepdim=True)[0], x.mean(1, keepdim=True)], 1)
    logits = F.conv2d(pooled, conv, padding=3)
    logits = F.batch_norm(logits, mean, var, gamma, beta, training, momentum=0.01, eps=1e-5)
    return x * torch.sigmoid(logits)


def test_cbam_with_one_pool_uses_that_pool_in_both_gates():
    block = randomise(CBAM(4, reduction=2, kernel_size=3, pools=("max",))).double()
    w1, w2, f = block.parameters()
    x = torch.randn(2, 4, 5, 3, dtype=torch.float64)
    after = x * sigmoid(relu(maximum(x.flatten(2)) @ w1.T) @ w2.T)[:, :, None, None]
    after = after * sigmoid(convolve(maximum(after.movedim(1, -1))[:, None], f))
    torch.testing.assert_close(block(x), after, **EXACT)


def test_cbam_stacks_the_pooled_maps_in_the_order_asked_for():
    one = randomise(CBAM(4, reduction=2, pools=("avg", "max"))).double()
    other = CBAM(4, reduction=2, pools=("max", "avg")).double()
    other.load_state_dict(one.state_dict())
    x = torch.randn(2, 4, 5, 3, dtype=torch.float64)
    assert not torch.allclose(one(x), other(x))
    other.spatial.conv.weight.data = one.spatial.conv.weight.data.flip(1)
    torch.testing.assert_close(one(x), other(x), **EXACT)


@pytest.mark.parametrize("training", [False, True])
def test_cbam_official_starts_with_a_spatial_gate_of_exactly_one_half(training):
    block = CBAM(32, variant="official").train(training)
    x = torch.randn(2, 32, 6, 5)
    output, (channel, spatial) = gate_maps(block, x)
    assert torch.equal(spatial, torch.full((2, 1, 6, 5), 0.5))
    assert torch.equal(output, x * channel * 0.5)
    assert channel.std() > 0


@pytest.mark.parametrize("channels", [64, 32])
def test_official_cbam_holds_the_published_tensors_in_the_published_order(channels):
    published = published_cbam(channels, channels // 16)
    assert_holds_published(CBAM(channels, variant="official"), published)


def test_published_tensors_loaded_by_order_give_the_published_output():
    assert_takes_published(CBAM(64, variant="official"), published_cbam(64, 4), cbam_release)


@pytest.mark.parametrize("training", [False, True])
@pytest.mark.parametrize("shape", [(3, 8, 5, 7), (2, 8, 1, 1), (1, 8, 6, 3)])
@pytest.mark.parametrize("variant", ["paper", "official"])
def test_output_gradients_and_running_statistics_equal_the_reference(variant, shape, training):
    if training and shape[2:] == (1, 1):
        pytest.skip("nothing to normalise")
    reference = cbam_equations if variant == "paper" else cbam_release
    block = CBAM(8, 2, variant=variant)
    assert_trains_as(block, reference, shape, training, statistics=variant == "official")


@pytest.mark.parametrize("channels, hidden", [(40, 2), (47, 2), (16, 1), (3, 1)])
def test_the_hidden_width_is_a_sixteenth_rounded_down_and_at_least_one(channels, hidden):
    assert CBAM(channels).channel.mlp[0].weight.shape == (hidden, channels)
    assert CBAM(channels).spatial.conv.weight.shape == (1, 2, 7, 7)


@pytest.mark.parametrize("pools", [("avg",), ("max",), ["max", "avg"]])
def test_officials_pools_are_those_over_positions_alone(pools):
    # the authors' pool_types: their spatial gate always sees both poolings over channels
    block = randomise(CBAM(4, 2, 3, pools=pools, variant="official")).double().eval()
    w1, b1, w2, b2, conv, *norm, _ = block.state_dict().values()
    x = torch.randn(2, 4, 5, 3, dtype=torch.float64)
    pooled = {"avg": average(x, (2, 3)), "max": maximum(x.flatten(2))}
    logits = sum(F.linear(relu(F.linear(pooled[name], w1, b1)), w2, b2) for name in pools)
    after = x * sigmoid(logits)[:, :, None, None]
    stacked = torch.stack([maximum(after.movedim(1, -1)), average(after, 1)], 1)
    weight, bias, mean, var = norm
    logits = F.batch_norm(convolve(stacked, conv), mean, var, weight, bias)
    torch.testing.assert_close(block(x), after * sigmoid(logits), **EXACT)
