"""One change at a time: each setting beside the default of its question.

beside_default   differences with the noise of all networks of a table
objections       the comparison's networks by another learning rate, and with another start

Exploratory: what is chosen by accuracy is chosen on held-out images, and tested elsewhere.
"""

import pandas as pd

from attention.checks import one_of
from attention.results import plan
from attention.results.answer import role
from attention.results.overview import intervals, numbers
from attention.results.statistics import holm, pooled, significant
from attention.results.tables import as_markdown

AS_COMPARED = "as compared"
START = ", start identity"  # the end of a place, see `tables.place`


def beside_default(table: pd.DataFrame, asked: pd.DataFrame) -> pd.DataFrame | None:
    """Every setting against the default of its question: a row for each (question, setting).

    table: runs, see `tables.frame`; the noise is estimated from all of them (`statistics.pooled`).
    asked: the columns question, setting and name, the default of each question first. Questions
    without a run of the default, or of another setting, are left out; None without any.

    The columns are those of `pooled`; p_corrected is for all rows.
    """
    for column in ("question", "setting", "name"):
        one_of("asked: column", column, list(asked.columns))
    parts, there = {}, set(table.name)
    for question, rows in asked.groupby("question", sort=False):
        others = rows.iloc[1:][rows.name.iloc[1:].isin(there)]
        if rows.name.iloc[0] in there and len(others):
            pairs = pooled(table, rows.name.iloc[0]).loc[others.name]
            parts[question] = pairs.set_index(others.setting.to_numpy())
    if not parts:
        return None
    pairs = pd.concat(parts, names=["question", "setting"])
    return pairs.assign(p_corrected=holm(pairs.p))


def objections(table: pd.DataFrame) -> tuple[pd.DataFrame, pd.DataFrame | None]:
    """Would another recipe, or a start as the identity, have served one of the networks better?

    table: runs on held-out images, all of one length. Returns the runs of the plain network and of
    the papers' blocks, with the columns question (which network) and choice (what is another), as
    `figures.ablation` takes them; and `beside_default`, None where nothing tells the noise. In that
    the later seeds of all other runs take part, too: by the first seed some of them were picked.
    """
    networks = ["plain", *plan.PAPERS]
    places = table.place.fillna("")
    named = table.assign(
        name=table.name + table.recipe.map(lambda words: words and f", {words}"),
        question=table.block.fillna("plain"),
        choice=[_changed(*row) for row in zip(table.recipe, places, strict=True)],
    ).drop(columns="recipe")
    usual = table.assign(place=[place.removesuffix(START) for place in places])
    part = [role(row) in ("plain", "block") for row in usual.to_dict("records")]
    runs = named[pd.Series(part, table.index) & named.question.isin(networks)]
    runs = runs.sort_values("choice", key=lambda one: one.where(one != AS_COMPARED, ""))
    runs = runs.sort_values("question", key=lambda one: one.map(networks.index), kind="stable")
    asked = runs.rename(columns={"choice": "setting"}).drop_duplicates("name")
    later = named[~named.name.isin(runs.name) & (named.seed > table.seed.min())]
    known = pd.concat([runs, later])
    repeated = known.groupby("name").seed.nunique() > 1
    return runs, beside_default(known, asked) if repeated.sum() > 1 else None


def _changed(recipe, place):
    """What is another than in the comparison, in words."""
    start = "start as the identity" if place.endswith(START) else ""
    return ", ".join(filter(None, (recipe, start))) or AS_COMPARED


def markdown(runs: pd.DataFrame, pairs: pd.DataFrame | None) -> str:
    """What `objections` gives as Markdown: a table, and in a sentence what was shown."""
    found = runs.groupby(["question", "choice"], sort=False).test_accuracy.agg(["size", "mean"])
    shown = pd.DataFrame({
        "network": found.index.get_level_values("question"),
        "trained": found.index.get_level_values("choice"),
        "seeds": found["size"].astype(str),
        "accuracy (%)": numbers(found["mean"], "{:.2f}"),
    }, found.index)  # fmt: skip
    if pairs is None:
        return as_markdown(shown)
    pairs = pairs.rename_axis(found.index.names)
    beside = pairs.reindex(found.index)
    shown["minus as compared"] = numbers(beside.difference, "{:+.2f}")
    shown["95 % interval"] = intervals(beside.low, beside.high, "{:+.2f} to {:+.2f}")
    sure = significant(pairs)
    differ = [f"{network}, {change}" for network, change in pairs.index[sure]]
    said = f"Shown to differ from the network as compared: {'; '.join(differ) or 'none'} of "
    said += f"{len(pairs)} (95 %, Holm's correction for all; smallest corrected p "
    said += f"{pairs.p_corrected.min():.2g})."
    return f"{as_markdown(shown)}\n\n{said}"
