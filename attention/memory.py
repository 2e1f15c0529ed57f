"""How large the tensors are that a computation makes on its way."""

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
