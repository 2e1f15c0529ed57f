"""Training: the schedule, the record, resuming bit for bit, and what happens when it goes wrong."""

import dataclasses
import hashlib
import json
import math
import multiprocessing
import os
import resource
import signal
import subprocess
import time
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from parity import fixed, killed
from torch import nn
from torch.nn import functional as F

import attention
from attention import files, networks, settings
from attention.data import batches
from attention.data import dataset as data
from attention.training import Run, machine, trainer
from attention.training import fitting as training

SMALL = {"network": "resnet20", "width": 4, "batch_size": 40, "epochs": 3, "learning_rate": 0.05}

pytestmark = pytest.mark.usefixtures("own_home")


@pytest.fixture(scope="module")
def images():
    return data.shapes10(train=120, test=60)


def fit(run, images):
    return training.fit(run, images, device="cpu", precision="float32", progress=False)


def weights(run, images):
    network = training.trained(run, images, device="cpu", precision="float32", progress=False)
    return network.state_dict()


def assert_equal_weights(one, other):
    assert one.keys() == other.keys()
    for name in one:
        assert torch.equal(one[name], other[name]), name


# The recipe


def test_learning_rate_rises_to_the_peak_and_falls_to_zero(images):
    run = Run(**SMALL | {"warmup": 0.25})
    one = trainer.Trainer(run, 10, 100, torch.device("cpu"), "float32")
    rates = []
    for one.step in range(100):
        rates.append(one.learning_rate())
    assert max(rates) == pytest.approx(run.learning_rate, rel=0.05)
    assert 23 <= int(np.argmax(rates)) <= 25
    assert rates[0] == pytest.approx(0.2 * run.learning_rate)
    assert rates[-1] < 0.03 * run.learning_rate
    slopes = np.sign(np.diff(rates))
    assert (slopes[:23] > 0).all() and (slopes[26:98] < 0).all()
    assert min(rates) > 0


def test_weight_decay_is_on_the_weights_of_convolutions_and_linear_layers_only():
    run = Run(network="fast", block="bam")
    one = trainer.Trainer(run, 10, 10, torch.device("cpu"), "float32")
    decayed = {id(p) for g in one.optimizer.param_groups if g["weight_decay"] for p in g["params"]}
    for path, module in one.network.named_modules():
        for name, parameter in module.named_parameters(recurse=False):
            if not parameter.requires_grad:
                continue
            is_weight = name == "weight" and isinstance(module, nn.Conv2d | nn.Conv1d | nn.Linear)
            assert (id(parameter) in decayed) == is_weight, f"{path}.{name}"


def test_every_parameter_is_trained_once_and_frozen_ones_never(images):
    run = Run(network="fast", block="cbam")
    one = trainer.Trainer(run, 10, 10, torch.device("cpu"), "float32")
    inside = [id(p) for g in one.optimizer.param_groups for p in g["params"]]
    assert len(inside) == len(set(inside))
    assert set(inside) == {id(p) for p in one.network.parameters() if p.requires_grad}


def test_whitening_gives_uncorrelated_outputs_of_variance_one(images):
    pixels = batches.normalise(images.train.images, images.mean, images.std)
    layer = networks.Whitening()
    layer.fit(pixels, epsilon=0)
    nn.init.zeros_(layer.bias)
    out = layer(pixels)[:, :12].permute(1, 0, 2, 3).flatten(1).double()
    second_moments = out @ out.T / out.shape[1]
    assert torch.allclose(second_moments, torch.eye(12, dtype=torch.float64), atol=0.02)
    assert torch.equal(layer.weight[12:], -layer.weight[:12])


def test_evaluate_equals_a_loop_over_single_images(images):
    network = Run(**SMALL).build(10)
    loss, accuracy = trainer.evaluate(network, images.test, images, "cpu")
    network.eval()
    losses, right = [], 0
    mean, std = images.mean.view(3, 1, 1), images.std.view(3, 1, 1)
    for image, label in zip(images.test.images, images.test.labels, strict=True):
        with torch.no_grad():
            logits = network(((image / 255 - mean) / std)[None])
        losses.append(F.cross_entropy(logits, label[None]).item())
        right += int(logits.argmax() == label)
    assert accuracy == pytest.approx(100 * right / len(images.test))
    assert loss == pytest.approx(np.mean(losses), rel=1e-4)


