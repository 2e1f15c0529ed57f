"""What stands where a block was put: `Chain`, what was there and the block; `FromIdentity`."""

import torch
from torch import nn

from attention.cost import evaluating


class Chain(nn.Sequential):
    """What stood in a place, as `before`, and the blocks that were put behind it.

    What was saved when it stood there alone has its names without "before.": they load too.
    """

    def _load_from_state_dict(self, state_dict, prefix, *arguments) -> None:
        names = self.before.state_dict()
        if not all(f"{prefix}before.{name}" in state_dict for name in names):
            for name in names:
                if f"{prefix}{name}" in state_dict:
                    state_dict[f"{prefix}before.{name}"] = state_dict.pop(f"{prefix}{name}")
        super()._load_from_state_dict(state_dict, prefix, *arguments)


class FromIdentity(nn.Module):
    """x + gain · (block(x) − x): x itself at the start, with a gain of 0; the block with one of 1.

    (N, C, H, W) → the same shape and dtype.

    The gain is learned, one number a block. The first step moves the gain alone, since the block's
    own gradient is multiplied by it; from the second on both learn. A block that is the identity by
    itself at the start (a non-local block, whose last norm has weights of 0) gets a gain of 1: with
    two zeros in a row, neither would ever have a gradient.

    It is one number, not one a channel, so that it says how far the network has come towards the
    block, and is no channel attention itself.

    Bachlechner et al., "ReZero is All You Need: Fast Convergence at Large Depth", UAI 2021, whose
    x + α F(x) this is, with the block's change to x as F.
    """

    def __init__(self, block: nn.Module, channels: int) -> None:
        super().__init__()
        self.block = block
        self.gain = nn.Parameter(torch.tensor(float(is_identity(block, channels))))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        change = self.block(x) - x
        return (x + self.gain * change).to(x.dtype)  # under autocast a block may give another

    def extra_repr(self) -> str:
        return "start as the identity"


@torch.no_grad()
def is_identity(block: nn.Module, channels: int) -> bool:
    """Whether a new block gives the maps back that it gets; False on the meta device."""
    like = next(block.parameters(), torch.empty(0))
    generator = torch.Generator().manual_seed(0)  # the caller's random numbers stay where they are
    x = torch.randn(2, channels, 8, 8, generator=generator, device="cpu").to(like)
    with evaluating(block), torch.random.fork_rng(devices=[]):
        return not x.is_meta and torch.equal(block(x), x)
