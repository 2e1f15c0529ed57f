"""after=: blocks behind any modules of any network; what cannot be done is refused by name."""

import copy
import json
import re

import pytest
import timm
import torch
import torchvision
from by_hand import randomise_norms
from some_networks import Scale, applying, assert_untouched, small_torchvision, snapshot
from torch import nn
from torchvision.models.swin_transformer import SwinTransformer

from attention.blocks import SE
from attention.explain import capture
from attention.networks import insert, resnet, vit
from attention.networks.example import observe
from attention.networks.places import Chain, ChannelsLast


class Small(nn.Module):
    """A network of nobody's family: maps, tokens, tuples, a part that is not used."""

    def __init__(self):
        super().__init__()
        self.first = nn.Sequential(nn.Conv2d(3, 6, 3, padding=1), nn.BatchNorm2d(6), nn.ReLU())
        self.second = nn.Conv2d(6, 12, 3, stride=2, padding=1)
        self.relu = nn.ReLU(inplace=True)
        self.unused = nn.Conv2d(12, 12, 1)
        self.split = Split()
        self.tokens = nn.Flatten(2)
        self.dropout = nn.Dropout(0.5)
        self.head = nn.Linear(12, 5)
        self.register_buffer("calls", torch.zeros(()))

    def forward(self, x):
        self.calls += 1
        torch.rand(1)  # as stochastic depth draws
        x = self.relu(self.first(x))
        x = self.relu(self.second(x))
        left, right = self.split(x)
        x = self.tokens(torch.cat([left, right], 1)).mean(2)
        return self.head(self.dropout(x))


class Split(nn.Module):
    def forward(self, x):
        return x.chunk(2, 1)


def basic():
    return small_torchvision(torchvision.models.resnet.BasicBlock)


def swin():
    return SwinTransformer([4, 4], 24, [1, 1], [2, 2], [4, 4], num_classes=5)


@pytest.mark.parametrize(
    "make, after, paths, channels",
    [
        (Small, "first.0", ["first.0.attention"], [6]),
        (Small, ["second", "first"], ["first.attention", "second.attention"], [6, 12]),
        (Small, "first.*", [f"first.{n}.attention" for n in (0, 1, 2)], [6] * 3),
        (basic, "layer*", [f"layer{n}.attention" for n in (1, 2, 3, 4)], [64, 128, 256, 512]),
        (basic, "layer[12]", None, None),
        (basic, re.compile(r"layer[12]\.\d\.conv2"), ["layer1.0.conv2.attention",
         "layer2.0.conv2.attention", "layer2.1.conv2.attention"], [64, 128, 128]),
        (basic, "**bn1", ["bn1.attention", "layer1.0.bn1.attention", "layer2.0.bn1.attention",
         "layer2.1.bn1.attention", "layer3.0.bn1.attention", "layer4.0.bn1.attention"],
         [64, 64, 128, 128, 256, 512]),
        (lambda: resnet(8, 4), "stem", ["stem.attention"], [4]),
        (lambda: resnet(8, 4), "stages.*.0.branch", None, [4, 8, 16]),
        (lambda: vit(8, 1, 2), "stem", ["stem.attention"], [8]),
        (lambda: torchvision.models.shufflenet_v2_x0_5(), "stage*",
         [f"stage{n}.attention" for n in (2, 3, 4)], [48, 96, 192]),
        (swin, ["features.1", "features.3"], None, [24, 48]),
    ],
)  # fmt: skip
def test_blocks_follow_the_modules_that_are_named(make, after, paths, channels):
    network = make()
    if after == "layer[12]":  # no pattern that is known: it could be a name, and is none
        with pytest.raises(ValueError, match=re.escape("'layer[12]' names none")):
            insert(network, "se", after=after)
        return
    insert(network, "se", after=after, reduction=2)
    assert paths is None or [p.path for p in network.placements] == paths
    assert [p.channels for p in network.placements] == channels
    for placement in network.placements:
        block = network.get_submodule(placement.path)
        assert type(block.block if isinstance(block, ChannelsLast) else block) is SE
    with capture(network.eval()) as maps:
        network(torch.rand(2, 3, 32, 32))
    assert len(maps) == len(channels) + isinstance(network, type(vit(8, 1, 2)))


def test_a_block_sees_what_the_module_gives_and_gives_what_comes_next():
    network, images = randomise_norms(Small()).eval(), torch.rand(2, 3, 16, 16)
    x = network.first(images).relu()
    x = 3 * network.second(x)
    expected = network.head(x.relu().mean((2, 3)))
    insert(network, applying(lambda maps: 3 * maps), after="second")
    torch.testing.assert_close(network(images), expected)


def test_a_shared_module_takes_its_block_along():
    network = insert(nn.Sequential(nn.Conv2d(3, 4, 1), relu := nn.ReLU(), nn.Conv2d(4, 4, 1), relu),
                     applying(torch.neg), after="1")  # fmt: skip
    assert type(network[1]) is Chain and network[3] is relu


