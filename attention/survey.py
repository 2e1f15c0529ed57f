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
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from tqdm.auto import tqdm

from attention.blocks import Map
from attention.checks import at_least, not_negative, one_of
from attention.data import Dataset, load, normalise
from attention.explain import (
    GRAD_CAM,
    areas,
    behaviour,
    capture,
    every_map,
    knocked_out,
    localisation,
    mean_interval,
    rank_correlation,
)
from attention.files import NUMBER, read_record, set_aside, write_record
from attention.results import findings, plan
from attention.settings import home, profile
from attention.study import grids
from attention.training import Run, compared, evaluate, fit, key, machine, predict, trained

# How many images: of training images, to choose a network's own map by; of test images, for the
# maps against their masks, for the removal of pixels, and for the accuracy without a map.
IMAGES = {
    "smoke": {"choice": 20, "located": 40, "removed": 4, "answered": 40},
    "quick": {"choice": 500, "located": 1000, "removed": 100, "answered": 2000},
    "full": {"choice": 500, "located": 1000, "removed": 1000, "answered": 10000},
}
MEASURES = {
    "localisation": ("pointing", "energy", "iou"),
    "faithfulness": ("deletion", "insertion", "road"),
}
VERSION = 2  # raised by one when a map or a measure changes: older records are measured anew
RECORD = {
    "name": str, "family": str, "run": {"seed": int}, "dataset": {"name": str, "checksum": str},
    "accuracy": NUMBER, "images": dict, "version": int, "maps": dict, "effect": dict,
    "machine": {"seconds": NUMBER, "finished": str},
}  # fmt: skip
BATCH = 100  # images whose maps are there at once, and among which maps are shuffled


def networks(what: str, seeds: int | None = None) -> list[Run]:
    """The networks of a survey, one seed after the other.

    The smoke profile has a few; elsewhere it is every mechanism, "localisation" as trained for
    Shapes-10, "faithfulness" as compared on the chosen dataset, without the wider plain networks.
    """
    one_of("what", what, MEASURES)
    if what == "localisation":
        found = grids.shapes(seeds)
    else:
        beside = {compared(None, **control).name for control in plan.CONTROLS}
        runs = grids.everything(grids.seeds() if seeds is None else seeds)  # the same seeds of all
        found = [run for run in runs if run.name not in beside]
    if profile() == "smoke":
        return [run for run in found if run.block in ("spatial", "cbam", "nonlocal")]
    return found


def survey(
    what: str, runs: Sequence[Run], data: Dataset, images: Mapping[str, int] | None = None,
    minutes: float | None = None, progress: bool = True,
) -> list[dict[str, Any]]:  # fmt: skip
    """Measure what has no record yet; the records of those of `runs` that have one, in their order.

    what: "localisation", which needs masks, or "faithfulness". images: how many, as in `IMAGES`;
    None: the profile's. A record of other numbers of images is measured anew; a file that is no
    record of this network is named, set aside as <name>.corrupt, and measured anew.
    minutes: a budget; None: no limit. No network is begun that would not be done in time if it
    took as long as the slowest so far; what is left out is named. 0: nothing is measured.
    """
    one_of("what", what, MEASURES)
    images = _checked(images)
    limit = float("inf") if minutes is None else 60 * not_negative("minutes", minutes)
    if what == "localisation" and (data.train.masks is None or data.test.masks is None):
        raise ValueError(f"localisation needs masks of the objects, and {data.name} has none")
    paths = [home() / f"data/explanations/{what}/{data.name}/{key(run, data)}.json" for run in runs]
    found = [_record(*pair, data, images) for pair in zip(paths, runs, strict=True)]
    missing = [number for number, record in enumerate(found) if record is None]
    start, slowest = time.monotonic(), 0.0
    for number in tqdm(missing, what, unit="network", disable=not (progress and missing)):
        begun = time.monotonic()
        if begun - start + slowest >= limit:
            break
        found[number] = measure(what, runs[number], data, images)
        write_record(paths[number], found[number])
        slowest = max(slowest, time.monotonic() - begun)
    left = [run.name for run, record in zip(runs, found, strict=True) if record is None]
    if left:
        print(f"{what}: not measured, for want of minutes: {', '.join(left)}")
    return [record for record in found if record is not None]


def _checked(images):
    """Numbers of images that can be measured: an interval needs two."""
    images = IMAGES[profile()] if images is None else images
    names = ", ".join(IMAGES["full"])
    if not isinstance(images, Mapping) or images.keys() != IMAGES["full"].keys():
        raise ValueError(f"images must be a dict with numbers for {names}, got {images!r}")
    return {name: at_least(2, f"images[{name!r}]", count) for name, count in images.items()}


def _record(path: Path, run: Run, data: Dataset, images: Mapping[str, int]) -> dict | None:
    """The record at `path`, or None where it has to be made, or made anew."""
    if not path.exists():
        return None
    try:
        record = read_record(path, RECORD)
        asked = run.resolved().plain(), {"name": data.name, "checksum": data.checksum}
        if (record["run"], record["dataset"]) != asked:
            raise ValueError(f"{path.name} in {path.parent} is the record of another network")
    except ValueError as error:
        tqdm.write(f"{error}: set aside as {set_aside(path).name}, and measured anew")
        return None
    return record if (record["images"], record["version"]) == (images, VERSION) else None


