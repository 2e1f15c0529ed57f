"""`Run` says what to train."""

import dataclasses
import functools
import inspect
import json
import math
import numbers
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import torch
from torch import nn

from attention import checks
from attention.blocks import BLOCKS, POOLINGS, Block, known
from attention.networks import NETWORKS, PLACES, RECIPES, insert
from attention.settings import PROFILES, profile


class Options(dict):
    """The options of a block: a dict that cannot be changed, and so can be hashed.

    options: {name: a number, text, bool or None, or a list of those}; lists become tuples.
    """

    def __init__(self, options: Mapping[str, Any]) -> None:
        if not isinstance(options, Mapping) or not all(isinstance(name, str) for name in options):
            raise TypeError(f"options must be a dict of names and values, got {options!r}")
        super().__init__({name: _plain(name, value) for name, value in options.items()})

    def _fixed(self, *_: Any, **__: Any) -> None:
        raise TypeError("the options of a run cannot be changed: make another Run")

    __setitem__ = __delitem__ = __ior__ = update = setdefault = pop = popitem = clear = _fixed

    def __hash__(self) -> int:
        return hash(repr(sorted(self.items())))

    def __eq__(self, other: object) -> bool:  # True is not 1 here: they are written in two ways
        return isinstance(other, dict) and repr(sorted(self.items())) == repr(sorted(other.items()))

    def __ne__(self, other: object) -> bool:
        return not self == other

    def __reduce__(self) -> tuple:
        return Options, (dict(self),)


def _plain(name, value):
    """The value of an option as a record can hold it."""
    if isinstance(value, list | tuple):
        return tuple(_plain(name, item) for item in value)
    if value is None or isinstance(value, str | bool):
        return value
    if isinstance(value, numbers.Real) and math.isfinite(value):
        return int(value) if isinstance(value, numbers.Integral) else float(value)
    raise ValueError(
        "options must be finite numbers, text, None, or lists of those, so that the record can "
        f"hold them; got {name}={value!r}"
    )


# Fields that may be left out, and what they must be where they are not.
CHECKS = {
    "width": checks.at_least_one,
    "epochs": checks.at_least_one,
    "train_images": checks.at_least_one,
    "test_images": checks.at_least_one,
    "batch_size": checks.at_least_one,
    "crop": functools.partial(checks.at_least, 0),
    "learning_rate": checks.positive,
    "norm_bias_rate": checks.not_negative,
    "weight_decay": checks.not_negative,
    "warmup": checks.fraction,
    "momentum": checks.below_one,
    "label_smoothing": checks.below_one,
}


