"""Stopped and gone on: the same weights bit for bit, in the precision that it was begun in."""

import dataclasses
import multiprocessing
import os
import random
import time

import pytest
import stopped
import torch
from parity import fixed, killed
from torch import nn

import attention
from attention import files
from attention.data import shapes10
from attention.training import Files, Run, machine, trained

SMALL = {"network": "resnet20", "width": 4, "batch_size": 20, "epochs": 3, "learning_rate": 0.05}
RUN = Run(**SMALL, block="se", train_images=60)

pytestmark = pytest.mark.usefixtures("own_home")


class Noisy(nn.Dropout):
    """A block with random numbers of its own."""

    def __init__(self, channels):
        super().__init__(0.2)


@pytest.fixture(scope="module")
def images():
    return shapes10(train=60, test=40, size=16)


def fit(run, images, precision="float32"):
    return attention.fit(run, images, device="cpu", precision=precision, progress=False)


def outcome(run, images, precision="float32"):
    """Train a run, or go on; what does not depend on the clock, and the weights."""
    record = fit(run, images, precision)
    return fixed(record), trained(run, images, device="cpu", progress=False).state_dict()


def assert_same(result, expected):
    assert result[0] == expected[0] and result[1].keys() == expected[1].keys()
    for name, tensor in expected[1].items():
        assert torch.equal(result[1][name], tensor), name


def stop_after_an_epoch(run, images, monkeypatch, **options):
    stopped.stop_after_an_epoch(lambda: fit(run, images, **options), monkeypatch)


def train_in_child(home, run, images):
    # the server that forks has the environment of its first use, perhaps another test's
    os.environ.update(ATTENTION_HOME=str(home), ATTENTION_PROFILE="smoke")
    torch.set_num_threads(1)
    fit(run, images)


# children from a server that has imported the package already: each is up in milliseconds
CONTEXT = multiprocessing.get_context("forkserver")
CONTEXT.set_forkserver_preload(["attention"])


def start(home, run, images):
    child = CONTEXT.Process(target=train_in_child, args=(home, run, images))
    child.start()
    return child


def test_two_processes_at_once_and_any_kill_leave_one_record_and_its_weights(
    images, own_home, monkeypatch
):
    run, both, stormy = dataclasses.replace(RUN, epochs=8), own_home / "both", own_home / "stormy"
    for child in [start(both, run, images) for _ in range(2)]:
        child.join()
        assert child.exitcode == 0
    begin = time.perf_counter()
    start(own_home / "timed", run, images).join()
    seconds = time.perf_counter() - begin

    def begin_again():
        for path in stormy.glob("data/*/shapes10/*"):
            path.unlink()

    for _ in killed(lambda: start(stormy, run, images), 5, seconds, begin_again):
        pass
    child = start(stormy, run, images)
    child.join()
    assert child.exitcode == 0
    alone = outcome(run, images)
    for home in (both, stormy):
        monkeypatch.setenv("ATTENTION_HOME", str(home))
        assert_same(outcome(run, images), alone)
        left = [path for path in home.glob("data/**/*") if path.is_file()]
        half = f".{Files(run, images).checkpoint.name}."  # if the last kill was while it wrote
        left = [path.suffix for path in left if not path.name.startswith(half)]
        assert sorted(left) == [".json", ".safetensors"]


@pytest.mark.parametrize(
    "options",
    [
        {"block": "cbam"},
        {"block": Noisy},
        {"network": "vit", "width": 8},
        {"network": "fast", "width": 8, "block": "local", "options": {"kernel_size": 3}},
    ],
    ids=["cbam", "noisy", "vit", "local"],
)
def test_stopped_after_every_epoch_it_ends_the_same(options, images, own_home, monkeypatch):
    run = Run(**SMALL | options, train_images=60)
    whole = outcome(run, images)
    monkeypatch.setenv("ATTENTION_HOME", str(own_home / "again"))
    for number in range(run.epochs):
        torch.manual_seed(number)
        stop_after_an_epoch(run, images, monkeypatch)
    assert [s["from_epoch"] for s in fit(run, images)["cost"]["sessions"]] == [1, 2, 3, 4]
    assert_same(outcome(run, images), whole)


