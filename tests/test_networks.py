"""The ResNet against the paper's numbers and hand counts; where `insert` puts blocks, and how.

Where blocks go in torchvision's large networks is tested on the meta device, which has shapes and
no numbers; what they do there is tested with numbers, on its smallest.
"""

import functools

import pytest
import torch
import torchvision
from parity import SMALL_OPTIONS
from torch import nn

from attention.blocks import BAM, BLOCKS, CBAM, ECA, SE, register
from attention.cost import flops, parameters
from attention.networks import insert, report, resnet
from attention.networks.resnet import PadShortcut


def torchvision_network(name, device="meta"):
    with torch.device(device):
        return torchvision.models.get_model(name, weights=None)


def small_torchvision(block):
    """A torchvision network with real numbers and one or two small residual blocks a stage."""
    return torchvision.models.ResNet(block, [1, 2, 1, 1], num_classes=10)


NUMERIC = {
    "own": functools.partial(resnet, 14, 4),
    "basic": functools.partial(small_torchvision, torchvision.models.resnet.BasicBlock),
    "bottleneck": functools.partial(small_torchvision, torchvision.models.resnet.Bottleneck),
}


every_network = pytest.mark.parametrize("make", NUMERIC.values(), ids=NUMERIC)
# residual blocks a stage, and the channels they end with
SIZES = {
    "own": ((3, 3, 3), (16, 32, 64)),
    "resnet18": ((2, 2, 2, 2), (64, 128, 256, 512)),
    "resnet50": ((3, 4, 6, 3), (256, 512, 1024, 2048)),
    "resnext50_32x4d": ((3, 4, 6, 3), (256, 512, 1024, 2048)),
    "wide_resnet50_2": ((3, 4, 6, 3), (256, 512, 1024, 2048)),
}
every_size = pytest.mark.parametrize("name", SIZES)


def network_of(name):
    if name != "own":
        return torchvision_network(name)
    with torch.device("meta"):
        return resnet(20)


def randomise_norms(network):
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            for values in (module.weight, module.bias, module.running_mean):
                nn.init.normal_(values, 0.3, 0.5)
            nn.init.uniform_(module.running_var, 0.5, 2)
    return network.eval()


class Apply(nn.Module):
    """A block that applies a function."""

    def __init__(self, function):
        super().__init__()
        self.function = function

    def forward(self, x):
        return self.function(x)


def applying(function):
    return lambda channels: Apply(function)


def snapshot(network):
    tensors = {key: tensor.clone() for key, tensor in network.state_dict().items()}
    return repr(network), tensors, getattr(network, "placements", None)


def assert_untouched(network, before):
    text, tensors, placements = snapshot(network)
    assert text == before[0] and placements == before[2]
    assert list(tensors) == list(before[1])
    for key, tensor in tensors.items():
        if not tensor.is_meta:
            assert torch.equal(tensor, before[1][key]), key


# --------------------------------------------------------------------------------- the CIFAR ResNet


def test_resnet20_has_the_parameters_of_its_layers_counted_by_hand():
    convolutions = 3 * 16 + 6 * 16 * 16 + (16 + 5 * 32) * 32 + (32 + 5 * 64) * 64
    norms = 2 * (7 * 16 + 6 * 32 + 6 * 64)
    assert parameters(resnet()) == 9 * convolutions + norms + 64 * 10 + 10 == 269_722


@pytest.mark.parametrize(
    "depth, millions", [(20, "0.27"), (32, "0.46"), (44, "0.66"), (56, "0.85"), (110, "1.7")]
)
def test_size_and_depth_are_those_of_table_6_of_the_paper(depth, millions):
    with torch.device("meta"):
        network = resnet(depth)
    digits = len(millions.split(".")[1])
    assert f"{parameters(network) / 1e6:.{digits}f}" == millions
    assert sum(isinstance(m, (nn.Conv2d, nn.Linear)) for m in network.modules()) == depth


@pytest.mark.parametrize("depth", [0, 2, 7, 9, 18, 54, 20.0, "20", True, None])
def test_a_depth_that_is_not_6n_plus_2_is_refused(depth):
    with pytest.raises(ValueError, match="depth") as error:
        resnet(depth)
    assert repr(depth) in str(error.value)


