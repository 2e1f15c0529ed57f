"""Scaled dot-product attention against torch's own and loops over pairs; the gate made of it.

Outputs and gradients in float64, to 1e-9. Loops take one query and one position at a time.
"""

import contextlib

import pytest
import torch
from parity import EXACT, assert_equal_to, leaf, randomise
from torch import nn

from attention.blocks import (
    SPATIAL,
    DotProductGate,
    MultiHead,
    Weights,
    as_maps,
    attend,
    tokens,
    wanting,
)  # fmt: skip
from attention.blocks.dot_product import FEW
from attention.explain import capture

# The fused kernel, and the equation itself while the weights are wanted: both must be right.
ways = pytest.mark.parametrize("way", [contextlib.nullcontext, wanting], ids=["fast", "equation"])
map_sizes = pytest.mark.parametrize("shape", [(2, 6, 3, 4), (2, 6, 1, 1), (3, 6, 4, 2)])


def softmax(logits):
    """Of a list of numbers."""
    powers = [torch.exp(one) for one in logits]
    return [one / sum(powers) for one in powers]


def positions_of(image):
    """(C, H, W) → the vectors of its positions, row by row."""
    return [image[:, y, x] for y in range(image.shape[1]) for x in range(image.shape[2])]


def test_tokens_are_the_positions_row_by_row_and_back_again():
    x = torch.randn(2, 3, 4, 5)
    rows = tokens(x)
    for n in range(2):
        for one, expected in zip(rows[n], positions_of(x[n]), strict=True):
            assert torch.equal(one, expected)
    assert torch.equal(as_maps(rows, (4, 5)), x)


@pytest.mark.parametrize("positions", [FEW, FEW + 1])
@pytest.mark.parametrize("values", [8, 3])
def test_in_bfloat16_few_and_many_keys_give_the_same_as_in_float64(positions, values):
    """The weights are written out for few keys, and not held for more: both against the formula."""
    exact = [leaf(2, 3, rows, width) for rows, width in ((5, 8), (positions, 8))]
    exact.append(leaf(2, 3, positions, values))
    rough = [one.detach().bfloat16().requires_grad_() for one in exact]
    query, key, value = exact
    wanted = torch.softmax(query @ key.mT / 8**0.5, -1) @ value
    found = attend(*rough, Weights(), (1, positions), 8**-0.5)
    assert found.dtype == torch.bfloat16
    slope = torch.randn_like(wanted)
    pairs = [(found, wanted), *zip(
        torch.autograd.grad(found, rough, slope.bfloat16()),
        torch.autograd.grad(wanted, exact, slope), strict=True)]  # fmt: skip
    for one, other in pairs:
        assert (one - other).abs().max() < 0.03 * other.abs().max()


@ways
@pytest.mark.parametrize(
    "queries, positions, width, values",
    [(4, 6, 3, 3), (1, 5, 3, 7), (5, 2, 6, 1), (3, 1, 2, 2)],
)
def test_attend_equals_a_loop_over_queries_and_positions(way, queries, positions, width, values):
    weights = Weights()
    query, key = leaf(2, 3, queries, width), leaf(2, 3, positions, width)
    value = leaf(2, 3, positions, values)

    def by_loop(query, key, value):
        rows = []
        for q, k, v in zip(
            query.flatten(0, 1), key.flatten(0, 1), value.flatten(0, 1), strict=True
        ):
            for one in q:
                shares = softmax([0.3 * (one * other).sum() for other in k])
                rows.append(sum(share * what for share, what in zip(shares, v, strict=True)))
        return torch.stack(rows).view(2, 3, queries, values)

    module = nn.ParameterList([query, key, value])  # so that the gradients of these are compared
    with way(weights):
        assert_equal_to(
            lambda: by_loop(*module),
            lambda: attend(*module, weights, (1, positions), scale=0.3),
            module,
        )


@ways
@pytest.mark.parametrize("queries, positions, heads", [(5, 5, 1), (3, 7, 4), (1, 6, 2), (4, 1, 8)])
def test_multi_head_equals_torchs(way, queries, positions, heads):
    block = randomise(MultiHead(8, heads)).double()
    reference = nn.MultiheadAttention(8, heads, batch_first=True).double()
    parts = (block.query, block.key, block.value)

    def torchs(asked, looked_at):
        tensors = {
            "in_proj_weight": torch.cat([part.weight for part in parts]),
            "in_proj_bias": torch.cat([part.bias for part in parts]),
            "out_proj.weight": block.out.weight,
            "out_proj.bias": block.out.bias,
        }
        return torch.func.functional_call(reference, tensors, (asked, looked_at, looked_at))[0]

    with way(block):
        assert_equal_to(
            torchs,
            lambda asked, looked_at: block(asked, looked_at, (1, positions)),
            block,
            leaf(2, queries, 8),
            leaf(2, positions, 8),
        )


