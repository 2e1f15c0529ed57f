"""`fit` trains a run and writes its record; `trained` gives its network.

A record is a JSON file in data/runs/<dataset>/, and the final weights lie beside it. A run that has
a record is not trained again, nor one that comes trained with the repository. A run that was
stopped goes on from its last finished epoch, and on a CPU ends with the same weights, bit for bit.
"""

import datetime
import os
import shutil
import time
from pathlib import Path
from typing import Any

import torch
from torch import nn
from tqdm.auto import tqdm

from attention import checks, files, settings
from attention.cost import flops, parameters
from attention.data import Batches, Dataset, load, normalise
from attention.networks import whiten
from attention.settings import checkout, home, retrain
from attention.training import machine
from attention.training.ahead import announcement
from attention.training.compiled import worth_compiling
from attention.training.keys import block_of, key
from attention.training.run import Run
from attention.training.trainer import Trainer, evaluate

WHITENED = 5000  # training images that the whitening of a network is computed from


def fit(
    run: Run, data: Dataset | None = None, device: str | torch.device | None = None,
    precision: str | None = None, progress: bool | str = True, compiled: bool | None = None,
) -> dict[str, Any]:  # fmt: skip
    """Train `run`, or go on where it was stopped, or read its record if it is finished.

    run: a `Run`. data: a `Dataset`; None: `load()`.
    device: "cuda" or "cpu"; None: the GPU if there is one.
    precision: "bfloat16", "float16" or "float32"; None: what the device is fast in, or for a run
        that was stopped, the one that it was begun in.
    progress: show a bar; "passing": one that goes when the run is finished.
    compiled: train the network that `fuse` makes; None: what `ATTENTION_COMPILED` says, or for a
        run that was stopped, as it was begun. Its results differ in the rounding, as those of
        another machine do: each of the record's sessions says which it was, and how many seconds
        its first step took, in which all is compiled. What is compiled is kept in data/cache/.

    Returns the record, a dict of the form `files.RECORD`: "run", "dataset" and "result" are the
    same each time it is trained on the same machine, "cost" and "machine" are not. Accuracies are
    in percent.

    Raises FloatingPointError when a loss is not finite, with the epoch and step; OSError when a
    file cannot be written. In both cases the last finished epoch is kept, and a call goes on from
    there. ValueError for a file under the record's name that is not this run's record, and for a
    `precision` or `compiled` other than what the run was begun with; RuntimeError where it is
    to be compiled, and there is no compiler.

    On a CPU it lets this process keep the memory that it frees, see `machine.keep_memory`.
    """
    run, data, device = _checked(run, data, device, precision, progress)
    checks.one_of("compiled", compiled, (True, False, None))
    place, how = Files(run, data), (device, precision, progress, compiled)
    return _record(run, data, place) or _train(run, data, place, *how)


def trained(
    run: Run, data: Dataset | None = None, device: str | torch.device | None = None,
    precision: str | None = None, progress: bool | str = True,
) -> nn.Module:  # fmt: skip
    """The network of `run` with its final weights, in eval mode; trained first where need be.

    A record whose weights are missing or damaged says nothing about the weights that are trained
    again: it is written anew with them. A damaged file is named, and renamed to <name>.corrupt.
    """
    run, data, device = _checked(run, data, device, precision, progress)
    place = Files(run, data)
    record, weights = _record(run, data, place), None
    if record is not None:
        weights = _read(files.load_weights, place.weights, record["result"]["weights"])
        if weights is None:
            tqdm.write(f"{place.weights} is lost: {run.name}, seed {run.seed}, is trained again")
    if weights is None:
        record = _train(run, data, place, device, precision, progress)
        weights = files.load_weights(place.weights, record["result"]["weights"])
    network = run.build(len(data.classes))
    network.load_state_dict(weights)
    return network.to(device).eval()


def recorded(run: Run, data: Dataset) -> dict[str, Any] | None:
    """The record of a run that has been trained on this dataset, or None; nothing is trained.

    Raises ValueError, naming the file, for a record that cannot be read or is of another training,
    and for weights beside it that are damaged.
    """
    run, place = run.resolved(), Files(run, data)
    record = _record(run, data, place)
    if record is not None and place.weights.exists():
        files.load_weights(place.weights, record["result"]["weights"])
    return record


class Files:
    """Where the files of a run on a dataset lie.

    `ATTENTION_RETRAIN=1` keeps them apart, in data/retrained/, so that what comes trained with the
    repository is neither used nor written over.
    """

    def __init__(self, run: Run, data: Dataset) -> None:
        name, folder = key(run, data), home() / "data"
        runs = "retrained" if retrain() else "runs"
        self.record: Path = folder / runs / data.name / f"{name}.json"
        self.weights: Path = folder / runs / data.name / f"{name}.safetensors"
        self.checkpoint: Path = folder / "checkpoints" / data.name / f"{name}.pt"
        self.lock: Path = folder / "locks" / data.name / f"{name}.lock"

    def bring(self) -> None:
        """Copy what comes trained with the repository to a home elsewhere, unless it is there."""
        if retrain() or self.record.exists() or checkout() is None:
            return
        kept = checkout() / "data" / "runs" / self.record.parent.name
        for path in (self.weights, self.record):  # where the record is, the weights are
            if (kept / self.record.name).exists() and (kept / path.name).exists():
                with files.replacing(path) as temporary:
                    shutil.copyfile(kept / path.name, temporary)


