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
import datetime
import json
import time

import numpy as np
import torch
from tqdm.auto import tqdm

from attention.blocks.gate import Map
from attention.checks import one_of
from attention.data import load, normalise
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
from attention.explain.every import GRAD_CAM
from attention.files import replacing
from attention.results.findings import choose, compared, frame, over_seeds
from attention.results.tables import read_record
from attention.settings import home, profile
from attention.study import grids
from attention.training import evaluate, fit, key, machine, predict, trained

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


def networks(what, seeds=None):
    """The networks of a survey, one seed after the other: a list of `Run`.

    The smoke profile has a few; elsewhere it is every mechanism, "localisation" as trained for
    Shapes-10, "faithfulness" as compared on the chosen dataset, without the wider plain networks
    and the hybrid.
    """
    if what == "localisation":
        found = grids.shapes(seeds)
    else:
        beside = {run.name for run in (*grids.wider(), grids.mechanism("hybrid"))}
        runs = grids.everything(seeds or grids.seeds())  # the same seeds of all
        found = [run for run in runs if run.name not in beside]
    if profile() == "smoke":
        return [run for run in found if run.block in ("spatial", "cbam", "nonlocal")]
    return found


def survey(what, runs, data, images=None, minutes=None, progress=True):
    """Measure what has no record yet; the records of those of `runs` that have one, in their order.

    what: "localisation", which needs masks, or "faithfulness". images: how many, as in `IMAGES`;
    None: the profile's. A record of other numbers of images is measured anew.
    minutes: a budget; None: no limit. No network is begun that would not be done in time if it
    took as long as the slowest so far; what is left out is named.
    """
    one_of("what", what, MEASURES)
    if what == "localisation" and (data.train.masks is None or data.test.masks is None):
        raise ValueError(f"localisation needs masks of the objects, and {data.name} has none")
    images = IMAGES[profile()] if images is None else images
    paths = [folder(what) / data.name / f"{key(run, data)}.json" for run in runs]
    found = [read(path) if path.exists() else None for path in paths]
    found = [one if one and one["images"] == images else None for one in found]
    missing = [number for number, one in enumerate(found) if one is None]
    form = "{desc}: {percentage:3.0f}%|{bar}| {n:.1f}/{total} networks [{elapsed}<{remaining}]"
    start, slowest = time.monotonic(), 0.0
    with tqdm(
        total=len(missing), desc=what, bar_format=form, disable=not (progress and missing)
    ) as bar:
        for number in missing:
            begun = time.monotonic()
            if minutes is not None and begun - start + slowest > 60 * minutes:
                break
            found[number] = measure(what, runs[number], data, images, bar.update)
            with replacing(paths[number]) as path:
                path.write_text(json.dumps(found[number], indent=1) + "\n", encoding="utf-8")
            slowest = max(slowest, time.monotonic() - begun)
    left = [run.name for run, one in zip(runs, found, strict=True) if one is None]
    if left:
        print(f"{what}: not measured within {minutes} minutes: {', '.join(left)}")
    return [one for one in found if one is not None]


def folder(what):
    """Where the records lie."""
    return home() / "data" / "explanations" / what


def read(path):
    """One record of a survey, see `records.read_record`."""
    return read_record(path, KEYS)


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
        "run": run.plain(),
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
    test = _first(data.test, images["removed"])
    prepared = _prepared(network, test, data)
    maps = every_map(network, prepared)
    rows = _rows(maps)
    for name, one in maps.items():
        found = areas(network, prepared, {name: one.maps}, batch_size=200)
        rows[name] |= {measure: _interval(found[measure]) for measure in MEASURES["faithfulness"]}
        advance(0.9 / len(maps))
    effect = _effect(network, data, images)
    advance(0.1)
    return rows, effect


def _effect(network, data, images):
    """{path of an own map: what it does, and the accuracy without it}"""
    if not any(isinstance(module, Map) for module in network.modules()):
        return {}
    test, answered = (_first(data.test, images[name]) for name in ("removed", "answered"))
    # Maps are shuffled within a batch. Where images lie class by class, as in a folder tree, those
    # of a batch would be maps of the same class, and would help instead of harm.
    mixed = torch.randperm(len(answered), generator=torch.Generator().manual_seed(0))
    answered = answered.take(mixed)

    def accuracy(network):
        return evaluate(network, answered, data, batch_size=100)[1]

    with capture(network) as captured:
        predict(network, test, data, batch_size=100)
    without = knocked_out(network, _prepared(network, test, data), accuracy)
    table = behaviour(captured, test.labels).join(without.add_prefix("accuracy_"))
    return json.loads(table.to_json(orient="index"))  # nan becomes null


def _first(split, count):
    return split.spread(min(count, len(split)))


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


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("what", choices=MEASURES)
    parser.add_argument("--seeds", type=int, help="how many; default: the profile's")
    arguments = parser.parse_args()
    data = load("shapes10" if arguments.what == "localisation" else None)
    machine.keep_memory()
    table = frame(survey(arguments.what, networks(arguments.what, arguments.seeds), data))
    if arguments.what == "localisation":
        table = compared(table, choose(table))
    print(over_seeds(table, MEASURES[arguments.what]).round(3).to_string())


if __name__ == "__main__":
    main()
