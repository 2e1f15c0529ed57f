"""All maps of a network side by side: its own, Grad-CAM's, and those that know nothing."""

import dataclasses

import torch
from torch import nn

from attention.checks import at_least_one
from attention.explain.baselines import (
    centred_gaussian,
    corner_gaussian,
    gradient_magnitude,
    of_another_image,
    random_maps,
    smooth_noise,
)
from attention.explain.blockmaps import Relevance, relevances
from attention.explain.checks import expect_eval, expect_images
from attention.explain.gradcam import grad_cam
from attention.networks import last_stage, stages

OWN, GRAD_CAM, BASELINE = "own", "Grad-CAM", "baseline"


@dataclasses.dataclass
class OneOfMany(Relevance):
    """A `Relevance`, and the family that it belongs to: "own", "Grad-CAM" or "baseline"."""

    family: str


def every_map(
    network: nn.Module, images: torch.Tensor, batch_size: int = 100
) -> dict[str, OneOfMany]:
    """{name: maps (N, H, W) on the CPU, with how they were made, and their family}

    own         each map of a block that says which positions matter, by its path, see `relevances`
    Grad-CAM    "Grad-CAM", of the default layer, and where the network's stages are known also of
                those before it: "Grad-CAM, stage 1", …; a network without such a layer has none
    baseline    "gradient", "centre", "random", "smooth noise", "corner", and of two images or more
                "Grad-CAM, another image": what must be beaten, see baselines.py

    All explain what the network answers. network: in eval mode. images: (N, 3, H, W), normalised;
    they go through in parts of `batch_size`.
    """
    expect_eval(network)
    expect_images(images)
    parts = images.split(at_least_one("batch_size", batch_size))

    def whole(function, *arguments, **options):
        return torch.cat([function(network, part, *arguments, **options) for part in parts])

    found = {
        path: OneOfMany(one.maps, one.how, OWN)
        for path, one in relevances(network, images, batch_size).items()
    }
    for name, layer in _layers(network).items():
        maps = whole(grad_cam, layer=layer)
        found[name] = OneOfMany(maps, "evidence for the answer in the maps of a layer", GRAD_CAM)
    known = {
        "gradient": (whole(gradient_magnitude), "the largest gradient of the three colours"),
        "centre": (centred_gaussian(images), "a bell in the middle, the same for every image"),
        "random": (random_maps(images), "noise"),
        "smooth noise": (smooth_noise(images), "noise as smooth as an enlarged 8×8 map"),
        "corner": (corner_gaussian(images), "a bell in a corner, the same for every image"),
    }
    if GRAD_CAM in found and len(images) > 1:
        moved = of_another_image(found[GRAD_CAM].maps)
        known[f"{GRAD_CAM}, another image"] = (moved, "the map of another of these images")
    return found | {name: OneOfMany(*made, BASELINE) for name, made in known.items()}


def _layers(network):
    """{name of a Grad-CAM: layer}, the default first."""
    last = last_stage(network)
    if last is None:
        return {}
    try:
        earlier = stages(network)[:-1]
    except ValueError:  # another anatomy: its last maps are known, and nothing else
        earlier = []
    return {GRAD_CAM: last} | {
        f"{GRAD_CAM}, stage {number}": stage for number, stage in enumerate(earlier, 1)
    }
