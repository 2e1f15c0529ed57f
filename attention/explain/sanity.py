"""Sanity checks: do maps change with the network, and do they agree with each other?"""

import copy
from collections.abc import Iterator, Sequence

import numpy as np
import scipy.stats
import torch
from torch import nn

from attention.checks import at_least, fraction, instance
from attention.explain.checks import expect_relevance


def rank_correlation(first: torch.Tensor, second: torch.Tensor) -> np.ndarray:
    """Spearman's rank correlation of two maps, for each image: (N, H, W) twice → (N,).

    An image with a constant map has none: nan.
    """
    expect_relevance(first, argument="first")
    expect_relevance(second, argument="second")
    if first.shape != second.shape:
        shapes = f"{tuple(first.shape)} and {tuple(second.shape)}"
        raise ValueError(f"first and second must have one shape, got {shapes}")
    ranks = [
        scipy.stats.rankdata(maps.flatten(1).cpu().numpy(), axis=1) for maps in (first, second)
    ]
    a, b = (r - r.mean(1, keepdims=True) for r in ranks)
    with np.errstate(invalid="ignore"):
        return (a * b).sum(1) / np.sqrt((a**2).sum(1) * (b**2).sum(1))


def mean_interval(
    values: Sequence[float], confidence: float = 0.95, seed: int = 0
) -> tuple[float, float, float]:
    """(mean, low, high) of values over images, by the bootstrap; nan are left out.

    The interval holds the middle `confidence` of the means of 2,000 samples drawn with replacement
    (Efron 1979). It says what another sample of images would give, not another training.
    """
    fraction("confidence", confidence)
    try:
        numbers = np.asarray(values, dtype=float)
    except (TypeError, ValueError):
        numbers = np.array(np.inf)
    if numbers.ndim != 1 or np.isinf(numbers).any():
        raise ValueError(f"values must be a list of finite numbers (or nan), got {values!r:.80}")
    values = numbers[~np.isnan(numbers)]
    if len(values) < 2:
        raise ValueError(f"values must hold at least 2 numbers, got {len(values)}")
    if np.ptp(values) == 0:
        return float(values[0]), float(values[0]), float(values[0])
    low, high = scipy.stats.bootstrap(
        (values,), np.mean, confidence_level=confidence, method="percentile", n_resamples=2000,
        rng=np.random.default_rng(at_least(0, "seed", seed)),
    ).confidence_interval  # fmt: skip
    return float(values.mean()), float(low), float(high)


def randomised(network: nn.Module, seed: int = 0) -> Iterator[tuple[str, nn.Module]]:
    """Yield (path, network) while the layers lose what they learned, from the output to the input.

    Each layer with weights is set to fresh initial values, last first, and stays so: the cascading
    randomisation of Adebayo et al., "Sanity Checks for Saliency Maps", NeurIPS 2018, section 3.
    Parameters of a module that cannot reset itself (a class token, a table of positions) are
    shuffled instead; what is not trained (the whitening filters) stays. The network itself is left
    alone: what is yielded is one copy, changed in place.
    """
    instance(nn.Module, "network", network)
    at_least(0, "seed", seed)
    network = copy.deepcopy(network)
    layers = [
        (path, module) for path, module in network.named_modules()
        if any(p.requires_grad for p in module.parameters(recurse=False))
    ]  # fmt: skip
    for number, (path, module) in enumerate(reversed(layers)):
        with torch.random.fork_rng():  # closed before the yield: the caller's numbers stay his own
            torch.manual_seed(1000 * seed + number)
            _forget(module)
        if isinstance(module, nn.modules.batchnorm._BatchNorm):
            module.reset_running_stats()
        yield path, network


@torch.no_grad()
def _forget(module):
    """Give a module's own trainable parameters values that it did not learn."""
    own = list(module.parameters(recurse=False))
    fixed = [(p, p.clone()) for p in own if not p.requires_grad]
    if hasattr(module, "reset_parameters"):
        module.reset_parameters()
    else:
        for p in own:
            p.copy_(p.flatten()[torch.randperm(p.numel())].view_as(p))
    for p, before in fixed:
        p.copy_(before)
