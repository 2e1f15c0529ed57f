"""Checks of arguments: each names the argument, what was expected, and what came."""


def at_least(minimum, argument, value):
    """Return `value`, an int ≥ minimum, or raise a ValueError."""
    if not isinstance(value, int) or isinstance(value, bool) or value < minimum:
        raise ValueError(f"{argument} must be a whole number of at least {minimum}, got {value!r}")
    return value


def at_least_one(argument, value):
    """Return `value`, an int ≥ 1, or raise a ValueError."""
    return at_least(1, argument, value)


def between(minimum, maximum, argument, value):
    """Return `value`, an int from minimum to maximum, or raise a ValueError."""
    if at_least(minimum, argument, value) > maximum:
        raise ValueError(f"{argument} must be at most {maximum}, got {value}")
    return value


def odd(argument, value):
    """Return `value`, an odd int ≥ 1: a window needs a middle to keep the map's size."""
    if at_least_one(argument, value) % 2 == 0:
        raise ValueError(f"{argument} must be odd, so that the map keeps its size, got {value}")
    return value


def divides(argument, value, whole):
    """Return `value`, an int ≥ 1 that divides `whole`, or raise a ValueError."""
    if whole % at_least_one(argument, value):
        raise ValueError(f"{argument} must divide {whole} features into equal parts, got {value}")
    return value


def one_of(argument, value, allowed):
    """Return `value`, one of the names `allowed`, or raise a ValueError that lists them."""
    if value not in allowed:
        names = ", ".join(map(str, allowed))
        raise ValueError(f"{argument} must be one of {names}; got {value!r}")
    return value


def expect_maps(x, channels):
    """Raise a ValueError unless `x` is (N, channels, H, W)."""
    if x.ndim != 4 or x.shape[1] != channels:
        raise ValueError(f"expected feature maps (N, {channels}, H, W), got {tuple(x.shape)}")


def expect_batch(x):
    """Raise a ValueError when `x` is one image: a norm over the batch has nothing to compare."""
    if len(x) == 1:
        raise ValueError(
            "this block normalises over the batch: in training mode it needs a batch of at least 2 "
            "images, got 1 (call .eval() to use it on one image)"
        )
