"""Figures: fixed scales, labels, and files that are whole."""

import matplotlib

matplotlib.use("Agg")

import matplotlib.pyplot as plt
import pandas as pd
import pytest
import torch
from invented import record
from matplotlib.patches import Rectangle

from attention import figures
from attention.results import histories


@pytest.fixture(autouse=True)
def close_all():
    yield
    plt.close("all")


def image_axes(figure):
    return [image for axis in figure.axes for image in axis.images]


def test_spatial_maps_are_drawn_on_a_scale_from_0_to_1_and_say_so():
    flat = torch.full((3, 1, 4, 4), 0.5) + 0.001 * torch.rand(3, 1, 4, 4)
    pictures = torch.zeros(3, 3, 8, 8, dtype=torch.uint8)
    figure = figures.spatial_maps(pictures, {"gate": flat}, ["a", "b", "c"])
    drawn = [image for image in image_axes(figure) if image.get_array().shape == (4, 4)]
    assert len(drawn) == 3
    assert all(image.get_clim() == (0, 1) for image in drawn)
    assert any("fixed scale" in axis.get_ylabel() for axis in figure.axes)
    figure = figures.spatial_maps(pictures, {"gate": flat}, ["a", "b", "c"], scale=(0.5, 0.51))
    assert any("scale 0.500 to 0.510" in axis.get_ylabel() for axis in figure.axes)


def test_channel_table_is_the_mean_of_each_class():
    weights = torch.tensor([[0.1, 0.9], [0.3, 0.7], [0.8, 0.2]])
    table = figures.channel_table(weights[:, :, None, None], torch.tensor([0, 0, 1]), ["x", "y"])
    expected = pd.DataFrame([[0.2, 0.8], [0.8, 0.2]], index=["x", "y"])
    pd.testing.assert_frame_equal(table, expected, check_dtype=False, atol=1e-6)


def test_variation_is_zero_for_a_gate_that_never_moves_however_uneven_it_is():
    uneven = torch.rand(1, 5, 1, 1).expand(20, 5, 1, 1)
    moving = torch.rand(20, 5, 1, 1)
    table = figures.variation_table({"uneven": uneven, "moving": moving}).set_index("gate")
    assert (table.spread["uneven"] < 1e-7).all()
    expected = moving.flatten(1).double().numpy().std(0)
    assert table.spread["moving"].to_numpy() == pytest.approx(expected, rel=1e-5)


def test_a_figure_names_its_data_and_is_written_as_png_pdf_and_table(tmp_path, monkeypatch):
    monkeypatch.setenv("ATTENTION_HOME", str(tmp_path))
    monkeypatch.setenv("ATTENTION_PROFILE", "smoke")
    figure, axis = plt.subplots()
    axis.plot([1, 2])
    table = pd.DataFrame({"a": [1.5]})
    assert figures.save(figure, "name", "flowers", table) is figure
    folder = tmp_path / "figures" / "flowers" / "smoke"
    assert sorted(path.name for path in folder.iterdir()) == ["name.csv", "name.pdf", "name.png"]
    assert (folder / "name.png").read_bytes().startswith(b"\x89PNG")
    assert (folder / "name.pdf").read_bytes().startswith(b"%PDF")
    pd.testing.assert_frame_equal(pd.read_csv(folder / "name.csv", index_col=0), table)
    assert "flowers · smoke" in figure.get_supxlabel()


def test_queries_are_drawn_on_a_fixed_logarithmic_scale_around_an_even_share():
    pictures = torch.zeros(2, 3, 8, 8, dtype=torch.uint8)
    maps = {"flat": torch.ones(2, 4, 4), "sharp": 16 * torch.eye(4)[:2, :, None].expand(2, 4, 4)}
    figure = figures.queries(pictures, maps, ["a", "b"], marks={"flat": (1, 2)})
    drawn = [image for image in image_axes(figure) if image.get_array().shape == (4, 4)]
    assert [image.get_clim() for image in drawn] == [(1 / 8, 8)] * 4
    assert all(image.norm(1.0) == pytest.approx(0.5) for image in drawn)
    assert any("1 = uniform" in axis.get_ylabel() for axis in figure.axes)
    # each picture is 1 wide; the square covers column 2, row 1 of 4, on the image and on its map
    squares = [p for axis in figure.axes for p in axis.patches if isinstance(p, Rectangle)]
    corners = {p.get_xy() for p in squares if p.get_width() == 1 / 4}
    assert {(0.5, 0.25), (0.5, 1.1 + 0.25)} <= corners


