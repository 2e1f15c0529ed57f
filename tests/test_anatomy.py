"""Where stages, branches and pooling are; networks that only look as if they were known."""

import pytest
import timm
import torch
import torchvision
from by_hand import randomise_norms
from some_networks import applying, assert_untouched, network_of, snapshot, torchvision_network
from torch import nn
from torchvision.models._utils import IntermediateLayerGetter

from attention.networks import (
    branches,
    fast_resnet,
    insert,
    last_stage,
    resnet,
    stages,
    vit,
)


def timm_network(name):
    with torch.device("meta"):
        return timm.create_model(name)


def body():
    """What torchvision's detectors and segmentation networks take of a ResNet."""
    layers = {f"layer{number}": str(number) for number in (1, 2, 3, 4)}
    return IntermediateLayerGetter(torchvision.models.resnet18(weights=None), layers)


class OwnForward(torchvision.models.ResNet):
    """A ResNet that gives its maps: it has an avgpool, and no use for it."""

    def __init__(self):
        super().__init__(torchvision.models.resnet.BasicBlock, [1, 1, 1, 1])

    def forward(self, x):
        x = self.maxpool(self.relu(self.bn1(self.conv1(x))))
        return self.layer4(self.layer3(self.layer2(self.layer1(x))))


def patched():
    network = torchvision.models.ResNet(torchvision.models.resnet.BasicBlock, [1, 1, 1, 1])
    network.forward = lambda x: network.layer1(network.conv1(x))
    return network


class PreActivation(nn.Module):
    """ResNet v2: the norms stand before their convolutions, and bn2 does not end the branch."""

    def __init__(self, channels):
        super().__init__()
        self.bn1, self.conv1 = nn.BatchNorm2d(channels), nn.Conv2d(channels, channels, 3, padding=1)
        self.bn2, self.conv2 = nn.BatchNorm2d(channels), nn.Conv2d(channels, channels, 3, padding=1)

    def forward(self, x):
        return x + self.conv2(self.bn2(self.conv1(self.bn1(x).relu())).relu())


def pre_activated():
    network = nn.Module()
    for number in (1, 2, 3, 4):
        network.add_module(f"layer{number}", nn.Sequential(PreActivation(4)))
    return network


@pytest.mark.parametrize(
    "make, counts",
    [
        (lambda: resnet(14, 4), [2, 2, 2]),
        (lambda: fast_resnet(4), [1, 1, 1]),
        (lambda: network_of("resnet18"), [2, 2, 2, 2]),
        (lambda: network_of("resnet50"), [3, 4, 6, 3]),
        (lambda: timm_network("resnet18"), [2, 2, 2, 2]),
        (lambda: timm_network("resnet50"), [3, 4, 6, 3]),
        (body, [2, 2, 2, 2]),
    ],
)
def test_stages_and_branches_are_found(make, counts):
    network = make()
    found = stages(network)
    assert [len(branches(stage)) for stage in found] == counts
    assert last_stage(network) is found[-1]
    insert(network, "se")  # and are found as before with blocks in them
    assert stages(network) == found and [len(branches(stage)) for stage in found] == counts


@pytest.mark.parametrize("make", [body, OwnForward, patched])
@pytest.mark.parametrize("block", ["multihead_pool", "average_pool"])
def test_a_pooling_that_would_change_nothing_is_refused(make, block):
    network = make()
    before = snapshot(network)
    with pytest.raises(ValueError, match=f"pooling that can be replaced.*{type(network).__name__}"):
        insert(network, block)
    assert_untouched(network, before)


def test_blocks_in_the_body_of_a_detector_and_in_timms_networks_are_used():
    for network in (body().eval(), timm.create_model("resnet18").eval()):
        images = torch.randn(1, 3, 32, 32)
        plain = randomise_norms(network)(images)
        insert(network, applying(torch.zeros_like))
        changed = network(images)
        if isinstance(plain, dict):
            plain, changed = plain["4"], changed["4"]
        assert changed.shape == plain.shape and not torch.allclose(changed, plain)


@pytest.mark.parametrize(
    "make",
    [
        lambda: torchvision_network("shufflenet_v2_x0_5"),
        lambda: timm_network("vit_tiny_patch16_224"),
        lambda: nn.Linear(3, 4),
        lambda: nn.Sequential(nn.Conv2d(3, 4, 3)),
        lambda: nn.DataParallel(resnet(8, 4)),
        lambda: vit(width=8, depth=1, heads=2),
        pre_activated,
    ],
)
@pytest.mark.parametrize("options", [{}, {"at": "stage"}])
def test_a_network_of_another_kind_is_refused_by_name_and_left_untouched(make, options):
    network = make()
    before = snapshot(network)
    with pytest.raises(ValueError, match="network must be") as error:
        insert(network, "se", **options)
    assert type(network).__name__ in str(error.value)
    assert_untouched(network, before)


@pytest.mark.parametrize("network", [None, 7, "resnet20", resnet, nn.Module, [resnet(8, 4)]])
@pytest.mark.parametrize("function", [stages, lambda network: insert(network, "se")])
def test_what_is_no_network_is_refused(network, function):
    with pytest.raises(ValueError, match="network must be"):
        function(network)


def test_the_last_stage_of_other_networks_is_where_their_last_maps_are():
    for name, path in (
        ("vgg11", "features"),
        ("resnet18", "layer4"),
        ("squeezenet1_1", "features"),
    ):
        network = torchvision_network(name)
        assert last_stage(network) is network.get_submodule(path)
    convnext = timm_network("convnext_atto")
    assert last_stage(convnext) is convnext.stages[-1]
    assert last_stage(nn.Linear(2, 2)) is None and last_stage(vit(8, 1, 2)) is None
