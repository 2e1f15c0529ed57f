"""The spatial gates sSE and CBAM's second half against loops over positions and timm."""

import pytest
import torch
from parity import assert_equal_to, leaf, randomise
from timm.layers.cbam import SpatialAttn
from torch import nn

from attention.blocks import SPATIAL, SSE, SpatialGate
from attention.explain import capture

map_sizes = pytest.mark.parametrize("shape", [(2, 6, 3, 4), (2, 6, 1, 1), (3, 6, 4, 2)])


@map_sizes
@pytest.mark.parametrize("block", [SSE(6), SpatialGate(6, 3), SpatialGate(6, 7)])
def test_spatial_gates_give_one_weight_a_position(block, shape):
    x = torch.randn(shape)
    with capture(block) as maps:
        output = block(x)
    map = maps["gate"].maps[0]
    assert maps["gate"].kind == SPATIAL and map.shape == (shape[0], 1, *shape[2:])
    torch.testing.assert_close(output, x * map)


@map_sizes
def test_sse_equals_a_loop_over_positions(shape):
    block = randomise(SSE(6)).double()
    (w,) = block.parameters()

    def by_loop(x):
        gated = []
        for image in x:
            for p in image.flatten(1).T:
                gated.append(p / (1 + torch.exp(-(w[0, :, 0, 0] * p).sum())))
        return torch.stack(gated).unflatten(0, (len(x), -1)).transpose(1, 2).reshape(shape)

    assert_equal_to(by_loop, block, block, leaf(*shape))


@map_sizes
@pytest.mark.parametrize("kernel_size", [3, 7])
def test_the_spatial_gate_equals_timms_once_timms_batchnorm_is_the_identity(shape, kernel_size):
    block = randomise(SpatialGate(6, kernel_size)).double()
    reference = SpatialAttn(kernel_size).double()
    reference.conv.bn = nn.Identity()
    (w,) = block.parameters()

    def timms(x):
        return torch.func.functional_call(reference, {"conv.conv.weight": w}, (x,))

    assert_equal_to(timms, block, block, leaf(*shape))


@pytest.mark.parametrize(
    "argument, value", [*(("kernel_size", bad) for bad in (4, 0, 3.0)), ("pools", ("min",))]
)
def test_a_bad_argument_is_named_with_its_value(argument, value):
    with pytest.raises(ValueError, match=argument) as error:
        SpatialGate(8, **{argument: value})
    assert repr(value) in str(error.value)


@pytest.mark.parametrize("make, count", [(SSE, 64), (SpatialGate, 98)])
def test_parameter_count_is_the_documented_one_for_64_channels(make, count):
    # C; 2k²
    assert sum(p.numel() for p in make(64).parameters()) == count
