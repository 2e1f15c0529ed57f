"""Records into tables. A display name is a column like any other, and is never taken apart."""

from collections.abc import Sequence
from pathlib import Path

import pandas as pd

from attention.checks import one_of
from attention.files import read_record
from attention.networks import NETWORKS, RECIPES, SETTINGS
from attention.settings import home

# The columns that say what a network is; they stay beside it in every table made from a table.
DESCRIBING = ("network", "width", "block", "options", "place", "family")
COSTS = ("step_ms", "latency_ms", "memory_mib")
# What a file of `python -m attention.benchmark` holds, as far as it is read here.
MEASURED = {"rows": [{"name": str}], "batch_size": int, "rounds": int,
            "machine": {"hardware": str, "threads": int, "precision": str}}  # fmt: skip


def read(folder: str | Path | None = None) -> list[dict]:
    """All records below `folder`; None: data/runs at home. A file that is none is a ValueError."""
    folder = Path(folder) if folder else home() / "data" / "runs"
    return [read_record(path) for path in sorted(folder.glob("**/*.json"))]


def frame(records: Sequence[dict]) -> pd.DataFrame:
    """One row a record: what was trained, on what, how well, at what cost.

    width is missing where a network has its own, block and place where there is none; options is a
    dict; place says where the block stands, "residual" or "stage, stages 1, 2"; recipe, what was
    other than in the network's own, "" where nothing was. hardware and precision name all that the
    sessions of a run had. Accuracies are in percent.
    """
    return _typed([
        {
            "dataset": record["dataset"]["name"],
            **_what(record),
            "epochs": record["run"]["epochs"],
            "recipe": _recipe(record["run"]),
            "train_images": record["dataset"]["train_images"],
            "test_accuracy": record["result"]["test_accuracy"],
            "parameters": record["result"]["parameters"],
            "mflops": record["result"]["flops"] / 1e6,
            "seconds": record["cost"]["seconds"],
            "images_per_second": record["cost"]["images_per_second"],
            "hardware": _of_sessions(record, "hardware"),
            "precision": _of_sessions(record, "precision"),
        }
        for record in records
    ])  # fmt: skip


def histories(records: Sequence[dict]) -> pd.DataFrame:
    """One row a record and epoch: what the training gave, and the accuracy at its end.

    Raises a ValueError where a network has two records of one seed, or two numbers of epochs.
    """
    if not records:
        raise ValueError("records: expected at least one, got none")
    table = _typed([
        {**_what(record), **epoch, "test_accuracy": record["result"]["test_accuracy"]}
        for record in records
        for epoch in record["result"]["history"]
    ])  # fmt: skip
    twice = table.name[table.duplicated(["name", "seed", "epoch"])]
    lengths = table.groupby(["name", "seed"]).epoch.max().groupby("name").nunique()
    for name in (*twice, *lengths.index[lengths > 1]):
        raise ValueError(f"records: expected one setting and one record a seed of {name}")
    return table


def _what(record):
    """What a record is about: the columns `DESCRIBING`, name and seed."""
    run, block, where = record["run"], record["block"], None
    if block is not None:
        where = place(block["at"], run["at"], run["stages"], run["start"])
    return {
        "network": run["network"], "width": run["width"], "block": block and block["name"],
        "options": dict(run["options"]), "place": where, "family": record["family"],
        "name": record["name"], "seed": run["seed"],
    }  # fmt: skip


def _recipe(run):
    """What is other than in the network's own recipe: "batch size 128, learning rate 0.07"."""
    usual = RECIPES[NETWORKS[run["network"]].recipe]
    other = {name: run[name] for name in usual if run.get(name, usual[name]) != usual[name]}
    words = {name: f"{x:g}" if isinstance(x, float) else str(x) for name, x in other.items()}
    return ", ".join(f"{name.replace('_', ' ')} {value}" for name, value in words.items())


def place(
    own: str, at: str | None, stages: Sequence[int] | None = None, start: str | None = None
) -> str:
    """Where a block stands, in words: its own place, or where a run puts it."""
    words = [at or own]
    words += [f"stages {_words(stages)}"] if stages else []
    words += [f"start {start}"] if start else []
    return ", ".join(words)


def _of_sessions(record, what):
    return ", then ".join(dict.fromkeys(session[what] for session in record["cost"]["sessions"]))


def _typed(rows):
    table = pd.DataFrame(rows)
    return table.astype({"width": "Int64"}) if rows else table


def _named(table):
    """A table with names as a column, where they are its index."""
    return table if "name" in table else table.rename_axis("name").reset_index()


def labels(table: pd.DataFrame) -> dict[str, str]:
    """{name: a shorter one}: "fast-16 + se" → "se", unless two names would then be the same.

    table: with the columns of `frame`, or with names as its index. A block goes by its own name
    and its options, the hybrid that is compared by its name alone; where this does not tell all
    networks apart, by its place too; where that does not either, every network keeps its name, as
    it does where the table has no column block.
    """
    rows = _named(table).to_dict("records")
    for columns in (("options",), ("options", "place")):
        short = {row["name"]: _short(row, columns) for row in rows}
        if len(set(short.values())) == len(short):
            return short
    return {name: name for name in short}


def _short(row, columns):
    """The block of a row and its options in words; without a block the name."""
    if not isinstance(row.get("block"), str):
        return row["name"]
    options = row.get("options") or {}
    if row["block"] == "hybrid" and options == SETTINGS["hybrid"]["options"]:
        options = {}
    words = [f"{key} {_words(value)}".removeprefix("variant ") for key, value in options.items()]
    words += [row["place"]] if "place" in columns and "place" in row else []
    return row["block"] + (f" ({'; '.join(words)})" if words else "")


def _words(value):
    return ", ".join(map(str, value)) if isinstance(value, list | tuple) else str(value)


def plain_networks(table: pd.DataFrame) -> list[str]:
    """The names of the networks without a block or attention, the one of fewest parameters first.

    table: with the columns name, family and parameters, a row a run or a network.
    """
    for column in ("family", "parameters"):
        one_of("table: column", column, list(table.columns))
    rows = _named(table)
    rows = rows[rows.family == "plain"].sort_values("parameters", kind="stable")
    return list(rows.name.unique())


def beside(table: pd.DataFrame, columns: pd.DataFrame) -> pd.DataFrame:
    """The runs of `frame`, each with its network's row of `columns`, a frame by name.

    A column that both have is taken from `columns`.
    """
    return table.drop(columns=table.columns.intersection(columns.columns)).join(columns, on="name")


def read_costs(path: str | Path) -> tuple[pd.DataFrame, str]:
    """What `python -m attention.benchmark` has measured: a frame by name, and where and how."""
    measured = read_record(path, MEASURED)
    machine = measured["machine"]
    where = (
        f"{measured['batch_size']} images of 32×32, the networks in turns, median of "
        f"{measured['rounds']} rounds, on {machine['hardware']}, {machine['threads']} threads, "
        f"{machine['precision']}"
    )
    rows = pd.DataFrame(measured["rows"]).set_index("name")
    return rows.assign(batch_size=measured["batch_size"]), where


def as_markdown(shown: pd.DataFrame) -> str:
    """A table of words as Markdown; what Markdown would read as its own is escaped."""
    signs = str.maketrans({"|": r"\|", "<": "&lt;", ">": "&gt;"})
    shown = shown.astype(str).apply(lambda column: column.str.translate(signs))
    align = ("left", *["right"] * (shown.shape[1] - 1))
    return shown.to_markdown(index=False, colalign=align, disable_numparse=True)
