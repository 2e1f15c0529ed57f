"""Gradients on a GPU, recorded as a CUDA graph and replayed.

A ResNet-20 on images of 32×32 is hundreds of kernels a step, and a GPU finishes each sooner than
Python launches the next. A graph launches all of them at once. What Python does between the kernels
happens once, when they are recorded: so only networks are recorded whose code is known.

How it is done: https://docs.pytorch.org/docs/stable/notes/cuda.html#cuda-graphs
"""

import collections
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import nn

WARM_UP = 3  # batches of a size that are computed as ever, in which libraries choose their kernels
KNOWN = ("torch", "torchvision", "attention")  # packages whose modules do nothing in Python alone
Step = Callable[[torch.Tensor, torch.Tensor], Any]


def can_be_recorded(network: nn.Module, device: torch.device) -> bool:
    """Whether the gradients of a network can be replayed: on a GPU, with modules of `KNOWN` only.

    A block from a notebook cell may draw a number in Python, or count its calls, and a replay would
    do neither.
    """
    packages = {type(module).__module__.partition(".")[0] for module in network.modules()}
    return device.type == "cuda" and packages <= set(KNOWN)


class Cuda:
    """What `Replayed` needs of a GPU: a stream beside the usual one, and graphs."""

    def __init__(self) -> None:
        self.stream = torch.cuda.Stream()

    def warm_up(self, call: Callable[[], Any]) -> Any:
        """Call on the stream on which will be recorded, or the recording would wait for another."""
        self.stream.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(self.stream):
            found = call()
        torch.cuda.current_stream().wait_stream(self.stream)
        return found

    def record(self, call: Callable[[], Any]) -> tuple[Callable[[], None], Any]:
        """What replays `call`, and what it gives: tensors that each replay fills anew."""
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph, stream=self.stream):
            found = call()
        return graph.replay, found


class Replayed:
    """`step`, called as it is for `WARM_UP` batches of each size, then recorded and replayed.

    step: (images, labels) → tensors; it sets the gradients of `parameters` anew. What it gives
        holds until the next call.
    """

    def __init__(self, step: Step, parameters: Sequence[nn.Parameter], gpu: Any = None) -> None:
        self.step, self.parameters = step, list(parameters)
        self.gpu = Cuda() if gpu is None else gpu
        self.seen = collections.Counter()
        self.recorded = {}

    def __call__(self, images: torch.Tensor, labels: torch.Tensor) -> Any:
        size = images.shape
        if size not in self.recorded:
            self.seen[size] += 1
            if self.seen[size] <= WARM_UP:
                return self.gpu.warm_up(lambda: self.step(images, labels))
            self.recorded[size] = self._record(images.clone(), labels.clone())
        inputs, gradients, replay, found = self.recorded[size]
        for place, batch in zip(inputs, (images, labels), strict=True):
            place.copy_(batch)
        replay()
        # each graph fills gradients of its own: the optimiser must see those of this one
        for parameter, gradient in zip(self.parameters, gradients, strict=True):
            parameter.grad = gradient
        return found

    def _record(self, images, labels):
        """The tensors that the batch is copied to, the gradients, what replays, what it gives."""
        try:
            replay, found = self.gpu.record(lambda: self.step(images, labels))
        except RuntimeError as error:
            raise RuntimeError(
                f"the training step cannot be recorded as a CUDA graph ({error}): begin anew, or "
                "go on from the last finished epoch, without ATTENTION_CUDA_GRAPHS"
            ) from error
        gradients = [parameter.grad for parameter in self.parameters]
        return (images, labels), gradients, replay, found
