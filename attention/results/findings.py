"""What a survey of maps has found: records into tables, and the choice of a network's own map."""

from collections.abc import Sequence

import numpy as np
import pandas as pd

from attention.results.statistics import means

# families of maps, as the records of a survey call them
GRAD_CAM, BASELINE = "Grad-CAM", "baseline"
WORTH = ("pointing", "pointing_gradcam", "faithful", "faithful_gradcam")


def measures(records: Sequence[dict]) -> pd.DataFrame:
    """One row a network and map: each measure, and with _low and _high its interval over images."""
    rows = []
    for record in records:
        whole = {"dataset": record["dataset"]["name"], **_network(record)}
        whole["accuracy"] = record["accuracy"]
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


def effects(records: Sequence[dict]) -> pd.DataFrame:
    """One row a network and map: its behaviour, and the accuracy with it replaced, in percent."""
    return pd.DataFrame([
        {**_network(record), "map": path, **row}
        for record in records
        for path, row in record["effect"].items()
    ])  # fmt: skip


def _network(record):
    """What `tables.labels` asks for; the column family of these tables is that of the map."""
    run = record["run"]
    about = {column: run.get(column) for column in ("network", "block", "options")}
    return about | {"name": record["name"], "seed": run["seed"]}


def choose(table: pd.DataFrame) -> dict[tuple[str, str], str]:
    """{(name of a network, family): name of a map}, from the `measures` of a localisation.

    A network has several maps of its own, and Grad-CAM a map for each stage. Chosen is the one with
    the most energy on the object, in the mean over seeds, and on training images: the test images
    have no part in it.
    """
    several = table[table.family != BASELINE]
    mean = several.groupby(["name", "family", "map"], sort=False).choice.mean()
    best = mean.groupby(level=["name", "family"], sort=False).idxmax()
    return {(name, family): path for name, family, path in best}


def own_and_gradcam(table: pd.DataFrame, choice: dict[tuple[str, str], str]) -> pd.DataFrame:
    """One row a network and family: the chosen map as "own" or "Grad-CAM, chosen stage".

    The baselines and Grad-CAM of its default layer, "Grad-CAM", are kept beside them. choice: as
    `choose` gives it; also for a table of other measures and data.
    """
    wanted = [choice.get(key) for key in zip(table.name, table.family, strict=True)]
    chosen = table[table["map"] == pd.Series(wanted, table.index)].copy()
    chosen["map"] = chosen.family.replace(GRAD_CAM, f"{GRAD_CAM}, chosen stage")
    kept = table[(table["map"] == GRAD_CAM) | (table.family == BASELINE)]
    return pd.concat([chosen, kept]).sort_index(kind="stable").reset_index(drop=True)


def over_seeds(table: pd.DataFrame, measures: Sequence[str]) -> pd.DataFrame:
    """One row a network and map: the mean of each measure over seeds, and its 95 % interval.

    The interval says what other trainings would give, see `statistics.means`.
    """
    parts = {}
    for name, part in table.groupby("map", sort=False):
        columns = [means(part, measure)[["mean", "low", "high"]] for measure in measures]
        parts[name] = pd.concat(dict(zip(measures, columns, strict=True)), axis=1)
    return pd.concat(parts, names=["map"]).swaplevel().sort_index(level=0, sort_remaining=False)


def over_images(table: pd.DataFrame, measures: Sequence[str]) -> pd.DataFrame:
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


def worth(located: Sequence[dict], removed: Sequence[dict]) -> pd.DataFrame:
    """What the maps of each network are worth: a frame by name, each number a mean over its seeds.

    located, removed: records of the surveys "localisation" and "faithfulness".

    pointing, pointing_gradcam: how often the highest pixel of the network's own map, and of
    Grad-CAM, lies on the object, in percent. faithful, faithful_gradcam: by how much pixels taken
    in the map's order bring the answer down more than pixels taken at random: the difference of
    the areas under the curves of ROAD, in percentage points of probability. nan where the network
    has no such map, or was not measured. A network's own map is that of `choose`.
    """
    if not located:
        return pd.DataFrame(columns=WORTH, dtype=float)
    objects = measures(located)
    choice = choose(objects)
    result = 100 * _by_map(own_and_gradcam(objects, choice), "pointing").set_axis(WORTH[:2], axis=1)
    if removed:
        areas = own_and_gradcam(measures(removed), choice)
        areas = -100 * _by_map(areas, "road", minus="random").set_axis(WORTH[2:], axis=1)
        result = result.join(areas, how="outer")
    return result.reindex(columns=list(WORTH))


def _by_map(table, measure, minus=None):
    """By name: the mean over seeds for the own map and for Grad-CAM, minus that of another map."""
    wide = table.pivot_table(measure, "name", "map", sort=False)
    wide = wide if minus is None else wide.sub(wide[minus], axis=0)
    return wide.reindex(columns=["own", GRAD_CAM])
