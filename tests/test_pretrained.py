"""What comes trained with the repository: found anywhere, used until one trains again."""

import pytest
import torch

import attention
from attention import files, settings
from attention.data import normalise
from attention.data.shapes10 import shapes10
from attention.training import Files, Run, Trainer, pretrained, trained

SMALL = {"network": "resnet20", "width": 4, "epochs": 1, "batch_size": 30}


@pytest.fixture(scope="module")
def images():
    return shapes10(train=60, test=40, size=16)


def fit(run, images):
    return attention.fit(run, images, device="cpu", precision="float32", progress=False)


@pytest.fixture
def clone(own_home, tmp_path, monkeypatch):
    """A repository with two trained networks, and a home elsewhere; gives both folders."""
    folder = tmp_path / "clone"
    folder.mkdir()
    (folder / "pyproject.toml").write_text("")
    monkeypatch.setattr(settings, "__file__", str(folder / "attention" / "settings.py"))
    return folder, own_home


def come_trained(runs, images, clone, monkeypatch):
    """Train in the repository, as its authors did, and give the records."""
    folder, home = clone
    monkeypatch.setenv("ATTENTION_HOME", str(folder))
    records = [fit(run, images) for run in runs]
    monkeypatch.setenv("ATTENTION_HOME", str(home))
    return records


def forbid_training(monkeypatch):
    def fail(*_, **__):
        raise AssertionError("trained")

    monkeypatch.setattr(Trainer, "__init__", fail)


def test_what_comes_trained_is_brought_home_and_not_trained(images, clone, monkeypatch):
    run = Run(**SMALL, block="se", options={"reduction": 2})
    [record] = come_trained([run], images, clone, monkeypatch)
    forbid_training(monkeypatch)
    assert fit(run, images) == record
    network = trained(run, images, device="cpu")
    place = Files(run, images)
    assert place.record.is_relative_to(clone[1]) and place.weights.exists()
    loss, accuracy = attention.evaluate(network, images.test, images)
    assert (loss, accuracy) == (record["result"]["test_loss"], record["result"]["test_accuracy"])


def test_training_again_touches_nothing_that_came(images, clone, monkeypatch):
    run, (folder, _) = Run(**SMALL), clone
    [record] = come_trained([run], images, clone, monkeypatch)
    before = {path: path.read_bytes() for path in folder.glob("data/runs/**/*.*")}
    monkeypatch.setenv("ATTENTION_HOME", str(folder))
    monkeypatch.setenv("ATTENTION_RETRAIN", "1")
    again = fit(run, images)
    assert again["machine"]["finished"] >= record["machine"]["finished"]
    assert again["result"] == record["result"]
    place = Files(run, images)
    assert place.record.parent == folder / "data/retrained/shapes10" and place.weights.exists()
    forbid_training(monkeypatch)
    assert fit(run, images) == again  # once, not at every call
    assert {path: path.read_bytes() for path in folder.glob("data/runs/**/*.*")} == before


@pytest.mark.parametrize("value", ["yes", "2", "true"])
def test_another_value_of_the_switch_is_refused(value, monkeypatch):
    monkeypatch.setenv("ATTENTION_RETRAIN", value)
    with pytest.raises(ValueError, match=f"ATTENTION_RETRAIN must be .*'{value}'"):
        settings.retrain()


def test_pretrained_gives_the_network_and_says_what_it_was_trained_on(
    images, clone, monkeypatch, capsys
):
    runs = [
        Run(**SMALL, block="se", options={"reduction": 4}, seed=1),
        Run(**SMALL, block="se", options={"reduction": 2, "bias": False}, seed=1),
        Run(**SMALL, block="se", stages=3, seed=1),
        Run(**SMALL, block="se", start="identity", seed=1),
        Run(**SMALL, block="se", options={"reduction": 4}, seed=2),
        Run(**SMALL),
    ]
    record = come_trained(runs, images, clone, monkeypatch)[0]
    network = pretrained("se", data="shapes10", seed=1)
    assert not network.training and network.record == record
    said = capsys.readouterr().out
    accuracy = record["result"]["test_accuracy"]
    for word in (
        record["name"],
        "seed 1",
        "1 epochs",
        "60 images",
        "shapes10",
        f"{accuracy:.1f} %",
    ):
        assert word in said
    # to be used without the dataset: the record has what images are normalised with
    told = record["dataset"]
    assert told["class_names"] == list(images.classes)
    with torch.no_grad():
        logits = network(normalise(images.test.images, told["mean"], told["std"]))
    right = (logits.argmax(1) == images.test.labels).float().mean()
    assert 100 * right.item() == pytest.approx(accuracy)
    assert pretrained(data="shapes10").record["run"]["block"] is None


def test_what_is_not_there_is_named_with_what_is(images, clone, monkeypatch):
    come_trained([Run(**SMALL, block="se", seed=3)], images, clone, monkeypatch)
    with pytest.raises(ValueError, match="block 'cbam'.*there is resnet20-4 [+] se"):
        pretrained("cbam", data="shapes10")
    with pytest.raises(ValueError, match="trained on 'flowers'.*nothing trained on that"):
        pretrained("se", data="flowers")
    with pytest.raises(ValueError, match="seed must be .*3.* got 0"):
        pretrained("se", data="shapes10")
    with pytest.raises(ValueError, match="network must be one of"):
        pretrained("se", network="vgg")


# Weights are kept as float16


def test_what_is_tested_is_what_is_kept(images, own_home):
    run = Run(**SMALL)
    record = fit(run, images)
    place = Files(run, images)
    kept = files.load_weights(place.weights, record["result"]["weights"])
    floats = [tensor for tensor in kept.values() if tensor.is_floating_point()]
    assert floats and {tensor.dtype for tensor in floats} == {torch.float16}
    assert place.weights.stat().st_size < 2.6 * record["result"]["parameters"] + 20_000
