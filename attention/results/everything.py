"""Every network that was trained, in tables: a part of RESULTS.md. Exploratory, no verdict."""

from collections.abc import Sequence
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
from attention.settings import home

# Made for a purpose of their own; notebooks 7 and 9 are about them.
ASIDE = ("-validation", "-random-labels")


def markdown(records: Sequence[dict], costs: pd.DataFrame | None = None) -> str:
    """The results as Markdown: a table for each dataset and setting, and where it was measured.

    costs: a frame by name with the columns `tables.COSTS`, for the networks it has.
    """
    groups = frame(records).groupby([*statistics.SETTING], sort=False)
    groups = sorted(groups, key=lambda group: (group[0][0] == "shapes10", -len(group[1]), group[0]))
    parts = []
    for (dataset, images, epochs), rows in groups:
        rows = rows if costs is None else beside(rows, costs)
        parts.append(
            f"**{dataset}**, {images:,} training images, {epochs} epochs, final epoch, "
            f"{_machines(rows)}:\n\n" + as_markdown(results(rows))
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


def results(rows: pd.DataFrame) -> pd.DataFrame:
    """The runs of one setting in words, a row a network: what `overview` gives."""
    plain = plain_networks(rows)
    found = overview(rows, plain[0], plain) if plain else statistics.means(rows)
    shown = in_words(found)
    shown.columns = [
        {"cost": "", "minus": "minus "}.get(heading, f"{heading}: ") + column
        for heading, column in shown.columns
    ]
    return shown.rename(labels(found)).rename_axis("network").reset_index()


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
