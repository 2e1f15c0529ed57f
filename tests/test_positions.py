"""Attention over positions against torch's own and loops over pairs; the gates that look there.

Outputs and gradients in float64, to 1e-9. Loops take one query and one position at a time.
"""

import contextlib

import pytest
import torch
from parity import EXACT, assert_equal_to, leaf, randomise
from timm.layers.cbam import SpatialAttn
from torch import nn

from attention.blocks import (
    CHANNEL,
    SPATIAL,
    SSE,
    Additive,
    DotProductGate,
    EncodingGate,
    MultiHead,
    SpatialGate,
    Weights,
    as_maps,
    attend,
    tokens,
)  # fmt: skip
from attention.explain import capture

# The fused kernel, and the weights made for somebody who looks: both must be right.
ways = pytest.mark.parametrize("way", [contextlib.nullcontext, capture], ids=["fused", "captured"])
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


# --------------------------------------------------------------- from queries to weighted sums


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


@pytest.mark.parametrize("queries, positions", [(3, 5), (1, 4), (4, 1)])
def test_additive_equals_the_equation_for_each_pair(queries, positions):
    block = randomise(Additive(6, hidden=3)).double()
    w, b, u, v = block.parameters()

    def by_loop(asked, keys):
        rows = []
        for n in range(2):
            for q in asked[n]:
                energies = [(v[0] * torch.tanh(w @ q + b + u @ k)).sum() for k in keys[n]]
                shares = softmax(energies)
                rows.append(sum(share * k for share, k in zip(shares, keys[n], strict=True)))
        return torch.stack(rows).view(2, queries, 6)

    def function(asked, keys):
        return block(asked, keys, (1, positions))

    assert_equal_to(by_loop, function, block, leaf(2, queries, 6), leaf(2, positions, 6))


@pytest.mark.parametrize("make", [lambda: MultiHead(4, 2), lambda: Additive(4, 2)])
def test_gradients_equal_finite_differences(make):
    block = randomise(make()).double()
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


@pytest.mark.parametrize("hidden", [0, -1, 2.5])
def test_a_bad_hidden_width_of_additive_is_named(hidden):
    with pytest.raises(ValueError, match=f"hidden .*{hidden}"):
        Additive(8, hidden)


# ------------------------------------------------------------------------- the gates on positions


@map_sizes
@pytest.mark.parametrize("block", [SSE(6), SpatialGate(6, 3), SpatialGate(6, 7), DotProductGate(6)])
def test_spatial_gates_give_one_weight_a_position(block, shape):
    x = torch.randn(shape)
    with capture(block) as maps:
        output = block(x)
    map = maps["gate"].maps[0]
    assert maps["gate"].kind == SPATIAL and map.shape == (shape[0], 1, *shape[2:])
    torch.testing.assert_close(output, x * map)


@map_sizes
def test_sse_equals_a_loop_over_positions(shape):
    block = randomise(SSE(6)).double()
    (w,) = block.parameters()

    def by_loop(x):
        gated = []
        for image in x:
            for p in positions_of(image):
                gated.append(p / (1 + torch.exp(-(w[0, :, 0, 0] * p).sum())))
        return torch.stack(gated).unflatten(0, (len(x), -1)).transpose(1, 2).reshape(shape)

    assert_equal_to(by_loop, block, block, leaf(*shape))


@map_sizes
@pytest.mark.parametrize("kernel_size", [3, 7])
def test_the_spatial_gate_equals_timms_once_timms_batchnorm_is_the_identity(shape, kernel_size):
    block = randomise(SpatialGate(6, kernel_size)).double()
    reference = SpatialAttn(kernel_size).double()
    reference.conv.bn = nn.Identity()
    (w,) = block.parameters()

    def timms(x):
        return torch.func.functional_call(reference, {"conv.conv.weight": w}, (x,))

    assert_equal_to(timms, block, block, leaf(*shape))


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


# ------------------------------------------------------------------------------- context encoding


