"""`key` gives the files of a run their name."""

import hashlib
import json
import re

from attention.data import Dataset
from attention.networks import NETWORKS
from attention.training import identity
from attention.training.recipes import RECIPES
from attention.training.run import Run, signature, word

# Raised by one when the same run would be trained another way: its records are not found any more.
TRAINER_VERSION = 1


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
    words = "-".join(re.sub(r"[^\w.+]+", "_", part, flags=re.ASCII) for part in _words(run))
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
        *(f"{name}{word(x)}" for name, x in {**run.options, **changed}.items()),
    ]


def block_of(run: Run) -> dict[str, str] | None:
    """What a record tells of the run's block: its name, family, place and version."""
    row = run.row
    if row is None:
        return None
    told = {"name": row.name, "family": row.family, "at": row.at}
    return told | {"version": identity.version(row)}


def _defaults(function):
    """{name: default} of a signature."""
    return {p.name: p.default for p in signature(function) if p.default is not p.empty}
