"""What a study trains: lists of runs, all networks with one seed before any with the next.

primary      the comparison of `results.plan`, seed by seed; on the test images
fresh        the plain network and the block that led, with fresh seeds; on the test images
objections   would another learning rate, or a start as the identity, have served a block better?
             On images held out of the training images
longer       the plain network and the most accurate block, for much longer; on the test images
everything   every mechanism, beside the plain network and wider ones; on the test images
shapes       every mechanism on Shapes-10, whose objects are known, for the measures of maps
ablations    what inside a block matters; on images held out of the training images
search       hybrids, and the blocks they are made of; on the same held-out images
parts        the hybrid that was chosen, and it without each of its parts; on these images, too
cheaper      the hybrid in fewer places, and with an average as its pool; on these images, too

Whatever is chosen by its accuracy is chosen on held-out images with seeds from 100 on. The test
images and the seeds 0, 1, 2 … are for the comparison.
"""

import dataclasses
import itertools
import random
from collections.abc import Callable, Mapping
from typing import Any

from attention.blocks import BLOCKS, POOLINGS, SPACE
from attention.checks import at_least_one, one_of
from attention.data import Dataset, held_out, load
from attention.networks import REDUCTION, SETTINGS
from attention.results import plan
from attention.settings import profile
from attention.study.planned import cheaper, chosen, fresh, longer, objections, primary
from attention.study.seeds import FIRST_SEED_OF_CHOICE, choosing, seeds
from attention.study.work import finished
from attention.training import Run, compared

# Of each kind one, where everything has to be over in seconds.
SMOKE = ("se", "spatial", "cbam", "hybrid", "nonlocal", "additive_pool")
TRANSFORMERS = ("vit", "convvit")


def names() -> tuple[str, ...]:
    """The blocks and poolings that a study trains: all of them, in the smoke profile `SMOKE`."""
    return SMOKE if profile() == "smoke" else (*BLOCKS, *POOLINGS)


def everything(count: int | None = None, data: Dataset | None = None) -> list[Run]:
    """Plain, its controls, every block and pooling, the transformers; seeds 0 … count − 1."""
    runs = []
    for seed in range(seeds(count)):
        runs += [compared(None, seed), *(compared(None, seed, **c) for c in plan.CONTROLS)]
        runs += [compared(name, seed) for name in names()]
        runs += [compared(None, seed, name) for name in TRANSFORMERS]
    return runs


def shapes(count: int | None = None, data: Dataset | None = None) -> list[Run]:
    """The comparison's mechanisms and the transformers, on Shapes-10."""
    runs = []
    for seed in range(seeds(count)):
        runs += [compared(name, seed) for name in (None, *names())]
        runs += [compared(None, seed, name) for name in TRANSFORMERS]
    return runs


# The options with which a hybrid is SE, and with which it is CBAM.
AS_SE = {"channel": "mlp", "spatial": None, "combine": "channel first", "pool": None,
         "mixing": None, "residual": False}  # fmt: skip
AS_CBAM = AS_SE | {"channel": "mlp avg+max", "spatial": "conv"}


def _hybrid(options, stages=None, **changes):
    """A hybrid in the branches, where what it is like stands, with other values of options."""
    return "hybrid", {"options": {**options, **changes}, "at": "residual", "stages": stages}


def _option(block, option, usual, *others):
    """A block as it is compared, and with other values of one option."""
    changed = {str(value): (block, {"options": {option: value}}) for value in others}
    return {usual: (block, {})} | changed


