"""Local self-attention against loops over windows, edges included; what it keeps in memory."""

import contextlib

import pytest
import torch
from parity import EXACT, assert_equal_to, gradients, leaf, randomise
from torch.nn import functional as F

from attention.blocks import LocalAttention
from attention.cost import Largest
from attention.explain import capture

ways = pytest.mark.parametrize("way", [contextlib.nullcontext, capture], ids=["plain", "captured"])


def window(y, x, size, k):
    """(place in the window, place on the map) of all that a query at (y, x) sees."""
    reach = k // 2
    for i in range(k):
        for j in range(k):
            row, column = y + i - reach, x + j - reach
            if 0 <= row < size[0] and 0 <= column < size[1]:
                yield (i, j), (row, column)


def by_loop(block, x):
    """Ramachandran et al. 2019, eq. 2 and 3: each query, head and place of its window."""
    k, heads, size = block.kernel_size, block.heads, x.shape[2:]
    width = block.channels // heads

    def at(layer, image, place, head):
        part = slice(head * width, (head + 1) * width)
        return layer.weight[part, :, 0, 0] @ image[:, place[0], place[1]]

    images = []
    for image in x:
        columns = []
        for here in [(y, x) for y in range(size[0]) for x in range(size[1])]:
            mixed = []
            for head in range(heads):
                query = at(block.query, image, here, head)
                logits, values = [], []
                for (i, j), there in window(*here, size, k):
                    r = torch.cat([block.rows[head, i, 0], block.columns[head, 0, j]])
                    logits.append((query * (at(block.key, image, there, head) + r)).sum())
                    values.append(at(block.value, image, there, head))
                shares = torch.softmax(torch.stack(logits), 0)
                mixed.append(sum(s * v for s, v in zip(shares, values, strict=True)))
            columns.append(torch.cat(mixed))
        images.append(torch.stack(columns, 1).unflatten(1, size))
    return torch.stack(images)


@ways
@pytest.mark.parametrize(
    "size, k, heads",
    [
        ((5, 4), 3, 2),  # windows inside, and over each edge
        ((3, 6), 1, 1),  # each position alone
        ((2, 3), 5, 2),  # a map smaller than its windows
        ((1, 1), 3, 4),
        ((1, 6), 3, 1),
    ],
)
def test_local_attention_equals_a_loop_over_windows(way, size, k, heads):
    block = randomise(LocalAttention(8, k, heads)).double()
    x = leaf(2, 8, *size)
    with way(block):
        assert_equal_to(lambda x: by_loop(block, x), block, block, x)


def test_a_window_of_one_position_gives_its_value():
    block = randomise(LocalAttention(8, kernel_size=1)).double()
    x = torch.randn(2, 8, 3, 4, dtype=torch.float64)
    torch.testing.assert_close(block(x), F.conv2d(x, block.value.weight), **EXACT)


def test_a_position_outside_the_window_changes_nothing():
    block = randomise(LocalAttention(8, kernel_size=3))
    x = torch.randn(1, 8, 6, 6)
    changed = x.clone()
    changed[:, :, 2, 3] += 1
    seen = (block(x) - block(changed)).abs().amax(1)[0] > 0
    expected = torch.zeros(6, 6, dtype=torch.bool)
    expected[1:4, 2:5] = True
    assert torch.equal(seen, expected)


def test_weights_outside_the_map_are_zero_and_the_others_add_up_to_one():
    block, x = LocalAttention(8, kernel_size=5, heads=2), torch.randn(2, 8, 4, 3)
    with capture(block) as maps:
        block(x)
    one = maps["weights"]
    weights = one.cat()
    assert weights.shape == (2, 2, 12, 25) and one.size == (4, 3) and one.window == 5
    inside = torch.zeros(12, 25, dtype=torch.bool)
    for y in range(4):
        for column in range(3):
            for (i, j), _ in window(y, column, (4, 3), 5):
                inside[3 * y + column, 5 * i + j] = True
    assert torch.equal(weights > 0, inside.expand(2, 2, -1, -1))
    torch.testing.assert_close(weights.sum(-1), torch.ones(2, 2, 12))


def test_a_tensor_of_all_windows_is_made_while_captured_and_never_else():
    channels, k, size = 32, 7, 16
    block = LocalAttention(channels, k, heads=2)
    x = torch.randn(1, channels, size, size, requires_grad=True)
    windows = k * k * size * size

    def work():
        with Largest() as largest:
            gradients(block(x), [x, *block.parameters()])
        return largest.elements

    # weights: one for each head and place in the window; maps: with their margins
    assert windows <= work() <= 2 * windows < windows * channels
    with capture(block):
        assert work() >= windows * channels
    assert work() <= 2 * windows


@pytest.mark.parametrize(
    "argument, value, shown",
    [
        *(("kernel_size", bad, bad) for bad in (4, 0, -1, 3.0, True)),
        *(("heads", bad, bad) for bad in (0, 2.5, True)),
        *(("heads", bad, 2 * bad) for bad in (3, 8)),  # two halves a head
    ],
)
def test_a_bad_argument_is_named_with_its_value(argument, value, shown):
    with pytest.raises(ValueError, match=argument) as error:
        LocalAttention(8, **{argument: value})
    assert repr(shown) in str(error.value)


def test_parameter_count_is_the_documented_one():
    assert sum(p.numel() for p in LocalAttention(64).parameters()) == 3 * 64 * 64 + 7 * 64
