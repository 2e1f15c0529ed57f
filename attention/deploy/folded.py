"""What a folded network is: which gates are gone, and the structure without them."""

import dataclasses
from collections.abc import Iterable

from torch import nn

from attention.blocks import BLOCKS, CBAM, Gate, Parallel, Rescale
from attention.cost import parameters
from attention.networks import Chain


@dataclasses.dataclass(frozen=True)
class Fold:
    """What became of one attention map.

    path: of the module that gave it in the network that was folded, as in the dict of `capture`.
    block: the class that applied it. moved: how far the gate was from its mean, see
    `attention.constancy`; None for a map that is no gate. folded: whether it is gone.
    note: the layers that hold its mean now, or why it was left.
    """

    path: str
    block: str
    moved: float | None
    folded: bool
    note: str


def fold_report(network: nn.Module) -> str:
    """What `fold` did with each map of this network, a line a map, as text."""
    rows = getattr(network, "folded", None)
    if rows is None:
        raise ValueError("network must come from `fold`: this one has no list `folded`")
    width = max(len(row.path) for row in rows)
    lines = [
        f"{row.path:{width}} {row.block:12} "
        f"{'' if row.moved is None else f'moved {100 * row.moved:.1f} %':14}"
        f"{'into' if row.folded else 'left:'} {row.note}"
        for row in rows
    ]
    return "\n".join([*lines, f"{sum(row.folded for row in rows)} of {len(rows)} folded"])


def applier(network: nn.Module, gate: str) -> str:
    """The path of what applies a gate: the outermost block around it; of a Sequential, its child.

    A block is what `insert` placed, or one of this package's classes; else it is what holds the
    gate.
    """
    names = gate.split(".")
    around = [".".join(names[:count]) for count in range(len(names))]
    placed = {placement.path for placement in getattr(network, "placements", [])}
    blocks = (Rescale, Parallel, *(cls for cls in BLOCKS.values() if isinstance(cls, type)))
    modules = {path: network.get_submodule(path) for path in around}
    first = next((p for p in around if p in placed or isinstance(modules[p], blocks)), around[-1])
    inside = around[around.index(first) :]
    plain = (p for p in inside if type(modules[p]).forward is not nn.Sequential.forward)
    return next(plain, around[-1])


def halves(cbam: CBAM) -> tuple[Rescale, Rescale]:
    """CBAM as what it is, two gates one after the other, made of its own parts."""
    found = Rescale(cbam.channel), Rescale(cbam.spatial)
    found[0].gate, found[1].gate = cbam.channel_gate, cbam.spatial_gate
    return found


def put(network: nn.Module, path: str, module: nn.Module) -> None:
    """Set the module at a path."""
    parent, _, name = path.rpartition(".")
    setattr(network.get_submodule(parent), name, module)


def without(network: nn.Module, gates: Iterable[str]) -> None:
    """Take the blocks of these gates out, in place; weights are not touched.

    nn.Identity stands where a block was; of a CBAM, one of whose gates goes, the other half. A
    place that `insert` made for blocks that are all gone goes, too: then the network is built as it
    was before.

    Raises ValueError for what is no gate, and for a block that would have to go only in part.
    """
    taken = {}
    modules = dict(network.named_modules())
    for gate in gates:
        if not isinstance(modules.get(gate), Gate):
            raise ValueError(f"gates must be paths of gates in the network, got {gate!r}")
        taken.setdefault(applier(network, gate), set()).add(gate)
    for path, gone in taken.items():
        block = modules[path]
        inside = [f"{path}.{name}" for name, m in block.named_modules() if isinstance(m, Gate)]
        left = [place for place, gate in enumerate(inside) if gate not in gone]
        if left and not (type(block) is CBAM and len(left) == 1):
            raise ValueError(f"gates must have all of {', '.join(inside)}, or none")
        instead = halves(block)[left[0]] if left else nn.Identity()
        put(network, path, instead.train(block.training))
    placements, kept = getattr(network, "placements", []), []
    for placement in placements:
        module = network.get_submodule(placement.path)
        if _is_empty(module):
            put(network, placement.path, nn.Identity().train(module.training))
        else:
            kept.append(dataclasses.replace(placement, parameters=parameters(module)))
    for placement in reversed(placements):
        _shut(network, placement.path)
    network.placements = kept


def _is_empty(module):
    """Whether it does nothing; also a hybrid of which nothing is left."""
    if isinstance(module, nn.Sequential):
        return all(_is_empty(child) for child in module)
    return type(module) is nn.Identity


def _shut(network, path):
    """Take away what `insert` put at a path, if nothing is left there: the Chain, a stage's end."""
    parent, _, name = path.rpartition(".")
    place = dict(network.named_modules()).get(parent)
    if isinstance(place, Chain) and all(map(_is_empty, place.blocks)):
        put(network, parent, getattr(place, place.part))
    elif type(place) is nn.Sequential and name == str(len(place) - 1) and _is_empty(place[-1]):
        del place[-1]
