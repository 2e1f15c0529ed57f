"""`insert` puts an attention block into anybody's residual network, `report` says what it added."""

import dataclasses
from collections import OrderedDict
from collections.abc import Callable, Iterable
from typing import Any

from torch import nn

from attention.blocks import Block, known
from attention.checks import between, one_of
from attention.cost import parameters
from attention.networks.anatomy import Branch, branches, pool_slot
from attention.networks.anatomy import stages as stages_of
from attention.networks.places import Chain, FromIdentity

STARTS = (None, "identity")


@dataclasses.dataclass(frozen=True)
class Placement:
    """One inserted block: its name, its path in the network, its channels, its parameters.

    at, stages, after, start, options: what `insert` was called with.
    """

    block: str
    path: str
    channels: int
    parameters: int
    at: str | None = None
    stages: tuple[int, ...] | None = None
    after: tuple[str, ...] | None = None
    start: str | None = None
    options: dict[str, Any] = dataclasses.field(default_factory=dict)


def insert(
    network: nn.Module,
    block: str | Callable[..., nn.Module],
    at: str | None = None,
    stages: int | Iterable[int] | None = None,
    start: str | None = None,
    **options: Any,
) -> nn.Module:
    """Put an attention block, or attention pooling, into a residual network; return the network.

    network: this package's, or torchvision's resnet*, resnext* and wide_resnet*. It is changed in
        place: its weights, device, dtype and mode stay, and a state_dict that was saved before
        loads into it still, with strict=False for the block's own weights, which are not in it.
        `report(network)` says what was added where.
    block: a name from `BLOCKS` or `POOLINGS`, or a callable channels → module. `options` go to it.
    at: "residual": on the branch of every residual block, before the addition; "stage": after
        each stage; "pool": in place of the global pooling before the classifier; None: where the
        block's paper puts it.
    stages: which stages, counted from 1; None: all, or the paper's (BAM: all but the last).
    start: "identity": at first the network answers exactly as it did without the block, and learns
        from there (see `FromIdentity`); None: as the block starts by itself.

    Raises ValueError for an unknown block, place or stage, and for a network that it does not
    know; then, and when the block itself cannot be made, the network is as it was.
    """
    row = known(block)
    call = dict(at=at, stages=_plain(stages), after=None, start=start, options=options)
    at = one_of("at", row.at if at is None else at, ("residual", "stage", "pool"))
    if (at == "pool") != (row.at == "pool") and not (row.family == "own" and at == "pool"):
        raise ValueError(
            "a pooling makes one vector of a map, a block keeps the map's shape: a pooling goes to "
            f"at='pool' and a block elsewhere; got at={at!r} for block {block!r}"
        )
    if one_of("start", start, STARTS) and at == "pool":
        raise ValueError(
            f"start must be None at 'pool': block {block!r} takes the place of the pooling that "
            f"stands there, and has no identity to start from; got {start!r}"
        )
    places = _places(network, at, stages, row.skip_last)
    # all blocks are made before the first is placed: an error leaves the network whole
    modules = [_made(row, place, start, options).train(network.training) for place in places]
    paths = {module: path for path, module in network.named_modules()}
    seen, placements = set(paths), []
    for place, module in zip(places, modules, strict=True):
        path = f"{paths[place.owner]}.{_put(place, module, at)}".lstrip(".")
        # a callable may give the same module twice: its parameters are added once
        count = 0 if module in seen else parameters(module)
        placements.append(Placement(row.name, path, place.channels, count, **call))
        seen.add(module)
    network.insertions = [
        *getattr(network, "insertions", []),
        {"block": row.name if isinstance(block, str) else block} | call,
    ]
    earlier = getattr(network, "placements", [])
    if at == "pool":  # the pooling that stood there is gone
        earlier = [placement for placement in earlier if placement.path != placements[0].path]
    network.placements = [*(_moved(network, placement) for placement in earlier), *placements]
    return network


def report(network: nn.Module) -> str:
    """Where `insert` put blocks into this network, and the parameters they added, as text."""
    placements = getattr(network, "placements", [])
    if not placements:
        return "no attention blocks inserted"
    width = max(10, *(len(p.block) for p in placements))
    lines = [
        f"{p.block:{width}} {p.path:28} {p.channels:5} channels {p.parameters:+9,}"
        f"{', from the identity' if p.start else ''}"
        for p in placements
    ]
    added, total = sum(p.parameters for p in placements), parameters(network)
    share = 100 * added / (total - added)
    return "\n".join([*lines, f"{added:+,} parameters ({share:.2f} %), {total:,} in all"])


def _places(
    network: nn.Module, at: str, stages: int | Iterable[int] | None, skip_last: bool
) -> list[Branch]:
    """The places where blocks go; for a stage, its end, which has no slot."""
    all_stages = stages_of(network)
    ends = [Branch(stage, "", branches(stage)[-1].channels) for stage in all_stages]
    if at == "pool":
        if stages is not None:
            raise ValueError(f"stages must be None for at='pool', got {stages!r}")
        return [Branch(network, pool_slot(network), ends[-1].channels)]
    known = range(1, len(all_stages) + 1)
    if stages is None:
        stages = known[:-1] if at == "stage" and skip_last else known
    wanted = list(stages) if isinstance(stages, Iterable) else [stages]
    try:
        chosen = sorted({between(1, len(all_stages), "stages", number) for number in wanted})
    except ValueError:
        chosen = []
    if not chosen:
        raise ValueError(
            f"stages must be some of 1 to {len(all_stages)} for this network, got {stages!r}"
        )
    if at == "stage":
        return [ends[number - 1] for number in chosen]
    return [branch for number in chosen for branch in branches(all_stages[number - 1])]


def _made(row: Block, place: Branch, start: str | None, options: dict) -> nn.Module:
    """The block for a place, with the device and the dtype of what is there."""
    module = row.cls(place.channels, **options)
    if not isinstance(module, nn.Module):
        raise ValueError(f"block must make a torch module, {row.name} made {module!r}")
    if start == "identity":
        module = FromIdentity(module, place.channels)
    like = next(place.owner.parameters())
    return module.to(like.device, like.dtype)


def _plain(stages: Any) -> Any:
    """Stages as they are kept: a tuple, or None."""
    if stages is None or isinstance(stages, str) or not isinstance(stages, Iterable):
        return stages if stages is None else (stages,)
    return tuple(stages)


def _put(place: Branch, module: nn.Module, at: str) -> str:
    """Put `module` into its place, behind what stands there; return its path from the owner.

    A pooling takes the place of the one that stood there.
    """
    owner, slot, _ = place
    if not slot:
        owner.append(module)
        return str(len(owner) - 1)
    before = getattr(owner, slot)
    if at == "pool" or isinstance(before, nn.Identity):
        setattr(owner, slot, module)
        return slot
    if not isinstance(before, Chain):
        before = Chain(OrderedDict(before=before))
        setattr(owner, slot, before)
    name = "attention" if len(before) == 1 else f"attention{len(before)}"
    before.add_module(name, module)
    return f"{slot}.{name}"


def _moved(network: nn.Module, placement: Placement) -> Placement:
    """The placement of an earlier block, which a later one at the same place moves into a Chain."""
    if isinstance(network.get_submodule(placement.path), Chain):
        return dataclasses.replace(placement, path=f"{placement.path}.before")
    return placement
