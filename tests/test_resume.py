"""Stopped and gone on: the same weights bit for bit, in the precision that it was begun in."""

import multiprocessing
import os
import random
import time

import pytest
import torch
from parity import fixed, killed

import attention
from attention import files
from attention.data import shapes10
from attention.training import Files, Run, Trainer, machine, trained

SMALL = {"network": "resnet20", "width": 4, "batch_size": 40, "epochs": 3, "learning_rate": 0.05}

pytestmark = pytest.mark.usefixtures("own_home")


@pytest.fixture(scope="module")
def images():
    return shapes10(train=120, test=60)


def fit(run, images, precision="float32"):
    return attention.fit(run, images, device="cpu", precision=precision, progress=False)


def weights(run, images):
    return trained(run, images, device="cpu", progress=False).state_dict()


def assert_equal_weights(these, others):
    assert these.keys() == others.keys()
    for name in these:
        assert torch.equal(these[name], others[name]), name


def stop_after_an_epoch(run, images, monkeypatch, **options):
    """Train one more epoch, and stop as a keyboard interrupt does."""
    save = Trainer.save

    def save_and_stop(self, path):
        save(self, path)
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(Trainer, "save", save_and_stop)
        with pytest.raises(KeyboardInterrupt):
            fit(run, images, **options)


def train_in_child(home, run, images):
    os.environ["ATTENTION_HOME"] = str(home)
    torch.set_num_threads(1)
    fit(run, images)


# children from a server that has imported the package already: each is up in milliseconds
CONTEXT = multiprocessing.get_context("forkserver")
CONTEXT.set_forkserver_preload(["attention"])


def start(home, run, images):
    child = CONTEXT.Process(target=train_in_child, args=(home, run, images))
    child.start()
    return child


def test_killed_at_ten_random_moments_it_ends_as_if_it_had_not_been(images, own_home, monkeypatch):
    run = Run(**SMALL | {"epochs": 10}, block="se", train_images=120)
    quiet, stormy = own_home / "quiet", own_home / "stormy"
    start(quiet, run, images).join()
    begin = time.perf_counter()
    child = start(own_home / "timed", run, images)
    child.join()
    whole = time.perf_counter() - begin
    assert child.exitcode == 0

    def begin_again():
        for path in stormy.glob("data/*/shapes10/*"):
            path.unlink()

    for _ in killed(lambda: start(stormy, run, images), 10, whole, begin_again):
        pass
    child = start(stormy, run, images)
    child.join()
    assert child.exitcode == 0

    ends = []
    for home in (quiet, stormy):
        monkeypatch.setenv("ATTENTION_HOME", str(home))
        record = fit(run, images)
        ends.append((fixed(record), weights(run, images)))
        left = {path.name for path in home.glob("data/**/*") if path.is_file()}
        place = Files(run, images)
        names = {place.record.name, place.weights.name}
        temporary = f".{place.checkpoint.name}."  # of a run whose last kill was while it wrote
        assert {name for name in left if not name.startswith(temporary)} == names
    assert ends[0][0] == ends[1][0]
    assert_equal_weights(ends[0][1], ends[1][1])


def test_two_processes_on_one_run_leave_one_record_and_its_weights(images, own_home, monkeypatch):
    run = Run(**SMALL | {"epochs": 5}, block="se")
    children = [start(own_home, run, images) for _ in range(2)]
    for child in children:
        child.join()
        assert child.exitcode == 0
    record, network = fit(run, images), weights(run, images)
    left = [path for path in own_home.glob("data/**/*") if path.is_file()]
    assert sorted(path.suffix for path in left) == [".json", ".safetensors"]
    monkeypatch.setenv("ATTENTION_HOME", str(own_home / "alone"))
    assert fixed(fit(run, images)) == fixed(record)
    assert_equal_weights(weights(run, images), network)


@pytest.mark.parametrize(
    "options",
    [
        SMALL | {"block": "cbam"},
        {"network": "vit", "width": 8, "epochs": 3, "batch_size": 40},
        {
            "network": "fast", "width": 8, "epochs": 3, "batch_size": 40, "block": "local",
            "options": {"kernel_size": 3},
        },
    ],
    ids=["cbam", "vit", "local"],
)  # fmt: skip
def test_stopped_after_every_epoch_it_ends_the_same(options, images, own_home, monkeypatch):
    run = Run(**options, train_images=120)
    whole = fit(run, images)
    expected = weights(run, images)
    monkeypatch.setenv("ATTENTION_HOME", str(own_home / "again"))
    for _ in range(run.epochs):
        stop_after_an_epoch(run, images, monkeypatch)
    record = fit(run, images)
    assert fixed(record) == fixed(whole)
    assert [s["from_epoch"] for s in record["cost"]["sessions"]] == [1, 2, 3, 4]
    assert_equal_weights(weights(run, images), expected)