def test_the_weights_of_multi_head_are_torchs():
    block = randomise(MultiHead(8, 2))
    reference = nn.MultiheadAttention(8, 2, batch_first=True)
    parts = (block.query, block.key, block.value)
    with torch.no_grad():
        reference.in_proj_weight.copy_(torch.cat([part.weight for part in parts]))
        reference.in_proj_bias.copy_(torch.cat([part.bias for part in parts]))
    queries, keys = torch.randn(2, 3, 8), torch.randn(2, 5, 8)
    with capture(block) as maps:
        block(queries, keys, (1, 5))
    _, expected = reference(queries, keys, keys, average_attn_weights=False)
    torch.testing.assert_close(maps["weights"].cat(), expected)


def test_gradients_of_multi_head_equal_finite_differences():
    block = randomise(MultiHead(4, 2)).double()
    names, parameters = zip(*block.named_parameters(), strict=True)

    def function(queries, keys, *parameters):
        tensors = dict(zip(names, parameters, strict=True))
        return torch.func.functional_call(block, tensors, (queries, keys, (1, 3)))

    assert torch.autograd.gradcheck(function, (leaf(1, 2, 4), leaf(1, 3, 4), *parameters))


@pytest.mark.parametrize("heads", [3, 0, -1, 2.0, True, None])
def test_heads_that_do_not_divide_the_features_are_named(heads):
    with pytest.raises(ValueError, match="heads") as error:
        MultiHead(8, heads)
    assert repr(heads) in str(error.value)


@pytest.mark.parametrize("features", [0, 8.0, True, "8"])
def test_bad_features_are_named(features):
    with pytest.raises(ValueError, match="features") as error:
        MultiHead(features, 1)
    assert repr(features) in str(error.value)


@pytest.mark.parametrize("argument", ["queries", "keys"])
@pytest.mark.parametrize("shape", [(2, 3, 6), (3, 8), (2, 0, 8), (2, 2, 3, 8)])
def test_rows_of_another_width_are_refused_with_their_shape(argument, shape):
    rows = {"queries": torch.randn(2, 3, 8), "keys": torch.randn(2, 3, 8)}
    rows[argument] = torch.randn(shape)
    with pytest.raises(ValueError, match=argument) as error:
        MultiHead(8)(**rows, size=(1, 3))
    assert str(shape) in str(error.value) and "(N, rows, 8)" in str(error.value)


@map_sizes
def test_the_gate_gives_one_weight_a_position(shape):
    block, x = DotProductGate(6), torch.randn(shape)
    with capture(block) as maps:
        output = block(x)
    map = maps["gate"].maps[0]
    assert maps["gate"].kind == SPATIAL and map.shape == (shape[0], 1, *shape[2:])
    torch.testing.assert_close(output, x * map)


@ways
@map_sizes
def test_the_dot_product_gate_equals_a_loop_over_pairs(way, shape):
    block = randomise(DotProductGate(6, reduction=2)).double()
    wq, bq, wk, bk, wv, bv = block.parameters()

    def by_loop(x):
        images = []
        for image in x:
            places = positions_of(image)
            gated = []
            for one in places:
                query = wq @ one + bq
                shares = softmax([(query * (wk @ p + bk)).sum() / 3**0.5 for p in places])
                pairs = zip(shares, places, strict=True)
                logit = sum(share * ((wv[0] * p).sum() + bv[0]) for share, p in pairs)
                gated.append(one / (1 + torch.exp(-logit)))
            images.append(torch.stack(gated).T.view(shape[1:]))
        return torch.stack(images)

    with way(block):
        assert_equal_to(by_loop, block, block, leaf(*shape))


def test_a_gate_that_averages_one_value_a_position_stays_within_its_range():
    block = randomise(DotProductGate(6, reduction=2)).double()
    x = torch.randn(2, 6, 4, 5, dtype=torch.float64)
    values = block.score.value(tokens(x))
    logits = block.score(x).flatten(1)
    assert (logits.amax(1) <= values.amax((1, 2))).all()
    assert (logits.amin(1) >= values.amin((1, 2))).all()
    assert logits.std() > 1e-3
    x[0] = x[0, :, :1, :1]  # every position alike: so is the gate
    alike = block.score(x)[0]
    torch.testing.assert_close(alike, alike[:, :1, :1].expand_as(alike), **EXACT)


@pytest.mark.parametrize("reduction", [0, 2.5, True])
def test_a_bad_reduction_is_named_with_its_value(reduction):
    with pytest.raises(ValueError, match="reduction") as error:
        DotProductGate(8, reduction=reduction)
    assert repr(reduction) in str(error.value)


def test_parameter_count_is_the_documented_one_for_64_channels():
    # 2dC + 2d + C + 1 with d = 8
    assert sum(p.numel() for p in DotProductGate(64).parameters()) == 1105
