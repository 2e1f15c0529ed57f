"""RESULTS.md, written from the records: `python -m attention.results.report`."""

from pathlib import Path

import pandas as pd

from attention.files import read_record, replacing
from attention.results import answer, choices, everything, fresh, lengths, plan, scale, speed
from attention.results.guide import guide
from attention.results.overview import COST_COLUMNS, intervals, numbers
from attention.results.statistics import means, pooled
from attention.results.tables import as_markdown, beside, frame, labels, read, read_costs
from attention.settings import home

# Trials of a recipe, each of one seed, on training images held out.
TRIALS = {"images": int, "held_out": int, "machine": str, "commit": str, "notes": [str],
          "rows": [{"epochs": int, "seed": int, "accuracy": float, "recipe": dict}]}  # fmt: skip
EXPLORATORY = """\
These tables are exploratory: they show what was trained, with how many seeds, and no verdict
follows from them. The plain network and the block that led have the seeds of both plans. SimAM,
which led the others with seed 0, has five where the plan has three or fewer (notebook 10).
Shapes-10 are images that the package draws itself."""
OBJECTIONS = """\
One recipe for all, tuned for the network without a block: would another learning rate, or a start
as the identity, have served a block better? Trained on the held-out images, as long as all that is
chosen among there; the recipe's learning rate is 0.14. Exploratory. A difference is that within a
seed, not that of the two means: some seeds are hard for all. The noise is estimated from these runs
and from the later seeds of the other networks on these images."""
CHOSEN_AMONG = """\
The ablations of notebook 9, and of notebook 10 the search for the hybrid, its parts, its cheaper
forms, and other recipes: trained on nine tenths of the training images for half as long as the
comparison, measured on the last tenth.
Exploratory, too. A hybrid is told by its parts: positions mixed by → channel score (what pools
before it) & spatial score, how they combine."""
TITLE = """\
# Results

This file is written by `make results` from the records in `data/`; a test fails when it is stale.
"""


def text(folder: str | Path | None = None) -> str:
    """The whole file, from the records below `folder`; None: data at home."""
    folder = Path(folder) if folder else home() / "data"
    parts = [TITLE, "## The plan", plan.TEXT, plan.AGAIN, "## The answer", answered(folder)]
    if tables := everything.text(folder):
        parts += ["## Every network that was trained", EXPLORATORY, tables]
    if tables := everything.held_out(folder):
        parts += ["## Chosen among, on held-out images", CHOSEN_AMONG, tables]
    if (path := folder / "benchmarks" / "recipe.json").exists():
        parts += ["## The recipe", recipe(path)]
    if tables := objected(folder):
        parts += ["## Another recipe for a block", OBJECTIONS, tables]
    if costs := speed.text(folder / "benchmarks"):
        parts += ["## What it costs", costs]
    if (path := folder / "benchmarks" / "scale.json").exists():
        parts += ["## A thousand runs", scale.text(path)]
    return "\n".join(part.rstrip() + "\n" for part in parts)


def answered(folder: str | Path | None = None, short: bool = False) -> str:
    """The comparison of the plan, for each dataset of real images that it has runs on.

    folder: as in `text`. short: without what stands behind its sentences, the p and the controls.
    """
    folder = Path(folder) if folder else home() / "data"
    records, parts, costs, where = read(folder / "runs"), [], None, ""
    table = frame(records)
    if (path := folder / "benchmarks" / "mechanisms.json").exists():
        costs, where = read_costs(path)
        where = f" Training step: {where}."
    for dataset, rows in table.groupby("dataset", sort=False) if len(table) else ():
        runs = answer.planned(rows)
        if len(runs) and not dataset.endswith(everything.ASIDE) and dataset != "shapes10":
            about = f"**{dataset}**, {runs.train_images.iloc[0]:,} training images, "
            about += f"{runs.epochs.iloc[0]} epochs"
            places = (runs.hardware + ", " + runs.precision).unique()
            longer = lengths.by_length([r for r in records if r["dataset"]["name"] == dataset])
            again = fresh.asked_again(rows)
            said = answer.sentences(runs, short)
            said += [] if again is None else [fresh.sentence(again)]
            said += [lengths.sentence(longer)] if len(longer) else []
            said = "\n".join(f"- {sentence}" for sentence in said)
            parts.append(f"{about}, {'; '.join(places)}.{where}\n\n{said}")
            parts.append(comparison(runs, None if costs is None else costs.time, short))
            if not short and runs.seed.nunique() >= plan.SEEDS:
                parts.append(f"Against plain networks of the same cost:\n\n{controls(runs)}")
                if costs is not None:
                    parts += expected(runs, costs.time) + [advice(beside(runs, costs))]
            if again is not None and not short:
                parts += ["**The block that led, on fresh seeds**:", fresh.markdown(again)]
            if len(longer) and not short:
                parts.append(f"**Trained for longer**:\n\n{lengths.markdown(longer)}")
    return "\n\n".join(parts) or "No network of the plan has been trained on a whole dataset yet."


