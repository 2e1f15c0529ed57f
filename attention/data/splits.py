"""Datasets made from a dataset: one to choose by, and one with nothing to learn."""

from dataclasses import replace

import torch

from attention.checks import between, fraction, instance
from attention.data.dataset import DataError, Dataset, Split


def held_out(data: Dataset, share: float | None = None, seed: int = 0) -> Dataset:
    """A dataset whose test images are no test images of `data`: for every choice.

    share: of the training images of each class, rounded, at least one image; they are held out.
        The same seed holds out the same images. None: the validation images that `data` came with
        (all its training images stay for training, and there is nothing for the seed to choose),
        and where it came with none, a share of 0.1.

    The result is called `<name>-validation`, so its records lie apart from those of `data`, whose
    test images are in neither part.
    """
    instance(Dataset, "data", data)
    between(0, 2**63 - 1, "seed", seed)
    name = f"{data.name}-validation"
    if share is None and data.validation is not None:
        return Dataset(name, data.train, data.validation, data.classes, notes=data.notes)
    share = 0.1 if share is None else fraction("share", share)
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
    return Dataset(name, *parts, data.classes, notes=data.notes)


def random_labels(data: Dataset, seed: int = 0) -> Dataset:
    """The same images, the labels of the training images shuffled: there is nothing to learn.

    A network can still learn them by heart (Zhang et al., "Understanding deep learning requires
    rethinking generalization", 2017). Called `<name>-random-labels`; the test images are unchanged.
    """
    train = instance(Dataset, "data", data).train
    shuffled = Split(train.images, train.labels[_shuffled(len(train), seed)], train.masks)
    return replace(data, name=f"{data.name}-random-labels", train=shuffled)


def _shuffled(n, seed):
    """The numbers 0 … n - 1 in an order that follows from the seed."""
    random = torch.Generator().manual_seed(between(0, 2**63 - 1, "seed", seed))
    return torch.randperm(n, generator=random)
