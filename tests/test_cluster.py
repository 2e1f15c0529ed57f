"""The study on a Ray cluster: the same records, whatever machine is lost, and nothing twice."""

import contextlib
import inspect
import multiprocessing
import os
import socket
import time
from pathlib import Path

import psutil
import pytest
from parity import fixed

from attention import data
from attention.study import Cluster, work
from attention.training import Files, Run

ray = pytest.importorskip("ray", reason="ray is not installed: tests/requirements.txt names it")
from ray import cluster_utils  # noqa: E402
from ray._private import services  # noqa: E402

pytestmark = pytest.mark.usefixtures("own_home")
long = pytest.mark.skipif(
    not os.environ.get("LONG_TESTS"), reason="it compiles, which takes minutes: LONG_TESTS=1"
)
TINY = {
    "network": "fast", "width": 4, "batch_size": 40, "epochs": 2, "train_images": 80,
    "test_images": 60,
}  # fmt: skip
PORTS = (
    "metrics_agent_port", "metrics_export_port", "dashboard_agent_listen_port",
    "runtime_env_agent_port",
)  # fmt: skip


def runs(seeds=1, **changes):
    blocks = (None, "se")
    return [Run(**TINY | changes, block=block, seed=s) for s in range(seeds) for block in blocks]


@pytest.fixture(scope="module")
def images():
    return data.shapes10(train=120, test=60)


class Machines(cluster_utils.Cluster):
    """Ray's own cluster of several nodes on one machine: a head without cores, and workers."""

    def __init__(self):
        super().__init__(initialize_head=False)
        self.begin()

    def begin(self):
        self.node(num_cpus=0, include_dashboard=False)
        self.node(num_cpus=1)

    def end(self):
        """All of it goes at once, the head too."""
        self.shutdown()

    def node(self, **has):
        free = [socket.socket() for _ in PORTS]
        for each in free:
            each.bind(("", 0))
        ports = {name: each.getsockname()[1] for name, each in zip(PORTS, free, strict=True)}
        for each in free:
            each.close()
        with pytest.MonkeyPatch.context() as patch:
            start = services.start_raylet

            def start_and_tell(*given, **options):
                """A node waits 15 s for the port of its agent; a busy machine needs longer."""
                told = inspect.signature(start).bind(*given, **options).arguments
                name = "dashboard_agent_listen_port"
                path = Path(told["session_dir"]) / f"{name}_{told['node_id']}"
                path.write_text(str(ports[name]))
                return start(*given, **options)

            patch.setattr(services, "start_raylet", start_and_tell)
            patch.setattr(services, "get_node", patient(services.get_node))
            return self.add_node(object_store_memory=80 << 20, **ports, **has)

    def kill(self, node):
        """All its processes at once: a worker whose raylet is gone goes on until it notices."""
        raylet = psutil.Process(node.all_processes["raylet"][0].process.pid)
        workers = raylet.children(recursive=True)
        for each in workers:
            each.suspend()
        self.remove_node(node, allow_graceful=False)
        for each in workers:
            with contextlib.suppress(psutil.NoSuchProcess):
                each.kill()


def patient(function):
    """Asks for two minutes: a node that is busy comes late."""

    def ask(*arguments):
        for _ in range(240):
            try:
                return function(*arguments)
            except RuntimeError:
                time.sleep(0.5)
        return function(*arguments)

    return ask


@pytest.fixture(scope="module")
def machines():
    with pytest.MonkeyPatch.context() as patch:
        # workers are as important as the tests, and agents may take their time
        for name, value in (("worker_niceness", 0), ("agent_register_timeout_ms", 120_000)):
            patch.setenv(f"RAY_{name}", str(value))
        found = Machines()
        yield found
        found.end()


def cluster(machines, **options):
    return Cluster(machines.address, gpus=0, **options)


@pytest.fixture
def elsewhere(own_home, monkeypatch):
    """What `work` gives for runs, and the weights, in a home of its own."""

    def find(these, images):
        with monkeypatch.context() as patch:
            patch.setenv("ATTENTION_HOME", str(own_home / "alone"))
            records = work(these, images, device="cpu", progress=False)
            return records, [Files(run, images).weights.read_bytes() for run in these]

    return find


