"""Records into tables: what README and notebooks report is read from here."""

import json
from pathlib import Path

import pandas as pd

from attention.settings import home

KEYS = ("name", "run", "dataset", "result", "cost", "machine")


def read_record(path, keys=KEYS):
    """One record, a dict with these keys. Raises ValueError that names a file which is none."""
    path = Path(path)
    try:
        record = json.loads(path.read_text(encoding="utf-8"))
        return {key: record[key] for key in keys}
    except (ValueError, KeyError, TypeError) as error:
        raise ValueError(
            f"{path.name} in {path.parent} is not a record ({error!r}): remove it to have it made "
            "anew"
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
            "hardware": r["machine"]["hardware"],
            "precision": r["machine"]["precision"],
        }
        for r in records
    ])  # fmt: skip
