"""Datasets made from a dataset: one to choose by, and one with nothing to learn."""

import torch

from attention.checks import between, fraction, instance
from attention.data.dataset import DataError, Dataset, Split


def held_out(data: Dataset, share: float = 0.1, seed: int = 0) -> Dataset:
    """A dataset whose test images are training images of `data`, held out: for every choice.

    share: of each class, rounded, at least one image. The same seed holds out the same images.

    The result is called `<name>-validation`, so its records lie apart from those of `data`, whose
    test images are in neither part.
    """
    instance(Dataset, "data", data)
    fraction("share", share)
    labels = data.train.labels
    order = _shuffled(len(labels), seed)
    held = torch.zeros(len(labels), dtype=torch.bool)
    for label in labels.unique():
        members = order[labels[order] == label]
        if len(members) < 2:
            raise DataError(
                f"every class needs 2 training images, {data.classes[label]!r} has {len(members)}"
            )
        held[members[: min(max(1, round(share * len(members))), len(members) - 1)]] = True
    parts = data.train.take(~held), data.train.take(held)
    return Dataset(f"{data.name}-validation", *parts, data.classes)


def random_labels(data: Dataset, seed: int = 0) -> Dataset:
    """The same images, the labels of the training images shuffled: there is nothing to learn.

    A network can still learn them by heart (Zhang et al., "Understanding deep learning requires
    rethinking generalization", 2017). Called `<name>-random-labels`; the test images are unchanged.
    """
    train = instance(Dataset, "data", data).train
    shuffled = Split(train.images, train.labels[_shuffled(len(train), seed)], train.masks)
    return Dataset(f"{data.name}-random-labels", shuffled, data.test, data.classes)


def _shuffled(n, seed):
    """The numbers 0 … n - 1 in an order that follows from the seed."""
    random = torch.Generator().manual_seed(between(0, 2**63 - 1, "seed", seed))
    return torch.randperm(n, generator=random)