def comparison(runs: pd.DataFrame, steps: pd.Series | None = None, short: bool = False) -> str:
    """The table of the plan's networks as Markdown; runs: from `answer.planned`.

    steps: by name, how many times the plain network's step a training step takes. short: no p.
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
        if not short:
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


def expected(runs: pd.DataFrame, steps: pd.Series) -> list[str]:
    """Where the plan was wrong about time: a block that it took to be faster than ResNet-26.

    runs: from `answer.planned`. steps: as in `comparison`. A sentence a block, in a list.
    """
    short, names = labels(runs), runs.drop_duplicates("name").set_index("name")
    [deeper] = names.index[names.network == "resnet26"]
    return [
        f"The plan took {short[name]} to be faster than {short[deeper]}; measured, its training "
        f"step takes × {steps[name]:.2f} the plain network's, that of {short[deeper]} "
        f"× {steps[deeper]:.2f}."
        for name in names.index[names.block.isin(plan.FASTER)]
        if steps.get(name, 0) > steps.get(deeper, float("inf"))
    ]


def advice(runs: pd.DataFrame) -> str:
    """The decision guide of `guide.guide` as Markdown, by the plan's model.

    runs: all seeds of the plan, with what the networks cost.
    """
    [plain] = runs[runs.role == "plain"].name.unique()
    found = guide(runs, plain, margin=plan.MARGIN, test=pooled)
    found = found[found.choice.notna()]
    short = labels(runs)
    words = {f"^{column} ": f"{heading} " for column, (heading, _) in COST_COLUMNS.items()}
    limits = found.budget.replace(words, regex=True)
    other = found.choice != found.best
    shown = pd.DataFrame({
        "budget": limits + found["plain's times"].map(" (plain × {:g})".format),
        "take": found.choice.map(short),
        "accuracy (%)": numbers(found["mean"], "{:.2f}"),
        "the most accurate within it": found.best.map(short),
        "take minus that": numbers(found.difference.where(other), "{:+.2f}"),
        "at least": numbers(found.difference_low.where(other), "{:+.2f}"),
        "networks as good": found.as_good.str.len(),
    })  # fmt: skip
    return (
        "**What to take within a budget**: the cheapest network that is shown to be less than half "
        "a point worse than the most accurate one that keeps to it (one-sided, 95 %).\n\n"
    ) + as_markdown(shown)


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


def objected(folder: Path) -> str:
    """The networks of the plan by other recipes, as Markdown; "" while there is none."""
    table, parts = frame(read(folder / "runs")), []
    if len(table):
        table = table[table.dataset.str.endswith(everything.HELD_OUT)]
    for (dataset, epochs), rows in table.groupby(["dataset", "epochs"]) if len(table) else ():
        runs, pairs = choices.objections(rows)
        if (runs.choice != choices.AS_COMPARED).any():
            parts.append(f"**{dataset}**, {epochs} epochs:\n\n{choices.markdown(runs, pairs)}")
    return "\n\n".join(parts)


def write(path: str | Path, content: str) -> None:
    """Write the file whole, if it has changed."""
    path = Path(path)
    if not path.exists() or path.read_text(encoding="utf-8") != content:
        with replacing(path) as temporary:
            temporary.write_text(content, encoding="utf-8")


if __name__ == "__main__":
    write(Path(__file__).resolve().parents[2] / "RESULTS.md", text())
