"""Before a study begins: what it will train, and for about how long."""

from collections.abc import Callable, Sequence

import torch

from attention.data import Dataset
from attention.training import Run, ahead


def announcement(
    missing: Sequence[Run], data: Dataset, device: torch.device,
    estimate: Callable[[Run, Dataset], float | None], minutes: float | None,
) -> str | None:  # fmt: skip
    """The line for the runs that have no record, in their order; None if they are soon over.

    estimate: seconds for a run from the records, `Times.estimate`; where it knows none, a few steps
    of the first run are timed. minutes: the budget; None: no limit.
    """
    if not missing or minutes == 0 or sum(ahead.steps(run, data) for run in missing) < ahead.FEW:
        return None
    seconds = [estimate(run, data) for run in missing]
    if None in seconds:
        rate = ahead.seconds_an_image(missing[0], data, device)
        seconds = [rate * run.resolved().epochs * ahead.images(run, data) for run in missing]
    if sum(seconds) < ahead.LONG:
        return None
    names = list(dict.fromkeys(run.name for run in missing))
    more = f" and {len(names) - 2} more" if len(names) > 2 else ""
    epochs = sorted({run.resolved().epochs for run in missing})
    text = (
        f"to train: {', '.join(names[:2])}{more}: {len(missing)} runs of "
        f"{' to '.join(map(str, dict.fromkeys((epochs[0], epochs[-1]))))} epochs, "
        f"{max(ahead.images(run, data) for run in missing):,} images each, about "
        f"{ahead.duration(sum(seconds))}"
    )
    if minutes is None:
        return text
    left = 60 * minutes
    return f"{text}; in {ahead.duration(left)} about {_that_fit(seconds, left)} of them"


def _that_fit(seconds, left):
    """How many are begun one after the other, each if it fits into what is left."""
    fitting = 0
    for one in seconds:
        if one < left:
            fitting, left = fitting + 1, left - one
    return fitting
