"""Where a network has its stages, its residual branches and its pooling: the one place that knows.

This package's networks have `stages` of `Residual` blocks and a `pool`. Networks built like
torchvision's ResNet have layer1 to layer4 of blocks whose branch ends with conv2, bn2 or with
conv3, bn3; torchvision's own have an `avgpool`.
"""

from typing import NamedTuple

from torch import nn
from torchvision.models import ResNet

from attention.networks.resnet import Network, Residual

# The place of the global pooling, for networks whose `forward` is known to use it.
POOL_SLOTS = {Network: "pool", ResNet: "avgpool"}


class Branch(NamedTuple):
    """The end of a residual branch: `owner.slot` comes last, and gives maps of `channels`."""

    owner: nn.Module
    slot: str
    channels: int


def stages(network: nn.Module) -> list[nn.Sequential]:
    """The stages of residual blocks, first to last.

    A ValueError for a network that is built in another way.
    """
    if isinstance(network, Network):
        found = list(network.stages)
    else:
        found = [getattr(network, f"layer{number}", None) for number in (1, 2, 3, 4)]
    if all(isinstance(stage, nn.Sequential) and branches(stage) for stage in found):
        return found
    raise ValueError(
        "network must be this package's, or torchvision's resnet*, resnext* or wide_resnet*, or "
        f"have layer1 to layer4 of blocks like theirs; got {type(network).__name__}"
    )


def branches(stage: nn.Module) -> list[Branch]:
    """The ends of the residual branches in a stage, in order; [] if it has none that are known."""
    return [end for block in stage.children() if (end := _branch(block))]


def _branch(block: nn.Module) -> Branch | None:
    if isinstance(block, Residual):
        return Branch(block, "attention", block.channels)
    parts = list(block._modules)
    for conv, norm in (("conv3", "bn3"), ("conv2", "bn2")):
        if conv in parts:
            layer = block.get_submodule(conv)
            # a norm that stands before its convolution (ResNet v2) does not end the branch
            known = isinstance(layer, nn.Conv2d) and norm in parts[parts.index(conv) :]
            return Branch(block, norm, layer.out_channels) if known else None
    return None


def pool_slot(network: nn.Module) -> str:
    """The name of the network's global pooling, between its last stage and its classifier.

    A ValueError for a network that is not known to use such a part when it runs: a pooling put
    there would change nothing, or something else.
    """
    for kind, slot in POOL_SLOTS.items():
        used = isinstance(network, kind) and all(
            getattr(getattr(network, name), "__func__", None) is getattr(kind, name)
            for name in ("forward", "_forward_impl")
            if hasattr(kind, name)
        )
        if used and slot in network._modules:
            return slot
    raise ValueError(
        "network must be this package's or torchvision's resnet*, resnext* or wide_resnet*, with "
        "their own forward, so that its pooling can be replaced (timm's networks and the bodies "
        f"of detectors pool elsewhere); got {type(network).__module__}.{type(network).__name__}"
    )


def last_stage(network: nn.Module) -> nn.Module | None:
    """What gives the last maps: of `stages`, or layer4 or features as torchvision has them.

    None for a network without such a part.
    """
    if isinstance(getattr(network, "stages", None), nn.Sequential):  # also timm's
        return network.stages[-1]
    for name in ("layer4", "features"):
        if isinstance(getattr(network, name, None), nn.Module):
            return getattr(network, name)
    return None
