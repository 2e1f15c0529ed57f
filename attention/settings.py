"""What the environment says: where files lie, and how large the runs are.

ATTENTION_HOME      the folder that holds data/ and figures/; else the checkout, else here
ATTENTION_PROFILE   smoke (seconds), quick (a CPU, minutes) or full (a GPU)
ATTENTION_DATA      the dataset, a name or a path: see `attention.load`
ATTENTION_OFFLINE   1: nothing is downloaded
ATTENTION_MINUTES   how long a notebook may train, in every profile; what is missing stays missing
ATTENTION_RETRAIN   1: train again what comes trained with the repository
ATTENTION_COMPILED  1: compile what is trained; auto: where it pays; else 0
ATTENTION_CUDA_GRAPHS  1: on a GPU, record the training step once and replay it

A variable that is empty counts as not set. Each is read where it is used, never at import. A
notebook's form sets them by `choose`.
"""

import math
import os
import sys
from pathlib import Path

import torch

from attention.checks import one_of

# What a run takes from its profile where it does not say it itself.
PROFILES = {
    "smoke": {"epochs": 1, "train_images": 256, "test_images": 200, "batch_size": 64},
    "quick": {"epochs": 10},
    "full": {"epochs": 30},
}
# Minutes that a notebook trains where nobody says how long; None: as long as it takes.
MINUTES = {"smoke": None, "quick": 1, "full": 30}
AUTOMATIC = "automatic"  # in a notebook's form: as the environment says
DRIVE = Path("/content/drive")  # where Colab mounts it
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


def gpu() -> str | None:
    """The name of the GPU; None without one, or with one that this torch has no code for.

    Kaggle's P100 is such a one: `torch.cuda.is_available()` is true, and the first operation fails.
    """
    if not torch.cuda.is_available():
        return None
    major, minor = torch.cuda.get_device_capability()
    has, fits = 10 * major + minor, False
    for name in torch.cuda.get_arch_list():
        kind, _, number = name.partition("_")
        built = int(number.rstrip("af")) if kind in ("sm", "compute") else None
        # sm: machine code, for this and later minor versions; compute: it is made when it is loaded
        fits |= built is None or (built <= has and (kind == "compute" or built // 10 == major))
    return torch.cuda.get_device_name() if fits else None


def profile() -> str:
    """The profile's name: `ATTENTION_PROFILE`, or "full" with a GPU (`gpu`), else "quick"."""
    default = "full" if gpu() else "quick"
    return one_of("ATTENTION_PROFILE", os.environ.get("ATTENTION_PROFILE") or default, PROFILES)


def minutes() -> float | None:
    """How long a notebook may train, in minutes; None: as long as it takes.

    `ATTENTION_MINUTES` in every profile; where it is not set, `MINUTES`. Records that are there
    already cost nothing.
    """
    chosen = os.environ.get("ATTENTION_MINUTES")
    if not chosen:
        return MINUTES[profile()]
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


def place() -> str | None:
    """ "Kaggle" or "Colab", if this is a notebook there; else None."""
    if "KAGGLE_KERNEL_RUN_TYPE" in os.environ:  # its image is made from Colab's, so it comes first
        return "Kaggle"
    return "Colab" if "google.colab" in sys.modules else None


def choose(
    profile: str = AUTOMATIC, data: str = AUTOMATIC, minutes: str = AUTOMATIC, drive: bool = False
) -> None:
    """Set the environment as a notebook's form says, and print what the notebook will run on.

    profile, data, minutes: the values of the environment variables; "automatic": as they were when
    this was first called. drive: on Colab, keep data/ and figures/ on Google Drive, where the next
    session finds them: what has a record there is not trained again. Elsewhere it means nothing.

    Raises ValueError for what cannot be meant, RuntimeError if the Drive cannot be mounted.
    """
    chosen = {"PROFILE": profile, "DATA": data, "MINUTES": minutes, "HOME": AUTOMATIC}
    if drive and place() == "Colab":
        chosen["HOME"] = str(_mounted() / "attention-course")
    for name, value in chosen.items():
        before = _BEFORE.setdefault(name, os.environ.get(f"ATTENTION_{name}", ""))
        os.environ[f"ATTENTION_{name}"] = before if value == AUTOMATIC else str(value)
    print(*_about(), sep="\n")


_BEFORE = {}  # the variables as they were before the first `choose`


def _mounted():
    """The folder of the Drive."""
    from google.colab import drive  # it is there on Colab, and nowhere else

    folder = DRIVE / "MyDrive"
    try:
        if not folder.exists():
            drive.mount(str(DRIVE))
    except Exception as error:  # whatever Colab raises when somebody says no
        raise RuntimeError(
            f"Google Drive could not be mounted ({error}): run this cell again, or untick "
            "keep_on_drive: then the results go with the machine"
        ) from error
    return DRIVE / "MyDrive"


def _about():
    """A line each: the device, the profile, the dataset, the minutes, the results."""
    limit, where, found = minutes(), place(), gpu()
    device = found or f"no GPU, {torch.get_num_threads()} threads of the CPU"
    if not found and torch.cuda.is_available():
        device = f"the CPU: this torch has no code for the {torch.cuda.get_device_name()}"
    yield f"device    {device}"
    if not found and where == "Colab":
        yield "          for a GPU: Runtime, Change runtime type, T4 GPU; then Run all"
    if not found and where == "Kaggle":
        yield "          for a GPU: Settings, Accelerator, GPU T4 x2; then Run all"
    yield f"profile   {profile()}"
    data = Path(os.environ.get("ATTENTION_DATA") or "auto").name
    meant = ": CIFAR-10 if it can be had, else Shapes-10" if data == "auto" else ""
    yield f"dataset   {data}{meant}"
    missing = "for what has no record yet; what a notebook cannot do without comes on top"
    yield "minutes   " + ("no limit" if limit is None else f"at most {limit:g} {missing}")
    kept = {
        "Colab": "gone with this machine; keep_on_drive keeps them",
        "Kaggle": "kept with a saved version, or with Settings, Persistence, Files only",
    }.get(where, "in the folder of the course")
    yield f"results   {'in ATTENTION_HOME' if os.environ.get('ATTENTION_HOME') else kept}"


def compiled() -> bool | None:
    """Whether `fit` compiles the networks that it trains; None: where it pays.

    `ATTENTION_COMPILED` is 0 (which holds where it is not set), 1 or auto.
    """
    chosen = os.environ.get("ATTENTION_COMPILED") or "0"
    return {"0": False, "1": True, "auto": None}[
        one_of("ATTENTION_COMPILED", chosen, ("0", "1", "auto"))
    ]


def cuda_graphs() -> bool:
    """Whether `fit` replays the training step on a GPU as a CUDA graph: `ATTENTION_CUDA_GRAPHS`."""
    chosen = os.environ.get("ATTENTION_CUDA_GRAPHS") or "0"
    return one_of("ATTENTION_CUDA_GRAPHS", chosen, ("0", "1")) == "1"
