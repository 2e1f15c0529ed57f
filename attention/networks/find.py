"""The places that `insert` was asked for: by what they are, or by the names of modules."""

import difflib
import re
from collections.abc import Iterable
from typing import Any

from torch import nn

from attention.checks import between
from attention.networks.anatomy import Place, branch_place, branches, groups, pool_place
from attention.networks.example import Observed
from attention.networks.places import Chain, bare


def places_at(
    network: nn.Module, at: str, stages: Any, skip_last: bool, observed: Observed
) -> list[Place]:
    """The places `at`, one of `PLACES`, in these stages; see `insert`."""
    if at == "pool":
        if stages is not None:
            raise ValueError(f"stages must be None for at='pool', got {stages!r}")
        return [pool_place(network, observed)]
    found = groups(network, observed)
    parents = _parents(network)
    numbers = _numbers(stages, len(found))
    if at == "stage":
        numbers = numbers or range(1, len(found) + (not skip_last))
        return [_end(found[number - 1][-1], parents) for number in numbers]
    inserted = _inserted(network)
    places = []
    for number in numbers or range(1, len(found) + 1):
        blocks = [b for part in found[number - 1] for b in branches(part) if b not in inserted]
        here = [branch_place(block, at, parents) for block in blocks]
        if None in here or (numbers and not here):
            raise ValueError(_no_such_place(network, at, number, blocks))
        places += here
    if not places:
        raise ValueError(_no_such_place(network, at, None, []))
    return places


def places_after(network: nn.Module, after: Any) -> tuple[tuple[str, ...], list[Place]]:
    """The names of the modules that `after` means, in the network's order, and the places there."""
    wanted = [after] if isinstance(after, str | re.Pattern) else after
    wanted = list(wanted) if isinstance(wanted, Iterable) else []
    if not wanted or not all(isinstance(one, str | re.Pattern) for one in wanted):
        raise ValueError(
            "after must be the name of a module, or a pattern of names, or several of them; got "
            f"{after!r}"
        )
    named = _named(network)
    found = set()
    for one in wanted:
        pattern = one if isinstance(one, re.Pattern) else _pattern(one)
        matching = [name for name, path in named.items() if pattern.fullmatch(name) or path == one]
        if not matching:
            near = difflib.get_close_matches(str(one), named, 5, 0.4) or list(named)[:5]
            raise ValueError(
                f"after must name modules of this {type(network).__name__}, as named_modules() "
                f"does: {one!r} names none; there are {', '.join(near)}, …"
            )
        found.update(matching)
    names = tuple(name for name in named if name in found)
    places = [named[name].rpartition(".") for name in names]
    return names, [Place(network.get_submodule(owner), slot) for owner, _, slot in places]


def _named(network: nn.Module) -> dict[str, str]:
    """{the name of a module before any block was inserted: its path now}; the blocks left out."""
    inserted, named = _inserted(network), {}
    for path, module in network.named_modules(remove_duplicate=False):
        owner, parts = network, []
        for part in path.split("."):
            if not isinstance(owner, Chain) or part != owner.part:
                parts.append(part)
            owner = owner.get_submodule(part)
        if path and module not in inserted:
            named.setdefault(".".join(parts), path)  # the Chain itself, before what it holds
    return named


def _parents(network: nn.Module) -> dict[nn.Module, tuple[nn.Module, str]]:
    """{module: (what holds it, its name there)}; a `Chain` counts as what stood there before it."""
    return {
        module: (owner, name)
        for owner in network.modules()
        if not isinstance(owner, Chain)
        for name, child in owner.named_children()
        for module in (child, bare(child))
    }


def _end(stage: nn.Module, parents: dict) -> Place:
    """The place after a stage: its own end, if it is a plain row of modules; else behind it."""
    if type(stage) is nn.Sequential:
        return Place(stage, "")
    return Place(*parents[stage])


def _numbers(stages: Any, count: int) -> list[int]:
    """The numbers of the stages that are wanted; [] for all."""
    if stages is None:
        return []
    wanted = list(stages) if isinstance(stages, Iterable) else [stages]
    try:
        chosen = sorted({between(1, count, "stages", number) for number in wanted})
    except ValueError:
        chosen = []
    if not chosen:
        raise ValueError(f"stages must be some of 1 to {count} for this network, got {stages!r}")
    return chosen


def placed(network: nn.Module) -> list[tuple[Any, nn.Module]]:
    """The earlier placements and their blocks, but for those that somebody has taken out."""
    there = dict(network.named_modules(remove_duplicate=False))
    return [(p, there[p.path]) for p in getattr(network, "placements", ()) if p.path in there]


def _inserted(network: nn.Module) -> set[nn.Module]:
    """All modules of the blocks that were inserted before."""
    return {module for _, block in placed(network) for module in block.modules()}


def _no_such_place(network: nn.Module, at: str, number: int | None, blocks: list) -> str:
    where = "" if number is None else f" in stage {number}"
    kinds = ", ".join(sorted({type(block).__name__ for block in blocks}))
    what = f"its residual blocks ({kinds}) have no such place that is known" if kinds else (
        f"it has no residual branches{where} that are known"
    )  # fmt: skip
    return (
        f"at must be a place that this {type(network).__name__} has, got {at!r}: {what}; "
        "at='stage', or after='…' with the names of modules, may do instead"
    )


def _pattern(glob: str) -> re.Pattern:
    """* is any text without a dot, ** any text at all."""
    parts = re.split(r"(\*\*|\*)", glob)
    known = {"**": ".*", "*": r"[^.]*"}
    return re.compile("".join(known.get(part) or re.escape(part) for part in parts))
