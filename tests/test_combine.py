"""Scores put together under gates."""

import pytest
import torch
from parity import EXACT
from torch import nn

from attention.blocks import (
    BOTH,
    CHANNEL,
    POSITIONS,
    SPATIAL,
    CrossGate,
    Gate,
    Parallel,
    Product,
    Rescale,
    Score,
    Sum,
)  # fmt: skip


class Constant(nn.Module):
    """A score of the user's own: the same logits whatever comes."""

    def __init__(self, logits, kind=None):
        super().__init__()
        self.logits = nn.Parameter(torch.as_tensor(logits, dtype=torch.float64))
        if kind:
            self.kind = kind

    def forward(self, x):
        return self.logits.view(1, -1, 1, 1)


class Columns(nn.Module):
    """A score of the user's own: a logit a position."""

    kind = SPATIAL

    def forward(self, x):
        return x[:, :1] - 2 * x[:, 1:2]


def test_rescale_multiplies_by_the_map_or_by_one_plus_the_map():
    x = torch.randn(2, 3, 4, 5, dtype=torch.float64)
    score = Constant(torch.tensor([0.25, 1.0, 8.0], dtype=torch.float64).log())
    plain, residual = Rescale(score, kind=CHANNEL)(x), Rescale(score, True, CHANNEL)(x)
    for channel, weight in enumerate([1 / 5, 1 / 2, 8 / 9]):  # σ(log a) = a / (1 + a)
        torch.testing.assert_close(plain[:, channel], x[:, channel] * weight, **EXACT)
        torch.testing.assert_close(residual[:, channel], x[:, channel] * (1 + weight), **EXACT)


def test_sum_and_product_combine_their_scores_and_broadcast_them():
    x = torch.randn(2, 3, 4, 5, dtype=torch.float64)
    channel, spatial = Constant([1.0, -2.0, 0.5], CHANNEL), Columns()
    added = Sum(channel=channel, spatial=spatial)(x)
    multiplied = Product(channel=channel, spatial=spatial)(x)
    assert added.shape == multiplied.shape == x.shape
    for c, logit in enumerate([1.0, -2.0, 0.5]):
        position = x[:, 0] - 2 * x[:, 1]
        torch.testing.assert_close(added[:, c], logit + position, **EXACT)
        torch.testing.assert_close(multiplied[:, c], logit * position, **EXACT)


def test_sum_and_product_of_three_scores_use_all_three():
    scores = {
        name: Constant([value], CHANNEL) for name, value in zip("abc", (2, 3, 5), strict=True)
    }
    x = torch.zeros(1, 1, 1, 1)
    assert Sum(**scores)(x).item() == 10 and Product(**scores)(x).item() == 30


@pytest.mark.parametrize("combine", [Sum, Product])
def test_the_kind_of_a_combination_is_both_only_when_the_kinds_differ(combine):
    channel, spatial = Constant([1.0], CHANNEL), Columns()
    assert combine(a=channel, b=spatial).kind == BOTH
    assert combine(a=channel, b=Constant([2.0], CHANNEL)).kind == CHANNEL
    assert combine(a=spatial, b=Columns()).kind == SPATIAL
    assert Rescale(combine(a=channel, b=spatial)).gate.kind == BOTH


@pytest.mark.parametrize("combine, expected", [(Sum, 6.0), (Product, 9.0)])
def test_a_score_that_stands_twice_in_a_combination_counts_twice(combine, expected):
    score = Constant([3.0], CHANNEL)
    assert combine(a=score, b=score)(torch.zeros(1, 1, 1, 1)).item() == expected


def test_a_score_of_ones_own_takes_its_kind_from_itself_or_from_the_argument():
    assert Rescale(Columns()).gate.kind == SPATIAL
    assert Rescale(Constant([1.0]), kind=CHANNEL).gate.kind == CHANNEL


@pytest.mark.parametrize("kind", [None, "chanel", POSITIONS])
def test_a_gate_of_unknown_kind_is_refused(kind):
    with pytest.raises(ValueError, match="kind") as error:
        Rescale(Constant([1.0]), kind=kind)
    assert repr(kind) in str(error.value) and "channel" in str(error.value)


def test_the_gate_is_the_logistic_function_and_lies_between_0_and_1():
    logits = torch.linspace(-15, 15, 61)
    output = Gate(CHANNEL)(logits)
    assert output.min() > 0 and output.max() < 1
    torch.testing.assert_close(output, 1 / (1 + torch.exp(-logits)))


def test_the_cross_gate_is_the_product_of_a_gate_on_rows_and_one_on_columns():
    rows, columns = torch.randn(2, 3, 4, 1), torch.randn(2, 3, 1, 5)
    gate = CrossGate()
    assert gate.kind == BOTH and isinstance(gate, Gate)
    expected = 1 / ((1 + torch.exp(-rows)) * (1 + torch.exp(-columns)))
    torch.testing.assert_close(gate(rows, columns), expected)


def test_two_gates_side_by_side_are_halved():
    x = torch.randn(2, 3, 4, 5)
    half = Parallel(nn.Identity(), Rescale(Constant([0.0] * 3), kind=CHANNEL))
    torch.testing.assert_close(half(x).float(), 0.75 * x)


def test_a_combination_is_a_score_and_needs_one():
    assert isinstance(Sum(a=Columns()), Score)
    for combine in (Sum, Product):
        with pytest.raises(ValueError, match=f"{combine.__name__} needs at least one score"):
            combine()
