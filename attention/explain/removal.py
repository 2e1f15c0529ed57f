"""Faithfulness: does the network's answer depend on what a map points at?

Pixels are taken away in the order of the map and the probability of the target class is watched. A
map is faithful if taking its first pixels away hurts, and its last pixels do not.
"""

import dataclasses
from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd
import scipy.linalg
import torch
from torch import nn
from torch.nn import functional as F

from attention.checks import at_least, at_least_one, not_negative, one_of
from attention.explain.checks import expect_eval, expect_images, expect_relevance, targets

METHODS = ("deletion", "insertion", "road")
SIDE, CORNER = 1 / 6, 1 / 12  # ROAD: how much a pixel's neighbours say about it


@dataclasses.dataclass
class Curve:
    """probability: (N, steps + 1) of the target class. share: (steps + 1,), of the pixels taken.

    area: (N,), the mean height of the curve: small is good for deletion and road, large for
    insertion.
    """

    method: str
    share: torch.Tensor
    probability: torch.Tensor

    @property
    def area(self) -> torch.Tensor:
        return torch.trapezoid(self.probability, self.share, dim=1)


def faithfulness(
    network: nn.Module, images: torch.Tensor, maps: torch.Tensor, method: str = "deletion",
    target: Any = None, steps: int = 10, batch_size: int = 500, seed: int = 0,
) -> Curve:  # fmt: skip
    """The curve of the target's probability while pixels are taken away, or come back.

    network: in eval mode. images: (N, 3, H, W), normalised. maps: (N, H, W).
    target: as in `grad_cam`; None: what the network answers for the whole image.

        deletion     the highest pixels first, replaced by the mean colour, 0 (Petsiuk et al.,
                     "RISE", BMVC 2018, section 4.2)
        insertion    the highest pixels first, put into a blurred copy of the image (likewise)
        road         the highest pixels first, replaced by what their neighbours say, and noise: the
                     shape of a hole does not give the class away (Rong et al., "A Consistent and
                     Efficient Evaluation Strategy for Attribution Methods", ICML 2022)

    Pixels of equal value come in a random order, which follows from the seed.
    """
    one_of("method", method, METHODS)
    return _curves((method,), network, images, maps, target, steps, batch_size, seed)[0]


def areas(
    network: nn.Module, images: torch.Tensor, maps: Mapping[str, torch.Tensor],
    target: Any = None, steps: int = 10, batch_size: int = 500, seed: int = 0,
) -> pd.DataFrame:  # fmt: skip
    """{name of a map: (N, H, W)} → a frame with one row an image and map: the area by method.

    The other arguments are those of `faithfulness`.
    """
    if not isinstance(maps, Mapping) or not maps:
        raise ValueError(f"maps must be a dict of at least one map, got {type(maps).__name__}")
    rows = []
    for name, relevance in maps.items():
        curves = _curves(METHODS, network, images, relevance, target, steps, batch_size, seed)
        found = {curve.method: curve.area.numpy() for curve in curves}
        rows.append(pd.DataFrame({"map": name, "image": range(len(images)), **found}))
    return pd.concat(rows, ignore_index=True)


@torch.no_grad()
def _curves(methods, network, images, maps, target, steps, batch_size, seed):
    """The curves of one map by each method: what they share is computed once."""
    expect_eval(network)
    expect_images(images)
    expect_relevance(maps, images)
    at_least_one("steps", steps)
    at_least_one("batch_size", batch_size)
    at_least(0, "seed", seed)
    ranks = _ranks(maps.to(images.device), seed).unflatten(1, images.shape[2:])[:, None]
    whole = _logits(network, images, batch_size)
    chosen = targets(target, whole)
    blurred = blur(images) if "insertion" in methods else None
    speckle = _speckle(images, seed) if "road" in methods else None
    share, curves = torch.linspace(0, 1, steps + 1), []
    for method in methods:
        points = []
        for part in share.tolist():
            count = round(part * ranks[0].numel())
            taken = ranks < count
            if count == (ranks[0].numel() if method == "insertion" else 0):
                logits = whole  # nothing is missing
            elif method == "deletion":
                logits = _logits(network, images.masked_fill(taken, 0), batch_size)
            elif method == "insertion":
                logits = _logits(network, torch.where(taken, images, blurred), batch_size)
            else:
                logits = _logits(network, _imputed(images, taken, speckle), batch_size)
            points.append(logits.softmax(1).gather(1, chosen[:, None])[:, 0])
        curves.append(Curve(method, share, torch.stack(points, 1).float().cpu()))
    return curves


def _ranks(maps, seed):
    """(N, H·W): the place of each pixel when the highest comes first."""
    generator = torch.Generator(maps.device).manual_seed(seed)
    flat = maps.flatten(1)
    shuffled = torch.rand(flat.shape, generator=generator, device=maps.device).argsort(1)
    order = flat.gather(1, shuffled).argsort(dim=1, descending=True, stable=True)
    order = shuffled.gather(1, order)
    places = torch.arange(flat.shape[1], device=maps.device).expand_as(order)
    return torch.empty_like(order).scatter(1, order, places)


