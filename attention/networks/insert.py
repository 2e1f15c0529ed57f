"""`insert` puts an attention block into anybody's network, `report` says what it added."""

import dataclasses
import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

import torch
from torch import nn
from torch.nn.parameter import is_lazy

from attention.blocks import BLOCKS, POOLINGS, Block, known
from attention.checks import one_of
from attention.cost import parameters
from attention.networks.anatomy import PLACES, anatomy
from attention.networks.example import Maps, Observed, observe
from attention.networks.find import placed, places_after, places_at
from attention.networks.places import ChannelsLast, FromIdentity, Place, put_all

STARTS = (None, "identity")


@dataclasses.dataclass(frozen=True)
class Placement:
    """One inserted block: its name, its path in the network, its channels, its parameters.

    at, stages, after, start, options: what `insert` was called with; `after` as the names found.
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
    after: str | re.Pattern | Iterable[str | re.Pattern] | None = None,
    start: str | None = None,
    example: torch.Tensor | Sequence[int] | None = None,
    **options: Any,
) -> nn.Module:
    """Put an attention block, or attention pooling, into a network; return the network.

    network: changed in place: its weights, device, dtype and mode stay, and a state_dict that was
        saved before loads into it still, with strict=False for the block's own weights, which are
        not in it. `report(network)` says what was added where.
    block: a name from `BLOCKS` or `POOLINGS`, or a callable channels → module. `options` go to it.
    at: "residual": on the branch of every residual block, before the addition; "pre": before the
        branch; "post": after the addition and its activation; "identity": on the shortcut (the
        three others of figure 5 of Hu et al. 2018, for ResNets); "stage": after each stage;
        "pool": in place of the global pooling before the classifier; None: where the block's paper
        puts it. `networks.anatomy` knows whose stages and branches these are.
    stages: which stages, counted from 1; None: all, or the paper's (BAM: all but the last).
    after: in any network: the modules that a block shall follow, by their names in
        `network.named_modules()`: one, or several. In a name, * stands for any part without a dot
        ("layer*.0"), ** for any at all; or a compiled regular expression for the whole name.
    start: "identity": at first the network answers exactly as it did without the block, and learns
        from there (see `FromIdentity`); None: as the block starts by itself.
    example: images as the network takes them, or their shape; None: some are made. They are run
        through it before, to see what maps there are, and after, to see that every block is called.

    Raises ValueError for an unknown block, place, stage or module, for a network that it does not
    know, for a place that has no maps, and for a block that would not be called or does not keep
    the shape of its maps; then, and when the block itself cannot be made, the network is as it was.
    """
    row = known(block)
    stages = tuple(stages) if isinstance(stages, Iterator) else stages  # it is read twice
    _check(network, block, row, at, stages, after, start)
    wanted = row.at if at is None else at
    if after is None and wanted != "pool":
        anatomy(network)  # what is not known is said before any example is run
    observed = observe(network, example)
    if after is None:
        places = places_at(network, wanted, stages, row.skip_last, observed)
    else:
        after, places = places_after(network, after)
    found = [_maps(network, place, observed) for place in places]
    # all blocks are made before the first is placed: an error leaves the network whole
    modules = [_made(row, maps, start, options).train(network.training) for maps in found]
    earlier = placed(network)
    put_all(network, places, modules, observed, row.name)
    call = {"at": at, "stages": _plain(stages), "after": after, "start": start, "options": options}
    counted = {module for _, there in earlier for module in there.modules()}
    placements = []
    for maps, module in zip(found, modules, strict=True):
        # a callable may give the same module twice: its parameters are added once
        count = 0 if module in counted else parameters(module)
        placements.append((Placement(row.name, "", maps.channels, count, **call), module))
        counted.add(module)
    network.placements = _with_paths(network, [*earlier, *placements])
    call |= {
        "block": row.name if _named(row) else block,
        "example": None if example is None else tuple(observed.example.shape),
    }
    network.insertions = [*getattr(network, "insertions", ()), call]
    return network


def report(network: nn.Module) -> str:
    """Where `insert` put blocks into this network, and the parameters they added, as text."""
    placements = getattr(network, "placements", [])
    if not placements:
        return "no attention blocks inserted"
    width = max(10, *(len(p.block) for p in placements))
    longest = max(28, *(len(p.path) for p in placements))
    lines = [
        f"{p.block:{width}} {p.path:{longest}} {p.channels:5} channels {p.parameters:+9,}"
        f"{', from the identity' if p.start else ''}"
        for p in placements
    ]
    added, total = sum(p.parameters for p in placements), parameters(network)
    share = 100 * added / (total - added)
    return "\n".join([*lines, f"{added:+,} parameters ({share:.2f} %), {total:,} in all"])


def _check(network, block, row, at, stages, after, start) -> None:
    """Everything about the arguments that can be seen without the network's anatomy."""
    if not isinstance(network, nn.Module):
        raise ValueError(f"network must be a torch module, got {network!r}")
    if any(map(is_lazy, (*network.parameters(), *network.buffers()))):
        raise ValueError(
            f"network must have its weights: this {type(network).__name__} has lazy modules, which "
            "get them when they are first called; call it once"
        )
    compiled = any(getattr(m, "_compiled_call_impl", None) for m in network.modules())
    if compiled or isinstance(network, torch.jit.ScriptModule) or hasattr(network, "_orig_mod"):
        raise ValueError(
            "network must not be compiled yet: insert first, then compile; got a compiled "
            f"{type(network).__name__}"
        )
    one_of("at", at, (None, *PLACES))
    one_of("start", start, STARTS)
    if after is not None and (at is not None or stages is not None):
        raise ValueError(
            "after names the modules that blocks follow: at and stages must then be None, got "
            f"at={at!r}, stages={stages!r}"
        )
    pooling = "pool" in (at, row.at if at is None and after is None else None)
    if pooling != (row.at == "pool") and not (row.family == "own" and pooling):
        raise ValueError(
            "a pooling makes one vector of a map, a block keeps the map's shape: a pooling goes to "
            f"at='pool' and a block elsewhere; got at={at!r}, after={after!r} for block {block!r}"
        )
    if pooling and start is not None:
        raise ValueError(
            f"start must be None at 'pool': block {block!r} takes the place of the pooling that "
            f"stands there, and has no identity to start from; got {start!r}"
        )


