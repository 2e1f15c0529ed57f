"""The comparison of `results.plan` as a list of runs, and what might be objected to it."""

import dataclasses

from attention.data import Dataset
from attention.results import plan
from attention.settings import profile
from attention.study.seeds import SEEDS, choosing, seeds
from attention.training import Run, compared


def primary(count: int | None = None, data: Dataset | None = None) -> list[Run]:
    """The networks of `plan`: plain, the blocks, the controls; seeds 0 … count − 1.

    count: None takes the plan's number, in the smoke profile two.
    """
    if count is None:
        count = SEEDS["smoke"] if profile() == "smoke" else plan.SEEDS
    runs = []
    for seed in range(seeds(count)):
        runs += [compared(name, seed) for name in (None, *plan.BLOCKS)]
        runs += [compared(None, seed, **control) for control in plan.CONTROLS]
    return runs


def objections(count: int | None = None, data: Dataset | None = None) -> list[Run]:
    """The papers' blocks of `plan` with half and twice the recipe's learning rate, and with a start
    as the identity; count: None takes one seed.
    """
    runs = []
    for seed in choosing(1 if count is None else count):
        for name in (None, *plan.PAPERS):
            run = compared(name, seed)
            rate = run.resolved().learning_rate
            runs += [run]
            runs += [dataclasses.replace(run, learning_rate=rate * by) for by in (0.5, 2)]
            runs += [dataclasses.replace(run, start="identity")] if name else []
    return runs
