"""What a study trains: lists of runs, all networks with one seed before any with the next.

comparison   every mechanism, beside the plain network and wider ones; on the test images
ablations    what inside a block matters; on images held out of the training images
search       hybrids, and the blocks they are made of; on the same held-out images
shapes       every mechanism on Shapes-10, whose objects are known, for the measures of maps

Whatever is chosen by its accuracy is chosen on held-out images with seeds from 100 on. The test
images and the seeds 0, 1, 2 … are for the comparison.
"""

import dataclasses
import random
from collections.abc import Callable

from attention.blocks import BLOCKS, POOLINGS, SPACE
from attention.data import held_out, load
from attention.results.tables import read_record
from attention.settings import profile
from attention.training import Files, Run
from attention.training import comparison as setting

SEEDS = {"smoke": 2, "quick": 3, "full": 5}
FIRST_SEED_OF_CHOICE = 100
# Of each kind one, where everything has to be over in seconds.
SMOKE = ("se", "spatial", "cbam", "hybrid", "nonlocal", "additive_pool")
# A mechanism's own options where the default does not suit small maps on a CPU.
OPTIONS = {"local": {"kernel_size": 3}}


def seeds():
    """How many seeds a study has in this profile."""
    return SEEDS[profile()]


def names():
    """The blocks and poolings that a study trains: all of them, in the smoke profile `SMOKE`."""
    return SMOKE if profile() == "smoke" else (*BLOCKS, *POOLINGS)


def mechanism(name, seed=0, **changes):
    """The run of a block or pooling, or of the plain network (None), as all are compared."""
    return Run(block=name, options=OPTIONS.get(name, {}), seed=seed, **(setting() | changes))


