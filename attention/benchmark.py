"""What a block costs in training time, and what `fit` costs beside the bare training step.

    python -m attention.benchmark blocks        SE, ECA, CBAM, BAM beside the plain network
    python -m attention.benchmark mechanisms    every block, pooling and transformer beside the
                                                plain network, in the setting of the comparison
    python -m attention.benchmark trainer       fit's loop beside its own step on one batch
    python -m attention.benchmark explain       every measure of a network's maps, 1,000 images

The first two write what they find to data/benchmarks/, which tables of costs are made from.

Times of one machine vary with what else it does: what is compared is measured in turns, and each
figure is a median over the turns.
"""

import argparse
import statistics
import time
from collections.abc import Callable, Sequence

import pandas as pd
import torch
from torch import nn
from tqdm.auto import tqdm

from attention import explain
from attention.blocks import SPATIAL, Gate
from attention.checks import at_least_one
from attention.cost import flops, kept_for_backward, parameters
from attention.data import Batches, Dataset, load, normalise
from attention.files import write_record
from attention.networks import REDUCTION
from attention.results import COSTS, read_costs
from attention.settings import home
from attention.study import grids
from attention.training import Run, Trainer, compared, evaluate, machine, predict


def seconds(function: Callable[[], object]) -> float:
    """The time of one call, waiting for the GPU, if there is one, before and after."""
    wait = torch.cuda.synchronize if torch.cuda.is_available() else lambda: None
    wait()
    start = time.perf_counter()
    function()
    wait()
    return time.perf_counter() - start


def in_turns(
    functions: dict[str, Callable[[], object]], rounds: int, progress: bool = True
) -> dict[str, list[float]]:
    """{name: seconds of each round}: in every round each function is called once.

    The first two rounds warm up (memory, kernel selection) and are not counted.
    """
    at_least_one("rounds", rounds)
    times = {name: [] for name in functions}
    for number in tqdm(range(rounds + 2), desc="timing", unit="round", disable=not progress):
        for name, function in functions.items():
            spent = seconds(function)
            if number >= 2:
                times[name].append(spent)
    return times


def costs(
    runs: Sequence[Run], data: Dataset | None = None, rounds: int = 5, progress: bool = True
) -> pd.DataFrame:
    """What networks cost, a frame with one row a run; the first run is the one compared with.

    data: says the size of the images and the classes; None: 32×32, ten. parameters; flops: of one
    image forward; step_ms: one training step (forward, backward, update) on a batch that is already
    in memory; time: step_ms over the first run's, the median of the ratios within a round.
    """
    (size, classes), device = _like(data), _device()
    precision = machine.precision(device)
    trainers = {run.name: Trainer(run, classes, 10**6, device, precision) for run in _runs(runs)}
    batch = runs[0].resolved().batch_size
    images = _images(batch, size, device)
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


def inference(
    runs: Sequence[Run], data: Dataset | None = None, rounds: int = 5, progress: bool = True
) -> pd.DataFrame:
    """What an answer costs, and what training holds: a frame with one row a run.

    data: as in `costs`. latency_ms: from one image to its logits, in eval mode, float32, the median
    over the rounds of the mean of 20 calls; memory_mib: what the forward pass of one batch in
    training mode keeps for the backward pass, in float32.
    """
    (size, classes), device = _like(data), _device()
    networks = {run.name: run.build(classes).to(device).eval() for run in _runs(runs)}
    image = _images(1, size, device)

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
    few, more = (kept_for_backward(lambda n=n: network(_images(n, size, device))) for n in (8, 16))
    return few + (more - few) * (batch - 8) / 8


def _like(data):
    return ((32, 32), 10) if data is None else (tuple(data.size), len(data.classes))


def _device():
    """The device of `fit`, set up as `fit` does it: a CPU's process keeps the memory it frees."""
    device = torch.device(machine.default_device())
    if device.type == "cpu":
        machine.keep_memory()
    return device


def _images(number, size, device):
    images = torch.randn(number, 3, *size, device=device)
    return images.to(memory_format=torch.channels_last)


def _runs(runs):
    """The runs, if they are what can be measured side by side."""
    if not (isinstance(runs, list | tuple) and runs and all(isinstance(r, Run) for r in runs)):
        raise ValueError(f"runs must be a list of Run, at least one of them, got {runs!r}")
    return runs


def costs_of(
    runs: Sequence[Run], data: Dataset, rounds: int = 2, progress: bool = True
) -> tuple[pd.DataFrame, str]:
    """What each network costs: a frame with `COSTS`, one row a run, and a sentence on its origin.

    The committed measurement, data/benchmarks/mechanisms.json, if it has the first of `runs` on
    images and classes like those of `data`, and as large; a network that it lacks, or has in
    another size, is nan then, for times of two machines do not belong into one column. Else all
    are measured here, by `costs` and `inference`.
    """
    size, classes = _like(data)
    sizes = {run.name: parameters(run.build(classes)) for run in _runs(runs)}
    path = home() / "data" / "benchmarks" / "mechanisms.json"
    if path.exists() and size == (32, 32):
        rows, where = read_costs(path)
        same = [name for name, count in sizes.items() if rows.parameters.get(name) == count]
        first = runs[0].resolved()
        if first.name in same and rows.batch_size[first.name] == first.batch_size:
            table = rows.reindex(columns=COSTS).loc[same].reindex(list(sizes))
            return table, f"measured by python -m attention.benchmark mechanisms: {where}"
    table = costs(runs, data, rounds, progress).join(inference(runs, data, rounds, progress))
    device = machine.default_device()
    return table[list(COSTS)], (
        f"measured here, median of {rounds} rounds, on {machine.describe(device)['hardware']} in "
        f"{machine.precision(device)}"
    )


