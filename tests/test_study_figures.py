"""Figures of a study: what they show is what the tables say, and the labels can be read."""

import matplotlib

matplotlib.use("Agg")

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest
from invented import record
from matplotlib.text import Text

from attention import figures
from attention.blocks import BLOCKS, FAMILIES, POOLINGS, known
from attention.figures import families
from attention.results import histories, labels, ranking, statistics

FAMILY = {
    "fast-16 (plain)": "plain", "fast-17 (plain)": "plain", "vit-64 (plain)": "transformer",
    **{f"fast-16 + {name}": known(name).family for name in (*BLOCKS, *POOLINGS)},
}  # fmt: skip
NAMES = list(FAMILY)


@pytest.fixture(autouse=True)
def close_all():
    yield
    plt.close("all")


@pytest.fixture
def table():
    """Three seeds of twenty networks that are hard to tell apart, and one that is far below."""
    rng = np.random.default_rng(0)
    return pd.DataFrame([
        {
            "name": name, "family": FAMILY[name], "block": name.partition(" + ")[2] or None,
            "seed": seed, "parameters": 126_000 + 10 * number,
            "step_ms": 100 * 1.2**number,
            "test_accuracy": 58 if "vit" in name else 78 + 0.01 * number + rng.normal(0, 0.3),
        }
        for number, name in enumerate(NAMES)
        for seed in range(3)
    ])  # fmt: skip


def boxes(figure, texts):
    figure.canvas.draw()
    return [Text.get_window_extent(text) for text in texts]  # without the arrow of an annotation


def overlaps(boxes):
    return [(a, b) for n, a in enumerate(boxes) for b in boxes[:n] if a.overlaps(b)]


def test_families_are_those_of_the_blocks_and_look_different():
    assert families.FAMILIES == FAMILIES
    looks = [families.look(family) for family in FAMILIES]
    assert len({colour for colour, _ in looks}) == len({marker for _, marker in looks}) == 9
    with pytest.raises(ValueError, match="family must be one of plain, .*; got 'mine'"):
        families.look("mine")


def test_a_block_of_ones_own_is_drawn_as_what_it_is_in_every_figure(table):
    own = table.assign(
        name=table.name.replace("fast-16 + se", "fast-16 + Mine"),
        block=table.block.replace("se", "Mine"),
        family=table.family.where(table.block != "se", "own"),
    )
    colour, marker = families.look("own")
    for figure in (
        figures.against(own, "parameters"),
        figures.differences(statistics.paired(own, NAMES[0])),
        figures.rank_plot(own),
    ):
        marks = [line for line in figure.axes[0].lines if line.get_color() == colour]
        assert any(line.get_marker() == marker for line in marks)
        legends = [*figure.legends, figure.axes[0].get_legend()]
        texts = [text.get_text() for legend in filter(None, legends) for text in legend.texts]
        assert "own" in texts and texts.index("own") == texts.index("hybrid") + 1
    without = table[["name", "seed", "test_accuracy", "parameters"]]  # a table of other origin
    assert figures.against(without, "parameters").axes[0].lines[0].get_color() == colour


@pytest.mark.parametrize("x", ["parameters", "step_ms"])
def test_networks_against_costs_stand_where_the_table_says_with_labels_apart(table, x):
    figure = figures.against(table, x)
    axis = figure.axes[0]
    points = statistics.means(table).sort_values("mean")
    drawn = [(float(line.get_xdata()[0]), float(line.get_ydata()[0])) for line in axis.lines]
    assert [place[0] for place in drawn] == pytest.approx(points[x].to_list())
    near = [not name.startswith("vit") for name in points.index]
    heights = np.array([place[1] for place in drawn])
    assert heights[near] == pytest.approx(points["mean"][near].to_numpy())
    # the one far below is at the edge, with its value in its label
    assert heights[0] == axis.get_ylim()[0] > 75
    assert axis.texts[0].get_text() == "vit-64 (plain)  58.00"
    assert axis.get_xscale() == ("log" if x == "step_ms" else "linear")
    other = figures.against(table.rename(columns={x: "points"}), "points")  # no cost: it may be 0
    assert other.axes[0].get_xscale() == "linear"
    found = boxes(figure, axis.texts)
    assert len(found) == len(NAMES) and not overlaps(found)
    bottoms = [box.y0 for box in found]
    assert bottoms == sorted(bottoms)  # in the order of the points: no line crosses another


