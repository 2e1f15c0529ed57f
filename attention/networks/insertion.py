"""`insert` puts an attention block into anybody's residual network.

It knows a network by its parts: this package's have `stages` of blocks with a `branch` and a place
called `attention`, a `pool` and a `classifier`; torchvision's have layer1 to layer4 of blocks with
bn2 or bn3, avgpool and fc.
"""

import dataclasses
from collections import OrderedDict
from collections.abc import Iterable

from torch import nn

from attention.blocks import BLOCKS, POOLINGS, known
from attention.checks import one_of
from attention.cost import parameters


@dataclasses.dataclass(frozen=True)
class Placement:
    """One inserted block: its name, its path in the network, its channels, its parameters."""

    block: str
    path: str
    channels: int
    parameters: int


def mechanisms():
    """{name: class} of all that can be inserted by name."""
    return BLOCKS | POOLINGS


def insert(network, block, at=None, stages=None, **options):
    """Put an attention block, or attention pooling, into a residual network; return the network.

    network: this package's, or torchvision's resnet*, resnext* and wide_resnet*. It is changed in
        place: its weights, device and dtype stay. `report(network)` says what was added where.
        Load saved weights before: in torchvision's networks the last norm of a branch gets a
        longer name, "bn2.weight" becoming "bn2.before.weight".
    block: a name from `BLOCKS` or `POOLINGS`, or a callable channels → module. `options` go to it.
    at: "residual": on the branch of every residual block, before the addition; "stage": after
        each stage; "pool": in place of the global pooling before the classifier; None: where the
        block's paper puts it.
    stages: which stages, counted from 1; None: all, or the paper's (BAM: all but the last).

    Raises ValueError for an unknown block, place or stage, and for a network that it does not
    know; then the network is as it was.
    """
    row = known(block)
    at = one_of("at", at or row.at, ("residual", "stage", "pool"))
    if (at == "pool") != (row.at == "pool") and not (row.family == "own" and at == "pool"):
        raise ValueError(
            "a pooling makes one vector of a map, a block keeps the map's shape: a pooling goes to "
            f"at='pool' and a block elsewhere; got at={at!r} for block {block!r}"
        )
    places = _all_places(network, at, stages, row.skip_last)
    paths = {module: path for path, module in network.named_modules()}
    added = []  # all blocks are made before the first is placed: an error leaves the network whole
    for owner, slot, channels in places:
        like = next(owner.parameters())
        module = row.cls(channels, **options)
        if not isinstance(module, nn.Module):
            raise ValueError(f"block must make a torch module, {row.name} made {module!r}")
        module = module.to(like.device, like.dtype).train(network.training)
        added.append((owner, slot, module, channels))
    seen, placements = set(network.modules()), []
    for owner, slot, module, channels in added:
        path = f"{paths[owner]}.{_place(owner, slot, module, at)}".lstrip(".")
        # a callable may give the same module twice: its parameters are added once
        count = 0 if module in seen else parameters(module)
        placements.append(Placement(row.name, path, channels, count))
        seen.add(module)
    earlier = getattr(network, "placements", [])
    if at == "pool":  # the pooling that stood there is gone
        earlier = [one for one in earlier if one.path != placements[0].path]
    network.placements = [*(_moved(network, one) for one in earlier), *placements]
    return network


def report(network):
    """Where `insert` put blocks into this network, and the parameters they added, as text."""
    placements = getattr(network, "placements", [])
    if not placements:
        return "no attention blocks inserted"
    width = max(10, *(len(p.block) for p in placements))
    lines = [
        f"{p.block:{width}} {p.path:28} {p.channels:5} channels {p.parameters:+9,}"
        for p in placements
    ]
    added, total = sum(p.parameters for p in placements), parameters(network)
    share = 100 * added / (total - added)
    return "\n".join([*lines, f"{added:+,} parameters ({share:.2f} %), {total:,} in all"])


def _stages(network):
    """The stages of residual blocks, first to last."""
    if isinstance(getattr(network, "stages", None), nn.Sequential):  # this package's
        return list(network.stages)
    layers = [getattr(network, f"layer{number}", None) for number in (1, 2, 3, 4)]
    if all(isinstance(layer, nn.Sequential) and hasattr(layer[0], "bn2") for layer in layers):
        return layers
    raise ValueError(
        "network must be this package's, or torchvision's resnet*, resnext* or wide_resnet*; "
        f"got {type(network).__name__}"
    )


def _all_places(network, at, stages, skip_last):
    """(owner, its slot, channels) for each place where a block or a pooling goes."""
    all_stages = _stages(network)
    if at == "pool":
        if stages is not None:
            raise ValueError(f"stages must be None for at='pool', got {stages!r}")
        slot = "pool" if hasattr(network, "pool") else "avgpool"
        return [(network, slot, _places(all_stages[-1], "stage")[0][2])]
    known = range(1, len(all_stages) + 1)
    if stages is None:
        stages = known[:-1] if at == "stage" and skip_last else known
    wanted = list(stages) if isinstance(stages, Iterable) else [stages]
    if not wanted or any(not isinstance(one, int) or one not in known for one in wanted):
        raise ValueError(
            f"stages must be some of 1 to {len(all_stages)} for this network, got {stages!r}"
        )
    return [
        place for number in sorted(set(wanted)) for place in _places(all_stages[number - 1], at)
    ]


def _places(stage, at):
    """(owner, the slot in it after which attention goes, channels) for each place in a stage."""
    ends = []
    for block in stage:
        if hasattr(block, "branch"):  # this package's Residual
            ends.append((block, "attention", block.channels))
        elif hasattr(block, "bn2"):  # torchvision: BasicBlock ends with bn2, Bottleneck with bn3
            last = "3" if hasattr(block, "conv3") else "2"
            ends.append((block, f"bn{last}", getattr(block, f"conv{last}").out_channels))
    return ends if at == "residual" else [(stage, None, ends[-1][2])]


class Chain(nn.Sequential):
    """What stood at the end of a branch, as `before`, and the blocks that were put behind it."""


def _place(owner, slot, module, at):
    """Put `module` into the owner's slot, behind what stands there; return its path from there.

    A pooling takes the place of the one that stood there.
    """
    if at == "pool":
        setattr(owner, slot, module)
        return slot
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
