"""Many runs on many machines: a Ray cluster trains them, and their records are gathered here.

What runs where, and what is begun again when a machine is lost, is Ray's affair. Here is what Ray
cannot know: which runs have a record, what may be started within a budget, and that only what is
whole and right is written.
"""

import os
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import ModuleType
from typing import Any

from attention import checks
from attention.data import Dataset, load
from attention.settings import profile
from attention.study import remote
from attention.study.gather import Gathering
from attention.study.work import Budget, expect_runs, finished, study_bar
from attention.training import Run

ATTEMPTS = 5  # so often a run is begun again when the machine that it was on is lost
SMALL = 64  # pixels up to which several networks share a GPU


class Cluster:
    """A Ray cluster, and what a run takes of it.

    >>> with Cluster() as cluster:
    ...     records = cluster.work(runs, data)

    address: of the cluster's head, as `ray start --head` tells it; None: RAY_ADDRESS, and where
        that is not set a cluster is started on this machine, with all its cores and GPUs.
    gpus: the part of a GPU that a run takes: 0.25 lets four share a card, 0 keeps to CPUs. None: a
        quarter for images of up to 64 pixels and a whole one for larger ones, where there are any.
    cpus: cores of a run, which are its threads.
    scratch: a folder that all machines see (with that path). Checkpoints lie there, so that a run
        whose machine is lost goes on where it was; None: it begins anew.
    read: every machine reads ATTENTION_DATA itself; else the images are sent to each once.

    The machines need Python and what requirements.txt names, in the same versions; this package is
    sent to them, as are the variables ATTENTION_….

    Raises ImportError without ray, ConnectionError where no cluster answers, ValueError for
    arguments of another kind.
    """

    def __init__(
        self, address: str | None = None, gpus: float | None = None, cpus: int = 1,
        scratch: str | Path | None = None, read: bool = False,
    ) -> None:  # fmt: skip
        self.address = address or os.environ.get("RAY_ADDRESS") or "local"
        self.gpus = None if gpus is None else _share(gpus)
        self.cpus, self.read = checks.at_least_one("cpus", cpus), read
        self.scratch = scratch and str(Path(scratch).expanduser().resolve())
        self.sent: tuple[str, Any] | None = None  # a checksum, and the images in the object store
        self.known: tuple[float, list[dict]] = 0.0, []  # when machines were asked for, and they
        self.dashboard: str | None = None

    def __enter__(self) -> "Cluster":
        self.ray = _ray()
        package = Path(__file__).resolve().parents[1]
        try:
            context = self.ray.init(
                self.address, log_to_driver=False, logging_level="error",
                runtime_env={"py_modules": [str(package)], "env_vars": _environment()},
            )  # fmt: skip
        except ConnectionError as error:
            raise ConnectionError(f"no Ray cluster answers at {self.address!r}: {error}") from None
        self.dashboard = getattr(context, "dashboard_url", None)
        # one process serves many runs, also with a GPU: to begin one takes seconds
        self.function = self.ray.remote(max_calls=0, max_retries=ATTEMPTS)(_train)
        self.tasks: dict[float, Any] = {}
        return self

    def __exit__(self, *_: Any) -> None:
        self.sent = None
        self.ray.shutdown()

    def describe(self, data: Dataset) -> str:
        """A line: how many machines, how many runs at once, where the dashboard is."""
        gpus, places = self.share(data), self.places(data)
        each = f"{gpus:g} GPU and {self.cpus} CPU" if gpus else f"{self.cpus} CPU"
        where = f"; dashboard: http://{self.dashboard}" if self.dashboard else ""
        return (
            f"Ray: {len(self.machines())} machines, {places} runs at once with {each} each{where}"
        )

    def machines(self) -> list[dict[str, float]]:
        """What each machine of the cluster has: {"CPU": …, "GPU": …}; asked for every 5 s."""
        asked, found = self.known
        if not found or time.monotonic() - asked > 5:
            found = [node["Resources"] for node in self.ray.nodes() if node["Alive"]]
            self.known = time.monotonic(), found
        return found

    def share(self, data: Dataset) -> float:
        """The part of a GPU that a run on this dataset takes."""
        if self.gpus is not None:
            return self.gpus
        if not any(has.get("GPU") for has in self.machines()):
            return 0.0
        return 0.25 if max(data.size) <= SMALL else 1.0

    def places(self, data: Dataset) -> int:
        """How many runs on this dataset the cluster can do at once."""
        wanted = {"CPU": self.cpus, "GPU": self.share(data)}
        return sum(
            min(int(has.get(kind, 0) / part + 1e-6) for kind, part in wanted.items() if part)
            for has in self.machines()
        )

    def work(
        self, runs: Sequence[Run], data: Dataset | None = None, minutes: float | None = None,
        progress: bool = True, grid: str | None = None,
    ) -> list[dict]:  # fmt: skip
        """Train those of `runs` that have no record, in their order; give the records there are.

        The same as `attention.study.work` on one machine: the same records, the same budget, the
        same words for what is left out. A record and its weights are written here, when they have
        come and have been found to be whole and of the run that was asked for. Stopped at any
        moment, the same call repeats nothing that was written.

        grid: the name of the grid that the dataset belongs to, for `read`.

        Raises ValueError where no machine of the cluster has room for a run, RuntimeError with
        what a machine says: another dataset there, another version of this package, a full disk.
        """
        expect_runs(runs)
        budget = Budget(minutes)
        data = load() if data is None else checks.instance(Dataset, "data", data)
        if self.read and grid is None:
            raise ValueError("grid must be named where machines read the dataset, got None")
        if not self.places(data):
            raise ValueError(
                f"gpus and cpus must fit into one machine of the cluster, got {self.share(data):g} "
                f"and {self.cpus} where there are {self.machines()}"
            )
        records = {run: finished(run, data) for run in runs}
        missing = [run for run, record in records.items() if record is None]
        with (
            study_bar(len(records), len(missing), progress) as bar,
            Gathering(self, data, budget, grid) as gathering,
        ):
            records.update(gathering.of(missing, bar))
        return [records[run] for run in runs if records[run] is not None]

    def task(self, gpus: float) -> Any:
        """The task of a run that takes this part of a GPU."""
        if gpus not in self.tasks:
            self.tasks[gpus] = self.function.options(num_cpus=self.cpus, num_gpus=gpus)
        return self.tasks[gpus]

    def send(self, data: Dataset) -> Any:
        """The images in Ray's object store, from which each machine takes them once."""
        if self.read:
            return None
        if self.sent is None or self.sent[0] != data.checksum:
            self.sent = data.checksum, self.ray.put(remote.packed(data))
        return self.sent[1]


