"""The table of networks and blocks: `insert` in other people's networks, all of them alike."""

import copy
import functools

import pytest
import timm
import torch
import torchvision
from by_hand import randomise_norms
from some_networks import small_torchvision
from torch import nn
from torchvision.models import (
    convnext,
    densenet,
    detection,
    efficientnet,
    regnet,
    segmentation,
    vgg,
)
from torchvision.models._utils import IntermediateLayerGetter

from attention.blocks import BLOCKS
from attention.explain import capture
from attention.networks import FromIdentity, fast_resnet, insert, report, resnet, stages

BLOCK_NAMES = ("se", "cbam", "bam", "nonlocal")
SMALL = (1, 3, 32, 48)  # an example that is quick


def of_torchvision(name, **options):
    return torchvision.models.get_model(name, weights=None, num_classes=10, **options)


def small_convnext():
    setting = convnext.CNBlockConfig
    return convnext.ConvNeXt([setting(16, 24, 1), setting(24, 32, 2), setting(32, None, 1)],
                             layer_scale=1.0, num_classes=10)  # fmt: skip


def small_vgg():
    with torch.device("meta"):  # its classifier has 120 million weights
        network = vgg.VGG(nn.Identity(), init_weights=False)
    network.features = vgg.make_layers([16, "M", 32, "M", 32, 32, "M", 64, "M"], batch_norm=True)
    network.classifier = nn.Linear(64 * 49, 10)
    return network


def small_densenet():
    return densenet.DenseNet(16, (2, 2, 2, 2), 32, num_classes=10)


def small_efficientnet():
    rows = [(1, 3, 1, 16, 16, 1), (4, 3, 2, 16, 24, 2), (4, 5, 2, 24, 32, 2)]
    sizes = [efficientnet.MBConvConfig(*row) for row in rows]
    return efficientnet.EfficientNet(sizes, dropout=0.1, last_channel=64, num_classes=10)


def small_regnet():
    sizes = regnet.BlockParams([1, 1, 2, 1], [16, 24, 32, 48], [8] * 4, [1.0] * 4, [2] * 4)
    return regnet.RegNet(sizes, num_classes=10)


def small_resnetv2():
    return of_timm("resnetv2_50", layers=(1, 1, 1, 1), channels=(32, 48, 64, 80))


def small_fcn():
    body = IntermediateLayerGetter(small_resnet(), {"layer4": "out"})
    return segmentation.FCN(body, segmentation.fcn.FCNHead(512, 3))


def small_detection():
    layers = {f"layer{number}": str(number) for number in (1, 2, 3, 4)}
    return detection.backbone_utils.BackboneWithFPN(small_resnet(), layers, [64, 128, 256, 512], 16)


small_resnet = functools.partial(small_torchvision, torchvision.models.resnet.BasicBlock)
of_timm = functools.partial(timm.create_model, num_classes=10)
# a network; its stages; residual branches; whether its pooling can be replaced
NETWORKS = {
    "resnet (this package)": (lambda: resnet(8, 8), 3, 3, True),
    "fast (this package)": (lambda: fast_resnet(8), 3, 3, True),
    "ResNet": (small_resnet, 4, 5, True),
    "MobileNetV2": (lambda: of_torchvision("mobilenet_v2", width_mult=0.35), 5, 10, False),
    "MobileNetV3": (lambda: of_torchvision("mobilenet_v3_small"), 5, 6, True),
    "EfficientNet": (small_efficientnet, 3, 3, True),
    "ConvNeXt": (small_convnext, 3, 4, True),
    "RegNet": (small_regnet, 4, 5, True),
    "DenseNet": (small_densenet, 4, 0, False),
    "VGG": (small_vgg, 4, 0, False),
    "FCN": (small_fcn, 4, 5, False),
    "LR-ASPP": (lambda: segmentation.lraspp_mobilenet_v3_large(
        weights=None, weights_backbone=None), 4, 10, False),
    "Faster R-CNN's backbone": (small_detection, 4, 5, False),
    "timm ResNet": (lambda: of_timm("test_resnet"), 4, 4, True),
    "timm ResNet v2": (small_resnetv2, 4, 4, True),
    "timm MobileNetV3": (lambda: of_timm("mobilenetv3_small_050"), 4, 7, True),
    "timm EfficientNet": (lambda: of_timm("efficientnet_b0", drop_path_rate=0.1), 5, 9, True),
    "timm ConvNeXt": (lambda: of_timm("test_convnext"), 4, 9, True),
    "timm RegNet": (lambda: of_timm("regnetx_002"), 4, 13, True),
    "timm DenseNet": (lambda: of_timm("densenet121", growth_rate=16, block_config=(2, 2, 2, 2)),
                      4, 0, True),
    "timm features": (lambda: timm.create_model("test_resnet", features_only=True), 4, 4, False),
}  # fmt: skip
every_family = pytest.mark.parametrize("name", NETWORKS)


