"""What a machine of a cluster does with a run, and what of its answer is believed: without Ray."""

import importlib
import json
import sys
from types import SimpleNamespace

import pytest
import torch
from parity import fixed
from ray_stand_in import Broken, Lost, standing

from attention import data
from attention.study import Cluster, gather, remote, work
from attention.study import __main__ as command
from attention.study import cluster as cluster_file
from attention.study.grids import Grid
from attention.training import Files, Run, key

pytestmark = pytest.mark.usefixtures("own_home")
TINY = {
    "network": "fast", "width": 4, "batch_size": 40, "epochs": 1, "train_images": 80,
    "test_images": 60,
}  # fmt: skip
RUN = Run(**TINY)


@pytest.fixture(scope="module")
def images():
    return data.shapes10(train=120, test=60)


@pytest.fixture(autouse=True)
def nothing_kept(monkeypatch):
    monkeypatch.setattr(remote, "_kept", {})


def told(answer):
    text, weights = answer
    return json.loads(text), weights


# The machine's side


def test_a_machine_gives_the_record_and_the_weights_and_keeps_nothing(images, own_home, tmp_path):
    scratch = tmp_path / "scratch"
    job = remote.job(RUN, images, threads=1, scratch=str(scratch))
    found, weights = told(remote.train(job, remote.packed(images)))
    assert not list(own_home.glob("data/**/*.json")) and not list(scratch.glob("**/*.*"))
    [record] = work([RUN], images, device="cpu", progress=False)
    assert fixed(found["record"]) == fixed(record)
    assert weights == Files(RUN, images).weights.read_bytes()


def test_images_are_shared_and_are_the_same(images):
    arrays = remote.packed(images)
    for array in filter(lambda value: hasattr(value, "flags"), arrays.values()):
        array.flags.writeable = False  # as they come out of the object store
    again = remote._unpacked(arrays)
    assert again.checksum == images.checksum and again.name == images.name
    assert torch.equal(again.mean, images.mean)
    assert again.train.images.data_ptr() == arrays["train_images"].ctypes.data


def test_another_dataset_is_refused_with_both_names(images):
    other = data.shapes10(train=120, test=70)
    found, weights = told(remote.train(remote.job(RUN, images, 1), remote.packed(other)))
    assert "DataError: another dataset than that of the study" in found["error"]
    assert other.checksum[:12] in found["error"] and images.checksum[:12] in found["error"]
    assert "ATTENTION_DATA" in found["error"] and weights == b"" and "record" not in found


def test_a_machine_reads_the_dataset_of_a_grid_itself(images, monkeypatch):
    monkeypatch.setattr(remote, "load", lambda: images)
    held = data.held_out(images)
    job = remote.job(RUN, held, 1, grid="search")
    found, _ = told(remote.train(job))
    assert found["record"]["dataset"]["name"] == "shapes10-validation"
    remote._kept.clear()
    monkeypatch.setattr(remote, "load", lambda: data.shapes10(train=130, test=60))
    assert "another dataset" in told(remote.train(job))[0]["error"]


def test_another_version_of_the_package_is_refused(images):
    job = json.loads(remote.job(RUN, images, 1)) | {"key": "fast-plain-seed0-0123456789ab"}
    found, _ = told(remote.train(json.dumps(job), remote.packed(images)))
    assert "same version of this package" in found["error"] and key(RUN, images) in found["error"]


def test_a_profile_of_the_machines_own_changes_nothing_silently(images, monkeypatch):
    run = Run(**TINY | {"train_images": None})
    monkeypatch.setenv("ATTENTION_PROFILE", "quick")  # all images; smoke would take 256 of them
    job = remote.job(run, images, 1)
    monkeypatch.setenv("ATTENTION_PROFILE", "smoke")
    assert "same version" in told(remote.train(job, remote.packed(images)))[0]["error"]


@pytest.mark.parametrize(
    ("error", "what"),
    [
        (FloatingPointError("the loss is nan"), "left out"),
        (torch.cuda.OutOfMemoryError("GPU 0 is full"), "memory"),
        (OSError(28, "No space left on device"), "error"),
    ],
)
def test_what_goes_wrong_comes_back_as_text(error, what, images, monkeypatch):
    def fit(*arguments, **options):
        raise error

    monkeypatch.setattr(remote, "fit", fit)
    found, weights = told(remote.train(remote.job(RUN, images, 1), remote.packed(images)))
    assert str(error) in found[what] and set(found) == {"host", what} and weights == b""


