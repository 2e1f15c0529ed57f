"""The maps of every block and pooling; positions laid over the image; rollout through layers."""

import pytest
import torch
from parity import hooks, network_with

from attention.blocks import BLOCKS, POOLINGS
from attention.blocks.gate import BOTH, CHANNEL, CODEWORDS, POSITIONS, SPATIAL, Map
from attention.blocks.local import LocalAttention
from attention.explain import Captured, capture, rollout
from attention.networks import convvit, fast_resnet, insert, vit

# In fast_resnet(8) an image of 18×14 pixels has maps of these channels and sizes after the stages.
STAGES = ((8, (8, 6)), (32, (4, 3)), (32, (2, 1)))
IMAGES = torch.linspace(-2, 2, 2 * 3 * 18 * 14).sin().mul(7).frac().view(2, 3, 18, 14)
PLACE = [f"stages.{number}.1.attention" for number in range(3)]
AFTER = [f"stages.{number}.2" for number in range(3)]


def channel(channels, size):
    return CHANNEL, (2, channels, 1, 1), None


def spatial(channels, size):
    return SPATIAL, (2, 1, *size), None


def both(channels, size):
    return BOTH, (2, channels, *size), None


def pairs(heads):
    """From every position to every position."""
    return lambda channels, size: (POSITIONS, (2, heads, *2 * (size[0] * size[1],)), size)


def one_query(heads):
    return lambda channels, size: (POSITIONS, (2, heads, 1, size[0] * size[1]), size)


def windows(channels, size):
    return POSITIONS, (2, 2, size[0] * size[1], 9), size


def shares(channels, size):
    return CODEWORDS, (2, 3, *size), None


# block → for each of its maps the name in the block, and what it is for (channels, size)
EXPECTED = {
    "se": {"gate": channel},
    "eca": {"gate": channel},
    "encoding": {"gate": channel, "score.assignment": shares},
    "hybrid": {"0.gate": both},
    "sse": {"gate": spatial},
    "spatial": {"gate": spatial},
    "qkv": {"gate": spatial, "score.weights": pairs(1)},
    "cbam": {"channel_gate": channel, "spatial_gate": spatial},
    "bam": {"gate": both},
    "coordinate": {"gate": both},
    "simam": {"gate": both},
    "ela": {"gate": both},
    "nonlocal": {"weights": pairs(1)},
    "context": {"weights": one_query(1)},
    "selfattention": {"weights": pairs(2)},
    "local": {"weights": windows},
    "additive_pool": {"attend.weights": one_query(1)},
    "dot_pool": {"attend.weights": one_query(1)},
    "multihead_pool": {"attend.weights": one_query(4)},
    "feature_gate": {"gate": channel},
}


def expected_maps(block):
    if block in POOLINGS:
        places = {"pool": STAGES[2]}
    elif block in ("bam", "nonlocal"):
        places = dict(zip(AFTER[:2], STAGES[:2], strict=True))
    else:
        places = dict(zip(PLACE, STAGES, strict=True))
    return {
        f"{path}.{name}": what(*place)
        for path, place in places.items()
        for name, what in EXPECTED[block].items()
    }


def test_every_block_and_pooling_is_told_apart_here():
    assert set(EXPECTED) == {*BLOCKS, *POOLINGS} - {"average_pool"}  # which has no map


@pytest.mark.parametrize("block", EXPECTED)
def test_a_network_gives_all_maps_of_its_blocks(block):
    network = network_with(block)
    with torch.no_grad(), capture(network) as maps:
        network(IMAGES)
    found = {
        path: (one.kind, *(tuple(map.shape) for map in one.maps), one.size)
        for path, one in maps.items()
    }
    assert found == expected_maps(block)
    assert hooks(network) == 0
    for one in maps.values():
        values = one.cat()
        assert one.window == (3 if block == "local" else None)
        assert values.min() >= 0 and values.max() <= 1
        if one.kind == POSITIONS:
            torch.testing.assert_close(values.sum(-1), torch.ones(values.shape[:-1]))
        elif one.kind == CODEWORDS:
            torch.testing.assert_close(values.sum(1), torch.ones(2, *values.shape[2:]))


