"""The comparison of `results.plan` as a list of runs, and what stands beside it.

That is what might be objected to its recipe, a longer training, and its hybrid for less.
"""

import dataclasses
from typing import Any

from attention.data import Dataset
from attention.networks import SETTINGS
from attention.results import plan
from attention.settings import profile
from attention.study.seeds import FIRST_SEED_OF_CHOICE, SEEDS, choosing, seeds
from attention.training import Run, compared

# What is chosen among is many networks, compared with one another and not with published numbers:
# half the epochs, twice as many networks.
EPOCHS_OF_CHOICE = {"smoke": 1, "quick": 5, "full": 15}
# Beside the comparison, to see how far from its end it is.
EPOCHS_OF_LONGER = {"smoke": 2, "quick": 60, "full": 120}


def chosen(block: str | None, seed: int = FIRST_SEED_OF_CHOICE, **changes: Any) -> Run:
    """A run of the comparison, as long as those that are chosen among."""
    return compared(block, seed, **({"epochs": EPOCHS_OF_CHOICE[profile()]} | changes))


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


def longer(count: int | None = None, data: Dataset | None = None) -> list[Run]:
    """The plain network and the block `plan.MOST_ACCURATE`, trained for much longer.

    count: None takes one seed.
    """
    epochs = EPOCHS_OF_LONGER[profile()]
    runs = []
    for seed in range(seeds(1 if count is None else count)):
        runs += [compared(name, seed, epochs=epochs) for name in (None, plan.MOST_ACCURATE)]
    return runs


def fresh(count: int | None = None, data: Dataset | None = None) -> list[Run]:
    """The plain network and the block `plan.MOST_ACCURATE`, with seeds that the plan has not used.

    count: None takes all of `plan.FRESH_SEEDS`, in the smoke profile two.
    """
    few = SEEDS["smoke"] if profile() == "smoke" else len(plan.FRESH_SEEDS)
    numbers = range(plan.SEEDS, plan.SEEDS + (few if count is None else seeds(count)))
    return [compared(name, seed) for seed in numbers for name in (None, plan.MOST_ACCURATE)]


def objections(count: int | None = None, data: Dataset | None = None) -> list[Run]:
    """The plain network and the papers' blocks: by the recipe, by half and by twice its learning
    rate, and with a start as the identity. As long as all that is `chosen` among.

    count: None takes one seed. In the smoke profile SE stands for all four.
    """
    papers = plan.PAPERS[:1] if profile() == "smoke" else plan.PAPERS
    runs = []
    for seed in choosing(1 if count is None else count):
        for name in (None, *papers):
            run = chosen(name, seed)
            rate = run.resolved().learning_rate
            runs += [run]
            runs += [dataclasses.replace(run, learning_rate=rate * by) for by in (0.5, 2)]
            runs += [dataclasses.replace(run, start="identity")] if name else []
    return runs


def cheaper_forms() -> dict[str, dict[str, Any]]:
    """{what is done: what changes in the run of the hybrid that is compared}, the hybrid first.

    One gate that the branches of a stage share stands after the last of them.
    """
    average = {"options": {**SETTINGS["hybrid"]["options"], "pool": None}}
    return {
        "in every branch": {},
        "one for the branches of a stage": {"at": "stage"},
        "in the branches of stage 1": {"stages": 1},
        "in those of stages 1 and 2": {"stages": (1, 2)},
        "with an average as its pool": average,
        "one a stage, with an average": {"at": "stage", **average},
    }


def cheaper(count: int | None = None, data: Dataset | None = None) -> list[Run]:
    """The plain network and the hybrid in its `cheaper_forms`.

    count: None takes one seed. In the smoke profile two forms.
    """
    forms = list(cheaper_forms().values())[: 2 if profile() == "smoke" else None]
    runs = []
    for seed in choosing(1 if count is None else count):
        runs += [chosen(None, seed), *(chosen("hybrid", seed, **form) for form in forms)]
    return runs
