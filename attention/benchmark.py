"""What a block costs in training time, and what `fit` costs beside the bare training step.

    python -m attention.benchmark blocks        SE, ECA, CBAM, BAM beside the plain network
    python -m attention.benchmark mechanisms    every block, pooling and transformer beside the
                                                plain network, in the setting of the comparison
    python -m attention.benchmark trainer       fit's loop beside its own step on one batch
    python -m attention.benchmark explain       every measure of a network's maps, 1,000 images

The first two write what they find to data/benchmarks/, which the README's tables are made from.

Times of one machine vary with what else it does: what is compared is measured in turns, and each
figure is a median over the turns.
"""

import argparse
import json
import statistics
import time

import pandas as pd
import torch
from tqdm.auto import tqdm

from attention import explain
from attention.cost import flops, kept_for_backward, parameters
from attention.data import Batches, load, normalise
from attention.files import replacing
from attention.settings import home
from attention.study import grids
from attention.training import Run, comparison, machine
from attention.training.trainer import Trainer, evaluate, predict


def seconds(function, device):
    """The time of one call, waiting for the GPU before and after."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    start = time.perf_counter()
    function()
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return time.perf_counter() - start


def in_turns(functions, rounds, device, progress=True):
    """{name: seconds of each round}: in every round each function is called once.

    The first two rounds warm up (memory, kernel selection) and are not counted.
    """
    times = {name: [] for name in functions}
    for number in tqdm(range(rounds + 2), desc="timing", unit="round", disable=not progress):
        for name, function in functions.items():
            spent = seconds(function, device)
            if number >= 2:
                times[name].append(spent)
    return times


def costs(runs, size=(32, 32), classes=10, rounds=5, device=None, precision=None, progress=True):
    """What networks cost, a frame with one row a run; the first run is the one compared with.

    parameters; flops: of one image forward; step_ms: one training step (forward, backward,
    update) on a batch that is already in memory; time: step_ms over the first run's, the median
    of the ratios within a round.
    """
    device = torch.device(device or machine.default_device())
    precision = machine.precision(device, precision)
    trainers = {run.name: Trainer(run, classes, 10**6, device, precision) for run in runs}
    batch = runs[0].batch_size
    images = torch.randn(batch, 3, *size, device=device).to(memory_format=torch.channels_last)
    labels = torch.randint(classes, (batch,), device=device)
    steps = {
        name: lambda trainer=trainer: trainer.train_step(images, labels)
        for name, trainer in trainers.items()
    }
    times = in_turns(steps, rounds, device, progress)
    first = times[runs[0].name]
    rows = {
        name: {
            "parameters": parameters(trainer.network),
            "flops": flops(trainer.network, (1, 3, *size)),
            "step_ms": 1000 * statistics.median(times[name]),
            "time": statistics.median(t / f for t, f in zip(times[name], first, strict=True)),
        }
        for name, trainer in trainers.items()
    }
    return pd.DataFrame.from_dict(rows, orient="index")


def inference(runs, size=(32, 32), classes=10, rounds=5, device=None, progress=True):
    """What an answer costs, and what training holds: a frame with one row a run.

    latency_ms: from one image to its logits, in eval mode, float32, the median over the rounds of
    the mean of 20 calls; memory_mib: what the forward pass of one batch in training mode keeps for
    the backward pass, in float32.
    """
    device = torch.device(device or machine.default_device())
    networks = {run.name: run.build(classes).to(device).eval() for run in runs}
    image = torch.randn(1, 3, *size, device=device).to(memory_format=torch.channels_last)

    @torch.no_grad()
    def answers(network):
        for _ in range(20):
            network(image)

    functions = {name: lambda n=network: answers(n) for name, network in networks.items()}
    times = in_turns(functions, rounds, device, progress)
    few = torch.randn(16, 3, *size, device=device).to(memory_format=torch.channels_last)
    rows = {}
    for run in runs:
        network = networks[run.name].train()
        # what is kept grows in step with the images: two small batches give the large one
        one, two = (kept_for_backward(lambda n=n, m=network: m(few[:n].clone())) for n in (8, 16))
        rows[run.name] = {
            "latency_ms": 1000 * statistics.median(times[run.name]) / 20,
            "memory_mib": (one + (two - one) * (run.batch_size - 8) / 8) / 2**20,
        }
    return pd.DataFrame.from_dict(rows, orient="index")


def trainer_overhead(data, rounds=5, steps=8, device=None, precision=None, progress=True):
    """Images per second of `fit`'s loop and of the bare step, on the default network.

    The loop makes its batches from the images; the bare step has one batch in memory.
    """
    run = Run()
    device = torch.device(device or machine.default_device())
    precision = machine.precision(device, precision)
    part = data.train.spread(min(len(data.train), steps * run.batch_size))
    batches = Batches(part, run.batch_size, run.seed, device, data.mean, data.std, crop=run.crop)
    trainer = Trainer(run, len(data.classes), 10**6, device, precision)
    images, labels = next(iter(batches.epoch(0)))

    def loop():
        with tqdm(total=len(batches), leave=False, disable=not progress) as bar:
            trainer.epoch(batches.epoch(len(trainer.history)), len(batches), bar)

    def bare():
        for _ in range(len(batches)):
            trainer.train_step(images, labels)

    times = in_turns({"fit": loop, "bare step": bare}, rounds, device, progress)
    rates = {
        "fit": len(part) / statistics.median(times["fit"]),
        "bare step": len(batches) * len(images) / statistics.median(times["bare step"]),
    }
    return {**rates, "share": rates["fit"] / rates["bare step"]}


def explanation(data, count=1000, progress=True):
    """Seconds for every measure of one network's maps, over `count` test images, by measure.

    The network is that of the comparison, with CBAM and weights as they are before training: the
    time does not depend on them. Measured are its deepest spatial gate, Grad-CAM and the baselines:
    localisation, deletion, insertion and ROAD, the agreement of each map with Grad-CAM, and the
    accuracy without each of the network's gates. data: with masks.
    """
    network = Run(block="cbam", **comparison()).build(len(data.classes)).eval()
    network = network.to(machine.default_device())
    test = data.test.spread(count)
    images = normalise(test.images, data.mean, data.std).to(machine.default_device())
    names = ("stages.2.1.attention.spatial.gate", "Grad-CAM", "gradient", "centre", "random")
    spent, maps = {}, {}

    def make():
        every = explain.every_map(network, images)
        maps.update({name: every[name].maps for name in names})

    def behave():
        with explain.capture(network) as captured:
            predict(network, test, data)
        explain.behaviour(captured, test.labels)

    def agree():
        for one in maps.values():
            explain.rank_correlation(one, maps["Grad-CAM"])

    def locate():
        for one in maps.values():
            explain.localisation(one, test.masks)

    measures = {
        "all maps": make, "localisation": locate, "agreement": agree, "behaviour": behave,
        "knocked out": lambda: explain.knocked_out(
            network, images, lambda changed: evaluate(changed, test, data)[1]
        ),
    }  # fmt: skip
    for name in names:
        measures[f"removal, {name}"] = lambda name=name: explain.areas(
            network, images, {name: maps[name]}
        )
    for name, function in tqdm(measures.items(), unit="measure", disable=not progress):
        spent[name] = seconds(function, images.device)
    return spent


def four_blocks():
    """The plain network and the four blocks of notebooks 1 to 4, with their official variants."""
    official = {"variant": "official"}
    runs = [Run(), *(Run(block=name) for name in ("se", "eca", "cbam", "bam"))]
    return runs + [Run(block=name, options=official) for name in ("cbam", "bam")]


def compared():
    """All networks of the comparison, and local windows of their own size beside the small ones."""
    return [*grids.comparison(1), Run(block="local", **comparison())]


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("what", choices=("blocks", "mechanisms", "trainer", "explain"))
    parser.add_argument("--rounds", type=int, default=10)
    arguments = parser.parse_args()
    device = torch.device(machine.default_device())
    here = {**machine.describe(device), "precision": machine.precision(device)}
    print(here)
    if arguments.what == "trainer":
        for name, value in trainer_overhead(load(), arguments.rounds).items():
            print(f"{name:10} {value:10.3f}")
    elif arguments.what == "explain":
        machine.keep_memory()
        spent = explanation(load("shapes10"))
        for name, value in {**spent, "together": sum(spent.values())}.items():
            print(f"{name:50} {value:6.1f} s")
    else:
        runs = four_blocks() if arguments.what == "blocks" else compared()
        table = costs(runs, rounds=arguments.rounds).join(inference(runs, rounds=arguments.rounds))
        table = table.rename_axis("name").reset_index()
        print(table.round(3).to_string(index=False))
        record = {
            "machine": here, "rounds": arguments.rounds, "batch_size": runs[0].batch_size,
            "rows": table.to_dict("records"),
        }  # fmt: skip
        with replacing(home() / "data" / "benchmarks" / f"{arguments.what}.json") as path:
            path.write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
