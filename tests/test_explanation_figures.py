"""Figures of explanations: what is drawn is what was given."""

import matplotlib

matplotlib.use("Agg")

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest
import torch

from attention import figures
from attention.results import findings


@pytest.fixture(autouse=True)
def close():
    yield
    plt.close("all")


def table(with_own=("a", "c")):
    """As `findings.over_seeds` gives it: three networks, of which two have an own map."""
    rows = {
        (name, kind): [k + 0.1 * n, k + 0.1 * n - 0.02, k + 0.1 * n + 0.03]
        for n, name in enumerate("abc")
        for k, kind in enumerate(["Grad-CAM", "own"])
        if kind == "Grad-CAM" or name in with_own
    }
    frame = pd.DataFrame.from_dict(rows, orient="index", columns=["mean", "low", "high"])
    frame.index = pd.MultiIndex.from_tuples(frame.index, names=["name", "map"])
    return pd.concat({"first": frame, "second": 2 * frame}, axis=1)


def drawn(axis):
    """{(label, value)} with the interval, from the error bars of an axis."""
    found = {}
    for bars in axis.containers:
        points, _, (lines,) = bars.lines
        spans = [segment[:, 0] for segment in lines.get_segments()]
        for x, y, span in zip(points.get_xdata(), points.get_ydata(), spans, strict=True):
            found[bars.get_label(), round(y)] = (x, *span)
    return found


def test_dots_stand_at_the_means_with_their_intervals():
    figure = figures.dots(table(), {"first": "one", "second": "two"}, by="own", limits=(-1, 3))
    left, right = figure.axes
    names = [label.get_text() for label in left.get_yticklabels()]
    assert names == ["b", "a", "c"]  # without an own map, then by its mean
    found, places = drawn(left), {name: place for place, name in enumerate(names)}
    for (name, kind), row in table()["first"].iterrows():
        assert found[kind, places[name]] == pytest.approx(tuple(row))
    assert len(found) == 5
    assert drawn(right)["own", 2] == pytest.approx((2.4, 2.36, 2.46))
    assert left.get_xlim() == (-1, 3) and [a.get_xlabel() for a in figure.axes] == ["one", "two"]
    assert left.containers[0].get_label() == "own"  # the first colour


def test_a_map_has_its_colour_whichever_others_are_there():
    def colours(frame, by):
        drawn = figures.dots(frame, {"first": "one"}, by=by).axes[0].containers
        return {bars.get_label(): bars.lines[0].get_color() for bars in drawn}

    frame = table().rename({"own": "gradient"}, level=1)
    whole = pd.concat([frame.drop("Grad-CAM", level=1), table()])
    without, every = colours(frame, "gradient"), colours(whole, "own")
    assert without == {name: every[name] for name in ("Grad-CAM", "gradient")}
    assert len(set(every.values())) == 3
    others = table().rename({"own": "seed 0", "Grad-CAM": "seed 1"}, level=1)
    found = colours(others, "seed 0")  # maps of other names
    assert list(found) == ["seed 0", "seed 1"] and found["seed 0"] == every["own"]


def test_dots_without_intervals():
    frame = table()
    frame.loc[:, (slice(None), ["low", "high"])] = np.nan
    found = drawn(figures.dots(frame, {"first": "one"}, by="own").axes[0])
    assert found["own", 1] == pytest.approx((1, 1, 1))


def test_the_interval_over_images_is_that_of_the_record():
    row = {"name": "a", "map": "own", "x": 0.5, "x_low": 0.4, "x_high": 0.7}
    found = findings.over_images(pd.DataFrame([row]), ["x"])
    assert found.loc[("a", "own"), "x"].to_dict() == {"mean": 0.5, "low": 0.4, "high": 0.7}
    with pytest.raises(ValueError, match="one network of each name"):
        findings.over_images(pd.DataFrame([row, row]), ["x"])


def test_explained_draws_every_map_from_zero_to_its_highest():
    image = torch.randint(256, (3, 8, 6), dtype=torch.uint8)
    maps = {"flat": torch.full((8, 6), 0.3), "none": torch.zeros(8, 6), "ramp": torch.rand(8, 6)}
    mask = torch.zeros(8, 6, dtype=torch.bool)
    mask[2:4, 2:5] = True
    figure = figures.explained(image, maps, mask, mark=(5, 1), columns=3)
    pictures = [axis for axis in figure.axes if axis.images]
    assert np.array_equal(pictures[0].images[0].get_array(), image.permute(1, 2, 0))
    for axis, one in zip(pictures[1:], maps.values(), strict=False):
        expected = one / one.max() if one.max() > 0 else one
        np.testing.assert_allclose(axis.images[0].get_array(), expected, rtol=1e-6)
        assert axis.images[0].get_clim() == (0, 1)
        assert (axis.lines[0].get_xdata()[0], axis.lines[0].get_ydata()[0]) == (1, 5)
    assert [axis.get_title() for axis in pictures[1:4]] == [
        "flat\nhighest 0.3", "none\nhighest 0", f"ramp\nhighest {maps['ramp'].max():.2g}"
    ]  # fmt: skip


def test_removal_has_a_row_a_map_and_a_curve_each():
    pictures = [torch.full((3, 4, 4), 50 * n, dtype=torch.uint8) for n in range(3)]
    curves = {"a": ([0, 0.5, 1], [0.9, 0.4, 0.1]), "b": ([0, 0.5, 1], [0.9, 0.8, 0.1])}
    figure = figures.removal({"a": pictures, "b": pictures[::-1]}, [0, 0.5, 1], curves, "p")
    *shown, axis = figure.axes
    assert [one.images[0].get_array()[0, 0, 0] for one in shown] == [0, 50, 100, 100, 50, 0]
    assert [one.get_title() for one in shown[:3]] == ["0% gone", "50% gone", "100% gone"]
    assert {line.get_label(): list(line.get_ydata()) for line in axis.lines} == {
        name: values for name, (_, values) in curves.items()
    }


def test_cascade_keeps_the_order_of_the_layers():
    rows = [
        ("last", "x", 1, 1, 1), ("last", "y", 0.5, 0.4, 0.6),
        ("middle", "y", 0.2, 0.1, 0.3), ("first", "x", 0, -0.1, 0.1),
    ]  # fmt: skip
    frame = pd.DataFrame(rows, columns=["layer", "map", "mean", "low", "high"])
    [axis] = figures.cascade(frame, "title").axes
    assert [label.get_text() for label in axis.get_xticklabels()] == ["last", "middle", "first"]
    lines = {line.get_label(): line for line in axis.lines}
    assert list(lines["x"].get_xdata()) == [0, 2] and list(lines["y"].get_ydata()) == [0.5, 0.2]


def test_without_draws_the_change_for_every_map_and_way():
    frame = pd.DataFrame({
        "label": ["se", "se", "context"], "accuracy_whole": [80.0, 80, 70],
        "accuracy_mean": [79.0, 80, 70], "accuracy_ones": [60.0, 78, np.nan],
        "accuracy_shuffled": [75.0, 81, 69],
    })  # fmt: skip
    [axis] = figures.without(frame).axes
    found = {part.get_label(): part.get_offsets()[:, 0] for part in axis.collections}
    np.testing.assert_allclose(found["its mean"], [-1, 0, 0])
    np.testing.assert_allclose(np.ma.filled(found["ones"], np.nan), [-20, -2, np.nan])
    np.testing.assert_allclose(found["another image's"], [-5, 1, -1])
    assert [label.get_text() for label in axis.get_yticklabels()] == ["context", "se"]