@functools.cache
def original(name):
    torch.manual_seed(0)
    return randomise_norms(NETWORKS[name][0]()).eval()


def made(name):
    return copy.deepcopy(original(name))


def answers(network, images):
    """The answers as one row of numbers, whatever they come in."""
    found = network(images)
    if isinstance(found, dict):
        found = list(found.values())
    return torch.cat([one.flatten() for one in (found if isinstance(found, list) else [found])])


@functools.cache
def some_images():
    return torch.rand(2, 3, 32, 64, generator=torch.Generator().manual_seed(0))


def assert_no_old_weight_is_skipped(name, network):
    """A state saved before the insertions loads, every tensor of it into the tensor it was."""
    before = original(name)
    state = {
        key: torch.full_like(tensor, number % 100 + 1)
        for number, (key, tensor) in enumerate(before.state_dict().items())
    }
    paths = tuple(f"{placement.path}." for placement in network.placements)
    blocks = {k for k in network.state_dict() if k.startswith(paths)}
    outcome = network.load_state_dict(state, strict=False)
    assert outcome.unexpected_keys == []
    assert {k for k in outcome.missing_keys if not k.endswith("num_batches_tracked")} <= blocks
    loaded = [t for k, t in network.state_dict().items() if k not in blocks]
    assert sorted(t.flatten()[0].item() for t in loaded) == sorted(
        t.flatten()[0].item() for t in state.values()
    )


@every_family
@pytest.mark.parametrize("block", BLOCK_NAMES)
def test_a_block_after_the_stages(name, block):
    network, count = made(name), NETWORKS[name][1]
    insert(network, block, "stage", example=SMALL)
    skipped = block in ("bam", "nonlocal")
    assert len(network.placements) == len(stages(network)) - skipped == count - skipped
    network.train()
    answers(network, some_images()).square().sum().backward()
    for placement in network.placements:
        module = network.get_submodule(placement.path)
        assert type(module) is BLOCKS[block]
        assert any((p.grad != 0).any() for p in module.parameters()), placement.path
    with capture(network.eval()) as maps:
        network(some_images())
    for placement in network.placements:
        inside = [one for path, one in maps.items() if path.startswith(f"{placement.path}.")]
        assert inside and all(one.maps for one in inside)
    assert_no_old_weight_is_skipped(name, network)


@every_family
def test_blocks_everywhere_start_as_the_identity_and_old_weights_load(name):
    network, branches = made(name), NETWORKS[name][2]
    expected = answers(network, some_images())
    for block in ("cbam", "nonlocal"):
        insert(network, block, "stage", start="identity", example=SMALL)
        if branches:
            insert(network, block, "residual", start="identity", example=SMALL)
    assert [p.at for p in network.placements].count("residual") == 2 * branches
    torch.testing.assert_close(answers(network, some_images()), expected, rtol=1e-6, atol=1e-6)
    for placement in network.placements:
        start = network.get_submodule(placement.path)
        assert type(start) is FromIdentity and type(start.block) is BLOCKS[placement.block]
        start.gain.data.fill_(0.5)
    assert not torch.allclose(answers(network, some_images()), expected)
    assert len(report(network).splitlines()) == len(network.placements) + 1
    assert_no_old_weight_is_skipped(name, network)


@every_family
def test_what_a_family_has_not_is_refused(name):
    network, (_, _, branches, pool) = made(name), NETWORKS[name]
    before = repr(network)
    if not branches:
        with pytest.raises(ValueError, match="no residual branches.*at='stage'"):
            insert(network, "se")
    if not pool:
        with pytest.raises(ValueError, match="pooling that can be replaced"):
            insert(network, "average_pool")
    assert repr(network) == before and not hasattr(network, "placements")
    if pool:
        insert(network, "multihead_pool")
        assert answers(network, some_images()).shape == answers(original(name), some_images()).shape
        with capture(network) as maps:
            network(some_images())
        assert len(maps) == 1
        insert(network, "average_pool")
        assert [p.block for p in network.placements] == ["average_pool"]


def test_a_whole_detector_takes_blocks_in_its_backbone():
    network = detection.fasterrcnn_mobilenet_v3_large_320_fpn(
        weights=None, weights_backbone=None, min_size=64, max_size=96
    ).eval()
    insert(network, "cbam", "stage", stages=(3, 5))
    assert [p.path for p in network.placements] == [
        "backbone.body.6.attention", "backbone.body.16.attention",
    ]  # fmt: skip
    with capture(network) as maps:
        network([torch.rand(3, 64, 96)])
    assert len(maps) == 4
