"""The study: each run once, in order, whatever is killed, shared, corrupt or out of time."""

import importlib
import json
import multiprocessing
import os
import time
from types import SimpleNamespace

import pytest
import torch
from parity import fixed, killed

from attention import data
from attention.study import __main__ as command
from attention.study.grids import Grid
from attention.training import Files, Run
from attention.training.keys import block_of

study = importlib.import_module("attention.study.work")  # the face has the function of that name
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
        first_run_waits(barrier)
    work(runs(), images)


def first_run_waits(barrier):
    """The first run of each process begins when each has one, however late a process comes."""
    fit, first = study.fit, [True]

    def waiting(*arguments, **options):
        if first and first.pop():
            barrier.wait(timeout=300)
        return fit(*arguments, **options)

    study.fit = waiting


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
    assert len(list(own_home.glob("data/runs/*/*.json"))) == 4
    assert_undisturbed(work(runs(), images), undisturbed)


def hold_the_second_run(home, images, taken):
    os.environ.update(ATTENTION_HOME=str(home), ATTENTION_PROFILE="smoke")

    def endless(*arguments, **options):
        taken.set()
        time.sleep(600)

    study.fit = endless
    work(runs()[1:2], images)


def test_a_run_that_another_process_holds_is_left_to_it_and_trained_once_that_is_killed(
    images, own_home, undisturbed, capsys
):
    taken = CONTEXT.Event()
    child = start(hold_the_second_run, own_home, images, taken)
    assert taken.wait(timeout=60)
    found = work(runs(), images)
    assert_undisturbed(found, undisturbed[:1] + undisturbed[2:])
    assert (
        "fast-4 + se, seed 0 is left to the process that is training it" in capsys.readouterr().out
    )
    child.kill()
    child.join()
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


@pytest.mark.parametrize("damaged", ["record", "weights"])
def test_what_is_damaged_is_named_set_aside_and_trained_again(
    damaged, images, own_home, undisturbed, monkeypatch, capsys
):
    work(runs(), images)
    before = {path: path.read_bytes() for path in own_home.glob("data/runs/*/*")}
    log_what_is_trained(monkeypatch.setattr, own_home / "log")
    files = Files(runs()[1], images)
    path = getattr(files, damaged)
    changed = before[path][:100] + b"?" + before[path][101:]  # one character
    path.write_bytes(changed)
    assert_undisturbed(work(runs(), images), undisturbed)
    assert trained(own_home / "log")[1] == ALL[1:2]
    said = capsys.readouterr().out
    assert path.name in said and "set aside, and fast-4 + se, seed 0 is trained again" in said
    aside = path.with_name(path.name + ".corrupt")
    assert aside.read_bytes() == changed
    others = set(before) - {files.record}  # it has other times
    assert all(path.read_bytes() == before[path] for path in others)
    assert len(list(own_home.glob("data/runs/*/*.json"))) == 4


def test_a_run_that_diverges_is_named_and_the_others_go_on(images, monkeypatch, capsys):
    fit = study.fit

    def diverges(run, *arguments, **options):
        if run == runs()[1]:
            raise FloatingPointError("the loss is nan")
        return fit(run, *arguments, **options)

    monkeypatch.setattr(study, "fit", diverges)
    found = work(runs(), images)
    assert [(r["run"]["block"], r["run"]["seed"]) for r in found] == [
        (None, 0),
        (None, 1),
        ("se", 1),
    ]
    assert "fast-4 + se, seed 0 is left out: the loss is nan" in capsys.readouterr().out


def test_a_full_disk_ends_the_study(images, monkeypatch):
    def full(*arguments, **options):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(study, "fit", full)
    with pytest.raises(OSError, match="No space left"):
        work(runs(), images)


@pytest.mark.parametrize(
    ("argument", "value"),
    [
        ("minutes", -3),
        ("minutes", float("nan")),
        ("minutes", float("inf")),
        ("minutes", "ten"),
        ("minutes", True),
        ("runs", Run(**TINY)),
        ("runs", [3]),
        ("runs", None),
        ("runs", "se"),
        ("data", "shapes10"),
        ("data", []),
    ],
)
def test_a_wrong_argument_is_named_before_anything_is_trained(argument, value, images, monkeypatch):
    monkeypatch.setattr(study, "fit", lambda *a, **k: pytest.fail("trained"))
    error = TypeError if argument == "data" else ValueError
    with pytest.raises(error, match=f"{argument} must be .* got "):
        study.work(**{"runs": runs(), "data": images, "progress": False} | {argument: value})


# Times and the budget

SECONDS = {None: 60, "se": 600, "eca": 60}


@pytest.fixture
def planted(images, undisturbed, monkeypatch):
    """`fit` writes records that took `SECONDS`, which pass on a clock of their own."""
    clock = SimpleNamespace(now=0.0, order=[])

    def plant(run, images, device, progress):
        record = json.loads(json.dumps(undisturbed[0]))
        record["name"] = run.name
        record |= {"run": run.resolved().plain(), "block": block_of(run)}
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


