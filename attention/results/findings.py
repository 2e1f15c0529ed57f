"""What a survey of maps has found: records into tables, and the choice of a network's own map."""

import numpy as np
import pandas as pd

from attention.explain.every import BASELINE, GRAD_CAM
from attention.results.statistics import means


def frame(records):
    """One row a network and map: each measure, and with _low and _high its interval over images."""
    rows = []
    for record in records:
        whole = {
            "dataset": record["dataset"]["name"], "name": record["name"],
            "seed": record["run"]["seed"], "accuracy": record["accuracy"],
        }  # fmt: skip
        for name, measures in record["maps"].items():
            row = {**whole, "map": name}
            for measure, value in measures.items():
                if isinstance(value, list | tuple):
                    row |= dict(
                        zip((measure, f"{measure}_low", f"{measure}_high"), value, strict=True)
                    )
                else:
                    row[measure] = np.nan if value is None else value
            rows.append(row)
    return pd.DataFrame(rows)


def effects(records):
    """One row a network and map: its behaviour, and the accuracy with it replaced, in percent."""
    return pd.DataFrame([
        {"name": record["name"], "seed": record["run"]["seed"], "map": path, **row}
        for record in records
        for path, row in record["effect"].items()
    ])  # fmt: skip


def choose(table):
    """{(name of a network, family): name of a map}, from the frame of a localisation.

    A network has several maps of its own, and Grad-CAM a map for each stage. Chosen is the one with
    the most energy on the object, in the mean over seeds, and on training images: the test images
    have no part in it.
    """
    several = table[table.family != BASELINE]
    mean = several.groupby(["name", "family", "map"], sort=False).choice.mean()
    best = mean.groupby(level=["name", "family"], sort=False).idxmax()
    return {(name, family): path for name, family, path in best}


def compared(table, choice):
    """One row a network and family: the chosen map as "own" or "Grad-CAM, chosen stage".

    The baselines and Grad-CAM of its default layer, "Grad-CAM", are kept beside them. choice: as
    `choose` gives it; also for a table of other measures and data.
    """
    wanted = [choice.get(key) for key in zip(table.name, table.family, strict=True)]
    chosen = table[table["map"] == pd.Series(wanted, table.index)].copy()
    chosen["map"] = chosen.family.replace(GRAD_CAM, f"{GRAD_CAM}, chosen stage")
    kept = table[(table["map"] == GRAD_CAM) | (table.family == BASELINE)]
    return pd.concat([chosen, kept]).sort_index(kind="stable").reset_index(drop=True)


def over_seeds(table, measures):
    """One row a network and map: the mean of each measure over seeds, and its 95 % interval.

    The interval says what other trainings would give, see `statistics.means`.
    """
    parts = {}
    for name, part in table.groupby("map", sort=False):
        columns = [means(part, measure)[["mean", "low", "high"]] for measure in measures]
        parts[name] = pd.concat(dict(zip(measures, columns, strict=True)), axis=1)
    return pd.concat(parts, names=["map"]).swaplevel().sort_index(level=0, sort_remaining=False)


def over_images(table, measures):
    """As `over_seeds`, for one network of each name: the interval over its images."""
    if table.duplicated(["name", "map"]).any():
        raise ValueError("table must hold one network of each name; for several see over_seeds")
    indexed = table.set_index(["name", "map"])
    columns = {
        measure: indexed[[measure, f"{measure}_low", f"{measure}_high"]].set_axis(
            ["mean", "low", "high"], axis=1
        )
        for measure in measures
    }
    return pd.concat(columns, axis=1)
