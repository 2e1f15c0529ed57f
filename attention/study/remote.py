"""What a machine of a cluster does: one run, from JSON text to JSON text and the weights' bytes."""

import contextlib
import json
import os
import platform
import tempfile
import warnings
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch

from attention.data import DataError, Dataset, Split, load
from attention.study.grids import GRIDS
from attention.training import Files, Run, fit, key

SENT = ("train", "test")  # the splits that a training needs
_kept: dict[tuple[str, str], Dataset] = {}  # the dataset of this process, by name and checksum


def job(
    run: Run, data: Dataset, threads: int, scratch: str | None = None, grid: str | None = None
) -> str:
    """The text that `train` takes: the run with nothing left open, and what it is about.

    threads: of torch. scratch: a folder that all machines see, for checkpoints; None: they stay
    where the run is. grid: the one whose dataset the machine reads itself; None: it is sent.
    """
    told = {"run": run.resolved().plain(), "key": key(run, data), "threads": threads}
    told |= {"name": data.name, "checksum": data.checksum, "grid": grid, "scratch": scratch}
    return json.dumps(told)


def packed(data: Dataset) -> dict[str, Any]:
    """A dataset as arrays, of which the machines of a cluster share one copy each."""
    splits = {name: data.splits[name] for name in SENT}
    arrays = {f"{name}_images": split.images.numpy() for name, split in splits.items()}
    arrays |= {f"{name}_labels": split.labels.numpy() for name, split in splits.items()}
    return {"name": data.name, "classes": data.classes, **arrays}


def train(job: str, images: Mapping[str, Any] | None = None, gpu: str | None = None) -> tuple:
    """Train one run; give (JSON text, the bytes of its weights) and raise nothing.

    job: from `job`. images: from `packed`, or None where the machine reads them itself. gpu: the
    one that the run may use, as Ray names it; None: the CPU.

    The text has "host", and one of "record"; "left out", why this run has none; "memory", that it
    needs more of a GPU; and "error", what would stop any other run too.
    """
    told, weights = {"host": platform.node()}, b""
    try:
        wanted = json.loads(job)
        torch.set_num_threads(wanted["threads"])
        run, data = Run(**wanted["run"]), _dataset(wanted, images)
        if key(run, data) != wanted["key"]:
            raise ValueError(
                f"{run.name} is another network here than where the study was started "
                f"({key(run, data)}, and not {wanted['key']}): give all machines the same version "
                "of this package"
            )
        with _home(wanted["scratch"]):
            files = Files(run, data)
            told["record"] = fit(run, data, device(gpu), progress=False)
            weights = files.weights.read_bytes()
            for path in (files.record, files.weights):  # of a folder that stays
                path.unlink(missing_ok=True)
    except FloatingPointError as error:
        told["left out"] = str(error)
    except torch.cuda.OutOfMemoryError as error:
        told["memory"] = str(error)
    except Exception as error:  # sent as text: nobody has to unpickle it
        told["error"] = f"{type(error).__name__}: {error}"
    if gpu is not None and torch.cuda.is_available():
        torch.cuda.empty_cache()  # others share the card
    return json.dumps(told), weights


def device(gpu: str | None) -> str:
    """torch's name of the GPU that Ray names, one of those that this process sees; else "cpu"."""
    if gpu is None:
        return "cpu"
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    return f"cuda:{visible.split(',').index(gpu) if visible else gpu}"


def _dataset(wanted: dict, images: Mapping[str, Any] | None) -> Dataset:
    """The dataset of a job, sent or read, which must be the one that the study is about."""
    about = wanted["name"], wanted["checksum"]
    if about not in _kept:
        data = GRIDS[wanted["grid"]].data(load()) if images is None else _unpacked(images)
        if (data.name, data.checksum) != about:
            raise DataError(
                f"another dataset than that of the study: found {data!r} with checksum "
                f"{data.checksum[:12]}…, expected {wanted['name']} with {wanted['checksum'][:12]}…;"
                " give all machines the same ATTENTION_DATA, or have it sent to them (no --read)"
            )
        _kept.clear()
        _kept[about] = data
    return _kept[about]


def _unpacked(images: Mapping[str, Any]) -> Dataset:
    def tensor(array: np.ndarray) -> torch.Tensor:
        with warnings.catch_warnings():  # it is shared and cannot be written: nothing here does
            warnings.filterwarnings("ignore", message="The given NumPy array is not writable")
            return torch.from_numpy(array)

    splits = {
        name: Split(tensor(images[f"{name}_images"]), tensor(images[f"{name}_labels"]))
        for name in SENT
    }
    return Dataset(images["name"], classes=tuple(images["classes"]), **splits)


@contextlib.contextmanager
def _home(scratch: str | None) -> Iterator[Path]:
    """A home for one run: the folder that all machines see, or one that goes with the run."""
    before = os.environ.get("ATTENTION_HOME")
    with contextlib.ExitStack() as stack:
        if scratch is None:
            scratch = stack.enter_context(tempfile.TemporaryDirectory(prefix="attention-"))
        os.environ["ATTENTION_HOME"] = scratch
        try:
            yield Path(scratch)
        finally:
            del os.environ["ATTENTION_HOME"]
            if before is not None:
                os.environ["ATTENTION_HOME"] = before
