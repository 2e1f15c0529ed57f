"""An example is run through a network: what each of its modules gets and gives.

So channels are found in anybody's network, and a part that is never called is noticed.
"""

import dataclasses
import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import nn

from attention.cost import evaluating
from attention.networks.resnet import Network

# Height and width of the images that are tried: not square, so that a map shows which of its axes
# are which; square, for networks that take one size only; large, for those with large windows.
SIZES = ((64, 96), (224, 224), (320, 480))
SMALL = ((32, 48),)  # this package's networks are made for 32×32


@dataclasses.dataclass(frozen=True)
class Shape:
    """What is kept of a tensor that a module got or gave."""

    extents: tuple[int, ...]
    dtype: torch.dtype
    device: torch.device


@dataclasses.dataclass(frozen=True)
class Call:
    """One call of a module: what came first and what it gave, its `Shape` or its type's name."""

    given: Shape | str
    made: Shape | str


class Observed(dict):
    """{module: its calls}, and the example they were made for."""

    def __init__(self, example: torch.Tensor) -> None:
        super().__init__()
        self.example = example

    def maps(self, module: nn.Module, side: str = "made") -> "Maps | str":
        """What a module gives ("made") or gets ("given") as maps; else a text that says what."""
        calls = self.get(module, [])
        if not calls:
            return "it is not called when the network runs"
        found = {self._maps(getattr(call, side)) for call in calls}
        if len(found) > 1:
            return f"it is called {len(calls)} times, with {' and with '.join(map(str, found))}"
        return found.pop()

    def _maps(self, shape: Shape | str) -> "Maps | str":
        if isinstance(shape, str):
            return f"a {shape}, no maps"
        size = "×".join(map(str, shape.extents))
        if len(shape.extents) != 4 or not shape.dtype.is_floating_point:
            return f"{size} numbers of {shape.dtype}, no maps (N, C, H, W)"
        _, first, second, third = shape.extents
        if second == third == 1:  # behind a global pooling
            return Maps(first, False, shape.dtype, shape.device)
        ratio = math.log(self.example.shape[-2] / self.example.shape[-1])
        as_channels_first = abs(math.log(second / third) - ratio)
        as_channels_last = abs(math.log(first / second) - ratio)
        apart = abs(as_channels_first - as_channels_last) > 1e-6
        if not apart or min(as_channels_first, as_channels_last) > 0.3:
            return (
                f"{size} numbers, in which channels, height and width cannot be told apart (an "
                "example of another height and width may help)"
            )
        last = as_channels_last < as_channels_first
        return Maps(third if last else first, last, shape.dtype, shape.device)


@dataclasses.dataclass(frozen=True)
class Maps:
    """Maps of `channels`, (N, C, H, W), or (N, H, W, C) if `last`."""

    channels: int
    last: bool
    dtype: torch.dtype
    device: torch.device

    def __str__(self) -> str:
        return f"{self.channels} channels{' in the last axis' if self.last else ''}"


def observe(network: nn.Module, example: torch.Tensor | Sequence[int] | None = None) -> Observed:
    """Run an example through the network, in eval mode, and note what every module gets and gives.

    example: images as the network takes them, or their shape; None: one is made, of `SIZES`.

    The network's state and torch's random numbers stay. Raises ValueError when no example runs.
    """
    errors = []
    for images in _examples(network, example):
        try:
            return watch(network, images)
        except Exception as error:  # whatever the network raises, it is told
            errors.append(error)
    tried = " or ".join("×".join(map(str, images.shape)) for images in _examples(network, example))
    reason = f"{type(errors[-1]).__name__}: {errors[-1]}"
    raise ValueError(
        f"example must be images that this {type(network).__name__} takes, or their shape, to find "
        f"out what its modules get and give; with {tried} it fails: {reason}"
    ) from errors[-1]


@torch.no_grad()
def watch(network: nn.Module, images: torch.Tensor) -> Observed:
    """One forward pass in eval mode that leaves no trace: buffers and random numbers stay."""
    observed = Observed(images)

    def note(module: nn.Module, inputs: tuple, options: dict, output: Any) -> None:
        given = (*inputs, *options.values(), None)[0]
        observed.setdefault(module, []).append(Call(_shape(given), _shape(output)))

    before = [(buffer, buffer.clone()) for buffer in network.buffers()]
    hooks = [m.register_forward_hook(note, with_kwargs=True) for m in network.modules()]
    devices = [images.device] if images.is_cuda else []
    try:
        with evaluating(network), torch.random.fork_rng(devices):
            network(images)
    finally:
        for hook in hooks:
            hook.remove()
        for buffer, old in before:
            if not buffer.is_meta and not torch.equal(buffer, old):
                buffer.copy_(old)
    return observed


def _examples(network, example):
    weights = next((p for p in network.parameters() if p.is_floating_point()), torch.empty(0))
    if isinstance(example, torch.Tensor):
        return [example]
    if example is not None:
        if not isinstance(example, Sequence) or not all(isinstance(n, int) for n in example):
            raise ValueError(f"example must be a tensor, the shape of one or None, got {example!r}")
        shapes = [tuple(example)]
    else:
        convolutions = (m for m in network.modules() if isinstance(m, nn.Conv2d))
        channels = getattr(next(convolutions, None), "in_channels", 3)
        shapes = [
            (1, channels, *size) for size in (SMALL if isinstance(network, Network) else SIZES)
        ]
    generator = torch.Generator().manual_seed(0)
    return [torch.rand(s, generator=generator, device="cpu").to(weights) for s in shapes]


def _shape(value: Any) -> Shape | str:
    if isinstance(value, torch.Tensor):
        return Shape(tuple(value.shape), value.dtype, value.device)
    return type(value).__name__
