"""`fold`: a gate that is constant goes into the layer before it, and costs nothing any more.

Zhong, Huang, Wen, Qin, Lin, "ASR: Attention-alike Structural Re-parameterization", arXiv
2304.06345, 2023 (ECCV 2024 as "Stripe Observation Guided Inference Cost-free Attention Mechanism"):
in training channel gates drift to constants, the same for every image. ASR trains them as constants
from the start; here they are trained as they are, and those that became constant are folded.
"""

import contextlib
import copy
import dataclasses
import functools
from collections import OrderedDict
from collections.abc import Iterable, Iterator

import torch
from torch import nn

from attention.blocks import CBAM, Gate, Map
from attention.checks import below_one
from attention.deploy.absorb import Refused, places
from attention.deploy.folded import Fold, applier, halves, put, without
from attention.deploy.readers import watch
from attention.explain import GateValues, gate_values, image_batches


def fold(
    network: nn.Module,
    images: torch.Tensor | Iterable[torch.Tensor],
    tolerance: float = 0.01,
    batch_size: int = 100,
) -> nn.Module:
    """A copy of the network without the gates that it can do without.

    A gate becomes its mean over these images and all positions, one number a channel, which is
    multiplied into the weight and bias of the norm or convolution before the block. Where something
    else reads that too (after a stage, the residual addition), it goes into the input channels of
    all layers that read what the block gives. nn.Identity stands in the block's place; of a CBAM
    either half may go. Where nothing is left of what `insert` put in, the network is built as it
    was before.

    network: in eval mode; it stays as it is. images: (N, 3, H, W), normalised, or batches of them,
        all of one size; a tensor goes through `batch_size` at a time. Not those of the final test.
    tolerance: the share of these images that may get another answer (another largest logit) than
        from the network as it was, at least 0 and below 1; so no more than this share is lost in
        accuracy on them. Gates are tried one by one, the one that moves least first (see
        `constancy`), and one that would take the share above the tolerance is left: a gate that
        moves folds too, if the answers do not depend on it.

    Left in any case: blocks that mix positions, and poolings, which multiply by no gate; blocks
    that do more with x than multiply it by gates; gates whose mean has nowhere to go. The copy has
    a list `folded`, a `Fold` for each map, with the reason; `fold_report` is its text.

    Raises ValueError for a network without gates, in training mode, or that gives no logits.
    """
    below_one("tolerance", tolerance)
    parts = image_batches(images, batch_size)
    values = gate_values(network, parts)
    answers = _answers(network, parts).argmax(1)
    folded = copy.deepcopy(network)
    units, blocks = _opened(folded, values)
    waiting = sorted(units, key=lambda unit: unit.moved)
    while True:
        tried, waiting = waiting, []
        for unit in tried:
            try:
                _try(unit, folded, parts, answers, tolerance)
            except Refused as why:
                unit.note = str(why)
                waiting.append(unit)
        if not waiting or not any(unit.layers for unit in tried):
            break  # else there may be a way now, where a gate stood in it
    for path, block in blocks.items():
        put(folded, path, block)
    without(folded, [path for unit in units if unit.layers for path in unit.gates])
    _check(network, folded, parts[:1], units)
    folded.folded = _records(network, folded, units)
    return folded


@dataclasses.dataclass
class Unit:
    """What folds in one piece: a module x → x · number, and the gates that the number comes from.

    gates: {path in the network that came in: (the gate, what it did over the images)}.
    layers: those that hold the number, once it is folded. note: why it is not.
    """

    module: nn.Module
    gates: dict[str, tuple[nn.Module, GateValues]]
    layers: list[nn.Module] = dataclasses.field(default_factory=list)
    note: str = ""

    @property
    def moved(self) -> float:
        return max(values.moved for _, values in self.gates.values())


@contextlib.contextmanager
def held(gates: Iterable[tuple[nn.Module, GateValues]]) -> Iterator[None]:
    """For the `with` block, each gate gives its mean for every image and position."""
    handles = [
        gate.register_forward_hook(functools.partial(_instead, values.constant))
        for gate, values in gates
    ]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


def _instead(mean, module, inputs, output):
    return mean.to(output).expand_as(output)


def _opened(network, values):
    """The units of a network, and {path: the block there}; of CBAM, each half is a unit.

    In place of each CBAM stand its halves, one after the other: see `halves`.
    """
    units, modules = {}, dict(network.named_modules())
    for gate, found in values.items():
        path = applier(network, gate)
        unit = units.setdefault(path, Unit(modules[path], {}))
        unit.gates[gate] = (modules[gate], found)
    blocks = {path: unit.module for path, unit in units.items()}
    for path, block in blocks.items():
        if type(block) is CBAM and path:
            pair = OrderedDict(zip(("channel", "spatial"), halves(block), strict=True))
            put(network, path, nn.Sequential(pair).eval())
            for half, gate in zip(pair.values(), units.pop(path).gates.items(), strict=True):
                units[gate[0]] = Unit(half, dict([gate]))
    return list(units.values()), blocks


def _try(unit, network, parts, answers, tolerance):
    """Fold one unit, if the answers allow it. Raises Refused where there is no place for it."""
    watched = watch(network, parts[0][:1])
    steps, layers = places(watched, unit.module, _factor(unit, watched))
    with held(unit.gates.values()):
        others = (_answers(network, parts).argmax(1) != answers).double().mean()
    if others > tolerance:
        unit.note = f"{100 * others:.2f} % of the answers would be others"
        return
    for step in steps:
        step()
    put(network, watched.paths[unit.module], nn.Identity())
    unit.layers = layers


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
    with held(unit.gates.values()):
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


def _check(network, folded, parts, units):
    """Raise a RuntimeError unless the network says what it says with the gates held."""
    gates = [
        (network.get_submodule(path), values)
        for unit in units
        if unit.layers
        for path, (_, values) in unit.gates.items()
    ]
    with held(gates):
        expected = _answers(network, parts).double()
    answers = _answers(folded, parts)
    off = (answers - expected).abs().max()
    if not off <= max(0.01, 10 * torch.finfo(answers.dtype).eps) * expected.abs().max():
        raise RuntimeError(
            f"folding went wrong in this network: logits are off by {off:.3g}, and should be those "
            "of the network with its gates held at their means"
        )


def _records(network, folded, units):
    """One `Fold` for each map of the network that came in, but those inside the score of a gate."""
    names = {module: path for path, module in folded.named_modules()}
    rows, inside = {}, set()
    for unit in units:
        note = ", ".join(names[layer] for layer in unit.layers) or unit.note
        for path, (_, values) in unit.gates.items():
            block = network.get_submodule(applier(network, path))
            inside.update(block.modules())
            rows[path] = Fold(path, type(block).__name__, values.moved, bool(unit.layers), note)
    for path, module in network.named_modules():
        if isinstance(module, Map) and module not in inside:
            name = type(network.get_submodule(applier(network, path))).__name__
            note = "it did not run" if isinstance(module, Gate) else "it multiplies by no gate"
            rows[path] = Fold(path, name, None, False, note)
    return [rows[path] for path, _ in network.named_modules() if path in rows]
