"""A comparison as one HTML page that needs nothing else: no network, no file beside it."""

import base64
import io
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import jinja2
import matplotlib
import numpy as np
import pandas as pd
import torch
from PIL import Image

from attention.compare.evidence import Column, Mistake
from attention.compare.verdict import points
from attention.figures import MAPS
from attention.training import duration

MOST_CLASSES = 20  # a larger table of confusions is read by nobody: then the commonest in words
MOST_PIXELS = 160  # of a picture on the page: larger ones are reduced
SMALL = 64  # pixels: up to here they are drawn with their pixels to be seen


def render(**content: Any) -> str:
    """The page. content: what page.html names; every text in it is escaped."""
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(Path(__file__).parent), autoescape=True,
        undefined=jinja2.StrictUndefined, trim_blocks=True,
    )  # fmt: skip
    environment.filters |= {"points": points, "duration": duration, "number": number}
    colours = matplotlib.colormaps[MAPS](np.linspace(0, 1, 6))
    scale = [matplotlib.colors.to_hex(colour) for colour in colours]
    return environment.get_template("page.html").render(scale=scale, **content)


def number(count: int, what: str) -> str:
    """1 seed, 2 seeds."""
    return f"{count} {what}{'s' * (count != 1)}"


def picture(image: torch.Tensor) -> str:
    """uint8 (3, H, W) as an address that holds the PNG itself."""
    return _inline(Image.fromarray(image.permute(1, 2, 0).cpu().numpy()))


def heat(values: torch.Tensor, highest: float | None) -> str:
    """A map (H, W) in the colours of this project's figures; highest: see `evidence.Column`."""
    top = max(float(values.max()), 1e-12) if highest is None else highest
    colours = matplotlib.colormaps[MAPS](values.clamp(0, top).numpy() / top, bytes=True)
    return _inline(Image.fromarray(np.ascontiguousarray(colours[..., :3])))


def _inline(image):
    image.thumbnail((MOST_PIXELS, MOST_PIXELS))
    buffer = io.BytesIO()
    image.save(buffer, "PNG", optimize=True)
    return "data:image/png;base64," + base64.b64encode(buffer.getvalue()).decode("ascii")


def results(
    costs: pd.DataFrame, pairs: pd.DataFrame | None, taken: str | None
) -> list[dict]:  # fmt: skip
    """The rows of the table, in the order of `costs`.

    costs: by name, with label, accuracy, parameters, seconds, milliseconds and perhaps validation.
    pairs: as `verdict.differences` gives them. taken: the name of the network to take;
    None: nothing can be said.
    """
    rows = []
    for name, cost in costs.iterrows():
        row = {**cost.to_dict(), "name": cost.label, "taken": name == taken, "low": None}
        row["parameters"] = int(cost.parameters)
        if pairs is not None and name in pairs.index:
            row |= _drawn(pairs, pairs.loc[name])
        rows.append(row)
    return rows


def _drawn(pairs, pair):
    """A difference, its interval, and where these lie in a drawing from 0 to 100."""
    lowest, highest = min(pairs.low.min(), 0), max(pairs.high.max(), 0)
    ends = {"left": pair.low, "right": pair.high, "middle": pair.difference, "zero": 0}
    places = {
        end: round(2 + 96 * (value - lowest) / max(highest - lowest, 1e-9), 2)
        for end, value in ends.items()
    }
    return {"difference": pair.difference, "low": pair.low, "high": pair.high} | places


def matrix(name: str, counts: np.ndarray, classes: Sequence[str]) -> dict:
    """A table of confusions; of more than `MOST_CLASSES` classes, the commonest confusions."""
    total = counts.sum(1)
    found = {"name": name, "accuracy": 100 * counts.trace() / counts.sum(), "rows": [], "pairs": []}
    if len(classes) <= MOST_CLASSES:
        for label, row in enumerate(counts):
            cells = [
                {"count": int(n), "right": label == answer, "share": n / max(total[label], 1)}
                for answer, n in enumerate(row)
            ]
            found["rows"].append({"name": classes[label], "cells": cells})
        return found
    wrong = counts - np.diag(counts.diagonal())
    for place in np.argsort(-wrong, axis=None, kind="stable")[:15]:
        label, answer = np.unravel_index(place, wrong.shape)
        if count := int(wrong[label, answer]):
            pair = {"label": classes[label], "answer": classes[answer], "count": count}
            found["pairs"].append(pair | {"of": int(total[label])})
    return found


def shown_mistakes(
    mistakes: Iterable[Mistake], images: torch.Tensor, classes: Sequence[str]
) -> list[dict]:
    """Mistakes with their pictures, uint8 (N, 3, H, W), and the names of the classes."""
    return [
        {"image": picture(images[one.picture]), "number": one.picture, "label": classes[one.label],
         "answer": classes[one.answer], "probability": one.probability}
        for one in mistakes
    ]  # fmt: skip


def shown_maps(
    columns: Sequence[Column], images: torch.Tensor, labels: Sequence[str]
) -> tuple[list[dict], list[dict]]:
    """The headings and the rows of the table of maps: a row a picture, uint8 (N, 3, H, W)."""
    headings = [
        {"heading": column.heading, "note": column.note, "own": column.highest is None}
        for column in columns
    ]
    rows = [
        {"image": picture(image), "label": label,
         "images": [heat(column.maps[place], column.highest) for column in columns]}
        for place, (image, label) in enumerate(zip(images, labels, strict=True))
    ]  # fmt: skip
    return headings, rows