def _maps(network: nn.Module, place: Place, observed: Observed) -> Maps:
    """The maps at a place; a ValueError that names the place if there are none."""
    maps = place.maps(observed)
    if isinstance(maps, str):
        paths = {module: path for path, module in network.named_modules()}
        where = f"{paths[place.owner]}.{place.slot}".strip(".")
        raise ValueError(f"no block can go to {where!r} of this {type(network).__name__}: {maps}")
    return maps


def _made(row: Block, maps: Maps, start: str | None, options: dict) -> nn.Module:
    """The block for a place, with the device and the dtype of the maps there."""
    module = row.cls(maps.channels, **options)
    if not isinstance(module, nn.Module):
        raise ValueError(f"block must make a torch module, {row.name} made {module!r}")
    if start == "identity":
        module = FromIdentity(module, maps.channels)
    if maps.last:
        module = ChannelsLast(module)
    return module.to(maps.device, maps.dtype)


def _with_paths(
    network: nn.Module, placements: list[tuple[Placement, nn.Module]]
) -> list[Placement]:
    """The placements with the paths that their blocks have now; those that are gone left out."""
    paths: dict[nn.Module, list[str]] = {}
    for path, module in network.named_modules(remove_duplicate=False):
        paths.setdefault(module, []).append(path)
    found = []
    for placement, module in placements:
        if module not in paths:  # a pooling that another one has replaced
            continue
        if placement.path not in paths[module]:
            free = set(paths[module]) - {p.path for p in found}  # one block in several places
            path = next((path for path in paths[module] if path in free), paths[module][0])
            placement = dataclasses.replace(placement, path=path)
        found.append(placement)
    return found


def _named(row: Block) -> bool:
    """Whether a block can be had by its name."""
    return (BLOCKS | POOLINGS).get(row.name) is row.cls


def _plain(stages: Any) -> tuple[int, ...] | None:
    """Stages as they are kept."""
    if stages is None:
        return None
    return tuple(sorted({int(n) for n in (stages if isinstance(stages, Iterable) else [stages])}))