def test_a_run_begun_in_bfloat16_ends_in_it_wherever_it_goes_on(
    images, own_home, monkeypatch, capsys
):
    whole = outcome(RUN, images, "bfloat16")
    monkeypatch.setenv("ATTENTION_HOME", str(own_home / "moved"))
    stop_after_an_epoch(RUN, images, monkeypatch, precision="bfloat16")
    monkeypatch.setattr(torch.cpu, "get_capabilities", dict, raising=False)
    assert machine.precision("cpu") == "float32"
    with pytest.raises(ValueError, match="precision must be 'bfloat16', in which .* got 'float32'"):
        fit(RUN, images, "float32")
    capsys.readouterr()
    record = fit(RUN, images, None)
    said = "".join(capsys.readouterr())
    assert "goes on in bfloat16" in said and "fast in float32" in said
    assert record["machine"]["precision"] == "bfloat16"
    assert [session["precision"] for session in record["cost"]["sessions"]] == ["bfloat16"] * 2
    assert_same(outcome(RUN, images), whole)
    assert fit(Run(**SMALL, seed=1), images, None)["machine"]["precision"] == "float32"


def test_each_session_tells_its_own_machine(images, monkeypatch):
    describe = machine.describe
    for number in range(2):
        other = {"hardware": f"machine {number}", "threads": 10 + number, "torch": f"{number}.0"}
        monkeypatch.setattr(machine, "describe", lambda device, o=other: describe(device) | o)
        if number == 0:
            stop_after_an_epoch(RUN, images, monkeypatch)
    assert fit(RUN, images)["cost"]["sessions"] == [
        {"from_epoch": n + 1, "precision": "float32", "compiled": False, "cuda_graphs": False,
         "hardware": f"machine {n}", "threads": 10 + n, "torch": f"{n}.0"}
        for n in range(2)
    ]  # fmt: skip


def test_a_damaged_checkpoint_is_named_and_the_run_begins_anew(
    images, own_home, monkeypatch, capsys
):
    whole, draw = outcome(RUN, images), random.Random(0)
    monkeypatch.setenv("ATTENTION_HOME", str(own_home / "again"))
    path = Files(RUN, images).checkpoint
    for cut in (None, None, 1000, 0):  # a bit changed, or cut off
        stop_after_an_epoch(RUN, images, monkeypatch)
        content = bytearray(path.read_bytes())
        content[draw.randrange(len(content))] ^= 1 << draw.randrange(8)
        path.write_bytes(content[:cut])
        capsys.readouterr()
        stop_after_an_epoch(RUN, images, monkeypatch)
        said = "".join(capsys.readouterr())
        assert f"{path} is damaged" in said and f"{path.name}.corrupt" in said
        assert path.with_name(f"{path.name}.corrupt").read_bytes() == content[:cut]
        assert len(files.load_checkpoint(path)["history"]) == 1
        path.unlink()
    assert_same(outcome(RUN, images), whole)


def test_a_disk_that_fills_up_while_training_loses_no_finished_epoch(images, own_home, monkeypatch):
    replace, saved = os.replace, []

    def full(source, target):
        if str(target).endswith(".pt") and len(saved) == 2:
            raise OSError(28, "No space left on device")
        saved.append(target)
        replace(source, target)

    monkeypatch.setattr(files.os, "replace", full)
    with pytest.raises(OSError, match="cannot write .*No space left on device.*unchanged"):
        fit(RUN, images)
    [path] = own_home.glob("data/checkpoints/shapes10/*")
    assert len(files.load_checkpoint(path)["history"]) == 2
    monkeypatch.setattr(files.os, "replace", replace)
    assert len(fit(RUN, images)["result"]["history"]) == 3
