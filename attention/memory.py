"""How much a computation holds on its way: its largest tensor, and what it keeps for later."""

import torch
from torch.utils._python_dispatch import TorchDispatchMode


class Largest(TorchDispatchMode):
    """Watches every operation in its `with` block; `elements` is the largest result so far.

    Views are left out: they take no memory of their own, however large they look.
    """

    def __init__(self):
        super().__init__()
        self.elements = 0

    def __torch_dispatch__(self, operation, types, args=(), kwargs=None):
        result = operation(*args, **(kwargs or {}))
        if not getattr(operation, "is_view", False):
            made = result if isinstance(result, tuple | list) else (result,)
            sizes = (one.numel() for one in made if isinstance(one, torch.Tensor))
            self.elements = max(self.elements, *sizes, 0)
        return result


def largest_tensor(function):
    """The number of elements of the largest tensor that an operation within `function()` gives.

    function: takes no argument; what it returns is dropped. What a kernel holds inside itself, as
    the blocks of a fused attention kernel, does not count: it is no tensor.
    """
    with Largest() as watch:
        function()
    return watch.elements


def kept_for_backward(function):
    """Bytes that `function()` keeps for the backward pass: what training needs more memory for.

    function: takes no argument and returns a tensor that a gradient can be taken of. Parameters
    and buffers that were there before are counted too where the backward pass needs them; what
    two operations keep both is counted once.
    """
    kept = {}

    def keep(tensor):
        storage = tensor.untyped_storage()
        kept[storage.data_ptr()] = storage.nbytes()
        return tensor  # and so its memory is not used again while others are counted

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        result = function()
    total = sum(kept.values())
    del result
    return total