def test_a_run_begun_in_bfloat16_ends_in_it_wherever_it_goes_on(
    images, own_home, monkeypatch, capsys
):
    run = Run(**SMALL)
    whole, expected = fit(run, images, "bfloat16"), weights(run, images)
    monkeypatch.setenv("ATTENTION_HOME", str(own_home / "moved"))
    stop_after_an_epoch(run, images, monkeypatch, precision="bfloat16")
    monkeypatch.setattr(torch.cpu, "get_capabilities", dict, raising=False)
    assert machine.precision("cpu") == "float32"
    with pytest.raises(ValueError, match="precision must be 'bfloat16', in which .* got 'float32'"):
        fit(run, images, "float32")
    capsys.readouterr()
    record = fit(run, images, None)
    said = "".join(capsys.readouterr())
    assert "goes on in bfloat16" in said and "fast in float32" in said
    assert record["machine"]["precision"] == "bfloat16"
    sessions = record["cost"]["sessions"]
    assert [session["precision"] for session in sessions] == ["bfloat16"] * 2
    assert {"hardware", "threads", "torch"} <= sessions[0].keys()
    assert fixed(record) == fixed(whole)
    assert_equal_weights(weights(run, images), expected)
    in_float32 = fit(Run(**SMALL, seed=1), images, None)
    assert in_float32["machine"]["precision"] == "float32"


def test_each_session_tells_its_own_machine(images, monkeypatch):
    run = Run(**SMALL)
    describe = machine.describe
    for number in range(2):
        other = {"hardware": f"machine {number}", "threads": 10 + number, "torch": f"{number}.0"}
        monkeypatch.setattr(machine, "describe", lambda device, o=other: describe(device) | o)
        if number == 0:
            stop_after_an_epoch(run, images, monkeypatch)
    assert fit(run, images)["cost"]["sessions"] == [
        {"from_epoch": n + 1, "precision": "float32", "hardware": f"machine {n}",
         "threads": 10 + n, "torch": f"{n}.0"}
        for n in range(2)
    ]  # fmt: skip


@pytest.mark.parametrize("damage", ["bits", "half", "empty"])
def test_a_damaged_checkpoint_is_named_and_the_run_begins_anew(
    damage, images, own_home, monkeypatch, capsys
):
    run = Run(**SMALL)
    whole = fit(run, images)
    monkeypatch.setenv("ATTENTION_HOME", str(own_home / "again"))
    path, draw = Files(run, images).checkpoint, random.Random(0)
    for _ in range(3 if damage == "bits" else 1):
        stop_after_an_epoch(run, images, monkeypatch)
        content = bytearray(path.read_bytes())
        content[draw.randrange(len(content))] ^= 1 << draw.randrange(8)
        cut = {"bits": len(content), "half": len(content) // 2, "empty": 0}[damage]
        path.write_bytes(content[:cut])
    capsys.readouterr()
    record = fit(run, images)
    said = "".join(capsys.readouterr())
    assert f"{path} is damaged" in said and f"{path.name}.corrupt" in said
    assert path.with_name(f"{path.name}.corrupt").read_bytes() == content[:cut]
    assert fixed(record) == fixed(whole)
    assert [session["from_epoch"] for session in record["cost"]["sessions"]] == [1]


def test_a_disk_that_fills_up_while_training_loses_no_finished_epoch(images, own_home, monkeypatch):
    run = Run(**SMALL, train_images=120)
    replace, saved = os.replace, []

    def full(source, target):
        if str(target).endswith(".pt") and len(saved) == 2:
            raise OSError(28, "No space left on device")
        saved.append(target)
        replace(source, target)

    monkeypatch.setattr(files.os, "replace", full)
    with pytest.raises(OSError, match="cannot write .*No space left on device.*unchanged"):
        fit(run, images)
    [path] = own_home.glob("data/checkpoints/shapes10/*")
    assert len(files.load_checkpoint(path)["history"]) == 2
    monkeypatch.setattr(files.os, "replace", replace)
    assert len(fit(run, images)["result"]["history"]) == 3
