"""Runs and their keys: equal runs are one, different runs two, and what cannot be is refused."""

import dataclasses
import functools
import json
import math
import pickle
import re

import numpy as np
import pytest
import torch
from torch import nn

import attention
from attention.blocks import register, table
from attention.data import Dataset, Split
from attention.networks import NETWORKS, RECIPES
from attention.settings import PROFILES
from attention.training import Run, key, keys

PIXELS = Split(torch.zeros(3, 3, 8, 8, dtype=torch.uint8), torch.arange(3))
IMAGES = Dataset("images", PIXELS, PIXELS, tuple("abc"))


class Mine(nn.Module):
    """A block of one's own."""

    def __init__(self, channels, strength=1.0):
        super().__init__()
        self.strength = strength

    def forward(self, x):
        return x * self.strength


@pytest.fixture(autouse=True)
def profile(monkeypatch):
    monkeypatch.setenv("ATTENTION_PROFILE", "full")


# Plain data


def test_equal_runs_are_one_and_different_runs_are_not():
    same = [
        Run(block="hybrid", options={"pool": None, "combine": "sum"}, stages=2, learning_rate=1),
        Run(block="hybrid", options={"combine": "sum", "pool": None}, stages=(2,),
            learning_rate=1.0),
        Run(block=attention.Hybrid, options={"combine": "sum", "pool": None}, stages=[2, 2],
            learning_rate=np.float32(1), seed=np.int64(0)),
    ]  # fmt: skip
    assert len(set(same)) == 1 and same[0] == same[1] == same[2]
    assert len({repr(run) for run in same}) == 1 and len({run.name for run in same}) == 1
    assert len({key(run, IMAGES) for run in same}) == 1
    pools = [Run(block="cbam", options={"pools": pools}) for pools in (["max"], ("max",))]
    assert pools[0] == pools[1] and hash(pools[0]) == hash(pools[1])
    others = [
        Run(), Run(seed=1), Run(block="se"), Run(block=Mine), Run(block="se", at="stage"),
        Run(block="se", stages=1), Run(block="se", stages=(1, 2)), Run(width=8), Run(epochs=3),
        Run(block="se", options={"bias": True}), Run(block="se", options={"bias": 1}),
        Run(block="se", options={"bias": False}), Run(network="fast"), Run(train_images=5),
        Run(learning_rate=0.1), Run(optimizer="adamw"), Run(batch_size=8), Run(crop=0),
    ]  # fmt: skip
    assert len(set(others)) == len({key(run, IMAGES) for run in others}) == len(others)


def test_a_run_cannot_be_changed_and_keeps_nothing_of_the_callers():
    options = {"reduction": 4}
    run = Run(block="se", options=options)
    options["reduction"] = 8
    assert run.options == {"reduction": 4} and run.options not in (3, None, {"reduction": 8})
    with pytest.raises(dataclasses.FrozenInstanceError):
        run.seed = 3
    with pytest.raises(TypeError):
        run.options["reduction"] = 2
    again = pickle.loads(pickle.dumps(run))
    assert again == run and hash(again) == hash(run)
    assert dataclasses.replace(run, seed=1) == Run(block="se", options={"reduction": 4}, seed=1)


def test_a_run_reads_the_profile_where_it_is_used_and_not_before(monkeypatch):
    monkeypatch.setenv("ATTENTION_PROFILE", "nonsense")
    run = Run(block="se", width=16)
    assert (run.epochs, run.learning_rate, run.batch_size) == (None, None, None)
    monkeypatch.setenv("ATTENTION_PROFILE", "smoke")
    told = run.resolved()
    assert {name: getattr(told, name) for name in PROFILES["smoke"]} == PROFILES["smoke"]
    assert told.learning_rate == RECIPES["resnet"]["learning_rate"]
    assert told.resolved() == told != run
    assert Run(epochs=7, batch_size=8).resolved().epochs == 7
    assert Run(epochs=7, batch_size=8).resolved().batch_size == 8
    monkeypatch.setenv("ATTENTION_PROFILE", "full")
    assert told.resolved() == told
    assert run.resolved().epochs == PROFILES["full"]["epochs"]
    assert run.resolved().batch_size == RECIPES["resnet"]["batch_size"]
    assert run.resolved().train_images is None


