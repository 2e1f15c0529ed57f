"""`key` gives the files of a run their name."""

import hashlib
import json
import re

from attention.checks import instance
from attention.data import Dataset
from attention.networks import NETWORKS, RECIPES
from attention.training import identity
from attention.training.run import Run, signature, word

# Raised by one when the same run would be trained another way: its records are not found any more.
TRAINER_VERSION = 2


def key(run: Run, data: Dataset) -> str:
    """A name for the files of a run on a dataset: readable words, and a digest.

    The digest is of all that changes the result: the run, the block's version and defaults, the
    network's, the trainer's, the dataset's name and its images. No network is built.

    Raises ValueError for a block that `identity.version` cannot tell from others.
    """
    run = instance(Run, "run", run).resolved()
    instance(Dataset, "data", data)
    network, row, block = NETWORKS[run.network], run.row, None
    if row is not None:
        # the defaults of a block of one's own are in its version, whatever they are
        defaults = _defaults(row.cls) if identity.published(row.cls) is row else None
        block = [identity.version(row), row.at, row.skip_last, defaults]
    whole = {
        "run": run.plain(),
        "network": [network.version, _defaults(network.make)],
        "block": block,
        "trainer": TRAINER_VERSION,
        "data": [data.name, data.checksum],
    }
    digest = hashlib.sha256(json.dumps(whole, sort_keys=True).encode()).hexdigest()[:12]
    words = "-".join(re.sub(r"[^\w.+]+", "_", part, flags=re.ASCII) for part in _words(run))
    return f"{words[:100]}-seed{run.seed}-{digest}"


def _words(run):
    """What tells a resolved run from others; the seed is told at the end."""
    usual = dict.fromkeys(
        ("width", "at", "stages", "start", "train_images", "test_images", "epochs")
    )
    usual |= RECIPES[NETWORKS[run.network].recipe]
    changed = {name: getattr(run, name) for name in usual if getattr(run, name) != usual[name]}
    told = [f"{name}{word(value)}" for name, value in {**run.options, **changed}.items()]
    return [run.network, run.row.name if run.row else "plain", *told]


def block_of(run: Run) -> dict[str, str] | None:
    """What a record tells of the run's block: its name, family, place and version."""
    if (row := run.row) is None:
        return None
    version = identity.version(row)
    return {"name": row.name, "family": row.family, "at": row.at, "version": version}


def _defaults(function):
    parameters = signature(function).parameters.values()
    return {p.name: p.default for p in parameters if p.default is not p.empty}
