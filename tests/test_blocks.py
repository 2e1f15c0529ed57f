"""What every gate keeps to: sizes, batches, precision, layout, compilers, bad arguments.

The mathematics of each is tested in the file of its paper.
"""

import copy

import pytest
import torch
from parity import gate_maps, gradients, randomise
from torch import nn

from attention.blocks import (
    BAM,
    BOTH,
    CBAM,
    CHANNEL,
    ECA,
    ELA,
    SE,
    SPATIAL,
    ChannelBranch,
    ChannelConv,
    CoordinateAttention,
    Gate,
    PooledMLP,
    SimAM,
    SpatialBranch,
    SpatialConv,
)  # fmt: skip

BLOCK = {
    "se": lambda channels, reduction: SE(channels, reduction),
    "se without bias": lambda channels, reduction: SE(channels, reduction, bias=False),
    "eca": lambda channels, reduction: ECA(channels),
    "cbam": lambda channels, reduction: CBAM(channels, reduction),
    "cbam official": lambda channels, reduction: CBAM(channels, reduction, variant="official"),
    "bam": lambda channels, reduction: BAM(channels, reduction),
    "bam official": lambda channels, reduction: BAM(channels, reduction, variant="official"),
    "coordinate": lambda channels, reduction: CoordinateAttention(channels, reduction),
    "ela": lambda channels, reduction: ELA(channels, norm_groups=2),
    "simam": lambda channels, reduction: SimAM(channels),
}


every_gate = pytest.mark.parametrize("name", BLOCK)


LEARNED = [name for name in BLOCK if name != "simam"]  # whose gate no parameter moves
REDUCED = [name for name in BLOCK if name.startswith(("se", "cbam", "bam"))]


@pytest.mark.parametrize(
    "name, count",
    [
        ("se", 580),
        ("se without bias", 512),
        ("eca", 3),
        ("cbam", 610),
        ("cbam official", 680),
        ("bam official", 1173),
        ("coordinate", 1688),
        ("simam", 0),
        ("ela", 576),
    ],
)
def test_parameter_count_is_the_published_one_for_64_channels(name, count):
    assert sum(p.numel() for p in BLOCK[name](64, 16).parameters()) == count


@pytest.mark.parametrize("name", REDUCED)
def test_fewer_channels_than_the_reduction_leave_a_hidden_width_of_one_that_learns(name):
    block = BLOCK[name](3, 16).eval()
    for key, parameter in block.named_parameters():
        if "norm" not in key:
            nn.init.constant_(parameter, 0.3)
    first, second = (m for m in block.modules() if isinstance(m, nn.Linear))
    assert first.weight.shape == (1, 3) and second.weight.shape == (3, 1)
    x = torch.rand(2, 3, 5, 4) * torch.tensor([1.0, 3.0]).view(2, 1, 1, 1)
    output, maps = gate_maps(block, x)
    assert (maps[0][0] - maps[0][1]).abs().min() > 1e-3
    for grad in gradients(output, [first.weight, second.weight]):
        assert grad.abs().min() > 0


@pytest.mark.parametrize("name", ["se", "se without bias", "eca", "cbam"])
def test_without_batchnorm_a_single_image_in_training_mode_gives_the_eval_output(name):
    block = randomise(BLOCK[name](8, 2))
    x = torch.randn(1, 8, 5, 7)
    trained = block.train()(x)
    assert torch.equal(trained, block.eval()(x))


@every_gate
def test_bfloat16_autocast_is_close_to_float32_and_keeps_the_inputs_dtype(name):
    block = BLOCK[name](16, 4)
    with torch.no_grad():
        for key, parameter in block.named_parameters():
            if "norm" in key:
                parameter.uniform_(0.5, 1)
    x = torch.randn(4, 16, 6, 5)
    expected = copy.deepcopy(block)(x)
    with torch.autocast("cpu", torch.bfloat16):
        output, maps = gate_maps(block, x)
        half = block(x.bfloat16())
    assert output.dtype == torch.float32 and half.dtype == torch.bfloat16
    if name not in ("simam", "ela"):  # which work in the input's precision, or end in a norm
        assert any(map.dtype == torch.bfloat16 for map in maps), "autocast had nothing to do"
    # bfloat16 keeps 8 bits: 0.4 % an operation, a few operations deep; the gate has slope ≤ 1/4.
    torch.testing.assert_close(output, expected, rtol=0.02, atol=0.02)
    torch.testing.assert_close(half.float(), expected, rtol=0.04, atol=0.04)


@pytest.mark.parametrize(
    "make, argument, value",
    [
        (SpatialBranch, "dilation", 0),
        *(
            (make, "norm", bad)
            for make in (ChannelBranch, SpatialBranch)
            for bad in ("hiden", None)
        ),
        *((make, "pools", ("lp",)) for make in (SpatialConv, PooledMLP)),
        (ChannelConv, "kernel_size", 2),
    ],
)
def test_a_bad_argument_of_a_score_is_named_with_its_value(make, argument, value):
    with pytest.raises(ValueError, match=argument) as error:
        make(8, **{argument: value})
    assert repr(value) in str(error.value)


def test_gates_of_the_blocks_know_their_kind():
    kinds = {
        name: [m.kind for m in make(8, 2).modules() if isinstance(m, Gate)]
        for name, make in BLOCK.items()
    }
    assert kinds["se"] == kinds["se without bias"] == kinds["eca"] == [CHANNEL]
    assert kinds["cbam"] == kinds["cbam official"] == [CHANNEL, SPATIAL]
    for name in ("bam", "bam official", "coordinate", "simam", "ela"):
        assert kinds[name] == [BOTH]


@pytest.mark.parametrize("name", LEARNED)
def test_saturated_gates_have_finite_outputs_and_gradients(name):
    block = randomise(BLOCK[name](8, 2)).eval()
    with torch.no_grad():
        for parameter in block.parameters():
            parameter *= 200
    x = (20 * torch.randn(2, 8, 5, 4)).requires_grad_()
    output, maps = gate_maps(block, x)
    extreme = torch.cat([map.flatten() for map in maps])
    assert ((extreme < 1e-12) | (extreme == 1)).float().mean() > 0.5, "the gates do not saturate"
    assert output.isfinite().all()
    assert all(grad.isfinite().all() for grad in gradients(output, [x, *block.parameters()]))


@pytest.mark.parametrize(
    "make",
    [
        lambda: SE(2, reduction=1),
        lambda: SE(2, reduction=2, bias=False),
        lambda: ECA(3, kernel_size=3),
        lambda: CBAM(2, reduction=1, kernel_size=3),
        lambda: CBAM(2, reduction=1, kernel_size=3, variant="official"),
        lambda: BAM(2, reduction=2, dilation=1),
        lambda: BAM(2, reduction=2, dilation=1, variant="official"),
        lambda: CoordinateAttention(2, reduction=2),
        lambda: ELA(2, kernel_size=3, norm_groups=1),
    ],
    ids=LEARNED,
)
def test_gradients_equal_finite_differences(make):
    block = randomise(make()).double()
    channels = 3 if isinstance(block, ECA) else 2
    values = torch.linspace(
        -1, 1.5, 2 * channels * 6, dtype=torch.float64
    )  # all different: no ties
    x = values[torch.randperm(len(values))].view(2, channels, 2, 3).requires_grad_()
    names, parameters = zip(*block.named_parameters(), strict=True)

    def function(x, *parameters):
        return torch.func.functional_call(block, dict(zip(names, parameters, strict=True)), (x,))

    assert torch.autograd.gradcheck(function, (x, *parameters))
