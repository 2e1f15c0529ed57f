"""What the environment says: where files lie, and how large the runs are.

ATTENTION_HOME      the folder that holds data/ and figures/; else the checkout, else here
ATTENTION_PROFILE   smoke (seconds), quick (a CPU, minutes) or full (a GPU)
ATTENTION_DATA      the dataset, a name or a path: see `attention.load`
ATTENTION_OFFLINE   1: nothing is downloaded
ATTENTION_MINUTES   how long a notebook may train, in every profile; what is missing stays missing
ATTENTION_RETRAIN   1: train again what comes trained with the repository

A variable that is empty counts as not set. Each is read where it is used, never at import.
"""

import math
import os
from pathlib import Path

import torch

from attention.checks import one_of

# What a run takes from its profile where it does not say it itself.
PROFILES = {
    "smoke": {"epochs": 1, "train_images": 256, "test_images": 200, "batch_size": 64},
    "quick": {"epochs": 10},
    "full": {"epochs": 30},
}
OFF, ON = ("", "0", "false", "no", "off"), ("1", "true", "yes", "on")  # of ATTENTION_OFFLINE


def home() -> Path:
    """The folder that holds data/ and figures/; it need not be there yet."""
    if chosen := os.environ.get("ATTENTION_HOME"):
        try:
            folder = Path(chosen).expanduser().resolve()
        except (RuntimeError, ValueError, OSError) as error:  # no such user, a NUL, a loop of links
            raise ValueError(f"ATTENTION_HOME must be a folder, got {chosen!r} ({error})") from None
        if folder.exists() and not folder.is_dir():
            raise ValueError(f"ATTENTION_HOME must be a folder, and {folder} is a file")
        return folder
    return checkout() or Path.cwd()


def checkout() -> Path | None:
    """The repository that this package lies in, with what comes trained in data/runs/; or None."""
    folder = Path(__file__).resolve().parent.parent
    return folder if (folder / "pyproject.toml").exists() else None


def retrain() -> bool:
    """Whether `ATTENTION_RETRAIN` is 1: nothing that comes trained is used then."""
    chosen = os.environ.get("ATTENTION_RETRAIN") or "0"
    return one_of("ATTENTION_RETRAIN", chosen, ("0", "1")) == "1"


def profile() -> str:
    """The profile's name: `ATTENTION_PROFILE`, or "full" with a CUDA device, else "quick"."""
    default = "full" if torch.cuda.is_available() else "quick"
    return one_of("ATTENTION_PROFILE", os.environ.get("ATTENTION_PROFILE") or default, PROFILES)


def minutes() -> float | None:
    """How long a notebook may train, in minutes; None: as long as it takes.

    `ATTENTION_MINUTES` in every profile; where it is not set, 1 in the quick profile and no limit
    in the others. Records that are there already cost nothing.
    """
    chosen = os.environ.get("ATTENTION_MINUTES")
    if not chosen:
        return 1 if profile() == "quick" else None
    try:
        limit = float(chosen)
    except ValueError:
        limit = math.nan
    if not 0 < limit < math.inf:
        raise ValueError(f"ATTENTION_MINUTES must be a number of minutes above 0, got {chosen!r}")
    return limit


def offline() -> bool:
    """Whether ATTENTION_OFFLINE forbids downloads. An unclear value is an error, not a guess."""
    chosen = os.environ.get("ATTENTION_OFFLINE", "").strip().lower()
    return one_of("ATTENTION_OFFLINE", chosen, (*OFF, *ON)) in ON