@pytest.mark.parametrize("network", NETWORKS)
def test_every_network_has_a_recipe_that_leaves_nothing_open(network):
    told = Run(network=network).resolved()
    for name in RECIPES["fast"]:
        assert getattr(told, name) is not None, name
    assert told.optimizer == ("adamw" if "vit" in network else "sgd")
    assert told.family == ("transformer" if "vit" in network else "plain")
    assert json.loads(json.dumps(told.plain())) == told.plain()
    assert Run(**told.plain()) == told


def test_the_name_says_what_it_is():
    names = {
        Run(): "resnet20 (plain)",
        Run(width=16): "resnet20-16 (plain)",
        Run(width=16, block="cbam", options={"reduction": 4}): "resnet20-16 + cbam (reduction 4)",
        Run(block="cbam", options={"variant": "official", "pools": ["max", "avg"]}): (
            "resnet20 + cbam (pools max, avg; official)"
        ),
        Run(block="se", at="stage", stages=(1, 3)): "resnet20 + se (at stage; stages 1, 3)",
        Run(network="vit", width=32): "vit-32 (plain)",
        Run(block=Mine, options={"strength": 2.0}): "resnet20 + Mine (strength 2.0)",
    }
    assert {run: run.name for run in names} == names
    assert Run(block="se", start="identity").name == "resnet20 + se (start identity)"
    assert [Run(block=block).family for block in ("se", "hybrid", Mine)] == [
        "channel", "hybrid", "own",
    ]  # fmt: skip


def test_runs_of_one_seed_share_the_weights_of_the_layers_they_share():
    small = {"network": "resnet20", "width": 4}
    plain, gated = Run(**small).build(10), Run(**small, block="cbam").build(10)
    shared = dict(gated.named_parameters())
    for name, parameter in plain.named_parameters():
        assert torch.equal(parameter, shared[name]), name
    other = Run(**small, seed=1).build(10)
    assert not torch.equal(plain.classifier.weight, other.classifier.weight)


