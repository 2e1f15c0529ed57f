"""A study in one table: accuracy, differences and costs of every network; and the same in words.

Exploratory: its differences have no test. What the plan tests is in `answer`, and nowhere else.
"""

from collections.abc import Mapping, Sequence

import pandas as pd

from attention.results import statistics

Headings = Mapping[str, tuple[str, str]]
# column of the table: its heading, and how its numbers are written
COST_COLUMNS: Headings = {
    "parameters": ("parameters", "{:,.0f}"),
    "mflops": ("MFLOPs", "{:,.1f}"),
    "step_ms": ("step (ms)", "{:,.0f}"),
    "latency_ms": ("answer (ms)", "{:.2f}"),
    "memory_mib": ("memory (MiB)", "{:.0f}"),
}
DIFFERENCES = {"plain": "plain", "size": "plain of its size"}


def overview(table: pd.DataFrame, plain: str, baselines: Sequence[str]) -> pd.DataFrame:
    """One row a network, the most accurate first.

    table: the runs of one setting, see `tables.frame` and `tables.beside`. plain: the name of the
    plain network. baselines: the names of wider plain ones; the plain one is taken as one of them.

    n, mean, low, high: over seeds. plain_difference, size_difference: to the plain network, and to
    the smallest plain network that is not smaller (`statistics.matched`), paired by seed;
    size_baseline is its name. Then the other columns.
    """
    result = statistics.means(table)
    there = [name for name in baselines if name in result.index and name != plain]
    pairs = {
        "plain": statistics.paired(table, plain),
        "size": statistics.matched(table, [plain, *there]),
    }
    for prefix, found in pairs.items():
        columns = found.columns.intersection(["difference", "baseline", "outgrown"], sort=False)
        result = result.join(found[columns].add_prefix(f"{prefix}_"))
    return result.sort_values("mean", ascending=False, kind="stable")


def in_words(table: pd.DataFrame, maps: Headings | None = None) -> pd.DataFrame:
    """What `overview` or `statistics.means` gives, as words under headings of two levels.

    maps: {column of the table: (its heading, a format)}, for numbers about maps.
    """
    columns = {
        ("accuracy (%)", "seeds"): numbers(table.n, "{:.0f}"),
        ("accuracy (%)", "mean"): numbers(table["mean"], "{:.2f}"),
        ("accuracy (%)", "interval"): intervals(table.low, table.high, "{:.1f} to {:.1f}"),
    }
    for prefix, heading in DIFFERENCES.items():
        if f"{prefix}_difference" in table:
            columns["minus", heading] = numbers(table[f"{prefix}_difference"], "{:+.2f}")
    for top, wanted in (("cost", COST_COLUMNS), ("maps", maps or {})):
        for column, (heading, form) in wanted.items():
            if column in table:
                columns[top, heading] = numbers(table[column], form)
    return pd.DataFrame(columns, index=table.index).rename_axis(None)


def styled(table: pd.DataFrame, maps: Headings | None = None):
    """What `overview` gives as a pandas Styler, names escaped."""
    style = in_words(table, maps).style.format(escape="html")
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
