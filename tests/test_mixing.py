"""Self-attention, the non-local blocks and the global context against loops over pairs and timm.

Outputs and gradients in float64, to 1e-9, by the fused path and while somebody captures.
"""

import contextlib

import pytest
import torch
from parity import EXACT, assert_equal_to, gradients, leaf, randomise
from timm.layers.bottleneck_attn import BottleneckAttn
from timm.layers.global_context import GlobalContext as TimmContext
from timm.layers.non_local_attn import NonLocalAttn
from torch import nn
from torch.nn import functional as F

from attention.blocks import GlobalContext, NonLocal, SelfAttention
from attention.explain import capture

ways = pytest.mark.parametrize("way", [contextlib.nullcontext, capture], ids=["fused", "captured"])
MODES = ("embedded", "gaussian", "dot", "concatenation")
every_mode = pytest.mark.parametrize("mode", MODES)


def places(height, width):
    return [(y, x) for y in range(height) for x in range(width)]


def as_image(rows, size):
    """A list of vectors, row by row → (C, H, W)."""
    return torch.stack(rows, 1).unflatten(1, size)


# ------------------------------------------------------------------------------- self-attention


def self_attention_by_loop(block, x):
    """Srinivas et al. 2021, fig. 4: each query, head and position by itself."""
    width, size = block.channels // block.heads, x.shape[2:]

    def at(layer, image, place, head):
        part = slice(head * width, (head + 1) * width)
        return layer.weight[part] @ image[:, place[0], place[1]] + layer.bias[part]

    def offset(table, way):  # beyond the reach: the last one
        return table[min(max(way, -block.reach), block.reach) + block.reach]

    images = []
    for image in x:
        rows = []
        for here in places(*size):
            heads = []
            for head in range(block.heads):
                query = at(block.query, image, here, head)
                logits = []
                for there in places(*size):
                    r = offset(block.rows, there[0] - here[0])
                    r = r + offset(block.columns, there[1] - here[1])
                    logits.append((query * (at(block.key, image, there, head) + r)).sum())
                shares = torch.softmax(torch.stack(logits) / width**0.5, 0)
                values = [at(block.value, image, there, head) for there in places(*size)]
                heads.append(sum(s * v for s, v in zip(shares, values, strict=True)))
            rows.append(block.out.weight @ torch.cat(heads) + block.out.bias)
        images.append(as_image(rows, size))
    return torch.stack(images)


@ways
@pytest.mark.parametrize(
    "size, heads, reach",
    [((2, 4), 2, 16), ((3, 2), 4, 1), ((1, 5), 1, 2), ((4, 1), 2, 3), ((1, 1), 2, 3)],
)
def test_self_attention_equals_a_loop_over_pairs(way, size, heads, reach):
    block = randomise(SelfAttention(4, heads, reach)).double()
    x = leaf(2, 4, *size)
    with way(block):
        assert_equal_to(lambda x: self_attention_by_loop(block, x), block, block, x)


@ways
@pytest.mark.parametrize("reach", [4, 9])  # a map of 5×5 has ways of up to 4
def test_self_attention_equals_timms_on_square_maps(way, reach):
    block = randomise(SelfAttention(16, heads=4, reach=reach)).double()
    reference = BottleneckAttn(
        16, feat_size=(5, 5), num_heads=4, dim_head=4, qkv_bias=True, scale_pos_embed=True
    ).double()
    parts = (block.query, block.key, block.value)

    def timms(x):
        tensors = {
            "qkv.weight": torch.cat([part.weight for part in parts])[:, :, None, None],
            "qkv.bias": torch.cat([part.bias for part in parts]),
            "pos_embed.height_rel": block.rows[reach - 4 : reach + 5],
            "pos_embed.width_rel": block.columns[reach - 4 : reach + 5],
        }
        mixed = torch.func.functional_call(reference, tensors, (x,))
        return F.conv2d(mixed, block.out.weight[:, :, None, None], block.out.bias)

    with way(block):
        assert_equal_to(timms, block, block, leaf(2, 16, 5, 5))


def test_beyond_the_reach_all_ways_are_one():
    block = randomise(SelfAttention(4, heads=1, reach=1)).double()
    with capture(block) as maps:
        block(torch.ones(1, 4, 1, 6, dtype=torch.float64))
    first = maps["weights"].maps[0][0, 0, 0]  # from the leftmost place to all
    torch.testing.assert_close(first[1:], first[1:2].expand(5))
    assert (first[0] - first[1]).abs() > 1e-3


