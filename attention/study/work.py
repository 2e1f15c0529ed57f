"""Many runs on one machine: trains what has no record yet, within a budget."""

import collections
import math
import statistics
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

import torch
from filelock import FileLock, Timeout
from tqdm.auto import tqdm

from attention import checks
from attention.data import Dataset, load
from attention.files import read_record, set_aside
from attention.settings import home
from attention.study.ahead import announcement
from attention.training import Files, Run, ahead, fit, machine, recorded


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
        from the records on this hardware, else from a few timed steps, fits into what is left; else
        the next that fits. What was started is finished. With 0 minutes nothing is started.
    progress: show the bar of the study, with the time left for the runs that are missing.

    Stopped at any moment, the same call goes on from the last finished epoch. Processes of one
    machine share the runs: each is trained under a lock of the operating system (data/locks/),
    which goes with the process that holds it, however that ends. A run that another process holds
    is named and passed over. For several machines there is `Cluster`.

    A record that cannot be read, or whose weights are damaged, is named, set aside as
    <name>.corrupt with its weights, and the run is trained again. A run whose loss is not finite,
    or that needs more memory than the GPU has, is named and left, and the others go on. An OSError
    (a full disk) ends the study.

    Raises ValueError or TypeError for arguments of another kind, before anything is trained.
    """
    expect_runs(runs)
    budget = Budget(minutes)
    data = load() if data is None else checks.instance(Dataset, "data", data)
    device = checks.device("device", device)
    times = Times(device)
    records = {run: finished(run, data) for run in runs}
    missing = [run for run, record in records.items() if record is None]
    if progress and (said := announcement(missing, data, device, times.estimate, minutes)):
        tqdm.write(said)
    left = collections.Counter(times.size(run, data) for run in missing)
    with study_bar(len(records), len(missing), progress) as bar:
        for run in missing:
            bar.set_postfix_str(times.words(left))
            left[times.size(run, data)] -= 1
            if not budget.holds(_seconds(run, data, device, times, budget)):
                continue
            records[run] = _train(run, data, device, progress)
            if records[run] is not None:
                times.add(records[run])
                bar.update()
        bar.set_postfix_str("")
    return [records[run] for run in runs if records[run] is not None]


def expect_runs(runs: Sequence[Run]) -> None:
    """Raise a ValueError for what is no list of runs."""
    if not (isinstance(runs, list | tuple) and all(isinstance(run, Run) for run in runs)):
        raise ValueError(f"runs must be a list of Run, got {runs!r}")


def study_bar(total: int, missing: int, progress: bool) -> tqdm:
    """The bar of a study: how many of its runs are finished."""
    form = "{l_bar}{bar}| {n_fmt}/{total_fmt} runs [{elapsed}{postfix}]"
    return tqdm(
        total=total, initial=total - missing, desc="study", bar_format=form, disable=not progress
    )


def finished(run: Run, data: Dataset) -> dict | None:
    """The record of a run, or None where there is none that can be used."""
    try:
        return recorded(run, data)
    except ValueError:  # `usable`, under the lock, says why
        return None


def lock(run: Run, data: Dataset) -> FileLock:
    """The lock of a run, to be held while it is trained; `Timeout` if another process holds it."""
    path = Files(run, data).lock
    path.parent.mkdir(parents=True, exist_ok=True)
    return FileLock(path, timeout=0)


def usable(run: Run, data: Dataset) -> dict | None:
    """The record of a run; one that is damaged, or has damaged weights, is named and set aside."""
    try:
        return recorded(run, data)
    except ValueError as error:
        files = Files(run, data)
        tqdm.write(f"{error}: set aside, and {told(run)} is trained again")
        for path in filter(Path.exists, (files.record, files.weights)):
            set_aside(path)
    return None


def told(run: Run) -> str:
    """A run in words."""
    return f"{run.name}, seed {run.seed}"


def _seconds(run, data, device, times, budget):
    """How long a run will take; 0 where nothing says it and no budget asks."""
    known = times.estimate(run, data)
    if known is None and budget.left():
        rate = ahead.seconds_an_image(run, data, device)
        known = rate * run.resolved().epochs * ahead.images(run, data)
    return known or 0


def _train(run, data, device, progress):
    """The record, trained under the lock; None, with a word on why, where there is none."""
    try:
        with lock(run, data):
            # another process may have been here meanwhile
            return usable(run, data) or fit(run, data, device, progress=progress and "passing")
    except Timeout:
        tqdm.write(f"{told(run)} is left to the process that is training it")
    except (FloatingPointError, torch.cuda.OutOfMemoryError) as error:
        tqdm.write(f"{told(run)} is left out: {error}")
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
    None: of the hardware that `add` has been told of since: the machines of a cluster.
    """

    def __init__(self, device: str | torch.device | None) -> None:
        self.anywhere = device is None
        self.here = set() if device is None else {_place(machine.describe(device))}
        self.rates = collections.defaultdict(list)  # seconds per image and epoch
        self.elsewhere = collections.defaultdict(list)  # place → what records there say
        self.sizes = {}  # of the runs asked about
        for path in (home() / "data" / "runs").glob("*/*.json"):
            try:
                self._note(read_record(path))
            except ValueError:
                continue  # no record of ours: the run that it belongs to names it

    def add(self, record: dict) -> None:
        """Take over a record that has come since."""
        self._note(record)
        place = _place(record["machine"])
        if self.anywhere and place not in self.here:  # a machine of the cluster
            self.here.add(place)
            for kinds, rate in self.elsewhere.pop(place):
                self._count(kinds, rate)

    def _note(self, record):
        run, cost, data = record["run"], record["cost"], record["dataset"]
        rate = (cost["seconds"] + cost["test_seconds"]) / (run["epochs"] * data["train_images"])
        kinds = _kinds(record["name"], run["network"], run["width"], data["size"])
        if (place := _place(record["machine"])) in self.here:
            self._count(kinds, rate)
        else:
            self.elsewhere[place].append((kinds, rate))

    def _count(self, kinds, rate):
        for kind in kinds:
            self.rates[kind].append(rate)

    def estimate(self, run: Run, data: Dataset) -> float | None:
        """Seconds for `run`, from its start: as its kind took, else as its network, else as all.

        The mean of the records, scaled to the run's epochs and images. None without any record.
        """
        return self._seconds(*self.size(run, data))

    def size(self, run: Run, data: Dataset) -> tuple[tuple, int]:
        """What the time of a run depends on: its kinds, and its epochs times images."""
        about = run, data.name, len(data.train), data.size
        if about not in self.sizes:
            whole = run.resolved()
            images = min(whole.train_images or len(data.train), len(data.train))
            kinds = _kinds(run.name, run.network, run.width, data.size)
            self.sizes[about] = kinds, whole.epochs * images
        return self.sizes[about]

    def _seconds(self, kinds, images):
        for kind in kinds:
            if kind in self.rates:
                return statistics.fmean(self.rates[kind]) * images
        return None

    def left(self, runs: Sequence[Run], data: Dataset) -> str:
        """The time left for these runs, as words."""
        return self.words(collections.Counter(self.size(run, data) for run in runs))

    def words(self, left: Mapping[tuple, int], at_once: int = 1) -> str:
        """The same for {size: how many of them}, so many at once: there are few sizes."""
        seconds = [number and (self._seconds(*size), number) for size, number in left.items()]
        seconds = list(filter(None, seconds))
        if any(each is None for each, _ in seconds):
            return "time left: not known before the first record"
        whole = sum(each * number for each, number in seconds) / max(1, at_once)
        return f"about {tqdm.format_interval(whole)} left"


def _place(machine):
    """What tells the machines of records apart, as far as their speed goes."""
    return machine["hardware"], machine["threads"]


def _kinds(name, network, width, size):
    """What runs of a like speed have in common, the likest first."""
    return (name, *size), (network, width, *size), "all"
