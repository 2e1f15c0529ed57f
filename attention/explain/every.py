"""All maps of a network side by side: its own, Grad-CAM's, and those that know nothing."""

import dataclasses

import torch

from attention.explain.baselines import centred_gaussian, gradient_magnitude, random_maps
from attention.explain.blockmaps import Relevance, relevances
from attention.explain.gradcam import default_layer, grad_cam

OWN, GRAD_CAM, BASELINE = "own", "Grad-CAM", "baseline"


@dataclasses.dataclass
class OneOfMany(Relevance):
    """A `Relevance`, and the family that it belongs to: "own", "Grad-CAM" or "baseline"."""

    family: str


def every_map(network, images, batch_size=100):
    """{name: maps (N, H, W) on the CPU, with how they were made, and their family}

    own         each map of a block that says which positions matter, by its path, see `relevances`
    Grad-CAM    "Grad-CAM", of the default layer, and of this package's networks also of the stages
                before it: "Grad-CAM, stage 1", …; a network without such a layer has none
    baseline    "gradient", "centre", "random": what must be beaten, see baselines.py

    All explain what the network answers. network: in eval mode. images: (N, 3, H, W), normalised;
    they go through in parts of `batch_size`.
    """
    parts = images.split(batch_size)

    def whole(function, *arguments, **options):
        return torch.cat([function(network, part, *arguments, **options) for part in parts])

    found = {
        path: OneOfMany(one.maps, one.how, OWN)
        for path, one in relevances(network, images, batch_size).items()
    }
    for name, layer in _layers(network).items():
        maps = whole(grad_cam, layer=layer)
        found[name] = OneOfMany(maps, "evidence for the answer in the maps of a layer", GRAD_CAM)
    gradient = "the largest gradient of the three colours"
    found["gradient"] = OneOfMany(whole(gradient_magnitude), gradient, BASELINE)
    centre = "a bell in the middle, the same for every image"
    found["centre"] = OneOfMany(centred_gaussian(images), centre, BASELINE)
    found["random"] = OneOfMany(random_maps(images), "noise", BASELINE)
    return found


def _layers(network):
    """{name of a Grad-CAM: layer}, the default first."""
    last = default_layer(network)
    if last is None:
        return {}
    earlier = getattr(network, "stages", [])[:-1]
    return {GRAD_CAM: last} | {
        f"{GRAD_CAM}, stage {number}": stage for number, stage in enumerate(earlier, 1)
    }
