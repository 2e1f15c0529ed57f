"""Which classes a network confuses: counts, and the accuracy on each class."""

from collections.abc import Sequence

import numpy as np
import pandas as pd
import torch

from attention.checks import one_of


def confusion(answers: torch.Tensor, labels: torch.Tensor, classes: int) -> np.ndarray:
    """Counts (classes, classes): a row a true class, a column an answer, summed over networks.

    answers: int64 (networks, pictures) or (pictures,). labels: (pictures,).
    """
    pairs = labels * classes + answers
    return torch.bincount(pairs.flatten(), minlength=classes**2).view(classes, classes).numpy()


def confusions(logits: torch.Tensor, labels: torch.Tensor, names: Sequence[str]) -> pd.DataFrame:
    """The same as a frame, from the logits (pictures, classes) of one network: truth × answer."""
    if logits.shape != (len(labels), len(names)):
        raise ValueError(
            f"logits must be (pictures, classes) = {(len(labels), len(names))}, got "
            f"{tuple(logits.shape)}"
        )
    counts = confusion(logits.argmax(1), labels, len(names))
    truth, answer = pd.Index(names, name="truth"), pd.Index(names, name="answer")
    return pd.DataFrame(counts, truth, answer)


def by_class(networks: dict[str, pd.DataFrame], baseline: str | None = None) -> pd.DataFrame:
    """The accuracy on each class in percent, a row a class, a column a network.

    networks: {name: what `confusions` gives}. baseline: the name of one; then the other columns are
    the difference to it, in points, and the rows are sorted by the last.
    """
    table = pd.DataFrame({
        name: 100 * np.diag(counts) / counts.sum(axis=1) for name, counts in networks.items()
    })  # fmt: skip
    if baseline is None:
        return table
    one_of("baseline", baseline, list(table.columns))
    others = table.columns.drop(baseline)
    table[others] = table[others].sub(table[baseline], axis=0)
    return table.sort_values(others[-1]) if len(others) else table
