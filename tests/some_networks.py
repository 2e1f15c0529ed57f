"""The networks that the tests of `insert` put blocks into, and blocks that say something."""

import functools

import pytest
import torch
import torchvision
from by_hand import padded
from torch import nn

from attention.networks import resnet


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


def shortcuts_only(network, x):
    """The network without its branches: relu(shortcut(x)) in place of every residual block."""
    if hasattr(network, "stem"):
        x = network.stem(x)
        for stage in network.stages:
            for block in stage:
                channels = block.channels
                x = (x if x.shape[1] == channels else padded(x, channels)).relu()
        return network.classifier(x.mean((2, 3)))
    x = network.maxpool(network.bn1(network.conv1(x)).relu())
    for stage in (network.layer1, network.layer2, network.layer3, network.layer4):
        for block in stage:
            x = (x if block.downsample is None else block.downsample(x)).relu()
    return network.fc(x.mean((2, 3)))


class Apply(nn.Module):
    """A block that applies a function."""

    def __init__(self, function):
        super().__init__()
        self.function = function

    def forward(self, x):
        return self.function(x)


def applying(function):
    return lambda channels: Apply(function)


class Scale(nn.Module):
    """A class from a notebook cell."""

    def __init__(self, channels, factor=0.0):
        super().__init__()
        self.weight = nn.Parameter(torch.full((channels, 1, 1), factor))

    def forward(self, x):
        return x * self.weight
