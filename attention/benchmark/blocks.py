"""Blocks by themselves: beside what other libraries have, fused, and beside the bytes they move."""

import importlib.util
from collections.abc import Sequence

import pandas as pd
import torch
from torch import nn

from attention.benchmark.timing import device_here, forward_and_backward, in_turns
from attention.blocks import BAM, CBAM, ECA, SE
from attention.cost import kept_for_backward
from attention.networks import fuse
from attention.training import machine

# (batch, channels, height, width), as a ResNet has them from one stage to the next
SHAPES = ((128, 64, 32, 32), (128, 128, 16, 16), (128, 256, 8, 8))
SHORT = ((32, 64, 32, 32), (32, 128, 16, 16))
FLOOR = "a product"
# How often a training step must read or write the whole map, counted by hand; the rest of a block
# is small. A product with a given gate: x in, y out; then x and dy in, dx out. SE and ECA read x
# once more for their average, and dy once more, because dx waits for the gate's gradient, which is
# a sum over all positions. CBAM has two gates, one after the other: x is pooled twice, and dy and x
# are read once for each gate's gradient before dx can be written. BAM reads x once more for both
# its branches, dy and x for the gradients of both, and x for the weights of its 1×1 convolution.
PASSES = {FLOOR: 5, "se": 7, "eca": 7, "cbam": 10, "bam": 8}
BLOCKS = {"se": SE, "eca": ECA, "cbam": CBAM, "bam": BAM}


class Product(nn.Module):
    """y = x · s with a gate s that is given: what every block of gates has to do at least."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.gate = nn.Parameter(torch.rand(1, channels, 1, 1))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """x: (N, C, H, W)."""
        return x * self.gate.to(x.dtype)


def peers(channels: int) -> dict[tuple[str, str], nn.Module]:
    """{(block, library): the library's own}, of the libraries that are installed.

    All with a hidden layer of a sixteenth of the channels, as the blocks here.
    """
    from torchvision.ops import SqueezeExcitation

    found = {
        ("se", "torchvision"): SqueezeExcitation(
            channels, channels // 16, scale_activation=nn.Sigmoid
        )
    }
    if importlib.util.find_spec("timm"):
        from timm.layers import EcaModule, SEModule
        from timm.layers.cbam import CbamModule

        found |= {
            ("se", "timm"): SEModule(channels, rd_ratio=1 / 16, rd_divisor=1),
            ("eca", "timm"): EcaModule(channels),
            ("cbam", "timm"): CbamModule(channels, rd_ratio=1 / 16, rd_divisor=1),
        }
    return found


def beside_peers(
    shapes: Sequence[tuple[int, int, int, int]] = SHAPES, rounds: int = 10,
    precision: str | None = None, fused: bool = True, progress: bool = True,
) -> pd.DataFrame:  # fmt: skip
    """Forward and backward of each block, as multiples of a product with a given gate.

    shapes: (N, C, H, W) of the maps, in channels_last. precision: as in `fit`. fused: also what
    `fuse` makes of the blocks. A row a shape, block and form ("here", "here, fused", "timm", …):
    ms, the median over the rounds; times, the median of the ratios to the product within a round,
    low and high their quartiles; passes, how often the map must be read or written at least
    (`PASSES`), and bound, what follows from them; gb_s, the bytes of these passes per second; kept,
    how many maps' bytes are kept from forward to backward, the block's input among them.
    """
    device = device_here()
    precision = machine.precision(device, precision)
    parts = []
    for shape in shapes:
        modules = {(FLOOR, "here"): Product(shape[1])}
        modules |= {(name, "here"): block(shape[1]) for name, block in BLOCKS.items()}
        if fused:  # fuse compiles what is inside a network
            modules |= {
                (name, "here, fused"): fuse(nn.Sequential(block(shape[1])).to(device))
                for name, block in BLOCKS.items()
            }
        modules |= peers(shape[1])
        steps = {
            name: forward_and_backward(module.to(device).train(), shape, precision)
            for name, module in modules.items()
        }
        kept = {name: maps_kept(module, shape, precision) for name, module in modules.items()}
        times = pd.DataFrame(in_turns(steps, rounds, progress))
        ratios = times.div(times[FLOOR, "here"], axis=0)
        size = torch.Size(shape).numel() * getattr(torch, precision).itemsize
        for block, form in modules:
            ratio, passes = ratios[block, form], PASSES[block]
            median = times[block, form].median()
            parts.append({
                "shape": "×".join(map(str, shape)), "block": block, "form": form,
                "times": ratio.median(), "low": ratio.quantile(0.25),
                "high": ratio.quantile(0.75), "ms": 1000 * median,
                "passes": passes, "bound": passes / PASSES[FLOOR],
                "gb_s": passes * size / median / 1e9, "kept": kept[block, form],
            })  # fmt: skip
    return pd.DataFrame(parts)


def maps_kept(module: nn.Module, shape: tuple[int, int, int, int], precision: str) -> float:
    """What a block keeps from forward to backward, as a multiple of the bytes of its input."""
    device = next(module.parameters()).device
    x = torch.randn(shape, device=device, dtype=getattr(torch, precision))
    x = x.to(memory_format=torch.channels_last).requires_grad_()
    with machine.autocast(device, precision):
        return kept_for_backward(lambda: module(x)) / x.nbytes
