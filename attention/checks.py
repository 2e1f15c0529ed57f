"""Checks of arguments: each gives the value back, or raises a ValueError that names the argument.

The message says what was expected and what came. Bounds come first: at_least(2, "seeds", seeds).
Whole numbers may be numpy's, and come back as int; True and 3.0 are none.
"""

import math
import numbers
import operator
from collections.abc import Iterable
from typing import Any

import numpy as np
import torch
from torch.fx import Proxy


def instance(kind: type, argument: str, value: Any) -> Any:
    """A value of this class."""
    if not isinstance(value, kind):
        raise TypeError(f"{argument} must be a {kind.__name__}, got {type(value).__name__}")
    return value


def at_least(minimum: int, argument: str, value: Any) -> int:
    """A whole number ≥ minimum."""
    try:
        number = None if isinstance(value, bool | np.bool_) else operator.index(value)
    except TypeError:
        number = None
    if number is None or number < minimum:
        raise ValueError(f"{argument} must be a whole number of at least {minimum}, got {value!r}")
    return number


def at_least_one(argument: str, value: Any) -> int:
    """A whole number ≥ 1."""
    return at_least(1, argument, value)


def between(minimum: int, maximum: int, argument: str, value: Any) -> int:
    """A whole number from minimum to maximum."""
    number = at_least(minimum, argument, value)
    if number > maximum:
        raise ValueError(f"{argument} must be at most {maximum}, got {value!r}")
    return number


def odd(argument: str, value: Any) -> int:
    """An odd whole number ≥ 1: a window needs a middle to keep the map's size."""
    number = at_least_one(argument, value)
    if number % 2 == 0:
        raise ValueError(f"{argument} must be odd, so that the map keeps its size, got {value!r}")
    return number


def divides(argument: str, value: Any, whole: int) -> int:
    """A whole number ≥ 1 that divides `whole`."""
    number = at_least_one(argument, value)
    if whole % number:
        raise ValueError(f"{argument} must divide {whole} into equal parts, got {value!r}")
    return number


def finite(argument: str, value: Any) -> float:
    """A number, whole or not, that is neither infinite nor nan."""
    if isinstance(value, bool) or not isinstance(value, numbers.Real) or not math.isfinite(value):
        raise ValueError(f"{argument} must be a finite number, got {value!r}")
    return float(value)


def positive(argument: str, value: Any) -> float:
    """A finite number > 0."""
    number = finite(argument, value)
    if number <= 0:
        raise ValueError(f"{argument} must be above 0, got {value!r}")
    return number


def not_negative(argument: str, value: Any) -> float:
    """A finite number ≥ 0."""
    number = finite(argument, value)
    if number < 0:
        raise ValueError(f"{argument} must be at least 0, got {value!r}")
    return number


def below_one(argument: str, value: Any) -> float:
    """A number from 0 on, below 1."""
    number = not_negative(argument, value)
    if number >= 1:
        raise ValueError(f"{argument} must be below 1, got {value!r}")
    return number


def fraction(argument: str, value: Any) -> float:
    """A number between 0 and 1, neither of them."""
    number = finite(argument, value)
    if not 0 < number < 1:
        raise ValueError(f"{argument} must be between 0 and 1, got {value!r}")
    return number


def one_of(argument: str, value: Any, allowed: Iterable) -> Any:
    """One of the names `allowed`; the message lists them."""
    allowed = tuple(allowed)
    if value not in allowed:
        names = ", ".join(map(str, allowed))
        raise ValueError(f"{argument} must be one of {names}; got {value!r}")
    return value


def some_of(argument: str, values: Any, allowed: Iterable) -> tuple:
    """Some of the names `allowed`, at least one, none twice."""
    allowed = tuple(allowed)
    listed = isinstance(values, Iterable) and not isinstance(values, str)
    chosen = tuple(values) if listed else ()
    known = chosen and all(value in allowed for value in chosen)
    if not known or len(set(chosen)) < len(chosen):
        names = ", ".join(map(str, allowed))
        raise ValueError(f"{argument} must be some of {names}, each once; got {values!r}")
    return chosen


def device(argument: str, value: Any) -> torch.device:
    """A device that is there, "cuda" or "cpu"; None: the GPU if there is one, else the CPU."""
    gpus = torch.cuda.device_count()
    try:
        found = torch.device(("cuda" if gpus else "cpu") if value is None else value)
    except (RuntimeError, TypeError):
        found = None
    if found is None or found.type not in ("cpu", "cuda"):
        raise ValueError(f"{argument} must be 'cpu' or 'cuda', got {value!r}")
    if found.type == "cuda" and (found.index or 0) >= gpus:
        raise ValueError(f"{argument} must be one that is there (GPUs: {gpus}), got {value!r}")
    return found


def expect_maps(x: torch.Tensor, channels: int) -> None:
    """Raise a ValueError unless `x` is (N, channels, H, W) of floats, H and W at least 1.

    While torch.fx traces, there are no maps yet, and nothing is checked; so, too, below.
    """
    if isinstance(x, Proxy):
        return
    if not isinstance(x, torch.Tensor):
        raise ValueError(f"expected feature maps (N, {channels}, H, W), got {type(x).__name__}")
    if x.ndim != 4 or x.shape[1] != channels or 0 in x.shape[2:]:
        raise ValueError(f"expected feature maps (N, {channels}, H, W), got {tuple(x.shape)}")
    if not x.is_floating_point():
        raise ValueError(f"expected feature maps of floating-point numbers, got {x.dtype}")


def expect_rows(argument: str, x: torch.Tensor, features: int) -> None:
    """Raise a ValueError unless `x` is (N, rows, features), a row a query or a position."""
    if isinstance(x, Proxy):
        return
    if x.ndim != 3 or x.shape[2] != features or x.shape[1] == 0:
        raise ValueError(f"{argument} must be (N, rows, {features}), got {tuple(x.shape)}")


def expect_batch(x: torch.Tensor) -> None:
    """Raise a ValueError when `x` is one image: a norm over the batch has nothing to compare."""
    if isinstance(x, Proxy):
        return
    if x.shape[0] == 1:
        raise ValueError(
            "this block normalises over the batch: in training mode it needs a batch of at least 2 "
            "images, got 1 (call .eval() to use it on one image)"
        )


def expect_kept_shape(block: str, before: torch.Tensor, after: torch.Tensor) -> None:
    """Raise a ValueError when what came out of a block, by its name, has another shape."""
    if isinstance(after, Proxy):
        return
    if after.shape != before.shape:
        raise ValueError(
            f"an attention block must keep the shape of the maps, {tuple(before.shape)}; "
            f"{block} gave {tuple(after.shape)}"
        )


def expect_whole_patches(x: torch.Tensor, patch: int) -> None:
    """Raise a ValueError unless H and W of `x` (N, C, H, W) are multiples of `patch`."""
    if isinstance(x, Proxy):
        return
    height, width = x.shape[2:]
    if height % patch or width % patch:
        raise ValueError(
            f"images must be cut into whole patches of {patch}×{patch} pixels, got {height}×{width}"
        )