def assert_same(records, these, images, expected):
    wanted, weights = expected
    assert [fixed(record) for record in records] == [fixed(record) for record in wanted]
    assert [record["cost"]["sessions"][0]["threads"] for record in records] == [1] * len(these)
    assert [Files(run, images).weights.read_bytes() for run in these] == weights


def test_the_records_and_weights_are_bit_for_bit_those_of_one_machine(
    machines, images, elsewhere, capsys
):
    these, diverging = runs(), Run(**TINY, learning_rate=1e30)
    with cluster(machines) as ours:
        found = ours.work([these[0], diverging, these[1]], images)
        assert_same(found, these, images, elsewhere(these, images))
        said = capsys.readouterr()
        assert "fast-4 (plain), seed 0 is left out: the loss of fast-4 (plain) is" in said.out
        assert "2/3 runs" in said.err
        ours.task = lambda gpus: pytest.fail("handed over again")
        assert ours.work(these, images) == found


def busy(machines):
    """The node whose worker is at a run, or None."""
    for node in machines.worker_nodes:
        raylet = psutil.Process(node.all_processes["raylet"][0].process.pid)
        if any(child.cmdline()[:1] == ["ray::_train"] for child in raylet.children()):
            return node
    return None


@pytest.mark.parametrize("fused", [False, pytest.param(True, marks=long)])
def test_a_run_whose_machine_is_killed_goes_on_on_another(
    fused, machines, images, elsewhere, tmp_path, monkeypatch
):
    monkeypatch.setenv("ATTENTION_COMPILED", str(int(fused)))
    monkeypatch.setenv("TORCHINDUCTOR_CACHE_DIR", str(tmp_path / "cache"))
    these, scratch = runs(epochs=40)[1:], tmp_path / "scratch"
    machines.node(num_cpus=1)  # the second that has a place
    killed = []
    with cluster(machines, scratch=scratch) as ours, pytest.MonkeyPatch.context() as patch:
        wait = ours.ray.wait

        def looking_on(*arguments, **options):
            begun = list(scratch.glob("data/checkpoints/*/*.pt"))
            if not killed and begun and (node := busy(machines)):
                machines.kill(node)
                killed.append(list(tmp_path.glob("data/runs/*/*.json")))
            return wait(*arguments, **options | {"timeout": 0.02})

        patch.setattr(ours.ray, "wait", looking_on)
        found = ours.work(these, images, progress=False)
    assert killed == [[]]  # before there was a record
    assert_same(found, these, images, elsewhere(these, images))
    first, second = found[0]["cost"]["sessions"]
    assert first["compiled"] == second["compiled"] == fused
    assert first["from_epoch"] == 1 < second["from_epoch"]  # it went on from the checkpoint
    assert not list(scratch.glob("data/*/*/*.json")) + list(scratch.glob("data/*/*/*.pt"))


def start_a_study(address, home, images, these):
    """In a process of its own, which is killed."""
    os.environ.update(ATTENTION_HOME=str(home), ATTENTION_PROFILE="smoke")
    with Cluster(address, gpus=0) as ours:
        ours.work(these, images, progress=False)


def test_with_another_head_and_another_driver_it_goes_on(machines, images, own_home, elsewhere):
    """Both are killed when a run is finished; the same list on a new cluster does the others."""
    these = runs(seeds=3)
    context = multiprocessing.get_context("spawn")
    child = context.Process(target=start_a_study, args=(machines.address, own_home, images, these))
    child.start()
    while not (done := list(own_home.glob("data/runs/*/*.json"))):
        assert child.is_alive()
        time.sleep(0.02)
    child.kill()
    machines.end()
    child.join()
    before = {path: path.read_bytes() for path in done}
    assert 0 < len(before) < len(these)
    machines.begin()
    with cluster(machines) as ours:
        handed_over = []
        task = ours.task

        def noted(gpus):
            handed_over.append(gpus)
            return task(gpus)

        ours.task = noted
        found = ours.work(these, images, progress=False)
    finished = [path for path in before if path.read_bytes() == before[path]]
    assert len(finished) == len(before)
    assert 0 < len(handed_over) <= len(these) - len(before)
    assert_same(found, these, images, elsewhere(these, images))
