"""How large a network is: parameters and FLOPs."""

import contextlib

import torch
from torch.utils.flop_counter import FlopCounterMode


def parameters(module):
    """The number of trainable parameters of a module."""
    return sum(p.numel() for p in module.parameters() if p.requires_grad)


def flops(network, shape):
    """FLOPs of one forward pass for an input of `shape`, e.g. (1, 3, 32, 32), by torch's counter.

    A multiplication and an addition are two. Torch counts convolutions, matrix products and
    attention kernels; sums, norms and element-wise functions are not counted, and with them the
    windows of `LocalAttention`, which are element-wise products.
    """
    like = next(network.parameters())
    images = torch.zeros(shape, device=like.device, dtype=like.dtype)
    # detached, for the counter trips over a view of a parameter that has no gradient function
    weights = {name: p.detach() for name, p in network.named_parameters()}
    with evaluating(network), FlopCounterMode(display=False) as counter, torch.no_grad():
        torch.func.functional_call(network, weights, (images,))
    return counter.get_total_flops()


@contextlib.contextmanager
def evaluating(network):
    """The network in eval mode for the `with` block; every module gets its own mode back."""
    modes = {module: module.training for module in network.modules()}
    network.eval()
    try:
        yield network
    finally:
        for module, mode in modes.items():
            module.training = mode
