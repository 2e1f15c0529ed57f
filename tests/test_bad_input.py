"""Every public function, one argument at a time, given what a user can plausibly get wrong.

Each call must be refused with a ValueError or a TypeError that names the argument; nothing is
accepted silently, nothing hangs. What stands here in tables was tried by hand once, and found to
hang, to help nobody, or to give a result without a meaning.
"""

import itertools
import math
import signal

import numpy as np
import pandas as pd
import pytest
import torch
from torch import nn

import attention
from attention import (
    blocks,
    cost,
    data,
    explain,
    figures,
    networks,
    results,
    settings,
    study,
    training,
)

NAN, INF = math.nan, math.inf
COUNT = (0, -1, 1.5, True, "3", NAN, [2])
SEED = (-1, 1.5, True, "0")
CHOICE = ("nope", "", 3, ["a"])
POSITIVE = (0.0, -1.0, NAN, INF, "1", True)
SHARE = (0.0, 1.0, 95, -0.1, NAN, "0.9")
NETWORK = (None, "resnet20", 3, nn.Linear, [nn.Linear(2, 2)])
FEATURES = (None, 3, np.zeros((2, 8, 4, 4)), torch.zeros(8, 4, 4), torch.zeros(2, 7, 4, 4),
            torch.zeros(2, 8, 4, 4, dtype=torch.long), torch.zeros(2, 8, 0, 4))  # fmt: skip
IMAGES = (None, "x", np.zeros((2, 3, 32, 32)), torch.zeros(3, 32, 32), torch.zeros(0, 3, 32, 32),
          torch.full((2, 3, 32, 32), NAN))  # fmt: skip
HEAT = (None, torch.zeros(2, 1, 8, 8), torch.zeros(8, 8), torch.full((2, 8, 8), NAN))
DATA = ("shapes10", 3, [1])
FRESH = itertools.count()  # names of folders that are not there yet


@pytest.fixture(autouse=True)
def nothing_hangs():
    """No call here takes more than a moment."""

    def stop(*_):
        raise AssertionError("still running after 20 s")

    before = signal.signal(signal.SIGALRM, stop)
    signal.alarm(20)
    yield
    signal.alarm(0)
    signal.signal(signal.SIGALRM, before)


@pytest.fixture(scope="module")
def images():
    return data.shapes10(train=40, test=20)


def network(block="cbam"):
    made = attention.resnet(8, 4)
    return attention.insert(made, block).eval() if block else made.eval()


def runs_table():
    rows = [
        {"name": name, "family": "plain", "seed": seed, "test_accuracy": 80 + seed + k,
         "parameters": 100 * (k + 1)}
        for k, name in enumerate(("a", "b", "c")) for seed in (0, 1, 2)
    ]  # fmt: skip
    return pd.DataFrame(rows)


X = torch.randn(2, 3, 32, 32)
MAPS = torch.rand(2, 8, 8)
SPLIT = (torch.zeros(4, 3, 8, 8, dtype=torch.uint8), torch.zeros(4, dtype=torch.long))

# what is called: (function, its good arguments, {argument: what it is given instead})
BLOCK_OPTIONS = {
    "channels": COUNT, "reduction": COUNT, "kernel_size": (*COUNT, 4), "dilation": COUNT,
    "codewords": COUNT, "heads": (*COUNT, 3), "reach": COUNT, "hidden": COUNT,
    "variant": CHOICE, "mode": CHOICE, "combine": CHOICE, "channel": CHOICE, "spatial": CHOICE,
    "pool": CHOICE, "mixing": CHOICE, "pools": ("avg", (), ("avg", "median"), 3, ("avg", "avg")),
    "bias": ("yes", 2, None), "residual": ("yes", 2, None),
}  # fmt: skip


def block_calls():
    import inspect

    for name, cls in (blocks.BLOCKS | blocks.POOLINGS).items():
        for argument in inspect.signature(cls).parameters:
            if argument in BLOCK_OPTIONS:
                for value in BLOCK_OPTIONS[argument]:
                    if argument in ("bias", "residual") and value is None:
                        continue
                    yield name, cls, argument, value


@pytest.mark.parametrize(
    ("name", "cls", "argument", "value"),
    [pytest.param(*call, id=f"{call[0]}-{call[2]}-{call[3]}") for call in block_calls()],
)
def test_constructors_of_blocks(name, cls, argument, value):
    with pytest.raises((ValueError, TypeError), match=rf"\b{argument}\b"):
        cls(**({"channels": 8} | {argument: value}))


