"""What a network answers, in tables and figures."""

import matplotlib

matplotlib.use("Agg")

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest
import torch

from attention import figures, results

NAMES = ["cat", "dog", "ship"]


@pytest.fixture(autouse=True)
def close_all():
    yield
    plt.close("all")


def some(count=200):
    torch.manual_seed(0)
    labels = torch.randint(3, (count,))
    return 3 * torch.eye(3)[labels] + 2 * torch.randn(count, 3), labels


def test_confusions_are_those_of_a_cross_table():
    logits, labels = some()
    found = results.confusions(logits, labels, NAMES)
    counted = pd.crosstab(labels.numpy(), logits.argmax(1).numpy())
    np.testing.assert_array_equal(found, counted)
    assert list(found.index) == list(found.columns) == NAMES
    assert (found.index.name, found.columns.name) == ("truth", "answer")
    with pytest.raises(ValueError, match=r"logits must be .* \(200, 3\), got \(3, 200\)"):
        results.confusions(logits.T, labels, NAMES)


def test_the_accuracy_on_each_class_is_that_of_its_pictures():
    logits, labels = some()
    other = logits.roll(1, 0)
    tables = {n: results.confusions(x, labels, NAMES) for n, x in (("a", logits), ("b", other))}
    found = results.by_class(tables)
    for number, name in enumerate(NAMES):
        right = (logits.argmax(1) == labels)[labels == number].float().mean()
        assert found.a[name] == pytest.approx(100 * right.item())
    beside = results.by_class(tables, baseline="a")
    for name in NAMES:
        assert beside.b[name] == pytest.approx(found.b[name] - found.a[name])
    assert list(beside.b) == sorted(beside.b) and beside.a["dog"] == found.a["dog"]
    with pytest.raises(ValueError, match="baseline must be one of a, b"):
        results.by_class(tables, baseline="c")


def test_gates_are_drawn_on_a_fixed_scale_and_heat_maps_from_nothing_to_their_highest():
    images = torch.randint(256, (2, 3, 8, 8), dtype=torch.uint8)
    logits, labels = torch.tensor([[9.0, 0, 0], [9.0, 0, 0]]), torch.tensor([0, 2])
    figure = figures.answers(
        images, logits, labels, NAMES, {"gate": torch.full((2, 4, 4), 0.5)},
        {"Grad-CAM": torch.tensor([[[0.0, 0.2]], [[0.0, 0.0]]])},
    )  # fmt: skip
    axes = [axis for axis in figure.axes if axis.images]
    gates = [axis.images[0] for axis in axes[2:4]]
    assert all(one.get_clim() == (0, 1) and (one.get_array() == 0.5).all() for one in gates)
    heat = [axis.images[1].get_array() for axis in axes[4:6]]
    assert heat[0].max() == 1 and heat[1].max() == 0  # nothing is not stretched to something
    titles = [axis.get_title() for axis in axes[:2]]
    assert titles == ["cat 100%", "cat 100%\nit is: ship"]
    colours = [axis.title.get_color() for axis in axes[:2]]
    assert colours[0] != colours[1]
    with pytest.raises(ValueError, match=r"gate: expected maps \(2, h, w\), got \(2, 1, 4, 4\)"):
        figures.answers(images, logits, labels, NAMES, {"gate": torch.zeros(2, 1, 4, 4)})


def test_a_confusion_shows_what_is_wrong_in_percent_of_the_class():
    table = results.confusions(*some(), NAMES)
    figure = figures.confusion(table, "title")
    texts = {text.get_text() for text in figure.axes[0].texts}
    share = 100 * table.loc["cat", "cat"] / table.loc["cat"].sum()
    assert f"{share:.0f}" in texts
    mesh = figure.axes[0].collections[0].get_array()
    assert np.ma.getmaskarray(mesh).reshape(3, 3).diagonal().all()


@pytest.mark.parametrize("at", ["residual", "stage"])
def test_the_block_is_drawn_where_it_stands(at):
    texts = [text.get_text() for text in figures.in_network("CBAM", at).axes[0].texts]
    texts = [text for text in texts if text]  # arrows are texts without words
    assert texts.index("CBAM") == (3 if at == "residual" else 4)
    assert ("+" in texts) == (at == "residual")
    with pytest.raises(ValueError, match="at must be one of residual, stage.* got 'pool'"):
        figures.in_network("CBAM", "pool")
