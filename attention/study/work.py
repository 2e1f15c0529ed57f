"""Many runs: trains what has no record yet, within a budget, also in several processes at once."""

import collections
import math
import statistics
import time
from collections.abc import Sequence
from pathlib import Path

import torch
from filelock import FileLock, Timeout
from tqdm.auto import tqdm

from attention import checks
from attention.data import Dataset, load
from attention.files import read_record, set_aside
from attention.settings import home
from attention.study.ahead import announcement
from attention.training import Files, Run, fit, machine, recorded


def work(
    runs: Sequence[Run],
    data: Dataset | None = None,
    minutes: float | None = None,
    device: str | torch.device | None = None,
    progress: bool = True,
) -> list[dict]:
    """Train those of `runs` that have no record, in their order; give the records there are then.

    runs: a list of `Run`. data: a `Dataset`; None: `load()`. device: as in `fit`.
    minutes: a budget; None: no limit. A run is started only if the time it will take, estimated
        from the records on this hardware, fits into what is left; else the next that fits. While
        there is no estimate at all, a run is started. What was started is finished. With 0 minutes
        nothing is started.
    progress: show the bar of the study, with the time left for the runs that are missing.

    Stopped at any moment, the same call goes on from the last finished epoch. Processes on one
    folder share the runs: each is trained under a lock of the operating system (data/locks/), which
    goes with the process that holds it, however that ends. A run that another process holds is
    named and passed over.

    A record that cannot be read, or whose weights are damaged, is named, set aside as
    <name>.corrupt with its weights, and the run is trained again. A run whose loss is not finite,
    or that needs more memory than the GPU has, is named and left, and the others go on. An OSError
    (a full disk) ends the study.

    Raises ValueError or TypeError for arguments of another kind, before anything is trained.
    """
    if not (isinstance(runs, list | tuple) and all(isinstance(run, Run) for run in runs)):
        raise ValueError(f"runs must be a list of Run, got {runs!r}")
    budget = Budget(minutes)
    data = load() if data is None else checks.instance(Dataset, "data", data)
    device = checks.device("device", device)
    times = Times(device)
    records = {run: finished(run, data) for run in runs}
    missing = [run for run, record in records.items() if record is None]
    if progress and (said := announcement(missing, data, device, times.estimate, minutes)):
        tqdm.write(said)
    form = "{l_bar}{bar}| {n_fmt}/{total_fmt} runs [{elapsed}{postfix}]"
    with tqdm(
        total=len(records), initial=len(records) - len(missing), desc="study", bar_format=form,
        disable=not progress,
    ) as bar:  # fmt: skip
        for number, run in enumerate(missing):
            bar.set_postfix_str(times.left(missing[number:], data))
            if not budget.holds(times.estimate(run, data) or 0):
                continue
            records[run] = _train(run, data, device, progress)
            if records[run] is not None:
                times.add(records[run])
                bar.update()
        bar.set_postfix_str("")
    return [records[run] for run in runs if records[run] is not None]


def finished(run: Run, data: Dataset) -> dict | None:
    """The record of a run, or None where there is none that can be used."""
    try:
        return recorded(run, data)
    except ValueError:  # `_train`, which holds the lock, says why
        return None


def _train(run, data, device, progress):
    """The record, trained under the lock; None, with a word on why, where there is none."""
    files, name = Files(run, data), f"{run.name}, seed {run.seed}"
    files.lock.parent.mkdir(parents=True, exist_ok=True)
    try:
        with FileLock(files.lock, timeout=0):
            try:
                if record := recorded(run, data):
                    return record  # another process was here meanwhile
            except ValueError as error:
                tqdm.write(f"{error}: set aside, and {name} is trained again")
                for path in filter(Path.exists, (files.record, files.weights)):
                    set_aside(path)
            return fit(run, data, device, progress=progress and "passing")
    except Timeout:
        tqdm.write(f"{name} is left to the process that is training it")
    except (FloatingPointError, torch.cuda.OutOfMemoryError) as error:
        tqdm.write(f"{name} is left out: {error}")
    return None


class Budget:
    """So many minutes from now on, for several calls of `work` together; None: no limit.

    >>> budget = Budget(10)
    >>> work(runs, data, minutes=budget.left())
    """

    def __init__(self, minutes: float | None) -> None:
        self.end = math.inf
        if minutes is not None:
            self.end = time.monotonic() + 60 * checks.not_negative("minutes", minutes)

    def left(self, share: float = 1.0) -> float | None:
        """This share of the minutes that are left, at least 0; None without a limit."""
        if self.end == math.inf:
            return None
        return share * max(0.0, self.end - time.monotonic()) / 60

    def holds(self, seconds: float) -> bool:
        """Whether something that takes so long would be done in time."""
        return time.monotonic() + seconds < self.end


class Times:
    """How long runs take on this hardware, from the records at home.

    device: as in `fit`. Records of other hardware, or of another number of threads, do not count.
    """

    def __init__(self, device: str | torch.device) -> None:
        here = machine.describe(device)
        self.here = here["hardware"], here["threads"]
        self.rates = collections.defaultdict(list)  # seconds per image and epoch
        for path in (home() / "data" / "runs").glob("*/*.json"):
            try:
                self.add(read_record(path))
            except ValueError:
                continue  # no record of ours: the run that it belongs to names it

    def add(self, record: dict) -> None:
        run, cost, data = record["run"], record["cost"], record["dataset"]
        if (record["machine"]["hardware"], record["machine"]["threads"]) != self.here:
            return
        rate = (cost["seconds"] + cost["test_seconds"]) / (run["epochs"] * data["train_images"])
        for kind in _kinds(record["name"], run["network"], run["width"], data["size"]):
            self.rates[kind].append(rate)

    def estimate(self, run: Run, data: Dataset) -> float | None:
        """Seconds for `run`, from its start: as its kind took, else as its network, else as all.

        The mean of the records, scaled to the run's epochs and images. None without any record.
        """
        run = run.resolved()
        images = min(run.train_images or len(data.train), len(data.train))
        for kind in _kinds(run.name, run.network, run.width, data.size):
            if kind in self.rates:
                return statistics.fmean(self.rates[kind]) * run.epochs * images
        return None

    def left(self, runs: Sequence[Run], data: Dataset) -> str:
        """The time left for these runs, as words."""
        seconds = [self.estimate(run, data) for run in runs]
        if None in seconds:
            return "time left: not known before the first record"
        return f"about {tqdm.format_interval(sum(seconds))} left"


def _kinds(name, network, width, size):
    """What runs of a like speed have in common, the likest first."""
    return (name, *size), (network, width, *size), "all"
