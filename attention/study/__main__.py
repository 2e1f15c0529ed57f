"""Train many runs: what has no record yet, for as long as there is time.

    python -m attention.study                              every grid
    python -m attention.study primary --seeds 3         one grid, three seeds
    python -m attention.study --minutes 60                 what fits into an hour
    python -m attention.study primary --ray             several at once, by Ray
    python -m attention.study primary --ray HEAD:6379   on the machines of a Ray cluster

Stopped at any moment, the same command goes on from the last finished epoch. Started several times
on one machine, the processes share the runs; several machines are a cluster.
"""

import argparse
import contextlib
import functools
import math

from attention.checks import at_least_one
from attention.data import load
from attention.study.cluster import Cluster
from attention.study.grids import GRIDS
from attention.study.work import Budget, work


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(
        prog="python -m attention.study", description=__doc__.splitlines()[0]
    )
    parser.add_argument("grids", nargs="*", metavar="GRID", help=f"{', '.join(GRIDS)}; all")
    parser.add_argument("--seeds", type=int, help="how many; the profile's")
    parser.add_argument("--minutes", type=float, help="start only what fits into them")
    many = parser.add_argument_group("on a Ray cluster")
    many.add_argument(
        "--ray", nargs="?", const="", metavar="ADDRESS",
        help="of its head; without one, a cluster is started on this machine",
    )  # fmt: skip
    many.add_argument("--gpus", type=float, help="part of a GPU for a run; for small images 0.25")
    many.add_argument("--cpus", type=int, default=1, help="cores of a run, its threads; 1")
    many.add_argument("--scratch", help="a folder that all machines see, for checkpoints")
    many.add_argument(
        "--read", action="store_true", help="each machine reads ATTENTION_DATA; else it is sent"
    )
    chosen = parser.parse_args(arguments)
    if unknown := [name for name in chosen.grids if name not in GRIDS]:
        parser.error(f"GRID must be one of {', '.join(GRIDS)}; got {unknown[0]!r}")
    if chosen.ray in GRIDS:
        parser.error(f"--ray takes an address: put {chosen.ray} before it")
    if chosen.seeds is not None and chosen.seeds < 1:
        parser.error(f"--seeds must be a whole number of at least 1, got {chosen.seeds}")
    if chosen.minutes is not None and not 0 < chosen.minutes < math.inf:
        parser.error(f"--minutes must be a number above 0, got {chosen.minutes:g}")
    try:
        here = _place(chosen)
    except ValueError as error:
        parser.error(str(error))
    budget, images = Budget(chosen.minutes), load()
    with here as cluster:
        if cluster is not None:
            print(cluster.describe(images))
        for name in dict.fromkeys(chosen.grids or GRIDS):
            train = work if cluster is None else functools.partial(cluster.work, grid=name)
            data = GRIDS[name].data(images)
            runs, before = GRIDS[name].runs(chosen.seeds, data), None
            while runs != before:
                done, before = train(runs, data, budget.left()), runs
                runs = GRIDS[name].runs(chosen.seeds, data)  # that of a search grows
            print(f"{name}: {len(done)} of {len(runs)} runs have a record")


def _place(chosen: argparse.Namespace) -> contextlib.AbstractContextManager[Cluster | None]:
    """Where the runs are trained: on a cluster, or here (None)."""
    if chosen.ray is not None:
        return Cluster(chosen.ray or None, chosen.gpus, chosen.cpus, chosen.scratch, chosen.read)
    at_least_one("--cpus", chosen.cpus)
    given = {"--gpus": chosen.gpus, "--scratch": chosen.scratch, "--read": chosen.read or None}
    for name, value in given.items():
        if value is not None:
            raise ValueError(f"{name} is for a cluster: use it with --ray")
    return contextlib.nullcontext()


if __name__ == "__main__":
    main()