@pytest.mark.parametrize(
    "make, after, fragments",
    [
        (Small, "third", ["after", "Small", "'third' names none", "first"]),
        (Small, "", ["after", "''"]),
        (Small, [], ["after", "[]"]),
        (Small, 7, ["after", "7"]),
        (Small, ["first", 7], ["after", "7"]),
        (Small, "firs*.9", ["after", "names none"]),
        (Small, "unused", ["'unused'", "Small", "not called"]),
        (Small, "relu", ["'relu'", "called 2 times", "6 channels", "12 channels"]),
        (Small, "split", ["'split'", "a tuple, no maps"]),
        (Small, "tokens", ["'tokens'", "no maps"]),
        (Small, "head", ["'head'", "1×5", "no maps"]),
        (Small, ["first", "head"], ["'head'"]),
        (lambda: vit(8, 1, 2), "layers.0", ["'layers.0'", "no maps"]),
        (lambda: timm.create_model("test_vit"), "blocks.0", ["'blocks.0'", "no maps"]),
        (basic, "layer9", ["layer9", "layer1"]),
    ],
)
def test_where_no_block_can_go_is_said_by_name(make, after, fragments):
    network = make()
    before = snapshot(network)
    with pytest.raises(ValueError) as error:
        insert(network, "se", after=after)
    for fragment in fragments:
        assert fragment in str(error.value)
    assert_untouched(network, before)


@pytest.mark.parametrize(
    "options, match",
    [
        ({"after": "first", "at": "stage"}, "at and stages must then be None"),
        ({"after": "first", "stages": 1}, "at and stages must then be None"),
        ({"after": "first", "block": "dot_pool"}, "at='pool'.*dot_pool"),
        ({"after": "first", "example": "large"}, "example must be a tensor, the shape"),
        ({"after": "first", "example": 32}, "example must be a tensor, the shape"),
        ({"after": "first", "example": (1, 4, 32, 32)}, "with 1×4×32×32 it fails: RuntimeError"),
        ({"after": "first", "example": torch.rand(1, 3, 32)}, "1×3×32 it fails"),
        ({"after": "first", "example": (1, 3, 6, 6)}, "cannot be told apart"),
    ],
)
def test_requests_that_make_no_sense_are_refused(options, match):
    network = Small()
    before = snapshot(network)
    with pytest.raises(ValueError, match=match):
        insert(network, **{"block": "se"} | options)
    assert_untouched(network, before)


class Wrong(nn.Module):
    def forward(self, x):
        return x.mean((2, 3), keepdim=True)


@pytest.mark.parametrize(
    "block, match",
    [
        (lambda channels: Wrong(), r"must make \(1, 6, 64, 96\).*it gave \(1, 6, 1, 1\)"),
        (lambda channels: nn.Conv2d(channels + 1, 2, 1), "does not run through it any more"),
        (applying(lambda x: (x, x)), "it gave tuple|does not run"),
    ],
)
@pytest.mark.parametrize("after", ["first", "second", "first.0"])
def test_a_block_that_does_not_fit_is_taken_out_again(block, match, after):
    network = insert(Small(), "se", after=["first", "first.1"], reduction=2)
    before, insertions = snapshot(network), list(network.insertions)
    with pytest.raises(ValueError, match=match if after == "first" else None):
        insert(network, block, after=after)
    assert_untouched(network, before)
    assert network.insertions == insertions


class Attribute(nn.Module):
    """A network that reads an attribute of a part: no block can be put behind that part."""

    def __init__(self):
        super().__init__()
        self.part = nn.Conv2d(3, 4, 1)

    def forward(self, x):
        return self.part(x) * self.part.weight.mean()


class Unsure(nn.Module):
    """A network that calls a part only as long as it is a convolution."""

    def __init__(self):
        super().__init__()
        self.part, self.other = nn.Conv2d(3, 4, 1), nn.Conv2d(3, 4, 1)

    def forward(self, x):
        return self.part(x) if isinstance(self.part, nn.Conv2d) else self.other(x)


@pytest.mark.parametrize(
    "make, match", [(Attribute, "no attribute 'weight'"), (Unsure, "have no effect.*not called")]
)
def test_a_block_that_would_not_be_called_is_an_error(make, match):
    network = make()
    before = snapshot(network)
    with pytest.raises(ValueError, match=match):
        insert(network, "se", after="part")
    assert_untouched(network, before)


def test_names_are_those_of_the_network_as_it_was_also_with_blocks_in_it():
    network = Small()
    insert(network, "se", after="first", reduction=2)
    insert(network, "se", after="first.1", reduction=2)
    insert(network, "eca", after="**1")
    insert(network, "eca", after=["first*", "first.before.1"])  # print() shows the second name
    assert [(p.block, p.path) for p in network.placements] == [
        ("se", "first.attention"),
        ("se", "first.before.1.attention"),
        ("eca", "first.before.1.attention2"),
        ("eca", "first.attention2"),
        ("eca", "first.before.1.attention3"),
    ]
    assert [call["after"] for call in network.insertions] == [
        ("first",), ("first.1",), ("first.1",), ("first", "first.1"),
    ]  # fmt: skip


