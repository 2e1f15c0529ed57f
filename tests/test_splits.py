"""Datasets made from a dataset: what is held out, and labels that say nothing."""

import pytest
import torch

from attention import data
from attention.data import DataError, held_out, random_labels


def numbered(per_class=(10, 20, 7), test=5):
    """Images that carry their own number, of classes of unequal size, with masks."""
    count = sum(per_class)
    labels = torch.repeat_interleave(torch.arange(len(per_class)), torch.tensor(per_class))
    labels = labels[torch.randperm(count)]
    images = torch.arange(count).view(-1, 1, 1, 1).expand(-1, 3, 2, 2).byte()
    masks = (images[:, 0] % 2).bool()
    train = data.Split(images.contiguous(), labels, masks)
    rest = data.Split(torch.full((test, 3, 2, 2), 200).byte(), torch.zeros(test).long())
    return data.Dataset("some", train, rest, tuple("abc"))


def numbers(split):
    return split.images[:, 0, 0, 0].long()


# ------------------------------------------------------------------------------------- held_out


def test_held_out_images_and_the_rest_are_the_training_images_and_keep_their_labels():
    whole = numbered()
    found = held_out(whole, 0.2)
    assert found.name == "some-validation" and found.classes == whole.classes
    assert sorted([*numbers(found.train).tolist(), *numbers(found.test).tolist()]) == [*range(37)]
    for split in (found.train, found.test):
        assert torch.equal(split.labels, whole.train.labels[numbers(split)])
        assert torch.equal(split.masks, whole.train.masks[numbers(split)])
    assert 200 not in numbers(found.train) and 200 not in numbers(found.test)
    assert found.checksum != whole.checksum


def test_of_each_class_the_share_is_held_out():
    assert held_out(numbered(), 0.2).test.labels.bincount().tolist() == [2, 4, 1]
    assert held_out(numbered(), 0.25).test.labels.bincount().tolist() == [2, 5, 2]  # 2.5, 5, 1.75
    assert held_out(numbered(), 0.01).test.labels.bincount().tolist() == [1, 1, 1]
    assert held_out(numbered(), 0.99).train.labels.bincount().tolist() == [1, 1, 1]


def test_the_seed_decides_which():
    whole = numbered()
    first, again, other = (held_out(whole, 0.3, seed) for seed in (0, 0, 1))
    assert first.checksum == again.checksum != other.checksum
    assert numbers(first.test).tolist() != numbers(other.test).tolist()


def test_held_out_takes_the_validation_images_that_a_dataset_came_with():
    plain = numbered()
    whole = data.Dataset("some", plain.train, plain.test, plain.classes, plain.train.spread(9))
    found = held_out(whole)
    assert found.name == "some-validation" and found.validation is None
    assert found.train is whole.train and found.test is whole.validation
    assert held_out(whole, 0.1).checksum == held_out(plain).checksum  # asked for a share: of train


def test_held_out_refuses_what_it_cannot_do():
    for share in (0, 1, -0.5, 1.5, True, "0.1", float("nan"), float("inf")):
        with pytest.raises(ValueError, match=f"share must be .*, got {share!r}"):
            held_out(numbered(), share)
    with pytest.raises(DataError, match="every class needs 2 training images, 'b' has 1"):
        held_out(numbered((5, 1, 5)))
    with pytest.raises(ValueError, match="seed"):
        held_out(numbered(), seed=-1)


# -------------------------------------------------------------------------------- random_labels


def test_random_labels_keep_the_images_and_the_counts_and_lose_the_classes():
    whole = data.shapes10(train=500, test=20, size=16)
    found = random_labels(whole)
    assert found.name == "shapes10-random-labels" and found.classes == whole.classes
    assert torch.equal(found.train.images, whole.train.images)
    assert torch.equal(found.train.masks, whole.train.masks)
    assert torch.equal(found.train.labels.bincount(), whole.train.labels.bincount())
    # a tenth agree by chance: 50 ± 6.7 of 500; five standard deviations
    agree = int((found.train.labels == whole.train.labels).sum())
    assert abs(agree - 50) < 34
    assert found.test is whole.test and found.checksum != whole.checksum


def test_random_labels_follow_from_the_seed():
    whole = data.shapes10(train=100, test=20, size=16)
    first, again, other = (random_labels(whole, seed).train.labels for seed in (0, 0, 1))
    assert torch.equal(first, again) and not torch.equal(first, other)
    with pytest.raises(ValueError, match="seed"):
        random_labels(whole, -1)
