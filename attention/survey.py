"""What the maps of trained networks are worth: measured once for each network, and kept.

    python -m attention.survey localisation     every mechanism on Shapes-10, whose objects are
                                                known: do the maps point at the object?
    python -m attention.survey faithfulness     every mechanism on `ATTENTION_DATA`: does the answer
                                                depend on what the maps point at, and does the
                                                network need them?

A record is a JSON file in data/explanations/<what>/<dataset>/. It holds the numbers of every map of
one network: its own, Grad-CAM, and the baselines. A network that has one is not measured again; one
that is not trained yet is trained first. Stopped and called again, a survey goes on with the next
network.
"""

import argparse
import dataclasses
import datetime
import json
import time
from pathlib import Path

import numpy as np
import pandas as pd
from tqdm.auto import tqdm

from attention import grids, machine
from attention.batches import normalise
from attention.checks import one_of
from attention.data import load
from attention.explain import (
    areas,
    behaviour,
    capture,
    every_map,
    knocked_out,
    localisation,
    mean_interval,
    rank_correlation,
)
from attention.explain.every import BASELINE, GRAD_CAM
from attention.files import replacing
from attention.gates import Map
from attention.settings import home, profile
from attention.statistics import means
from attention.trainer import predict
from attention.training import fit, trained

# How many images: of training images, to choose a network's own map by; of test images, for the
# maps against their masks, for the removal of pixels, and for the accuracy without a map.
IMAGES = {
    "smoke": {"choice": 40, "located": 60, "removed": 12, "answered": 100},
    "quick": {"choice": 500, "located": 1000, "removed": 200, "answered": 2000},
    "full": {"choice": 500, "located": 1000, "removed": 1000, "answered": 10000},
}
KEYS = ("name", "run", "dataset", "accuracy", "images", "maps", "effect", "machine")
MEASURES = {
    "localisation": ("pointing", "energy", "iou"),
    "faithfulness": ("deletion", "insertion", "road"),
}


def survey(what, runs, data, images=None, progress=True):
    """The records of `runs` on `data`, a list in their order; what is missing is measured.

    what: "localisation", which needs masks, or "faithfulness". images: how many, as in `IMAGES`;
    None: the profile's. A record of other numbers of images is measured anew.
    """
    one_of("what", what, MEASURES)
    if what == "localisation" and (data.train.masks is None or data.test.masks is None):
        raise ValueError(f"localisation needs masks of the objects, and {data.name} has none")
    images = IMAGES[profile()] if images is None else images
    paths = [folder(what) / data.name / f"{run.key(data)}.json" for run in runs]
    found = [read_record(path) if path.exists() else None for path in paths]
    missing = [n for n, one in enumerate(found) if one is None or one["images"] != images]
    form = "{desc}: {percentage:3.0f}%|{bar}| {n:.1f}/{total} networks [{elapsed}<{remaining}]"
    with tqdm(
        total=len(missing), desc=what, bar_format=form, disable=not (progress and missing)
    ) as bar:
        for number in missing:
            found[number] = measure(what, runs[number], data, images, bar.update)
            with replacing(paths[number]) as path:
                path.write_text(json.dumps(found[number], indent=1) + "\n", encoding="utf-8")
    return found


def folder(what):
    """Where the records lie."""
    return home() / "data" / "explanations" / what


def read_record(path):
    """One record, a dict with the `KEYS`. Raises ValueError that names a file which is none."""
    path = Path(path)
    try:
        record = json.loads(path.read_text(encoding="utf-8"))
        return {key: record[key] for key in KEYS}
    except (ValueError, KeyError, TypeError) as error:
        raise ValueError(
            f"{path.name} in {path.parent} is not a record ({error!r}): remove it to measure anew"
        ) from error