def measure(what: str, run: Run, data: Dataset, images: Mapping[str, int]) -> dict[str, Any]:
    """The record of one run; images: how many, as in `IMAGES`.

    "maps": {name of a map: {measure: (mean, low, high) over the images}}, with its "family" and
    "how" (see `every_map`), and "agreement", its rank correlation with Grad-CAM. Of localisation
    also "choice": the mean energy on training images.
    "effect": of faithfulness, {path of an own map: its `behaviour`, and as accuracy_mean, … the
    accuracy in percent with it replaced, see `knocked_out`}.
    """
    accuracy = fit(run, data, progress=False)["result"]["test_accuracy"]
    network = trained(run, data, progress=False)
    start = time.perf_counter()
    if what == "localisation":
        maps, effect = _located(network, data, images), {}
    else:
        maps, effect = _removed(network, data, images), _effect(network, data, images)
    finished = datetime.datetime.now(datetime.timezone.utc).isoformat(timespec="seconds")
    took = {"seconds": time.perf_counter() - start, "finished": finished}
    return {
        "name": run.name,
        "family": run.family,
        "run": run.resolved().plain(),
        "dataset": {"name": data.name, "checksum": data.checksum},
        "accuracy": accuracy,
        "images": images,
        "version": VERSION,
        "maps": maps,
        "effect": effect,
        "machine": machine.describe(next(network.parameters()).device) | took,
    }


def _located(network, data, images):
    train, test = _some(data.train, images["choice"]), _some(data.test, images["located"])
    candidates = every_map(network, _prepared(network, train, data))
    maps = every_map(network, _prepared(network, test, data))
    rows = _rows(maps)
    for name, row in rows.items():
        found = localisation(maps[name].maps, test.masks)
        row |= {measure: _interval(found[measure]) for measure in MEASURES["localisation"]}
        row["choice"] = float(localisation(candidates[name].maps, train.masks).energy.mean())
    return rows


def _removed(network, data, images):
    test = _some(data.test, images["removed"])
    prepared = _prepared(network, test, data)
    maps = every_map(network, prepared)
    rows = _rows(maps)
    for name, row in rows.items():
        found = areas(network, prepared, {name: maps[name].maps}, batch_size=200)
        row |= {measure: _interval(found[measure]) for measure in MEASURES["faithfulness"]}
    return rows


def _effect(network, data, images):
    """{path of an own map: what it does, and the accuracy without it}"""
    if not any(isinstance(module, Map) for module in network.modules()):
        return {}
    # Maps are shuffled within a batch. Where images lie class by class, as in a folder tree, those
    # of a batch would be maps of the same class, and would help instead of harm.
    test, answered = (_some(data.test, images[name]) for name in ("removed", "answered"))
    mixed = torch.randperm(len(answered), generator=torch.Generator().manual_seed(0))
    alone = len(answered) % BATCH == 1  # the last image would have no other to take a map from
    answered = answered.take(mixed[:-1] if alone else mixed)

    def accuracy(network):
        return evaluate(network, answered, data, batch_size=BATCH)[1]

    with capture(network) as captured:
        predict(network, test, data, batch_size=BATCH)
    without = knocked_out(network, _prepared(network, test, data), accuracy, BATCH)
    table = behaviour(captured, test.labels).join(without.add_prefix("accuracy_"))
    return json.loads(table.to_json(orient="index"))  # nan becomes null


def _some(split, count):
    return split.spread(min(count, len(split)))


def _prepared(network, split, data):
    device = next(network.parameters()).device
    return normalise(split.images.to(device), data.mean, data.std)


def _rows(maps):
    """{name: what it is, and its agreement with Grad-CAM}"""
    rows = {}
    for name, found in maps.items():
        rows[name] = {"family": found.family, "how": found.how, "agreement": None}
        if GRAD_CAM in maps and name != GRAD_CAM:
            agreement = rank_correlation(found.maps, maps[GRAD_CAM].maps)
            rows[name]["agreement"] = _interval(agreement)
    return rows


def _interval(values):
    """[mean, low, high] over images; None where fewer than two images have a value."""
    values = np.asarray(values, dtype=float)
    return list(mean_interval(values)) if (~np.isnan(values)).sum() > 1 else None


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(
        prog="python -m attention.survey", description=__doc__.splitlines()[0]
    )
    parser.add_argument("what", choices=MEASURES)
    parser.add_argument("--seeds", type=int, help="how many; default: the profile's")
    parser.add_argument("--minutes", type=float, help="begin only what fits into them")
    chosen = parser.parse_args(arguments)
    if chosen.seeds is not None and chosen.seeds < 1:
        parser.error(f"--seeds must be a whole number of at least 1, got {chosen.seeds}")
    if chosen.minutes is not None and not 0 < chosen.minutes < float("inf"):
        parser.error(f"--minutes must be a number above 0, got {chosen.minutes:g}")
    data = load("shapes10" if chosen.what == "localisation" else None)
    machine.keep_memory()
    runs = networks(chosen.what, chosen.seeds)
    records = survey(chosen.what, runs, data, minutes=chosen.minutes)
    if not records:
        return
    table = findings.measures(records)
    if chosen.what == "localisation":
        table = findings.own_and_gradcam(table, findings.choose(table))
    print(findings.over_seeds(table, MEASURES[chosen.what]).round(3).to_string())


if __name__ == "__main__":
    main()