def test_a_forest_plot_fills_what_is_significant_and_shows_every_interval(table):
    lifted = table.assign(test_accuracy=table.test_accuracy.copy())
    rows = {name: lifted["name"] == name for name in NAMES}
    base = lifted.test_accuracy[rows["fast-16 (plain)"]].to_numpy()
    lifted.loc[rows["fast-16 + se"], "test_accuracy"] = base + [1.0, 1.01, 1.02]
    pairs = statistics.paired(lifted, "fast-16 (plain)")
    figure = figures.differences(pairs)
    axis = figure.axes[0]
    order = pairs.sort_values("difference")
    points = axis.lines[1:]  # the first is the line at zero
    assert list(axis.lines[0].get_xdata()) == [0, 0]
    filled = [line.get_markerfacecolor() != "white" for line in points]
    assert filled == (order.p_corrected < 0.05).to_list() and any(filled) and not all(filled)
    shown = [text.get_text() for text in axis.texts]
    row = order.iloc[5]
    expected = f"{row.difference:+.2f}  ({row.low:+.2f} to {row.high:+.2f})".replace("-", "−")
    assert shown[5] == expected
    assert not overlaps(boxes(figure, axis.get_yticklabels()))


def reach(band):
    """From where to where a band goes: a rectangle, before matplotlib 3.9 a polygon."""
    return tuple(band.get_path().get_extents(band.get_patch_transform()).intervalx)


def test_a_forest_plot_with_a_margin_shows_it_whole_and_says_the_verdicts(table):
    pairs = statistics.paired(table, "fast-16 (plain)")
    verdicts = [f"verdict {number}" for number in range(len(pairs))]
    figure = figures.differences(pairs.assign(verdict=verdicts), margin=7.5)
    [axis] = figure.axes
    [band] = axis.patches
    assert reach(band) == (-7.5, 7.5) and max(band.get_zorder(), 0) == 0
    assert axis.get_xlim()[0] < -7.5 and axis.get_xlim()[1] > 7.5
    order = pairs.assign(verdict=verdicts).sort_values("difference").verdict
    assert [text.get_text().split("  ")[-1] for text in axis.texts] == order.to_list()
    assert "within ±7.5" in [text.get_text() for text in figure.legends[0].texts]


def test_a_baseline_that_is_smaller_says_so(table):
    sizes = {"fast-16 + se": 1, "fast-16 (plain)": 50, "fast-17 (plain)": 90, "fast-16 + bam": 99}
    few = table[table["name"].isin(sizes)].assign(parameters=lambda t: t["name"].map(sizes))
    pairs = statistics.matched(few, ["fast-16 (plain)", "fast-17 (plain)"])
    axis = figures.differences(pairs).axes[0]
    names = {label.get_text() for label in axis.get_yticklabels()}
    assert names == {"se − fast-16 (plain)", "bam − fast-17 (plain) (smaller)"}


def test_curves_reach_from_the_lowest_seed_to_the_highest():
    table = histories([
        record("a", 0, 41, history=[10, 40]), record("a", 1, 51, history=[30, 50]),
        record("b", 0, 61, history=[20, 60]),
    ])  # fmt: skip
    loss, accuracy, final = figures.curves(table).axes
    assert list(accuracy.lines[0].get_ydata()) == [20, 45]
    band = accuracy.collections[0].get_paths()[0].vertices
    for epoch, values in ((1, {10, 30}), (2, {40, 50})):
        assert set(band[band[:, 0] == epoch][:, 1]) == values
    assert list(final.lines[0].get_xdata()) == [41, 51]
    low, high = final.get_xlim()  # zoomed on what is there
    assert 30 < low < 41 and 61 < high < 70
    assert [text.get_text() for text in final.texts] == ["46.00", "61.00"]
    figures.curves(table[table.name == "b"]).canvas.draw()  # one run


@pytest.mark.parametrize("number", [2, 8])
def test_curves_name_few_networks_in_a_legend_and_many_beside_their_accuracy(number):
    names = [f"a network of a long name, number {i}" for i in range(number)]
    loss, _, final = figures.curves(histories([record(n, 0, 50, history=[1]) for n in names])).axes
    assert len({label.get_text() for label in final.get_yticklabels()}) == number
    assert (loss.get_legend() is not None) == (number == 2)


