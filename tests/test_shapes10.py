"""Shapes-10: the same bytes everywhere, a mask that covers its object, ten forms that differ."""

import hashlib
import importlib

import numpy as np
import pytest
import torch

from attention.data import load, shapes10

loading, drawing = (importlib.import_module(f"attention.data.{x}") for x in ("load", "shapes10"))


def test_shapes10_are_the_same_bytes_everywhere():
    dataset = shapes10(train=50, test=20, seed=3)
    digest = hashlib.sha256()
    for split in (dataset.train, dataset.test):
        for part in (split.images, split.labels, split.masks):
            digest.update(part.numpy().tobytes())
    assert digest.hexdigest() == "c0ed433b289aea4110e83a8ee6067e6377654860c6824eb9cf9f273f497a66d8"


def test_shapes10_is_cached_with_its_masks(tmp_path, monkeypatch):
    monkeypatch.setattr(loading, "shapes10", lambda: shapes10(20, 10))
    first = load("shapes10", tmp_path)
    monkeypatch.setattr(loading, "shapes10", None)
    second = load("shapes10", tmp_path)
    assert second.checksum == first.checksum
    assert torch.equal(second.test.masks, first.test.masks)


def test_shapes10_is_balanced_shuffled_and_seeded():
    dataset = shapes10(train=100, test=50)
    assert dataset.classes == drawing.CLASSES and dataset.size == (32, 32)
    assert dataset.train.labels.bincount().tolist() == [10] * 10
    assert dataset.test.labels.bincount().tolist() == [5] * 10
    assert dataset.train.labels.tolist() != sorted(dataset.train.labels.tolist())
    assert shapes10(train=100, test=50, seed=1).checksum != dataset.checksum


@pytest.mark.parametrize("wrong, said", [
    ({"train": 15}, "train must be a multiple of 10"), ({"test": 0}, "test"), ({"size": 8}, "size"),
    ({"size": 513}, "size must be at most 512"), ({"size": 32.0}, "size"), ({"seed": -1}, "seed"),
    ({"seed": 2**32}, "seed"), ({"train": True}, "train"), ({"train": None}, "train"),
    ({"test": float("nan")}, "test"), ({"train": 10**12}, "GiB"),
])  # fmt: skip
def test_shapes10_refuses(wrong, said):
    with pytest.raises(ValueError, match=said):
        shapes10(**{"train": 10, "test": 10, **wrong})


@pytest.mark.parametrize("size", [32, 48])
def test_masks_cover_the_object(size):
    train = shapes10(train=200, test=10, size=size).train
    area = train.masks.float().mean((1, 2))
    assert 0.01 < area.min() and area.max() < 0.25
    masks = train.masks[:, None].float()
    grown = torch.nn.functional.max_pool2d(masks, 7, 1, 3)
    near = grown - torch.nn.functional.max_pool2d(masks, 3, 1, 1)  # beside the object
    core = 1 - torch.nn.functional.max_pool2d(1 - masks, 3, 1, 1)  # without its blended border
    pixels = train.images.float()

    def colour(where):
        return (pixels * where).sum((2, 3)) / where.sum((2, 3)).clamp_min(1)

    there = core.sum((1, 2, 3)) > 0
    contrast = (colour(core) - colour(near)).abs().sum(1)[there]
    assert there.float().mean() > 0.9
    assert contrast.median() > 120 and (contrast > 40).float().mean() > 0.98
    shifted = torch.roll(core, size // 2, 3)  # the measure tells a wrong mask
    assert (colour(shifted) - colour(near)).abs().sum(1).median() < 60


def test_the_shapes_differ_in_form():
    """Each class as drawn upright, beside every other class in any rotation: never the same."""
    u, v = np.meshgrid(*[np.arange(-1200, 1200, 40)] * 2)
    forms = {}
    for name in drawing.CLASSES:
        turned = []
        for k in range(0, drawing.TURN, 4):
            cos, sin = drawing.COS[k].item(), drawing.SIN[k].item()
            turned.append(
                drawing._inside(name, (u * cos + v * sin) >> 12, (v * cos - u * sin) >> 12)
            )
        forms[name] = np.stack(turned)
        assert forms[name].any()
    for one in drawing.CLASSES:
        for other in drawing.CLASSES:
            if one != other:
                both = (forms[one][0] & forms[other]).sum((1, 2))
                either = (forms[one][0] | forms[other]).sum((1, 2))
                assert (both / either).max() < 0.85, (one, other)