# What cannot be trained is refused at once


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"network": "vgg"}, "network must be one of fast, resnet20, .*'vgg'"),
        ({"network": None}, "network must be one of .* None"),
        ({"block": "attention-is-all"}, "block must be one of se, .*'attention-is-all'"),
        ({"block": ""}, "block must be one of se, "),
        ({"block": nn.Identity()}, "block must be .*callable"),
        ({"block": 3}, "block must be .*callable.* 3"),
        ({"at": "stage"}, "options belong to a block.*at='stage'"),
        ({"stages": (1,)}, "options belong to a block.*stages="),
        ({"start": "identity"}, "options belong to a block.*'identity'"),
        ({"block": "se", "start": "warm"}, "start must be one of.*'warm'"),
        ({"block": "dot_pool", "start": "identity"}, "for a pooling, .*start='identity'"),
        ({"options": {"reduction": 4}}, "options belong to a block.*'reduction': 4"),
        ({"block": "se", "at": "everywhere"}, "at must be one of residual, pre, post"),
        ({"block": "se", "at": "pool"}, "at must be 'pool' for a pooling and for nothing else"),
        ({"block": "dot_pool", "at": "stage"}, "at must be 'pool' for a pooling and for nothing"),
        ({"block": "dot_pool", "stages": 1}, "must be None for a pooling"),
        ({"block": "se", "stages": ()}, r"stages must be .*\(\)"),
        ({"block": "se", "stages": 0}, "stages must be .* 0"),
        ({"block": "se", "stages": (1, 2.0)}, "stages must be .* 2.0"),
        ({"block": "se", "stages": True}, "stages must be .* True"),
        ({"block": "se", "stages": "12"}, "stages must be .*'12'"),
        ({"block": "se", "options": {"redaction": 4}}, "block se must .*: it takes reduction"),
        ({"block": "se", "options": {"channels": 4}}, "block se must .*: it takes reduction"),
        ({"block": "sse", "options": {"a": 4}}, "block sse must .*: it takes none; got a"),
        ({"block": Mine, "options": {"power": 4}}, "block Mine must .*: it takes strength; got"),
        ({"block": "se", "options": [4]}, "options must be a dict"),
        ({"block": "se", "options": {4: 4}}, "options must be a dict"),
        ({"block": "se", "options": {"reduction": nn.ReLU}}, "options must be .*reduction=<class"),
        ({"block": "se", "options": {"reduction": math.nan}}, "options must be .*reduction=nan"),
        ({"block": "se", "options": {"reduction": [{}]}}, "options must be .*reduction={}"),
        *(({name: value}, f"{name} must be .* {re.escape(repr(value))}") for name, value in [
            ("width", 0), ("width", -8), ("width", 2.5), ("width", "16"), ("width", True),
            ("epochs", 0), ("epochs", 2.5), ("epochs", math.inf), ("train_images", 0),
            ("train_images", -1), ("test_images", 0), ("batch_size", 0), ("batch_size", 2.0),
            ("crop", -1), ("crop", 1.5), ("seed", "zero"), ("seed", -1), ("seed", 1.0),
            ("seed", True), ("seed", 2**32), ("seed", None), ("optimizer", "adagrad"),
            ("learning_rate", 0), ("learning_rate", -1), ("learning_rate", math.nan),
            ("learning_rate", math.inf), ("learning_rate", "0.1"), ("learning_rate", True),
            ("norm_bias_rate", -1), ("norm_bias_rate", math.inf), ("warmup", 0.0),
            ("warmup", 1.0), ("warmup", math.nan), ("momentum", 1.0), ("momentum", 2),
            ("momentum", -0.1), ("weight_decay", -1e-4), ("weight_decay", math.nan),
            ("label_smoothing", 1.0), ("label_smoothing", -0.1), ("label_smoothing", "much"),
        ]),
    ],
)  # fmt: skip
def test_what_cannot_be_trained_is_refused_at_construction(arguments, message):
    with pytest.raises((ValueError, TypeError), match=message):
        Run(**arguments)


def test_an_option_that_a_block_needs_has_to_be_given():
    class Needs(nn.Module):
        def __init__(self, channels, size):
            super().__init__()

    with pytest.raises(TypeError, match="block Needs must .*missing .*'size'"):
        Run(block=Needs)
    assert Run(block=Needs, options={"size": 3}).options == {"size": 3}
    assert Run(block=lambda channels, **any: Mine(channels), options={"b": 1, "a": 2}).options == {
        "a": 2, "b": 1,
    }  # fmt: skip
    with pytest.raises(TypeError, match="block lambda must take the channels"):
        Run(block=lambda: nn.Identity())


# The key


def test_a_key_is_words_and_a_digest_and_does_for_a_file_name():
    run = Run(block="se", options={"reduction": 4}, width=16, epochs=3, seed=7)
    assert re.fullmatch(
        "resnet20-se-reduction4-width16-epochs3-seed7-[0-9a-f]{12}", key(run, IMAGES)
    )
    many = {f"option_{n}/../": "/\\ü\n" * 9 for n in range(20)}
    odd = Run(block=lambda channels, **options: Mine(channels), options=many, seed=2**32 - 1)
    assert re.fullmatch(r"[\w.+-]{1,140}", key(odd, IMAGES), flags=re.ASCII)


def test_a_key_builds_no_network(monkeypatch):
    runs = [Run(block="se"), Run(block=Mine), Run(network="vit", width=8)]
    keys_before = [key(run, IMAGES) for run in runs]

    def forbidden(*arguments, **options):
        raise AssertionError("a module was built")

    monkeypatch.setattr(nn.Module, "__init__", forbidden)
    assert [key(run, IMAGES) for run in runs] == keys_before


def test_a_key_holds_the_profile_that_a_run_is_resolved_in(monkeypatch):
    whole = Run(block="se", epochs=30, batch_size=512, train_images=9, test_images=9)
    open_, full = Run(block="se"), key(whole, IMAGES)
    before = key(open_, IMAGES)
    assert before == key(open_.resolved(), IMAGES)
    monkeypatch.setenv("ATTENTION_PROFILE", "smoke")
    assert key(open_, IMAGES) != before and key(whole, IMAGES) == full


