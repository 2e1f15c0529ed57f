"""Does an attention map do anything? What it varies with, and what is lost without it."""

import contextlib
from collections.abc import Callable, Iterator, Mapping

import pandas as pd
import torch
from torch import nn

from attention.blocks import Gate, Map, wanting
from attention.checks import at_least, at_least_one, one_of
from attention.explain.baselines import others
from attention.explain.capture import Captured, after, capture
from attention.explain.checks import expect_eval, expect_images

WAYS = ("mean", "ones", "shuffled")


@contextlib.contextmanager
def replaced(
    network: nn.Module, path: str, way: str, mean: torch.Tensor | None = None, seed: int = 0
) -> Iterator[nn.Module]:
    """The network with one attention map replaced, for the `with` block.

    path: of the module that gives the map, as in the dict of `capture`.
    way: "mean": `mean`, a map (1, …), for every image; "ones": 1 everywhere (gates only: weights
        over positions would not add up to 1); "shuffled": each image gets the map of another image
        of its batch, so the batches must mix the classes, and hold at least 2 images.
    """
    module = dict(network.named_modules()).get(path)
    if not isinstance(module, Map):
        raise ValueError(f"path must be that of an attention map in the network, got {path!r}")
    one_of("way", way, WAYS)
    if way == "ones" and not isinstance(module, Gate):
        raise ValueError(f"way 'ones' is for gates, and {path!r} is of kind {module.kind!r}")
    if (way == "mean") != (mean is not None):
        raise ValueError("mean must be given with way='mean', and only then")
    generator = torch.Generator().manual_seed(at_least(0, "seed", seed))

    def instead(module, output):
        if way == "mean":
            if mean.ndim != output.ndim or any(
                side not in (1, wanted)
                for side, wanted in zip(mean.shape, output.shape, strict=True)
            ):
                shape = (1, *output.shape[1:])
                raise ValueError(f"mean must be a map {shape}, got {tuple(mean.shape)}")
            return mean.to(output).expand_as(output)
        if way == "ones":
            return torch.ones_like(output)
        return output[others(len(output), generator)]

    with wanting(network), after([module], instead):
        yield network


def behaviour(maps: Mapping[str, Captured], labels: torch.Tensor) -> pd.DataFrame:
    """What each captured map does over a set of images: one row a map.

    maps: the dict of `capture`. labels: (N,) classes of the same images.

        mean, std       of all its values
        saturated       the share of values below 0.05 or above 0.95
        over_images     the standard deviation over images, mean over the map's places
        over_classes    that of the class means: what of it tells classes apart
        fixed           the share of the values' variance that the mean map explains: 1 is a map
                        that is the same for every image, or has one value throughout
    """
    if not maps:
        raise ValueError("maps must hold at least one captured map, got none")
    labels, rows = torch.as_tensor(labels), {}
    for path, one in maps.items():
        values = one.cat().flatten(1)
        if labels.shape != (len(values),):
            found = len(labels) if labels.ndim == 1 else tuple(labels.shape)
            raise ValueError(f"labels must be {len(values)}, one for each image, got {found}")
        classes = torch.stack([values[labels == c].mean(0) for c in labels.unique()])
        within = values.var(0, correction=0).mean()
        total = values.var(correction=0)
        rows[path] = {
            "kind": one.kind,
            "mean": values.mean(),
            "std": total.sqrt(),
            "saturated": ((values < 0.05) | (values > 0.95)).float().mean(),
            "over_images": values.std(0, correction=0).mean(),
            "over_classes": classes.std(0, correction=0).mean(),
            "fixed": 1 - within / total if total > 1e-12 else torch.tensor(1.0),
        }
    frame = pd.DataFrame.from_dict(rows, orient="index")
    return frame.astype({name: float for name in frame.columns if name != "kind"})


def knocked_out(
    network: nn.Module,
    images: torch.Tensor,
    accuracy: Callable[[nn.Module], float],
    batch_size: int = 100,
) -> pd.DataFrame:
    """The accuracy with each map of the network replaced: one row a map, one column a way.

    images: (N, 3, H, W), normalised: those over which the mean map is taken, `batch_size` at a
    time: weights over positions are large. accuracy: a function network → percent, called once for
    each map and way.
    """
    expect_eval(network)
    expect_images(images)
    means = {}
    for part in images.split(at_least_one("batch_size", batch_size)):
        with torch.no_grad(), capture(network) as maps:
            network(part)
        for path, one in maps.items():
            share = one.cat().sum(0, keepdim=True) / (len(images) * len(one.maps))
            means[path] = means.get(path, 0) + share
    whole, rows = accuracy(network), {}
    for path, mean in means.items():
        row = {"whole": whole}
        gate = isinstance(network.get_submodule(path), Gate)
        for way in WAYS if gate else ("mean", "shuffled"):
            with replaced(network, path, way, mean if way == "mean" else None):
                row[way] = accuracy(network)
        rows[path] = row
    return pd.DataFrame.from_dict(rows, orient="index")
