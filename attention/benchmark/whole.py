"""What whole networks cost: a training step, an answer, memory."""

import statistics
from collections.abc import Sequence

import pandas as pd
import torch
from torch import nn

from attention.benchmark.timing import device_here, in_turns, like, random_images
from attention.cost import flops, kept_for_backward, parameters
from attention.data import Dataset
from attention.networks import REDUCTION, fuse
from attention.results import COSTS, read_costs
from attention.settings import home
from attention.study import grids
from attention.training import Run, Trainer, compared, machine


def costs(
    runs: Sequence[Run], data: Dataset | None = None, rounds: int = 5, progress: bool = True
) -> pd.DataFrame:
    """What networks cost, a frame with one row a run; the first run is the one compared with.

    data: says the size of the images and the classes; None: 32×32, ten. parameters; flops: of one
    image forward; step_ms: one training step (forward, backward, update) on a batch that is already
    in memory; time: step_ms over the first run's, the median of the ratios within a round.
    """
    (size, classes), device = like(data), device_here()
    precision = machine.precision(device)
    trainers = {run.name: Trainer(run, classes, 10**6, device, precision) for run in _runs(runs)}
    batch = runs[0].resolved().batch_size
    images = random_images(batch, size, device)
    labels = torch.randint(classes, (batch,), device=device)
    steps = {
        name: lambda trainer=trainer: trainer.train_step(images, labels)
        for name, trainer in trainers.items()
    }
    times = pd.DataFrame(in_turns(steps, rounds, progress))
    networks = {name: trainer.network for name, trainer in trainers.items()}
    return pd.DataFrame({
        "parameters": {name: parameters(network) for name, network in networks.items()},
        "flops": {name: flops(network, (1, 3, *size)) for name, network in networks.items()},
        "step_ms": 1000 * times.median(),
        "time": times.div(times[runs[0].name], axis=0).median(),
    })  # fmt: skip


def eager_and_fused(
    runs: Sequence[Run], rounds: int = 5, fused: bool = True, progress: bool = True
) -> pd.DataFrame:
    """One training step of each network as it is written and as `fuse` makes it: a row each.

    step_ms: as in `costs`; times: over the first run's as written, the median of the ratios within
    a round; own: over the first run's in the same form.
    """
    device = device_here()
    precision = machine.precision(device)
    batch = _runs(runs)[0].resolved().batch_size
    images, labels = random_images(batch, (32, 32), device), torch.arange(batch, device=device) % 10
    steps = {}
    for form in ("as written", "fused")[: 1 + fused]:
        for run in runs:
            trainer = Trainer(run, 10, 10**6, device, precision)
            trainer.network.train()
            if form == "fused":
                fuse(trainer.network)
            steps[run.name, form] = lambda trainer=trainer: trainer.train_step(images, labels)
    times = pd.DataFrame(in_turns(steps, rounds, progress))
    first = runs[0].name
    rows = [
        {"network": name, "form": form, "step_ms": 1000 * times[name, form].median(),
         "times": (times[name, form] / times[first, "as written"]).median(),
         "own": (times[name, form] / times[first, form]).median()}
        for name, form in steps
    ]  # fmt: skip
    return pd.DataFrame(rows)


def inference(
    runs: Sequence[Run], data: Dataset | None = None, rounds: int = 5, progress: bool = True
) -> pd.DataFrame:
    """What an answer costs, and what training holds: a frame with one row a run.

    data: as in `costs`. latency_ms: from one image to its logits, in eval mode, float32, the median
    over the rounds of the mean of 20 calls; memory_mib: what the forward pass of one batch in
    training mode keeps for the backward pass, in float32.
    """
    (size, classes), device = like(data), device_here()
    networks = {run.name: run.build(classes).to(device).eval() for run in _runs(runs)}
    image = random_images(1, size, device)

    @torch.no_grad()
    def answers(network: nn.Module) -> None:
        for _ in range(20):
            network(image)

    functions = {name: lambda n=network: answers(n) for name, network in networks.items()}
    times = in_turns(functions, rounds, progress)
    rows = {}
    for run in runs:
        kept = _kept(networks[run.name].train(), size, device, run.resolved().batch_size)
        latency = statistics.median(times[run.name]) / 20
        rows[run.name] = {"latency_ms": 1000 * latency, "memory_mib": kept / 2**20}
    return pd.DataFrame.from_dict(rows, orient="index")


def _kept(network, size, device, batch):
    """Bytes kept for the backward pass of a batch: two small ones tell, for they grow in step."""
    few, more = (
        kept_for_backward(lambda n=n: network(random_images(n, size, device))) for n in (8, 16)
    )
    return few + (more - few) * (batch - 8) / 8


def _runs(runs):
    """The runs, if they are what can be measured side by side."""
    if not (isinstance(runs, list | tuple) and runs and all(isinstance(r, Run) for r in runs)):
        raise ValueError(f"runs must be a list of Run, at least one of them, got {runs!r}")
    return runs


def costs_of(
    runs: Sequence[Run], data: Dataset, rounds: int = 2, progress: bool = True
) -> tuple[pd.DataFrame, str]:
    """What each network costs: a frame with `COSTS` and the `time` of `costs`, one row a run, and a
    sentence on its origin.

    The committed measurement, data/benchmarks/mechanisms.json, if it has the first of `runs` on
    images and classes like those of `data`, and as large; a network that it lacks, or has in
    another size, is nan then, for times of two machines do not belong into one column. Else all
    are measured here, by `costs` and `inference`.
    """
    size, classes = like(data)
    sizes = {run.name: parameters(run.build(classes)) for run in _runs(runs)}
    path = home() / "data" / "benchmarks" / "mechanisms.json"
    if path.exists() and size == (32, 32):
        rows, where = read_costs(path)
        same = [name for name, count in sizes.items() if rows.parameters.get(name) == count]
        first = runs[0].resolved()
        if first.name in same and rows.batch_size[first.name] == first.batch_size:
            table = rows.reindex(columns=[*COSTS, "time"]).loc[same].reindex(list(sizes))
            return table, f"measured by python -m attention.benchmark mechanisms: {where}"
    table = costs(runs, data, rounds, progress).join(inference(runs, data, rounds, progress))
    device = machine.default_device()
    return table[[*COSTS, "time"]], (
        f"measured here, median of {rounds} rounds, on {machine.describe(device)['hardware']} in "
        f"{machine.precision(device)}"
    )


def four_blocks() -> list[Run]:
    """The plain network and the four blocks of notebooks 1 to 4, with their official variants."""
    official = {"reduction": REDUCTION, "variant": "official"}
    runs = [compared(name) for name in (None, "se", "eca", "cbam", "bam")]
    return runs + [compared(name, options=official) for name in ("cbam", "bam")]


def mechanisms() -> list[Run]:
    """All networks of the comparison, and local windows of their own size beside the small ones."""
    return [*grids.everything(1), compared("local", options={})]
