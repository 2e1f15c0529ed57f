"""RESULTS.md, written from the records: `python -m attention.results.report`."""

from pathlib import Path

import pandas as pd

from attention.files import read_record, replacing
from attention.results import answer, everything, plan, scale, speed
from attention.results.overview import intervals, numbers
from attention.results.statistics import means
from attention.results.tables import as_markdown, frame, labels, read, read_costs
from attention.settings import home

# Trials of a recipe, each of one seed, on training images held out.
TRIALS = {"images": int, "held_out": int, "machine": str, "commit": str, "notes": [str],
          "rows": [{"epochs": int, "seed": int, "accuracy": float, "recipe": dict}]}  # fmt: skip
EXPLORATORY = """\
These tables are exploratory: they show what was trained, with how many seeds, and no verdict
follows from them. Shapes-10 are images that the package draws itself."""
TITLE = """\
# Results

This file is written by `make results` from the records in `data/`; a test fails when it is stale.
"""


def text(folder: str | Path | None = None) -> str:
    """The whole file, from the records below `folder`; None: data at home."""
    folder = Path(folder) if folder else home() / "data"
    parts = [TITLE, "## The plan", plan.TEXT, "## The answer", answered(folder)]
    if tables := everything.text(folder):
        parts += ["## Every network that was trained", EXPLORATORY, tables]
    if (path := folder / "benchmarks" / "recipe.json").exists():
        parts += ["## The recipe", recipe(path)]
    if costs := speed.text(folder / "benchmarks"):
        parts += ["## What it costs", costs]
    if (path := folder / "benchmarks" / "scale.json").exists():
        parts += ["## A thousand runs", scale.text(path)]
    return "\n".join(part.rstrip() + "\n" for part in parts)


def answered(folder: str | Path | None = None) -> str:
    """The comparison of the plan, for each dataset of real images that it has runs on.

    folder: as in `text`.
    """
    folder = Path(folder) if folder else home() / "data"
    parts, table, steps, where = [], frame(read(folder / "runs")), None, ""
    if (path := folder / "benchmarks" / "mechanisms.json").exists():
        costs, where = read_costs(path)
        steps, where = costs.time, f" Training step: {where}."
    for dataset, rows in table.groupby("dataset", sort=False) if len(table) else ():
        epochs = rows.epochs.max()
        runs = answer.planned(rows[rows.epochs == epochs])
        if len(runs) and not dataset.endswith(everything.ASIDE) and dataset != "shapes10":
            about = f"**{dataset}**, {runs.train_images.iloc[0]:,} training images, {epochs} epochs"
            places = (runs.hardware + ", " + runs.precision).unique()
            words = " ".join(answer.sentences(runs)) + where
            parts.append(f"{about}, {'; '.join(places)}. {words}\n\n{comparison(runs, steps)}")
            if runs.seed.nunique() >= plan.SEEDS:
                parts.append(f"Against plain networks of the same cost:\n\n{controls(runs)}")
    return "\n\n".join(parts) or "No network of the plan has been trained on a whole dataset yet."


def comparison(runs: pd.DataFrame, steps: pd.Series | None = None) -> str:
    """The table of the plan's networks as Markdown; runs: from `answer.planned`.

    steps: by name, how many times the plain network's step a training step takes.
    Before the last seed it shows the accuracies alone, each seed's: nobody tests before the end.
    """
    found = means(runs)
    shown = pd.DataFrame({
        "network": found.index.map(labels(runs)),
        "seeds": found.n.astype(str),
        "accuracy (%)": numbers(found["mean"], "{:.2f}"),
    }, found.index)  # fmt: skip
    if runs.seed.nunique() < plan.SEEDS:
        each = runs.sort_values("seed").groupby("name").test_accuracy
        shown["of each seed"] = each.agg(lambda found: ", ".join(found.map("{:.2f}".format)))
    else:
        shown["95 % interval"] = intervals(found.low, found.high, "{:.2f} to {:.2f}")
    if runs.seed.nunique() >= plan.SEEDS:
        pairs = answer.differences(runs).reindex(found.index)
        shown["minus plain"] = numbers(pairs.difference, "{:+.2f}")
        shown["its interval"] = intervals(pairs.low, pairs.high, "{:+.2f} to {:+.2f}")
        shown["p (Holm)"] = numbers(pairs.p_corrected, "{:.3f}")
        shown[f"p of ±{plan.MARGIN} (Holm)"] = numbers(pairs.equal_p, "{:.3f}")
        shown["verdict"] = pairs.verdict.fillna("–")
    shown["parameters"] = numbers(found.parameters, "{:,.0f}")
    shown["MFLOPs"] = numbers(found.mflops, "{:.1f}")
    if steps is not None:
        shown["training step"] = numbers(steps.reindex(found.index), "× {:.2f}")
    return as_markdown(shown)


def controls(runs: pd.DataFrame) -> str:
    """Each block minus each plain network of its cost, as Markdown; runs: all seeds of the plan."""
    pairs, short = answer.at_equal_cost(runs), labels(runs)
    shown = pd.DataFrame({
        "network": pairs["name"].map(short),
        "minus": pairs.baseline.map(short),
        "points": numbers(pairs.difference, "{:+.2f}"),
        "95 % interval": intervals(pairs.low, pairs.high, "{:+.2f} to {:+.2f}"),
        f"p (Holm, of {plan.FAMILY * len(plan.CONTROLS)})": numbers(pairs.p_corrected, "{:.3f}"),
    })  # fmt: skip
    return as_markdown(shown)


def recipe(path: Path) -> str:
    """What was tried for the recipe, the best first, as Markdown."""
    tried = read_record(path, TRIALS)
    rows = sorted(tried["rows"], key=lambda row: (-row["epochs"], -row["accuracy"]))
    shown = pd.DataFrame([
        {**{name.replace("_", " "): value for name, value in row["recipe"].items()},
         "epochs": row["epochs"], "accuracy (%)": f"{row['accuracy']:.2f}"}
        for row in rows
    ])  # fmt: skip
    return (
        f"ResNet-20 without a block, trained on {tried['images']:,} images and tested on "
        f"{tried['held_out']:,} training images held out; one seed each ("
        f"{', '.join(map(str, sorted({row['seed'] for row in rows})))}), on {tried['machine']}, "
        f"at commit {tried['commit']}.\n\n{as_markdown(shown)}\n\n" + "\n\n".join(tried["notes"])
    )


def write(path: str | Path, content: str) -> None:
    """Write the file whole, if it has changed."""
    path = Path(path)
    if not path.exists() or path.read_text(encoding="utf-8") != content:
        with replacing(path) as temporary:
            temporary.write_text(content, encoding="utf-8")


if __name__ == "__main__":
    write(Path(__file__).resolve().parents[2] / "RESULTS.md", text())
