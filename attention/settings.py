"""What the environment says: where files lie, and how large the runs are.

ATTENTION_HOME      the folder that holds data/ and figures/; else the checkout, else here
ATTENTION_PROFILE   smoke (seconds), quick (a CPU, minutes) or full (a GPU)
ATTENTION_DATA      the dataset, see `attention.load`
"""

import os
from pathlib import Path

import torch

from attention.checks import one_of

# What a run takes from its profile where it does not say it itself.
PROFILES = {
    "smoke": {"epochs": 1, "train_images": 256, "test_images": 200},
    "quick": {"epochs": 8},
    "full": {"epochs": 24},
}


def home():
    """The folder that holds data/ and figures/."""
    if chosen := os.environ.get("ATTENTION_HOME"):
        return Path(chosen).expanduser().resolve()
    checkout = Path(__file__).resolve().parent.parent
    return checkout if (checkout / "pyproject.toml").exists() else Path.cwd()


def profile():
    """The profile's name: `ATTENTION_PROFILE`, or "full" with a CUDA device, else "quick"."""
    default = "full" if torch.cuda.is_available() else "quick"
    return one_of("ATTENTION_PROFILE", os.environ.get("ATTENTION_PROFILE") or default, PROFILES)
