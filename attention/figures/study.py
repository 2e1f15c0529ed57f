"""Figures of a study: many networks, several seeds each, every number with its interval.

Intervals are over seeds (another training), not over test images; see `results.statistics`. Each
figure says in its docstring which table stands behind it.
"""

from collections.abc import Sequence

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import seaborn as sns
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch
from matplotlib.ticker import LogLocator, MaxNLocator, NullFormatter, StrMethodFormatter

from attention.checks import one_of, positive
from attention.figures.base import LEADER, PALETTE, apart
from attention.figures.families import families, legend, look
from attention.results import labels, ranking, statistics

AXES = {
    "test_accuracy": "accuracy (%)",
    "parameters": "parameters",
    "mflops": "MFLOPs for one image",
    "seconds": "time to train (s)",
    "step_ms": "one training step (ms)",
    "latency_ms": "answer to one image (ms)",
    "peak_memory_mib": "peak memory of training (MiB)",
}


def _limits(rows, middle):
    """Limits of an axis for means and their intervals, and which rows lie far outside.

    What lies beyond Tukey's outer fences would press all the rest together, and so would intervals
    from two seeds: the limits follow the means that are inside, and cut what reaches further.
    """
    low, high = rows[middle].quantile((0.25, 0.75))
    reach = 3 * (high - low)
    outside = (rows[middle] < low - reach) | (rows[middle] > high + reach)
    inside = rows[~outside]
    lowest, highest = inside[middle].min(), inside[middle].max()
    room = (highest - lowest) or 1.0
    bottom = max(np.nanmin([inside.low.min(), lowest]), lowest - room)
    top = min(np.nanmax([inside.high.max(), highest]), highest + room)
    margin = 0.06 * (top - bottom or room)
    return (bottom - margin, top + margin), outside


def over_seeds(n: Sequence[int], confidence: float | None = None) -> str:
    """What the title says of seeds and intervals; one seed gives no interval."""
    low, high = int(min(n)), int(max(n))
    seeds = f"{low} seed{'s' * (low > 1)}" if low == high else f"{low} to {high} seeds"
    return f"{confidence:.0%} interval over {seeds}" if confidence and high > 1 else f"over {seeds}"


def _drawn(points, confidence):
    """The confidence of the intervals, or None where too few seeds have none."""
    return confidence if points.low.notna().any() else None


def against(
    table: pd.DataFrame, x: str, value: str = "test_accuracy", confidence: float = 0.95
) -> Figure:
    """A column of the table against another: a point a network, with its interval over seeds.

    table: as `results.frame` gives it, with a column `x` (parameters, mflops, seconds, step_ms, …).
    Networks far from the rest stand at the edge as an arrow, with their value beside the name.
    The table behind it: `statistics.means(table, value, confidence)`.
    """
    points = statistics.means(table, value, confidence).sort_values("mean")
    one_of("x", x, list(points.select_dtypes("number").columns))
    points = points.dropna(subset=x)
    if not len(points):
        raise ValueError(f"table: no network has a number in the column {x}")
    limits, outside = _limits(points, "mean")
    short, family = labels(points), families(points)
    figure, axis = plt.subplots(figsize=(9.5, 0.13 * len(points) + 3.4))
    axis.set_ylim(limits)
    height = limits[1] - limits[0]
    ends = apart(points["mean"].clip(*limits), 0.9 * height / max(len(points), 16))
    for (name, point), end in zip(points.iterrows(), ends, strict=True):
        colour, marker = look(family[name])
        y = np.clip(point["mean"], *limits)
        if outside[name]:
            marker = r"$\downarrow$" if point["mean"] < limits[0] else r"$\uparrow$"
        size = 13 if outside[name] else 8
        axis.plot(point[x], y, color=colour, marker=marker, ms=size, clip_on=False, zorder=3)
        axis.vlines(point[x], *np.clip((point.low, point.high), *limits), color=colour, lw=1.3)
        axis.annotate(
            f"{short[name]}  {point['mean']:.2f}", (point[x], y), (1.03, end),
            textcoords=axis.get_yaxis_transform(), va="center", fontsize="small", color=colour,
            arrowprops=LEADER, zorder=0,
        )  # fmt: skip
    if x in AXES and points[x].min() > 0 and points[x].max() > 5 * points[x].min():
        axis.set_xscale("log")
        axis.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
        axis.xaxis.set_minor_formatter(NullFormatter())
    else:
        axis.xaxis.set_major_locator(MaxNLocator(6))
    axis.xaxis.set_major_formatter(StrMethodFormatter("{x:,g}"))
    axis.set(xlabel=AXES.get(x, x), ylabel=AXES.get(value, value))
    axis.set_title(f"Mean, {over_seeds(points.n, _drawn(points, confidence))}")
    legend(figure, family, loc="outside upper center", ncols=8, handletextpad=0.1)
    return figure


