"""The ResNet for CIFAR-10 of He et al. (2016), and the parts that other networks here share.

A `Network` is stem → stages of residual blocks → pooling → classifier. A residual block keeps a
place for attention at the end of its branch, before the addition:

    out = activation(shortcut(x) + attention(branch(x)))
"""

from collections.abc import Callable, Iterable

import torch
from torch import nn
from torch.nn import functional as F

from attention.checks import at_least, at_least_one, expect_kept_shape


class Residual(nn.Module):
    """activation(shortcut(x) + attention(branch(x))); attention is the identity until `insert`.

    (N, C, H, W) → (N, channels, H', W'), what branch and shortcut make of it.
    """

    def __init__(
        self,
        branch: nn.Module,
        channels: int,
        shortcut: nn.Module | None = None,
        activation: Callable[[], nn.Module] = nn.ReLU,
    ) -> None:
        super().__init__()
        self.branch = branch
        self.attention = nn.Identity()
        self.shortcut = shortcut or nn.Identity()
        self.activation = activation()
        self.channels = channels

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        branch = self.branch(x)
        attended = self.attention(branch)
        # else the sum would broadcast, and nobody would notice
        expect_kept_shape(type(self.attention).__name__, branch, attended)
        return self.activation(self.shortcut(x) + attended)


class Network(nn.Module):
    """(N, 3, H, W) → logits (N, classes), through `stem`, `stages`, `pool` and `classifier`.

    config: the name of the function that built it, and its arguments; None for one of one's own.
    """

    config: dict | None = None

    def __init__(
        self, stem: nn.Module, stages: Iterable[nn.Module], pool: nn.Module, classifier: nn.Module
    ) -> None:
        super().__init__()
        self.stem = stem
        self.stages = nn.Sequential(*stages)
        self.pool = pool
        self.classifier = classifier

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.classifier(self.pool(self.stages(self.stem(x))).flatten(1))


class PadShortcut(nn.Module):
    """Every `stride`-th position, and new channels of zeros: the shortcut without parameters.

    (N, C, H, W) → (N, C + new_channels, ⌈H / stride⌉, ⌈W / stride⌉)

    He et al. 2016, option A (section 3.3), as in their networks for CIFAR-10.
    """

    def __init__(self, new_channels: int, stride: int) -> None:
        super().__init__()
        self.new_channels, self.stride = new_channels, stride

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return F.pad(x[:, :, :: self.stride, :: self.stride], (0, 0, 0, 0, 0, self.new_channels))


def conv_norm(
    inputs: int, outputs: int, stride: int = 1, momentum: float = 0.1
) -> tuple[nn.Conv2d, nn.BatchNorm2d]:
    """3×3 convolution without bias (the norm has one), then BatchNorm."""
    return (
        nn.Conv2d(inputs, outputs, 3, stride, padding=1, bias=False),
        nn.BatchNorm2d(outputs, momentum=momentum),
    )


def resnet(depth: int = 20, width: int = 16, classes: int = 10) -> Network:
    """The ResNet for CIFAR-10: three stages of `width`, 2·`width` and 4·`width` channels.

    He et al., "Deep Residual Learning for Image Recognition", CVPR 2016, section 4.2. With
    depth=20, width=16: 269,722 parameters, the paper's 0.27 M.

    depth: 6n + 2, for n residual blocks a stage; a ValueError otherwise.
    """
    if at_least(8, "depth", depth) % 6 != 2:
        raise ValueError(f"depth must be 6n + 2 (8, 14, 20, 32, 44, 56, 110, …), got {depth}")
    at_least_one("width", width)
    at_least_one("classes", classes)
    stem = nn.Sequential(*conv_norm(3, width), nn.ReLU())
    inputs, stages = width, []
    for outputs in (width, 2 * width, 4 * width):
        stage = nn.Sequential()
        for _ in range((depth - 2) // 6):
            stride = 1 if outputs == inputs else 2
            branch = nn.Sequential(
                *conv_norm(inputs, outputs, stride), nn.ReLU(), *conv_norm(outputs, outputs)
            )
            shortcut = None if stride == 1 else PadShortcut(outputs - inputs, stride)
            stage.append(Residual(branch, outputs, shortcut))
            inputs = outputs
        stages.append(stage)
    network = Network(stem, stages, nn.AdaptiveAvgPool2d(1), nn.Linear(inputs, classes))
    for module in network.modules():
        if isinstance(module, nn.Conv2d):
            nn.init.kaiming_normal_(module.weight)
    arguments = {"depth": depth, "width": width, "classes": classes}
    network.config = {"name": "resnet", "arguments": arguments}
    return network
