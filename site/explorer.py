"""The map explorer's data: what trained networks answer, their maps, and what replacing these does.

Made once, when the site is built, from the networks that lie in data/runs/ with their weights. The
page (pages/explorer.md, static/explorer.js) only shows it: nothing is computed in the browser.
"""

import contextlib
import json
import os
from pathlib import Path

import matplotlib
import numpy as np
import torch
from PIL import Image

import attention
from attention import explain, results
from attention.blocks import BLOCKS, POOLINGS, POSITIONS
from attention.data import DataError, Dataset, Split, normalise
from attention.figures import MAPS
from attention.networks import Network, Residual, stages
from attention.settings import checkout, home

SCHEMA = 1
MEASURED = 200  # test pictures over which accuracies and mean maps are taken
SHOWN = 20  # of these are shown, at most two of a class
FOLDS = 0.01  # the share of training images that may get another answer when gates are folded
# In what way a map is replaced, as the page says it.
WAYS = {
    "mean": "their mean over the pictures",
    "noise": "noise: their own values, each at a random place",
    "other": "the maps of the picture before it",
}


def write(folder: Path) -> list[dict]:
    """Write the data and the sprites into `folder`; give what is shown, a dict for each dataset."""
    (folder / "explorer").mkdir(parents=True, exist_ok=True)
    shown = []
    for name, records in committed().items():
        pictures = pictures_of(name, records[0])
        if pictures is None:
            shown.append(without_pictures(name, records))
        else:
            shown.append(dataset(name, records, *pictures, folder / "explorer"))
    shown.sort(key=lambda one: not one["networks"])
    data = {"schema": SCHEMA, "ways": WAYS, "scale": scale(), "datasets": shown}
    text = f"window.EXPLORER = {json.dumps(data, ensure_ascii=False, separators=(',', ':'))};\n"
    (folder / "explorer-data.js").write_text(text, encoding="utf-8")
    return shown


def scale() -> list[str]:
    """The colours of maps from 0 to 1."""
    colours = matplotlib.colormaps[MAPS](np.linspace(0, 1, 32))
    return [matplotlib.colors.to_hex(colour) for colour in colours]


def committed() -> dict[str, list[dict]]:
    """{dataset: a record of each network and block that were trained}, without held-out trials."""
    folders = {place / "data" / "runs" for place in (home(), checkout()) if place}
    order, found = [None, *BLOCKS, *POOLINGS], {}
    for record in (one for folder in sorted(folders) for one in results.read(folder)):
        run, name = record["run"], record["dataset"]["name"]
        if run["block"] in order and not name.endswith(("-validation", "-random-labels")):
            kinds, kind = found.setdefault(name, {}), (run["network"], run["block"])
            if kind not in kinds or run["seed"] < kinds[kind]["run"]["seed"]:
                kinds[kind] = record
    for name, kinds in found.items():  # a network without a block is shown beside one with it
        with_block = {network for network, block in kinds if block}
        records = [one for (network, _), one in kinds.items() if network in with_block]
        found[name] = sorted(records, key=lambda one: order.index(one["run"]["block"]))
    return found


def pictures_of(name: str, record: dict) -> tuple[Dataset, str] | None:
    """The pictures of a dataset, if they are at hand, with a sentence about them."""
    wanted = [name] if name in ("shapes10", "cifar10") else []
    wanted += (
        [path] if (path := os.environ.get("ATTENTION_DATA")) not in (None, "", *wanted) else []
    )
    wanted += ["cifar10"] if name.startswith("cifar10-") else []
    for source in wanted:
        try:
            data = attention.load(source)
        except DataError:  # not on this machine
            continue
        same_classes = list(data.classes) == list(record["dataset"]["class_names"])
        if data.name == name:
            return data, f"Test pictures of {name}."
        if data.name == "cifar10" and same_classes:
            return data, f"CIFAR-10's own test pictures; the networks were trained on {name}."
    return None


def without_pictures(name: str, records: list[dict]) -> dict:
    """What can be said where the networks are there and the pictures are not."""
    return {"name": name, "networks": [], "there": [record["name"] for record in records]}


def dataset(name: str, records: list[dict], data: Dataset, note: str, folder: Path) -> dict:
    """The pictures of a dataset, and every network on them."""
    split, training = chosen(data.test), chosen(data.train).images
    count = min(SHOWN, len(split))
    sprite(split.images[:count, None].permute(0, 1, 3, 4, 2).numpy(), folder / f"{name}.png")
    networks = []
    for record in records:
        run = record["run"]
        # a record whose weights were not kept has no network
        with contextlib.suppress(ValueError):
            network = attention.pretrained(run["block"], run["network"], name, run["seed"])
            if isinstance(network, Network):
                networks.append(one_network(network, split, training, count, folder))
    return {
        "name": name, "note": note, "classes": list(data.classes), "size": list(data.size),
        "measured": len(split), "labels": split.labels[:count].tolist(),
        "sprite": f"explorer/{name}.png", "networks": networks,
    }  # fmt: skip


