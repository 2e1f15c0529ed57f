"""A study in one table: accuracy, differences and costs of every network; and the same in words."""

from collections.abc import Callable, Mapping, Sequence

import pandas as pd

from attention.results import statistics
from attention.results.statistics import significant

Headings = Mapping[str, tuple[str, str]]
# column of the table: its heading, and how its numbers are written
COST_COLUMNS: Headings = {
    "parameters": ("parameters", "{:,.0f}"),
    "mflops": ("MFLOPs", "{:,.1f}"),
    "step_ms": ("step (ms)", "{:,.0f}"),
    "latency_ms": ("answer (ms)", "{:.2f}"),
    "memory_mib": ("memory (MiB)", "{:.0f}"),
}
TESTS = {"plain": "minus plain", "size": "minus plain of its size"}


def overview(
    table: pd.DataFrame,
    plain: str,
    baselines: Sequence[str],
    test: Callable = statistics.paired,
) -> pd.DataFrame:
    """One row a network, the most accurate first.

    table: the runs of one setting, see `tables.frame` and `tables.beside`. plain: the name of the
    plain network. baselines: the names of wider plain ones; the plain one is taken as one of them.
    test: of the difference to `plain`, `statistics.paired` or `pooled`; the same as in the figure.

    n, mean, low, high: over seeds. plain_…, size_…: difference, low, high, corrected p and
    significant, against the plain network, and against the smallest plain network that is not
    smaller (`statistics.matched`); size_baseline is its name. Then the other columns.
    """
    result = statistics.means(table)
    there = [name for name in baselines if name in result.index and name != plain]
    tested = {"plain": test(table, plain), "size": statistics.matched(table, [plain, *there])}
    for prefix, pairs in tested.items():
        columns = ["difference", "low", "high", "p_corrected", "baseline", "outgrown"]
        kept = pairs[pairs.columns.intersection(columns, sort=False)]
        kept = kept.assign(significant=significant(pairs))
        result = result.join(kept.add_prefix(f"{prefix}_"))
    return result.sort_values("mean", ascending=False)


def in_words(table: pd.DataFrame, maps: Headings | None = None) -> pd.DataFrame:
    """What `overview` or `statistics.means` gives, as words under headings of two levels.

    maps: {column of the table: (its heading, a format)}, for numbers about maps.
    """
    columns = {
        ("accuracy (%)", "seeds"): numbers(table.n, "{:.0f}"),
        ("accuracy (%)", "mean"): numbers(table["mean"], "{:.2f}"),
        ("accuracy (%)", "interval"): intervals(table.low, table.high, "{:.1f} to {:.1f}"),
    }
    for prefix, heading in TESTS.items():
        if f"{prefix}_difference" in table:
            low, high = table[f"{prefix}_low"], table[f"{prefix}_high"]
            columns[heading, "points"] = numbers(table[f"{prefix}_difference"], "{:+.2f}")
            columns[heading, "interval"] = intervals(low, high, "{:+.1f} to {:+.1f}")
            columns[heading, "p (Holm)"] = numbers(table[f"{prefix}_p_corrected"], "{:.3f}")
    for top, wanted in (("cost", COST_COLUMNS), ("maps", maps or {})):
        for column, (heading, form) in wanted.items():
            if column in table:
                columns[top, heading] = numbers(table[column], form)
    return pd.DataFrame(columns, index=table.index).rename_axis(None)


def styled(table: pd.DataFrame, maps: Headings | None = None):
    """What `overview` gives as a pandas Styler: significant differences bold, names escaped."""
    sure = {heading: table.get(f"{prefix}_significant") for prefix, heading in TESTS.items()}

    def bold(cells):
        marked = sure.get(cells.name[0])
        marked = pd.Series(False, cells.index) if marked is None else marked.eq(True)
        return marked.map({True: "font-weight: bold", False: ""})

    style = in_words(table, maps).style.apply(bold).format(escape="html")
    style.format_index(escape="html").format_index(escape="html", axis=1)
    return style.set_table_attributes('style="font-size: 85%"')


def numbers(column: pd.Series, form: str) -> pd.Series:
    """A column as words: "–" for nan, and a minus sign that is one."""
    return column.map(lambda value: "–" if pd.isna(value) else form.format(value).replace("-", "−"))


def intervals(low: pd.Series, high: pd.Series, form: str) -> pd.Series:
    """Two columns as one of words; `form` takes both ends."""
    words = [
        "–" if pd.isna(lower) else form.format(lower, upper).replace("-", "−")
        for lower, upper in zip(low, high, strict=True)
    ]
    return pd.Series(words, low.index, dtype=object)
