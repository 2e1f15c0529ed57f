"""A study in one table: accuracy, differences, costs and maps beside each other.

costs       what networks cost, as committed or measured now
maps        what their maps are worth, as far as it has been measured
beside      every run of a table with such columns of its network
overview    one row a network; styled: the same, to be read
guide       what to take within a budget
"""

import json

import pandas as pd

from attention import benchmark, survey
from attention.cost import parameters
from attention.explain.every import GRAD_CAM
from attention.results import findings, statistics
from attention.settings import home

COSTS = ("step_ms", "latency_ms", "memory_mib")


def costs(runs, data, rounds=2, progress=True):
    """What each network costs: a frame with `COSTS`, one row a run, and a sentence on its origin.

    The committed measurement, data/benchmarks/mechanisms.json, if it has the first of `runs` on
    images and classes like those of `data`, and as large; a network that it lacks, or has in
    another size, is nan then, for times of two machines do not belong into one column. Else all
    are measured here, see `benchmark.costs` and `benchmark.inference`.
    """
    classes = len(data.classes)
    sizes = {run.name: parameters(run.build(classes)) for run in runs}
    path = home() / "data" / "benchmarks" / "mechanisms.json"
    if path.exists() and tuple(data.size) == (32, 32):
        record = json.loads(path.read_text(encoding="utf-8"))
        rows = pd.DataFrame(record["rows"]).set_index("name")
        same = [name for name, size in sizes.items() if rows.parameters.get(name) == size]
        if runs[0].name in same and record["batch_size"] == runs[0].batch_size:
            where = "{hardware}, {threads} threads".format(**record["machine"])
            table = rows.reindex(columns=COSTS).loc[same].reindex(list(sizes))
            return table, f"measured by python -m attention.benchmark mechanisms on {where}"
    size = tuple(data.size)
    table = benchmark.costs(runs, size, classes, rounds, progress=progress)
    table = table.join(benchmark.inference(runs, size, classes, rounds, progress=progress))
    return table[list(COSTS)], f"measured here, median of {rounds} rounds"


def known(what, runs, data):
    """The records of `survey.survey(what, runs, data)` that are there; none is measured."""
    paths = (survey.folder(what) / data.name / f"{survey.key(run, data)}.json" for run in runs)
    return [survey.read(path) for path in paths if path.exists()]


def maps(located, removed):
    """What the maps of each network are worth, a frame by name, each the mean over its seeds.

    located, removed: records of "localisation" and of "faithfulness".

    pointing, pointing_gradcam: how often the highest pixel of the network's own map, and of
    Grad-CAM, lies on the object, in percent. faithful, faithful_gradcam: by how much pixels taken
    in the map's order bring the answer down more than pixels taken at random: the difference of
    the areas under the curves of ROAD, in percentage points of probability. nan where the network
    has no such map, or was not measured. A network's own map is that of `findings.choose`.
    """
    columns = ["pointing", "pointing_gradcam", "faithful", "faithful_gradcam"]
    if not located:
        return pd.DataFrame(columns=columns, dtype=float)
    objects = findings.frame(located)
    choice = findings.choose(objects)
    pointing = _by_map(findings.compared(objects, choice), "pointing")
    result = 100 * pointing.set_axis(columns[:2], axis=1)
    if removed:
        areas = _by_map(findings.compared(findings.frame(removed), choice), "road", "random")
        result = result.join(100 * areas.set_axis(columns[2:], axis=1), how="outer")
    return result.reindex(columns=columns)


def _by_map(table, measure, minus=None):
    """By name: the mean over seeds for the own map and for Grad-CAM; `minus` this map's, if any."""
    wide = table.pivot_table(measure, "name", "map", sort=False)
    wide = wide if minus is None else -wide.sub(wide[minus], axis=0)
    return wide.reindex(columns=["own", GRAD_CAM])


def beside(table, columns):
    """The runs of `records.frame`, each with its network's row of `columns`, a frame by name."""
    return table.drop(columns=table.columns.intersection(columns.columns)).join(columns, on="name")