def chosen(split: Split) -> Split:
    """Test pictures drawn by lot, always the same; those that are shown first, class by class."""
    order = torch.randperm(len(split), generator=torch.Generator().manual_seed(0))[:MEASURED]
    of_class = {}
    for number in order.tolist():
        of_class.setdefault(int(split.labels[number]), []).append(number)
    rounds = [[of_class[label][n] for label in sorted(of_class) if len(of_class[label]) > n]
              for n in (0, 1)]  # fmt: skip
    first = (rounds[0] + rounds[1])[:SHOWN]
    rest = [number for number in order.tolist() if number not in set(first)]
    return Split(*(part[first + rest] if part is not None else None
                   for part in (split.images, split.labels, split.masks)))  # fmt: skip


def one_network(
    network: Network, split: Split, training: torch.Tensor, count: int, folder: Path
) -> dict:
    """What the page shows of one network; its maps go into a sprite, a row a picture."""
    record = network.record
    about = record["dataset"]
    mean, std = torch.tensor(about["mean"]), torch.tensor(about["std"])
    images = normalise(split.images, mean, std)
    parts = [images[:count], *images[count:].split(SHOWN)]
    answers = probabilities(network, parts)
    columns, highest = gradcams(network, images[:count])
    means = mean_maps(network, parts) if record["run"]["block"] else {}
    places = []
    for place, paths in by_place(network, means).items():
        maps = own_maps(network, images[:count], paths, columns)
        ways = {
            way: replaced(network, parts, paths, way, means, answers, split.labels, count)
            for way in WAYS
        }
        places.append({"name": place, "gradcam": highest.get(place), "maps": maps, "ways": ways})
    stem = f"{about['name']}-{record['run']['network']}-{record['run']['block'] or 'plain'}"
    sprite(coloured(torch.stack(columns, 1)), folder / f"{stem}.png")
    return {
        "name": record["name"], "block": record["run"]["block"], "seed": record["run"]["seed"],
        "epochs": record["run"]["epochs"], "accuracy": record["result"]["test_accuracy"],
        "train_images": about["train_images"], "here": accuracy(answers, split.labels),
        "answers": rounded(answers[:count]), "sprite": f"explorer/{stem}.png",
        "gradcam": 0, "places": places,
        "folded": folded(network, normalise(training, mean, std), parts, answers),
    }  # fmt: skip


def probabilities(network: Network, parts: list[torch.Tensor]) -> torch.Tensor:
    """(N, classes), the softmax of the logits."""
    with torch.no_grad():
        return torch.cat([network(part).softmax(1) for part in parts])


def gradcams(network: Network, images: torch.Tensor) -> tuple[list[torch.Tensor], dict[str, int]]:
    """Grad-CAM of each stage, the last (the usual one) first, and {place: its column}."""
    last, *earlier = reversed(list(enumerate(stages(network), 1)))
    columns, places = [], {}
    for number, stage in (last, *reversed(earlier)):
        places[f"stage {number}"] = len(columns)
        columns.append(attention.grad_cam(network, images, layer=stage))
    return columns, places


def mean_maps(network: Network, parts: list[torch.Tensor]) -> dict[str, torch.Tensor]:
    """{path: the mean of this map over all pictures (1, …)}, of the modules that ran once."""
    total, count = {}, sum(map(len, parts))
    for part in parts:
        with torch.no_grad(), attention.capture(network) as captured:
            network(part)
        for path, found in captured.items():
            if len(found.maps) == 1:
                total[path] = total.get(path, 0) + found.maps[0].sum(0, keepdim=True) / count
    return total


def by_place(network: Network, means: dict) -> dict[str, list[str]]:
    """{"stage 1": the paths of its maps, …}; what stands in no stage is "the pooling"."""
    found = {}
    for path in means:
        first, _, rest = path.partition(".")
        place = f"stage {int(rest.split('.')[0]) + 1}" if first == "stages" else "the pooling"
        found.setdefault(place, []).append(path)
    return found


def where(network: Network, path: str) -> str:
    """Whose map it is: "block 2" of its stage, "behind the stage", or "the pooling"."""
    first, *rest = path.split(".")
    if first != "stages":
        return "the pooling"
    block = network.get_submodule(".".join([first, *rest[:2]]))
    return f"block {int(rest[1]) + 1}" if isinstance(block, Residual) else "behind the stage"