@pytest.mark.parametrize("block", EXPECTED)
def test_the_maps_tell_positions_or_channels_apart(block):
    network = network_with(block)
    with torch.no_grad(), capture(network) as maps:
        network(IMAGES)
    for path, one in maps.items():
        assert one.cat().std() > 1e-4, path


@pytest.mark.parametrize("mode", ["dot", "concatenation"])
def test_non_local_without_a_softmax_gives_maps_of_the_same_shape(mode):
    network = insert(fast_resnet(8), "nonlocal", mode=mode).eval()
    with torch.no_grad(), capture(network) as maps:
        network(IMAGES)
    one = maps["stages.0.2.weights"]
    assert one.cat().shape == (2, 1, 48, 48)
    assert one.over_image().shape == (2, 1, 48, 8, 6)


@pytest.mark.parametrize("make", [vit, convvit])
def test_a_transformer_gives_the_weights_of_every_layer(make):
    network = make(16, 3, 4).eval()
    with torch.no_grad(), capture(network) as maps:
        network(torch.randn(2, 3, 16, 24))
    assert list(maps) == [f"layers.{number}.attention.weights" for number in range(3)]
    for one in maps.values():
        assert (one.kind, one.size, one.window) == (POSITIONS, (4, 6), None)
        assert one.cat().shape == (2, 4, 25, 25)
        torch.testing.assert_close(one.cat().sum(-1), torch.ones(2, 4, 25))


@pytest.mark.parametrize("block", ["selfattention", "nonlocal", "qkv", "local"])
def test_nested_captures_both_get_the_maps_and_weights_are_made_until_the_last_ends(block):
    network = network_with(block)
    with torch.no_grad(), capture(network) as outer:
        with capture(network) as inner:
            network(IMAGES)
        network(IMAGES)
    assert hooks(network) == 0
    for path, one in outer.items():
        assert len(one.maps) == 2 and len(inner[path].maps) == 1
        assert torch.equal(one.maps[0], inner[path].maps[0])
        torch.testing.assert_close(one.maps[1], one.maps[0])


def test_an_error_in_the_network_leaves_nothing_watched():
    network = network_with("selfattention")
    with pytest.raises(RuntimeError), capture(network):
        network(torch.randn(1, 4, 18, 14))
    assert hooks(network) == 0
    assert not any(m.wanted for m in network.modules() if hasattr(m, "watched"))


# ----------------------------------------------------------------------------- over the image


@pytest.mark.parametrize("size, k", [((4, 5), 3), ((3, 2), 5), ((1, 1), 3), ((2, 6), 1)])
def test_windows_lie_around_their_queries(size, k):
    height, width = size
    weights = torch.rand(2, 3, height * width, k * k)
    pictures = Captured(POSITIONS, [weights[:1], weights[1:]], size, k).over_image()
    expected = torch.zeros(2, 3, height * width, height, width)
    for y in range(height):
        for x in range(width):
            for i in range(k):
                for j in range(k):
                    row, column = y + i - k // 2, x + j - k // 2
                    if 0 <= row < height and 0 <= column < width:
                        query = y * width + x
                        expected[:, :, query, row, column] = weights[:, :, query, i * k + j]
    assert torch.equal(pictures, expected)


def test_the_windows_of_a_block_lie_on_the_map_whole():
    block = LocalAttention(4, kernel_size=3, heads=2)
    with capture(block) as maps:
        block(torch.randn(2, 4, 4, 5))
    pictures = maps["weights"].over_image()
    assert pictures.shape == (2, 2, 20, 4, 5)
    torch.testing.assert_close(pictures.sum((-2, -1)), torch.ones(2, 2, 20))


@pytest.mark.parametrize("extra", [0, 1, 3])
def test_tokens_in_front_are_queries_and_no_part_of_the_picture(extra):
    count = 12 + extra
    weights = torch.rand(2, 3, count, count)
    pictures = Captured(POSITIONS, [weights], (3, 4)).over_image()
    assert pictures.shape == (2, 3, count, 3, 4)
    for query in range(count):
        for y in range(3):
            for x in range(4):
                expected = weights[:, :, query, extra + 4 * y + x]
                assert torch.equal(pictures[:, :, query, y, x], expected)