@pytest.mark.parametrize(
    ("gpu", "visible", "device"),
    [
        (None, None, "cpu"), (None, "0,1", "cpu"), ("3", None, "cuda:3"), ("3", "", "cuda:3"),
        ("6", "4,5,6,7", "cuda:2"), ("MIG-b", "MIG-a,MIG-b", "cuda:1"),
    ],
)  # fmt: skip
def test_the_gpu_is_the_one_that_ray_names(gpu, visible, device, monkeypatch):
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    if visible is not None:
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
    assert remote.device(gpu) == device


# The side of who started the study


RUNS = [Run(**TINY, block=block) for block in (None, "se", "eca")]


def changed(change):
    """An answer with something changed on its way: change(what is told, the weights) → both."""

    def answer(job, images):
        return (lambda pair: (json.dumps(pair[0]), pair[1]))(
            change(*told(remote.train(job, images)))
        )

    return answer


def other_run(found, weights):
    found["record"]["run"]["seed"] = 7
    return found, weights


def other_data(found, weights):
    found["record"]["dataset"]["checksum"] = "0" * 64
    return found, weights


def no_form(found, weights):
    del found["record"]["result"]["history"]
    return found, weights


def a_bit(found, weights):
    return found, weights[:-1] + bytes([weights[-1] ^ 1])


@pytest.mark.parametrize("change", [other_run, other_data, no_form, a_bit])
def test_what_is_not_right_is_not_written(change, images, own_home):
    ours = standing(changed(change))
    with pytest.raises(RuntimeError, match="has sent no record of fast-4 .plain., seed 0: "):
        ours.work(RUNS, images, progress=False)
    assert not list(own_home.glob("data/runs/*/*"))
    assert ours.ray.cancelled == [1, 2]  # and the others are not waited for
    assert len(standing().work(RUNS, images, progress=False)) == 3  # no lock is left either


def test_a_run_that_fails_is_named_and_the_others_go_on(images, capsys):
    def answer(job, images):
        if json.loads(job)["run"]["block"] == "se":
            return json.dumps({"host": "there", "left out": "the loss is nan"}), b""
        if json.loads(job)["run"]["block"] == "eca":
            raise Lost("its machine died, again and again")
        return remote.train(job, images)

    found = standing(answer).work(RUNS, images)
    assert [record["run"]["block"] for record in found] == [None]
    said = capsys.readouterr()
    assert "fast-4 + se, seed 0 is left out: the loss is nan" in said.out
    assert "fast-4 + eca, seed 0 is left out: Lost: its machine died" in said.out
    assert "1/3 runs" in said.err


@pytest.mark.parametrize("how", ["told", "raised"])
def test_what_would_stop_every_run_ends_the_study(how, images):
    def answer(job, images):
        if how == "raised":
            raise Broken("No module named 'torch'")
        return json.dumps({"host": "there", "error": "OSError: No space left"}), b""

    where = "the cluster: No module" if how == "raised" else "there: OSError: No space left"
    with pytest.raises(RuntimeError, match=f"fast-4 .plain., seed 0, on {where}"):
        standing(answer).work(RUNS, images, progress=False)


def test_a_share_of_a_gpu_that_is_too_small_becomes_a_whole_one(images, capsys):
    calls = []

    def answer(job, images):
        calls.append(json.loads(job)["run"]["block"])
        if calls.count("se") == 1 and calls[-1] == "se":
            return json.dumps({"host": "there", "memory": "out of memory"}), b""
        return remote.train(job, images)

    ours = standing(answer, [{"CPU": 8.0, "GPU": 1.0}])
    assert len(ours.work(RUNS, images, progress=False)) == 3
    assert ours.order == [(None, 0.25), ("se", 0.25), ("eca", 0.25), ("se", 1)]
    assert "fast-4 + se, seed 0 gets a whole GPU: out of memory" in capsys.readouterr().out