def test_bfloat16_is_chosen_only_where_the_processor_has_it(monkeypatch):
    for flags, expected in (
        ({"avx512_bf16": True}, "bfloat16"),
        ({"amx_bf16": True}, "bfloat16"),
        ({"avx512_bf16": False, "amx_bf16": False}, "float32"),
    ):
        monkeypatch.setattr(torch.cpu, "get_capabilities", lambda flags=flags: flags, raising=False)
        assert machine.precision("cpu") == expected
    for capability, expected in (((7, 5), "float16"), ((8, 0), "bfloat16"), ((9, 0), "bfloat16")):
        monkeypatch.setattr(torch.cuda, "get_device_capability", lambda d, c=capability: c)
        assert machine.precision("cuda") == expected
    with pytest.raises(ValueError, match="precision must be one of .*float8"):
        machine.precision("cpu", "float8")


RECIPE_OF = {"fast": "sgd", "resnet20": "sgd", "vit": "adamw", "convvit": "adamw"}


@pytest.mark.parametrize("network", RECIPE_OF)
@pytest.mark.parametrize("optimizer", [None, "sgd", "adamw"])
def test_weights_after_two_steps_are_those_of_torchs_own_optimiser(network, optimizer):
    run = Run(network=network, width=8, optimizer=optimizer)
    assert run.optimizer == (optimizer or RECIPE_OF[network])
    one = trainer.Trainer(run, 10, 100, torch.device("cpu"), "float32")
    other = run.build(10)
    biases = {m.bias for m in other.modules() if isinstance(m, nn.BatchNorm2d)}
    groups = []
    for parameter in other.parameters():
        if parameter.requires_grad:
            decay = run.weight_decay if parameter.ndim > 1 else 0
            factor = run.norm_bias_rate if parameter in biases else 1
            groups.append({"params": [parameter], "weight_decay": decay, "factor": factor})
    if run.optimizer == "sgd":
        reference = torch.optim.SGD(groups, lr=1, momentum=run.momentum, nesterov=True)
    else:
        reference = torch.optim.AdamW(groups, lr=1, betas=(run.momentum, 0.999))
    for step in range(2):
        images = torch.randn(8, 3, 32, 32).to(memory_format=torch.channels_last)
        labels = torch.arange(8) % 10
        one.train_step(images, labels)
        peak = run.learning_rate * (0.2 + 0.8 * step / 100 / run.warmup)
        for group in reference.param_groups:
            group["lr"] = group["factor"] * peak
        reference.zero_grad()
        logits = other(images)
        F.cross_entropy(logits, labels, label_smoothing=run.label_smoothing).backward()
        reference.step()
    start = dict(run.build(10).named_parameters())
    for (name, mine), wanted in zip(
        one.network.named_parameters(), other.parameters(), strict=True
    ):
        torch.testing.assert_close(mine, wanted, rtol=1e-5, atol=1e-6)
        if mine.ndim > 1:  # (keys' biases have no gradient: the softmax does not see them)
            assert torch.equal(mine, start[name]) != mine.requires_grad, name


# The record


def test_a_run_learns_and_its_record_tells_what_was_done(images, own_home):
    run = Run(**SMALL | {"epochs": 12}, train_images=120, block="se")
    record = fit(run, images)
    history = record["result"]["history"]
    assert [h["epoch"] for h in history] == list(range(1, 13))
    assert history[-1]["train_loss"] < history[0]["train_loss"] - 0.1
    assert record["dataset"] == {
        "name": "shapes10", "checksum": images.checksum, "classes": 10, "train_images": 120,
        "test_images": 60, "size": [32, 32],
    }  # fmt: skip
    network = run.build(10)
    assert record["result"]["parameters"] == attention.parameters(network)
    assert record["result"]["flops"] == attention.flops(network, (1, 3, 32, 32))
    network = training.trained(run, images, device="cpu")
    _, accuracy = trainer.evaluate(network, images.test, images, "cpu")
    assert record["result"]["test_accuracy"] == accuracy
    assert record["cost"]["seconds"] == pytest.approx(sum(record["cost"]["epoch_seconds"]))
    assert record["machine"]["torch"] == torch.__version__
    [path] = own_home.glob("data/runs/shapes10/*.json")
    assert json.loads(path.read_text()) == record
    assert not list(own_home.glob("data/checkpoints/**/*.pt"))