@dataclasses.dataclass(frozen=True, kw_only=True)
class Run:
    """What to train: plain data. Two equal runs on the same dataset give the same record.

    network: a name from `NETWORKS`; width: its width, None for its own.
    block, at, stages, start, options: as in `insert`; block None is the plain network. A block is
        given by its name or, like one from a notebook cell, as a class or another callable.
    seed: of the initial weights, the order of the images and their augmentation.
    epochs, train_images, test_images: None takes the profile's, `PROFILES[profile()]`; a number of
        images is an upper bound, and where the profile sets none, all are taken.

    The rest is the recipe; None takes the network's, from `RECIPES` (or the profile's batch size):
    optimizer: "sgd" (with Nesterov's momentum) or "adamw" (Loshchilov & Hutter 2019).
    learning_rate: the peak, reached after the fraction `warmup` of all steps, then linearly to 0.
    norm_bias_rate: by how much the biases of norms are faster (arXiv 2404.00498, section 3.4).
    momentum: Nesterov's, or AdamW's β₁. label_smoothing: the share spread evenly over all classes.
    weight_decay: on weights of two and more dimensions; not on norms, not on biases.
    crop: pixels by which an image is shifted at most.

    What is left out stays None until it is needed: `resolved()` fills it in.
    Raises ValueError or TypeError for what cannot be trained, before anything is.
    """

    network: str = "resnet20"
    width: int | None = None
    block: str | Callable[..., nn.Module] | None = None
    at: str | None = None
    stages: tuple[int, ...] | int | None = None
    start: str | None = None
    options: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    seed: int = 0
    epochs: int | None = None
    train_images: int | None = None
    test_images: int | None = None
    batch_size: int | None = None
    optimizer: str | None = None
    learning_rate: float | None = None
    norm_bias_rate: float | None = None
    warmup: float | None = None
    momentum: float | None = None
    weight_decay: float | None = None
    label_smoothing: float | None = None
    crop: int | None = None

    def __post_init__(self) -> None:
        checks.one_of("network", self.network, NETWORKS)
        fixed = {
            "seed": checks.between(0, 2**32 - 1, "seed", self.seed),
            "options": Options(self.options),
        }
        if self.optimizer is not None:
            checks.one_of("optimizer", self.optimizer, ("sgd", "adamw"))
        for name, check in CHECKS.items():
            if getattr(self, name) is not None:
                fixed[name] = check(name, getattr(self, name))
        if self.stages is not None:
            fixed["stages"] = _stages(self.stages)
        if self.block is not None:
            row = known(self.block)
            _check_place(row, self.at, self.stages, self.start)
            fixed["options"] = _in_order(row, fixed["options"])
            fixed["block"] = row.name if _is_named(row) else self.block
        elif self.at or self.stages is not None or self.start or self.options:
            raise ValueError(
                "at, stages, start and options belong to a block, and block is None; got "
                f"at={self.at!r}, stages={self.stages!r}, start={self.start!r}, "
                f"options={self.options!r}"
            )
        for name, value in fixed.items():  # in their one form, so that equal runs are equal
            object.__setattr__(self, name, value)

    @property
    def row(self) -> Block | None:
        """What is known of the block."""
        return None if self.block is None else known(self.block)

    @property
    def family(self) -> str:
        """What the run is counted among: the block's family, else the network's."""
        if self.row is not None:
            return self.row.family
        return "transformer" if NETWORKS[self.network].recipe == "transformer" else "plain"

    @property
    def name(self) -> str:
        """The network, the block and its options: "resnet20 (plain)", "fast-16 + cbam (max)"."""
        network = self.network if self.width is None else f"{self.network}-{self.width}"
        if self.block is None:
            return f"{network} (plain)"
        words = [f"{key} {word(x)}" for key, x in self.options.items() if key != "variant"]
        words += [self.options["variant"]] if "variant" in self.options else []
        words += [f"at {self.at}"] if self.at else []
        words += [f"stages {word(self.stages)}"] if self.stages else []
        words += [f"start {self.start}"] if self.start else []
        return f"{network} + {self.row.name}" + (f" ({'; '.join(words)})" if words else "")

    def resolved(self) -> "Run":
        """This run with nothing left open: what is None comes from the recipe and the profile."""
        defaults = RECIPES[NETWORKS[self.network].recipe] | PROFILES[profile()]
        missing = {name: x for name, x in defaults.items() if getattr(self, name) is None}
        return dataclasses.replace(self, **missing)

    def build(self, classes: int) -> nn.Module:
        """The network with its initial weights, which follow from the seed alone.

        Runs of the same seed share the initial weights of all layers that they have in common.
        """
        with torch.random.fork_rng():
            torch.manual_seed(self.seed)
            width = {} if self.width is None else {"width": self.width}
            network = NETWORKS[self.network].make(classes=classes, **width)
            if self.block is not None:
                insert(network, self.block, self.at, self.stages, start=self.start, **self.options)
        return network.to(memory_format=torch.channels_last)

    def plain(self) -> dict[str, Any]:
        """The fields as a record holds them: the block by its name, tuples as lists."""
        fields = {field.name: getattr(self, field.name) for field in dataclasses.fields(self)}
        return json.loads(json.dumps(fields | {"block": self.row and self.row.name}))


def _is_named(row):
    """Whether a block can be had by its name."""
    return (BLOCKS | POOLINGS).get(row.name) is row.cls


def _check_place(row, at, stages, start):
    if at is not None:
        checks.one_of("at", at, PLACES)
        if _is_named(row) and (at == "pool") != (row.at == "pool"):
            raise ValueError(
                f"at must be 'pool' for a pooling and for nothing else, got {at!r} for {row.name}"
            )
    checks.one_of("start", start, (None, "identity"))
    if "pool" in (at, row.at) and (stages is not None or start is not None):
        raise ValueError(
            f"stages and start must be None for a pooling, got stages={stages!r}, start={start!r}"
        )


def _stages(stages):
    """Stages as a tuple, sorted and without repetitions."""
    several = isinstance(stages, Iterable) and not isinstance(stages, str)
    chosen = tuple(stages) if several else (stages,)
    if not chosen:
        raise ValueError(f"stages must be some, counted from 1, got {stages!r}")
    return tuple(sorted({checks.at_least_one("stages", number) for number in chosen}))


def _in_order(row, options):
    """The options in the order of the block's signature, which has to take them."""
    takes = signature(row.cls)
    try:
        takes.bind("channels", **options)
    except TypeError as error:
        names = ", ".join(list(takes.parameters)[1:]) or "none"
        raise TypeError(
            f"block {row.name} must take the channels and its options: it takes {names}; got "
            f"{', '.join(options) or 'none'} ({error})"
        ) from None
    names = [*takes.parameters, *sorted(options)]
    return Options({name: options[name] for name in names if name in options})


def signature(function: Callable) -> inspect.Signature:
    """The signature of a block or a network."""
    try:
        return inspect.signature(function)
    except (TypeError, ValueError):  # written in C: whatever it takes
        return inspect.signature(lambda channels, **options: None)


def word(value: Any) -> str:
    """A value in a name: 16, official, avg, max."""
    return ", ".join(map(str, value)) if isinstance(value, tuple) else str(value)
