"""Records into tables: what README and notebooks report is read from here.

python -m attention.records        writes the results table of the README anew
"""

import json
import re
from pathlib import Path

import pandas as pd

from attention.files import replacing
from attention.settings import home

MARKS = "<!-- results: written by python -m attention.records -->", "<!-- end of results -->"


KEYS = ("name", "run", "dataset", "result", "cost", "machine")


def read_record(path):
    """One record, a dict with the `KEYS`. Raises ValueError that names a file which is none."""
    path = Path(path)
    try:
        record = json.loads(path.read_text(encoding="utf-8"))
        return {key: record[key] for key in KEYS}
    except (ValueError, KeyError, TypeError) as error:
        raise ValueError(
            f"{path.name} in {path.parent} is not a record ({error!r}): remove it to train anew"
        ) from error


def read(folder=None):
    """All records below `folder`, a list; None: data/runs at home."""
    folder = Path(folder) if folder else home() / "data" / "runs"
    return [read_record(path) for path in sorted(folder.glob("**/*.json"))]


def frame(records):
    """One row a record: what was trained, on what, how well, at what cost."""
    return pd.DataFrame([
        {
            "dataset": r["dataset"]["name"],
            "name": r["name"],
            "seed": r["run"]["seed"],
            "epochs": r["run"]["epochs"],
            "train_images": r["dataset"]["train_images"],
            "test_accuracy": r["result"]["test_accuracy"],
            "parameters": r["result"]["parameters"],
            "mflops": r["result"]["flops"] / 1e6,
            "seconds": r["cost"]["seconds"],
            "images_per_second": r["cost"]["images_per_second"],
            "hardware": f"{r['machine']['hardware']}, {r['machine']['threads']} threads",
            "precision": r["machine"]["precision"],
        }
        for r in records
    ])  # fmt: skip


def summary(table):
    """One row a dataset, setting and network: mean accuracy over seeds, its spread, its cost."""
    keys = ["dataset", "train_images", "epochs", "hardware", "precision", "name"]
    grouped = table.groupby(keys, sort=False)
    return grouped.agg(
        runs=("seed", "size"),
        test_accuracy=("test_accuracy", "mean"),
        spread=("test_accuracy", "std"),
        parameters=("parameters", "first"),
        mflops=("mflops", "first"),
    ).reset_index()


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
    """The README's tables: results of all committed runs, and times of the blocks."""
    folder = Path(folder) if folder else home() / "data"
    parts = [markdown(read(folder / "runs"))]
    if (folder / "benchmarks" / "blocks.json").exists():
        text = (folder / "benchmarks" / "blocks.json").read_text(encoding="utf-8")
        parts.append(times_markdown(json.loads(text)))
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
