"""Training: the schedule, the optimiser, the precision, the record, and what cannot be trained."""

import dataclasses
import json
import math
import subprocess
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional as F

import attention
from attention import files
from attention.data import Dataset, Split, normalise, shapes10
from attention.networks import Whitening
from attention.training import Files, Run, Trainer, evaluate, machine, trained

SMALL = {"network": "resnet20", "width": 4, "batch_size": 20, "epochs": 1, "learning_rate": 0.05}
CPU = torch.device("cpu")

pytestmark = pytest.mark.usefixtures("own_home")


@pytest.fixture(scope="module")
def images():
    return shapes10(train=60, test=40, size=16)


def fit(run, images, **options):
    options = {"device": "cpu", "precision": "float32", "progress": False} | options
    return attention.fit(run, images, **options)


def forbid_training(monkeypatch):
    def forbidden(*arguments):
        raise AssertionError("trained")

    monkeypatch.setattr(Trainer, "__init__", forbidden)


# The recipe


def test_learning_rate_rises_to_the_peak_and_falls_to_zero():
    run = Run(**SMALL | {"warmup": 0.25})
    trainer = Trainer(run, 10, 100, CPU, "float32")
    rates = []
    for trainer.step in range(100):
        rates.append(trainer.learning_rate())
    assert max(rates) == pytest.approx(run.learning_rate, rel=0.05)
    assert 23 <= int(np.argmax(rates)) <= 25
    assert rates[0] == pytest.approx(0.2 * run.learning_rate)
    assert rates[-1] < 0.03 * run.learning_rate
    slopes = np.sign(np.diff(rates))
    assert (slopes[:23] > 0).all() and (slopes[26:98] < 0).all()
    assert min(rates) > 0


def groups_of(trainer):
    """{path of a parameter: (its weight decay, its factor of the learning rate)}"""
    paths = {parameter: path for path, parameter in trainer.network.named_parameters()}
    found = [
        (paths[p], (group["weight_decay"], group["rate"]))
        for group in trainer.optimizer.param_groups
        for p in group["params"]
    ]
    assert len(found) == len(dict(found))  # each once
    return dict(found)


@pytest.mark.parametrize("block", ["bam", "cbam", "encoding", None])
def test_decay_is_on_weights_and_only_the_norms_of_the_network_itself_are_fast(block):
    options = {"variant": "official"} if block in ("bam", "cbam") else {}
    run = Run(network="fast", width=8, block=block, options=options).resolved()
    trainer = Trainer(run, 10, 10, CPU, "float32")
    groups, norms_in_gates = groups_of(trainer), 0
    inserted = [f"{p.path}." for p in getattr(trainer.network, "placements", ())]
    for path, parameter in trainer.network.named_parameters():
        owner = trainer.network.get_submodule(path.rpartition(".")[0])
        if not parameter.requires_grad:
            assert path not in groups
            continue
        inside = any(path.startswith(start) for start in inserted)
        is_norm = isinstance(owner, nn.modules.batchnorm._BatchNorm)
        norms_in_gates += inside and is_norm
        decay = run.weight_decay if parameter.ndim > 1 else 0
        fast = is_norm and path.endswith("bias") and not inside
        assert groups[path] == (decay, run.norm_bias_rate if fast else 1), path
    assert len(groups) == sum(p.requires_grad for p in trainer.network.parameters())
    assert (norms_in_gates > 0) == (block is not None)


RECIPE_OF = {"fast": "sgd", "resnet20": "sgd", "vit": "adamw", "convvit": "adamw"}


