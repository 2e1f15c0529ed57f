"""The tables of the README, from the records: `python -m attention.readme` writes them anew."""

import json
import re
from pathlib import Path

import pandas as pd

from attention.figures.families import labels
from attention.files import replacing
from attention.results import statistics
from attention.results.overview import COSTS, SHOWN, beside, guide, intervals, numbers
from attention.results.tables import frame, read
from attention.settings import home

MARKS = "<!-- results: written by python -m attention.readme -->", "<!-- end of results -->"
# Made from another dataset for a purpose of their own; notebooks 7 and 9 are about them.
ASIDE = ("-validation", "-random-labels", "shapes10")


def markdown(records, costs=None):
    """The results as Markdown: a table for each dataset and setting, and where it was measured.

    costs: a frame by name with the columns `overview.COSTS`, for the networks it has.
    """
    table = frame(records)
    groups = table.groupby([*statistics.SETTING], sort=False)
    groups = sorted(groups, key=lambda group: (-len(group[1]), group[0]))
    parts = []
    for (dataset, images, epochs), rows in groups:
        parts.append(
            f"**{dataset}**, {images:,} training images, {epochs} epochs, final epoch, "
            f"{_machines(rows)}:\n\n" + _markdown(compared(rows, costs))
        )
    if costs is not None:
        parts.insert(1, advice(groups[0][1], costs))
    return "\n\n".join(filter(None, parts))


def _machines(rows):
    """On what the runs of a table were trained, with their seeds where there are several."""
    places = rows.groupby(["hardware", "precision"], sort=False).seed.unique()
    names = [f"on {hardware}, {precision}" for hardware, precision in places.index]
    if len(places) == 1:
        return names[0]
    words = [", ".join(map(str, sorted(seeds))) for seeds in places]
    return "; ".join(f"seed {w} {name}" for w, name in zip(words, names, strict=True))


def advice(rows, costs):
    """The decision guide of `overview.guide` as Markdown; nothing while no network has two seeds.

    rows: the runs of one setting. costs: as for `markdown`.
    """
    table = beside(rows, costs)
    plain = _plain(statistics.means(rows))
    if plain is None or rows.groupby("name").seed.nunique().max() < 2:
        return ""
    found = guide(table, plain)
    found = found[found.choice.notna()]
    short = labels(table.name.unique())
    words = {f"^{column} ": f"{heading} " for column, (heading, _) in SHOWN.items()}
    limits = found.budget.replace(words, regex=True)
    other = found.choice != found.best
    low, high = found.difference_low.where(other), found.difference_high.where(other)
    shown = pd.DataFrame({
        "budget": limits + found["plain's times"].map(" (plain × {:g})".format),
        "take": found.choice.map(short),
        "accuracy (%)": numbers(found["mean"], "{:.2f}"),
        "the most accurate within it": found.best.map(short),
        "take minus that": numbers(found.difference.where(other), "{:+.2f}"),
        "its interval": intervals(low, high, "{:+.1f} to {:+.1f}"),
        "networks as good": found.as_good.str.len(),
    })  # fmt: skip
    return (
        "**What to take within a budget**: the cheapest network that cannot be told from the most "
        "accurate one that keeps to it (the interval of the paired difference includes zero).\n\n"
    ) + _markdown(shown)


def _plain(found):
    """The smallest plain network of a table by name, None without any."""
    plain = found[found.index.str.endswith("(plain)")]
    return plain.parameters.idxmin() if len(plain) else None


def compared(rows, costs=None):
    """The runs of one setting, a row a network, in words: accuracy, difference to plain, cost."""
    found = statistics.means(rows).sort_values(["parameters", "mean"], kind="stable")
    shown = pd.DataFrame({
        "network": found.index,
        "runs": found.n,
        "test accuracy (%)": numbers(found["mean"], "{:.2f}"),
        "95 % interval": intervals(found.low, found.high, "{:.1f} to {:.1f}"),
    })  # fmt: skip
    plain = _plain(found)
    if plain and found.n.max() > 1:
        pairs = statistics.paired(rows, plain).reindex(found.index)
        sure = pairs.p_corrected < 0.05
        words = numbers(pairs.difference, "{:+.2f}")
        shown["minus plain"] = words + sure.map({True: " *", False: ""})
        shown["its interval"] = intervals(pairs.low, pairs.high, "{:+.1f} to {:+.1f}")
    if costs is not None and len(found.index.intersection(costs.index)):
        found = found.join(costs)
    for column, (heading, form) in SHOWN.items():
        if column in found:
            shown[heading] = numbers(found[column], form)
    return shown


def times_markdown(benchmark):
    """What `attention.benchmark` measured of the blocks, as Markdown."""
    rows = pd.DataFrame(benchmark["rows"])
    shown = pd.DataFrame({
        "network": rows.name,
        "one training step (ms)": rows.step_ms.map("{:,.0f}".format),
        "time against the first": rows.time.map("× {:.2f}".format),
    })  # fmt: skip
    return f"One training step, {_where(benchmark)}:\n\n" + _markdown(shown)


def report(folder=None):
    """The README's tables: results of all committed runs, and what `attention.benchmark` found."""
    folder = Path(folder) if folder else home() / "data"
    records = [r for r in read(folder / "runs") if not r["dataset"]["name"].endswith(ASIDE)]
    measured = {
        path.stem: json.loads(path.read_text(encoding="utf-8"))
        for path in sorted((folder / "benchmarks").glob("*.json"))
    }
    if not records:
        return "No run has a record yet: `make report` trains them."
    costs, notes = None, "`*`: significant after Holm's correction for all rows."
    if mechanisms := measured.pop("mechanisms", None):
        costs = pd.DataFrame(mechanisms["rows"]).set_index("name")[list(COSTS)]
        notes += (
            f" Step: one training step, {_where(mechanisms)}; answer: to one image, without a "
            "batch; memory: what the forward pass of a batch keeps for the backward pass."
        )
    return "\n\n".join([markdown(records, costs), notes, *map(times_markdown, measured.values())])


def _where(benchmark):
    machine = benchmark["machine"]
    return (
        f"{benchmark['batch_size']} images of 32×32, the networks in turns, median of "
        f"{benchmark['rounds']} rounds, on {machine['hardware']}, {machine['threads']} threads, "
        f"{machine['precision']}"
    )


def _markdown(shown):
    align = ("left", *["right"] * (shown.shape[1] - 1))
    return shown.to_markdown(index=False, colalign=align, disable_numparse=True)


def write_readme(path, tables):
    """Put the tables between the two marks of a Markdown file."""
    path = Path(path)
    text = path.read_text(encoding="utf-8")
    between = re.compile(f"({re.escape(MARKS[0])}\n).*({re.escape(MARKS[1])})", re.DOTALL)
    if not between.search(text):
        raise ValueError(f"{path.name} has no lines {MARKS[0]!r} and {MARKS[1]!r}")
    new = between.sub(lambda found: f"{found[1]}{tables}\n{found[2]}", text)
    if new != text:
        with replacing(path) as temporary:
            temporary.write_text(new, encoding="utf-8")


if __name__ == "__main__":
    write_readme(Path(__file__).resolve().parent.parent / "README.md", report())