def wider(seed=0):
    """Plain networks of more channels: what the parameters of a block buy without the block."""
    plain = mechanism(None, seed)
    width = plain.width or 64
    return [dataclasses.replace(plain, width=width + step * width // 16) for step in (1, 2)]


# Where there are few seeds, the hybrid and those it has to beat get some more.
CONTEST = (None, "hybrid", "se", "sse")
MORE_SEEDS = {"smoke": 0, "quick": 2, "full": 0}


def comparison(count=None, data=None):
    """Plain, wider, every block and pooling, the transformers; seeds 0 … count − 1.

    count: None takes the profile's seeds, and then its `MORE_SEEDS` for the `CONTEST` alone: the
    hybrid, its parents, the plain network and the wider ones.
    """
    number = seeds() if count is None else count
    runs = []
    for seed in range(number):
        runs += [mechanism(None, seed), *wider(seed)]
        runs += [mechanism(name, seed) for name in names()]
        runs += [Run(seed=seed, **setting(name)) for name in ("vit", "convvit")]
    for seed in range(number, number + (MORE_SEEDS[profile()] if count is None else 0)):
        runs += [*(mechanism(name, seed) for name in CONTEST), *wider(seed)]
    return runs


def shapes(count=None, data=None):
    """The comparison's mechanisms, trained long enough for the few images of Shapes-10.

    The transformers, which learn more slowly, are trained twice as long.
    """
    epochs = {"smoke": 1, "quick": 10, "full": 30}[profile()]
    runs = []
    for seed in range(seeds() if count is None else count):
        chosen = [None, *(name for name in names() if name != "hybrid")]
        runs += [mechanism(name, seed, epochs=epochs) for name in chosen]
        runs += [
            Run(seed=seed, **(setting(name) | {"epochs": 2 * epochs}))
            for name in ("vit", "convvit")
        ]
    return runs


# question → {setting: (block, the arguments of Run)}; the first of each is the paper's
SE = {"channel": "mlp", "spatial": None, "combine": "channel first", "residual": False}
CBAM = {"channel": "mlp avg+max", "spatial": "conv", "combine": "channel first", "pool": None,
        "residual": False}  # fmt: skip
ABLATIONS = {
    "SE: reduction": {
        "16": ("se", {}),
        **{str(r): ("se", {"options": {"reduction": r}}) for r in (4, 8, 32)},
    },
    "ECA: kernel": {
        "rule": ("eca", {}),
        **{str(k): ("eca", {"options": {"kernel_size": k}}) for k in (1, 5, 7)},
    },
    "CBAM: kernel of the spatial gate": {
        "7": ("cbam", {}),
        **{str(k): ("cbam", {"options": {"kernel_size": k}}) for k in (3, 5)},
    },
    "CBAM: pools": {
        "avg and max": ("cbam", {}),
        **{pool: ("cbam", {"options": {"pools": (pool,)}}) for pool in ("avg", "max")},
    },
    "CBAM: order": {
        "channel first": ("cbam", {}),
        **{
            order: ("hybrid", {"options": CBAM | {"combine": order}})
            for order in ("spatial first", "parallel", "sum", "product")
        },
    },
    "BAM: dilation": {
        "4": ("bam", {}),
        **{str(d): ("bam", {"options": {"dilation": d}}) for d in (1, 2)},
    },
    "BAM: how the branches combine": {
        "sum (paper)": ("bam", {}),
        "product (official)": ("bam", {"options": {"variant": "official"}}),
    },
    "CBAM: where": {
        "every branch": ("cbam", {}),
        "after stages": ("cbam", {"at": "stage"}),
        "last two stages": ("cbam", {"stages": (2, 3)}),
    },
    "SE: pooling before the channel score": {
        "average": ("se", {}),
        "additive attention": ("hybrid", {"options": SE | {"pool": "additive"}}),
        "dot-product attention": ("hybrid", {"options": SE | {"pool": "dot product"}}),
    },
    "CBAM: attention inside": {
        "as published": ("cbam", {}),
        "dot product as the spatial gate": (
            "hybrid", {"options": CBAM | {"spatial": "dot product"}}),
        "codewords as the channel gate": ("hybrid", {"options": CBAM | {"channel": "encoding"}}),
        "additive attention as the pool": (
            "hybrid", {"options": CBAM | {"channel": "mlp", "pool": "additive"}}),
    },
}  # fmt: skip


def questions():
    """The questions of `ABLATIONS` that a study asks; in the smoke profile the last two."""
    return list(ABLATIONS)[-2:] if profile() == "smoke" else list(ABLATIONS)


def ablation(question, choice, seed=FIRST_SEED_OF_CHOICE):
    """The run of one setting of one question of `ABLATIONS`."""
    block, changes = ABLATIONS[question][choice]
    return dataclasses.replace(mechanism(block, seed), **changes)


def ablations(count=None, data=None):
    """Every setting of all `questions`, the plain network first; each run once."""
    runs = []
    for seed in _choosing(count):
        runs.append(mechanism(None, seed))
        runs += [
            ablation(question, one, seed) for question in questions() for one in ABLATIONS[question]
        ]
    return _once(runs)


FINALISTS = 4
PARENTS = ("se", "eca", "cbam", "bam", "sse", "spatial", "nonlocal", "context")


def parents():
    """The blocks that candidates are made of; in the smoke profile two of them."""
    return PARENTS[:2] if profile() == "smoke" else PARENTS


def candidates(number=None):
    """Points of `SPACE`, drawn evenly by a fixed seed: the options of `Hybrid`, and stages.

    Only blocks of two and more parts: what has one is a parent. number: None takes 14, in the
    smoke profile 5.
    """
    number = number or (5 if profile() == "smoke" else 14)
    draw, found = random.Random(0), []
    while len(found) < number:
        one = {name: draw.choice(list(values)) for name, values in SPACE.items()}
        at = draw.choice(("residual", "stage"))
        parts = [one[name] for name in ("channel", "spatial", "mixing") if one[name] is not None]
        gates = one["channel"] is not None or one["spatial"] is not None
        idle = one["channel"] is None and one["pool"] is not None
        single = one["channel"] is None or one["spatial"] is None
        if single:
            one["combine"] = "channel first"  # nothing to combine: one name for the same block
        if gates and not idle and len(parts) >= 2 and (one, at) not in found:
            found.append((one, at))
    return found


def search(count=None, data=None):
    """First the plain network, the parents and the candidates with one seed; then the finalists.

    count: seeds of the finalists. data: the held-out images; the finalists, the `FINALISTS` best
    of the first round, are in the list as soon as the first round has all its records there.
    """
    first, *others = _choosing(count)
    runs = [mechanism(name, first) for name in (None, *parents())]
    drawn = [
        dataclasses.replace(mechanism("hybrid", first), options=options, at=at)
        for options, at in candidates()
    ]
    found = {} if data is None else _accuracies(drawn, data)
    if len(found) == len(drawn):
        best = sorted(drawn, key=lambda run: -found[run.name])[:FINALISTS]
        again = [dataclasses.replace(run, seed=s) for s in others for run in (*runs, *best)]
        return runs + drawn + again
    return runs + drawn


def _accuracies(runs, data):
    """{name: accuracy} of those runs that have a record."""
    found = {}
    for run in runs:
        try:
            record = read_record(Files(run, data).record)
        except (FileNotFoundError, ValueError):  # none, or a damaged one: to be trained first
            continue
        found[run.name] = record["result"]["test_accuracy"]
    return found


def _choosing(count):
    count = seeds() if count is None else count
    return range(FIRST_SEED_OF_CHOICE, FIRST_SEED_OF_CHOICE + count)


def _once(runs):
    """Without repetitions, in the order of first appearance."""
    return [run for number, run in enumerate(runs) if run not in runs[:number]]


@dataclasses.dataclass(frozen=True)
class Grid:
    """runs: (number of seeds, data) → list of `Run`. data: the chosen dataset → the one trained on.

    The list of a search depends on what it has found: ask again when the list is done.
    """

    runs: Callable
    data: Callable


GRIDS = {
    "comparison": Grid(comparison, lambda data: data),
    "search": Grid(search, held_out),
    "ablations": Grid(ablations, held_out),
    "shapes": Grid(shapes, lambda data: load("shapes10")),
}