def encoding_by_loop(block, x, training):
    """Every residual between a position and a codeword, one at a time (Zhang et al. 2018)."""
    score = block.score
    d, s = score.codewords, score.smoothing
    images = []
    for image in x:
        places = positions_of(image)
        encoded = [0] * len(d)
        for one in places:
            shares = softmax([-s[k] * ((one - d[k]) ** 2).sum() for k in range(len(d))])
            for k in range(len(d)):
                encoded[k] = encoded[k] + shares[k] * (one - d[k]) / len(places)
        images.append(torch.stack(encoded))
    e = torch.stack(images)  # (N, K, C)
    mean, var = score.norm.running_mean, score.norm.running_var
    if training:
        mean = e.mean((0, 2))
        var = ((e - mean[:, None]) ** 2).mean((0, 2))
    e = (e - mean[:, None]) / (var[:, None] + 1e-5).sqrt()
    e = e * score.norm.weight[:, None] + score.norm.bias[:, None]
    logits = e.clamp(min=0).sum(1) @ score.linear.weight.T + score.linear.bias
    return x / (1 + torch.exp(-logits[:, :, None, None]))


@map_sizes
@pytest.mark.parametrize("training", [False, True])
def test_the_encoding_gate_equals_a_loop_over_residuals(shape, training):
    block = randomise(EncodingGate(6, codewords=3)).double().train(training)
    x = leaf(*shape)
    before = [block.score.norm.running_mean.clone(), block.score.norm.running_var.clone()]
    assert_equal_to(lambda x: encoding_by_loop(block, x, training), block, block, x)
    changed = not torch.equal(before[0], block.score.norm.running_mean)
    assert changed == training


def test_the_shares_of_codewords_are_those_of_the_loop():
    block = randomise(EncodingGate(6, codewords=3))
    x = torch.randn(2, 6, 4, 3)
    with capture(block.eval()) as maps:
        block(x)
    shares = maps["score.assignment"].maps[0]
    assert shares.shape == (2, 3, 4, 3) and maps["gate"].kind == CHANNEL
    d, s = block.score.codewords, block.score.smoothing
    for n, y, column in ((0, 0, 0), (1, 3, 1), (0, 2, 2)):
        one = x[n, :, y, column]
        expected = softmax([-s[k] * ((one - d[k]) ** 2).sum() for k in range(3)])
        torch.testing.assert_close(shares[n, :, y, column], torch.stack(expected).detach())


def test_the_codewords_start_as_the_authors_start_them():
    score = EncodingGate(64, codewords=32).score
    assert score.codewords.abs().max() <= (32 * 64) ** -0.5 and score.codewords.std() > 0.01
    assert 0 <= score.smoothing.min() and score.smoothing.max() <= 1


def test_the_encoding_gate_in_training_mode_refuses_a_single_image_and_says_why():
    block = EncodingGate(6)
    with pytest.raises(ValueError, match="batch of at least 2 images, got 1"):
        block(torch.randn(1, 6, 4, 4))
    assert block.eval()(torch.randn(1, 6, 4, 4)).shape == (1, 6, 4, 4)


@pytest.mark.parametrize(
    "make, argument, value",
    [
        *((SpatialGate, "kernel_size", bad) for bad in (4, 0, 3.0)),
        (SpatialGate, "pools", ("min",)),
        *((DotProductGate, "reduction", bad) for bad in (0, 2.5)),
        *((EncodingGate, "codewords", bad) for bad in (0, -1, 2.5, None)),
    ],
)
def test_a_bad_argument_is_named_with_its_value(make, argument, value):
    with pytest.raises(ValueError, match=argument) as error:
        make(8, **{argument: value})
    assert repr(value) in str(error.value)


@pytest.mark.parametrize(
    "make, count",
    [(SSE, 64), (SpatialGate, 98), (DotProductGate, 1105), (EncodingGate, 5232)],
)
def test_parameter_count_is_the_documented_one_for_64_channels(make, count):
    # C; 2k²; 2dC + 2d + C + 1 with d = 8; C² + C + KC + 3K with K = 16
    assert sum(p.numel() for p in make(64).parameters()) == count


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