# question → {setting: (block, the arguments of Run)}; the first of each is the comparison's
ABLATIONS = {
    "SE: reduction": _option("se", "reduction", "4", 2, 8, 16),
    "SE: where in the block": {
        "standard": ("se", {}),
        **{place: ("se", {"at": place}) for place in ("pre", "post", "identity")},
    },
    "SE: which stages": {
        "all": ("se", {}),
        **{f"stage {stage} alone": ("se", {"stages": stage}) for stage in (1, 2, 3)},
    },
    "ECA: kernel": _option("eca", "kernel_size", "rule", 1, 5, 7),
    "CBAM: reduction": _option("cbam", "reduction", "4", 2, 16),
    "CBAM: kernel of the spatial gate": _option("cbam", "kernel_size", "7", 3, 5),
    "CBAM: pools": {
        "avg and max": ("cbam", {}),
        **{pool: ("cbam", {"options": {"pools": (pool,)}}) for pool in ("avg", "max")},
    },
    "CBAM: order": {
        "channel first": ("cbam", {}),
        **{
            order: _hybrid(AS_CBAM, combine=order)
            for order in ("spatial first", "parallel", "sum", "product")
        },
    },
    "BAM: reduction": _option("bam", "reduction", "4", 2, 16),
    "BAM: dilation": _option("bam", "dilation", "4", 1, 2),
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
        "additive attention": _hybrid(AS_SE, pool="additive"),
        "dot-product attention": _hybrid(AS_SE, pool="dot product"),
    },
    "CBAM: attention inside": {
        "as published": ("cbam", {}),
        "dot product as the spatial gate": _hybrid(AS_CBAM, (2, 3), spatial="dot product"),
        "codewords as the channel gate": _hybrid(AS_CBAM, channel="encoding"),
        "additive attention as the pool": _hybrid(AS_CBAM, channel="mlp", pool="additive"),
    },
}  # fmt: skip


def questions() -> list[str]:
    """The questions of `ABLATIONS` that a study asks; in the smoke profile the last two."""
    return list(ABLATIONS)[-2:] if profile() == "smoke" else list(ABLATIONS)


def ablation(question: str, choice: str, seed: int = FIRST_SEED_OF_CHOICE) -> Run:
    """The run of one setting of one question of `ABLATIONS`."""
    one_of("choice", choice, ABLATIONS[one_of("question", question, ABLATIONS)])
    block, changes = ABLATIONS[question][choice]
    run = chosen(block, seed)
    options = {**run.options, **changes.get("options", {})}
    return dataclasses.replace(run, **{**changes, "options": options})


def ablations(count: int | None = None, data: Dataset | None = None) -> list[Run]:
    """Every setting of all `questions`, the plain network first; each run once."""
    runs = []
    for seed in choosing(count):
        runs.append(chosen(None, seed))
        runs += [
            ablation(asked, choice, seed) for asked in questions() for choice in ABLATIONS[asked]
        ]
    return list(dict.fromkeys(runs))


FINALISTS = 4
PARENTS = ("se", "eca", "cbam", "bam", "sse", "spatial", "nonlocal", "context")
CANDIDATES = {"smoke": 5, "quick": 14, "full": 14}


def parents() -> tuple[str, ...]:
    """The blocks that candidates are made of; in the smoke profile two of them."""
    return PARENTS[:2] if profile() == "smoke" else PARENTS


def candidates(number: int | None = None) -> list[tuple[dict, str]]:
    """Hybrids of two and more parts, drawn from `SPACE` by a fixed seed: (options, place) of each.

    What has one part is a parent. number: None takes the profile's, `CANDIDATES`. Raises
    ValueError for more than the space holds.
    """
    number = at_least_one("number", CANDIDATES[profile()] if number is None else number)
    choices = [*map(tuple, SPACE.values()), ("residual", "stage")]
    most = len({_candidate(point) for point in itertools.product(*choices)} - {None})
    if number > most:
        raise ValueError(f"number must be at most {most}, all that SPACE holds, got {number}")
    draw, found = random.Random(0), {}
    while len(found) < number:
        if point := _candidate(tuple(draw.choice(values) for values in choices)):
            found[point] = dict(zip(SPACE, point, strict=False)), point[-1]
    return list(found.values())


def _candidate(point: tuple) -> tuple | None:
    """The point, one name for each block; None where it has one part, or one that does nothing."""
    part = dict(zip((*SPACE, "at"), point, strict=True))
    scores = [part["channel"], part["spatial"]]
    number = sum(chosen is not None for chosen in (*scores, part["mixing"]))
    idle = part["channel"] is None and part["pool"] is not None
    if number < 2 or scores == [None, None] or idle:
        return None
    if None in scores:
        part["combine"] = "channel first"  # nothing to combine
    return tuple(part.values())


