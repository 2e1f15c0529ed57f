"""The tables of the README, from the records: `python -m attention.readme` writes them anew."""

import json
import re
from pathlib import Path

import pandas as pd

from attention.files import replacing
from attention.records import frame, read, summary
from attention.settings import home

MARKS = "<!-- results: written by python -m attention.readme -->", "<!-- end of results -->"


def markdown(records):
    """The results as Markdown: a table for each dataset and setting, and where it was measured."""
    parts = []
    table = summary(frame(records)).sort_values(["dataset", "parameters", "name"], kind="stable")
    setting = ["dataset", "train_images", "epochs", "hardware", "precision"]
    for (dataset, images, epochs, hardware, precision), rows in table.groupby(setting, sort=False):
        shown = pd.DataFrame({
            "network": rows.name,
            "test accuracy (%)": rows.test_accuracy.map("{:.2f}".format),
            "± over seeds": rows.spread.map(lambda v: "–" if pd.isna(v) else f"{v:.2f}"),
            "runs": rows.runs,
            "parameters": rows.parameters.map("{:,}".format),
            "MFLOPs": rows.mflops.map("{:,.1f}".format),
        })  # fmt: skip
        align = ("left", *["right"] * (shown.shape[1] - 1))
        parts.append(
            f"**{dataset}**, {images:,} training images, {epochs} epochs, final epoch, "
            f"on {hardware}, {precision}:\n\n"
            + shown.to_markdown(index=False, colalign=align, disable_numparse=True)
        )
    return "\n\n".join(parts)


def times_markdown(benchmark):
    """What `attention.benchmark` measured of the blocks, as Markdown."""
    machine, rows = benchmark["machine"], pd.DataFrame(benchmark["rows"])
    shown = pd.DataFrame({
        "network": rows.name,
        "one training step (ms)": rows.step_ms.map("{:,.0f}".format),
        "time against the first": rows.time.map("× {:.2f}".format),
    })  # fmt: skip
    return (
        f"One training step of {benchmark['batch_size']} images of 32×32, the networks in turns, "
        f"median of {benchmark['rounds']} rounds, on {machine['hardware']}, {machine['threads']} "
        f"threads, {machine['precision']}:\n\n"
        + shown.to_markdown(index=False, colalign=("left", "right", "right"), disable_numparse=True)
    )


def report(folder=None):
    """The README's tables: results of all committed runs, and what `attention.benchmark` found."""
    folder = Path(folder) if folder else home() / "data"
    parts = [markdown(read(folder / "runs"))]
    for path in sorted((folder / "benchmarks").glob("*.json")):
        parts.append(times_markdown(json.loads(path.read_text(encoding="utf-8"))))
    return "\n\n".join(parts)


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
