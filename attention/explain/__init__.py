"""What a network looks at, and whether that can be believed: maps in, numbers out.

capture        every map of every block; rollout through a stack of layers
gradcam        Grad-CAM, of any convolutional layer
blockmaps      any captured map as one number a pixel
baselines      maps that know little: noise, smooth noise, bells, the gradient, another image's map
every          all maps of a network side by side: its own, Grad-CAM, the baselines
objects        does a map point at the object? Needs masks
removal        does the answer depend on what a map points at? Deletion, insertion, ROAD
sanity         does a map change with the weights? Agreement of two maps, intervals
effect         does a map do anything? What is lost without it
constancy      how constant a gate is: what its values vary with
checks         of networks, images, maps: what these share
"""

from typing import TYPE_CHECKING

from attention.explain.baselines import (
    centred_gaussian,
    corner_gaussian,
    gradient_magnitude,
    of_another_image,
    random_maps,
    smooth_noise,
)
from attention.explain.blockmaps import Relevance, relevance, relevances
from attention.explain.capture import Captured, capture, rollout
from attention.explain.constancy import GateValues, constancy, gate_values, image_batches
from attention.explain.every import BASELINE, GRAD_CAM, OWN, every_map
from attention.explain.gradcam import grad_cam
from attention.extras import at_first_use

if TYPE_CHECKING:
    from attention.explain.effect import behaviour, knocked_out, replaced
    from attention.explain.objects import localisation
    from attention.explain.removal import Curve, areas, faithfulness, impute
    from attention.explain.sanity import mean_interval, randomised, rank_correlation

__all__ = [
    "BASELINE", "GRAD_CAM", "OWN", "Captured", "Curve", "GateValues", "Relevance", "areas",
    "behaviour", "capture", "centred_gaussian", "constancy", "corner_gaussian", "every_map",
    "faithfulness", "gate_values", "grad_cam", "gradient_magnitude", "image_batches", "impute",
    "knocked_out", "localisation", "mean_interval", "of_another_image", "random_maps",
    "randomised", "rank_correlation", "relevance", "relevances", "replaced", "rollout",
    "smooth_noise",
]  # fmt: skip

# These make tables and intervals, with pandas and SciPy, which the maps do not need.
_LATE = {
    "effect": ("behaviour", "knocked_out", "replaced"),
    "objects": ("localisation",),
    "removal": ("Curve", "areas", "faithfulness", "impute"),
    "sanity": ("mean_interval", "randomised", "rank_correlation"),
}
__getattr__ = at_first_use(
    __name__, {name: f"{__name__}.{file}" for file, names in _LATE.items() for name in names}
)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