@pytest.mark.parametrize(
    "argument, value",
    [("width", 0), ("width", 2.5), ("classes", 0), ("classes", None)],
)
def test_a_bad_argument_of_resnet_is_named_with_its_value(argument, value):
    with pytest.raises(ValueError, match=argument) as error:
        resnet(8, **{argument: value})
    assert repr(value) in str(error.value)


def explicit_pad(x, channels):
    """Option A, one value at a time: every second position, new channels of zero behind."""
    n, old, height, width = x.shape
    out = torch.zeros(n, channels, (height + 1) // 2, (width + 1) // 2, dtype=x.dtype)
    for c in range(old):
        for i in range(out.shape[2]):
            for j in range(out.shape[3]):
                out[:, c, i, j] = x[:, c, 2 * i, 2 * j]
    return out


@pytest.mark.parametrize("size", [(6, 8), (5, 7), (1, 1)])
def test_pad_shortcut_takes_every_second_position_and_adds_channels_of_zero(size):
    x = torch.randn(2, 3, *size)
    assert torch.equal(PadShortcut(new_channels=4, stride=2)(x), explicit_pad(x, 7))


def conv(x, layer):
    stride = layer.stride[0]
    size = layer.kernel_size[0]
    columns = nn.functional.unfold(x, size, padding=size // 2, stride=stride)
    out = layer.weight.flatten(1) @ columns
    return out.view(len(x), -1, *((extent + stride - 1) // stride for extent in x.shape[2:]))


def norm(x, layer):
    def view(t):
        return t.view(1, -1, 1, 1)

    x = (x - view(layer.running_mean)) / (view(layer.running_var) + layer.eps).sqrt()
    return x * view(layer.weight) + view(layer.bias)


@pytest.mark.parametrize("size", [(16, 16), (13, 9)])
def test_resnet_computes_what_the_paper_writes(size):
    network = randomise_norms(resnet(14, 4)).double()
    convs = iter([m for m in network.modules() if isinstance(m, nn.Conv2d)])
    norms = iter([m for m in network.modules() if isinstance(m, nn.BatchNorm2d)])
    images = torch.randn(2, 3, *size, dtype=torch.float64)
    x = norm(conv(images, next(convs)), next(norms)).relu()
    for channels in (4, 4, 8, 8, 16, 16):
        shortcut = x if x.shape[1] == channels else explicit_pad(x, channels)
        x = norm(conv(x, next(convs)), next(norms)).relu()
        x = norm(conv(x, next(convs)), next(norms))
        x = (shortcut + x).relu()
    expected = x.mean((2, 3)) @ network.classifier.weight.T + network.classifier.bias
    torch.testing.assert_close(network(images), expected, rtol=1e-9, atol=1e-9)
    assert next(convs, None) is None


# -------------------------------------------------------------------------------------------- FLOPs


def convolution_flops(inputs, outputs, kernel, positions):
    return 2 * inputs * outputs * kernel * kernel * positions


def resnet20_flops(size):
    total, inputs = convolution_flops(3, 16, 3, size * size), 16
    for outputs, side in ((16, size), (32, size // 2), (64, size // 4)):
        for _ in range(3):
            total += convolution_flops(inputs, outputs, 3, side * side)
            total += convolution_flops(outputs, outputs, 3, side * side)
            inputs = outputs
    return total + 2 * 64 * 10


@pytest.mark.parametrize("size", [32, 16])
def test_flops_equal_the_hand_count_of_convolutions_and_classifier(size):
    assert flops(resnet(20), (1, 3, size, size)) == resnet20_flops(size)


def test_flops_of_a_batch_are_those_of_its_images():
    assert flops(resnet(20), (3, 3, 16, 16)) == 3 * resnet20_flops(16)


def test_flops_of_se_are_its_two_matrix_products():
    added = sum(3 * 2 * 2 * channels * (channels // 4) for channels in (16, 32, 64))
    network = insert(resnet(20), "se", reduction=4)
    assert flops(network, (1, 3, 16, 16)) == resnet20_flops(16) + added


@pytest.mark.parametrize("training", [False, True])
def test_flops_leave_modes_and_statistics_as_they_were(training):
    network = insert(resnet(8, 4), "bam", reduction=2).train(training)
    network.stages[1].train(not training)  # as for frozen statistics
    modes = [module.training for module in network.modules()]
    before = snapshot(network)
    flops(network, (1, 3, 8, 8))
    assert [module.training for module in network.modules()] == modes
    assert_untouched(network, before)


def test_flops_that_fail_leave_modes_as_they_were():
    network = resnet(8, 4).train()
    with pytest.raises(RuntimeError):
        flops(network, (1, 4, 8, 8))
    assert all(module.training for module in network.modules())


# --------------------------------------------------------------------------- where blocks go: paths


def expected_paths(name, at, stages):
    """(path, channels) in order, from how the two families name their modules."""
    counts, widths = SIZES[name]
    found = []
    for number in stages:
        count, channels = counts[number - 1], widths[number - 1]
        stage = f"stages.{number - 1}" if name == "own" else f"layer{number}"
        slot = "attention" if name == "own" else "bn2" if name == "resnet18" else "bn3"
        slot = slot if name == "own" else f"{slot}.attention"
        if at == "residual":
            found += [(f"{stage}.{i}.{slot}", channels) for i in range(count)]
        else:
            found.append((f"{stage}.{count}", channels))
    return found


def assert_blocks_stand_at(network, kind, expected):
    found = [(path, m) for path, m in network.named_modules() if isinstance(m, kind)]
    assert sorted(path for path, _ in found) == sorted(path for path, _ in expected)
    assert [(p.path, p.channels) for p in network.placements] == expected
    for path, channels in expected:
        block = network.get_submodule(path)
        widths = {m.channels for m in block.modules() if hasattr(m, "channels")}
        assert widths == {channels}


@every_size
def test_residual_blocks_all_get_one_at_residual(name):
    stages = range(1, len(SIZES[name][0]) + 1)
    for block, kind in (("se", SE), ("cbam", CBAM)):
        network = insert(network_of(name), block)
        assert_blocks_stand_at(network, kind, expected_paths(name, "residual", stages))


@every_size
def test_bam_stands_after_every_stage_but_the_last(name):
    stages = range(1, len(SIZES[name][0]))
    network = insert(network_of(name), "bam")
    assert_blocks_stand_at(network, BAM, expected_paths(name, "stage", stages))


@every_size
def test_other_blocks_at_stage_stand_after_all_stages(name):
    stages = range(1, len(SIZES[name][0]) + 1)
    network = insert(network_of(name), "se", at="stage")
    assert_blocks_stand_at(network, SE, expected_paths(name, "stage", stages))


@pytest.mark.parametrize("name", ["own", "resnet18"])
@pytest.mark.parametrize(
    "block, kind, options, at, stages",
    [
        ("se", SE, {"stages": (1,)}, "residual", [1]),
        ("eca", ECA, {"stages": 3}, "residual", [3]),
        ("cbam", CBAM, {"stages": [3, 1, 3], "at": "stage"}, "stage", [1, 3]),
        ("bam", BAM, {"stages": (2, 3)}, "stage", [2, 3]),
        ("bam", BAM, {"stages": 1, "at": "residual"}, "residual", [1]),
    ],
)
def test_stages_and_place_can_be_chosen(name, block, kind, options, at, stages):
    network = insert(network_of(name), block, **options)
    assert_blocks_stand_at(network, kind, expected_paths(name, at, stages))


def test_bam_at_residual_stands_in_all_stages():
    network = insert(network_of("resnet18"), "bam", at="residual")
    assert_blocks_stand_at(network, BAM, expected_paths("resnet18", "residual", (1, 2, 3, 4)))


# -------------------------------------------------------------------- where blocks go: what they do


def shortcuts_only(network, x):
    """The network without its branches: relu(shortcut(x)) in place of every residual block."""
    if hasattr(network, "stem"):
        x = network.stem(x)
        for stage in network.stages:
            for block in stage:
                channels = block.channels
                x = (x if x.shape[1] == channels else explicit_pad(x, channels)).relu()
        return network.classifier(x.mean((2, 3)))
    x = network.maxpool(network.bn1(network.conv1(x)).relu())
    for stage in (network.layer1, network.layer2, network.layer3, network.layer4):
        for block in stage:
            x = (x if block.downsample is None else block.downsample(x)).relu()
    return network.fc(x.mean((2, 3)))


@every_network
def test_a_block_of_zeros_leaves_the_shortcuts_so_it_stands_before_the_addition(make):
    network, images = randomise_norms(make()), torch.randn(2, 3, 32, 32)
    plain = network(images)
    expected = shortcuts_only(network, images)
    insert(network, applying(torch.zeros_like))
    torch.testing.assert_close(network(images), expected)
    assert not torch.allclose(plain, expected, atol=1e-2)


@every_network
def test_a_block_sees_the_whole_branch_so_negating_it_negates_the_last_norm(make):
    network, images = randomise_norms(make()), torch.randn(2, 3, 32, 32)
    inserted = insert(randomise_norms(make()), applying(torch.neg))
    for ours, theirs in zip(inserted.parameters(), network.parameters(), strict=True):
        ours.data.copy_(theirs)
    for ours, theirs in zip(inserted.buffers(), network.buffers(), strict=True):
        ours.data.copy_(theirs)
    for module in network.modules():
        if hasattr(module, "branch"):
            last = module.branch[-1]
        elif hasattr(module, "conv2"):
            last = getattr(module, "bn3", module.bn2)
        else:
            continue
        last.weight.data.neg_()
        last.bias.data.neg_()
    torch.testing.assert_close(inserted(images), network(images))


@every_network
@pytest.mark.parametrize("at", ["residual", "stage"])
def test_a_block_that_does_nothing_changes_no_bit_of_the_output(make, at):
    network, images = randomise_norms(make()), torch.randn(2, 3, 32, 32)
    expected = network(images)
    insert(network, applying(lambda x: x), at=at)
    assert torch.equal(network(images), expected)


@every_network
def test_a_block_after_the_last_stage_stands_right_before_the_pooling(make):
    network, images = randomise_norms(make()), torch.randn(2, 3, 32, 32)
    classifier = getattr(network, "classifier", None) or network.fc
    expected = 2 * (network(images) - classifier.bias) + classifier.bias  # all after it is linear
    insert(
        network, applying(lambda x: 2 * x), at="stage", stages=3 if "stem" in repr(network) else 4
    )
    torch.testing.assert_close(network(images), expected)


@every_network
@pytest.mark.parametrize("at", ["residual", "stage"])
def test_blocks_inserted_one_after_another_are_applied_in_that_order(make, at):
    network, images = randomise_norms(make()), torch.randn(2, 3, 32, 32)
    other = randomise_norms(make())
    for ours, theirs in zip(
        other.state_dict().values(), network.state_dict().values(), strict=True
    ):
        ours.copy_(theirs)
    insert(network, applying(lambda x: torch.sin(torch.exp(-x.abs()) + 1) * 2), at=at)
    insert(other, applying(torch.abs), at=at)
    insert(other, applying(lambda x: torch.exp(-x)), at=at)
    insert(other, applying(lambda x: torch.sin(x + 1)), at=at)
    insert(other, applying(lambda x: 2 * x), at=at)
    torch.testing.assert_close(other(images), network(images))


@pytest.mark.parametrize("name", ["own", "resnet18", "resnet50"])
def test_inserting_twice_keeps_both(name):
    counts, widths = SIZES[name]
    network = insert(insert(network_of(name), "se"), "eca")
    for kind in (SE, ECA):
        found = [m.score.channels for m in network.modules() if isinstance(m, kind)]
        assert found == [c for n, c in zip(counts, widths, strict=True) for _ in range(n)]
    assert [p.block for p in network.placements] == ["se"] * sum(counts) + ["eca"] * sum(counts)


@pytest.mark.parametrize("name", ["own", "resnet18"])
def test_after_a_second_insertion_every_placement_still_leads_to_its_block(name):
    network = insert(insert(insert(network_of(name), "se"), "bam"), "eca")
    for placement in network.placements:
        assert type(network.get_submodule(placement.path)) is BLOCKS[placement.block]


class Doubling(nn.Sequential):
    """A Sequential with a part called "attention" and a forward of its own."""

    def __init__(self, channels):
        super().__init__()
        self.attention = nn.Conv2d(channels, channels, 1)

    def forward(self, x):
        return 2 * x


def test_a_second_block_is_applied_behind_whatever_the_first_is_made_of():
    network, images = randomise_norms(resnet(8, 4)), torch.randn(2, 3, 8, 8)
    expected = shortcuts_only(network, images)
    insert(insert(network, Doubling), applying(torch.zeros_like))
    torch.testing.assert_close(network(images), expected)


# -------------------------------------------------------------------- what stays, and what is added


@every_network
@pytest.mark.parametrize("at", ["residual", "stage"])
def test_weights_already_there_stay(make, at):
    network = randomise_norms(make())
    before = [(p, p.detach().clone()) for p in network.parameters()]
    buffers = [(b, b.clone()) for b in network.buffers()]
    insert(network, "cbam", at=at, reduction=2)
    kept = {id(tensor) for tensor in (*network.parameters(), *network.buffers())}
    assert len(before) > 20 and len(buffers) > 20
    for tensor, values in before + buffers:
        assert id(tensor) in kept and torch.equal(tensor, values)


@every_network
@pytest.mark.parametrize("training", [False, True])
def test_dtype_and_mode_carry_over_to_the_blocks(make, training):
    network = insert(make().double().train(training), "bam", reduction=2, variant="official")
    assert len(network.placements) in (2, 3)
    for placement in network.placements:
        block = network.get_submodule(placement.path)
        assert {p.dtype for p in block.parameters()} == {torch.float64}
        assert {m.training for m in block.modules()} == {training}
    assert network(torch.randn(2, 3, 64, 64, dtype=torch.float64)).dtype == torch.float64


def test_blocks_go_to_the_device_of_the_network():
    network = insert(network_of("resnet18"), "cbam")
    assert {p.device.type for p in network.parameters()} == {"meta"}


@every_size
@pytest.mark.parametrize("block", BLOCKS)
def test_the_report_adds_up_to_the_true_difference(name, block):
    network = network_of(name)
    before = sum(p.numel() for p in network.parameters())
    insert(network, block)
    total = sum(p.numel() for p in network.parameters())
    assert total > before
    assert sum(p.parameters for p in network.placements) == total - before
    text = report(network)
    assert f"{total - before:+,} parameters" in text and f"{total:,} in all" in text
    assert f"({100 * (total - before) / before:.2f} %)" in text
    for placement in network.placements:
        (line,) = (line for line in text.splitlines() if f" {placement.path} " in line)
        assert line.split()[0] == block and str(placement.channels) in line
        assert f"{placement.parameters:+,}" in line


def test_the_report_counts_a_shared_block_once():
    network = resnet(14, 4)
    before = parameters(network)
    shared = functools.cache(lambda channels: SE(channels, reduction=2))
    insert(network, shared)
    assert len({id(m) for m in network.modules() if isinstance(m, SE)}) == 3
    assert f"{parameters(network) - before:+,} parameters" in report(network)


def test_the_report_of_a_plain_network_says_that_there_is_nothing():
    assert "no attention blocks" in report(resnet(8, 4))


def test_equal_seeds_give_the_common_layers_equal_initial_weights():
    torch.manual_seed(3)
    plain = resnet(14, 4).state_dict()
    for block in BLOCKS:
        torch.manual_seed(3)
        with_block = insert(resnet(14, 4), block, **SMALL_OPTIONS.get(block, {}))
        state = with_block.state_dict()
        assert len(state) > len(plain)
        for key, tensor in plain.items():
            assert torch.equal(tensor, state[key]), (block, key)


# ----------------------------------------------------------------- blocks of the user's own; errors


class Scale(nn.Module):
    """A class from a notebook cell."""

    def __init__(self, channels, start=0.0):
        super().__init__()
        self.weight = nn.Parameter(torch.full((channels, 1, 1), start))

    def forward(self, x):
        return x * self.weight


def test_a_class_of_ones_own_goes_to_the_residual_blocks_with_its_options():
    network, images = randomise_norms(resnet(8, 4)), torch.randn(2, 3, 8, 8)
    expected = shortcuts_only(network, images)
    insert(network, Scale, start=0.0)
    torch.testing.assert_close(network(images), expected)
    assert [(p.block, p.channels, p.parameters) for p in network.placements] == [
        ("Scale", 4, 4),
        ("Scale", 8, 8),
        ("Scale", 16, 16),
    ]
    weights = [p for key, p in network.named_parameters() if key.endswith("attention.weight")]
    assert [len(weight) for weight in weights] == [4, 8, 16]


def test_a_lambda_is_called_with_the_channels_of_each_place():
    channels = []
    network = insert(network_of("resnet18"), lambda c: channels.append(c) or SE(c, reduction=c))
    assert channels == [64, 64, 128, 128, 256, 256, 512, 512]
    expected = expected_paths("resnet18", "residual", (1, 2, 3, 4))
    assert_blocks_stand_at(network, SE, expected)


def test_a_class_of_ones_own_may_say_where_it_belongs():
    register("scale at stages", Scale, at="stage")
    network = insert(network_of("resnet18"), "scale at stages")
    assert [p.path for p in network.placements] == ["layer1.2", "layer2.2", "layer3.2", "layer4.2"]


def third_time_unlucky():
    calls = []

    def make(channels):
        calls.append(channels)
        if len(calls) == 3:
            raise KeyError("third")
        return SE(channels)

    return make


@pytest.mark.parametrize("name", ["own", "resnet18"])
@pytest.mark.parametrize("at", ["residual", "stage"])
def test_a_block_that_fails_half_way_leaves_the_network_untouched(name, at):
    network = network_of(name)
    before = snapshot(network)
    with pytest.raises(KeyError, match="third"):
        insert(network, third_time_unlucky(), at=at)
    assert_untouched(network, before)


@pytest.mark.parametrize("make", [lambda: resnet(8, 4), lambda: network_of("resnet18")])
@pytest.mark.parametrize(
    "block, options, fragments",
    [
        ("see", {}, ["block", "'see'", *BLOCKS]),
        ("SE", {}, ["block", "'SE'", *BLOCKS]),
        (7, {}, ["block", "7"]),
        (None, {}, ["block", "None"]),
        ("se", {"at": "end"}, ["at", "'end'", "residual", "stage"]),
        ("se", {"stages": 0}, ["stages", "0", "1 to"]),
        ("se", {"stages": 5}, ["stages", "5", "1 to"]),
        ("se", {"stages": (1, 5)}, ["stages", "5", "1 to"]),
        ("se", {"stages": -1}, ["stages", "-1", "1 to"]),
        ("se", {"stages": ()}, ["stages"]),
        ("se", {"stages": "1"}, ["stages", "'1'"]),
        ("se", {"stages": 1.0}, ["stages", "1.0"]),
        ("se", {"stages": (1, None)}, ["stages", "None"]),
        ("se", {"reduction": 0}, ["reduction", "0"]),
        (lambda channels: None, {}, ["module", "None"]),
        (lambda channels: nn.Identity, {}, ["module", "Identity"]),
        (lambda channels: channels, {}, ["module"]),
        (SE(4, 2), {}, ["block", "SE"]),
    ],
)
def test_a_bad_request_is_explained_and_leaves_the_network_untouched(
    make, block, options, fragments
):
    network = make()
    before = snapshot(network)
    with pytest.raises(ValueError) as error:
        insert(network, block, **options)
    for fragment in fragments:
        assert fragment in str(error.value)
    assert_untouched(network, before)


def test_an_option_that_the_block_does_not_have_leaves_the_network_untouched():
    network = resnet(8, 4)
    before = snapshot(network)
    with pytest.raises(TypeError, match="reductoin"):
        insert(network, "se", reductoin=4)
    assert_untouched(network, before)


@pytest.mark.parametrize(
    "make",
    [
        lambda: torchvision_network("vgg11"),
        lambda: torchvision_network("densenet121"),
        lambda: nn.Linear(3, 4),
        lambda: nn.Sequential(nn.Conv2d(3, 4, 3)),
    ],
)
def test_a_network_of_another_kind_is_refused_by_name_and_left_untouched(make):
    network = make()
    before = snapshot(network)
    with pytest.raises(ValueError, match="network must be") as error:
        insert(network, "se")
    assert type(network).__name__ in str(error.value)
    assert_untouched(network, before)