def _train(job: str, images: Mapping[str, Any] | None) -> tuple[str, bytes]:
    """What the machine does, with the GPU that Ray has given it, if any."""
    import ray

    gpus = ray.get_runtime_context().get_accelerator_ids().get("GPU")
    return remote.train(job, images, gpus[0] if gpus else None)


def _ray() -> ModuleType:
    try:
        import ray
    except ImportError as error:
        raise ImportError(
            "a cluster needs ray, which is not installed: it comes with the extra ray, "
            '"attention-in-image-classifiers[notebooks,ray]" (see README)',
            name="ray",
        ) from error
    return ray


def _share(gpus: float) -> float:
    """A part of a GPU, or whole ones."""
    share = checks.not_negative("gpus", gpus)
    if share > 1:
        raise ValueError(f"gpus must be at most 1, a run trains on one GPU; got {gpus!r}")
    return share


def _environment() -> dict[str, str]:
    """The variables of every machine: those of this package as they are here.

    Ray would show a process the GPU of its first run alone, and may give it another for the next:
    it is told to show all, and `remote.device` picks the one that is meant.
    """
    ours = {name: value for name, value in os.environ.items() if name.startswith("ATTENTION_")}
    return ours | {
        "ATTENTION_PROFILE": profile(), "RAY_EXPERIMENTAL_NOSET_CUDA_VISIBLE_DEVICES": "1"
    }  # fmt: skip