@pytest.mark.parametrize(
    "argument, value", [("heads", 3), ("heads", 0), ("heads", 16), ("reach", 0), ("reach", 1.5)]
)
def test_a_bad_argument_of_self_attention_is_named_with_its_value(argument, value):
    with pytest.raises(ValueError, match=argument) as error:
        SelfAttention(8, **{argument: value})
    assert repr(value) in str(error.value)


# ------------------------------------------------------------------------------ non-local blocks


def non_local_by_loop(block, x, training):
    """Wang et al. 2018, eq. 1–6: each pair of positions by itself."""
    size = x.shape[2:]
    count = size[0] * size[1]

    def linear(layer, one):
        return layer.weight @ one + (0 if layer.bias is None else layer.bias)

    pair = {
        "embedded": lambda a, b: (linear(block.theta, a) * linear(block.phi, b)).sum().exp(),
        "gaussian": lambda a, b: (a * b).sum().exp(),
        "dot": lambda a, b: (linear(block.theta, a) * linear(block.phi, b)).sum(),
        "concatenation": lambda a, b: (
            torch.cat([block.first.weight[0], block.second.weight[0]])
            @ torch.cat([linear(block.theta, a), linear(block.phi, b)])
        ).clamp(min=0),
    }[block.mode]
    images = []
    for image in x:
        vectors, rows = [image[:, y, column] for y, column in places(*size)], []
        for a in vectors:
            f = [pair(a, b) for b in vectors]
            normaliser = sum(f) if block.mode in ("embedded", "gaussian") else count
            rows.append(sum(w * linear(block.g, b) for w, b in zip(f, vectors, strict=True)))
            rows[-1] = rows[-1] / normaliser
        images.append(as_image(rows, size))
    z = torch.einsum("oc,nchw->nohw", block.out.weight[:, :, 0, 0], torch.stack(images))
    z = z + block.out.bias[:, None, None]
    mean, var = block.norm.running_mean, block.norm.running_var
    if training:
        mean, var = z.mean((0, 2, 3)), z.var((0, 2, 3), unbiased=False)
    z = (z - mean[:, None, None]) / (var[:, None, None] + 1e-5).sqrt()
    return x + z * block.norm.weight[:, None, None] + block.norm.bias[:, None, None]


@ways
@every_mode
@pytest.mark.parametrize("size, training", [((3, 4), False), ((2, 3), True), ((1, 1), False)])
def test_non_local_equals_a_loop_over_pairs(way, mode, size, training):
    block = randomise(NonLocal(6, mode)).double().train(training)
    x = leaf(2, 6, *size)
    with way(block):
        assert_equal_to(lambda x: non_local_by_loop(block, x, training), block, block, x)


@ways
@pytest.mark.parametrize("training", [False, True])
@pytest.mark.parametrize("use_scale", [False, True])
def test_embedded_non_local_equals_timms(way, training, use_scale):
    block = randomise(NonLocal(16)).double().train(training)
    reference = NonLocalAttn(16, use_scale=use_scale, rd_channels=8).double().train(training)
    up = 4 if use_scale else 1  # timm divides the logits by √16, the paper does not
    layers = {"t": block.theta, "p": block.phi, "g": block.g}

    def timms(x):
        tensors = {"z.weight": block.out.weight, "z.bias": block.out.bias}
        tensors |= {f"{key}.weight": one.weight[:, :, None, None] for key, one in layers.items()}
        tensors |= {f"{key}.bias": one.bias for key, one in layers.items()}
        tensors |= {key: up * tensors[key] for key in ("t.weight", "t.bias")}
        tensors |= {f"norm.{key}": value for key, value in block.norm.named_parameters()}
        tensors |= {f"norm.{key}": value.clone() for key, value in block.norm.named_buffers()}
        return torch.func.functional_call(reference, tensors, (x,))

    with way(block):
        assert_equal_to(timms, block, block, leaf(2, 16, 4, 5))


@every_mode
@pytest.mark.parametrize("training", [False, True])
def test_non_local_starts_as_the_identity(mode, training):
    x = torch.randn(2, 6, 5, 3)
    assert torch.equal(NonLocal(6, mode).train(training)(x), x)


def test_non_local_learns_from_the_identity():
    block, x = NonLocal(6), torch.randn(2, 6, 5, 3)
    assert gradients(block(x), [block.norm.weight])[0].abs().min() > 1e-6


