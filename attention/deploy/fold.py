"""`fold`: a gate that is constant goes into the layer before it, and costs nothing any more.

Huang, Zhong, et al., "ASR: Attention-alike Structural Re-parameterization", arXiv 2304.06345, 2023:
what a channel gate says drifts to a constant in training, the same for every image.
"""

import contextlib
import copy
import dataclasses
import functools
import math
from collections.abc import Iterable, Iterator

import torch
from torch import nn

from attention.blocks import BLOCKS, CBAM, Gate, Map, Parallel, Rescale
from attention.checks import below_one
from attention.cost import parameters
from attention.deploy.absorb import Refused, places
from attention.deploy.readers import watch
from attention.explain import GateValues, gate_values, image_batches


@dataclasses.dataclass
class Fold:
    """What became of one attention map.

    path: of the module that gives it, as in the dict of `capture`. block: the class it belongs to.
    moved: how far the gate is from its mean, see `attention.constancy`; nan for what is no gate.
    folded: whether it is gone. note: the layers that hold its mean now, or why it was left.
    """

    path: str
    block: str
    moved: float
    folded: bool
    note: str


def fold(
    network: nn.Module,
    images: torch.Tensor | Iterable[torch.Tensor],
    tolerance: float = 0.01,
    batch_size: int = 100,
) -> nn.Module:
    """A copy of the network without the gates that it can do without.

    A gate becomes its mean over these images, one number a channel. The mean is multiplied into the
    weight and bias of the norm or convolution before the block, or, where that is read by something
    else too (after a stage, by the residual addition), into the input channels of the layers that
    read what the block gives. In the block's place there is nn.Identity; of a CBAM of which one
    gate is left, the other half.

    network: in eval mode; it stays as it is. images: (N, 3, H, W), normalised, or batches of them,
        all of one size; they go through `batch_size` at a time. Not those of the final test.
    tolerance: the share of these images that may get another answer (another largest logit) than
        from the network as it was, at least 0 and below 1: so no more than this share is lost in
        accuracy on them. Gates are tried one after the other, the one that moves least first; one
        that would take the share above the tolerance is left. So a gate that moves folds too, if
        the answers do not depend on it.

    Left, whatever the tolerance: blocks that mix positions and poolings, which multiply by nothing;
    blocks that do more than x times a number from their gates; gates with nowhere to go. The
    network gets a list `folded` with one `Fold` for each map, and `fold_report` prints it.

    Raises ValueError for a network without gates, or in training mode.
    """
    below_one("tolerance", tolerance)
    parts = image_batches(images, batch_size)
    values = gate_values(network, parts)
    answers = _answers(network, parts).argmax(1)
    folded = copy.deepcopy(network)
    units, pairs = _opened(folded, _units(folded, values))
    waiting = sorted(units, key=lambda unit: unit.moved)
    while True:
        tried, waiting = waiting, []
        for unit in tried:
            try:
                _try(unit, folded, parts, answers, tolerance)
            except Refused as why:
                unit.note = str(why)
                waiting.append(unit)
        if not waiting or not any(unit.folded for unit in tried):
            break  # else there may be a way now, where a gate stood in it
    for path, (cbam, halves) in pairs.items():
        left = [half for half in halves if not isinstance(half, nn.Identity)]
        _put(folded, path, cbam if len(left) == 2 else left[0] if left else nn.Identity())
    for placement in getattr(network, "placements", []):
        module = folded.get_submodule(placement.path)
        if isinstance(module, nn.Sequential) and all(type(m) is nn.Identity for m in module):
            _put(folded, placement.path, nn.Identity())  # a hybrid of which nothing is left
    _check(network, folded, parts[:1], units)
    folded.placements = [
        dataclasses.replace(placement, parameters=parameters(module))
        for placement in getattr(network, "placements", [])
        if not isinstance(module := folded.get_submodule(placement.path), nn.Identity)
    ]
    folded.folded = _records(network, units)
    return folded


def fold_report(network: nn.Module) -> str:
    """What `fold` did with each map of this network, a line a map, as text."""
    rows = getattr(network, "folded", None)
    if rows is None:
        raise ValueError("network must come from `fold`: this one has no list `folded`")
    width = max(len(row.path) for row in rows)
    lines = [
        f"{row.path:{width}} {row.block:12} moved {100 * row.moved:5.1f} %  "
        f"{'into' if row.folded else 'left:'} {row.note}"
        for row in rows
    ]
    return "\n".join([*lines, f"{sum(row.folded for row in rows)} of {len(rows)} folded"])


@dataclasses.dataclass
class Unit:
    """What folds in one piece: a module x → x · number, and the gates that the number comes from.

    gates: {path in the network that came in: (the gate, what it did over the images)}.
    """

    module: nn.Module
    gates: dict[str, tuple[nn.Module, GateValues]]
    folded: bool = False
    note: str = ""

    @property
    def moved(self) -> float:
        return max(values.moved for _, values in self.gates.values())

    @contextlib.contextmanager
    def held(self) -> Iterator[None]:
        """For the `with` block, each gate gives its mean for every image and position."""
        handles = [
            gate.register_forward_hook(functools.partial(_instead, values.constant))
            for gate, values in self.gates.values()
        ]
        try:
            yield
        finally:
            for handle in handles:
                handle.remove()


def _instead(mean, module, inputs, output):
    return mean.to(output).expand_as(output)