def own_maps(
    network: Network, images: torch.Tensor, paths: list[str], columns: list[torch.Tensor]
) -> list[dict]:
    """What each map of a place says of the pixels; the pictures of them are added to `columns`.

    A gate on positions is drawn on the fixed scale from 0 to 1. What has no such scale (where the
    channels are active that a gate raises, weights over positions) is drawn from 0 to its highest
    value over the pictures.
    """
    relevant = explain.relevances(network, images)
    with torch.no_grad(), attention.capture(network) as captured:
        network(images)
    found = []
    for path in paths:
        if path not in relevant:
            continue
        values, maps = captured[path].cat(), relevant[path].maps
        kind = captured[path].kind
        top = 1.0 if kind in ("spatial", "both") else max(float(maps.max()), 1e-12)
        one = {"path": path, "where": where(network, path), "kind": kind,
               "how": relevant[path].how, "column": len(columns),
               "top": None if top == 1.0 else float(f"{top:.3g}"), "weights": None,
               "low": rounded(values.flatten(1).amin(1)),
               "high": rounded(values.flatten(1).amax(1))}  # fmt: skip
        if kind == "channel":
            one["weights"] = (100 * values.flatten(1)).round().int().tolist()
        columns.append(maps / top)
        found.append(one)
    return found


def replaced(
    network: Network, parts: list[torch.Tensor], paths: list[str], way: str,
    means: dict[str, torch.Tensor], before: torch.Tensor, labels: torch.Tensor, count: int,
) -> dict:  # fmt: skip
    """What the network answers when every map of a place is replaced."""
    generator, after = torch.Generator().manual_seed(0), []
    for part in parts:
        with torch.no_grad(), attention.capture(network) as captured:
            network(part)
        with contextlib.ExitStack() as stack:
            for path in paths:
                if way == "mean":
                    instead = means[path]
                elif way == "noise":
                    instead = shuffled(captured[path], generator)
                else:
                    instead = captured[path].maps[0].roll(1, 0)
                stack.enter_context(explain.replaced(network, path, "mean", instead))
            after += probabilities(network, [part])
    after = torch.stack(after)
    changed = (after.argmax(1) != before.argmax(1)).float().mean()
    return {"answers": rounded(after[:count]), "accuracy": accuracy(after, labels),
            "changed": round(100 * float(changed), 1)}  # fmt: skip


def folded(
    network: Network, training: torch.Tensor, parts: list[torch.Tensor], before: torch.Tensor
) -> dict | None:
    """How many maps fold, by training images, and the test answers that change; None: no gates."""
    try:
        small = attention.fold(network, training, tolerance=FOLDS)
    except ValueError:
        return None
    changed = probabilities(small, parts).argmax(1) != before.argmax(1)
    return {"folded": sum(row.folded for row in small.folded), "maps": len(small.folded),
            "changed": round(100 * float(changed.float().mean()), 1)}  # fmt: skip


def shuffled(found: explain.Captured, generator: torch.Generator) -> torch.Tensor:
    """Each map with its own values at random places; weights over positions still add up to 1."""
    maps = found.maps[0]
    if found.kind == POSITIONS:  # one order for all queries: the matrix is large
        return maps[..., torch.randperm(maps.shape[-1], generator=generator)]
    flat = maps.flatten(1)
    places = torch.rand(flat.shape, generator=generator).argsort(1)
    return flat.gather(1, places).view_as(maps)


def accuracy(answers: torch.Tensor, labels: torch.Tensor) -> float:
    """The share of right answers, in percent."""
    return round(100 * float((answers.argmax(1) == labels).float().mean()), 1)


def rounded(values: torch.Tensor) -> list:
    """Numbers with four decimals, which is more than anybody sees."""
    return np.round(values.double().numpy(), 4).tolist()


def coloured(maps: torch.Tensor) -> np.ndarray:
    """Maps (…, H, W) in [0, 1] as RGB bytes (…, H, W, 3), in the colours of the figures."""
    return matplotlib.colormaps[MAPS](maps.clamp(0, 1).numpy(), bytes=True)[..., :3]


def sprite(tiles: np.ndarray, path: Path) -> None:
    """Write tiles (rows, columns, H, W, 3) as one PNG of as few bytes as its colours allow."""
    rows, columns, height, width, _ = tiles.shape
    whole = tiles.transpose(0, 2, 1, 3, 4).reshape(rows * height, columns * width, 3)
    picture = Image.fromarray(np.ascontiguousarray(whole))
    if len(picture.getcolors(1 << 24)) <= 256:
        picture = picture.convert("P", palette=Image.Palette.ADAPTIVE, colors=256)
    picture.save(path, optimize=True)
