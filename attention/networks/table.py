"""The convolutional networks: the ResNet for CIFAR-10, and one that learns in a few epochs.

`NETWORKS` has these and the transformers of transformer.py by name. Both here are a `Network`:
stem → stages of residual blocks → pooling → classifier. A residual block keeps a place for
attention at the end of its branch, before the addition:

    out = activation(shortcut(x) + attention(branch(x)))
"""

import functools

import torch
from torch import nn
from torch.nn import functional as F

from attention.checks import at_least, at_least_one, one_of
from attention.networks.insertion import insert
from attention.networks.transformer import convvit, vit


class Residual(nn.Module):
    """activation(shortcut(x) + attention(branch(x))); attention is the identity until `insert`."""

    def __init__(self, branch, channels, shortcut=None, activation=nn.ReLU):
        super().__init__()
        self.branch = branch
        self.attention = nn.Identity()
        self.shortcut = shortcut or nn.Identity()
        self.activation = activation()
        self.channels = channels

    def forward(self, x):
        return self.activation(self.shortcut(x) + self.attention(self.branch(x)))


class Network(nn.Module):
    """(N, 3, H, W) → logits (N, classes), through `stem`, `stages`, `pool` and `classifier`."""

    def __init__(self, stem, stages, pool, classifier):
        super().__init__()
        self.stem = stem
        self.stages = nn.Sequential(*stages)
        self.pool = pool
        self.classifier = classifier

    def forward(self, x):
        return self.classifier(self.pool(self.stages(self.stem(x))).flatten(1))


class PadShortcut(nn.Module):
    """Every `stride`-th position, and new channels of zeros: the shortcut without parameters.

    He et al. 2016, option A, as in their CIFAR-10 networks.
    """

    def __init__(self, new_channels, stride):
        super().__init__()
        self.new_channels, self.stride = new_channels, stride

    def forward(self, x):
        return F.pad(x[:, :, :: self.stride, :: self.stride], (0, 0, 0, 0, 0, self.new_channels))


def conv_norm(inputs, outputs, kernel_size=3, stride=1, momentum=0.1):
    """Convolution without bias (the norm has one), then BatchNorm."""
    padding = kernel_size // 2
    return (
        nn.Conv2d(inputs, outputs, kernel_size, stride, padding, bias=False),
        nn.BatchNorm2d(outputs, momentum=momentum),
    )


