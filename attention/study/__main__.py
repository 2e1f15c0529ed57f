"""Train many runs: what has no record yet, for as long as there is time.

    python -m attention.study                              every grid
    python -m attention.study comparison --seeds 3         one grid, three seeds
    python -m attention.study --minutes 60                 what fits into an hour

Stopped at any moment, the same command goes on from the last finished epoch. Started several times
on one folder, the processes share the runs.
"""

import argparse
import math

from attention.data import load
from attention.study.grids import GRIDS
from attention.study.work import Budget, work


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(
        prog="python -m attention.study", description=__doc__.splitlines()[0]
    )
    parser.add_argument("grids", nargs="*", metavar="GRID", help=f"{', '.join(GRIDS)}; all")
    parser.add_argument("--seeds", type=int, help="how many; the profile's")
    parser.add_argument("--minutes", type=float, help="start only what fits into them")
    chosen = parser.parse_args(arguments)
    if unknown := [name for name in chosen.grids if name not in GRIDS]:
        parser.error(f"GRID must be one of {', '.join(GRIDS)}; got {unknown[0]!r}")
    if chosen.seeds is not None and chosen.seeds < 1:
        parser.error(f"--seeds must be a whole number of at least 1, got {chosen.seeds}")
    if chosen.minutes is not None and not 0 < chosen.minutes < math.inf:
        parser.error(f"--minutes must be a number above 0, got {chosen.minutes:g}")
    budget, images = Budget(chosen.minutes), load()
    for name in dict.fromkeys(chosen.grids or GRIDS):
        data = GRIDS[name].data(images)
        runs, before = GRIDS[name].runs(chosen.seeds, data), None
        while runs != before:
            done, before = work(runs, data, budget.left()), runs
            runs = GRIDS[name].runs(chosen.seeds, data)  # that of a search grows
        print(f"{name}: {len(done)} of {len(runs)} runs have a record")


if __name__ == "__main__":
    main()