def test_a_finished_run_is_read_and_not_trained_again(images, monkeypatch):
    run = Run(**SMALL)
    record = fit(run, images)
    monkeypatch.setattr(training, "_train", lambda *a: pytest.fail("trained again"))
    assert fit(run, images) == record


def test_weights_that_are_missing_are_trained_again_and_the_record_stays(images, own_home):
    run = Run(**SMALL)
    fit(run, images)
    before = weights(run, images)
    [record] = own_home.glob("data/runs/**/*.json")
    written = record.stat().st_mtime_ns
    [path] = own_home.glob("data/weights/**/*.pt")
    path.unlink()
    assert_equal_weights(weights(run, images), before)
    assert record.stat().st_mtime_ns == written


def test_a_record_belongs_to_one_run_one_dataset_one_block(images):
    run = Run(**SMALL)
    others = [
        Run(**SMALL, seed=1),
        Run(**SMALL, block="se"),
        Run(**SMALL, block="se", options={"reduction": 2}),
        Run(**SMALL, block="se", at="stage"),
        Run(**SMALL | {"epochs": 4}),
    ]
    keys = [one.key(images) for one in (run, *others)]
    assert len(set(keys)) == len(keys)
    assert Run(**SMALL).key(images) == run.key(images)
    elsewhere = data.Dataset("shapes10", images.test, images.train, images.classes)
    assert run.key(elsewhere) != run.key(images)


def test_the_optimiser_is_in_the_key_only_where_it_is_not_sgd(images):
    keys = {
        (network, optimizer): Run(network=network, width=8, optimizer=optimizer).key(images)
        for network in ("fast", "vit")
        for optimizer in (None, "sgd", "adamw")
    }
    assert keys["fast", None] == keys["fast", "sgd"] != keys["fast", "adamw"]
    assert keys["vit", None] == keys["vit", "adamw"] != keys["vit", "sgd"]
    # as before there was a choice: the run as it is told, without the optimiser
    run = Run(network="fast", width=8)
    told = dataclasses.asdict(run)
    del told["optimizer"]
    layers = {k: tuple(v.shape) for k, v in run.build(10).state_dict().items()}
    whole = [told, images.name, images.checksum, layers, None]
    digest = hashlib.sha256(json.dumps(whole, sort_keys=True).encode()).hexdigest()[:10]
    assert run.key(images) == f"fast-plain-seed0-{digest}"


def committed_records():
    root = Path(__file__).resolve().parent.parent
    command = ["git", "ls-files", "data/runs"]
    listed = subprocess.run(command, cwd=root, capture_output=True, text=True)
    return [root / name for name in listed.stdout.split()]


def test_committed_records_are_found_again_under_their_names(monkeypatch):
    monkeypatch.setenv("ATTENTION_PROFILE", "full")  # sets no number of images
    records = committed_records()
    if not records:
        pytest.skip("not a git checkout: which records are committed is not known")
    for path in records:
        record = json.loads(path.read_text())
        told = record["dataset"]
        same = SimpleNamespace(
            name=told["name"], checksum=told["checksum"], classes=range(told["classes"])
        )
        assert Run(**record["run"]).key(same) == path.stem


def test_a_block_of_ones_own_that_is_changed_is_trained_anew(images):
    class Mine(attention.SE):
        def forward(self, x):
            return super().forward(x)

    one = Mine

    class Mine(attention.SE):
        def forward(self, x):
            return super().forward(x) / 2

    attention.register("mine", one)
    key = Run(**SMALL, block="mine").key(images)
    assert Run(**SMALL, block="mine").key(images) == key
    attention.register("mine", Mine)
    assert Run(**SMALL, block="mine").key(images) != key