def differences(
    pairs: pd.DataFrame, label: str = "difference in accuracy (percentage points)",
    margin: float | None = None,
) -> Figure:  # fmt: skip
    """A forest plot: the difference of every network to its baseline, with its interval.

    pairs: what `statistics.paired`, `pooled`, `matched` or `versus` gives; it is also the table
    behind the figure. Filled: `statistics.significant`, after the correction for all its rows. An
    arrow at the edge: far away, see the number. "(smaller)": the baseline has fewer parameters.
    margin: a band of differences that are too small to matter, as in `statistics.equivalence`. A
    column `verdict`, see `answer.differences`, stands beside the numbers.
    """
    rows = pairs.dropna(subset="difference").sort_values("difference")
    if not len(rows):
        raise ValueError("pairs: no network has a seed in common with its baseline")
    limits, outside = _limits(rows, "difference")
    confidence = rows.confidence.iloc[0]
    short, family, baselines = labels(rows), families(rows), rows.baseline.unique()
    sure = statistics.significant(rows)
    figure, axis = plt.subplots(figsize=(9.5, 0.27 * len(rows) + 1.7))
    axis.axvline(0, color="0.4", lw=1, zorder=0)
    least = 0.05 if margin is None else 1.1 * margin
    axis.set_xlim(min(limits[0], -least), max(limits[1], least))
    if margin is not None:  # where an interval ends beside it is the question
        shown, reach = rows[~outside], 0.02 * margin
        low, high = axis.get_xlim()
        axis.set_xlim(
            np.nanmin([low, *(shown.low - reach)]), np.nanmax([high, *(shown.high + reach)])
        )
        axis.axvspan(-margin, margin, color="0.93", lw=0, zorder=-1)
    for y, (name, row) in enumerate(rows.iterrows()):
        colour, marker = look(family[name])
        if outside[name]:
            marker = r"$\leftarrow$" if row.difference < limits[0] else r"$\rightarrow$"
        face = colour if sure[name] else "white"
        x = np.clip(row.difference, *axis.get_xlim())
        size = 13 if outside[name] else 8
        axis.plot(x, y, color=colour, marker=marker, mfc=face, ms=size, clip_on=False, zorder=3)
        axis.hlines(y, *np.clip((row.low, row.high), *axis.get_xlim()), color=colour, lw=1.5)
        interval = "" if np.isnan(row.low) else f"  ({row.low:+.2f} to {row.high:+.2f})"
        verdict = f"  {row.verdict}" if "verdict" in rows else ""
        axis.text(
            1.02, y, f"{row.difference:+.2f}{interval}{verdict}".replace("-", "−"), va="center",
            transform=axis.get_yaxis_transform(), fontsize="small",
        )  # fmt: skip
    several = len(baselines) > 1
    names = [
        short[name] + f" − {short.get(row.baseline, row.baseline)}" * several
        for name, row in rows.iterrows()
    ]
    if "outgrown" in rows:
        smaller = zip(names, rows.outgrown, strict=True)
        names = [name + " (smaller)" * outgrown for name, outgrown in smaller]
    axis.set_yticks(range(len(rows)), names, fontsize="small")
    axis.set(xlabel=label, ylim=(-0.7, len(rows) - 0.3))
    to = "Difference" if several else f"Difference to {baselines[0]}"
    axis.set_title(f"{to}, {over_seeds(rows.n, confidence)}")
    marks = [
        Line2D([], [], color="0.3", marker="o", ls="", mfc=face, label=text)
        for face, text in (("0.3", "significant (Holm)"), ("white", "not significant"))
    ]
    if margin is not None:
        marks.append(Patch(color="0.93", label=f"within ±{margin:g}"))
    legend(figure, family, marks, loc="outside upper center", ncols=6)
    return figure


