"""`python -m attention.benchmark`: measure, print, and keep what was found."""

import argparse
from collections.abc import Callable

import pandas as pd
import torch

from attention import benchmark, figures
from attention.benchmark.blocks import SHAPES, SHORT
from attention.benchmark.sizes import BLOCKS_THAT_GROW
from attention.benchmark.timing import device_here
from attention.data import load, normalise
from attention.files import write_record
from attention.networks import lacking
from attention.settings import home
from attention.training import machine, pretrained

ROUNDS = 10


def blocks(rounds: int, short: bool = False) -> pd.DataFrame:
    """Blocks beside their peers, in float32 and, where it is another, the fast precision."""
    device = device_here()
    fused, parts = not short and _can_fuse(), []
    for precision in dict.fromkeys(("float32", machine.precision(device))):
        found = benchmark.beside_peers(SHORT if short else SHAPES, rounds, precision, fused)
        parts.append(found.assign(precision=precision))
    return pd.concat(parts, ignore_index=True)


def networks(rounds: int, short: bool = False) -> pd.DataFrame:
    """The papers' blocks in the network of the comparison, as written and fused."""
    runs = benchmark.four_blocks()[: 5 if short else None]
    return benchmark.eager_and_fused(runs, rounds, not short and _can_fuse())


def mechanisms(rounds: int, short: bool = False) -> pd.DataFrame:
    """Every mechanism: a training step, an answer, memory."""
    runs = benchmark.mechanisms()
    table = benchmark.costs(runs, rounds=rounds).join(benchmark.inference(runs, rounds=rounds))
    return table.rename_axis("name").reset_index()


def trainer(rounds: int, short: bool = False) -> pd.DataFrame:
    """`fit` beside its bare step, beside an ordinary pipeline, and on a GPU with CUDA graphs."""
    data = load()
    loop = benchmark.trainer_overhead(data, rounds)
    ordinary = benchmark.pipeline(data, 8 if short else 24, rounds)
    rows = [
        {"compared": "the bare step", "fit": loop["fit"], "other": loop["bare step"],
         "times": loop["share"]},
        {"compared": "an ordinary pipeline", "fit": ordinary["fit"], "other": ordinary["ordinary"],
         "times": ordinary["times"]},
    ]  # fmt: skip
    if device_here().type == "cuda":
        graphs = benchmark.replayed(data, rounds)
        rows.append({"compared": "the bare step without CUDA graphs, with them",
                     "fit": graphs["replayed"], "other": graphs["as written"],
                     "times": graphs["times"]})  # fmt: skip
    return pd.DataFrame(rows)


def inference(rounds: int, short: bool = False) -> pd.DataFrame:
    """Answers of trained networks: with the weights that come with the repository, if they do."""
    found, images = {}, None
    for name in (None, "se", "eca", "cbam", "bam"):
        try:
            found[name or "plain"] = pretrained(name)
        except ValueError:
            continue
    if "plain" in found:
        data = load()
        if data.name == found["plain"].record["dataset"]["name"]:
            part = data.train.spread(500).images
            images = normalise(part, data.mean, data.std).to(device_here())
    batches = (1,) if short else (1, 128)
    return benchmark.answering(found or None, images, batches, rounds, not short and _can_fuse())


def growth(rounds: int, short: bool = False) -> pd.DataFrame:
    """Cost against batch, channels and side."""
    return benchmark.growth(("se", "cbam") if short else BLOCKS_THAT_GROW, rounds)


def explain(rounds: int, short: bool = False) -> pd.DataFrame:
    """Every measure of maps."""
    spent = benchmark.explanation(load("shapes10"), 100 if short else 1000)
    return pd.DataFrame({"measure": list(spent), "seconds": list(spent.values())})


WHAT: dict[str, Callable[..., pd.DataFrame]] = {
    "blocks": blocks, "networks": networks, "trainer": trainer, "inference": inference,
    "growth": growth, "mechanisms": mechanisms, "explain": explain,
}  # fmt: skip
SHORT_FORM = ("blocks", "networks", "trainer", "inference")


def _can_fuse():
    return lacking(device_here().type) is None


def keep(what: str, table: pd.DataFrame, rounds: int) -> None:
    """Write the record that RESULTS.md is made from, the table and the figure."""
    device = device_here()
    record = {
        "machine": {**machine.describe(device), "precision": machine.precision(device)},
        "rounds": rounds, "batch_size": benchmark.four_blocks()[0].resolved().batch_size,
        "rows": table.astype(object).where(table.notna(), None).to_dict("records"),
    }  # fmt: skip
    write_record(home() / "data" / "benchmarks" / f"{what}.json", record)
    figures.save_table(table, what, "benchmarks")
    if what == "blocks":
        figures.save(figures.beside_peers(table), what, "benchmarks", drawn_from_data=False)


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(
        prog="python -m attention.benchmark", description=benchmark.__doc__.splitlines()[0]
    )
    parser.add_argument(
        "what", nargs="?", choices=tuple(WHAT), help="without it: a short form of all"
    )
    parser.add_argument("--rounds", type=int, help=f"turns that count; {ROUNDS}, in short 3")
    chosen = parser.parse_args(arguments)
    if chosen.rounds is not None and chosen.rounds < 1:
        parser.error(f"--rounds must be a whole number of at least 1, got {chosen.rounds}")
    device = device_here()
    here = machine.describe(device)
    print(f"{here['hardware']}, {here['threads']} threads, {machine.precision(device)}, "
          f"torch {torch.__version__}")  # fmt: skip
    short = chosen.what is None
    for what in SHORT_FORM if short else (chosen.what,):
        rounds = chosen.rounds or (3 if short else ROUNDS)
        table = WHAT[what](rounds, short)
        print(f"\n{what}: {WHAT[what].__doc__}")
        print(table.round(3).to_string(index=False))
        if not short:
            keep(what, table, rounds)


if __name__ == "__main__":
    main()
