"""Every network that was trained, in tables: a part of RESULTS.md. Exploratory, no verdict."""

from collections.abc import Sequence
from pathlib import Path

import pandas as pd

from attention.results import statistics
from attention.results.guide import guide
from attention.results.overview import COST_COLUMNS, TESTS, in_words, numbers, overview
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
        if costs is not None and len(parts) == 1:
            parts.append(advice(rows))
    return "\n\n".join(filter(None, parts))


def _machines(rows):
    """On what the runs of a table were trained, with their seeds where there are several."""
    places = rows.groupby(["hardware", "precision"], sort=False).seed.unique()
    names = [f"on {hardware}, {precision}" for hardware, precision in places.index]
    if len(places) == 1:
        return names[0]
    words = [", ".join(map(str, sorted(seeds))) for seeds in places]
    return "; ".join(f"seed {seeds} {name}" for seeds, name in zip(words, names, strict=True))


def results(rows: pd.DataFrame) -> pd.DataFrame:
    """The runs of one setting in words, a row a network: what `overview` gives, `*` significant."""
    plain = plain_networks(rows)
    found = overview(rows, plain[0], plain) if plain else statistics.means(rows)
    shown = in_words(found)
    for prefix, heading in TESTS.items() if plain else ():
        star = found[f"{prefix}_significant"].eq(True).map({True: " *", False: ""})
        shown[heading, "points"] += star
    shown.columns = [
        column if heading == "cost" else f"{heading}: {column}" for heading, column in shown.columns
    ]
    return shown.rename(labels(found)).rename_axis("network").reset_index()


def advice(rows: pd.DataFrame) -> str:
    """The decision guide of `guide.guide` as Markdown; nothing while no network has two seeds.

    rows: the runs of one setting, with what the networks cost.
    """
    plain = plain_networks(rows)
    if not plain or rows.groupby("name").seed.nunique().max() < 2:
        return ""
    found = guide(rows, plain[0])
    found = found[found.choice.notna()]
    short = labels(rows)
    words = {f"^{column} ": f"{heading} " for column, (heading, _) in COST_COLUMNS.items()}
    limits = found.budget.replace(words, regex=True)
    other = found.choice != found.best
    shown = pd.DataFrame({
        "budget": limits + found["plain's times"].map(" (plain × {:g})".format),
        "take": found.choice.map(short),
        "accuracy (%)": numbers(found["mean"], "{:.2f}"),
        "the most accurate within it": found.best.map(short),
        "take minus that": numbers(found.difference.where(other), "{:+.2f}"),
        "at least": numbers(found.difference_low.where(other), "{:+.2f}"),
        "networks as good": found.as_good.str.len(),
    })  # fmt: skip
    return (
        "**What to take within a budget**: the cheapest network that is shown to be less than half "
        "a point worse than the most accurate one that keeps to it (one-sided, 95 %).\n\n"
    ) + as_markdown(shown)


def text(folder: str | Path | None = None) -> str:
    """The tables of all records below `folder`; "" while there is none.

    folder: with runs/ and benchmarks/; None: data at home.
    """
    folder = Path(folder) if folder else home() / "data"
    records = [r for r in read(folder / "runs") if not r["dataset"]["name"].endswith(ASIDE)]
    if not records:
        return ""
    costs, notes = None, "`*`: significant after Holm's correction for all rows of its column."
    if (path := folder / "benchmarks" / "mechanisms.json").exists():
        costs, where = read_costs(path)
        costs = costs[[column for column in COST_COLUMNS if column in costs]]
        notes += (
            f" Step: one training step, {where}; answer: to one image, without a batch; memory: "
            "what the forward pass of a batch keeps for the backward pass."
        )
    return f"{markdown(records, costs)}\n\n{notes}"