def _units(network, values):
    units = {}
    for path, found in values.items():
        module = _applier(network, path)
        unit = units.setdefault(module, Unit(module, {}))
        unit.gates[path] = (network.get_submodule(path), found)
    return list(units.values())


def _applier(network, path):
    """The module that applies a gate: the outermost block around it; of a Sequential, its child."""
    names = path.split(".")
    around = [".".join(names[:count]) for count in range(len(names))]
    modules = [network.get_submodule(name) for name in around]
    placed = {placement.path for placement in getattr(network, "placements", [])}
    blocks = (Rescale, Parallel, *(cls for cls in BLOCKS.values() if isinstance(cls, type)))
    first = next(
        (
            place
            for place, (name, module) in enumerate(zip(around, modules, strict=True))
            if name in placed or isinstance(module, blocks)
        ),
        len(modules) - 1,
    )
    plain = (m for m in modules[first:] if type(m).forward is not nn.Sequential.forward)
    return next(plain, modules[-1])


def _opened(network, units):
    """CBAM as what it is, two gates one after the other, so that each may fold alone.

    Gives the units, and {path: (the CBAM, its halves)}.
    """
    paths = {module: path for path, module in network.named_modules()}
    found, pairs = [], {}
    for unit in units:
        cbam = unit.module
        if type(cbam) is not CBAM or not paths[cbam]:
            found.append(unit)
            continue
        halves = [Rescale(cbam.channel), Rescale(cbam.spatial)]
        halves[0].gate, halves[1].gate = cbam.channel_gate, cbam.spatial_gate
        pairs[paths[cbam]] = (cbam, nn.Sequential(*halves))
        for half, (path, gate) in zip(halves, unit.gates.items(), strict=True):
            found.append(Unit(half, {path: gate}))
    for path, (_, pair) in pairs.items():
        _put(network, path, pair)
    return found, pairs


def _try(unit, network, parts, answers, tolerance):
    """Fold one unit, if the answers allow it. Raises Refused where there is no place for it."""
    watched = watch(network, parts[0][:1])
    steps, where = places(watched, unit.module, _factor(unit, watched))
    with unit.held():
        others = (_answers(network, parts).argmax(1) != answers).double().mean()
    if others > tolerance:
        unit.note = f"{100 * others:.2f} % of the answers would be others"
        return
    for step in steps:
        step()
    _put(network, watched.paths[unit.module], nn.Identity())
    unit.folded, unit.note = True, where


@torch.no_grad()
def _factor(unit, watched):
    """(C,): what the module multiplies its input by, while its gates are held at their means."""
    calls = watched.calls[unit.module]
    if len(calls) != 1 or len(calls[0][0]) != 1:
        raise Refused(f"it is called {len(calls)} times in a pass, not once with one tensor")
    ((x,), output) = calls[0]
    if x.ndim != 4 or getattr(output, "shape", None) != x.shape:
        raise Refused("what it gives has not the shape of what it gets")
    noise = torch.randn(x.shape, generator=torch.Generator().manual_seed(0)).to(x)
    with unit.held():
        nothing, one, some = map(unit.module, (torch.zeros_like(x), torch.ones_like(x), noise))
    factor = one.double().mean((0, 2, 3))
    rounding = torch.finfo(x.dtype).eps ** 0.5
    product = factor[:, None, None] * noise.double()
    if nothing.any() or not torch.allclose(some.double(), product, rounding, rounding):
        raise Refused("it does more than multiply by its gate")
    return factor


@torch.no_grad()
def _answers(network, parts):
    logits = [network(part) for part in parts]
    for one in logits:
        if not isinstance(one, torch.Tensor) or one.ndim < 2:
            found = tuple(one.shape) if isinstance(one, torch.Tensor) else type(one).__name__
            raise ValueError(f"network must answer with logits (N, classes, …), got {found}")
    return torch.cat(logits)


def _put(network, path, module):
    parent, _, name = path.rpartition(".")
    setattr(network.get_submodule(parent), name, module.eval())


def _check(network, folded, parts, units):
    """Raise a RuntimeError unless the network says what it says with the gates held."""
    with contextlib.ExitStack() as stack:
        for unit in units:
            if unit.folded:
                gates = {
                    path: (network.get_submodule(path), values)
                    for path, (_, values) in unit.gates.items()
                }
                stack.enter_context(dataclasses.replace(unit, gates=gates).held())
        expected = _answers(network, parts).double()
    off = (_answers(folded, parts) - expected).abs().max()
    if not off <= 0.01 * expected.abs().max():
        raise RuntimeError(
            f"folding went wrong in this network: logits are off by {off:.3g}, and should be those "
            "of the network with its gates held at their means"
        )


def _records(network, units):
    """One `Fold` for each map of the network that came in, but those inside the score of a gate."""
    rows, appliers = {}, set()
    for unit in units:
        for path, (_, values) in unit.gates.items():
            block = _applier(network, path)
            appliers.update(block.modules())
            rows[path] = Fold(path, type(block).__name__, values.moved, unit.folded, unit.note)
    for path, module in network.named_modules():
        if isinstance(module, Map) and module not in appliers:
            name = type(_applier(network, path)).__name__
            note = "it did not run" if isinstance(module, Gate) else "it multiplies by no gate"
            rows[path] = Fold(path, name, math.nan, False, note)
    return [rows[path] for path, _ in network.named_modules() if path in rows]
