"""Who made a tensor, and who reads it: one forward pass, watched function by function."""

import contextlib
import dataclasses
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import torch
from torch import nn
from torch.nn.modules.module import register_module_forward_hook, register_module_forward_pre_hook
from torch.overrides import TorchFunctionMode


@dataclasses.dataclass
class Read:
    """A function that was called with a tensor, by the innermost module that was running then."""

    reader: nn.Module
    function: Callable
    result: Any


class Watched(TorchFunctionMode):
    """One forward pass of a network: `watch` makes it.

    paths: {module: its path}. calls: {module: (inputs, output) of each call}.
    """

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.paths = {module: path for path, module in network.named_modules()}
        self.calls = defaultdict(list)
        self.answers = set()
        self._running = [network]
        self._made, self._reads = {}, defaultdict(list)
        self._kept = []  # as long as a tensor lives, nobody else has its id

    def made_by(self, tensor: torch.Tensor) -> nn.Module | None:
        """The module that gave this tensor, the innermost; None: a function between modules did."""
        return self._made.get(id(tensor))

    def reads(self, tensor: torch.Tensor) -> list[Read]:
        """The calls that had this tensor among their arguments, and made a tensor from it."""
        return self._reads[id(tensor)]

    def __torch_function__(self, function, types, args=(), kwargs=None):
        result = function(*args, **(kwargs or {}))
        if any(True for _ in tensors(result)):  # not a question after its shape
            for tensor in tensors((args, kwargs or {})):
                self._kept.append(tensor)
                self._reads[id(tensor)].append(Read(self._running[-1], function, result))
        return result

    @contextlib.contextmanager
    def modules(self) -> Iterator[None]:
        def enters(module, inputs):
            self._running.append(module)

        def leaves(module, inputs, output):
            self._running.pop()
            self.calls[module].append((inputs, output))
            for tensor in tensors(output):
                self._made.setdefault(id(tensor), module)

        handles = [register_module_forward_pre_hook(enters), register_module_forward_hook(leaves)]
        try:
            yield
        finally:
            for handle in handles:
                handle.remove()


@torch.no_grad()
def watch(network: nn.Module, images: torch.Tensor) -> Watched:
    """The forward pass of these images."""
    watched = Watched(network)
    with watched.modules(), watched:
        answer = network(images)
    watched.answers = {id(tensor) for tensor in tensors(answer)}
    return watched


def tensors(values: Any) -> Iterator[torch.Tensor]:
    """The tensors in nested tuples, lists and dicts."""
    if isinstance(values, torch.Tensor):
        yield values
    elif isinstance(values, Mapping):
        for value in values.values():
            yield from tensors(value)
    elif isinstance(values, tuple | list):
        for value in values:
            yield from tensors(value)
