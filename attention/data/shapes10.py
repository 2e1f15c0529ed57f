"""Shapes-10: small pictures with one known object each, drawn by integer arithmetic.

Ten classes of shapes in random colour, size, place and rotation, on a textured background with
distractors, and for every picture the mask of its object. So a classifier can be trained without
a download, and a map can be checked against the place it should point to.

The same seed gives the same bytes on every machine: the random numbers come from NumPy's frozen
`RandomState` stream (with explicit integer types), and no floating-point number is ever rounded
into a pixel.
"""

import math
from pathlib import Path

import numpy as np
import torch

from attention.checks import at_least_one, between
from attention.data.dataset import DataError, Dataset, Split, expect_room

CLASSES = ("arrow", "crescent", "cross", "disc", "half disc", "L", "ring", "square", "star",
           "triangle")  # fmt: skip

SUB = 3  # sub-pixels per pixel and axis, averaged against jagged edges
UNIT = 16  # length units per sub-pixel: places and sizes are integers of this fineness
PIXEL = SUB * UNIT
ONE = 1024  # the object's radius in its own coordinates
TURN = 256  # angles per full turn
# Rounded to integers once, so that no machine's libm reaches a pixel.
COS = np.array([round(4096 * math.cos(2 * math.pi * k / TURN)) for k in range(TURN)], np.int32)
SIN = np.roll(COS, TURN // 4)


def shapes10(train: int = 8000, test: int = 1000, seed: int = 0, size: int = 32) -> Dataset:
    """Draw Shapes-10: a Dataset whose splits have masks.

    train, test: numbers of images, multiples of 10 (the classes are balanced).
    size: height and width in pixels, 16 to 512 (beyond, the integers overflow). The same arguments
    give the same bytes on every machine.
    """
    size, seed = between(16, 512, "size", size), between(0, 2**32 - 1, "seed", seed)
    for argument, count in (("train", train), ("test", test)):
        if at_least_one(argument, count) % len(CLASSES):
            raise DataError(f"{argument} must be a multiple of {len(CLASSES)}, got {count}")
    expect_room("train and test: ", train + test, size, size)
    splits = []
    for number, count in enumerate((train, test)):
        rng = np.random.RandomState([seed, number])
        splits.append(Split(*map(torch.from_numpy, _draw(count // len(CLASSES), rng, size))))
    return Dataset("shapes10", *splits, CLASSES)


def source() -> bytes:
    """This file: what it draws changes with it."""
    return Path(__file__).read_bytes()


def _draw(per_class, rng, size=32):
    """Draw `per_class` pictures of each class, shuffled.

    rng: np.random.RandomState; size: height and width in pixels.
    Returns images uint8 (N,3,size,size), labels int64 (N,), masks bool (N,size,size).
    """
    images = np.empty((len(CLASSES) * per_class, 3, size, size), np.uint8)
    masks = np.empty((len(images), size, size), bool)
    labels = np.repeat(np.arange(len(CLASSES)), per_class)
    for start in range(0, len(images), 16):  # so few that the sub-pixels stay in the CPU's cache
        part = slice(start, start + 16)
        images[part], masks[part] = _pictures(labels[part], rng, size)
    order = rng.permutation(len(images))
    return images[order], labels[order].astype(np.int64), masks[order]


def _pictures(labels, rng, size):
    n = len(labels)
    base = _integers(rng, 30, 226, (n, 3))
    back = np.clip(base[:, None] + _integers(rng, -45, 46, (n, 2, 3)), 0, 255)
    image = _blend(back[:, 0], back[:, 1], _texture(n, rng, size))

    for shape, count in ((_band, 1), (_blob, 2), (_line, 3)):
        for _ in range(count):
            near = np.clip(base + _integers(rng, -90, 91, (n, 3)), 0, 255)
            shown = _integers(rng, 0, 3, n) > 0
            cover = _coverage(shape(n, rng, size)) * shown[:, None, None]
            image = _over(image, near[:, :, None, None], cover)

    colour = _contrasting(back, rng)
    second = np.clip(colour + _integers(rng, -30, 31, (n, 3)), 0, 255)
    filling = _blend(colour, second, _texture(n, rng, size))
    cover = _coverage(_object(labels, rng, size))
    image = _over(image, filling, cover)

    strength = _integers(rng, 4, 25, n)[:, None, None, None]
    noise = rng.randint(0, 256, (n, 3, size, size), dtype=np.uint8).astype(np.int32) - 128
    image = np.clip(image + (noise * strength >> 7), 0, 255)
    return image.astype(np.uint8), 2 * cover >= SUB * SUB


def _integers(rng, low, high, shape):
    # The type is named because the default one, and with it the stream, differs between systems.
    return rng.randint(low, high, shape, dtype=np.int64).astype(np.int32)


def _contrasting(back, rng):
    """(n,3): the first of 32 random colours that stands out from both background colours."""
    tries = _integers(rng, 0, 256, (len(back), 32, 3))
    difference = tries[:, :, None] - back[:, None]  # (n, 32, 2, 3)
    luma = np.abs(difference @ np.array([2, 5, 1], np.int32)).min(-1) >> 3
    distance = np.abs(difference).sum(-1).min(-1)
    stands_out = (luma >= 28) & (distance >= 120)
    return np.take_along_axis(tries, stands_out.argmax(1)[:, None, None], 1)[:, 0]


def _texture(n, rng, size):
    """Weights 0..256 (n,size,size): soft clouds, stripes or checks, one kind per picture."""
    grid = _integers(rng, 0, 257, (n, 5, 5))
    at = np.arange(size, dtype=np.int32) * 4 * 64 // size  # place in the grid, in 64ths of a cell
    cell, part = at >> 6, at & 63
    rows = grid[:, cell] * (64 - part)[:, None] + grid[:, cell + 1] * part[:, None]
    clouds = (rows[:, :, cell] * (64 - part) + rows[:, :, cell + 1] * part) >> 12

    u, v = _frame(n, rng, size, sub=1, radius=_integers(rng, 3 * PIXEL, 7 * PIXEL, n))
    stripes = np.abs((u & 2047) - 1024) >> 2  # a triangular wave, two radii long
    checks = (stripes * (np.abs((v & 2047) - 1024) >> 2)) >> 8
    kind = _integers(rng, 0, 3, n)[:, None, None]
    return np.where(kind == 0, clouds, np.where(kind == 1, stripes, checks))


def _frame(n, rng, size, sub, radius, margin=0):
    """Coordinates u, v (n, sub·size, sub·size) of every sub-pixel as seen from a random place.

    Turned by a random angle, and scaled so that `radius` (in length units) becomes ONE.
    margin: the least distance of the place from the border, in length units, (n,) or 0.
    """
    margin = np.broadcast_to(margin, n).astype(np.int64)
    room = size * PIXEL - 2 * margin + 1
    place = margin[:, None] + _integers(rng, 0, 1 << 20, (n, 2)) * room[:, None] // (1 << 20)
    angle = _integers(rng, 0, TURN, n)
    cos = (COS[angle] * ONE // radius)[:, None, None]
    sin = (SIN[angle] * ONE // radius)[:, None, None]
    centres = np.arange(sub * size, dtype=np.int32) * (PIXEL // sub) + PIXEL // sub // 2
    x = (centres - place[:, :1]).astype(np.int32)[:, None, :]
    y = (centres - place[:, 1:]).astype(np.int32)[:, :, None]
    return (x * cos + y * sin) >> 12, (y * cos - x * sin) >> 12


def _object(labels, rng, size):
    """Sub-pixels inside the object, bool (n, SUB·size, SUB·size)."""
    pixels = size * PIXEL
    radius = _integers(rng, pixels * 5 // 32, pixels * 9 // 32, len(labels))
    u, v = _frame(len(labels), rng, size, SUB, radius, margin=radius * 37 // 32)
    inside = np.empty(u.shape, bool)
    for label in np.unique(labels):
        mine = labels == label
        inside[mine] = _inside(CLASSES[label], u[mine], v[mine])
    return inside


def _inside(name, u, v):
    """Whether points (u, v) lie in the shape; no corner is farther out than 37/32 of ONE."""
    across = np.abs(u)
    if name == "arrow":
        head = (v <= -80) & (100 * across <= 75 * (v + 1020))
        return head | ((across <= 210) & (v > -80) & (v <= 980))
    if name == "crescent":
        u = u - 250
        return (u * u + v * v <= 980**2) & ((u - 480) ** 2 + v * v > 800**2)
    if name == "cross":
        along = np.abs(v)
        return (np.minimum(across, along) <= 270) & (np.maximum(across, along) <= 930)
    if name == "disc":
        return u * u + v * v <= 850**2
    if name == "half disc":
        v = v + 430
        return (u * u + v * v <= 1020**2) & (v >= 0)
    if name == "L":
        leg = (u >= -560) & (u <= -120) & (np.abs(v) <= 880)
        return leg | ((u >= -560) & (u <= 640) & (v >= 440) & (v <= 880))
    if name == "ring":
        distance = u * u + v * v
        return (distance <= 940**2) & (distance >= 520**2)
    if name == "square":
        return np.maximum(across, np.abs(v)) <= 724
    if name == "star":  # inside at least four of the five lines through its points
        lines = [(k * TURN // 5) % TURN for k in range(5)]
        return sum((u * COS[k] + v * SIN[k] <= 360 * 4096).view(np.int8) for k in lines) >= 4
    if name == "triangle":
        return (v <= 512) & (887 * across <= 512 * (v + ONE))
    raise ValueError(f"unknown shape {name!r}; expected one of {', '.join(CLASSES)}")


def _band(n, rng, size):
    """A wide band across the picture."""
    radius = _integers(rng, size * PIXEL // 16, size * PIXEL // 5, n)
    return np.abs(_frame(n, rng, size, SUB, radius)[0]) <= ONE


def _blob(n, rng, size):
    """A small ellipse, two to three times as long as it is wide."""
    radius = _integers(rng, size * PIXEL // 18, size * PIXEL // 9, n)
    u, v = _frame(n, rng, size, SUB, radius)
    stretch = _integers(rng, 4, 10, n)[:, None, None]
    v = v.clip(-2 * ONE, 2 * ONE)  # far points would overflow when squared and stretched
    return u * u + stretch * v * v <= ONE**2


def _line(n, rng, size):
    """A thin piece of a straight line."""
    radius = _integers(rng, size * PIXEL // 10, size * PIXEL // 4, n)
    u, v = _frame(n, rng, size, SUB, radius)
    half_width = (ONE * PIXEL * size // 64 // radius)[:, None, None]
    return (np.abs(u) <= ONE) & (np.abs(v) <= half_width)


def _coverage(inside):
    """Sub-pixels (n, SUB·H, SUB·W) → how many of a pixel's SUB² are inside, int32 (n,H,W)."""
    n, h, w = inside.shape
    rows = sum(inside.view(np.int8)[:, k::SUB] for k in range(SUB))
    return sum(rows[:, :, k::SUB] for k in range(SUB)).astype(np.int32)


def _blend(first, second, weight):
    """Colours (n,3) mixed by weights 0..256 (n,H,W) → (n,3,H,W)."""
    first, second = first[:, :, None, None], second[:, :, None, None]
    return first + ((second - first) * weight[:, None] >> 8)


def _over(image, paint, cover):
    """Paint over the image where `cover` (0..SUB², (n,H,W)) says so."""
    cover = cover[:, None]
    return (image * (SUB * SUB - cover) + paint * cover) // (SUB * SUB)
