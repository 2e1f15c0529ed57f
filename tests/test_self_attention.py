"""Self-attention with relative position against loops over pairs and timm.

Outputs and gradients in float64, to 1e-9, by the fused path and by the equation itself.
"""

import contextlib

import pytest
import torch
from parity import EXACT, assert_equal_to, leaf, randomise
from timm.layers.bottleneck_attn import BottleneckAttn
from torch.nn import functional as F

from attention.blocks import SelfAttention, wanting
from attention.explain import capture

# The fused kernel, and the equation itself while the weights are wanted: both must be right.
ways = pytest.mark.parametrize("way", [contextlib.nullcontext, wanting], ids=["fast", "equation"])


def self_attention_by_loop(block, x):
    """Srinivas et al. 2021, fig. 4: each query, head and position by itself."""
    width, size = block.channels // block.heads, x.shape[2:]
    places = [(y, x) for y in range(size[0]) for x in range(size[1])]

    def at(layer, image, place, head):
        part = slice(head * width, (head + 1) * width)
        return layer.weight[part] @ image[:, place[0], place[1]] + layer.bias[part]

    def offset(table, way):  # beyond the reach: the last one
        return table[min(max(way, -block.reach), block.reach) + block.reach]

    images = []
    for image in x:
        rows = []
        for here in places:
            heads = []
            for head in range(block.heads):
                query = at(block.query, image, here, head)
                logits = []
                for there in places:
                    r = offset(block.rows, there[0] - here[0])
                    r = r + offset(block.columns, there[1] - here[1])
                    logits.append((query * (at(block.key, image, there, head) + r)).sum())
                shares = torch.softmax(torch.stack(logits) / width**0.5, 0)
                values = [at(block.value, image, there, head) for there in places]
                heads.append(sum(s * v for s, v in zip(shares, values, strict=True)))
            rows.append(block.out.weight @ torch.cat(heads) + block.out.bias)
        images.append(torch.stack(rows, 1).unflatten(1, size))
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
    "argument, value",
    [("heads", 3), ("heads", 0), ("heads", 16), ("heads", True), ("reach", 0), ("reach", 1.5)],
)
def test_a_bad_argument_of_self_attention_is_named_with_its_value(argument, value):
    with pytest.raises(ValueError, match=argument) as error:
        SelfAttention(8, **{argument: value})
    assert repr(value) in str(error.value)


def test_gradients_equal_finite_differences():
    block = randomise(SelfAttention(4, heads=2, reach=1)).double()
    names, parameters = zip(*block.named_parameters(), strict=True)

    def function(x, *parameters):
        return torch.func.functional_call(block, dict(zip(names, parameters, strict=True)), (x,))

    assert torch.autograd.gradcheck(function, (leaf(2, 4, 2, 3), *parameters))


def test_what_is_mixed_does_not_depend_on_the_batch():
    block = randomise(SelfAttention(4)).double().eval()
    x = torch.randn(3, 4, 4, 3, dtype=torch.float64)
    alone = torch.cat([block(image[None]) for image in x])
    torch.testing.assert_close(alone, block(x), **EXACT)
    assert not torch.allclose(alone, x)


def test_parameter_count_is_the_documented_one():
    # 4C² + 4C + 2(2·reach + 1)·C/heads
    count = sum(p.numel() for p in SelfAttention(64).parameters())
    assert count == 4 * 64 * 64 + 4 * 64 + 2 * 33 * 16
