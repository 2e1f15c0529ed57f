"""The tables of the README, from the records: `python -m attention.readme` writes them anew."""

import json
import re
from pathlib import Path

import pandas as pd

from attention import statistics
from attention.files import replacing
from attention.overview import COSTS, intervals, numbers
from attention.records import frame, read
from attention.settings import home

MARKS = "<!-- results: written by python -m attention.readme -->", "<!-- end of results -->"
SETTING = ["dataset", "train_images", "epochs", "hardware", "precision"]
# Made from another dataset for a purpose of their own; notebooks 7 and 9 are about them.
ASIDE = ("-validation", "-random-labels", "shapes10")


def markdown(records, costs=None):
    """The results as Markdown: a table for each dataset and setting, and where it was measured.

    costs: a frame by name with the columns `overview.COSTS`, for the networks it has.
    """
    table = frame(records)
    groups = [(len(rows), key, rows) for key, rows in table.groupby(SETTING, sort=False)]
    parts = []
    for _, (dataset, images, epochs, hardware, precision), rows in sorted(
        groups, key=lambda group: (-group[0], group[1])
    ):
        parts.append(
            f"**{dataset}**, {images:,} training images, {epochs} epochs, final epoch, "
            f"on {hardware}, {precision}:\n\n" + _markdown(compared(rows, costs))
        )
    return "\n\n".join(parts)


def compared(rows, costs=None):
    """The runs of one setting, a row a network, in words: accuracy, difference to plain, cost."""
    found = statistics.means(rows).sort_values(["parameters", "mean"], kind="stable")
    shown = pd.DataFrame({
        "network": found.index,
        "runs": found.n,
        "test accuracy (%)": numbers(found["mean"], "{:.2f}"),
        "95 % interval": intervals(found.low, found.high, "{:.1f} to {:.1f}"),
    })  # fmt: skip
    plain = next((name for name in found.index if name.endswith("(plain)")), None)
    if plain and found.n.max() > 1:
        pairs = statistics.paired(rows, plain).reindex(found.index)
        sure = pairs.p_corrected < 0.05
        words = numbers(pairs.difference, "{:+.2f}")
        shown["minus plain"] = words + sure.map({True: " *", False: ""})
        shown["its interval"] = intervals(pairs.low, pairs.high, "{:+.1f} to {:+.1f}")
    shown["parameters"] = found.parameters.map("{:,.0f}".format)
    shown["MFLOPs"] = found.mflops.map("{:,.1f}".format)
    if costs is not None and len(found.index.intersection(costs.index)):
        own = costs.reindex(found.index)
        headings = ("step (ms)", "one answer (ms)", "kept for backward (MiB)")
        for column, heading in zip(COSTS, headings, strict=True):
            shown[heading] = numbers(own[column], "{:,.1f}")
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
    mechanisms = measured.pop("mechanisms")
    costs = pd.DataFrame(mechanisms["rows"]).set_index("name")
    costs = costs[list(COSTS)]
    notes = (
        "`*`: significant after Holm's correction for all rows. Step: one training step, "
        f"{_where(mechanisms)}; one answer: one image, without a batch; kept for backward: what "
        "the forward pass of a batch holds."
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
    write_readme(home() / "README.md", report())
