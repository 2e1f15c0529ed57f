"""Whether a training is compiled: what that saves, against what compiling costs.

The answer follows from the run, the network and the device alone, never from a clock: the runs of
a study that are compared with each other are all compiled on a machine, or none is.
"""

import torch
from torch import nn

from attention.blocks import Map
from attention.cost import flops
from attention.networks import lacking, regions

# Of one core of a processor with AVX-512, in operations of convolutions a second.
RATES = {"bfloat16": 1.2e11, "float32": 5e10, "float16": 5e10}
SECONDS = 12.0  # to compile one kind of region, forward and backward, on such a core
SAVED = 0.2  # of a step of a network whose regions hold attention; without, a CPU gains nothing
WORTH = 2.0  # times as much must be saved as compiling costs, for both are estimates


def worth_compiling(
    network: nn.Module, images: int, size: tuple[int, int], device: torch.device, precision: str
) -> bool:
    """Whether a training on so many images (of all epochs together) pays for the compiler.

    network: not fused. size: (H, W) of an image. False on a GPU, where it was not measured.
    """
    found = regions(network).values()
    attended = [m for m in found if any(isinstance(part, Map) for part in m.modules())]
    if device.type != "cpu" or not attended or lacking("cpu"):
        return False
    operations = 3 * images * flops(network, (1, 3, *size))  # backward takes two of the three
    saved = SAVED * operations / (RATES[precision] * torch.get_num_threads())
    return saved > WORTH * SECONDS * len({repr(module) for module in found})