def test_patches_come_row_by_row():
    image = torch.arange(16, dtype=torch.uint8).repeat_interleave(4).view(4, 4, 2, 2)
    image = image.permute(0, 2, 1, 3).reshape(1, 8, 8).expand(3, -1, -1)
    figure = figures.patches(image, 2, columns=4)
    shown = [i.get_array() for i in image_axes(figure) if i.get_array().shape == (2, 2, 3)]
    assert [int(one[0, 0, 0]) for one in shown] == list(range(16))
    assert all((one == one[0, 0]).all() for one in shown)


PICTURES = torch.zeros(3, 3, 8, 8, dtype=torch.uint8)


@pytest.mark.parametrize(
    ("call", "says"),
    [
        (lambda: figures.pictures(PICTURES, ["a"]), "as many of each, got 3 images, 1 titles"),
        (lambda: figures.pictures(PICTURES[:0], []), "images: expected at least one, got none"),
        (lambda: figures.pictures(PICTURES, "abc", columns=0), "columns must be .* at least 1"),
        (lambda: figures.patches(torch.zeros(3, 16, 16), 5), "16×16 pixels into whole .* got 5"),
        (lambda: figures.patches(torch.zeros(3, 16, 16), 0), "side must be .* at least 1, got 0"),
        (lambda: figures.spatial_maps(PICTURES, {}, "abc"), "maps: expected at least one"),
        (
            lambda: figures.spatial_maps(PICTURES, {"gate": torch.ones(2, 1, 4, 4)}, "abc"),
            "got 3 images, 3 titles, 2 maps of gate",
        ),
        (lambda: figures.queries(PICTURES, {}, "abc"), "maps: expected at least one"),
        (lambda: figures.queries(PICTURES, {"a": torch.ones(3, 4, 4)}, "ab"), "3 images, 2 titles"),
        (lambda: figures.explained(PICTURES[0], {}), "maps: expected at least one"),
        (lambda: figures.before_after({}), "maps: expected at least one"),
        (lambda: figures.variation({}), "maps: expected at least one"),
        (lambda: figures.two_scales(PICTURES, torch.ones(2, 4, 4), "", ""), "3 images, 2 maps"),
        (lambda: figures.cost_bars(pd.DataFrame({"a": [1]}, ["x"]), {"a": "A"}, "y"), "baseline"),
    ],
)
def test_what_cannot_be_drawn_is_named(call, says):
    with pytest.raises(ValueError, match=says):
        call()


@pytest.mark.parametrize("name", ["../../../evil", "a/b", "/etc", "..", ".", "", "a\\b"])
def test_figures_and_tables_stay_in_their_folder(own_home, name):
    figure = plt.figure()
    for call in (
        lambda: figures.folder(name),
        lambda: figures.save(figure, "name", name),
        lambda: figures.save(figure, name, "flowers"),
        lambda: figures.save_table(pd.DataFrame(), name, "flowers"),
    ):
        with pytest.raises(ValueError, match="must be a name without a folder in it"):
            call()
    assert list(own_home.iterdir()) == []


def test_cost_bars_show_what_is_added():
    table = pd.DataFrame({"step_ms": [100.0, 112.0, 95.0]}, ["plain", "se", "fast"])
    [axis] = figures.cost_bars(table, {"step_ms": "step (ms)"}, "plain").axes
    assert [bar.get_width() for bar in axis.patches] == [12, -5]
    assert [text.get_text().strip() for text in axis.texts] == ["+12", "−5"]
    assert "plain: 100" in axis.get_title()
    assert [label.get_text() for label in axis.get_yticklabels()] == ["se", "fast"]


def test_time_and_accuracy_of_each_epoch():
    table = histories([record("a", 0, 44, history=[10, 40]), record("b", 0, 66, history=[50, 60])])
    [axis] = figures.over_time(table, {"a": 2.0, "b": 3.0}).axes
    assert [list(line.get_xdata()) for line in axis.lines] == [[2, 4], [3, 6]]
    assert list(axis.lines[1].get_ydata()) == [50, 60]
    stars = [part.get_offsets()[0].tolist() for part in axis.collections[:2]]
    assert stars == [[4, 44], [6, 66]]


def test_all_signed_maps_have_one_polarity():
    pair = (torch.randn(4, 4), torch.randn(4, 4))
    gate = figures.before_after({"a gate": pair})
    maps = {"a": torch.ones(3, 4, 4)}
    parts = [torch.randn(3, 2, 1, 1), torch.randn(3, 1, 4, 4), torch.rand(3, 2, 4, 4)]
    logits = figures.branches(PICTURES, "abc", *parts, "title")
    drawn = [*image_axes(gate), *image_axes(figures.queries(PICTURES, maps, "abc"))]
    drawn += [image for axis in logits.axes[3:9] for image in axis.images]
    colours = {image.get_cmap().name for image in drawn if image.get_array().ndim == 2}
    assert colours == {figures.SIGNED}
