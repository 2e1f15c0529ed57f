"""`NETWORKS`: every network of this package by name, one row each."""

import dataclasses
import functools
from collections.abc import Callable

from torch import nn

from attention.networks.fast import fast_resnet
from attention.networks.photographs import IMAGENET, resnet18
from attention.networks.resnet import resnet
from attention.networks.transformer import convvit, vit


@dataclasses.dataclass(frozen=True)
class Architecture:
    """One network by its name.

    make: (width=…, classes=…) → the network. recipe: the name of the training recipe it needs.
    version: raised when the same arguments would give a network that computes something else.
    """

    name: str
    make: Callable[..., nn.Module]
    recipe: str
    version: int = 1


NETWORKS = {
    row.name: row
    for row in (
        Architecture("fast", fast_resnet, "fast"),
        *(
            Architecture(f"resnet{depth}", functools.partial(resnet, depth), "resnet")
            for depth in (20, 26, 32, 44, 56, 110)
        ),
        Architecture("resnet18", resnet18, "photographs"),
        Architecture(
            "resnet18-pretrained", functools.partial(resnet18, weights=IMAGENET), "fine-tuning"
        ),
        Architecture("vit", vit, "transformer"),
        Architecture("convvit", convvit, "transformer"),
    )
}