def overview(table, plain, baselines):
    """One row a network, the most accurate first.

    table: as `beside` gives it. plain: the name of the plain network. baselines: the names of
    wider plain ones; the plain one is taken as one of them.

    n, mean, low, high: over seeds. plain_…, size_…: difference, low, high and corrected p against
    the plain network, and against the smallest plain network that is not smaller
    (`statistics.matched`); size_baseline is its name. Then the other columns of numbers.
    """
    result = statistics.means(table)
    columns = ["difference", "low", "high", "p_corrected"]
    against_plain = statistics.paired(table, plain)[columns].add_prefix("plain_")
    there = [name for name in baselines if name in result.index]
    against_size = statistics.matched(table, [plain, *there])
    against_size = against_size[[*columns, "baseline", "outgrown"]].add_prefix("size_")
    result = result.join(against_plain).join(against_size)
    return result.sort_values("mean", ascending=False)


def complete(table):
    """The runs of those networks that have as many seeds as any has: what ranks can compare."""
    count = table.groupby("name").seed.transform("nunique")
    return table[count == count.max()]


SHOWN = {
    "parameters": ("parameters", "{:,.0f}"),
    "mflops": ("MFLOPs", "{:,.1f}"),
    "step_ms": ("step (ms)", "{:,.0f}"),
    "latency_ms": ("answer (ms)", "{:.2f}"),
    "memory_mib": ("memory (MiB)", "{:.0f}"),
}


def styled(table, maps=None, confidence=0.95):
    """What `overview` gives, to be read: intervals in words, significant differences in bold.

    maps: {column of the table: (its heading, a format)}, for numbers about maps.
    """
    columns = {
        ("accuracy (%)", "seeds"): numbers(table.n, "{:.0f}"),
        ("accuracy (%)", "mean"): numbers(table["mean"], "{:.2f}"),
        ("accuracy (%)", "interval"): intervals(table.low, table.high, "{:.1f} to {:.1f}"),
    }
    sure = {}
    for prefix, heading in (("plain", "minus plain"), ("size", "minus plain of its size")):
        low, high = table[f"{prefix}_low"], table[f"{prefix}_high"]
        p = table[f"{prefix}_p_corrected"]
        columns[heading, "points"] = numbers(table[f"{prefix}_difference"], "{:+.2f}")
        columns[heading, "interval"] = intervals(low, high, "{:+.1f} to {:+.1f}")
        columns[heading, "p (Holm)"] = numbers(p, "{:.3f}")
        sure[heading] = p < 1 - confidence
    for top, wanted in (("cost", SHOWN), ("maps", maps or {})):
        for column, (heading, form) in wanted.items():
            columns[top, heading] = numbers(table[column], form)
    shown = pd.DataFrame(columns).rename_axis(None)

    def bold(cells):
        marked = sure.get(cells.name[0], pd.Series(False, cells.index))
        return ["font-weight: bold" if one else "" for one in marked]

    return shown.style.apply(bold).set_table_attributes('style="font-size: 85%"')


def numbers(column, form):
    """A column as words: "–" for nan, and a minus sign that is one."""
    return column.map(lambda value: "–" if pd.isna(value) else form.format(value).replace("-", "−"))


def intervals(low, high, form):
    """Two columns as one of words; `form` takes both ends."""
    ends = pd.Series(list(zip(low, high, strict=True)), index=low.index)
    words = ends.map(lambda pair: "–" if pd.isna(pair[0]) else form.format(*pair))
    return words.str.replace("-", "−")


def guide(table, plain, factors=(1.02, 1.1, 1.5), columns=("parameters", *COSTS)):
    """A decision guide: `statistics.within` for budgets that are multiples of the plain network's.

    table: as `beside` gives it. factors: budget over what the plain network takes. A column
    without a number for the plain network is left out.
    """
    means = statistics.means(table)
    rows = []
    for column in columns:
        if column not in means or pd.isna(means[column][plain]):
            continue
        for factor in factors:
            limit = float(f"{factor * means[column][plain]:.3g}")
            row = statistics.within(table, {column: int(limit) if limit >= 100 else limit})
            rows.append({"plain's times": factor, **row})
    return pd.DataFrame(rows)
