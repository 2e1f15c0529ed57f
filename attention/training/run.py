"""`Run` says what to train."""

import dataclasses
import functools
import inspect
import json
import math
import numbers
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

import torch
from torch import nn

from attention.blocks import Block, known
from attention.checks import (
    at_least,
    at_least_one,
    between,
    fraction,
    not_negative,
    one_of,
    positive,
)
from attention.networks import NETWORKS, insert
from attention.settings import PROFILES, profile
from attention.training.recipes import RECIPES


class Options(Mapping):
    """The options of a block: a dict that cannot be changed, and that can be hashed.

    options: {name: a number, text, bool or None, or a list of those}; lists become tuples.
    """

    def __init__(self, options: Mapping[str, Any]) -> None:
        if not isinstance(options, Mapping) or not all(isinstance(name, str) for name in options):
            raise TypeError(f"options must be a dict of names and values, got {options!r}")
        self._options = {name: _plain(name, value) for name, value in options.items()}

    def __getitem__(self, name: str) -> Any:
        return self._options[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._options)

    def __len__(self) -> int:
        return len(self._options)

    def __repr__(self) -> str:
        return repr(self._options)

    def __eq__(self, other: object) -> bool:
        if isinstance(other, Options):  # True is not 1 here: they are written in two ways
            return repr(sorted(self.items())) == repr(sorted(other.items()))
        return super().__eq__(other)

    def __hash__(self) -> int:
        return hash(repr(sorted(self.items())))


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


def _below_one(name, value):
    """A number from 0 on, below 1."""
    if not_negative(name, value) >= 1:
        raise ValueError(f"{name} must be below 1, got {value!r}")
    return float(value)


def _rate(check):
    """This check, and the number as a float: 1 and 1.0 are the same run."""
    return lambda name, value: float(check(name, value))


# Fields that may be left out, and what they must be where they are not.
CHECKS = {
    "width": at_least_one,
    "epochs": at_least_one,
    "train_images": at_least_one,
    "test_images": at_least_one,
    "batch_size": at_least_one,
    "crop": functools.partial(at_least, 0),
    "learning_rate": _rate(positive),
    "norm_bias_rate": _rate(not_negative),
    "weight_decay": _rate(not_negative),
    "warmup": _rate(fraction),
    "momentum": _below_one,
    "label_smoothing": _below_one,
}


