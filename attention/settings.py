"""What the environment says: where files lie, and how large the runs are.

ATTENTION_HOME      the folder that holds data/ and figures/; else the checkout, else here
ATTENTION_PROFILE   smoke (seconds), quick (a CPU, minutes) or full (a GPU)
ATTENTION_DATA      the dataset, see `attention.load`
ATTENTION_MINUTES   how long a notebook may train for a study; what is missing then stays missing
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

# The setting in which many networks are compared. On a CPU each is a quarter as wide as alone, and
# learns for three epochs, so that each takes minutes.
COMPARISON = {
    "smoke": {"epochs": 1, "width": {"fast": 16, "vit": 32, "convvit": 32}},
    "quick": {"epochs": 3, "width": {"fast": 16, "vit": 64, "convvit": 64}},
    "full": {"epochs": 30, "width": {}},
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


def minutes():
    """How long a notebook may train for a study, in minutes; None: as long as it takes.

    `ATTENTION_MINUTES`, or 10 in the quick profile and no limit in the others. Records that are
    there already cost nothing.
    """
    if chosen := os.environ.get("ATTENTION_MINUTES"):
        try:
            return float(chosen)
        except ValueError:
            raise ValueError(f"ATTENTION_MINUTES must be a number, got {chosen!r}") from None
    return 10 if profile() == "quick" else None


def comparison(network="fast"):
    """The arguments of `Run` with which this profile compares many networks.

    Run(block="sse", **comparison())         Run(**comparison("vit"))
    """
    setting = COMPARISON[profile()]
    return {"network": network, "epochs": setting["epochs"], "width": setting["width"].get(network)}


# What a run takes from its network where it does not say it itself: each family needs its own.
TRANSFORMER = {
    "optimizer": "adamw",
    "batch_size": 128,
    "learning_rate": 1e-3,
    "norm_bias_rate": 1,
    "warmup": 0.15,
    "momentum": 0.9,
    "weight_decay": 0.05,
    "label_smoothing": 0.1,
    "crop": 4,
}
RECIPES = {
    "fast": {
        "optimizer": "sgd",
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
        "optimizer": "sgd",
        "batch_size": 128,
        "learning_rate": 0.1,
        "norm_bias_rate": 1,
        "warmup": 0.2,
        "momentum": 0.9,
        "weight_decay": 5e-4,
        "label_smoothing": 0.1,
        "crop": 4,
    },
    "vit": TRANSFORMER,
    "convvit": TRANSFORMER,
}


def recipe(network):
    """The recipe of a network's family: "resnet56" → that of "resnet"."""
    return RECIPES[network.rstrip("0123456789")]
