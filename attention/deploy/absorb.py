"""Where a constant can go: into the layer before it, or into all that read what it multiplies."""

from collections.abc import Callable
from functools import partial

import torch
from torch import nn
from torch.nn import functional as F

from attention.blocks import (
    ECA,
    SE,
    SSE,
    ChannelConv,
    ChannelMLP,
    DotProductGate,
    DotProductScore,
    PooledMLP,
    PositionConv,
    Product,
    Rescale,
    SpatialBranch,
    SpatialConv,
    SpatialGate,
    Sum,
)
from attention.deploy.readers import Watched

# Exactly these: what a subclass does with its weight is not known.
WRITERS = (nn.BatchNorm2d, nn.SyncBatchNorm, nn.GroupNorm, nn.Conv2d)
READERS = {nn.Conv2d: 4, nn.Linear: 2}  # and how many axes they read
# x ↦ a·x before or after these is the same, for a > 0, one a channel
COMMUTING = {
    F.relu, torch.relu, torch.relu_, torch.Tensor.relu, torch.Tensor.relu_, F.dropout,
    F.max_pool2d, F.avg_pool2d, F.adaptive_max_pool2d, F.adaptive_avg_pool2d,
    torch.flatten, torch.Tensor.flatten,
}  # fmt: skip
# x · gate(score(x)), and the layers with which a score begins
GATED = (Rescale, SE, ECA, SSE, SpatialGate, DotProductGate)
FIRST = {
    ChannelMLP: ("reduce",), PooledMLP: ("mlp.0",), PositionConv: ("conv",),
    SpatialBranch: ("convs.0",), DotProductScore: ("query", "key", "value"),
    ChannelConv: ("conv",), SpatialConv: ("conv",),
}  # fmt: skip
MIXES_CHANNELS = (ChannelConv, SpatialConv)  # one factor for all channels can be undone, no other


class Refused(Exception):
    """There is no place for this constant; the message says why."""


Step = Callable[[], None]


def places(
    watched: Watched, module: nn.Module, factor: torch.Tensor
) -> tuple[list[Step], list[nn.Module]]:
    """What to do so that `module` can be left out, which is called once, and gives factor · x.

    factor: (C,), float64. Gives the steps, and the layers that take the factor.

    Raises Refused, with the reason, when it can go nowhere.
    """
    try:
        return _into_writer(watched, module, factor)
    except Refused as before:
        try:
            return _into_readers(watched, module, factor)
        except Refused as after:
            raise Refused(f"{before}; {after}") from None


def _into_writer(watched, module, factor):
    """Into the norm or convolution whose output nobody reads but `module`.

    A gate that stands between the two is passed, if its score can be made to see what it saw.
    """
    steps = []
    while True:
        x = watched.calls[module][0][0][0]
        inside = set(module.modules())
        others = [read for read in watched.reads(x) if read.reader not in inside]
        if others or id(x) in watched.answers:
            raise Refused(f"{_who(watched, others)} its input too")
        before = watched.made_by(x)
        name = watched.paths.get(before)
        if before is None or len(watched.calls[before]) != 1:
            raise Refused("no layer of its own stands before it")
        if type(before) in WRITERS and _has_weight(before):
            return [*steps, partial(scale_output, before, factor)], [before]
        if type(before) not in GATED:
            raise Refused(f"{name} before it is a {type(before).__name__}, no norm or convolution")
        steps += [partial(scale_input, *undo) for undo in _undoing(watched, before, factor)]
        module = before


def _undoing(watched, block, factor):
    """The first layers of the block's score, and by what they undo `factor`."""
    found, scores = [], [block.score]
    for score in scores:
        if isinstance(score, Sum | Product):
            scores += score._modules.values()
            continue
        alike = torch.allclose(factor, factor[0], rtol=1e-6)
        if (
            type(score) not in FIRST
            or len(watched.calls[score]) != 1
            or not (factor > 0).all()
            or (type(score) in MIXES_CHANNELS and not alike)
        ):
            name = watched.paths[block]
            raise Refused(f"the {type(score).__name__} of {name} before it would see it")
        for name in FIRST[type(score)]:
            layer = score.get_submodule(name)
            inverse = 1 / (factor[:1] if type(score) in MIXES_CHANNELS else factor)
            found.append((layer, inverse))
    return found


def _into_readers(watched, module, factor):
    """Into the input channels of all layers that read what `module` gives."""
    if not (factor > 0).all():
        raise Refused("it is not positive")
    layers, waiting = [], [watched.calls[module][0][1]]
    for tensor in waiting:
        reads = watched.reads(tensor)
        if not reads or id(tensor) in watched.answers:
            raise Refused("its output is the network's")
        for read in reads:
            layer = read.reader
            fits = tensor.ndim == READERS.get(type(layer)) and _has_weight(layer)
            if fits and len(watched.calls[layer]) == 1:
                layers += [] if layer in layers else [layer]
            elif read.function in COMMUTING:
                if read.result is not tensor:  # not in place
                    waiting.append(read.result)
            else:
                raise Refused(f"{_who(watched, [read])} its output")
    return [partial(scale_input, layer, factor) for layer in layers], layers


def _has_weight(layer):
    """Whether it has a weight of its own, not one that is computed at each call."""
    return layer._parameters.get("weight") is not None


def _who(watched, reads):
    if not reads:
        return "the network's answer holds"
    path = watched.paths.get(reads[0].reader) or "the network"
    return f"`{reads[0].function.__name__}` in {path} reads"


@torch.no_grad()
def scale_output(layer: nn.Module, factor: torch.Tensor) -> None:
    """layer(x) becomes factor · layer(x); factor (C,)."""
    _multiply(layer, "weight", factor.reshape(-1, *[1] * (layer.weight.ndim - 1)))
    if layer.bias is not None:
        _multiply(layer, "bias", factor)


@torch.no_grad()
def scale_input(layer: nn.Module, factor: torch.Tensor) -> None:
    """layer(x) becomes layer(factor · x); factor (C,) or (1,).

    A linear layer after `flatten` has several inputs for each channel, one after the other.
    """
    groups, weight = getattr(layer, "groups", 1), layer.weight
    if len(factor) > 1:
        factor = factor.repeat_interleave(weight.shape[1] * groups // len(factor))
        factor = factor.reshape(groups, -1).repeat_interleave(len(weight) // groups, dim=0)
        factor = factor.reshape(weight.shape[:2] + (1,) * (weight.ndim - 2))
    _multiply(layer, "weight", factor)


def _multiply(layer, name, factor):
    """A new parameter: what else holds the old one keeps it."""
    old = getattr(layer, name)
    values = old.double() * factor.to(old.device)
    setattr(layer, name, nn.Parameter(values.to(old.dtype), old.requires_grad))
