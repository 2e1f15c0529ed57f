"""Many runs: trains what has no record yet, in pieces of any length, in any number of processes.

    python -m attention.study                              every grid of attention.grids
    python -m attention.study comparison --seeds 3         one grid, three seeds
    python -m attention.study --minutes 60                 what fits into an hour
    torchrun --nproc-per-node 4 -m attention.study         four processes, each on its own GPU
    python -m attention.study --pack records.zip           all records as one file
    python -m attention.study --unpack records.zip         and back, on another machine

Stopped at any moment, the same command goes on from the last finished epoch. Processes on one
folder, also on several machines, share the runs: each run is trained under a lock of the operating
system (data/locks/), which goes with the process that holds it, however that ends. The shared
folder has to support `flock`, as local disks and NFS do.
"""

import argparse
import collections
import dataclasses
import math
import os
import statistics
import time

import torch
from filelock import FileLock, Timeout
from tqdm.auto import tqdm

from attention.checks import at_least_one
from attention.data import Dataset, load
from attention.results.tables import read_record
from attention.settings import home
from attention.study.archive import pack, unpack
from attention.study.grids import GRIDS
from attention.training import Files, Run, fit, machine

POLL = 2  # seconds between two looks at the runs that other processes have taken


def work(runs, data=None, minutes=None, device=None, progress=True, wait=False):
    """Train those of `runs` that have no record, in their order; give the records there are then.

    runs: a list of `Run`. data: a `Dataset`; None: `load()`. device: as in `fit`.
    minutes: a budget; None: no limit. A run is started only if the time it will take, estimated
        from the records on this hardware, fits into what is left; else the next that fits. While
        there is no estimate at all, a run is started. What was started is finished.
    progress: show the bar of the study, with the time left for the runs that are missing.
    wait: wait for the runs that other processes have taken, and take over those of processes that
        were stopped (with `minutes`: as long as they would fit). False: name them and return.

    A record that cannot be read is named, set aside as <name>.json.corrupt, and its run trained
    again. A run whose loss is not finite, or that needs more memory than the GPU has, is named and
    left, and the others go on. An OSError (a full disk) ends the study.
    """
    if not (isinstance(runs, list | tuple) and all(isinstance(run, Run) for run in runs)):
        raise ValueError(f"runs must be a list of Run, got {runs!r}")
    data = data or load()
    return _Study([(run, data) for run in runs], minutes, device, progress).finish(wait)


@dataclasses.dataclass(frozen=True, eq=False)
class _Job:
    """A run, what it is trained on, and where its files lie."""

    run: Run
    data: Dataset
    files: Files

    @property
    def name(self):
        return f"{self.run.name}, seed {self.run.seed}"

    def read(self):
        """The record, or None if there is none that can be read."""
        try:
            return read_record(self.files.record)
        except (FileNotFoundError, ValueError):
            return None

    def train(self, device, progress):
        """The record, read or trained; for the process that holds the lock."""
        if record := self.read():
            return record
        if (path := self.files.record).exists():
            aside = path.with_name(f"{path.name}.corrupt")
            tqdm.write(f"{path} cannot be read: set aside as {aside.name}, and trained again")
            os.replace(path, aside)
        return fit(self.run, self.data, device, progress=progress)


class _Study:
    """Jobs, and what it takes to do them: the estimates, the deadline, the bar."""

    def __init__(self, pairs, minutes, device, progress):
        if minutes is not None and not minutes > 0:
            raise ValueError(f"minutes must be a number above 0, or None, got {minutes!r}")
        self.deadline = math.inf if minutes is None else time.monotonic() + 60 * minutes
        self.device, self.progress = device or machine.default_device(), progress
        self.jobs = [_Job(run, data, Files(run, data)) for run, data in pairs]
        self.once = list({job.files.record: job for job in self.jobs}.values())
        self.times = Times(self.device)

    def finish(self, wait):
        """Work on all that is missing; the records in the order of the jobs."""
        form = "{l_bar}{bar}| {n_fmt}/{total_fmt} runs [{elapsed}{postfix}]"
        left = [job for job in self.once if job.read() is None]
        with tqdm(
            total=len(self.once), desc="study", bar_format=form, disable=not self.progress
        ) as self.bar:
            self.show()
            while left:
                left = self.work_on(left)
                if not wait:
                    break
                if left:
                    time.sleep(POLL)
            self.show()
        if names := [job.name for job in left if job.read() is None]:
            tqdm.write(f"left to the processes that are training them: {'; '.join(names)}")
        return [record for record in (job.read() for job in self.jobs) if record]

    def work_on(self, jobs):
        """Train what is missing, free, and fits before the deadline; give what others hold."""
        held = []
        for job in jobs:
            if record := job.read():
                self.times.add(record)
                continue
            seconds = self.times.estimate(job.run, job.data) or 0
            if time.monotonic() + seconds > self.deadline:
                continue
            self.show(held)
            try:
                job.files.lock.parent.mkdir(parents=True, exist_ok=True)
                with FileLock(job.files.lock, timeout=0):
                    self.times.add(job.train(self.device, self.progress and "passing"))
            except Timeout:
                held.append(job)
            except (FloatingPointError, torch.cuda.OutOfMemoryError) as error:
                tqdm.write(f"{job.name} is left out: {error}")
        return held

    def show(self, held=()):
        """The bar as the folder is now, and the time left if all who work now go on."""
        missing = [job for job in self.once if not job.files.record.exists()]
        workers = 1 + sum(job in missing for job in held)
        self.bar.n = len(self.once) - len(missing)
        self.bar.set_postfix_str(self.times.left(missing, workers))


