"""Faithfulness: does the network's answer depend on what a map points at?

Pixels are taken away in the order of the map and the probability of the target class is watched. A
map is faithful if taking its first pixels away hurts, and its last pixels do not.
"""

import dataclasses

import pandas as pd
import torch
from torch.nn import functional as F

from attention.checks import at_least, one_of
from attention.explain.checks import expect_eval, expect_relevance, targets

METHODS = ("deletion", "insertion", "road")


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
    def area(self):
        return torch.trapezoid(self.probability, self.share, dim=1)


def faithfulness(network, images, maps, method="deletion", target=None, steps=10, batch_size=500,
                 seed=0):  # fmt: skip
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


def areas(network, images, maps, target=None, steps=10, batch_size=500, seed=0):
    """{name of a map: (N, H, W)} → a frame with one row an image and map: the area by method.

    The other arguments are those of `faithfulness`.
    """
    rows = []
    for name, one in maps.items():
        curves = _curves(METHODS, network, images, one, target, steps, batch_size, seed)
        found = {curve.method: curve.area.numpy() for curve in curves}
        rows.append(pd.DataFrame({"map": name, "image": range(len(images)), **found}))
    return pd.concat(rows, ignore_index=True)


@torch.no_grad()
def _curves(methods, network, images, maps, target, steps, batch_size, seed):
    """The curves of one map by each method: what they share is computed once."""
    expect_eval(network)
    expect_relevance(maps, images)
    at_least(1, "steps", steps)
    ranks = _ranks(maps.to(images.device), seed).unflatten(1, images.shape[2:])[:, None]
    whole = _logits(network, images, batch_size)
    chosen = targets(target, whole)
    blurred = blur(images) if "insertion" in methods else None
    speckle = _speckle(images, seed) if "road" in methods else None
    share, curves = torch.linspace(0, 1, steps + 1), []
    for method in methods:
        points = []
        for one in share:
            count = round(float(one) * ranks[0].numel())
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


def blur(images, sigma=5.0):
    """Gaussian blur of (N, 3, H, W), sigma in pixels, the border reflected."""
    reach = min(int(2 * sigma), images.shape[2] - 1, images.shape[3] - 1)
    places = torch.arange(-reach, reach + 1, device=images.device, dtype=images.dtype)
    bell = torch.exp(-0.5 * (places / sigma) ** 2)
    bell = (bell / bell.sum()).expand(images.shape[1], 1, -1)
    padded = F.pad(images, (reach,) * 4, mode="reflect")
    rows = F.conv2d(padded, bell[:, :, None, :], groups=images.shape[1])
    return F.conv2d(rows, bell[:, :, :, None], groups=images.shape[1])


def impute(images, taken, seed=0, noise=0.01, sweeps=10):
    """Fill pixels from their neighbours: noisy linear imputation (Rong et al. 2022, section 4.2).

    images: (N, 3, H, W). taken: bool (N, 1, H, W), True where a pixel is to be filled.
    noise: standard deviation of what is added to filled pixels, in the images' units.

    A filled pixel is the mean of its neighbours, weighted 1/6 at its sides and 1/12 at its corners,
    those outside the image left out: one linear equation a pixel. The paper solves them exactly;
    here, from a coarse solution to a fine one, each taken to twice the size and swept over `sweeps`
    times, every pixel becoming its neighbours' mean: all images at once. On 32×32 pixels that is
    within a tenth of the image's standard deviation of the exact solution, as a root mean square.
    """
    return _imputed(images, taken, _speckle(images, seed, noise), sweeps)


def _speckle(images, seed, noise=0.01):
    generator = torch.Generator(images.device).manual_seed(seed)
    return noise * torch.randn(
        images.shape, generator=generator, device=images.device, dtype=images.dtype
    )


def _imputed(images, taken, speckle, sweeps=10):
    kernel = torch.tensor([[1.0, 2, 1], [2, 0, 2], [1, 2, 1]]).to(images) / 12
    kernel = kernel.expand(images.shape[1], 1, 3, 3)
    known = (~taken).to(images)
    filled = _fill(images * known, known, kernel, sweeps)
    return torch.where(taken, filled + speckle, images)


def _fill(total, known, kernel, sweeps):
    """Solve for the unknown pixels. total: known values, else 0; known: their share in a pixel."""
    height, width = total.shape[2:]
    if max(height, width) == 1:
        return total / known.clamp_min(1e-6)
    # half the size: the mean of what is known in 2×2 pixels, and how much of it is
    size = (-(-height // 2), -(-width // 2))
    padding = (0, 2 * size[1] - width, 0, 2 * size[0] - height)
    coarse_total, coarse_known = (F.avg_pool2d(F.pad(part, padding), 2) for part in (total, known))
    seen = (coarse_known > 0).to(known)
    means = coarse_total / coarse_known.clamp_min(1e-6)
    coarse = _fill(means * seen, seen, kernel, sweeps)
    x = F.interpolate(coarse, size=tuple(2 * s for s in size), mode="bilinear")[
        ..., :height, :width
    ]
    x = x.contiguous(memory_format=torch.channels_last)  # there the convolution is twice as fast
    neighbours = F.conv2d(
        x.new_ones(1, len(kernel), height, width), kernel, padding=1, groups=len(kernel)
    )
    # What is known stays, by `total`. All three in one order in memory, or each sum takes long.
    free = torch.empty_like(x).copy_(known == 0)
    share, total = free / neighbours, torch.empty_like(x).copy_(total)
    x = torch.addcmul(total, free, x)
    for _ in range(sweeps):
        x = F.conv2d(x, kernel, padding=1, groups=len(kernel))
        x = torch.addcmul(total, share, x)
    return x