def test_a_block_that_somebody_took_out_is_forgotten():
    network = insert(Small(), "se", after=["first", "second"], reduction=2)
    network.second = nn.Conv2d(6, 12, 3, stride=2, padding=1)
    insert(network, "eca", after="second")
    assert [p.path for p in network.placements] == ["first.attention", "second.attention"]


@pytest.mark.parametrize("start", [None, "identity"])
def test_maps_with_their_channels_last_are_turned(start):
    network, images = randomise_norms(swin()).eval(), torch.rand(2, 3, 32, 64)
    expected = network(images)
    insert(network, Scale, after="features.1", start=start, factor=2.0)
    assert type(network.features[1].attention) is ChannelsLast
    assert network.placements[0].channels == 24
    if start:
        assert torch.equal(network(images), expected)
        return
    scaled = swin().eval()
    scaled.load_state_dict(network.state_dict(), strict=False)  # Chain has other names
    hook = scaled.features[1].register_forward_hook(lambda module, inputs, output: 2 * output)
    plain = {k.replace("features.1.before.", "features.1."): v
             for k, v in network.state_dict().items() if "attention.block" not in k}  # fmt: skip
    scaled.load_state_dict(plain)
    torch.testing.assert_close(network(images), scaled(images))
    hook.remove()
    insert(network, "se", at="stage", reduction=2)
    assert [p.path for p in network.placements[1:]] == ["features.1.attention2", "features.3.1"]


def test_the_example_leaves_no_trace():
    network = Small().train()
    network.first[1].eval()
    buffers = [buffer.clone() for buffer in network.buffers()]
    torch.manual_seed(3)
    expected = torch.rand(3)
    torch.manual_seed(3)
    observe(network)
    assert torch.equal(torch.rand(3), expected)
    assert network.training and not network.first[1].training
    for buffer, old in zip(network.buffers(), buffers, strict=True):
        assert torch.equal(buffer, old)
    assert not any(module._forward_hooks for module in network.modules())


def test_an_example_can_be_given_where_none_that_is_made_fits():
    network = nn.Sequential(nn.Unflatten(1, (2, 3)), nn.Flatten(0, 1), nn.Conv2d(3, 4, 3))
    with pytest.raises(ValueError, match="example must be images"):
        insert(network, "se", after="2")
    example = torch.rand(2, 6, 16, 24)
    for given in (example, (2, 6, 16, 24), [2, 6, 16, 24]):
        inserted = insert(copy.deepcopy(network), "se", after="2", example=given)
        assert inserted.placements[0].channels == 4
        assert inserted.insertions[0]["example"] == (2, 6, 16, 24)


def test_networks_of_one_colour_and_of_one_size_get_an_example_that_fits():
    grey = nn.Sequential(nn.Conv2d(1, 4, 3), nn.ReLU())
    assert insert(grey, "se", after="0").placements[0].channels == 4
    fixed = nn.Sequential(nn.Conv2d(3, 4, 4, 4), nn.LayerNorm((4, 56, 56)))
    assert insert(fixed, "se", after="*").placements[1].channels == 4


def test_a_compiled_network_is_refused():
    for network in (torch.compile(Small(), backend="eager"), torch.jit.trace(
        Small().eval(), torch.rand(1, 3, 16, 16))):  # fmt: skip
        with pytest.raises(ValueError, match="compiled"):
            insert(network, "se", after="first")
    network = Small()
    network.compile(backend="eager")
    with pytest.raises(ValueError, match="insert first, then compile"):
        insert(network, "se", after="first")
    with pytest.raises(ValueError, match="lazy"):
        insert(nn.Sequential(nn.LazyConv2d(4, 1)), "se", after="0")


def test_the_calls_are_kept_and_make_the_same_network_again():
    network = Small()
    insert(network, "se", after="firs*", start="identity", reduction=2)
    insert(network, SE, after=["second", "first.1"])
    insert(network, "cbam", after="first", reduction=3, kernel_size=3)
    assert [call["after"] for call in network.insertions] == [
        ("first",), ("first.1", "second"), ("first",),
    ]  # fmt: skip
    assert network.insertions[0] == {
        "block": "se", "at": None, "stages": None, "after": ("first",), "start": "identity",
        "options": {"reduction": 2}, "example": None,
    }  # fmt: skip
    again = Small()
    for call in json.loads(json.dumps(network.insertions)):
        insert(again, **call.pop("options"), **call)
    assert again.placements == network.placements and again.insertions == network.insertions
    again.load_state_dict(network.state_dict())
    images = torch.rand(2, 3, 16, 16)
    assert torch.equal(again.eval()(images), network.eval()(images))
