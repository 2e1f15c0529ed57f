"""Scores put together: what a hybrid is made of, and a gate for any of them."""

import math

import torch
from torch import nn

from attention.blocks.gate import BOTH, Gate, Score


class Rescale(nn.Module):
    """x · map, or with residual=True x · (1 + map), where map = σ(score(x)).

    (N, C, H, W) → the same shape.

    score: a `Score`, or any module x → logits that broadcast to x; one that has no `kind`
        ("channel", "spatial" or "both") needs the argument.
    """

    def __init__(self, score: nn.Module, residual: bool = False, kind: str | None = None) -> None:
        super().__init__()
        self.score = score
        self.gate = Gate(kind or getattr(score, "kind", None))
        self.residual = residual

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        weights = self.gate(self.score(x))
        return x * (1 + weights) if self.residual else x * weights


class Combination(Score):
    """Named scores, to be broadcast to each other: Sum(channel=…, spatial=…)."""

    def __init__(self, **scores: Score) -> None:
        super().__init__()
        if not scores:
            raise ValueError(f"{type(self).__name__} needs at least one score, got none")
        for name, score in scores.items():
            self.add_module(name, score)
        kinds = {score.kind for score in scores.values()}
        self.kind = kinds.pop() if len(kinds) == 1 else BOTH

    def logits(self, x: torch.Tensor) -> list[torch.Tensor]:
        """What each score says; one that is there twice counts twice, as in no `children()`."""
        return [score(x) for score in self._modules.values()]


class Sum(Combination):
    """Σ of scores, as in BAM's equation."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return sum(self.logits(x))


class Product(Combination):
    """Π of scores, as in BAM's release."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return math.prod(self.logits(x))


class Parallel(nn.Module):
    """½ (first(x) + second(x)): two gates side by side, neither sees what the other did.

    As sSE and cSE are added in "Concurrent Spatial and Channel 'Squeeze & Excitation'" (Roy et al.
    2018), but halved, so that two open gates give x.
    """

    def __init__(self, first: nn.Module, second: nn.Module) -> None:
        super().__init__()
        self.first, self.second = first, second

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return (self.first(x) + self.second(x)) / 2


class Pooled(Score):
    """A channel score that sees each channel pooled by attention, (N, C, 1, 1), not averaged.

    pool: a module (N, C, H, W) → (N, C, 1, 1).
    """

    def __init__(self, pool: nn.Module, score: Score) -> None:
        super().__init__()
        self.pool, self.score = pool, score
        self.kind = score.kind

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.score(self.pool(x))
