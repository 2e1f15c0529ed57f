"""What the checks of blocks share: a map that was given, a change that a block must not notice."""

from collections.abc import Callable

import torch
from torch import nn

from attention.blocks import Gate
from attention.explain import capture


def expect_block(block: nn.Module) -> nn.Module:
    """A module, an object and not its class; in eval mode."""
    if not isinstance(block, nn.Module):
        what = "a class: make an object of it" if isinstance(block, type) else "no module"
        raise TypeError(f"an attention block is a torch module, and this is {what}")
    return block.eval()


@torch.no_grad()
def the_map(block: nn.Module, x: torch.Tensor, kind: str) -> torch.Tensor:
    """The one map of this kind that `capture` sees when the block looks at x."""
    with capture(block) as maps:
        block(x)
    found = [one for one in maps.values() if one.kind == kind]
    if len(found) != 1:
        kinds = ", ".join(one.kind for one in maps.values())
        raise ValueError(
            f"one gate of kind {kind!r} is asked for, capture found {kinds or 'no gate'}"
        )
    return found[0].cat()


@torch.no_grad()
def channel_gates(network: nn.Module, images: torch.Tensor) -> list[torch.Tensor]:
    """What the channel gates of a network give, by hooks of our own: not by `capture`."""
    seen = []
    gates = [module for module in network.modules() if getattr(module, "kind", "") == "channel"]
    gates = [module for module in gates if isinstance(module, Gate)]  # a score has a kind, too
    hooks = [gate.register_forward_hook(lambda _, __, out: seen.append(out)) for gate in gates]
    network(images)
    for hook in hooks:
        hook.remove()
    return seen


@torch.no_grad()
def keeps_shape(block: nn.Module, channels: int) -> str | None:
    """None, or a sentence: a block must take any H and W and any number of images."""
    for shape in ((2, channels, 6, 5), (1, channels, 4, 9)):
        out = block(torch.randn(shape))
        if out.shape != shape:
            return f"maps {shape} became {tuple(out.shape)}; a block keeps their shape"
    return None


def same(one: torch.Tensor, other: torch.Tensor, tolerance: float = 1e-5) -> bool:
    """Whether two tensors have one shape and the same numbers."""
    return one.shape == other.shape and torch.allclose(one, other, atol=tolerance)


def reach(function: Callable, x: torch.Tensor, place: tuple[int, ...]) -> torch.Tensor:
    """How far the number at this place of function(x) follows each number of x: |gradient|."""
    x = x.clone().requires_grad_()
    function(x)[place].backward()
    return x.grad.abs()