@pytest.mark.parametrize("network", RECIPE_OF)
@pytest.mark.parametrize(("optimizer", "momentum"), [(None, None), ("sgd", 0), ("adamw", 0.5)])
def test_weights_after_two_steps_are_those_of_torchs_own_optimiser(network, optimizer, momentum):
    run = Run(network=network, width=8, optimizer=optimizer, momentum=momentum).resolved()
    assert run.optimizer == (optimizer or RECIPE_OF[network])
    trainer = Trainer(run, 10, 100, CPU, "float32")
    other = run.build(10)
    biases = {m.bias for m in other.modules() if isinstance(m, nn.BatchNorm2d)}
    groups = []
    for parameter in other.parameters():
        if parameter.requires_grad:
            decay = run.weight_decay if parameter.ndim > 1 else 0
            factor = run.norm_bias_rate if parameter in biases else 1
            groups.append({"params": [parameter], "weight_decay": decay, "factor": factor})
    if run.optimizer == "sgd":
        reference = torch.optim.SGD(groups, lr=1, momentum=run.momentum, nesterov=run.momentum > 0)
    else:
        reference = torch.optim.AdamW(groups, lr=1, betas=(run.momentum, 0.999))
    for step in range(2):
        images = torch.randn(8, 3, 32, 32).to(memory_format=torch.channels_last)
        labels = torch.arange(8) % 10
        trainer.train_step(images, labels)
        peak = run.learning_rate * (0.2 + 0.8 * step / 100 / run.warmup)
        for group in reference.param_groups:
            group["lr"] = group["factor"] * peak
        reference.zero_grad()
        logits = other(images)
        F.cross_entropy(logits, labels, label_smoothing=run.label_smoothing).backward()
        reference.step()
    start = dict(run.build(10).named_parameters())
    for (name, mine), wanted in zip(
        trainer.network.named_parameters(), other.parameters(), strict=True
    ):
        torch.testing.assert_close(mine, wanted, rtol=1e-5, atol=1e-6)
        if mine.ndim > 1:  # (keys' biases have no gradient: the softmax does not see them)
            assert torch.equal(mine, start[name]) != mine.requires_grad, name


def test_the_loss_is_computed_in_float32_whatever_the_network_is_computed_in():
    logits = torch.tensor([[0.1, 0.2, 60.0], [3.0, -2.0, 0.5]], dtype=torch.bfloat16)
    labels = torch.tensor([0, 2])
    trainer = Trainer(Run(**SMALL, label_smoothing=0.1), 3, 10, CPU, "bfloat16")
    offset = nn.Parameter(torch.zeros(()))
    trainer.network.forward = lambda images: logits + offset.to(torch.bfloat16)
    loss, right = trainer.train_step(torch.randn(2, 3, 32, 32), labels)
    expected = F.cross_entropy(logits.double(), labels, label_smoothing=0.1)
    assert loss.dtype == torch.float32 and right == 0
    assert float(loss) == pytest.approx(float(expected), rel=1e-5)  # bfloat16: to 1e-2


# Whitening


