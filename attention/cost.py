"""What a network costs: parameters, FLOPs, the largest tensor it makes, what training keeps."""

import contextlib
from collections.abc import Callable, Iterator, Sequence

import torch
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import FlopCounterMode

from attention.checks import at_least_one, instance


def parameters(module: nn.Module) -> int:
    """The number of trainable parameters of a module."""
    instance(nn.Module, "module", module)
    return sum(p.numel() for p in module.parameters() if p.requires_grad)


def flops(network: nn.Module, shape: Sequence[int]) -> int:
    """FLOPs of one forward pass for an input of `shape` (N, C, H, W), by torch's counter.

    A multiplication and an addition are two. Torch counts convolutions, matrix products and
    attention kernels; sums, norms and element-wise functions are not counted, and with them the
    windows of `LocalAttention`, which are element-wise products.
    """
    instance(nn.Module, "network", network)
    if not isinstance(shape, Sequence) or len(shape) != 4:
        raise ValueError(f"shape must be four numbers (N, C, H, W), got {shape!r}")
    shape = [at_least_one("shape", extent) for extent in shape]
    like = next(network.parameters(), torch.empty(0))
    images = torch.zeros(shape, device=like.device, dtype=like.dtype)
    # detached, for the counter trips over a view of a parameter that has no gradient function
    weights = {name: p.detach() for name, p in network.named_parameters()}
    with evaluating(network), FlopCounterMode(display=False) as counter, torch.no_grad():
        torch.func.functional_call(network, weights, (images,))
    return counter.get_total_flops()


@contextlib.contextmanager
def evaluating(network: nn.Module) -> Iterator[nn.Module]:
    """The network in eval mode for the `with` block; every module gets its own mode back."""
    modes = {module: module.training for module in network.modules()}
    network.eval()
    try:
        yield network
    finally:
        for module, mode in modes.items():
            module.training = mode


class Largest(TorchDispatchMode):
    """Watches every operation in its `with` block; `elements` is the largest result so far.

    Views are left out: they take no memory of their own, however large they look.
    """

    def __init__(self) -> None:
        super().__init__()
        self.elements = 0

    def __torch_dispatch__(self, operation, types, args=(), kwargs=None):
        result = operation(*args, **(kwargs or {}))
        if not getattr(operation, "is_view", False):
            made = result if isinstance(result, tuple | list) else (result,)
            sizes = (part.numel() for part in made if isinstance(part, torch.Tensor))
            self.elements = max(self.elements, *sizes, 0)
        return result


def largest_tensor(function: Callable[[], object]) -> int:
    """The number of elements of the largest tensor that an operation within `function()` gives.

    function: takes no argument; what it returns is dropped. What a kernel holds inside itself, as
    the blocks of a fused attention kernel, does not count: it is no tensor.
    """
    with Largest() as watch:
        function()
    return watch.elements


def kept_for_backward(function: Callable[[], object]) -> int:
    """Bytes that `function()` keeps for the backward pass: what training needs more memory for.

    function: takes no argument and returns a tensor that a gradient can be taken of. Parameters
    and buffers that were there before are counted too where the backward pass needs them; what
    two operations keep both is counted once.
    """
    kept = {}

    def keep(tensor: torch.Tensor) -> torch.Tensor:
        storage = tensor.untyped_storage()
        kept[storage.data_ptr()] = storage.nbytes()
        return tensor  # and so its memory is not used again while others are counted

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        result = function()
    total = sum(kept.values())
    del result
    return total
