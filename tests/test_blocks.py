"""The blocks against published implementations, written-out equations and finite differences.

Parity is in float64, to 1e-9, for outputs and for the gradients of the input and of every
parameter. References: torchvision (SE), timm (ECA, CBAM), the papers' equations (CBAM, BAM), and
for the official CBAM and BAM the forward pass of the authors' release, on their list of tensors.
"""

import copy

import pytest
import torch
from parity import EXACT, gradients, randomise
from timm.layers import EcaModule
from timm.layers.cbam import CbamModule
from torch import nn
from torch.nn import functional as F
from torchvision.ops import SqueezeExcitation

from attention.blocks import (
    BAM,
    BLOCKS,
    BOTH,
    CBAM,
    CHANNEL,
    ECA,
    POSITIONS,
    SE,
    SPATIAL,
    ChannelBranch,
    ChannelConv,
    Gate,
    PooledMLP,
    Product,
    Rescale,
    SpatialBranch,
    SpatialConv,
    Sum,
)  # fmt: skip

BLOCK = {
    "se": lambda channels, reduction: SE(channels, reduction),
    "se without bias": lambda channels, reduction: SE(channels, reduction, bias=False),
    "eca": lambda channels, reduction: ECA(channels),
    "cbam": lambda channels, reduction: CBAM(channels, reduction),
    "cbam official": lambda channels, reduction: CBAM(channels, reduction, variant="official"),
    "bam": lambda channels, reduction: BAM(channels, reduction),
    "bam official": lambda channels, reduction: BAM(channels, reduction, variant="official"),
}
every_block = pytest.mark.parametrize("name", BLOCK)
REDUCED = [name for name in BLOCK if name != "eca"]
BAMS = ["bam", "bam official"]


def gate_maps(block, x):
    """The output of the block and the maps of its gates, by hooks of the test's own."""
    maps = []
    handles = [
        module.register_forward_hook(lambda module, inputs, output: maps.append(output))
        for module in block.modules()
        if isinstance(module, Gate)
    ]
    output = block(x)
    for handle in handles:
        handle.remove()
    return output, maps


# ----------------------------------------------------------------- parity with torchvision and timm


def assert_same_as_module(block, reference, shape, views):
    """`views`: for each parameter of the block, how the reference's parameter is seen as it."""
    theirs = [p for p in reference.parameters() if p.requires_grad]
    ours = list(block.parameters())
    assert len(ours) == len(theirs) == len(views)
    with torch.no_grad():
        for mine, other, view in zip(ours, theirs, views, strict=True):
            mine.copy_(view(other))
    x = torch.randn(shape, dtype=torch.float64, requires_grad=True)
    output, expected = block(x), reference(x)
    torch.testing.assert_close(output, expected, **EXACT)
    grads, wanted = gradients(output, [x, *ours]), gradients(expected, [x, *theirs])
    torch.testing.assert_close(grads[0], wanted[0], **EXACT)
    for mine, other, view in zip(grads[1:], wanted[1:], views, strict=True):
        torch.testing.assert_close(mine, view(other), **EXACT)


def same(tensor):
    return tensor


def linear(tensor):
    """A 1×1 convolution's weight as a linear layer's; a bias as it is."""
    return tensor.flatten(1) if tensor.ndim == 4 else tensor


def swapped(tensor):
    """The two input maps of a convolution in the other order."""
    return tensor.flip(1)


shapes = pytest.mark.parametrize("shape", [(3, 16, 5, 7), (2, 16, 1, 1), (1, 16, 6, 3)])


@shapes
def test_se_equals_torchvision(shape):
    reference = randomise(SqueezeExcitation(16, 4)).double()
    assert_same_as_module(SE(16, reduction=4).double(), reference, shape, [linear] * 4)


@shapes
def test_se_without_bias_equals_torchvision_with_biases_of_zero(shape):
    reference = randomise(SqueezeExcitation(16, 4)).double()
    for conv in (reference.fc1, reference.fc2):
        nn.init.zeros_(conv.bias.requires_grad_(False))
    block = SE(16, reduction=4, bias=False).double()
    assert_same_as_module(block, reference, shape, [linear] * 2)


@shapes
def test_eca_equals_timm(shape):
    reference = randomise(EcaModule(16)).double()
    assert_same_as_module(ECA(16).double(), reference, shape, [same])