def resnet(
    depth=20, width=16, classes=10, block=None, at=None, stages=None, stem="cifar", **options
):
    """The ResNet for CIFAR-10: three stages of `width`, 2·`width` and 4·`width` channels.

    He et al., "Deep Residual Learning for Image Recognition", CVPR 2016, section 4.2. With
    depth=20, width=16: 269,722 parameters, the paper's 0.27 M.

    depth: 6n + 2, for n residual blocks a stage. stem: "cifar", one 3×3 convolution, or
    "imagenet", 7×7 with stride 2 and a 3×3 max pooling, for images of 128 pixels and more.
    block, at, stages, options: see `insert`.
    """
    if at_least(8, "depth", depth) % 6 != 2:
        raise ValueError(f"depth must be 6n + 2 (8, 14, 20, 32, 44, 56, 110, …), got {depth}")
    at_least_one("width", width)
    if one_of("stem", stem, ("cifar", "imagenet")) == "cifar":
        layers = [*conv_norm(3, width), nn.ReLU()]
    else:
        layers = [*conv_norm(3, width, 7, stride=2), nn.ReLU(), nn.MaxPool2d(3, 2, padding=1)]
    inputs, groups = width, []
    for outputs in (width, 2 * width, 4 * width):
        group = nn.Sequential()
        for _ in range((depth - 2) // 6):
            stride = 1 if outputs == inputs else 2
            branch = nn.Sequential(
                *conv_norm(inputs, outputs, stride=stride), nn.ReLU(), *conv_norm(outputs, outputs)
            )
            shortcut = None if stride == 1 else PadShortcut(outputs - inputs, stride)
            group.append(Residual(branch, outputs, shortcut))
            inputs = outputs
        groups.append(group)
    network = Network(
        nn.Sequential(*layers),
        groups,
        nn.AdaptiveAvgPool2d(1),
        nn.Linear(inputs, at_least_one("classes", classes)),
    )
    for module in network.modules():
        if isinstance(module, nn.Conv2d):
            nn.init.kaiming_normal_(module.weight)
    return _with(network, block, at, stages, options)


class Whitening(nn.Conv2d):
    """2×2 convolution to 24 channels, 12 filters and their negatives, that decorrelates the pixels.

    (N, 3, H, W) → (N, 24, H − 1, W − 1)

    Neighbouring pixels and the three colours are nearly equal; a network sees more in what is left
    when that is taken out. `fit` computes the filters from training images: they are the
    eigenvectors of the covariance of 2×2 patches, divided by the square roots of their
    eigenvalues. They are not trained. Jordan, "94% on CIFAR-10 in 3.29 seconds on a single GPU",
    2024, section 3.1.
    """

    def __init__(self):
        super().__init__(3, 24, 2)
        self.weight.requires_grad_(False)

    @torch.no_grad()
    def fit(self, images, epsilon=5e-4):
        """Compute the filters from normalised images (N, 3, H, W)."""
        patches = images.unfold(2, 2, 1).unfold(3, 2, 1).permute(0, 2, 3, 1, 4, 5).reshape(-1, 12)
        covariance = (patches.T @ patches / len(patches)).double()
        values, vectors = torch.linalg.eigh(covariance)
        filters = (vectors / (values + epsilon).sqrt()).T.reshape(12, 3, 2, 2)
        self.weight.copy_(torch.cat([filters, -filters]))


class Scale(nn.Module):
    """x · factor, a constant."""

    def __init__(self, factor):
        super().__init__()
        self.factor = factor

    def forward(self, x):
        return x * self.factor

    def extra_repr(self):
        return f"{self.factor:.3g}"


def fast_resnet(width=64, classes=10, block=None, at=None, stages=None, **options):
    """A residual network that learns in a few epochs, on two CPU cores or a small GPU.

    Three stages of `width`, 4·`width` and 4·`width` channels. Each begins with a convolution and a
    2×2 max pooling, before the norm, which then has a quarter of the work, and goes on with one
    residual block of one convolution. After airbench94 (Jordan 2024, arXiv 2404.00498), with
    residual branches for attention to stand on, and from it: the whitening layer, convolutions
    that start as the identity, norms whose statistics follow within a few steps, and logits
    divided by 9, so that the first steps change the features and not only the classifier.

    block, at, stages, options: see `insert`.
    """
    at_least_one("width", width)
    inputs, groups = 24, []
    for outputs in (width, 4 * width, 4 * width):
        conv, norm = conv_norm(inputs, outputs, momentum=0.4)
        branch = nn.Sequential(*conv_norm(outputs, outputs, momentum=0.4))
        down = nn.Sequential(conv, nn.MaxPool2d(2), norm, nn.GELU())
        groups.append(nn.Sequential(down, Residual(branch, outputs, activation=nn.GELU)))
        nn.init.dirac_(conv.weight.data[:inputs])
        nn.init.dirac_(branch[0].weight)
        inputs = outputs
    network = Network(
        nn.Sequential(Whitening(), nn.GELU()),
        groups,
        nn.AdaptiveMaxPool2d(1),
        nn.Sequential(
            nn.Linear(inputs, at_least_one("classes", classes), bias=False), Scale(1 / 9)
        ),
    )
    return _with(network, block, at, stages, options)


def _with(network, block, at, stages, options):
    """`insert`, if there is a block; without one, nothing may be said about it."""
    if block is not None:
        return insert(network, block, at, stages, **options)
    if at is not None or stages is not None or options:
        raise ValueError(
            f"at, stages and options belong to a block, and block is None; got at={at!r}, "
            f"stages={stages!r}, options {options}"
        )
    return network


NETWORKS = {
    "fast": fast_resnet,
    **{f"resnet{depth}": functools.partial(resnet, depth) for depth in (20, 32, 44, 56, 110)},
    "vit": vit,
    "convvit": convvit,
}


def whiten(network, images):
    """Compute the filters of the network's `Whitening` layers from normalised images, if any."""
    for module in network.modules():
        if isinstance(module, Whitening):
            module.fit(images)
