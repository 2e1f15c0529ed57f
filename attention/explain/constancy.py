"""How constant is a gate? What its values vary with: channels, positions, images."""

import dataclasses
import math
from collections.abc import Iterable
from typing import TYPE_CHECKING

import torch
from torch import nn

from attention.blocks import Gate
from attention.checks import at_least_one
from attention.explain.capture import capture
from attention.explain.checks import expect_eval, expect_images

if TYPE_CHECKING:
    import pandas as pd


@dataclasses.dataclass
class GateValues:
    """What one gate did over a set of images, in float64, on the CPU.

    mean: (C, H, W), each of its places over the images; C, H and W are 1 where the gate has none.
    constant: (C, 1, 1), the mean of each channel over images and positions.
    square: the mean of the squares of all its values.
    """

    kind: str
    mean: torch.Tensor
    square: float

    @property
    def constant(self) -> torch.Tensor:
        positions = tuple(range(1, self.mean.ndim))
        return self.mean.mean(positions, keepdim=True) if positions else self.mean

    @property
    def moved(self) -> float:
        """How far the gate is from `constant`: root mean square of the difference / mean gate."""
        around = max(0.0, self.square - float(self.constant.square().mean())) ** 0.5
        return around / abs(float(self.mean.mean())) if around else 0.0  # a gate may be shut


@torch.no_grad()
def gate_values(
    network: nn.Module, images: torch.Tensor | Iterable[torch.Tensor], batch_size: int = 100
) -> dict[str, GateValues]:
    """{path of each gate: what it did over these images}; see `constancy`.

    Raises ValueError for a network without gates, and for images of several sizes.
    """
    expect_eval(network)
    found, counts = {}, {}
    for part in image_batches(images, batch_size):
        with capture(network) as maps:
            network(part)
        for path, one in maps.items():
            if not isinstance(network.get_submodule(path), Gate) or not one.maps:
                continue
            values = one.cat().double()  # those of several calls, if it is called again
            mean, square = values.mean(0), float(values.square().mean())
            before, seen = found.setdefault(path, GateValues(one.kind, mean, square)), len(values)
            if before.mean.shape != mean.shape:
                raise ValueError(
                    "images must all have one size, so that a gate's maps have one, got maps of "
                    f"{tuple(before.mean.shape)} and {tuple(mean.shape)} at {path}"
                )
            share = seen / (counts.get(path, 0) + seen)
            before.mean = before.mean + share * (mean - before.mean)
            before.square += share * (square - before.square)
            counts[path] = counts.get(path, 0) + seen
    if not found:
        raise ValueError(f"network must hold gates that run, {type(network).__name__} has none")
    return found


def constancy(
    network: nn.Module, images: torch.Tensor | Iterable[torch.Tensor], batch_size: int = 100
) -> "pd.DataFrame":
    """How constant each gate of a network is over a set of images: one row a gate.

    network: in eval mode. images: (N, 3, H, W), normalised, or batches of them; they go through
    `batch_size` at a time.

        gate            its path, as in the dict of `capture`
        kind            what it weighs: "channel", "spatial" or "both"
        mean, std       of all its values
        over_images     the standard deviation over images, root mean square over the map's places
        moved           how far it is from one constant a channel: the root mean square of the
                        difference, divided by `mean`. 0: `attention.fold` changes nothing
        channels, positions, images
                        shares of the variance, their sum 1: between the means of the channels;
                        between the positions of a channel, the same for every image; and the rest,
                        what changes from image to image. `channels` is what a folded gate keeps,
                        `channels` and `positions` together are the `fixed` of `behaviour`. Of a
                        gate that has one value throughout, `channels` is 1
    """
    rows = []
    for path, one in gate_values(network, images, batch_size).items():
        mean = float(one.mean.mean())
        total = one.square - mean**2
        positions = float((one.mean - one.constant).square().mean())
        over_images = max(0.0, one.square - float(one.mean.square().mean()))
        scale = total if total > 1e-12 else math.inf  # below is float32's own error
        rows.append(
            {
                "gate": path,
                "kind": one.kind,
                "mean": mean,
                "std": max(0.0, total) ** 0.5,
                "over_images": over_images**0.5,
                "moved": one.moved,
                "channels": max(0.0, 1 - (positions + over_images) / scale),
                "positions": positions / scale,
                "images": over_images / scale,
            }
        )
    import pandas as pd  # for the table alone: `fold` needs the values, and no pandas

    return pd.DataFrame(rows)


def image_batches(
    images: torch.Tensor | Iterable[torch.Tensor], batch_size: int = 100
) -> list[torch.Tensor]:
    """Images (N, 3, H, W) in parts of `batch_size`, or the batches that somebody made, checked."""
    at_least_one("batch_size", batch_size)
    if isinstance(images, torch.Tensor):
        expect_images(images)
        return list(images.split(batch_size))
    found = list(images) if isinstance(images, Iterable) else [images]
    if not found:
        raise ValueError("images must be at least one, (N, 3, H, W), got no batch")
    for part in found:
        expect_images(part)
    return found
