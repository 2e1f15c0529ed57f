"""The leaderboard: blocks of one's own beside what was trained in the same setting.

Ranked by held-out training images, never by the test images: whoever tries ten blocks and keeps
the best has chosen by these images.
"""

from collections.abc import Callable, Sequence

import pandas as pd

from attention.checks import at_least_one, instance
from attention.data import Dataset, held_out
from attention.files import read_record
from attention.settings import checkout, home
from attention.study import grids, work
from attention.training import Run, compared

# What may differ between two rows of the board; everything else is the setting, and is the same.
FREE = ("block", "at", "stages", "start", "options", "seed")
COLUMNS = ["held_out", "seeds", "minus_plain", "parameters", "yours"]


def leaderboard(
    data: Dataset, own: Sequence[Callable] = (), minutes: float | None = None, seeds: int = 1
) -> pd.DataFrame:
    """A row a network, the best first: own blocks, and every record of the same setting.

    data: the dataset; the networks learn from a part of its training images and are ranked by the
        others, see `held_out`.
    own: blocks, as `Run` takes them, trained as all are `compared`, with the plain network and SE
        beside them where these have no record. Without any, nothing is trained.
    minutes: as in `attention.study.work`. seeds: with how many seeds, the choice's: 100, 101, …

    Columns: held_out, the accuracy in percent, its mean over the seeds; seeds, how many there are;
    minus_plain, in points, paired by seed, missing where no seed is shared; parameters; yours.
    """
    held = held_out(instance(Dataset, "data", data))
    first = grids.FIRST_SEED_OF_CHOICE
    chosen = range(first, first + at_least_one("seeds", seeds))
    runs = [compared(block, seed) for seed in chosen for block in own]
    beside = [compared(name, seed) for seed in chosen for name in (None, "se") if runs]
    records = work([*beside, *runs], held, minutes=minutes, progress=bool(runs))
    now: dict[str, str | None] = dict.fromkeys(run.name for run in runs)
    now |= {r["name"]: r["block"]["version"] for r in records if r["name"] in now}
    plain = compared(None)
    rows = [_row(r, now) for r in _records(held) if _setting(r["run"]) == _of(plain)]
    if not rows:
        return pd.DataFrame(columns=COLUMNS).rename_axis("name")
    table = pd.DataFrame(rows)
    by_seed = table.pivot_table(index="seed", columns="name", values="held_out")
    reference = by_seed[plain.name] if plain.name in by_seed else float("nan")
    board = table.groupby("name").agg({"parameters": "first", "yours": "first"})
    board["held_out"], board["seeds"] = by_seed.mean(), by_seed.notna().sum()
    board["minus_plain"] = by_seed.sub(reference, axis=0).mean()
    return board.sort_values("held_out", ascending=False)[COLUMNS]


def _row(record: dict, now: dict[str, str | None]) -> dict:
    """A record on the board. now: {name: version} of the own blocks; one that was changed since its
    training is another block, and is called so.
    """
    name, block = record["name"], record["block"]
    earlier = name in now and block["version"] != now[name]
    return {
        "name": f"{name} (earlier: {block['version'][:4]})" if earlier else name,
        "seed": record["run"]["seed"],
        "held_out": record["result"]["test_accuracy"],
        "parameters": record["result"]["parameters"],
        "yours": name in now,
    }


def _records(held: Dataset) -> list[dict]:
    """Those at home, and those that come with the repository."""
    homes = dict.fromkeys(filter(None, (checkout(), home())))
    paths = {
        path.name: path
        for folder in homes
        for path in sorted((folder / "data" / "runs" / held.name).glob("*.json"))
    }
    records = [read_record(path) for path in paths.values()]
    return [record for record in records if record["dataset"]["checksum"] == held.checksum]


def _setting(run: dict) -> dict:
    return {name: value for name, value in run.items() if name not in FREE}


def _of(run: Run) -> dict:
    return _setting(run.resolved().plain())
