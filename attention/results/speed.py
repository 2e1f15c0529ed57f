"""What attention costs, as Markdown: from what `python -m attention.benchmark` has measured."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pandas as pd

from attention.files import read_record
from attention.results.overview import numbers
from attention.results.tables import as_markdown

RECORD = {"machine": {"hardware": str, "threads": int, "precision": str, "torch": str},
          "rounds": int, "batch_size": int, "rows": [dict]}  # fmt: skip
KEPT = "What a block keeps for the backward pass, its input among it, in maps."
NOTES = {  # behind where a table was measured
    "networks": " This is another measurement than that of the training steps above; the ratios of "
    "two measurements differ by a few percent."
}
FORMS = ("here", "here, fused", "timm", "torchvision")


def text(folder: str | Path) -> str:
    """All tables of what was measured, from the files in `folder`; "" where there is none."""
    parts = []
    for name, (title, table) in TABLES.items():
        path = Path(folder) / f"{name}.json"
        if path.exists():
            record = read_record(path, RECORD)
            rows = pd.DataFrame(record["rows"])
            about = _where(record) + NOTES.get(name, "")
            parts.append(f"**{title}** {about}\n\n{as_markdown(table(rows))}")
            if name == "blocks" and "kept" in rows:
                parts.append(f"**{KEPT}**\n\n{as_markdown(kept(rows))}")
            if "note" in record:  # written by hand about this measurement: the next has none
                parts.append(record["note"])
    return "\n\n".join(parts)


def _where(record: Mapping[str, Any]) -> str:
    machine = record["machine"]
    return (
        f"On {machine['hardware']}, {machine['threads']} threads, torch {machine['torch']}; "
        f"in turns, medians of {record['rounds']} rounds, ratios within a round."
    )


def blocks(rows: pd.DataFrame) -> pd.DataFrame:
    """Blocks as multiples of a product with a given gate, a column a library."""
    rows = rows[rows.block.isin(["se", "eca", "cbam", "bam"])]
    index = ["shape", "precision", "block", "bound"]
    wide = rows.pivot_table("times", index, "form", sort=False).reset_index()
    forms = [form for form in FORMS if form in wide]
    words = {form: numbers(wide[form], "{:.2f}") for form in forms}
    bound = wide.bound.map("{:.1f}".format)
    about = {"shape": wide["shape"], "precision": wide.precision, "block": wide.block}
    return pd.DataFrame({**about, **words, "bound by bytes": bound})


def kept(rows: pd.DataFrame) -> pd.DataFrame:
    """What the same blocks keep from forward to backward, in the first precision."""
    rows = rows[rows.block.isin(["se", "eca", "cbam", "bam"])]
    rows = rows[rows.precision == rows.precision.iloc[0]]
    index = ["shape", "precision", "block"]
    wide = rows.pivot_table("kept", index, "form", sort=False).reset_index()
    forms = {form: numbers(wide[form], "{:.2f}") for form in FORMS if form in wide}
    return pd.DataFrame({**{name: wide[name] for name in index}, **forms})


def networks(rows: pd.DataFrame) -> pd.DataFrame:
    """One training step of ResNet-20 with each block."""
    return pd.DataFrame({
        "network": rows.network, "form": rows.form,
        "step (ms)": rows.step_ms.map("{:.1f}".format),
        "times plain as written": rows.times.map("{:.2f}".format),
        "times plain in the same form": rows.own.map("{:.2f}".format),
    })  # fmt: skip


def trainer(rows: pd.DataFrame) -> pd.DataFrame:
    """`fit` beside other loops."""
    return pd.DataFrame({
        "fit beside": rows.compared, "fit (images/s)": rows.fit.map("{:,.0f}".format),
        "the other (images/s)": rows.other.map("{:,.0f}".format),
        "fit, times the other": rows.times.map("{:.2f}".format),
    })  # fmt: skip


def inference(rows: pd.DataFrame) -> pd.DataFrame:
    """An answer, as multiples of the plain network's as it is written."""
    index = ["network", "form"]
    wide = rows.pivot_table(["times", "ms"], index, "batch", sort=False)
    shown = {}
    for batch in sorted(rows.batch.unique()):
        shown[f"batch {batch} (ms)"] = numbers(wide["ms", batch], "{:.2f}")
        shown[f"batch {batch}, times plain"] = numbers(wide["times", batch], "{:.2f}")
    table = pd.DataFrame(shown, wide.index)
    if "folds" in rows:
        folds = rows.drop_duplicates(index).set_index(index).folds.reindex(wide.index)
        table["gates folded"] = numbers(folds.astype(float), "{:.0f}")
    return table.reset_index()


def growth(rows: pd.DataFrame) -> pd.DataFrame:
    """The exponents with which cost grows."""
    words = [
        f"{exponent:.2f} ± {error:.2f} ({over[0]} to {over[-1]})"
        for exponent, error, over in zip(rows.exponent, rows.error, rows["values"], strict=True)
    ]
    rows = rows.assign(words=words)
    wide = rows.pivot(index="block", columns="grows with", values="words")
    return wide.reindex(rows.block.unique()).reset_index()


TABLES = {
    "networks": ("One training step of ResNet-20, a batch of 64.", networks),
    "blocks": ("Blocks alone, forward and backward, as multiples of one product with a given gate.",
               blocks),
    "trainer": ("The trainer.", trainer),
    "inference": ("An answer, in float32.", inference),
    "growth": ("Time grows as the power of …", growth),
}  # fmt: skip