def _logits(network, images, batch_size):
    return torch.cat([network(part).float() for part in images.split(batch_size)])


def blur(images: torch.Tensor, sigma: float = 5.0) -> torch.Tensor:
    """Gaussian blur of (N, 3, H, W), sigma in pixels, the border reflected."""
    reach = min(int(2 * sigma), images.shape[2] - 1, images.shape[3] - 1)
    places = torch.arange(-reach, reach + 1, device=images.device, dtype=images.dtype)
    bell = torch.exp(-0.5 * (places / sigma) ** 2)
    bell = (bell / bell.sum()).expand(images.shape[1], 1, -1)
    padded = F.pad(images, (reach,) * 4, mode="reflect")
    rows = F.conv2d(padded, bell[:, :, None, :], groups=images.shape[1])
    return F.conv2d(rows, bell[:, :, :, None], groups=images.shape[1])


def impute(
    images: torch.Tensor, taken: torch.Tensor, seed: int = 0, noise: float = 0.01
) -> torch.Tensor:
    """Fill pixels from their neighbours: noisy linear imputation (Rong et al. 2022, section 4.2).

    images: (N, 3, H, W). taken: bool (N, 1, H, W), True where a pixel is to be filled.
    noise: standard deviation of what is added to filled pixels, in the images' units.

    A filled pixel is the mean of its neighbours, weighted 1/6 at its sides and 1/12 at its corners,
    those outside the image left out: one linear equation a pixel, solved exactly, in float64. An
    image of which nothing is left is filled with the mean colour, 0.
    """
    expect_images(images)
    expected = (len(images), 1, *images.shape[2:])
    if not isinstance(taken, torch.Tensor) or taken.dtype != torch.bool or taken.shape != expected:
        found = f"{taken.dtype} {tuple(taken.shape)}" if isinstance(taken, torch.Tensor) else taken
        raise ValueError(f"taken must be bool {expected}, got {found}")
    not_negative("noise", noise)
    return _imputed(images, taken, _speckle(images, seed, noise))


def _speckle(images, seed, noise=0.01):
    generator = torch.Generator(images.device).manual_seed(at_least(0, "seed", seed))
    return noise * torch.randn(
        images.shape, generator=generator, device=images.device, dtype=images.dtype
    )


def _imputed(images, taken, speckle):
    known = images.double().masked_fill(taken, 0)
    # of each pixel: what its known neighbours add up to, and the weight of all its neighbours
    given, around = _over_neighbours(known), _over_neighbours(torch.ones_like(known[:1, :1]))[0, 0]
    filled = [
        _solve(one.cpu().numpy(), around.cpu().numpy(), hole.cpu().numpy())
        for one, hole in zip(given, taken[:, 0], strict=True)
    ]
    filled = torch.from_numpy(np.stack(filled)).to(images)
    return torch.where(taken, filled + speckle, images)


def _over_neighbours(x):
    """Each pixel's neighbours, weighted and added up: (N, C, H, W) in float64."""
    kernel = x.new_tensor([[CORNER, SIDE, CORNER], [SIDE, 0, SIDE], [CORNER, SIDE, CORNER]])
    return F.conv2d(x, kernel.expand(x.shape[1], 1, 3, 3), padding=1, groups=x.shape[1])


def _solve(given, around, hole):
    """(3, H, W), right in the hole (H, W): around·x − Σ weight·x over neighbours in it = given.

    The pixels in a row, line by line, the matrix is symmetric, positive definite and banded: the
    lower neighbours of a pixel come 1 to W + 2 places later, where each line ends with one pixel
    more, which is in no hole and keeps what comes around the border apart. Of pixels outside the
    hole, x = 0.
    """
    if hole.all():
        return np.zeros_like(given)  # nothing is left to say anything
    line = hole.shape[1] + 1
    right = np.pad(given * hole, ((0, 0), (0, 0), (0, 1))).reshape(len(given), -1).T
    hole = np.pad(hole, ((0, 0), (0, 1)))
    diagonals = np.zeros((line + 2, hole.size))  # [k, i]: the entry of the pixels i and i + k
    diagonals[0] = np.where(hole, np.pad(around, ((0, 0), (0, 1))), 1).ravel()
    hole = hole.ravel()
    for places, weight in ((1, SIDE), (line - 1, CORNER), (line, SIDE), (line + 1, CORNER)):
        diagonals[places, :-places] = -weight * (hole[:-places] & hole[places:])
    x = scipy.linalg.solveh_banded(diagonals, right, lower=True, check_finite=False)
    return x.T.reshape(len(given), -1, line)[..., :-1]