@pytest.mark.parametrize("name", [*blocks.BLOCKS, *blocks.POOLINGS])
@pytest.mark.parametrize("x", FEATURES, ids=range(len(FEATURES)))
def test_blocks_take_feature_maps_only(name, x):
    block = (blocks.BLOCKS | blocks.POOLINGS)[name](8).eval()
    with pytest.raises(ValueError, match="feature maps"):
        block(x)


def cases(images):
    """(function, good arguments, {argument: bad values})"""
    table, plain = runs_table(), attention.Run(network="resnet20", width=4)
    record_free = {"progress": False}
    return {
        "insert": (
            lambda **k: attention.insert(k.pop("network"), k.pop("block"), **k),
            lambda: {"network": attention.resnet(8, 4), "block": "se"},
            {"network": NETWORK, "block": ("nope", 3, nn.Linear(2, 2), None), "at": ("top", 3, ""),
             "stages": (0, 4, -1, "1", 1.5, (), True, (1, 9))},
        ),
        "resnet": (
            attention.resnet, lambda: {"depth": 8, "width": 4, "classes": 3},
            {"depth": (*COUNT, 10, 7), "width": COUNT, "classes": COUNT},
        ),
        "fast_resnet": (
            attention.fast_resnet, lambda: {"width": 32, "classes": 3},
            {"width": COUNT, "classes": COUNT},
        ),
        "vit": (
            attention.vit, lambda: {"width": 32, "depth": 1, "heads": 4, "patch": 4, "classes": 3},
            {"width": COUNT, "depth": COUNT, "heads": (*COUNT, 5), "patch": COUNT,
             "classes": COUNT},
        ),
        "convvit": (
            attention.convvit, lambda: {"width": 32, "depth": 1, "heads": 4, "classes": 3},
            {"width": (*COUNT, 3), "depth": COUNT, "heads": (*COUNT, 5), "classes": COUNT},
        ),
        "flops": (
            cost.flops, lambda: {"network": network(), "shape": (1, 3, 32, 32)},
            {"network": NETWORK, "shape": (3, (3, 32), "x", (1, 3, 0, 32), (1, 3, 32, -1), None)},
        ),
        "parameters": (cost.parameters, lambda: {"module": network()}, {"module": NETWORK}),
        "load": (
            attention.load, lambda: {"name": "shapes10"},
            {"name": ("nope", "/nowhere/at/all", 3), "size": (8, -1, "x", True),
             "resize": (*CHOICE, "crop"), "broken": CHOICE},
        ),
        "shapes10": (
            data.shapes10, lambda: {"train": 20, "test": 20},
            {"train": (*COUNT, 15, 10**9), "test": (*COUNT, 15), "seed": SEED,
             "size": (*COUNT, 8, 10**6)},
        ),
        "held_out": (
            data.held_out, lambda: {"data": images},
            {"data": (*DATA, None), "share": SHARE, "seed": SEED},
        ),
        "write_folder": (
            data.write_folder,
            lambda: {"data": images, "path": settings.home() / f"new-{next(FRESH)}", "images": 1},
            {"data": DATA, "path": (None, 3, ""),
             "classes": ("star", ("nope",), (), ("star", "star"), 3),
             "images": (*COUNT, 10**6, {"star": 1}), "size": (*COUNT, 10**6), "split": CHOICE,
             "ending": (*CHOICE, "png", ".gif")},
        ),
        "random_labels": (
            data.random_labels, lambda: {"data": images}, {"data": (*DATA, None), "seed": SEED}
        ),
        "Split": (
            data.Split, lambda: {"images": SPLIT[0], "labels": SPLIT[1]},
            {"images": (None, SPLIT[0].float(), SPLIT[0][:, :1], SPLIT[0][0], SPLIT[0].numpy()),
             "labels": (None, SPLIT[1][:2], SPLIT[1].float(), [0, 0, 0, 0], SPLIT[1] - 1),
             "masks": (torch.zeros(4, 8, 8), torch.zeros(3, 8, 8, dtype=torch.bool), 3)},
        ),
        "Batches": (
            data.Batches, lambda: {"split": images.train, "batch_size": 8, "seed": 0, "crop": 2},
            {"split": (None, 3, images), "batch_size": COUNT, "seed": SEED,
             "crop": (-1, 32, 1.5, "2", True), "device": ("tpu9", 3.5)},
        ),
        "normalise": (
            data.normalise,
            lambda: {"images": images.test.images, "mean": images.mean, "std": images.std},
            {"images": (None, X, images.test.images[0]), "mean": (None, (1, 2), "x"),
             "std": (None, (1, 2), "x", (0, 0, 0))},
        ),
        "Run": (
            attention.Run, lambda: {"network": "resnet20", "block": "se"},
            {"network": CHOICE, "width": COUNT, "block": ("nope", 3, nn.Linear(2, 2), ""),
             "at": ("top", 3, "pool"), "stages": (0, -1, "1", 1.5, (), True),
             "options": (3, "x", [1], {"nope": 1}, {"reduction": NAN}, {1: 2}),
             "seed": (*SEED, NAN, 2**40), "epochs": COUNT, "train_images": COUNT,
             "test_images": COUNT, "batch_size": COUNT, "optimizer": CHOICE,
             "learning_rate": POSITIVE, "norm_bias_rate": (-1, NAN, INF, "1", True),
             "warmup": (0, 1, 2, -1, NAN, "x", True), "momentum": (1, 2, -0.1, NAN, "x", True),
             "weight_decay": (-1, NAN, INF, "x", True),
             "label_smoothing": (1, 2, -0.1, NAN, "x", True), "crop": (-1, 1.5, "2", True)},
        ),
        "fit": (
            attention.fit, lambda: {"run": plain, "data": images, **record_free},
            {"run": (None, 3, "se", {"block": "se"}), "data": DATA, "device": ("tpu9", 3.5),
             "precision": ("float8", 3, ""), "progress": ("loud", 3)},
        ),
        "trained": (
            attention.trained, lambda: {"run": plain, "data": images, **record_free},
            {"run": (None, 3, "se"), "data": DATA, "device": ("tpu9", 3.5),
             "precision": ("float8", 3, "")},
        ),
        "predict": (
            attention.predict,
            lambda: {"network": network(), "split": images.test, "data": images},
            {"network": NETWORK, "split": (None, 3, images), "data": (*DATA, None),
             "batch_size": COUNT, "precision": ("float8", 3), "device": ("tpu9", 3.5)},
        ),
        "evaluate": (
            attention.evaluate,
            lambda: {"network": network(), "split": images.test, "data": images},
            {"network": NETWORK, "split": (None, 3, images), "data": (*DATA, None),
             "batch_size": COUNT, "precision": ("float8", 3)},
        ),
        "grad_cam": (
            attention.grad_cam, lambda: {"network": network(), "images": X},
            {"network": NETWORK, "images": IMAGES, "layer": ("nope", 3, nn.Linear(2, 2)),
             "target": (-1, 10, 1.5, "cat", (0, 1, 2), NAN)},
        ),
        "relevance": (
            explain.relevance,
            lambda: {"network": network(), "images": X,
                     "path": "stages.0.0.attention.spatial_gate"},
            {"network": NETWORK, "images": IMAGES, "path": ("nope", 3, None)},
        ),
        "every_map": (
            explain.every_map, lambda: {"network": network(), "images": X},
            {"network": NETWORK, "images": IMAGES, "batch_size": COUNT},
        ),
        "gradient_magnitude": (
            explain.gradient_magnitude, lambda: {"network": network(), "images": X},
            {"network": NETWORK, "images": IMAGES, "target": (-1, 10, 1.5, "cat")},
        ),
        "random_maps": (
            explain.random_maps, lambda: {"images": X}, {"images": IMAGES[:4], "seed": SEED}
        ),
        "centred_gaussian": (
            explain.centred_gaussian, lambda: {"images": X},
            {"images": IMAGES[:4], "width": POSITIVE},
        ),
        "localisation": (
            explain.localisation, lambda: {"maps": MAPS, "masks": MAPS > 0.5},
            {"maps": (*HEAT, -MAPS), "masks": (None, MAPS, MAPS[:1] > 0, MAPS > 2)},
        ),
        "faithfulness": (
            explain.faithfulness,
            lambda: {"network": network(), "images": X, "maps": torch.rand(2, 32, 32)},
            {"network": NETWORK, "images": IMAGES, "maps": (*HEAT, MAPS), "method": CHOICE,
             "target": (-1, 10, 1.5, "cat"), "steps": COUNT, "batch_size": COUNT, "seed": SEED},
        ),
        "impute": (
            explain.impute,
            lambda: {"images": X, "taken": torch.zeros(2, 1, 32, 32, dtype=torch.bool)},
            {"images": IMAGES, "taken": (None, X, torch.zeros(2, 32, 32, dtype=torch.bool),
             torch.zeros(2, 1, 8, 8, dtype=torch.bool)), "noise": (-1, NAN, INF, "x"),
             "seed": SEED},
        ),
        "rank_correlation": (
            explain.rank_correlation, lambda: {"first": MAPS, "second": MAPS},
            {"first": (*HEAT, MAPS[:1]), "second": (*HEAT, MAPS[:1])},
        ),
        "mean_interval": (
            explain.mean_interval, lambda: {"values": [1.0, 2.0, 4.0]},
            {"values": (None, [], [1.0], "x", [INF, 1.0]), "confidence": SHARE, "seed": SEED},
        ),
        "rollout": (
            attention.rollout, lambda: {"layers": [torch.rand(2, 1, 5, 5).softmax(-1)]},
            {"layers": (None, [], [MAPS], [torch.rand(2, 1, 5, 4)], 3)},
        ),
        "work": (
            study.work, lambda: {"runs": [], "data": images, **record_free},
            {"runs": (None, 3, ["se"], plain), "data": DATA, "minutes": (-1, NAN, INF, "1", True),
             "device": ("tpu9", 3.5)},
        ),
        "register": (
            attention.register, lambda: {"name": "mine", "cls": blocks.SE},
            {"name": ("se", "", "../up", "<b>", 3, None), "cls": (None, 3, "se", nn.Linear(2, 2)),
             "at": ("top", 3), "family": ("nope", 3)},
        ),
        "means": (
            results.statistics.means, lambda: {"table": table},
            {"table": (None, 3, table[:0], table.drop(columns="seed"), pd.concat([table, table])),
             "value": ("nope", "name", 3), "confidence": SHARE},
        ),
        "paired": (
            results.statistics.paired, lambda: {"table": table, "baseline": "a"},
            {"table": (None, table[:0], table.drop(columns="seed")), "baseline": ("nope", 3, None),
             "value": ("nope", "name"), "confidence": SHARE},
        ),
        "pooled": (
            results.statistics.pooled, lambda: {"table": table, "baseline": "a"},
            {"table": (None, table[:0], table[table.seed == 0]), "baseline": ("nope", 3, None),
             "value": ("nope", "name"), "confidence": SHARE},
        ),
        "save": (
            figures.save,
            lambda: {"figure": figures.pictures(SPLIT[0], list("abcd")), "name": "x",
                     "dataset": "d"},
            {"name": ("../evil", "", 3, "a/b"), "dataset": ("../../../evil", "", 3, "/etc"),
             "figure": (None, 3)},
        ),
        "pictures": (
            figures.pictures, lambda: {"images": SPLIT[0], "titles": list("abcd")},
            {"images": (None, SPLIT[0][:0], X, SPLIT[0][0]), "titles": (["a"], None, list("abcde")),
             "columns": COUNT},
        ),
        "stages": (networks.stages, lambda: {"network": network()}, {"network": NETWORK}),
        "key": (
            training.key, lambda: {"run": plain, "data": images},
            {"run": (None, 3, "se"), "data": (*DATA, None)},
        ),
    }  # fmt: skip


def listed():
    """(name of the case, argument, number of the bad value), without making any of them."""
    # The table needs images; its shape does not.
    made = cases(data.shapes10(train=20, test=20))
    return [
        pytest.param(name, argument, number, id=f"{name}-{argument}-{number}")
        for name, (_, _, bad) in made.items()
        for argument, values in bad.items()
        for number in range(len(values))
    ]


@pytest.mark.parametrize(("name", "argument", "number"), listed())
def test_public_functions(name, argument, number, images, own_home):
    function, good, bad = cases(images)[name]
    with pytest.raises((ValueError, TypeError), match=rf"\b{argument}\b"):
        function(**(good() | {argument: bad[argument][number]}))


def test_the_good_arguments_are_good(images, own_home):
    """Or the refusals above would say nothing."""
    for name, (function, good, _) in cases(images).items():
        if name not in ("fit", "trained", "register"):  # tested elsewhere; they leave something
            function(**good())
