"""`Run` says what to train, `key` gives its files their name."""

import dataclasses
import hashlib
import inspect
import json
import math
import re
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import torch
from torch import nn

from attention.blocks import Block, known
from attention.checks import at_least, at_least_one, one_of
from attention.data import Dataset
from attention.networks import NETWORKS, insert
from attention.settings import PROFILES, profile
from attention.training import identity
from attention.training.recipes import RECIPES

# Raised by one when the same run would be trained another way: its records are not found any more.
TRAINER_VERSION = 1

SEEDS = 2**32


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
    number = isinstance(value, int | float) and math.isfinite(value)
    if not (value is None or isinstance(value, str) or number):
        raise ValueError(
            f"options must be finite numbers, text, None, or lists of those, so that the record "
            f"can hold them; got {name}={value!r}"
        )
    return value


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
        if at_least(0, "seed", self.seed) >= SEEDS:
            raise ValueError(f"seed must be less than 2**32, got {self.seed}")
        for name in ("width", "epochs", "train_images", "test_images", "batch_size"):
            if getattr(self, name) is not None:
                at_least_one(name, getattr(self, name))
        if self.crop is not None:
            at_least(0, "crop", self.crop)
        if self.optimizer is not None:
            one_of("optimizer", self.optimizer, ("sgd", "adamw"))
        for name in ("learning_rate", "norm_bias_rate", "weight_decay"):
            self._check_number(name, "at least 0", lambda x: x >= 0)
        self._check_number("learning_rate", "above 0", lambda x: x > 0)
        self._check_number("warmup", "above 0 and below 1", lambda x: 0 < x < 1)
        for name in ("momentum", "label_smoothing"):
            self._check_number(name, "at least 0 and below 1", lambda x: 0 <= x < 1)

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
                object.__setattr__(self, "block", row.name)
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
            object.__setattr__(self, "stages", _stages(self.stages))
        object.__setattr__(self, "options", options)

    def _check_number(self, name: str, expected: str, fits: Callable[[float], bool]) -> None:
        """Raise a ValueError unless the field is None or a finite number that fits."""
        value = getattr(self, name)
        if value is None:
            return
        if isinstance(value, bool) or not isinstance(value, int | float):
            raise ValueError(f"{name} must be a number, got {value!r}")
        if not math.isfinite(value) or not fits(value):
            raise ValueError(f"{name} must be a finite number {expected}, got {value!r}")
        object.__setattr__(self, name, float(value))  # 1 and 1.0 are the same run

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
        words = [f"{key} {_word(x)}" for key, x in self.options.items() if key != "variant"]
        words += [self.options["variant"]] if "variant" in self.options else []
        words += [f"at {self.at}"] if self.at else []
        words += [f"stages {_word(self.stages)}"] if self.stages else []
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
    numbers = (stages,) if isinstance(stages, int) else stages
    if not isinstance(numbers, tuple | list | range) or not numbers:
        raise ValueError(f"stages must be a number or some, counted from 1, got {stages!r}")
    return tuple(sorted({at_least_one("stages", number) for number in numbers}))


def _in_order(row, options):
    """The options in the order of the block's signature, which has to take them."""
    channels, *taken = _signature(row.cls)
    names = [p.name for p in taken if p.kind is not p.VAR_KEYWORD]
    unknown = sorted(options.keys() - set(names))
    if channels.name in options or (unknown and len(names) == len(taken)):
        takes = f"takes {', '.join(names)}" if names else "takes none"
        raise TypeError(f"options of block {row.name}: it {takes}; got {', '.join(options)}")
    needed = [p.name for p in taken if p.name in names and p.default is p.empty]
    if missing := [name for name in needed if name not in options]:
        raise TypeError(f"options of block {row.name} must give {', '.join(missing)}")
    return Options({name: options[name] for name in [*names, *unknown] if name in options})


def _signature(function):
    """The parameters that can be given by name, the channels first."""
    try:
        parameters = inspect.signature(function).parameters.values()
    except (TypeError, ValueError):  # written in C: whatever it takes
        parameters = inspect.signature(lambda channels, **options: None).parameters.values()
    found = [p for p in parameters if p.kind is not p.VAR_POSITIONAL]
    if not found:
        raise TypeError(f"block must take the number of channels, {function!r} takes nothing")
    return found


def _defaults(function):
    """{name: default} of a signature."""
    return {p.name: p.default for p in _signature(function) if p.default is not p.empty}


def block_of(run: Run) -> dict[str, str] | None:
    """What a record tells of the run's block: its name, family, place and version."""
    row = run.row
    if row is None:
        return None
    told = {"name": row.name, "family": row.family, "at": row.at}
    return told | {"version": identity.version(row)}


def key(run: Run, data: Dataset) -> str:
    """A name for the files of a run on a dataset: readable words, and a digest.

    The digest is of all that changes the result: the run, the block's version and defaults, the
    network's, the trainer's, the dataset's name and its images. No network is built.

    Raises ValueError for a block that `identity.version` cannot tell from others.
    """
    run, network, row = run.resolved(), NETWORKS[run.network], run.row
    block = None
    if row is not None:
        # the defaults of a block of one's own are in its version, whatever they are
        defaults = _defaults(row.cls) if identity.ours(row) else None
        block = [identity.version(row), row.at, row.skip_last, defaults]
    whole = {
        "run": run.plain(),
        "network": [network.version, _defaults(network.make)],
        "block": block,
        "trainer": TRAINER_VERSION,
        "data": [data.name, data.checksum],
    }
    text = json.dumps(whole, sort_keys=True)
    digest = hashlib.sha256(text.encode()).hexdigest()[:12]
    words = "-".join(re.sub(r"[^\w.+]+", "_", word, flags=re.ASCII) for word in _words(run))
    return f"{words[:100]}-seed{run.seed}-{digest}"


def _words(run):
    """What tells a resolved run from others; the seed is told at the end."""
    usual = RECIPES[NETWORKS[run.network].recipe] | {"width": None, "at": None, "stages": None}
    usual |= {"train_images": None, "test_images": None, "epochs": None}
    fields = {name: getattr(run, name) for name in usual}
    changed = {name: x for name, x in fields.items() if x != usual[name]}
    return [
        run.network,
        run.row.name if run.block is not None else "plain",
        *(f"{name}{_word(x)}" for name, x in {**run.options, **changed}.items()),
    ]


def _word(value):
    """A value in a name: 16, official, avg, max."""
    return ", ".join(map(str, value)) if isinstance(value, tuple) else str(value)