@every_mode
def test_the_weights_of_non_local_are_the_normalised_pairs(mode):
    block, x = randomise(NonLocal(6, mode)).eval(), torch.randn(2, 6, 3, 4)
    with capture(block) as maps:
        block(x)
    weights = maps["weights"].cat()
    assert weights.shape == (2, 1, 12, 12) and maps["weights"].size == (3, 4)
    rows = x.flatten(2).mT
    if mode in ("embedded", "gaussian"):
        torch.testing.assert_close(weights.sum(-1), torch.ones(2, 1, 12))
    if mode == "gaussian":
        expected = (rows @ rows.mT).softmax(-1)
    elif mode == "embedded":
        expected = (block.theta(rows) @ block.phi(rows).mT).softmax(-1)
    elif mode == "dot":
        expected = block.theta(rows) @ block.phi(rows).mT / 12
    else:
        expected = (block.first(block.theta(rows)) + block.second(block.phi(rows)).mT).relu() / 12
        assert (weights == 0).any() and (weights > 0).any()
    torch.testing.assert_close(weights[:, 0], expected.detach())


@pytest.mark.parametrize("mode", ["softmax", "Embedded", "", None])
def test_an_unknown_mode_is_named_beside_the_known_ones(mode):
    with pytest.raises(ValueError, match=", ".join(MODES)) as error:
        NonLocal(8, mode)
    assert repr(mode) in str(error.value)


@pytest.mark.parametrize("mode, count", [("embedded", 8480), ("gaussian", 4320), ("dot", 8480)])
def test_parameter_count_of_non_local_for_64_channels(mode, count):
    # θ, φ, g: 3·(32·64 + 32); W_z: 64·32 + 64; BatchNorm: 128
    halves = 1 if mode == "gaussian" else 3
    assert count == halves * (32 * 64 + 32) + 64 * 32 + 64 + 128
    assert sum(p.numel() for p in NonLocal(64, mode).parameters()) == count


# ------------------------------------------------------------------------------ global context


@pytest.mark.parametrize("shape", [(2, 8, 4, 5), (1, 8, 1, 1), (3, 8, 2, 6)])
def test_global_context_equals_timms_with_addition(shape):
    block = randomise(GlobalContext(8, reduction=2)).double()
    reference = TimmContext(8, fuse_add=True, fuse_scale=False, rd_channels=4).double()
    reference.mlp_add.norm.eps = 1e-5  # timm: 1e-6; the authors: torch's default
    first, norm, _, last = block.transform

    def timms(x):
        tensors = {
            "conv_attn.weight": block.score.weight[:, :, None, None],
            "conv_attn.bias": block.score.bias,
            "mlp_add.fc1.weight": first.weight[:, :, None, None],
            "mlp_add.fc1.bias": first.bias,
            "mlp_add.norm.weight": norm.weight,
            "mlp_add.norm.bias": norm.bias,
            "mlp_add.fc2.weight": last.weight[:, :, None, None],
            "mlp_add.fc2.bias": last.bias,
        }
        return torch.func.functional_call(reference, tensors, (x,))

    assert_equal_to(timms, block, block, leaf(*shape))


def test_global_context_starts_as_the_identity_and_learns():
    block, x = GlobalContext(8, reduction=2), torch.randn(2, 8, 5, 3)
    output = block(x)
    assert torch.equal(output, x)
    assert gradients(output, [block.transform[-1].weight])[0].abs().max() > 1e-3


def test_global_context_weighs_positions_once_for_all_queries():
    block, x = randomise(GlobalContext(8, reduction=2)), torch.randn(2, 8, 3, 4)
    with capture(block) as maps:
        output = block(x)
    weights = maps["weights"].cat()
    assert weights.shape == (2, 1, 1, 12)
    expected = (x.permute(0, 2, 3, 1) @ block.score.weight[0]).flatten(1).softmax(1)
    torch.testing.assert_close(weights[:, 0, 0], expected.detach())
    added = output - x
    torch.testing.assert_close(added, added[:, :, :1, :1].expand_as(x))


@pytest.mark.parametrize("make", [SelfAttention, NonLocal, GlobalContext])
def test_gradients_equal_finite_differences(make):
    options = {SelfAttention: {"heads": 2, "reach": 1}, GlobalContext: {"reduction": 2}}
    block = randomise(make(4, **options.get(make, {}))).double()
    names, parameters = zip(*block.named_parameters(), strict=True)

    def function(x, *parameters):
        return torch.func.functional_call(block, dict(zip(names, parameters, strict=True)), (x,))

    assert torch.autograd.gradcheck(function, (leaf(2, 4, 2, 3), *parameters))


def test_what_is_mixed_does_not_depend_on_the_batch():
    for block in (SelfAttention(4), NonLocal(4), GlobalContext(4, 2)):
        block = randomise(block).double().eval()
        x = torch.randn(3, 4, 4, 3, dtype=torch.float64)
        alone = torch.cat([block(image[None]) for image in x])
        torch.testing.assert_close(alone, block(x), **EXACT)
        assert isinstance(block, nn.Module) and not torch.allclose(alone, x)