def test_runs_of_one_seed_share_the_weights_of_the_layers_they_share():
    plain, gated = Run(**SMALL).build(10), Run(**SMALL, block="cbam").build(10)
    shared = dict(gated.named_parameters())
    for name, parameter in plain.named_parameters():
        assert torch.equal(parameter, shared[name]), name
    other = Run(**SMALL, seed=1).build(10)
    assert not torch.equal(plain.classifier.weight, other.classifier.weight)


def test_training_leaves_the_callers_random_numbers_alone(images):
    torch.manual_seed(3)
    expected = torch.rand(5)
    torch.manual_seed(3)
    fit(Run(**SMALL), images)
    assert torch.equal(torch.rand(5), expected)


def test_profile_sets_what_a_run_leaves_open(monkeypatch):
    monkeypatch.setenv("ATTENTION_PROFILE", "smoke")
    assert Run().epochs == settings.PROFILES["smoke"]["epochs"]
    assert Run(epochs=7).epochs == 7
    monkeypatch.setenv("ATTENTION_PROFILE", "quick")
    assert Run().train_images is None
    monkeypatch.setenv("ATTENTION_PROFILE", "huge")
    with pytest.raises(ValueError, match="ATTENTION_PROFILE must be one of smoke, quick, full"):
        Run()


@pytest.mark.parametrize(
    "profile, epochs, widths",
    [
        ("smoke", 1, {"fast": 16, "vit": 32, "convvit": 32}),
        ("quick", 3, {"fast": 16, "vit": 64, "convvit": 64}),
        ("full", 30, {"fast": 64, "vit": 192, "convvit": 192}),
    ],
)
def test_the_comparison_of_each_profile_is_made_of_runs(profile, epochs, widths, monkeypatch):
    monkeypatch.setenv("ATTENTION_PROFILE", profile)
    assert settings.comparison() == settings.comparison("fast")
    for network, width in widths.items():
        run = Run(**settings.comparison(network), seed=2)
        assert (run.network, run.epochs, run.seed) == (network, epochs, 2)
        built = run.build(10)
        features = built.classifier[0] if network == "fast" else built.classifier
        assert features.in_features == width * (4 if network == "fast" else 1)
    assert settings.comparison("resnet20")["width"] is None
    assert Run(block="sse", **settings.comparison()).block == "sse"


# Stopped and gone on


def train_in_child(home, run, images):
    os.environ["ATTENTION_HOME"] = str(home)
    torch.set_num_threads(1)
    training.fit(run, images, device="cpu", precision="float32", progress=False)


def test_killed_at_ten_random_moments_it_ends_as_if_it_had_not_been(images, own_home, monkeypatch):
    run = Run(**SMALL | {"epochs": 10}, block="se", train_images=120)
    # children from a server that has imported the package already: each is up in milliseconds
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["attention"])

    def start(home):
        child = context.Process(target=train_in_child, args=(home, run, images))
        child.start()
        return child

    quiet, stormy = own_home / "quiet", own_home / "stormy"
    child = start(quiet)
    child.join()
    begin = time.perf_counter()
    child = start(own_home / "timed")
    child.join()
    whole = time.perf_counter() - begin
    assert child.exitcode == 0

    def begin_again():
        for path in stormy.glob("data/*/shapes10/*"):
            path.unlink()

    for _ in killed(lambda: start(stormy), 10, whole, begin_again):
        pass
    child = start(stormy)
    child.join()
    assert child.exitcode == 0

    ends = []
    for home in (quiet, stormy):
        monkeypatch.setenv("ATTENTION_HOME", str(home))
        record = fit(run, images)
        ends.append((fixed(record), weights(run, images)))
        left = [p.name for p in home.glob("data/**/.*")]
        assert all(name.count(".pt.") or name.count(".json.") for name in left)
    assert ends[0][0] == ends[1][0]
    assert_equal_weights(ends[0][1], ends[1][1])


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
    save = trainer.Trainer.save

    def save_and_stop(self, path):
        save(self, path)
        raise KeyboardInterrupt

    monkeypatch.setattr(trainer.Trainer, "save", save_and_stop)
    for _ in range(run.epochs):
        with pytest.raises(KeyboardInterrupt):
            fit(run, images)
    monkeypatch.setattr(trainer.Trainer, "save", save)
    record = fit(run, images)
    assert fixed(record) == fixed(whole)
    assert [s["from_epoch"] for s in record["cost"]["sessions"]] == [1, 2, 3, 4]
    assert_equal_weights(weights(run, images), expected)


