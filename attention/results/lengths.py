"""How far from its end is the comparison? Some of its networks, trained for longer as well."""

from collections.abc import Sequence

import pandas as pd

from attention.results.overview import numbers
from attention.results.tables import as_markdown, frame, histories, labels


def by_length(records: Sequence[dict]) -> pd.DataFrame:
    """Trainings that differ in their length alone, their histories one below the other.

    records: on one dataset. As `histories`, with a column epochs: how long the training was. What
    has one length, another recipe or fewer images is left out; empty where nothing is left.
    """
    table, records = frame(records), list(records)
    if len(table) == 0:
        return table
    table = table[(table.recipe == "") & (table.train_images == table.train_images.max())]
    table = table[table.groupby(["name", "seed"]).epochs.transform("nunique") > 1]
    parts = [
        histories([records[place] for place in runs.index]).assign(epochs=epochs)
        for epochs, runs in table.groupby("epochs")
    ]
    if not parts:
        return table
    return pd.concat(parts).sort_values(["block", "name", "epochs"], na_position="first",
                                        kind="stable", ignore_index=True)  # fmt: skip


def ends(table: pd.DataFrame) -> pd.DataFrame:
    """What each training of `by_length` came to: a row for each (name, epochs), plain first.

    Means over seeds: train_accuracy (on augmented images, during the last epoch), test_accuracy,
    longer (test accuracy minus that of the shortest training) and minus_plain (minus that of the
    network without a block that was trained as long, the first by name where there are several).
    """
    last = table[table.epoch == table.epochs].assign(seeds=1)
    found = last.groupby(["name", "epochs"], sort=False).agg(
        {"seeds": "sum", "train_accuracy": "mean", "test_accuracy": "mean"}
    )
    test = found.test_accuracy
    [*first] = last.name[last.block.isna()][:1]
    plain = last[last.name.isin(first)].groupby("epochs").test_accuracy.mean()
    beside = test - found.index.get_level_values("epochs").map(plain).to_numpy()
    others = ~found.index.get_level_values("name").isin(first)
    return found.assign(
        longer=test - test.groupby("name").transform("first"), minus_plain=beside.where(others)
    )


def markdown(table: pd.DataFrame) -> str:
    """`ends` as Markdown."""
    found, short = ends(table), labels(table)
    first = found.groupby("name").cumcount() == 0
    shown = pd.DataFrame({
        "network": found.index.get_level_values("name").map(short),
        "epochs": found.index.get_level_values("epochs").astype(str),
        "seeds": found.seeds.astype(str),
        "training images, augmented (%)": numbers(found.train_accuracy, "{:.2f}"),
        "test images (%)": numbers(found.test_accuracy, "{:.2f}"),
        "minus the shortest": numbers(found.longer.mask(first), "{:+.2f}"),
        "minus plain": numbers(found.minus_plain, "{:+.2f}"),
    }, found.index)  # fmt: skip
    return as_markdown(shown)


def sentence(table: pd.DataFrame) -> str:
    """What the longest training gave, in a sentence."""
    found, short = ends(table), labels(table)
    found["before"] = found.groupby("name").minus_plain.transform("first")
    found = found.reset_index("epochs")
    fewest, most = found.epochs.min(), found.epochs.max()
    last = found[found.epochs == most]
    points = ["longer", "minus_plain", "before"]
    last = last.assign(**{column: numbers(last[column], "{:+.2f}") for column in points})
    words = [
        f"{short[name]} {row.test_accuracy:.2f} % ({row.longer})"
        + (f", {row.minus_plain} beside the network without a block ({row.before} before)"
           if row.minus_plain != "–" else "")
        for name, row in last.iterrows()
    ]  # fmt: skip
    times = "one seed" if last.seeds.max() == 1 else f"up to {last.seeds.max()} seeds"
    said = f"Trained for {most} epochs in place of {fewest} ({times}, exploratory): "
    return f"{said}{'; '.join(words)}."