@dataclasses.dataclass(frozen=True, kw_only=True)
class Run:
    """What to train: plain data. Two equal runs on the same dataset give the same record.

    network: a name from `NETWORKS`; width: its width, None for its own.
    block, at, stages, options: as in `insert`; block None is the plain network. A block is given by
        its name or, like one from a notebook cell, as a class or another callable.
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

    network: str = "fast"
    width: int | None = None
    block: str | Callable[..., nn.Module] | None = None
    at: str | None = None
    stages: tuple[int, ...] | int | None = None
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
        one_of("network", self.network, NETWORKS)
        self._check_block()
        self._set("seed", between(0, 2**32 - 1, "seed", self.seed))
        if self.optimizer is not None:
            one_of("optimizer", self.optimizer, ("sgd", "adamw"))
        for name, check in CHECKS.items():
            if getattr(self, name) is not None:
                self._set(name, check(name, getattr(self, name)))

    def _set(self, name: str, value: Any) -> None:
        """Set a field while the run is made; afterwards it cannot be changed."""
        object.__setattr__(self, name, value)

    def _check_block(self) -> None:
        """Bring block, stages and options into their one form, so that equal runs are equal."""
        options = Options(self.options)
        if self.block is None:
            if self.at is not None or self.stages is not None or options:
                raise ValueError(
                    "at, stages and options belong to a block, and block is None; got "
                    f"at={self.at!r}, stages={self.stages!r}, options={options!r}"
                )
        else:
            row = known(self.block)
            options = _in_order(row, options)
            if _is_named(row):
                self._set("block", row.name)
                if self.at is not None and (self.at == "pool") != (row.at == "pool"):
                    raise ValueError(
                        "at must be 'pool' for a pooling and for nothing else, got "
                        f"at={self.at!r} for block {row.name}"
                    )
            if self.at is not None:
                one_of("at", self.at, ("residual", "stage", "pool"))
            if self.stages is not None and "pool" in (self.at, row.at):
                raise ValueError(f"stages must be None for a pooling, got {self.stages!r}")
        if self.stages is not None:
            self._set("stages", _stages(self.stages))
        self._set("options", options)

    @property
    def row(self) -> Block | None:
        """What is known of the block."""
        return None if self.block is None else known(self.block)

    @property
    def family(self) -> str:
        """What the run is counted among: the block's family, else the network's."""
        if self.row is not None:
            return self.row.family
        is_transformer = NETWORKS[self.network].recipe == "transformer"
        return "transformer" if is_transformer else "plain"

    @property
    def name(self) -> str:
        """The network, the block and its options: "fast (plain)", "fast-16 + cbam (official)"."""
        network = self.network if self.width is None else f"{self.network}-{self.width}"
        if self.block is None:
            return f"{network} (plain)"
        words = [f"{key} {word(x)}" for key, x in self.options.items() if key != "variant"]
        words += [self.options["variant"]] if "variant" in self.options else []
        words += [f"at {self.at}"] if self.at else []
        words += [f"stages {word(self.stages)}"] if self.stages else []
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
                insert(network, self.block, self.at, self.stages, **self.options)
        return network.to(memory_format=torch.channels_last)

    def plain(self) -> dict[str, Any]:
        """The fields as a record holds them: the block by its name, tuples as lists."""
        fields = {field.name: getattr(self, field.name) for field in dataclasses.fields(self)}
        fields["block"] = None if self.block is None else self.row.name
        fields["options"] = dict(self.options)
        return json.loads(json.dumps(fields))


def _is_named(row):
    """Whether this row can be had by its name."""
    try:
        return known(row.name) is row
    except ValueError:
        return False


def _stages(stages):
    """Stages as a tuple, sorted and without repetitions."""
    several = isinstance(stages, Iterable) and not isinstance(stages, str)
    chosen = tuple(stages) if several else (stages,)
    if not chosen:
        raise ValueError(f"stages must be some, counted from 1, got {stages!r}")
    return tuple(sorted({at_least_one("stages", number) for number in chosen}))


def _in_order(row, options):
    """The options in the order of the block's signature, which has to take them."""
    channels, *taken = signature(row.cls)
    by_name = [p for p in taken if p.kind in (p.POSITIONAL_OR_KEYWORD, p.KEYWORD_ONLY)]
    names = [p.name for p in by_name]
    unknown = sorted(options.keys() - set(names))
    takes_any = any(p.kind is p.VAR_KEYWORD for p in taken)
    if channels.name in options or (unknown and not takes_any):
        takes = f"takes {', '.join(names)}" if names else "takes none"
        raise TypeError(f"options of block {row.name}: it {takes}; got {', '.join(options)}")
    needed = [p.name for p in by_name if p.default is p.empty]
    if missing := [name for name in needed if name not in options]:
        raise TypeError(f"options of block {row.name} must give {', '.join(missing)}")
    return Options({name: options[name] for name in [*names, *unknown] if name in options})


def signature(function):
    """The parameters of a callable, the first of which takes the channels."""
    try:
        parameters = inspect.signature(function).parameters
    except (TypeError, ValueError):  # written in C: whatever it takes
        parameters = inspect.signature(lambda channels, **options: None).parameters
    if not parameters:
        raise TypeError(f"block must take the number of channels, {function!r} takes nothing")
    return list(parameters.values())


def word(value):
    """A value in a name: 16, official, avg, max."""
    return ", ".join(map(str, value)) if isinstance(value, tuple) else str(value)