def test_whitening_looks_at_the_training_images_of_the_run_alone(images):
    dark = Split(images.test.images // 4, images.test.labels)
    data = Dataset("dark-tests", images.train, dark, images.classes)
    run = Run(network="fast", width=4, epochs=1, batch_size=20, train_images=30)
    network = trained(run, data, device="cpu", precision="float32", progress=False)
    expected = Whitening()
    seen = images.train.spread(30).images
    expected.fit(normalise(seen, images.mean, images.std))
    # kept as float16, whose rounding is 2⁻¹¹
    torch.testing.assert_close(network.stem[0].weight, expected.weight, rtol=5e-4, atol=1e-4)
    for other in (images.train.images, dark.images):
        expected.fit(normalise(other, images.mean, images.std))
        difference = (network.stem[0].weight.abs() - expected.weight.abs()).abs().max()
        assert difference > 1e-2


# Evaluation and precision


def test_evaluate_equals_a_loop_over_single_images(images):
    network = Run(**SMALL).build(10)
    loss, accuracy = evaluate(network, images.test, images, "cpu")
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


# The record


def test_a_run_learns_and_its_record_tells_what_was_done(images, own_home):
    run = Run(**SMALL | {"epochs": 8}, block="se", options={"reduction": 2})
    record = fit(run, images)
    history = record["result"]["history"]
    assert [h["epoch"] for h in history] == list(range(1, 9))
    assert history[-1]["train_loss"] < history[0]["train_loss"] - 0.1
    assert (record["name"], record["family"]) == ("resnet20-4 + se (reduction 2)", "channel")
    assert record["block"] == {
        "name": "se", "family": "channel", "at": "residual", "version": "v1"
    }  # fmt: skip
    assert record["dataset"] == {
        "name": "shapes10", "checksum": images.checksum, "classes": 10, "train_images": 60,
        "test_images": 40, "size": [16, 16], "class_names": list(images.classes),
        "mean": images.mean.tolist(), "std": images.std.tolist(),
    }  # fmt: skip
    told = record["run"]
    assert (told["block"], told["options"], told["stages"]) == ("se", {"reduction": 2}, None)
    assert (told["momentum"], told["test_images"]) == (0.9, 200)  # of the recipe, of the profile
    assert Run(**told) == run.resolved()
    network = run.build(10)
    assert record["result"]["parameters"] == attention.parameters(network)
    assert record["result"]["flops"] == attention.flops(network, (1, 3, 16, 16))
    network = trained(run, images, device="cpu")
    assert not network.training
    assert evaluate(network, images.test, images, "cpu") == (
        record["result"]["test_loss"], record["result"]["test_accuracy"],
    )  # fmt: skip
    cost = record["cost"]
    assert cost["seconds"] == pytest.approx(sum(cost["epoch_seconds"]))
    assert cost["images_per_second"] == pytest.approx(8 * 60 / cost["seconds"])
    here = machine.describe("cpu")
    [session] = cost["sessions"]
    how = {"precision": "float32", "compiled": False, "cuda_graphs": False}
    assert session == {"from_epoch": 1, **how} | {
        name: here[name] for name in ("hardware", "threads", "torch")
    }
    assert here.items() <= record["machine"].items()
    place = Files(run, images)
    assert files.read_record(place.record) == record
    assert json.loads(place.record.read_text()) == record
    left = {path for path in own_home.glob("data/**/*") if path.is_file()}
    assert left == {place.record, place.weights}
    assert place.record.parent == place.weights.parent == own_home / "data/runs/shapes10"


def test_a_finished_run_is_read_and_not_trained_again(images, monkeypatch):
    run = Run(**SMALL)
    record = fit(run, images)
    forbid_training(monkeypatch)
    assert fit(run, images) == record
    trained(run, images, device="cpu")


def test_training_leaves_the_callers_random_numbers_alone(images):
    torch.manual_seed(3)
    expected = torch.rand(5)
    torch.manual_seed(3)
    fit(Run(**SMALL), images)
    assert torch.equal(torch.rand(5), expected)


def test_committed_records_are_found_again_under_their_names(images, monkeypatch):
    root = Path(__file__).resolve().parent.parent
    command = ["git", "ls-files", "data/runs/*.json"]
    listed = subprocess.run(command, cwd=root, capture_output=True, text=True)
    if not listed.stdout:
        pytest.skip("no records are committed, or this is not a git checkout")
    monkeypatch.setenv("ATTENTION_PROFILE", "full")  # sets no number of images
    for path in (root / name for name in listed.stdout.split()):
        record = files.read_record(path)
        told = record["dataset"]
        data = dataclasses.replace(images, name=told["name"])
        vars(data)["checksum"] = told["checksum"]
        assert attention.training.key(Run(**record["run"]), data) == path.stem


# What is damaged, or of something else


def test_a_file_that_is_no_record_is_named(images):
    run = Run(**SMALL)
    place, record = Files(run, images), fit(run, images)
    contents = [record | {part: {}} for part in record]
    for content in ("half a rec", *map(json.dumps, contents)):
        place.record.write_text(content)
        with pytest.raises(ValueError, match=f"{place.record.name} .* is not a record"):
            fit(run, images)


@pytest.mark.parametrize(
    ("change", "named"),
    [
        (("run", "seed", 5), "'seed': 5"),
        (("run", "options", {"reduction": 2}), "'reduction': 2"),
        (("dataset", "name", "cifar10"), "cifar10"),
        (("dataset", "checksum", "0" * 64), "0000"),
        (("block", "version", "v0"), "v0"),
    ],
)
def test_a_record_of_another_run_or_dataset_is_refused(change, named, images):
    run = Run(**SMALL, block="se")
    record, place = fit(run, images), Files(run, images)
    part, name, value = change
    files.write_record(place.record, record | {part: record[part] | {name: value}})
    for ask in (attention.fit, trained):
        with pytest.raises(ValueError, match=f"{place.record} is the record of another") as raised:
            ask(run, images, device="cpu")
        assert named in str(raised.value)


@pytest.mark.parametrize("damage", ["gone", "bit", "another"])
def test_weights_that_are_missing_or_damaged_are_named_and_trained_again(
    damage, images, capsys, own_home
):
    run = Run(**SMALL)
    before, place = fit(run, images), Files(run, images)
    weights = trained(run, images, device="cpu").state_dict()
    content = place.weights.read_bytes()
    if damage == "gone":
        place.weights.unlink()
    elif damage == "another":
        fit(Run(**SMALL, seed=1), images)
        [other] = set(own_home.glob("data/runs/*/*.safetensors")) - {place.weights}
        place.weights.write_bytes(other.read_bytes())
    else:
        changed = bytearray(content)
        changed[-3] ^= 4
        place.weights.write_bytes(changed)
    capsys.readouterr()
    network = trained(run, images, device="cpu", precision="float32", progress=False)
    said = "".join(capsys.readouterr())
    assert str(place.weights) in said and "trained again" in said
    aside = place.weights.with_name(f"{place.weights.name}.corrupt")
    assert aside.exists() == (damage != "gone")
    for name, tensor in network.state_dict().items():
        assert torch.equal(tensor, weights[name]), name
    assert place.weights.read_bytes() == content
    assert files.read_record(place.record)["result"] == before["result"]


# What cannot be trained


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
    run = Run(**SMALL | {"epochs": 3}, block=FailsLater)
    message = r"the loss of resnet20-4 \+ FailsLater is nan in epoch 2"
    with pytest.raises(FloatingPointError, match=message):
        fit(run, images)
    assert not list(own_home.glob("data/runs/**/*.*"))
    state = files.load_checkpoint(Files(run, images).checkpoint)
    assert len(state["history"]) == 1
    assert all(torch.isfinite(v).all() for v in state["network"].values())


@pytest.mark.parametrize("rate", [1e30, 1e38])
def test_a_test_loss_that_is_not_a_number_is_in_no_record(rate, images, own_home):
    run = Run(**SMALL | {"learning_rate": rate, "batch_size": 60})
    with pytest.raises(FloatingPointError, match="loss of .*learning_rate below 1e"):
        fit(run, images)
    assert not list(own_home.glob("data/runs/**/*.*"))


@pytest.mark.parametrize(
    ("argument", "wrong"),
    [
        ("data", "cifar10"), ("run", {"network": "fast"}), ("device", "tpu"), ("device", "cuda:99"),
        ("device", "meta"), ("precision", "float8"), ("precision", torch.float32),
        ("progress", "loud"),
    ],
)  # fmt: skip
def test_a_wrong_argument_is_named_before_anything_is_done(argument, wrong, images, own_home):
    arguments = {"run": Run(**SMALL), "data": images, "device": "cpu"} | {argument: wrong}
    for ask in (attention.fit, trained):
        with pytest.raises((ValueError, TypeError), match=f"{argument} must be "):
            ask(**arguments)
    assert not list(own_home.iterdir())


def test_a_wrong_option_of_a_block_is_named_before_anything_is_trained(images, own_home):
    with pytest.raises(ValueError, match="reduction must be .* got 0"):
        fit(Run(**SMALL, block="se", options={"reduction": 0}), images)
    assert not list(own_home.glob("data/*/*/*"))


def test_a_long_name_leaves_room_for_the_bar(images, capsys):
    options = {"channel": "mlp", "spatial": "position", "pool": "dot product"}
    for block, kept in (({"block": "hybrid", "options": options}, "resnet20-4 + hybrid (channel"),
                        ({"block": "se"}, "resnet20-4 + se, seed 0:")):  # fmt: skip
        fit(Run(**SMALL | block), images, progress=True)
        shown = capsys.readouterr().err
        assert kept in shown and ", seed 0: 100%" in shown
        assert len(shown.rsplit("\r")[-1].partition(":")[0]) <= 45 + len(", seed 0")