def measure(what, run, data, images, advance=lambda share: None):
    """The record of one run; `advance` is told the shares of the work done, which add up to 1.

    "maps": {name of a map: {measure: (mean, low, high) over the images}}, with its "family" and
    "how" (see `every_map`), and "agreement", its rank correlation with Grad-CAM. Of localisation
    also "choice": the mean energy on training images.
    "effect": of faithfulness, {path of an own map: its `behaviour`, and as accuracy_mean, … the
    accuracy in percent with it replaced, see `knocked_out`}.
    """
    record = fit(run, data, progress=False)
    network = trained(run, data, progress=False)
    start = time.perf_counter()
    if what == "localisation":
        maps, effect = _located(network, data, images, advance), {}
    else:
        maps, effect = _removed(network, data, images, advance)
    device = next(network.parameters()).device
    finished = datetime.datetime.now(datetime.timezone.utc).isoformat(timespec="seconds")
    return {
        "name": run.name,
        "run": dataclasses.asdict(run),
        "dataset": {"name": data.name, "checksum": data.checksum},
        "accuracy": record["result"]["test_accuracy"],
        "images": images,
        "maps": maps,
        "effect": effect,
        "machine": {
            **machine.describe(device),
            "seconds": time.perf_counter() - start,
            "finished": finished,
        },
    }


def _located(network, data, images, advance):
    train, test = _first(data.train, images["choice"]), _first(data.test, images["located"])
    seen = every_map(network, _prepared(network, train, data))
    choice = {name: localisation(one.maps, train.masks).energy.mean() for name, one in seen.items()}
    advance(0.3)
    maps = every_map(network, _prepared(network, test, data))
    advance(0.4)
    rows = _rows(maps)
    for name, one in maps.items():
        found = localisation(one.maps, test.masks)
        rows[name] |= {measure: _interval(found[measure]) for measure in MEASURES["localisation"]}
        rows[name]["choice"] = float(choice[name])
        advance(0.3 / len(maps))
    return rows


def _removed(network, data, images, advance):
    test, answered = (_first(data.test, images[name]) for name in ("removed", "answered"))
    prepared = _prepared(network, test, data)
    maps = every_map(network, prepared)
    rows = _rows(maps)
    for name, one in maps.items():
        found = areas(network, prepared, {name: one.maps}, batch_size=200)
        rows[name] |= {measure: _interval(found[measure]) for measure in MEASURES["faithfulness"]}
        advance(0.9 / len(maps))

    def accuracy(network):
        logits = predict(network, answered, data, batch_size=100)
        return 100 * float((logits.argmax(1) == answered.labels).float().mean())

    effect = {}
    if any(isinstance(module, Map) for module in network.modules()):
        with capture(network) as captured:
            predict(network, test, data, batch_size=100)
        without = knocked_out(network, prepared, accuracy).add_prefix("accuracy_")
        table = behaviour(captured, test.labels).join(without)
        effect = json.loads(table.to_json(orient="index"))  # nan becomes null
    advance(0.1)
    return rows, effect


def _first(split, count):
    return split.first(min(count, len(split)))


def _prepared(network, split, data):
    device = next(network.parameters()).device
    return normalise(split.images.to(device), data.mean, data.std)


def _rows(maps):
    """{name: what it is, and its agreement with Grad-CAM}"""
    rows = {}
    for name, one in maps.items():
        rows[name] = {"family": one.family, "how": one.how, "agreement": None}
        if GRAD_CAM in maps and name != GRAD_CAM:
            agreement = rank_correlation(one.maps, maps[GRAD_CAM].maps)
            rows[name]["agreement"] = _interval(agreement)
    return rows


def _interval(values):
    """(mean, low, high) over images; None where fewer than two images have a value."""
    values = np.asarray(values, dtype=float)
    return mean_interval(values) if (~np.isnan(values)).sum() > 1 else None


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


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("what", choices=MEASURES)
    parser.add_argument("--seeds", type=int, help="how many; default: the profile's")
    arguments = parser.parse_args()
    if arguments.what == "localisation":
        data = load("shapes10")
        runs = grids.shapes(arguments.seeds)
    else:
        data = load()
        runs = grids.comparison(arguments.seeds)
    machine.keep_memory()
    table = frame(survey(arguments.what, runs, data))
    if arguments.what == "localisation":
        table = compared(table, choose(table))
    print(over_seeds(table, MEASURES[arguments.what]).round(3).to_string())


if __name__ == "__main__":
    main()
