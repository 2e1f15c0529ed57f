"""Additive attention against the equation for each pair; gradients by finite differences."""

import pytest
import torch
from parity import assert_equal_to, leaf, randomise

from attention.blocks import Additive


@pytest.mark.parametrize("queries, positions", [(3, 5), (1, 4), (4, 1)])
def test_additive_equals_the_equation_for_each_pair(queries, positions):
    block = randomise(Additive(6, hidden=3)).double()
    w, b, u, v = block.parameters()

    def by_loop(asked, keys):
        rows = []
        for n in range(2):
            for q in asked[n]:
                energies = [(v[0] * torch.tanh(w @ q + b + u @ k)).sum() for k in keys[n]]
                shares = torch.stack(energies).softmax(0)
                rows.append(sum(share * k for share, k in zip(shares, keys[n], strict=True)))
        return torch.stack(rows).view(2, queries, 6)

    def function(asked, keys):
        return block(asked, keys, (1, positions))

    assert_equal_to(by_loop, function, block, leaf(2, queries, 6), leaf(2, positions, 6))


def test_gradients_equal_finite_differences():
    block = randomise(Additive(4, 2)).double()
    names, parameters = zip(*block.named_parameters(), strict=True)

    def function(queries, keys, *parameters):
        tensors = dict(zip(names, parameters, strict=True))
        return torch.func.functional_call(block, tensors, (queries, keys, (1, 3)))

    assert torch.autograd.gradcheck(function, (leaf(1, 2, 4), leaf(1, 3, 4), *parameters))


@pytest.mark.parametrize("hidden", [0, -1, 2.5])
def test_a_bad_hidden_width_is_named(hidden):
    with pytest.raises(ValueError, match=f"hidden .*{hidden}"):
        Additive(8, hidden)


@pytest.mark.parametrize("argument", ["queries", "keys"])
def test_rows_of_another_width_are_refused_with_their_shape(argument):
    rows = {"queries": torch.randn(2, 3, 8), "keys": torch.randn(2, 3, 8)}
    rows[argument] = torch.randn(2, 3, 6)
    with pytest.raises(ValueError, match=rf"{argument} .*\(2, 3, 6\)"):
        Additive(8)(**rows, size=(1, 3))


def test_parameter_count_is_the_documented_one():
    assert sum(p.numel() for p in Additive(64).parameters()) == 2 * 16 * 64 + 2 * 16
