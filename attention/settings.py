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
    "smoke": {"epochs": 1, "train_images": 256, "test_images": 200, "batch_size": 64},
    "quick": {"epochs": 10},
    "full": {"epochs": 30},
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


# What a run takes from its network where it does not say it itself: each family needs its own.
RECIPES = {
    "fast": {
        "batch_size": 512,
        "learning_rate": 0.75,
        "norm_bias_rate": 64,
        "warmup": 0.23,
        "momentum": 0.85,
        "weight_decay": 1.3e-3,
        "label_smoothing": 0.2,
        "crop": 2,
    },
    "resnet": {
        "batch_size": 128,
        "learning_rate": 0.1,
        "norm_bias_rate": 1,
        "warmup": 0.2,
        "momentum": 0.9,
        "weight_decay": 5e-4,
        "label_smoothing": 0.1,
        "crop": 4,
    },
}


def recipe(network):
    """The recipe of a network's family: "resnet56" → that of "resnet"."""
    return RECIPES[network.rstrip("0123456789")]