def test_eca_equals_timm_with_a_wide_kernel():
    reference = randomise(EcaModule(kernel_size=9)).double()
    assert_same_as_module(ECA(12, kernel_size=9).double(), reference, (2, 12, 3, 4), [same])


@shapes
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


# ---------------------------------------------------------------- parity with the papers' equations


def convolve(x, weight, bias=None, dilation=1):
    """A convolution with zero padding that keeps the size, one kernel position at a time."""
    (n, _, height, width), size = x.shape, weight.shape[-1]
    reach = size // 2 * dilation
    padded = x.new_zeros(n, x.shape[1], height + 2 * reach, width + 2 * reach)
    padded[:, :, reach : reach + height, reach : reach + width] = x
    total = 0
    for i in range(size):
        for j in range(size):
            row, column = i * dilation, j * dilation
            window = padded[:, :, row : row + height, column : column + width]
            total = total + torch.einsum("oc,nchw->nohw", weight[:, :, i, j], window)
    return total if bias is None else total + bias.view(1, -1, 1, 1)


def normalise(x, weight, bias, mean, var, training):
    """BatchNorm over all dimensions but the channels'."""
    shape = (1, -1) + (1,) * (x.ndim - 2)
    dims = (0, *range(2, x.ndim))
    if training:
        mean = x.mean(dims)
        var = ((x - mean.view(shape)) ** 2).mean(dims)
    x = (x - mean.view(shape)) / (var.view(shape) + 1e-5).sqrt()
    return x * weight.view(shape) + bias.view(shape)


def sigmoid(x):
    return 1 / (1 + torch.exp(-x))


def relu(x):
    return x.clamp(min=0)


def average(x, dims):
    return x.sum(dims) / (x.numel() / x.sum(dims).numel())


def maximum(x):
    """The largest value over the last dimension, by comparing one after another."""
    largest = x[..., 0]
    for value in x.unbind(-1)[1:]:
        largest = torch.where(value > largest, value, largest)
    return largest


def cbam_equations(x, tensors, training):
    """Woo et al. 2018, eq. 1–3."""
    w1, w2, f = tensors

    def mlp(pooled):
        return relu(pooled @ w1.T) @ w2.T

    channel = sigmoid(mlp(average(x, (2, 3))) + mlp(maximum(x.flatten(2))))
    x = x * channel[:, :, None, None]
    pooled = torch.stack([average(x, 1), maximum(x.movedim(1, -1))], 1)
    return x * sigmoid(convolve(pooled, f))


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


# ----------------------------------------------- parity with the official release, tensor by tensor


def norm_entries(name, width):
    return [
        *((f"{name}.{key}", (width,)) for key in ("weight", "bias", "running_mean", "running_var")),
        (f"{name}.num_batches_tracked", ()),
    ]


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


OFFICIAL = {"cbam official": published_cbam, "bam official": published_bam}
REFERENCES = {
    "cbam": cbam_equations,
    "bam": bam_equations,
    "cbam official": cbam_release,
    "bam official": bam_release,
}


