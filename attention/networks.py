"""The networks, and `insert`, which puts a block into anybody's residual network.

Both networks are a `Network`: stem → stages of residual blocks → pooling → classifier. A residual
block keeps a place for attention at the end of its branch, before the addition:

    out = activation(shortcut(x) + attention(branch(x)))
"""

import contextlib
import dataclasses
import functools
from collections import OrderedDict
from collections.abc import Iterable

import torch
from torch import nn
from torch.nn import functional as F
from torch.utils.flop_counter import FlopCounterMode

from attention.blocks import BLOCKS
from attention.checks import at_least, at_least_one, one_of


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
}


@dataclasses.dataclass(frozen=True)
class Placement:
    """One inserted block: its name, its path in the network, its channels, its parameters."""

    block: str
    path: str
    channels: int
    parameters: int


def insert(network, block, at=None, stages=None, **options):
    """Put an attention block into a residual network, and return the network.

    network: this package's, or torchvision's resnet*, resnext* and wide_resnet*. It is changed in
        place: its weights, device and dtype stay. `report(network)` says what was added where.
        Load saved weights before: in torchvision's networks the last norm of a branch gets a
        longer name, "bn2.weight" becoming "bn2.before.weight".
    block: a name from `BLOCKS`, or a callable channels → module. `options` go to it.
    at: "residual": on the branch of every residual block, before the addition; "stage": after
        each stage; None: where the block's paper puts it.
    stages: which stages, counted from 1; None: all, or the paper's (BAM: all but the last).

    Raises ValueError for an unknown block, place or stage, and for a network that it does not
    know; then the network is as it was.
    """
    make = BLOCKS[one_of("block", block, BLOCKS)] if isinstance(block, str) else block
    if isinstance(make, nn.Module) or not callable(make):
        raise ValueError(f"block must be a name or a callable channels → module, got {block!r}")
    at = one_of("at", at or getattr(make, "at", "residual"), ("residual", "stage"))
    all_stages = _stages(network)
    if stages is None:
        between = at == "stage" and getattr(make, "between_stages", False)
        stages = range(1, len(all_stages) + (0 if between else 1))
    wanted = list(stages) if isinstance(stages, Iterable) else [stages]
    known = range(1, len(all_stages) + 1)
    if not wanted or any(not isinstance(one, int) or one not in known for one in wanted):
        raise ValueError(
            f"stages must be some of 1 to {len(all_stages)} for this network, got {stages!r}"
        )
    name = block if isinstance(block, str) else getattr(block, "__name__", type(block).__name__)
    paths = {module: path for path, module in network.named_modules()}
    added = []  # all blocks are made before the first is placed: an error leaves the network whole
    for number in sorted(set(wanted)):
        for owner, slot, channels in _places(all_stages[number - 1], at):
            like = next(owner.parameters())
            module = make(channels, **options)
            if not isinstance(module, nn.Module):
                raise ValueError(f"block must make a torch module, {name} made {module!r}")
            module = module.to(like.device, like.dtype).train(network.training)
            added.append((owner, slot, module, channels))
    seen, placements = set(network.modules()), []
    for owner, slot, module, channels in added:
        path = f"{paths[owner]}.{_append(owner, slot, module)}"
        # a callable may give the same module twice: its parameters are added once
        count = 0 if module in seen else parameters(module)
        placements.append(Placement(name, path, channels, count))
        seen.add(module)
    earlier = getattr(network, "placements", [])
    network.placements = [*(_moved(network, one) for one in earlier), *placements]
    return network


def report(network):
    """Where `insert` put blocks into this network, and the parameters they added, as text."""
    placements = getattr(network, "placements", [])
    if not placements:
        return "no attention blocks inserted"
    lines = [
        f"{p.block:10} {p.path:28} {p.channels:5} channels {p.parameters:+9,}" for p in placements
    ]
    added, total = sum(p.parameters for p in placements), parameters(network)
    share = 100 * added / (total - added)
    return "\n".join([*lines, f"{added:+,} parameters ({share:.2f} %), {total:,} in all"])


def _stages(network):
    """The stages of residual blocks, first to last."""
    if isinstance(network, Network):
        return list(network.stages)
    layers = [getattr(network, f"layer{number}", None) for number in (1, 2, 3, 4)]
    if all(isinstance(layer, nn.Sequential) and hasattr(layer[0], "bn2") for layer in layers):
        return layers
    raise ValueError(
        "network must be this package's, or torchvision's resnet*, resnext* or wide_resnet*; "
        f"got {type(network).__name__}"
    )


def _places(stage, at):
    """(owner, the slot in it after which attention goes, channels) for each place in a stage."""
    blocks = [b for b in stage if isinstance(b, Residual) or hasattr(b, "bn2")]
    ends = []
    for residual in blocks:
        if isinstance(residual, Residual):
            ends.append((residual, "attention", residual.channels))
        else:  # torchvision: BasicBlock ends its branch with bn2, Bottleneck with bn3
            last = "3" if hasattr(residual, "conv3") else "2"
            channels = getattr(residual, f"conv{last}").out_channels
            ends.append((residual, f"bn{last}", channels))
    return ends if at == "residual" else [(stage, None, ends[-1][2])]


class Chain(nn.Sequential):
    """What stood at the end of a branch, as `before`, and the blocks that were put behind it."""


def _append(owner, slot, module):
    """Put `module` behind what stands in the owner's slot; return where it now is, as a path."""
    if slot is None:
        owner.append(module)
        return str(len(owner) - 1)
    before = getattr(owner, slot)
    if isinstance(before, nn.Identity):
        setattr(owner, slot, module)
        return slot
    if not isinstance(before, Chain):
        before = Chain(OrderedDict(before=before))
        setattr(owner, slot, before)
    name = "attention" if len(before) == 1 else f"attention{len(before)}"
    before.add_module(name, module)
    return f"{slot}.{name}"


def _moved(network, placement):
    """The placement of an earlier block, which a later one at the same place moves into a Chain."""
    if isinstance(network.get_submodule(placement.path), Chain):
        return dataclasses.replace(placement, path=f"{placement.path}.before")
    return placement


def parameters(module):
    """The number of trainable parameters of a module."""
    return sum(p.numel() for p in module.parameters() if p.requires_grad)


def flops(network, shape):
    """FLOPs of one forward pass for an input of `shape`, e.g. (1, 3, 32, 32), by torch's counter.

    A multiplication and an addition are two. Torch counts convolutions, matrix products and
    attention kernels; sums, norms and element-wise functions are not counted.
    """
    like = next(network.parameters())
    with evaluating(network), FlopCounterMode(display=False) as counter, torch.no_grad():
        network(torch.zeros(shape, device=like.device, dtype=like.dtype))
    return counter.get_total_flops()


@contextlib.contextmanager
def evaluating(network):
    """The network in eval mode for the `with` block; every module gets its own mode back."""
    modes = {module: module.training for module in network.modules()}
    network.eval()
    try:
        yield network
    finally:
        for module, mode in modes.items():
            module.training = mode


def whiten(network, images):
    """Compute the filters of the network's `Whitening` layers from normalised images, if any."""
    for module in network.modules():
        if isinstance(module, Whitening):
            module.fit(images)