class Times:
    """How long runs take on this hardware, from the records at home.

    device: as in `fit`. Records of other hardware, or of another number of threads, do not count.
    """

    def __init__(self, device):
        here = machine.describe(device)
        self.here = here["hardware"], here["threads"]
        self.rates = collections.defaultdict(list)  # seconds per image and epoch
        for path in (home() / "data" / "runs").glob("*/*.json"):
            try:
                self.add(read_record(path))
            except ValueError:
                continue  # not a record: the study that it belongs to names it

    def add(self, record):
        run, cost, data = record["run"], record["cost"], record["dataset"]
        if (record["machine"]["hardware"], record["machine"]["threads"]) != self.here:
            return
        rate = (cost["seconds"] + cost["test_seconds"]) / (run["epochs"] * data["train_images"])
        for kind in _kinds(record["name"], run["network"], run["width"], data["size"]):
            self.rates[kind].append(rate)

    def estimate(self, run, data):
        """Seconds for `run`, from its start: as its kind took, else as its network, else as all.

        The mean of the records, scaled to the run's epochs and images. None without any record.
        """
        run = run.resolved()
        images = min(run.train_images or len(data.train), len(data.train))
        for kind in _kinds(run.name, run.network, run.width, data.size):
            if kind in self.rates:
                return statistics.fmean(self.rates[kind]) * run.epochs * images
        return None

    def left(self, jobs, workers):
        """The time left for these jobs, shared by so many processes, as words."""
        seconds = [self.estimate(job.run, job.data) for job in jobs]
        if None in seconds:
            return "time left: not known before the first record"
        return f"about {tqdm.format_interval(sum(seconds) / workers)} left"


def _kinds(name, network, width, size):
    """What runs of a like speed have in common, the likest first."""
    return (name, *size), (network, width, *size), "all"


def _local_rank():
    return int(os.environ.get("LOCAL_RANK", 0))  # torchrun's number of a process on its machine


def _device():
    if not torch.cuda.is_available():
        return "cpu"
    return f"cuda:{_local_rank() % torch.cuda.device_count()}"


def main(arguments=None):
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("grids", nargs="*", metavar="GRID", help=f"{', '.join(GRIDS)}; all")
    parser.add_argument("--seeds", type=int, help="how many; the profile's")
    parser.add_argument("--minutes", type=float, help="start only what fits into them")
    parser.add_argument("--pack", metavar="FILE", help="write all records to a zip file")
    parser.add_argument("--unpack", metavar="FILE", help="read the records of a zip file")
    chosen = parser.parse_args(arguments)
    if unknown := [name for name in chosen.grids if name not in GRIDS]:
        parser.error(f"GRID must be one of {', '.join(GRIDS)}; got {unknown[0]!r}")
    if chosen.seeds is not None:
        at_least_one("--seeds", chosen.seeds)
    if chosen.unpack:
        for outcome, names in unpack(chosen.unpack).items():
            print(f"{len(names)} {outcome}", *names, sep="\n  ")
    if chosen.pack:
        print(f"{pack(chosen.pack)} records in {chosen.pack}")
    if not (chosen.pack or chosen.unpack):
        _study(chosen.grids or list(GRIDS), chosen.seeds, chosen.minutes)


def _study(names, seeds, minutes):
    """Work on the grids until their lists, which may grow with what was found, have been done."""
    end = None if minutes is None else time.monotonic() + 60 * minutes
    images = load()
    parts = [(GRIDS[name], GRIDS[name].data(images)) for name in names]
    first, before = _local_rank() == 0, None
    while minutes is None or minutes > 0:
        pairs = [(run, data) for grid, data in parts for run in grid.runs(seeds, data)]
        if pairs == before:
            break
        records = _Study(pairs, minutes, _device(), progress=first).finish(wait=True)
        if first:
            print(f"{len(records)} of {len(pairs)} runs have a record")
        before = pairs
        if end is not None:
            minutes = (end - time.monotonic()) / 60


if __name__ == "__main__":
    main()