@pytest.mark.parametrize("name", OFFICIAL)
@pytest.mark.parametrize("channels", [64, 32])
def test_official_block_holds_the_published_tensors_in_the_published_order(name, channels):
    ours = [tuple(tensor.shape) for tensor in BLOCK[name](channels, 16).state_dict().values()]
    assert ours == [shape for _, shape in OFFICIAL[name](channels, channels // 16)]


@pytest.mark.parametrize("name", OFFICIAL)
def test_published_tensors_loaded_by_order_give_the_published_output(name):
    tensors = []
    for key, shape in OFFICIAL[name](64, 4):
        tensor = 0.3 + torch.randn(shape, dtype=torch.float64)
        if key.endswith("running_var"):
            tensor = tensor.abs() + 0.5
        tensors.append(torch.tensor(7) if key.endswith("tracked") else tensor)
    block = BLOCK[name](64, 16).double().eval()
    block.load_state_dict(dict(zip(block.state_dict(), tensors, strict=True)))
    x = torch.randn(2, 64, 6, 5, dtype=torch.float64)
    output = block(x)
    torch.testing.assert_close(output, REFERENCES[name](x, tensors, False), **EXACT)
    assert not torch.allclose(output, x, atol=0.1)


SHAPES = {False: [(3, 8, 5, 7), (2, 8, 1, 1), (1, 8, 6, 3)], True: [(3, 8, 5, 7), (1, 8, 6, 3)]}


@pytest.mark.parametrize(
    "name, shape, training",
    [
        (name, shape, training)
        for name in REFERENCES
        for training, shapes in SHAPES.items()
        for shape in shapes
        if not (training and shape[0] == 1 and name in BAMS)  # an error, tested below
    ],
)
def test_output_gradients_and_running_statistics_equal_the_reference(name, shape, training):
    block = randomise(BLOCK[name](8, 2)).double().train(training)
    tensors = [tensor.clone() for tensor in block.state_dict().values()]
    theirs = []
    for tensor, key in zip(tensors, block.state_dict(), strict=True):
        if key in dict(block.named_parameters()):
            theirs.append(tensor.requires_grad_())
    x = torch.randn(shape, dtype=torch.float64, requires_grad=True)
    output, expected = block(x), REFERENCES[name](x, tensors, training)
    torch.testing.assert_close(output, expected, **EXACT)
    grads = gradients(output, [x, *block.parameters()])
    assert any(grad.abs().max() > 1e-3 for grad in grads[1:])
    for mine, wanted in zip(grads, gradients(expected, [x, *theirs]), strict=True):
        torch.testing.assert_close(mine, wanted, **EXACT)
    if name in OFFICIAL:  # its reference updates the running statistics that it is given
        for (key, mine), wanted in zip(block.state_dict().items(), tensors, strict=True):
            if "running" in key:
                torch.testing.assert_close(mine, wanted, **EXACT)


def test_bams_dilation_is_that_of_both_3x3_convolutions():
    block = randomise(BAM(8, reduction=2, dilation=2)).double().eval()
    x = torch.randn(2, 8, 7, 6, dtype=torch.float64)
    expected = bam_equations(x, list(block.state_dict().values()), False, dilation=2)
    torch.testing.assert_close(block(x), expected, **EXACT)


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


# ------------------------------------------------------------------ sizes, and how the blocks start


@pytest.mark.parametrize(
    "name, count",
    [
        ("se", 580),
        ("se without bias", 512),
        ("eca", 3),
        ("cbam", 610),
        ("cbam official", 680),
        ("bam official", 1173),
    ],
)
def test_parameter_count_is_the_published_one_for_64_channels(name, count):
    assert sum(p.numel() for p in BLOCK[name](64, 16).parameters()) == count


@pytest.mark.parametrize(
    "channels, k",
    [(1, 1), (8, 3), (16, 3), (32, 3), (64, 3), (128, 5), (256, 5), (512, 5), (1024, 5), (2048, 7)],
)
def test_eca_takes_its_kernel_from_the_number_of_channels(channels, k):
    assert [p.shape for p in ECA(channels).parameters()] == [(1, 1, k)]


def test_eca_rule_equals_timms_for_every_width_from_8_to_600():
    ours = [ECA.rule(channels) for channels in range(8, 600)]
    assert ours == [EcaModule(channels).conv.kernel_size[0] for channels in range(8, 600)]


@pytest.mark.parametrize("training", [False, True])
def test_cbam_official_starts_with_a_spatial_gate_of_exactly_one_half(training):
    block = CBAM(32, variant="official").train(training)
    x = torch.randn(2, 32, 6, 5)
    output, (channel, spatial) = gate_maps(block, x)
    assert torch.equal(spatial, torch.full((2, 1, 6, 5), 0.5))
    assert torch.equal(output, x * channel * 0.5)
    assert channel.std() > 0


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


@every_block
def test_in_eval_mode_an_image_alone_gives_what_it_gives_in_a_batch(name):
    block = randomise(BLOCK[name](8, 2)).double().eval()
    x = torch.randn(3, 8, 5, 7, dtype=torch.float64)
    alone = torch.cat([block(image[None]) for image in x])
    torch.testing.assert_close(alone, block(x), **EXACT)


@pytest.mark.parametrize("name", ["se", "se without bias", "eca", "cbam"])
def test_without_batchnorm_a_single_image_in_training_mode_gives_the_eval_output(name):
    block = randomise(BLOCK[name](8, 2))
    x = torch.randn(1, 8, 5, 7)
    trained = block.train()(x)
    assert torch.equal(trained, block.eval()(x))


@pytest.mark.parametrize("name", BAMS)
def test_bam_in_training_mode_refuses_a_single_image_and_says_why(name):
    with pytest.raises(ValueError, match="batch of at least 2 images, got 1"):
        BLOCK[name](8, 2)(torch.randn(1, 8, 5, 7))


# ---------------------------------------------------------------------- precision, layout, compiler


@every_block
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
    assert any(map.dtype == torch.bfloat16 for map in maps), "autocast had nothing to do"
    # bfloat16 keeps 8 bits: 0.4 % an operation, a few operations deep; the gate has slope ≤ 1/4.
    torch.testing.assert_close(output, expected, rtol=0.02, atol=0.02)
    torch.testing.assert_close(half.float(), expected, rtol=0.04, atol=0.04)


@every_block
def test_channels_last_gives_the_same_numbers_and_stays_channels_last(name):
    block = randomise(BLOCK[name](8, 2)).double()
    x = torch.randn(3, 8, 5, 6, dtype=torch.float64)
    expected = copy.deepcopy(block)(x)
    output = block(x.to(memory_format=torch.channels_last))
    torch.testing.assert_close(output, expected, **EXACT)
    assert expected.is_contiguous()
    assert output.is_contiguous(memory_format=torch.channels_last)


def test_compiled_blocks_equal_eager_ones_without_a_graph_break():
    # aot_eager traces both passes as inductor does, but spares the minute of C++ compilation
    chain = nn.Sequential(*(randomise(make(4, 2)) for make in BLOCK.values())).double()
    x = torch.randn(3, 4, 5, 3, dtype=torch.float64, requires_grad=True)
    expected = chain(x)
    wanted = gradients(expected, [x, *chain.parameters()])
    torch.compiler.reset()
    compiled = torch.compile(chain, backend="aot_eager", dynamic=False, fullgraph=True)
    output = compiled(x)
    torch.testing.assert_close(output, expected, **EXACT)
    for mine, other in zip(gradients(output, [x, *chain.parameters()]), wanted, strict=True):
        torch.testing.assert_close(mine, other, **EXACT)


# ------------------------------------------------------------------------------------------- errors


@pytest.mark.parametrize("name", BLOCKS)
@pytest.mark.parametrize("channels", [0, -4, 2.5, True, "64", None])
def test_bad_channels_are_named(name, channels):
    with pytest.raises(ValueError, match="channels") as error:
        BLOCKS[name](channels)
    assert repr(channels) in str(error.value)


@pytest.mark.parametrize(
    "make, argument, value",
    [
        *((make, "reduction", bad) for make in (SE, CBAM, BAM) for bad in (0, -1, 2.5, True)),
        *((make, "kernel_size", bad) for make in (ECA, CBAM) for bad in (4, 0, -3, 3.0)),
        *((BAM, "dilation", bad) for bad in (0, -1, 1.5)),
        *((make, "variant", bad) for make in (CBAM, BAM) for bad in ("offical", None)),
        *((CBAM, "pools", bad) for bad in (("avg", "min"), "avg", "max", (), None)),
        (SpatialBranch, "dilation", 0),
        *(
            (make, "norm", bad)
            for make in (ChannelBranch, SpatialBranch)
            for bad in ("hiden", None)
        ),
        *((make, "pools", ("lp",)) for make in (SpatialConv, PooledMLP)),
        (ChannelConv, "kernel_size", 2),
        *((SE, "bias", bad) for bad in ("no", None, 2)),
    ],
)
def test_a_bad_argument_is_named_with_its_value(make, argument, value):
    with pytest.raises(ValueError, match=argument) as error:
        make(8, **{argument: value})
    assert repr(value) in str(error.value)


@every_block
@pytest.mark.parametrize("shape", [(2, 5, 4, 4), (8, 4, 4), (2, 8, 4), (2, 8, 4, 4, 4), (2, 8)])
def test_input_that_is_not_maps_of_these_channels_is_refused_with_its_shape(name, shape):
    with pytest.raises(ValueError) as error:
        BLOCK[name](8, 2)(torch.randn(shape))
    assert "(N, 8, H, W)" in str(error.value) and str(shape) in str(error.value)


# --------------------------------------------------------------------------------- the gate algebra


class Constant(nn.Module):
    """A score of the user's own: the same logits whatever comes."""

    def __init__(self, logits, kind=None):
        super().__init__()
        self.logits = nn.Parameter(torch.as_tensor(logits, dtype=torch.float64))
        if kind:
            self.kind = kind

    def forward(self, x):
        return self.logits.view(1, -1, 1, 1)


class Columns(nn.Module):
    """A score of the user's own: a logit a position."""

    kind = SPATIAL

    def forward(self, x):
        return x[:, :1] - 2 * x[:, 1:2]


def test_rescale_multiplies_by_the_map_or_by_one_plus_the_map():
    x = torch.randn(2, 3, 4, 5, dtype=torch.float64)
    score = Constant(torch.tensor([0.25, 1.0, 8.0], dtype=torch.float64).log())
    plain, residual = Rescale(score, kind=CHANNEL)(x), Rescale(score, True, CHANNEL)(x)
    for channel, weight in enumerate([1 / 5, 1 / 2, 8 / 9]):  # σ(log a) = a / (1 + a)
        torch.testing.assert_close(plain[:, channel], x[:, channel] * weight, **EXACT)
        torch.testing.assert_close(residual[:, channel], x[:, channel] * (1 + weight), **EXACT)


def test_sum_and_product_combine_their_scores_and_broadcast_them():
    x = torch.randn(2, 3, 4, 5, dtype=torch.float64)
    channel, spatial = Constant([1.0, -2.0, 0.5], CHANNEL), Columns()
    added = Sum(channel=channel, spatial=spatial)(x)
    multiplied = Product(channel=channel, spatial=spatial)(x)
    assert added.shape == multiplied.shape == x.shape
    for c, logit in enumerate([1.0, -2.0, 0.5]):
        position = x[:, 0] - 2 * x[:, 1]
        torch.testing.assert_close(added[:, c], logit + position, **EXACT)
        torch.testing.assert_close(multiplied[:, c], logit * position, **EXACT)


def test_sum_and_product_of_three_scores_use_all_three():
    scores = {
        name: Constant([value], CHANNEL) for name, value in zip("abc", (2, 3, 5), strict=True)
    }
    x = torch.zeros(1, 1, 1, 1)
    assert Sum(**scores)(x).item() == 10 and Product(**scores)(x).item() == 30


@pytest.mark.parametrize("combine", [Sum, Product])
def test_the_kind_of_a_combination_is_both_only_when_the_kinds_differ(combine):
    channel, spatial = Constant([1.0], CHANNEL), Columns()
    assert combine(a=channel, b=spatial).kind == BOTH
    assert combine(a=channel, b=Constant([2.0], CHANNEL)).kind == CHANNEL
    assert combine(a=spatial, b=Columns()).kind == SPATIAL
    assert Rescale(combine(a=channel, b=spatial)).gate.kind == BOTH


@pytest.mark.parametrize("combine, expected", [(Sum, 6.0), (Product, 9.0)])
def test_a_score_that_stands_twice_in_a_combination_counts_twice(combine, expected):
    score = Constant([3.0], CHANNEL)
    assert combine(a=score, b=score)(torch.zeros(1, 1, 1, 1)).item() == expected


def test_gates_of_the_blocks_know_their_kind():
    kinds = {
        name: [m.kind for m in make(8, 2).modules() if isinstance(m, Gate)]
        for name, make in BLOCK.items()
    }
    assert kinds["se"] == kinds["se without bias"] == kinds["eca"] == [CHANNEL]
    assert kinds["cbam"] == kinds["cbam official"] == [CHANNEL, SPATIAL]
    assert kinds["bam"] == kinds["bam official"] == [BOTH]


def test_a_score_of_ones_own_takes_its_kind_from_itself_or_from_the_argument():
    assert Rescale(Columns()).gate.kind == SPATIAL
    assert Rescale(Constant([1.0]), kind=CHANNEL).gate.kind == CHANNEL


@pytest.mark.parametrize("kind", [None, "chanel", POSITIONS])
def test_a_gate_of_unknown_kind_is_refused(kind):
    with pytest.raises(ValueError, match="kind") as error:
        Rescale(Constant([1.0]), kind=kind)
    assert repr(kind) in str(error.value) and "channel" in str(error.value)


def test_the_gate_is_the_logistic_function_and_lies_between_0_and_1():
    logits = torch.linspace(-15, 15, 61)
    output = Gate(CHANNEL)(logits)
    assert output.min() > 0 and output.max() < 1
    torch.testing.assert_close(output, 1 / (1 + torch.exp(-logits)))


@every_block
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
    ],
    ids=list(BLOCK),
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