def late(options: Mapping[str, Any]) -> tuple[int, ...] | None:
    """The stages of a candidate: those of small maps if it weighs every position for every other.

    On maps of 32×32 that is a million weights an image. Its parents stand there, too (`compared`).
    """
    every = options["mixing"] == "nonlocal" or options["spatial"] == "dot product"
    return (2, 3) if every else None


def search(count: int | None = None, data: Dataset | None = None) -> list[Run]:
    """First the plain network, the parents and the candidates with one seed; then the finalists.

    Seeds differ in how hard they are: with each later one the plain network is trained as well.
    count: seeds of the finalists. data: the held-out images; the finalists, the `FINALISTS` best
    of the first round, are in the list as soon as the first round has all its records there.
    """
    first, *others = choosing(count)
    runs = [chosen(name, first) for name in (None, *parents())]
    drawn = [
        chosen("hybrid", first, options=options | {"reduction": REDUCTION}, at=at,
               stages=late(options))
        for options, at in candidates()
    ]  # fmt: skip
    records = [None if data is None else finished(run, data) for run in drawn]
    if None in records:
        return runs + drawn
    accuracy = {
        run: record["result"]["test_accuracy"] for run, record in zip(drawn, records, strict=True)
    }
    best = sorted(drawn, key=accuracy.get, reverse=True)[:FINALISTS]
    again = [dataclasses.replace(run, seed=seed) for seed in others for run in (runs[0], *best)]
    return runs + drawn + again


def without(options: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    """{what is gone or changed: the options of a hybrid without it}, a part at a time.

    options: the hybrid's, a value for each name in `SPACE`. Without one of its scores it is a
    parent of its own in the hybrid's form. Where attention pools, an average takes its place.
    """
    missing = [name for name in SPACE if name not in options]
    if missing:
        raise ValueError(f"options must have all of {', '.join(SPACE)}, got none for {missing[0]}")
    alone, less = {"combine": "channel first"}, {}
    if options["channel"] and options["spatial"]:
        less["without the channel score"] = alone | {"channel": None, "pool": None}
        less["without the spatial score"] = alone | {"spatial": None}
    if options["pool"]:
        less["the average as the pool"] = {"pool": None}
    if options["mixing"]:
        less["without mixing"] = {"mixing": None}
    form = "x · map in place of x · (1 + map)", "x · (1 + map) in place of x · map"
    less[form[not options["residual"]]] = {"residual": not options["residual"]}
    return {words: {**options, **changed} for words, changed in less.items()}


def parts(count: int | None = None, data: Dataset | None = None) -> list[Run]:
    """The plain network, the hybrid that is compared, and it `without` each part."""
    options = SETTINGS["hybrid"]["options"]
    runs = []
    for seed in choosing(count):
        runs.append(chosen(None, seed))
        for fewer in (options, *without(options).values()):
            runs.append(chosen("hybrid", seed, options=fewer))
    return runs


@dataclasses.dataclass(frozen=True)
class Grid:
    """runs: (number of seeds, data) → list of `Run`. data: the chosen dataset → the one trained on.

    The list of a search depends on what it has found: ask again when the list is done.
    """

    runs: Callable[[int | None, Dataset | None], list[Run]]
    data: Callable[[Dataset], Dataset]


GRIDS = {
    "primary": Grid(primary, lambda data: data),
    "fresh": Grid(fresh, lambda data: data),
    "objections": Grid(objections, held_out),
    "longer": Grid(longer, lambda data: data),
    "everything": Grid(everything, lambda data: data),
    "search": Grid(search, held_out),
    "parts": Grid(parts, held_out),
    "cheaper": Grid(cheaper, held_out),
    "ablations": Grid(ablations, held_out),
    "shapes": Grid(shapes, lambda data: load("shapes10")),
}
