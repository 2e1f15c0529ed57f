"""`pretrained` gives a network that comes trained with the repository, whatever data is at hand."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from torch import nn

from attention import checks, files
from attention.networks import NETWORKS
from attention.settings import checkout, home
from attention.training.run import Run


def pretrained(
    block: str | None = None, network: str = "resnet20", data: str = "cifar10-jpeg75", seed: int = 0
) -> nn.Module:
    """A trained network, in eval mode; a line says what it was trained on.

    block: its name in `BLOCKS` or `POOLINGS`; None: the network without a block. network: a name
    from `NETWORKS`. data: the name of the dataset. seed: which of the trainings.

    What the record tells is kept as `network.record`: record["dataset"] has class_names, and the
    mean and std of the pixels (0…1) by which images are normalised (`attention.data.normalise`).
    Where a block was trained in several ways, the comparison's comes first: the block where its
    paper puts it, with the fewest options, for the most epochs.

    Raises ValueError, naming what there is, where no such network lies in data/runs/.
    """
    checks.one_of("network", network, NETWORKS)
    found = [
        (record, path)
        for record, path in _kept(data)
        if (record["run"]["network"], record["run"]["block"]) == (network, block)
    ]
    if not found:
        there = sorted({record["name"] for record, _ in _kept(data)})
        raise ValueError(
            f"no {network} with block {block!r}, trained on {data!r}, lies in data/runs: there is "
            f"{', '.join(there) or 'nothing trained on that'}; the weights come with a clone of "
            "the repository, and attention.trained(Run(…)) trains what is not there"
        )
    found = [pair for pair in found if pair[0]["run"]["seed"] == seed] or checks.one_of(
        "seed", seed, sorted({record["run"]["seed"] for record, _ in found})
    )
    record, path = min(found, key=_unusual)
    model = Run(**record["run"]).build(record["dataset"]["classes"])
    model.load_state_dict(files.load_weights(path, record["result"]["weights"]))
    model.record = record
    print(
        f"{record['name']}, seed {seed}: trained for {record['run']['epochs']} epochs on "
        f"{record['dataset']['train_images']:,} images of {data}; "
        f"{record['result']['test_accuracy']:.1f} % of its test images right"
    )
    return model.eval()


def _kept(data: str) -> Iterator[tuple[dict[str, Any], Path]]:
    """The records on this dataset that have their weights beside them, at home and as they came."""
    folders = {home() / "data" / "runs" / data}
    folders |= {checkout() / "data" / "runs" / data} if checkout() else set()
    for folder in sorted(folders):
        for path in sorted(folder.glob("*.json")):
            weights = path.with_suffix(".safetensors")
            if weights.exists():
                yield files.read_record(path), weights


def _unusual(found):
    """Small for the setting of the comparison."""
    run = found[0]["run"]
    changed = [name for name in ("width", "at", "stages", "start") if run[name] is not None]
    return len(changed), len(run["options"]), -run["epochs"]