def ablation(
    table: pd.DataFrame,
    value: str = "test_accuracy",
    confidence: float = 0.95,
    noise: float | None = None,
) -> Figure:
    """Small multiples: a panel a question, a point a choice, with its interval and its seeds.

    table: a row a run, with the columns question, choice, seed and `value`; the first choice of
    each question is the default, drawn in black with a line for the others to be read against.
    noise: how far a choice without any effect lies from the default, at `confidence`: a grey band
    of that half-width about the line, in the unit of `value`.
    The table behind it: `ablation_table(table, value, confidence)`.
    """
    points = ablation_table(table, value, confidence)
    if noise is not None:
        positive("noise", noise)
    questions = list(points.index.unique("question"))
    rows = -(-len(questions) // 2)
    heights = [max(len(points.loc[q]) for q in questions[i : i + 2]) for i in range(0, 2 * rows, 2)]
    figure, axes = plt.subplots(
        rows, 2, figsize=(11, 0.3 * sum(heights) + 0.75 * rows + 0.4), sharex=True, squeeze=False,
        height_ratios=[number + 0.6 for number in heights],
    )  # fmt: skip
    axes[0, 0].set_xlim(_limits(points, "mean")[0])
    for axis, question in zip(axes.flat, questions, strict=False):
        own = points.loc[question]
        default = own["mean"].iloc[0]
        axis.axvline(default, color="0.6", lw=1, ls=":", zorder=0)
        if noise is not None:
            axis.axvspan(default - noise, default + noise, color="0.93", lw=0, zorder=-1)
        for y, point in enumerate(own.itertuples()):
            colour = sns.color_palette(PALETTE)[0] if y else "black"
            axis.plot(point.mean, y, color=colour, marker="o" if y else "D", ms=6)
            axis.hlines(y, point.low, point.high, color=colour, lw=1.5, alpha=0.6)
            seeds = table[(table.question == question) & (table.choice == point.Index)][value]
            axis.plot(seeds, [y] * len(seeds), color=colour, marker=".", ms=5, ls="", alpha=0.7)
        names = [f"{choice} (default)" if not y else choice for y, choice in enumerate(own.index)]
        axis.set_yticks(range(len(own)), names, fontsize="small")
        axis.set_ylim(len(own) - 0.4, -0.6)
        axis.set_title(question, loc="left")
    for axis in axes.flat[len(questions) :]:
        axis.axis("off")
    for axis in axes.flat[max(0, len(questions) - 2) : len(questions)]:
        axis.set_xlabel(AXES.get(value, value))
        axis.tick_params(labelbottom=True)
    title = f"Mean, {over_seeds(points.n, _drawn(points, confidence))}; a small dot is a seed"
    if noise is not None:
        title += f"; grey: {confidence:.0%} of the differences that are noise"
    figure.suptitle(title, fontsize="medium")
    return figure


def ablation_table(
    table: pd.DataFrame, value: str = "test_accuracy", confidence: float = 0.95
) -> pd.DataFrame:
    """One row a question and choice, in the order of the table: n, mean, low, high over seeds."""
    for column in ("question", "choice"):
        one_of("table: column", column, list(table.columns))
    parts = {
        question: statistics.means(rows.assign(name=rows.choice), value, confidence)
        for question, rows in table.groupby("question", sort=False)
    }
    return pd.concat(parts, names=["question", "choice"])[["n", "mean", "low", "high"]]


def rank_plot(table: pd.DataFrame, value: str = "test_accuracy") -> Figure:
    """The rank of every network for every seed, a line from its best to its worst.

    The table behind it: `ranking.ranks(table, value).by_seed`.
    """
    order, seats, agreement, _ = ranking.ranks(table, value)
    short, family = labels(order), families(order)
    figure, axis = plt.subplots(figsize=(9.5, 0.25 * len(order) + 1.3))
    for y, (name, row) in enumerate(order.iterrows()):
        colour, marker = look(family[name])
        axis.hlines(y, row.best, row.worst, color=colour, lw=2, alpha=0.4)
        axis.plot(seats[name], [y] * len(seats), color=colour, marker=".", ls="", ms=7)
        axis.plot(row["mean"], y, color=colour, marker=marker, ms=8)
    axis.set_yticks(range(len(order)), short.values(), fontsize="small")
    axis.set(xlabel="rank (1 = best)", ylim=(len(order) - 0.4, -0.6), xlim=(0.5, len(order) + 0.5))
    axis.xaxis.set_major_locator(MaxNLocator(integer=True))
    title = f"Ranks {over_seeds([len(seats)])}: a dot a seed, the mean larger"
    agrees = "" if np.isnan(agreement) else f"; Kendall's W = {agreement:.2f}"
    axis.set_title(title + agrees)
    legend(axis, family, loc="lower left")
    return figure
