"""The study: each run once, in order, whatever is killed, shared, corrupt or out of time."""

import json
import multiprocessing
import os
import signal
import subprocess
import sys
import threading
import time
import zipfile
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from parity import fixed, killed

from attention import data
from attention.results import tables as records
from attention.study import archive
from attention.study import work as study
from attention.study.grids import Grid
from attention.training import Files, Run

pytestmark = pytest.mark.usefixtures("own_home")
TINY = {
    "network": "fast", "width": 4, "batch_size": 40, "epochs": 2, "train_images": 80,
    "test_images": 60,
}  # fmt: skip


def runs(seeds=2):
    return [Run(**TINY, block=block, seed=seed) for seed in range(seeds) for block in (None, "se")]


def small_images():
    return data.shapes10(train=120, test=60)


@pytest.fixture(scope="module")
def images():
    return small_images()


def work(these, images, **options):
    return study.work(these, images, device="cpu", progress=False, **options)


@pytest.fixture(scope="module")
def undisturbed(images, tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("ATTENTION_HOME", str(tmp_path_factory.mktemp("undisturbed")))
        return work(runs(), images)


def assert_undisturbed(found, undisturbed):
    assert [fixed(record) for record in found] == [fixed(record) for record in undisturbed]


def log_what_is_trained(patch, path):
    """Each call of `fit` writes a line to the file at `path`: the process, block and seed."""
    fit = study.fit

    def logged(run, *arguments, **options):
        with open(path, "a") as log:
            log.write(f"{os.getpid()} {run.block} {run.seed}\n")
        return fit(run, *arguments, **options)

    patch(study, "fit", logged)


def trained(path):
    """(processes, [(block, seed) of each run in the order in which they were begun])."""
    lines = [line.split() for line in path.read_text().splitlines()]
    return {line[0] for line in lines}, [tuple(line[1:]) for line in lines]


ALL = [("None", "0"), ("se", "0"), ("None", "1"), ("se", "1")]


# Children come from a server that has imported the package already: they are up in milliseconds.
CONTEXT = multiprocessing.get_context("forkserver")
CONTEXT.set_forkserver_preload(["attention.study"])


def child_work(home, images, barrier=None):
    os.environ.update(ATTENTION_HOME=str(home), ATTENTION_PROFILE="smoke")
    torch.set_num_threads(1)
    log_what_is_trained(setattr, home / "log")
    if barrier:
        barrier.wait()
    work(runs(), images, wait=True)


def start(target, *arguments):
    child = CONTEXT.Process(target=target, args=arguments)
    child.start()
    return child


def finish(child):
    child.join()
    assert child.exitcode == 0


# Stopped, and shared


def test_killed_at_five_random_moments_it_ends_as_if_it_had_not_been(
    images, own_home, undisturbed
):  # fmt: skip
    finish(start(time.time))  # starts the server of the children
    (own_home / "timed").mkdir()
    begin = time.perf_counter()
    finish(start(child_work, own_home / "timed", images))
    whole = time.perf_counter() - begin
    seen = {}

    def begin_again():
        seen.clear()
        for path in own_home.glob("data/*/shapes10/*"):
            path.unlink()

    for _ in killed(lambda: start(child_work, own_home, images), 5, whole, begin_again):
        now = {path: path.read_bytes() for path in own_home.glob("data/runs/**/*.json")}
        assert seen.items() <= now.items()  # what was finished stays as it was
        seen = now
    assert_undisturbed(work(runs(), images), undisturbed)
    assert all(path.read_bytes() == content for path, content in seen.items())


def test_two_processes_share_the_runs_and_do_none_twice(images, own_home, undisturbed):
    barrier = CONTEXT.Barrier(2)
    children = [start(child_work, own_home, images, barrier) for _ in range(2)]
    for child in children:
        finish(child)
    processes, done = trained(own_home / "log")
    assert sorted(done) == sorted(ALL)
    assert len(processes) == 2
    assert_undisturbed(records.read(), sorted(undisturbed, key=_file_name(images)))


def _file_name(images):
    return lambda record: Run(**record["run"]).key(images)


def hold_the_second_run(home, images, taken):
    os.environ.update(ATTENTION_HOME=str(home), ATTENTION_PROFILE="smoke")

    def endless(*arguments, **options):
        taken.set()
        time.sleep(600)

    study.fit = endless
    work(runs()[1:2], images)


def test_a_run_that_another_process_holds_is_left_and_taken_over_when_it_is_killed(
    images, own_home, undisturbed, monkeypatch, capsys
):
    taken = CONTEXT.Event()
    child = start(hold_the_second_run, own_home, images, taken)
    assert taken.wait(timeout=60)
    found = work(runs(), images)
    assert_undisturbed(found, undisturbed[:1] + undisturbed[2:])
    assert "training them: fast-4 + se, seed 0\n" in capsys.readouterr().out

    monkeypatch.setattr(study, "POLL", 0.05)
    threading.Timer(0.3, os.kill, (child.pid, signal.SIGKILL)).start()
    found = work(runs(), images, wait=True)
    assert_undisturbed(found, undisturbed)
    child.join()


def torchrun_main():
    """What each rank does: the command line, on grids and images that are small."""
    study.load = small_images
    study.GRIDS.clear()
    study.GRIDS["tiny"] = Grid(lambda count, data: runs(count), lambda data: data)
    here = Path(os.environ["ATTENTION_HOME"])
    log_what_is_trained(setattr, here / "log")
    # both begin together: runs as small as these are over before a slow start is
    (here / f"rank{os.environ['RANK']}").touch()
    while len(list(here.glob("rank?"))) < 2:
        time.sleep(0.02)
    study.main()


def test_torchrun_spreads_the_runs_over_its_ranks_without_jupyter(images, own_home, undisturbed):
    script = own_home / "script.py"
    absent = ("IPython", "ipywidgets", "ipykernel", "notebook", "jupyter_client")
    script.write_text(
        f"import sys\nsys.modules.update(dict.fromkeys({absent}))\n"
        "import test_study\ntest_study.torchrun_main()\n"
    )
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node"]
    here = Path(__file__).resolve().parent
    path = os.pathsep.join([str(here), str(here.parent)])
    done = subprocess.run(
        [*command, "2", script, "tiny", "--seeds", "2"],
        env=os.environ | {"PYTHONPATH": path, "OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""},
        capture_output=True, text=True, timeout=900,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("4 of 4 runs have a record") == 1
    processes, begun = trained(own_home / "log")
    assert sorted(begun) == sorted(ALL)
    assert len(processes) == 2
    assert_undisturbed(work(runs(), images), undisturbed)


# What is trained, and in which order


def test_what_is_missing_is_trained_in_order_and_nothing_else(
    images, own_home, undisturbed, monkeypatch
):
    log_what_is_trained(monkeypatch.setattr, own_home / "log")
    work(runs()[1:2], images)
    backwards = runs()[::-1]
    found = work([*backwards, backwards[0]], images)
    assert trained(own_home / "log")[1] == [ALL[1], ALL[3], ALL[2], ALL[0]]
    assert_undisturbed(found, [*undisturbed[::-1], undisturbed[-1]])
    monkeypatch.setattr(study, "fit", lambda *a, **k: pytest.fail("trained again"))
    assert work([*backwards, backwards[0]], images) == found


def test_a_corrupt_record_is_named_set_aside_and_run_again(
    images, own_home, undisturbed, monkeypatch, capsys
):
    work(runs(), images)
    before = {path: path.read_bytes() for path in own_home.glob("data/runs/*/*")}
    log_what_is_trained(monkeypatch.setattr, own_home / "log")
    path = Files(runs()[1], images).record
    path.write_bytes(before[path][:100])
    assert_undisturbed(work(runs(), images), undisturbed)
    assert trained(own_home / "log")[1] == ALL[1:2]
    assert f"{path.name} cannot be read: set aside" in capsys.readouterr().out
    aside = path.with_name(path.name + ".corrupt")
    assert aside.read_bytes() == before[path][:100]
    after = {p: p.read_bytes() for p in own_home.glob("data/runs/*/*") if p not in (path, aside)}
    assert after.items() == {p: b for p, b in before.items() if p != path}.items()
    assert len(records.read()) == 4


def test_a_run_that_diverges_is_named_and_the_others_go_on(images, monkeypatch, capsys):
    fit = study.fit

    def diverges(run, *arguments, **options):
        if run == runs()[1]:
            raise FloatingPointError("the loss is nan")
        return fit(run, *arguments, **options)

    monkeypatch.setattr(study, "fit", diverges)
    found = work(runs(), images, wait=True)
    assert [(r["run"]["block"], r["run"]["seed"]) for r in found] == [
        (None, 0),
        (None, 1),
        ("se", 1),
    ]
    assert "fast-4 + se, seed 0 is left out: the loss is nan" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("argument", "value"), [("minutes", 0), ("minutes", -3), ("runs", Run(**TINY)), ("runs", [3])]
)
def test_a_wrong_argument_is_named(argument, value, images):
    with pytest.raises(ValueError, match=f"{argument} must be .* got "):
        work(
            **{"these": runs(), "images": images}
            | {"these" if argument == "runs" else argument: value}
        )


# Times and the budget

SECONDS = {None: 60, "se": 600, "eca": 60}


@pytest.fixture
def planted(images, undisturbed, monkeypatch):
    """`fit` writes records that took `SECONDS`, which pass on a clock of their own."""
    clock = SimpleNamespace(now=0.0, order=[])

    def plant(run, images, device, progress):
        record = json.loads(json.dumps(undisturbed[0]))
        record["name"] = run.name
        record["run"] |= {"block": run.block, "seed": run.seed}
        record["cost"] |= {"seconds": SECONDS[run.block] - 5, "test_seconds": 5}
        path = Files(run, images).record
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(record))
        clock.now += SECONDS[run.block]
        clock.order.append((run.block, run.seed))
        return record

    monkeypatch.setattr(study, "fit", plant)
    monkeypatch.setattr(study, "time", SimpleNamespace(monotonic=lambda: clock.now))
    return clock


def planned(*pairs):
    return [Run(**TINY, block=block, seed=seed) for block, seed in pairs]


def test_a_budget_starts_what_fits_and_passes_over_what_does_not(images, planted):
    first = [(None, 0), ("se", 0), ("eca", 0)]
    work(planned(*first), images)
    planted.order.clear()
    more = planned(*first, (None, 1), ("se", 1), ("eca", 1), (None, 2), ("eca", 2))
    found = work(more, images, minutes=3.5)
    assert planted.order == [(None, 1), ("eca", 1), (None, 2)]  # 180 of 210 seconds
    assert len(found) == 6
    assert len(work(more, images, minutes=0.9)) == 6
    assert len(work(more, images, minutes=1.1)) == 7
    assert planted.order[3:] == [("eca", 2)]


def test_a_budget_starts_one_run_while_nothing_is_known(images, planted):
    found = work(planned((None, 0), (None, 1), ("se", 0)), images, minutes=0.5)
    assert planted.order == [(None, 0)] and len(found) == 1


def test_estimates_are_of_the_likest_runs_and_scale_with_images_and_epochs(images, planted):
    times = study.Times("cpu")
    [plain] = planned((None, 7))
    assert times.estimate(plain, images) is None
    work(planned((None, 0), ("se", 0)), images)
    times = study.Times("cpu")
    assert times.estimate(plain, images) == pytest.approx(60)
    [known, unknown] = planned(("se", 5), ("bam", 5))
    assert times.estimate(known, images) == pytest.approx(600)
    assert times.estimate(unknown, images) == pytest.approx((60 + 600) / 2)
    longer = Run(**TINY | {"epochs": 6, "train_images": 120})
    assert times.estimate(longer, images) == pytest.approx(60 * 3 * 1.5)
    jobs = [SimpleNamespace(run=run, data=images) for run in (plain, known)]
    assert times.left(jobs, 1) == "about 11:00 left"
    assert times.left(jobs, 2) == "about 05:30 left"


def test_records_of_other_hardware_say_nothing_about_the_time(images, planted, own_home):
    work(planned((None, 0)), images)
    [path] = own_home.glob("data/runs/**/*.json")
    record = json.loads(path.read_text())
    for change in ({"hardware": "Abacus"}, {"threads": 64}):
        path.write_text(json.dumps(record | {"machine": record["machine"] | change}))
        assert study.Times("cpu").estimate(planned((None, 1))[0], images) is None


def test_the_bar_tells_how_many_are_finished_and_the_time_left(images, planted, capsys):
    work(planned((None, 0), ("se", 0)), images)
    study.work(planned((None, 0), ("se", 0), (None, 1), ("se", 1)), images, device="cpu")
    shown = capsys.readouterr().err
    assert "2/4 runs" in shown and "about 11:00 left" in shown
    assert "3/4 runs" in shown and "about 10:00 left" in shown
    assert "4/4 runs" in shown and "about 00:00 left" in shown


# The command line


def test_the_command_line_works_on_grids_until_they_have_stopped_growing(
    images, planted, monkeypatch, capsys
):
    def growing(count, data):
        first = planned(*((None, seed) for seed in range(count)))
        grown = all(Files(run, data).record.exists() for run in first)
        return first + planned(("eca", 9)) if grown else first

    grids = {
        "growing": Grid(growing, lambda data: data),
        "other": Grid(lambda count, data: planned(("se", 4)), lambda data: data),
    }
    monkeypatch.setattr(study, "GRIDS", grids)
    monkeypatch.setattr(study, "load", lambda: images)
    with pytest.raises(SystemExit):
        study.main(["growing", "nonsense"])
    assert "GRID must be one of growing, other; got 'nonsense'" in capsys.readouterr().err
    with pytest.raises(ValueError, match="--seeds must be .* got 0"):
        study.main(["--seeds", "0"])
    assert not planted.order
    study.main(["growing", "--seeds", "2", "--minutes", "2.5"])
    assert planted.order == [(None, 0), (None, 1)]
    study.main(["--seeds", "2"])
    assert planted.order[2:] == [("eca", 9), ("se", 4)]
    assert capsys.readouterr().out.endswith("4 of 4 runs have a record\n")


# Records as one file


def test_packed_records_are_the_same_elsewhere_and_replace_nothing(
    images, own_home, monkeypatch, capsys
):
    work(runs(seeds=1), images)
    for folder in ("benchmarks", "explanations/shapes10"):
        (own_home / "data" / folder).mkdir(parents=True)
        (own_home / "data" / folder / "what.json").write_text('{"rows": []}')
    before = {path.relative_to(own_home): path.read_bytes() for path in
              own_home.glob("data/**/*.json")}  # fmt: skip
    packed, there = str(own_home / "all.zip"), own_home / "there"
    study.main(["--pack", packed])
    assert "4 records in" in capsys.readouterr().out
    monkeypatch.setenv("ATTENTION_HOME", str(there))
    study.main(["--unpack", packed])
    after = {path.relative_to(there): path.read_bytes() for path in there.glob("**/*.json")}
    assert after == before and len(after) == 4
    assert len(work(runs(seeds=1), images, minutes=1e-9)) == 2

    changed = there / "data/benchmarks/what.json"
    changed.write_text("{}")
    outcomes = archive.unpack(packed)
    assert [len(names) for names in outcomes.values()] == [0, 3, 1]
    assert outcomes["differ from the one here, which was kept"] == ["benchmarks/what.json"]
    assert changed.read_text() == "{}"


def test_a_record_that_cannot_be_read_is_not_packed(own_home):
    (own_home / "data/runs/x").mkdir(parents=True)
    (own_home / "data/runs/x/broken.json").write_text("{")
    with pytest.raises(ValueError, match="broken.json .* is not a record"):
        archive.pack(own_home / "all.zip")
    assert not (own_home / "all.zip").exists()


@pytest.mark.parametrize(
    "name",
    [
        "../evil.json", "/evil.json", "runs/../../evil.json", "runs//evil.json", "evil.json",
        "weights/evil.json", "runs\\..\\..\\evil.json", "runs/C:/evil.json", "runs/x/evil.py",
        "benchmarks/../runs/x/evil.json", "runs/x/evil.json",
    ],
)  # fmt: skip
def test_a_hostile_archive_writes_nothing(name, own_home):
    with zipfile.ZipFile(own_home / "evil.zip", "w") as packed:
        packed.writestr("benchmarks/good.json", "{}")
        packed.writestr(name, "{}")
    before = sorted(own_home.parent.rglob("*"))
    with pytest.raises(ValueError, match="evil.* in .*evil.zip is not "):
        archive.unpack(own_home / "evil.zip")
    assert sorted(own_home.parent.rglob("*")) == before


def test_a_file_that_is_no_archive_is_named(own_home):
    (own_home / "x.zip").write_text("nothing")
    with pytest.raises(ValueError, match="x.zip is not a zip file"):
        archive.unpack(own_home / "x.zip")