def _checked(run, data, device, precision, progress):
    """The resolved run, the dataset and the device; nothing has been done when one is wrong."""
    checks.instance(Run, "run", run)
    device = checks.device("device", device)
    machine.precision(device, precision)
    checks.one_of("progress", progress, (True, False, "passing"))
    data = load() if data is None else checks.instance(Dataset, "data", data)
    return run.resolved(), data, device


def _record(run, data, place):
    """The record of this run on this dataset, and of no other; None if there is none."""
    place.bring()
    if not place.record.exists():
        return None
    record = files.read_record(place.record)
    dataset = {"name": data.name, "checksum": data.checksum}
    found = [record["run"], record["block"], {name: record["dataset"][name] for name in dataset}]
    for there, wanted in zip(found, [run.plain(), block_of(run), dataset], strict=True):
        if there != wanted:
            raise ValueError(
                f"{place.record} is the record of another training: it is of {there}, and {wanted} "
                "was asked for. Rename it or remove it"
            )
    return record


def _read(reader, path, *arguments):
    """What `reader` finds; None if there is no file, or if it is damaged, which is said."""
    try:
        return reader(path, *arguments)
    except FileNotFoundError:
        return None
    except ValueError as error:
        tqdm.write(f"{error}: set aside as {files.set_aside(path).name}, and the run begins anew")
        return None


def _train(run, data, place, device, precision, progress, compiled=None):
    """Train from the start or the checkpoint, test, and write weights and record."""
    if device.type == "cpu":
        machine.keep_memory()
    train, test = _at_most(run.train_images, data.train), _at_most(run.test_images, data.test)
    batches = Batches(train, run.batch_size, run.seed, device, data.mean, data.std, crop=run.crop)
    state = _read(files.load_checkpoint, place.checkpoint, device)
    precision = _precision(run, place, device, precision, state)
    trainer = Trainer(run, len(data.classes), run.epochs * len(batches), device, precision)
    trainer.compiled = _compiled(run, place, trainer, compiled, state, len(train), data.size)
    if state is None:
        seen = _at_most(WHITENED, train).images.to(device)
        whiten(trainer.network, normalise(seen, data.mean, data.std))
    else:
        trainer.go_on(state)
    left = run.epochs - len(trainer.history)
    if progress is True and (said := announcement(run, data, device, left)):
        tqdm.write(said)
    trainer.train(batches, place.checkpoint, progress)
    trainer.finish()
    start = time.perf_counter()
    loss, accuracy = evaluate(trainer.network, test, data, device, precision)
    seconds = time.perf_counter() - start
    trainer.check(loss, "the test loss")
    if place.weights.exists() and (record := _record(run, data, place)):
        place.checkpoint.unlink(missing_ok=True)  # another process has finished it
        return record
    finished = datetime.datetime.now(datetime.timezone.utc).isoformat(timespec="seconds")
    record = {
        "run": run.plain(),
        "name": run.name,
        "family": run.family,
        "block": block_of(run),
        "dataset": {
            "name": data.name, "checksum": data.checksum, "classes": len(data.classes),
            "train_images": len(train), "test_images": len(test), "size": list(data.size),
            "class_names": list(data.classes), "mean": data.mean.tolist(), "std": data.std.tolist(),
        },
        "result": {
            "test_accuracy": accuracy, "test_loss": loss, "history": trainer.history,
            "parameters": parameters(trainer.network),
            "flops": flops(trainer.network, (1, 3, *data.size)),
            "weights": files.save_weights(place.weights, trainer.network.state_dict()),
        },
        "cost": trainer.cost(len(train)) | {"test_seconds": seconds},
        "machine": machine.describe(device) | {"precision": precision, "finished": finished},
    }  # fmt: skip
    files.write_record(place.record, record)  # after the weights: where it is, they are
    place.checkpoint.unlink(missing_ok=True)
    return record


def _at_most(number, split):
    """So many images of a split, or all of them."""
    return split if number is None or number >= len(split) else split.spread(number)


def _precision(run, place, device, wanted, state):
    """The precision of all epochs of a run: the one that it was begun in."""
    fast = machine.precision(device, wanted)
    begun = fast if state is None else state["sessions"][0]["precision"]
    if begun != fast and wanted is not None:
        raise ValueError(
            f"precision must be {begun!r}, in which {run.name}, seed {run.seed}, was begun, got "
            f"{wanted!r}; without {place.checkpoint} it begins anew"
        )
    if begun != fast:
        tqdm.write(
            f"{run.name}, seed {run.seed}, goes on in {begun}, in which it was begun, though this "
            f"machine is fast in {fast}"
        )
    return begun


def _compiled(run, place, trainer, wanted, state, images, size):
    """Whether all epochs of a run are compiled: as it was begun, as is wanted, or as it pays."""
    chosen = settings.compiled() if wanted is None else wanted
    if state is not None:
        begun = state["sessions"][0].get("compiled", False)
        if wanted is not None and wanted != begun:
            raise ValueError(
                f"compiled must be {begun}, as {run.name}, seed {run.seed}, was begun, got "
                f"{wanted}; without {place.checkpoint} it begins anew"
            )
        chosen = begun
    if chosen is None:
        how = trainer.device, trainer.precision
        chosen = worth_compiling(trainer.network, run.epochs * images, size, *how)
    if chosen:
        # torch asks its environment; where somebody has set it, that counts
        os.environ.setdefault(
            "TORCHINDUCTOR_CACHE_DIR", str(home() / "data" / "cache" / "compiled")
        )
    return chosen
