"""The networks that `insert` is tested with, and the table of them in docs/your_network.md.

`python tests/families.py` writes the table into docs/your_network.md.
"""

import functools
from collections.abc import Callable
from typing import NamedTuple

import page_part
import timm
import torch
import torchvision
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
)  # fmt: skip
from torchvision.models._utils import IntermediateLayerGetter

from attention.networks import fast_resnet, resnet

MARKS = "<!-- networks: written by python tests/families.py -->\n", "<!-- end of networks -->\n"


class Family(NamedTuple):
    """A small network of a kind: how many stages and residual branches it has; what else."""

    make: Callable[[], nn.Module]
    stages: int
    branches: int
    pool: bool = False  # its pooling can be replaced
    four: bool = False  # a block can also be put before, after and beside a branch


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


def small_mobilenet():
    return of_torchvision("mobilenet_v2", width_mult=0.35)


def small_lraspp():
    return segmentation.lraspp_mobilenet_v3_large(weights=None, weights_backbone=None)


def small_timm_efficientnet():
    return of_timm("efficientnet_b0", drop_path_rate=0.1)


def small_timm_densenet():
    return of_timm("densenet121", growth_rate=16, block_config=(2, 2, 2, 2))


def small_features():
    return timm.create_model("test_resnet", features_only=True)


def small_fcn():
    body = IntermediateLayerGetter(small_resnet(), {"layer4": "out"})
    return segmentation.FCN(body, segmentation.fcn.FCNHead(512, 3))


def small_detection():
    layers = {f"layer{number}": str(number) for number in (1, 2, 3, 4)}
    return detection.backbone_utils.BackboneWithFPN(small_resnet(), layers, [64, 128, 256, 512], 16)


small_resnet = functools.partial(small_torchvision, torchvision.models.resnet.BasicBlock)
of_timm = functools.partial(timm.create_model, num_classes=10)
FAMILIES = {
    "this package's `resnet`": Family(lambda: resnet(8, 8), 3, 3, pool=True, four=True),
    "this package's `fast_resnet`": Family(lambda: fast_resnet(8), 3, 3, pool=True, four=True),
    "torchvision ResNet, ResNeXt": Family(small_resnet, 4, 5, pool=True, four=True),
    "torchvision RegNet": Family(small_regnet, 4, 5, pool=True),
    "torchvision MobileNetV2": Family(small_mobilenet, 5, 10),
    "torchvision MobileNetV3": Family(
        lambda: of_torchvision("mobilenet_v3_small"), 5, 6, pool=True
    ),
    "torchvision EfficientNet": Family(small_efficientnet, 3, 3, pool=True),
    "torchvision ConvNeXt": Family(small_convnext, 3, 4, pool=True),
    "torchvision DenseNet": Family(small_densenet, 4, 0),
    "torchvision VGG": Family(small_vgg, 4, 0),
    "torchvision FCN, DeepLab, on a ResNet": Family(small_fcn, 4, 5, four=True),
    "torchvision LR-ASPP": Family(small_lraspp, 4, 10),
    "torchvision Faster R-CNN, its `backbone`": Family(small_detection, 4, 5, four=True),
    "timm ResNet": Family(lambda: of_timm("test_resnet"), 4, 4, pool=True, four=True),
    "timm ResNet v2": Family(small_resnetv2, 4, 4, pool=True),
    "timm RegNet": Family(lambda: of_timm("regnetx_002"), 4, 13, pool=True),
    "timm MobileNetV3": Family(lambda: of_timm("mobilenetv3_small_050"), 4, 7, pool=True),
    "timm EfficientNet": Family(small_timm_efficientnet, 5, 9, pool=True),
    "timm ConvNeXt": Family(lambda: of_timm("test_convnext"), 4, 9, pool=True),
    "timm DenseNet": Family(small_timm_densenet, 4, 0, pool=True),
    "timm ResNet with `features_only=True`": Family(small_features, 4, 4, four=True),
}


def table() -> str:
    """The families and the places that `insert` knows in them, in Markdown."""
    columns = {
        '`at="stage"`': lambda family: family.stages > 0,
        '`at="residual"`': lambda family: family.branches > 0,
        '`"pre"`, `"post"`, `"identity"`': lambda family: family.four,
        '`at="pool"`': lambda family: family.pool,
    }
    lines = [f"| | {' | '.join(columns)} |", f"|---|{':-:|' * len(columns)}"]
    for name, family in FAMILIES.items():
        cells = ("✓" if has(family) else "–" for has in columns.values())
        lines.append(f"| {name} | {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    page_part.write(MARKS, table())