def test_a_key_holds_the_dataset():
    lighter = Split(PIXELS.images + 1, PIXELS.labels)
    for change in ({"name": "other"}, {"test": lighter}, {"train": lighter}):
        other = dataclasses.replace(IMAGES, **change)
        assert key(Run(), other) != key(Run(), IMAGES)


def test_another_default_or_version_is_another_key(monkeypatch):
    run, before = Run(block="se", network="vit"), key(Run(block="se", network="vit"), IMAGES)
    defaults = attention.SE.__init__.__defaults__
    with monkeypatch.context() as patch:
        patch.setattr(attention.SE.__init__, "__defaults__", (8, *defaults[1:]))
        assert key(run, IMAGES) != before
    row = table.known("se")
    for change in ({"version": 2}, {"at": "stage"}, {"skip_last": True}):
        with monkeypatch.context() as patch:
            patch.setitem(table._rows, "se", dataclasses.replace(row, **change))
            assert key(run, IMAGES) != before, change
    network = NETWORKS["vit"]
    for change in ({"version": 2}, {"make": functools.partial(network.make, depth=2)}):
        with monkeypatch.context() as patch:
            patch.setitem(NETWORKS, "vit", dataclasses.replace(network, **change))
            assert key(run, IMAGES) != before, change
    with monkeypatch.context() as patch:
        patch.setattr(keys, "TRAINER_VERSION", 99)
        assert key(run, IMAGES) != before
    assert key(run, IMAGES) == before


def test_a_renamed_module_inside_a_block_of_the_package_keeps_its_key(monkeypatch):
    run = Run(block="se", network="resnet20", width=4)
    before, names = key(run, IMAGES), set(run.build(3).state_dict())
    start = attention.SE.__init__

    @functools.wraps(start)
    def renamed(self, *arguments, **options):
        start(self, *arguments, **options)
        self._modules = {f"renamed_{name}": module for name, module in self._modules.items()}

    with monkeypatch.context() as patch:
        patch.setattr(attention.SE, "__init__", renamed)
        assert key(run, IMAGES) == before
        patch.setattr(attention.SE, "forward", lambda self, x: x)
        assert set(run.build(3).state_dict()) != names
        assert key(run, IMAGES) == before  # a new result is told by a new version, see above


def test_a_block_of_ones_own_is_in_the_key_with_all_that_it_closes_over():
    def block(power):
        class Own(nn.Module):
            def __init__(self, channels):
                super().__init__()

            def forward(self, x):
                return x**power

        return Own

    one, again, other = (key(Run(block=block(power)), IMAGES) for power in (1, 1, 2))
    assert one == again != other
    before = [key(Run(block=functools.partial(attention.BAM, dilation=1)), IMAGES)]
    for dilation in (1, 4):  # the same name, another block
        register("widened", functools.partial(attention.BAM, dilation=dilation))
        before.append(key(Run(block="widened"), IMAGES))
    assert len(set(before)) == 3


def test_a_start_as_the_identity_reaches_the_network_and_the_key():
    run = Run(network="resnet20", width=4, block="cbam", start="identity")
    plain = dataclasses.replace(run, block=None, start=None)
    x = torch.randn(2, 3, 16, 16)
    with torch.no_grad():
        torch.testing.assert_close(run.build(3).eval()(x), plain.build(3).eval()(x))
        assert not torch.allclose(
            dataclasses.replace(run, start=None).build(3).eval()(x), plain.build(3).eval()(x)
        )
    assert key(run, IMAGES) != key(dataclasses.replace(run, start=None), IMAGES)
    assert "startidentity" in key(run, IMAGES)


@pytest.mark.parametrize("at", ["pre", "post", "identity"])
def test_a_run_takes_the_places_of_the_se_paper(at):
    run = Run(network="resnet20", width=4, block="se", at=at, options={"reduction": 2})
    assert Run(**run.plain()) == run and run.name == f"resnet20-4 + se (reduction 2; at {at})"
    assert [placement.at for placement in run.build(3).placements] == [at] * 9