def test_within_a_budget_only_what_has_a_place_is_begun(images, monkeypatch):
    clock = SimpleNamespace(now=0.0)
    stand_in = SimpleNamespace(monotonic=lambda: clock.now)
    for module in (importlib.import_module("attention.study.work"), gather, cluster_file):
        monkeypatch.setattr(module, "time", stand_in)

    def answer(job, images):
        clock.now += 60
        text, weights = remote.train(job, images)
        found = json.loads(text)
        found["record"]["cost"] |= {"seconds": 55, "test_seconds": 5}
        return json.dumps(found), weights

    runs = [Run(**TINY, seed=seed) for seed in range(8)]
    ours = standing(answer)
    assert len(ours.work(runs, images, minutes=3.5, progress=False)) == 4
    # two are begun while nothing is known; then what fits, a minute each, two at once
    assert ours.ray.most == 2
    ours = standing(answer)
    assert len(ours.work(runs, images, progress=False)) == 8 and ours.ray.most == 4


def test_how_many_runs_a_cluster_does_at_once(images):
    machines = [{"CPU": 16.0, "GPU": 8.0}, {"CPU": 3.0, "GPU": 4.0}, {"CPU": 64.0}]
    assert standing(machines=machines).places(images) == 16 + 3
    assert standing(machines=machines, gpus=1).places(images) == 8 + 3
    assert standing(machines=machines, gpus=1 / 3).places(images) == 16 + 3
    assert standing(machines=machines, gpus=0, cpus=4).places(images) == 4 + 0 + 16
    large = data.shapes10(train=20, test=20, size=96)
    assert standing(machines=machines).share(large) == 1
    none = standing(machines=[{"CPU": 2.0}], cpus=4)
    with pytest.raises(ValueError, match="gpus and cpus must fit into one machine .* got 0 and 4"):
        none.work(RUNS, images)


@pytest.mark.parametrize(
    ("argument", "value", "message"),
    [
        ("gpus", 2, "gpus must be at most 1"), ("gpus", -0.5, "gpus must be"),
        ("gpus", "all", "gpus must be"), ("cpus", 0, "cpus must be"), ("cpus", 1.5, "cpus must be"),
    ],
)  # fmt: skip
def test_a_wrong_argument_is_named(argument, value, message):
    with pytest.raises(ValueError, match=message):
        Cluster(**{argument: value})


def test_a_run_that_another_process_holds_is_left_to_it(images, capsys):
    held = gather.lock(RUNS[1], images)
    with held:
        assert len(standing().work(RUNS, images, progress=False)) == 2
    assert "fast-4 + se, seed 0 is left to the process" in capsys.readouterr().out


# The command line


def test_a_list_that_depends_on_its_records_is_asked_again(images, monkeypatch, capsys):
    def growing(count, data):
        grown = all(Files(run, data).record.exists() for run in RUNS[:2])
        return RUNS if grown else RUNS[:2]

    ours = standing()
    monkeypatch.setattr(command, "GRIDS", {"growing": Grid(growing, lambda data: data)})
    monkeypatch.setattr(command, "load", lambda: images)
    asked = []

    class Connected:
        def __init__(self, *arguments):
            asked.append(arguments)

        def __enter__(self):
            return ours

        def __exit__(self, *_):
            pass

    monkeypatch.setattr(command, "Cluster", Connected)
    command.main("growing --ray head:6379 --gpus 0.5 --cpus 2 --scratch there --read".split())
    assert asked == [("head:6379", 0.5, 2, "there", True)]
    assert [block for block, _ in ours.order] == [None, "se", "eca"]
    said = capsys.readouterr().out
    assert "Ray: 1 machines, 2 runs at once with 1 CPU each" in said
    assert said.endswith("growing: 3 of 3 runs have a record\n")
    command.main(["growing", "--ray"])
    assert asked[1:] == [(None, None, 1, None, False)] and len(ours.order) == 3


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ("--ray search", "--ray takes an address: put search before it"),
        ("--gpus 0.5", "--gpus is for a cluster: use it with --ray"),
        ("--scratch there", "--scratch is for a cluster"),
        ("--read", "--read is for a cluster"),
        ("--ray --gpus 3", "gpus must be at most 1"),
        ("--ray --cpus 0", "cpus must be a whole number of at least 1"),
    ],
)
def test_what_the_command_line_does_not_understand_is_named(arguments, message, capsys):
    with pytest.raises(SystemExit, match="2"):
        command.main(arguments.split())
    assert message in capsys.readouterr().err


def test_without_ray_it_is_said_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(ImportError, match=r"needs ray.*\[notebooks,ray\]"), Cluster():
        pass
