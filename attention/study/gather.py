"""The way of a list of runs through a cluster: handed over, waited for, checked, and written."""

import collections
import contextlib
import json
import time
from collections.abc import Iterator, Sequence
from typing import Any

from filelock import FileLock, Timeout
from tqdm.auto import tqdm

from attention import files
from attention.data import Dataset
from attention.study import remote
from attention.study.work import Budget, Times, lock, told, usable
from attention.training import Files, Run, keys, machine

QUEUE = 100  # runs that wait in the cluster beyond those that have a place there


class Gathering:
    """Runs on one dataset, on a cluster: what is under way, and under which lock it is here.

    At no time does the cluster know more than it can do and `QUEUE` runs besides, so that neither
    it nor this process grows with the length of the list.

    cluster: a `Cluster` that is connected.
    """

    def __init__(self, cluster: Any, data: Dataset, budget: Budget, grid: str | None) -> None:
        self.cluster, self.ray, self.data, self.budget = cluster, cluster.ray, data, budget
        self.faults = cluster.ray.exceptions
        self.images, self.grid = cluster.send(data), grid if cluster.read else None
        self.times, self.left = Times(None), collections.Counter()
        self.going: dict[Any, tuple[Run, FileLock]] = {}
        self.commit, self.shown = machine.describe("cpu")["commit"], 0.0

    def __enter__(self) -> "Gathering":
        return self

    def __exit__(self, *_: Any) -> None:
        for ref, (_, held) in self.going.items():  # of a study that was stopped
            with contextlib.suppress(self.faults.RayError):
                self.ray.cancel(ref, force=True)
            held.release()

    def of(self, missing: Sequence[Run], bar: tqdm) -> Iterator[tuple[Run, dict]]:
        """Each run with its record, as they come; those that are left out are named."""
        waiting = collections.deque(missing)
        self.left.update(self.times.size(run, self.data) for run in missing)
        while waiting or self.going:
            places = max(1, self.cluster.places(self.data))
            # within a budget none waits for a place: it would begin later than it was weighed
            most = places + QUEUE * (self.budget.left() is None)
            while waiting and len(self.going) < most:
                yield from self.begin(waiting.popleft(), bar)
            self.show(bar, places)
            for ref in self.done():
                yield from self.end(ref, bar)
        bar.set_postfix_str("")

    def begin(self, run: Run, bar: tqdm) -> Iterator[tuple[Run, dict]]:
        """Hand a run over; yield it if another process has finished it meanwhile."""
        held = lock(run, self.data)
        if not self.budget.holds(self.times.estimate(run, self.data) or 0):
            return self.over(run)
        try:
            held.acquire()
        except Timeout:
            tqdm.write(f"{told(run)} is left to the process that is training it")
            return self.over(run)
        if record := usable(run, self.data):
            held.release()
            self.over(run)
            bar.update()
            yield run, record
        else:
            self.hand_over(run, held, self.cluster.share(self.data))

    def hand_over(self, run: Run, held: FileLock, gpus: float) -> None:
        """Make it a task of the cluster."""
        job = remote.job(run, self.data, self.cluster.cpus, self.cluster.scratch, self.grid)
        task = self.cluster.task(gpus)
        self.going[task.remote(job, self.images)] = run, held

    def over(self, run: Run) -> None:
        """It is not waited for any more."""
        self.left[self.times.size(run, self.data)] -= 1

    def done(self) -> list[Any]:
        """Those tasks that have ended, at least one; none after a second without any."""
        if not self.going:
            return []
        going = list(self.going)
        first, rest = self.ray.wait(going, num_returns=1, timeout=1)
        others = self.ray.wait(rest, num_returns=len(rest), timeout=0)[0] if first and rest else []
        return [*first, *others]

    def end(self, ref: Any, bar: tqdm) -> Iterator[tuple[Run, dict]]:
        """Take what a task gives; yield its run, if there is a record now."""
        run, held = self.going.pop(ref)
        try:
            text, weights = self.ray.get(ref)
            found = json.loads(text)
        except (self.faults.RayTaskError, self.faults.RuntimeEnvSetupError) as error:
            found = {"error": str(error), "host": "the cluster"}  # the machines lack something
        except self.faults.RayError as error:  # lost with its machine, more than once
            found = {"left out": f"{type(error).__name__}: {error}"}
        if "memory" in found and 0 < self.cluster.share(self.data) < 1:
            tqdm.write(f"{told(run)} gets a whole GPU: {found['memory']}")
            return self.hand_over(run, held, 1)
        try:
            self.over(run)
            if "error" in found:
                raise RuntimeError(f"{told(run)}, on {found['host']}: {found['error']}")
            if "record" in found:
                self.write(run, found["record"], weights, found["host"])
                bar.update()
                yield run, found["record"]
            else:
                tqdm.write(f"{told(run)} is left out: {found.get('left out', found.get('memory'))}")
        finally:
            held.release()

    def write(self, run: Run, record: dict, weights: bytes, host: str) -> None:
        """Write weights and record, if they are what they should be; else a RuntimeError."""
        place = Files(run, self.data)
        try:
            files.expect_record(record)
            wanted = [run.resolved().plain(), keys.block_of(run), self.data.name]
            found = [record["run"], record["block"], record["dataset"]["name"]]
            if found != wanted or record["dataset"]["checksum"] != self.data.checksum:
                raise ValueError(f"it is of {found}, and {wanted} was asked for")
            # what ran there was sent from here
            record["machine"]["commit"] = record["machine"]["commit"] or self.commit
            files.put_weights(place.weights, weights, record["result"]["weights"])
        except ValueError as error:
            raise RuntimeError(f"{host} has sent no record of {told(run)}: {error}") from None
        files.write_record(place.record, record)  # after the weights: where it is, they are
        self.times.add(record)

    def show(self, bar: tqdm, places: int) -> None:
        """The time left, now and then: to estimate it takes longer the more records there are."""
        if time.monotonic() - self.shown > 2:
            self.shown = time.monotonic()
            bar.set_postfix_str(self.times.words(self.left, min(places, sum(self.left.values()))))
