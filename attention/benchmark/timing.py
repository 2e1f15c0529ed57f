"""Time, taken in turns: what is compared shares what else the machine does."""

import time
from collections.abc import Callable

import torch
from torch import nn
from tqdm.auto import tqdm

from attention.checks import at_least_one
from attention.data import Dataset
from attention.training import machine


def seconds(function: Callable[[], object]) -> float:
    """The time of one call, waiting for the GPU, if there is one, before and after."""
    wait = torch.cuda.synchronize if torch.cuda.is_available() else lambda: None
    wait()
    start = time.perf_counter()
    function()
    wait()
    return time.perf_counter() - start


def in_turns(
    functions: dict[str, Callable[[], object]], rounds: int, progress: bool = True
) -> dict[str, list[float]]:
    """{name: seconds of each round}: in every round each function is called once.

    The first two rounds warm up (memory, kernel selection) and are not counted.
    """
    at_least_one("rounds", rounds)
    times = {name: [] for name in functions}
    for number in tqdm(range(rounds + 2), desc="timing", unit="round", disable=not progress):
        for name, function in functions.items():
            spent = seconds(function)
            if number >= 2:
                times[name].append(spent)
    return times


def like(data: Dataset | None) -> tuple[tuple[int, int], int]:
    """The size of a dataset's images and its number of classes; None: 32×32, ten."""
    return ((32, 32), 10) if data is None else (tuple(data.size), len(data.classes))


def device_here() -> torch.device:
    """The device of `fit`, set up as `fit` does it: a CPU's process keeps the memory it frees."""
    device = torch.device(machine.default_device())
    if device.type == "cpu":
        machine.keep_memory()
    return device


def random_images(number: int, size: tuple[int, int], device: torch.device) -> torch.Tensor:
    """(number, 3, height, width), normal, in channels_last."""
    images = torch.randn(number, 3, *size, device=device)
    return images.to(memory_format=torch.channels_last)


def forward_and_backward(
    module: nn.Module, shape: tuple[int, int, int, int], precision: str
) -> Callable[[], None]:
    """A call of a module on one map (N, C, H, W) and back, as inside a network.

    The map is in channels_last and of this precision, and wants its gradient too.
    """
    device = next(module.parameters()).device
    x = torch.randn(shape, device=device, dtype=getattr(torch, precision))
    x = x.to(memory_format=torch.channels_last).requires_grad_()
    slope = torch.randn_like(x)

    def step() -> None:
        x.grad = None
        module.zero_grad()
        with machine.autocast(device, precision):
            y = module(x)
        y.backward(slope.to(y.dtype))

    return step