def test_one_query_gives_one_picture():
    network = network_with("multihead_pool")
    with torch.no_grad(), capture(network) as maps:
        network(IMAGES)
    pictures = maps["pool.attend.weights"].over_image()
    assert pictures.shape == (2, 4, 1, 2, 1)
    torch.testing.assert_close(pictures.sum((-2, -1)), torch.ones(2, 4, 1))


@pytest.mark.parametrize("kind", [CHANNEL, SPATIAL, BOTH, CODEWORDS])
def test_maps_of_another_kind_have_no_queries(kind):
    with pytest.raises(ValueError, match=f"'positions' have queries, these are '{kind}'"):
        Captured(kind, [torch.rand(2, 1, 3, 4)]).over_image()


# ------------------------------------------------------------------------------------ rollout


def random_weights(*shape):
    return torch.rand(shape, dtype=torch.float64).softmax(-1)


@pytest.mark.parametrize("layers", [1, 2, 4])
def test_rollout_equals_the_product_written_out(layers):
    weights = [random_weights(2, 3, 5, 5) for _ in range(layers)]
    expected = torch.zeros(2, 5, 5, dtype=torch.float64)
    for n in range(2):
        product = [[float(i == j) for j in range(5)] for i in range(5)]
        for layer in weights:
            mean = [
                [sum(layer[n, h, i, j] for h in range(3)) / 3 for j in range(5)] for i in range(5)
            ]
            step = [[0.5 * mean[i][j] + 0.5 * (i == j) for j in range(5)] for i in range(5)]
            product = [
                [sum(step[i][k] * product[k][j] for k in range(5)) for j in range(5)]
                for i in range(5)
            ]
        expected[n] = torch.tensor(product, dtype=torch.float64)
    found = rollout(weights)
    torch.testing.assert_close(found, expected, rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(found.sum(-1), torch.ones(2, 5, dtype=torch.float64))


def test_the_later_layer_comes_first_in_the_product():
    there = torch.eye(3).roll(1, 1).expand(1, 1, 3, 3)  # each token from the next one
    uneven = torch.tensor([[1.0, 0, 0], [1, 0, 0], [1, 0, 0]]).expand(1, 1, 3, 3)
    one, other = rollout([there, uneven]), rollout([uneven, there])
    assert torch.equal(other[0, 1], torch.tensor([0.5, 0.25, 0.25]))
    assert torch.equal(one[0, 1], torch.tensor([0.25, 0.5, 0.25]))


def test_rollout_of_a_networks_layers_has_rows_that_add_up_to_one():
    network = vit(16, 3, 4).eval()
    with torch.no_grad(), capture(network) as maps:
        network(torch.randn(2, 3, 16, 16))
    total = rollout([one.cat() for one in maps.values()])
    assert total.shape == (2, 17, 17) and total.min() > 0
    torch.testing.assert_close(total.sum(-1), torch.ones(2, 17))


@pytest.mark.parametrize(
    "shapes",
    [(), ((2, 5, 5),), ((2, 3, 5, 5), (2, 3, 4, 4)), ((2, 3, 1, 5),), ((2, 2, 12, 9),)],
)
def test_what_are_no_layers_of_self_attention_is_refused_with_its_shapes(shapes):
    with pytest.raises(ValueError) as error:
        rollout([torch.rand(shape) for shape in shapes])
    assert all(str(shape) in str(error.value) for shape in shapes)
    assert "(N, heads, T, T)" in str(error.value) or "as many queries" in str(error.value)


def test_every_map_of_the_package_is_watched_as_one():
    modules = [m for block in EXPECTED for m in network_with(block).modules()]
    kinds = {m.kind for m in modules if isinstance(m, Map)}
    assert kinds == {CHANNEL, SPATIAL, BOTH, POSITIONS, CODEWORDS}