def test_an_ablation_has_a_panel_a_question_and_marks_the_default():
    questions = {"reduction": ["16", "4", "8"], "pools": ["both", "max"], "kernel": ["7", "3"]}
    table = pd.DataFrame([
        {"question": question, "choice": choice, "seed": seed, "test_accuracy": 70 + n + seed}
        for question, choices in questions.items()
        for n, choice in enumerate(choices)
        for seed in range(3)
    ])  # fmt: skip
    figure = figures.ablation(table)
    used = [axis for axis in figure.axes if axis.axison]
    assert [axis.get_title(loc="left") for axis in used] == list(questions)
    ticks = [label.get_text() for label in used[0].get_yticklabels()]
    assert ticks == ["16 (default)", "4", "8"]
    line, *points = used[0].lines
    assert list(line.get_xdata()) == [71, 71]
    assert [float(point.get_xdata()[0]) for point in points[::2]] == [71, 72, 73]
    assert [list(point.get_xdata()) for point in points[1::2]] == [
        [70, 71, 72], [71, 72, 73], [72, 73, 74]
    ]  # fmt: skip
    behind = figures.ablation_table(table)
    expected = statistics.means(table[table.question == "pools"].assign(name=table.choice))
    pd.testing.assert_frame_equal(
        behind.loc["pools"], expected[["n", "mean", "low", "high"]], check_names=False
    )
    assert not used[0].patches
    with_band = figures.ablation(table, noise=0.5).axes[0]
    [band] = with_band.patches
    assert reach(band) == (70.5, 71.5)  # about the default's 71
    assert "95% of the differences that are noise" in with_band.figure.get_suptitle()
    with pytest.raises(ValueError, match="got 'question'"):
        figures.ablation(table.drop(columns="question"))
    with pytest.raises(ValueError, match="noise must be .* got 0"):
        figures.ablation(table, noise=0)


def test_noise_lies_in_the_band_of_a_half_normal_plot_and_an_effect_above_it():
    rng = np.random.default_rng(0)
    inside = []
    for _ in range(40):
        noise = pd.Series(rng.normal(0, 0.3, 25), [f"setting {n}" for n in range(25)])
        figure = figures.half_normal(noise, 0.3)
        axis = figure.axes[0]
        measured = axis.lines[1].get_ydata()
        assert list(measured) == sorted(noise.abs())
        outline = pd.DataFrame(axis.collections[0].get_paths()[0].vertices, columns=["x", "y"])
        low, high = (outline.groupby("x").y.agg(end).to_numpy() for end in ("min", "max"))
        inside.append(((measured >= low) & (measured <= high)).mean())
        plt.close(figure)
    assert 0.9 < np.mean(inside) < 0.99  # 95 % by construction

    noise["effect"] = -2.0
    axis = figures.half_normal(noise, 0.3, named=1).axes[0]
    [name] = [text.get_text() for text in axis.texts]
    assert name == "effect (−2.00)"
    assert axis.lines[1].get_ydata()[-1] > 2 * axis.lines[0].get_ydata()[-1]
    with pytest.raises(ValueError, match="error must be above 0, got 0"):
        figures.half_normal(noise, 0)


def test_ranks_are_drawn_best_first_with_every_seed(table):
    ranked = ranking.ranks(table)
    figure = figures.rank_plot(table)
    axis = figure.axes[0]
    names = [label.get_text() for label in axis.get_yticklabels()]
    assert names == list(labels(ranked.table).values())
    seats, mean = axis.lines[:2]
    assert list(seats.get_xdata()) == ranked.by_seed.iloc[:, 0].to_list()
    assert float(mean.get_xdata()[0]) == ranked.table["mean"].iloc[0]
    assert f"W = {ranked.agreement:.2f}" in axis.get_title()


def test_a_study_that_has_only_begun_can_be_drawn(table):
    first = table[table.seed == 0]
    figures.against(first, "parameters").canvas.draw()
    figures.differences(statistics.paired(first, NAMES[0])).canvas.draw()
    figures.rank_plot(first).canvas.draw()
    apart = table[
        table["name"].isin(NAMES[:2]) & ((table["name"] == NAMES[0]) == (table.seed == 0))
    ]
    with pytest.raises(ValueError, match="x must be one of .* got 'watts'"):
        figures.against(first, "watts")
    with pytest.raises(ValueError, match="no network has a seed in common"):
        figures.differences(statistics.paired(apart, NAMES[0]))
