"""How the cost of a block grows with the batch, the channels and the side of its maps."""

from collections.abc import Sequence

import numpy as np
import pandas as pd

from attention.benchmark.timing import device_here, forward_and_backward, in_turns
from attention.blocks import BLOCKS
from attention.training import machine

BLOCKS_THAT_GROW = ("se", "eca", "cbam", "bam", "nonlocal", "selfattention")
BASE = {"batch": 32, "channels": 64, "side": 16}
GRID = {"batch": (16, 32, 64, 128), "channels": (32, 64, 128, 256), "side": (8, 12, 16, 24)}


def growth(
    blocks: Sequence[str] = BLOCKS_THAT_GROW, rounds: int = 5, progress: bool = True
) -> pd.DataFrame:
    """Forward and backward of blocks on maps of several sizes, in the machine's fast precision.

    One of `BASE` is changed at a time, over the values of `GRID`. A row a block and what was
    changed: exponent, the slope of a straight line through log(time) over log(value), so that time
    grows as value ** exponent; error, its standard error; and, for each of the values, ms.
    """
    device = device_here()
    precision = machine.precision(device)
    steps = {}
    for block in blocks:
        for what, values in GRID.items():
            for value in values:
                size = BASE | {what: value}
                shape = (size["batch"], size["channels"], size["side"], size["side"])
                module = BLOCKS[block](size["channels"]).to(device).train()
                steps[block, what, value] = forward_and_backward(module, shape, precision)
    times = pd.DataFrame(in_turns(steps, rounds, progress)).median().sort_index()
    rows = []
    for block in blocks:
        for what, values in GRID.items():
            own = times[block, what].reindex(values).to_numpy()
            (slope, _), error = np.polyfit(np.log(values), np.log(own), 1, cov=True)
            rows.append({"block": block, "grows with": what, "exponent": slope,
                         "error": error[0, 0] ** 0.5, "values": list(values),
                         "ms": list(1000 * own)})  # fmt: skip
    return pd.DataFrame(rows)