# What goes wrong


class FailsLater(attention.SE):
    """Gives a value that is not a number from its ninth training batch on."""

    def __init__(self, channels):
        super().__init__(channels)
        self.register_buffer("calls", torch.zeros(()))

    def forward(self, x):
        if self.training:
            self.calls += 1
        return super().forward(x) * (math.nan if self.calls > 4 else 1)


def test_a_loss_that_is_not_a_number_stops_the_run_and_keeps_the_last_epoch(images, own_home):
    attention.register("fails", FailsLater)
    run = Run(**SMALL, block="fails", train_images=120)
    with pytest.raises(FloatingPointError, match=r"resnet20-4 \+ fails is nan in epoch 2"):
        fit(run, images)
    assert not list(own_home.glob("data/runs/**/*.json"))
    [path] = own_home.glob("data/checkpoints/**/*.pt")
    state = torch.load(path, weights_only=True)
    assert len(state["history"]) == 1
    assert all(torch.isfinite(v).all() for v in state["network"].values())


def test_images_with_values_that_are_not_numbers_are_refused():
    pictures = torch.full((4, 3, 32, 32), math.nan)
    with pytest.raises(ValueError, match="images must be uint8"):
        data.Split(pictures, torch.zeros(4, dtype=torch.int64))


def write_with_a_limit(path, ready):
    """In a process of its own: files may not grow beyond 10 kB, as on a disk that is full."""
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (10_000, 10_000))
    try:
        files.save_tensors({"x": torch.zeros(100_000)}, path)
    except OSError as error:
        ready.put(str(error))


def test_a_full_disk_gives_one_message_and_keeps_what_was_there(tmp_path):
    path = tmp_path / "weights.pt"
    files.save_tensors({"x": torch.ones(3)}, path)
    context = multiprocessing.get_context("forkserver")
    queue = context.Queue()
    child = context.Process(target=write_with_a_limit, args=(path, queue))
    child.start()
    message = queue.get(timeout=60)
    child.join()
    assert "cannot write weights.pt" in message and "unchanged" in message
    assert torch.equal(torch.load(path, weights_only=True)["x"], torch.ones(3))
    assert [p.name for p in tmp_path.iterdir()] == ["weights.pt"]


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
    assert len(torch.load(path, weights_only=True)["history"]) == 2
    monkeypatch.setattr(files.os, "replace", replace)
    assert len(fit(run, images)["result"]["history"]) == 3


@pytest.mark.parametrize(
    ("argument", "value"),
    [
        ("network", "vgg"), ("block", "attention-is-all"), ("epochs", 0), ("epochs", 2.5),
        ("batch_size", 0), ("learning_rate", -1), ("learning_rate", math.nan), ("warmup", 1.0),
        ("crop", -1), ("seed", "zero"), ("label_smoothing", "much"), ("optimizer", "adagrad"),
    ],
)  # fmt: skip
def test_a_wrong_argument_is_named_before_anything_is_trained(argument, value):
    with pytest.raises(ValueError, match=f"{argument} must be .*{value!r}"):
        Run(**{argument: value})


def test_a_wrong_option_of_a_block_is_named_before_anything_is_trained(images, own_home):
    with pytest.raises(ValueError, match="reduction must be .* got 0"):
        fit(Run(**SMALL, block="se", options={"reduction": 0}), images)
    assert not list(own_home.glob("data/*/*/*"))


def test_a_file_that_is_no_record_is_named(images, own_home):
    run = Run(**SMALL)
    fit(run, images)
    [path] = own_home.glob("data/runs/**/*.json")
    path.write_text(path.read_text()[:100])
    with pytest.raises(ValueError, match=f"{path.name} .* is not a record"):
        fit(run, images)