def test_where_no_record_says_how_long_a_few_steps_do(images, planted, monkeypatch):
    timed = []

    def slow(run, *_):
        timed.append(run.block)
        return 40 / (run.epochs * 60)  # seconds an image: the run takes 40

    monkeypatch.setattr(study.ahead, "seconds_an_image", slow)
    monkeypatch.setattr(study.ahead, "images", lambda *_: 60)
    monkeypatch.setattr(study, "announcement", lambda *_: None)
    runs = planned((None, 0), ("se", 0))
    assert work(runs, images, minutes=0.5) == [] and timed == [None, "se"]
    assert len(work(runs, images, minutes=0)) == 0 and len(timed) == 2
    assert len(work(runs[:1], images, minutes=0.7)) == 1 and len(timed) == 3
    assert len(work(runs, images)) == 2 and len(timed) == 3  # no limit: nothing has to be known


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
    assert times.left([plain, known], images) == "about 11:00 left"


def test_records_of_other_hardware_say_nothing_about_the_time(images, planted, own_home):
    work(planned((None, 0)), images)
    [path] = own_home.glob("data/runs/**/*.json")
    record = json.loads(path.read_text())
    for change in ({"hardware": "Abacus"}, {"threads": 64}):
        path.write_text(json.dumps(record | {"machine": record["machine"] | change}))
        assert study.Times("cpu").estimate(planned((None, 1))[0], images) is None


@pytest.mark.parametrize("missing", [("machine", "threads"), ("cost", "seconds"), ("run", "width")])
def test_a_foreign_record_does_not_stop_the_study(missing, images, planted, own_home):
    work(planned((None, 0)), images)
    [path] = own_home.glob("data/runs/**/*.json")
    record = json.loads(path.read_text())
    del record[missing[0]][missing[1]]
    path.with_name("foreign.json").write_text(json.dumps(record))
    assert study.Times("cpu").estimate(planned((None, 1))[0], images) == pytest.approx(60)
    assert len(work(planned((None, 0), ("se", 0)), images)) == 2


def test_one_budget_for_several_calls_runs_out(images, planted):
    work(planned((None, 0), ("eca", 0)), images)
    planted.order.clear()
    budget = study.Budget(2.5)
    work(planned((None, 1)), images, minutes=budget.left())
    assert budget.left() == pytest.approx(1.5) and budget.left(0.5) == pytest.approx(0.75)
    work(planned((None, 2), ("eca", 1)), images, minutes=budget.left())
    assert planted.order == [(None, 1), (None, 2)] and budget.left() == pytest.approx(0.5)
    planted.now += 60
    assert budget.left() == 0
    work(planned(("bam", 0)), images, minutes=budget.left())  # nor one of which nothing is known
    assert len(planted.order) == 2
    assert study.Budget(None).left() is None and study.Budget(None).left(0.5) is None


def test_the_bar_tells_how_many_are_finished_and_the_time_left(images, planted, capsys):
    work(planned((None, 0), ("se", 0)), images)
    study.work(planned((None, 0), ("se", 0), (None, 1), ("se", 1)), images, device="cpu")
    shown = capsys.readouterr().err
    assert "2/4 runs" in shown and "about 11:00 left" in shown
    assert "3/4 runs" in shown and "about 10:00 left" in shown
    assert "4/4 runs" in shown


# The command line


@pytest.fixture
def small_grids(images, planted, monkeypatch):
    def growing(count, data):
        first = planned(*((None, seed) for seed in range(count or 1)))
        grown = all(Files(run, data).record.exists() for run in first)
        return first + planned(("eca", 9)) if grown else first

    grids = {
        "growing": Grid(growing, lambda data: data),
        "other": Grid(lambda count, data: planned(("se", 4)), lambda data: data),
    }
    monkeypatch.setattr(command, "GRIDS", grids)
    monkeypatch.setattr(command, "load", lambda: images)


def test_the_command_line_works_on_grids_until_they_have_stopped_growing(
    small_grids, planted, capsys
):
    command.main(["growing", "--seeds", "2", "--minutes", "2.5"])
    assert planted.order == [(None, 0), (None, 1)]
    command.main(["--seeds", "2"])
    assert planted.order[2:] == [("eca", 9), ("se", 4)]
    assert capsys.readouterr().out.endswith(
        "growing: 3 of 3 runs have a record\nother: 1 of 1 runs have a record\n"
    )


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ("growing nonsense", "GRID must be one of growing, other; got 'nonsense'"),
        ("--seeds 0", "--seeds must be a whole number of at least 1, got 0"),
        ("--seeds -1", "--seeds must be a whole number of at least 1, got -1"),
        ("--seeds many", "--seeds: invalid int value: 'many'"),
        ("--minutes nan", "--minutes must be a number above 0, got nan"),
        ("--minutes inf", "--minutes must be a number above 0, got inf"),
        ("--minutes -1", "--minutes must be a number above 0, got -1"),
        ("--minutes 0", "--minutes must be a number above 0, got 0"),
        ("--minutes soon", "--minutes: invalid float value: 'soon'"),
    ],
)
def test_what_the_command_line_does_not_understand_is_named(
    arguments, message, small_grids, planted, capsys
):
    with pytest.raises(SystemExit, match="2"):
        command.main(arguments.split())
    assert message in capsys.readouterr().err
    assert not planted.order