def trainer_overhead(data: Dataset, rounds: int = 5, progress: bool = True) -> dict[str, float]:
    """Images per second of `fit`'s loop and of the bare step, on the default network.

    The loop makes its batches from the images; the bare step has one batch in memory.
    """
    run = Run().resolved()
    device = _device()
    precision = machine.precision(device)
    part = data.train.spread(min(len(data.train), 8 * run.batch_size))
    batches = Batches(part, run.batch_size, run.seed, device, data.mean, data.std, crop=run.crop)
    trainer = Trainer(run, len(data.classes), 10**6, device, precision)
    images, labels = next(iter(batches.epoch(0)))

    def loop() -> None:
        with tqdm(total=len(batches), leave=False, disable=not progress) as bar:
            trainer.epoch(batches.epoch(len(trainer.history)), len(batches), bar)

    def bare() -> None:
        for _ in range(len(batches)):
            trainer.train_step(images, labels)

    times = in_turns({"fit": loop, "bare step": bare}, rounds, progress)
    rates = {
        "fit": len(part) / statistics.median(times["fit"]),
        "bare step": len(batches) * len(images) / statistics.median(times["bare step"]),
    }
    return {**rates, "share": rates["fit"] / rates["bare step"]}


def explanation(data: Dataset, count: int = 1000, progress: bool = True) -> dict[str, float]:
    """Seconds for every measure of one network's maps, over `count` test images, by measure.

    The network is that of the comparison, with CBAM and weights as they are before training: the
    time does not depend on them. Measured are its deepest spatial gate, Grad-CAM and the baselines:
    localisation, deletion, insertion and ROAD, the agreement of each map with Grad-CAM, and the
    accuracy without each of the network's gates. data: with masks.
    """
    if data.test.masks is None:
        raise ValueError(f"data must have masks of its objects, {data.name} has none")
    device = _device()
    network = compared("cbam").build(len(data.classes)).eval().to(device)
    test = data.test.spread(at_least_one("count", count))
    images = normalise(test.images, data.mean, data.std).to(device)
    gates = [n for n, m in network.named_modules() if isinstance(m, Gate) and m.kind == SPATIAL]
    names = (gates[-1], "Grad-CAM", "gradient", "centre", "random")
    maps = {}

    def make() -> None:
        every = explain.every_map(network, images)
        maps.update({name: every[name].maps for name in names})

    def behave() -> None:
        with explain.capture(network) as captured:
            predict(network, test, data)
        explain.behaviour(captured, test.labels)

    measures = {
        "all maps": make,
        "localisation": lambda: [explain.localisation(maps[n], test.masks) for n in names],
        "agreement": lambda: [explain.rank_correlation(maps[n], maps["Grad-CAM"]) for n in names],
        "behaviour": behave,
        "knocked out": lambda: explain.knocked_out(
            network, images, lambda changed: evaluate(changed, test, data)[1]
        ),
    } | {
        f"removal, {name}": lambda n=name: explain.areas(network, images, {n: maps[n]})
        for name in names
    }
    bar = tqdm(measures.items(), unit="measure", disable=not progress)
    return {name: seconds(function) for name, function in bar}


def four_blocks() -> list[Run]:
    """The plain network and the four blocks of notebooks 1 to 4, with their official variants."""
    official = {"reduction": REDUCTION, "variant": "official"}
    runs = [compared(name) for name in (None, "se", "eca", "cbam", "bam")]
    return runs + [compared(name, options=official) for name in ("cbam", "bam")]


def mechanisms() -> list[Run]:
    """All networks of the comparison, and local windows of their own size beside the small ones."""
    return [*grids.everything(1), compared("local", options={})]


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(
        prog="python -m attention.benchmark", description=__doc__.splitlines()[0]
    )
    parser.add_argument("what", choices=("blocks", "mechanisms", "trainer", "explain"))
    parser.add_argument("--rounds", type=int, default=10)
    chosen = parser.parse_args(arguments)
    if chosen.rounds < 1:
        parser.error(f"--rounds must be a whole number of at least 1, got {chosen.rounds}")
    device = _device()
    here = {**machine.describe(device), "precision": machine.precision(device)}
    print(here)
    if chosen.what == "trainer":
        for name, value in trainer_overhead(load(), chosen.rounds).items():
            print(f"{name:10} {value:10.3f}")
    elif chosen.what == "explain":
        spent = explanation(load("shapes10"))
        for name, value in {**spent, "together": sum(spent.values())}.items():
            print(f"{name:50} {value:6.1f} s")
    else:
        runs = four_blocks() if chosen.what == "blocks" else mechanisms()
        table = costs(runs, rounds=chosen.rounds).join(inference(runs, rounds=chosen.rounds))
        table = table.rename_axis("name").reset_index()
        print(table.round(3).to_string(index=False))
        record = {
            "machine": here, "rounds": chosen.rounds, "batch_size": runs[0].resolved().batch_size,
            "rows": table.to_dict("records"),
        }  # fmt: skip
        write_record(home() / "data" / "benchmarks" / f"{chosen.what}.json", record)


if __name__ == "__main__":
    main()
