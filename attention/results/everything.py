"""Every network that was trained, in tables: a part of RESULTS.md. Exploratory, no verdict."""

from collections.abc import Callable, Sequence
from pathlib import Path

import pandas as pd

from attention.results import statistics
from attention.results.overview import COST_COLUMNS, in_words, overview
from attention.results.tables import (
    as_markdown,
    beside,
    frame,
    labels,
    plain_networks,
    read,
    read_costs,
)
from attention.results.trials import described
from attention.settings import home

# Made for a purpose of their own: to choose among (notebooks 9 and 10), and for notebook 7.
HELD_OUT, RANDOM_LABELS = "-validation", "-random-labels"
ASIDE = (HELD_OUT, RANDOM_LABELS)


def markdown(
    records: Sequence[dict], costs: pd.DataFrame | None = None, names: Callable = labels
) -> str:
    """The results as Markdown: a table for each dataset and setting, and where it was measured.

    costs: a frame by name with the columns `tables.COSTS`, for the networks it has. names: gives
    {name: what it is called} for the runs of a table.
    """
    groups = frame(records).groupby([*statistics.SETTING], sort=False)
    groups = sorted(groups, key=lambda group: (group[0][0] == "shapes10", -len(group[1]), group[0]))
    parts = []
    for (dataset, images, epochs, recipe), rows in groups:
        rows = rows if costs is None else beside(rows, costs)
        parts.append(
            f"**{dataset}**, {images:,} training images, {epochs} epochs, "
            f"{recipe and f'{recipe}, '}final epoch, {_machines(rows)}:\n\n"
            + as_markdown(results(rows, names))
        )
    return "\n\n".join(parts)


def _machines(rows):
    """On what the runs of a table were trained, with their seeds where there are several."""
    places = rows.groupby(["hardware", "precision"], sort=False).seed.unique()
    names = [f"on {hardware}, {precision}" for hardware, precision in places.index]
    if len(places) == 1:
        return names[0]
    words = [", ".join(map(str, sorted(seeds))) for seeds in places]
    return "; ".join(f"seed {seeds} {name}" for seeds, name in zip(words, names, strict=True))


def results(rows: pd.DataFrame, names: Callable = labels) -> pd.DataFrame:
    """The runs of one setting in words, a row a network: what `overview` gives."""
    plain = plain_networks(rows)
    found = overview(rows, plain[0], plain) if plain else statistics.means(rows)
    shown = in_words(found)
    shown.columns = [
        {"cost": "", "minus": "minus "}.get(heading, f"{heading}: ") + column
        for heading, column in shown.columns
    ]
    return shown.rename(names(found)).rename_axis("network").reset_index()


def text(folder: str | Path | None = None) -> str:
    """The tables of all records below `folder`; "" while there is none.

    folder: with runs/ and benchmarks/; None: data at home.
    """
    folder = Path(folder) if folder else home() / "data"
    records = [r for r in read(folder / "runs") if not r["dataset"]["name"].endswith(ASIDE)]
    if not records:
        return ""
    costs, notes = None, ""
    if (path := folder / "benchmarks" / "mechanisms.json").exists():
        costs, where = read_costs(path)
        costs = costs[[column for column in COST_COLUMNS if column in costs]]
        notes = (
            f"\n\nStep: one training step, {where}; answer: to one image, without a batch; memory: "
            "what the forward pass of a batch keeps for the backward pass."
        )
    return markdown(records, costs) + notes


def held_out(folder: str | Path | None = None) -> str:
    """The same for what was trained to choose among, on held-out training images; costs left out.

    folder: as in `text`. A hybrid is told by its parts (`trials.described`).
    """
    folder = Path(folder) if folder else home() / "data"
    records = [r for r in read(folder / "runs") if r["dataset"]["name"].endswith(HELD_OUT)]
    return markdown(records, names=_by_parts) if records else ""


def _by_parts(table):
    """`labels`, but for hybrids their parts, wherever these tell all of them apart."""
    hybrids = table[table.family == "hybrid"]
    words = {name: described(row.options, row.place) for name, row in hybrids.iterrows()}
    return labels(table) | (words if len(set(words.values())) == len(words) else {})
