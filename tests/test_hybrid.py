"""The space of hybrids: its corners are known blocks, and every point of it is a block."""

import itertools

import pytest
import torch
from parity import EXACT, randomise

from attention.blocks import (
    BLOCKS,
    CBAM,
    ECA,
    SE,
    SPACE,
    Hybrid,
    Product,
    Rescale,
    SpatialGate,
    Sum,
)
from attention.explain import capture
from attention.networks import fast_resnet, insert

# a gate as most papers have it: average pooling, x · map, nothing else
ONE = {"combine": "channel first", "pool": None, "residual": False}
CORNERS = {
    "se": ({"channel": "mlp", "spatial": None}, lambda: SE(64)),
    "eca": ({"channel": "conv", "spatial": None}, lambda: ECA(64)),
    "encoding": ({"channel": "encoding", "spatial": None}, lambda: BLOCKS["encoding"](64)),
    "spatial": ({"channel": None, "spatial": "conv"}, lambda: SpatialGate(64)),
    "sse": ({"channel": None, "spatial": "position"}, lambda: BLOCKS["sse"](64)),
    "qkv": ({"channel": None, "spatial": "dot product"}, lambda: BLOCKS["qkv"](64)),
    "cbam": (
        {"channel": "mlp avg+max", "spatial": "conv"},
        lambda: CBAM(64),
    ),
}


@pytest.mark.parametrize("name", CORNERS)
def test_corners_of_the_space_are_the_published_blocks(name):
    options, make = CORNERS[name]
    hybrid, block = Hybrid(64, **ONE, **options).double().eval(), make().double()
    randomise(block).eval()
    for mine, theirs in zip(hybrid.state_dict().values(), block.state_dict().values(), strict=True):
        mine.copy_(theirs)
    x = torch.randn(3, 64, 7, 6, dtype=torch.float64)
    torch.testing.assert_close(hybrid(x), block(x), **EXACT)


def scores_of(block):
    """{kind: the score} of a hybrid of a channel score and a spatial one."""
    found = {}
    for gate in (module for module in block.modules() if isinstance(module, Rescale)):
        parts = gate.score.children() if isinstance(gate.score, (Sum, Product)) else [gate.score]
        found |= {score.kind: score for score in parts}
    return found["channel"], found["spatial"]


def by_hand(combine, one, channel, spatial, x):
    """What the docstring says: `one` is 1 where the map is added to x, else 0."""
    if combine == "sum":
        return x * (one + torch.sigmoid(channel(x) + spatial(x)))
    if combine == "product":
        return x * (one + torch.sigmoid(channel(x) * spatial(x)))
    if combine == "parallel":
        return x * (2 * one + torch.sigmoid(channel(x)) + torch.sigmoid(spatial(x))) / 2
    first, second = (channel, spatial) if combine == "channel first" else (spatial, channel)
    x = x * (one + torch.sigmoid(first(x)))
    return x * (one + torch.sigmoid(second(x)))


@pytest.mark.parametrize("residual", SPACE["residual"])
@pytest.mark.parametrize("combine", SPACE["combine"])
def test_how_two_scores_combine(combine, residual):
    block = Hybrid(8, "mlp", "conv", combine, pool=None, residual=residual)
    block = randomise(block.double()).eval()
    x = torch.randn(2, 8, 5, 6, dtype=torch.float64)
    expected = by_hand(combine, 1.0 * residual, *scores_of(block), x)
    torch.testing.assert_close(block(x), expected, **EXACT)
    others = [by_hand(other, 1.0 * residual, *scores_of(block), x) for other in SPACE["combine"]]
    assert sum(torch.allclose(expected, other) for other in others) == 1


@pytest.mark.parametrize("pool", [name for name in SPACE["pool"] if name])
def test_the_pool_stands_before_the_channel_score(pool):
    block = randomise(Hybrid(8, "mlp", None, pool=pool, residual=False).double()).eval()
    x = torch.randn(2, 8, 5, 6, dtype=torch.float64)
    pooling, score = block[0].score.pool, block[0].score.score
    vector = pooling(x)
    assert vector.shape == (2, 8, 1, 1) and not torch.allclose(vector, x.mean((2, 3), keepdim=True))
    expected = (
        x * torch.sigmoid(score.expand(score.reduce(vector[:, :, 0, 0]).relu()))[:, :, None, None]
    )
    torch.testing.assert_close(block(x), expected, **EXACT)


@pytest.mark.parametrize("mixing", [name for name in SPACE["mixing"] if name])
def test_positions_are_mixed_before_the_gates(mixing):
    block = randomise(Hybrid(8, mixing=mixing).double()).eval()
    x = torch.randn(2, 8, 5, 6, dtype=torch.float64)
    mixer, gate = block
    assert type(mixer) is BLOCKS[mixing]
    torch.testing.assert_close(block(x), gate(mixer(x)), **EXACT)


def all_points():
    points = [
        dict(zip(SPACE, values, strict=True)) for values in itertools.product(*SPACE.values())
    ]
    return [
        one for one in points
        if (one["channel"] or one["spatial"]) and (one["channel"] or not one["pool"])
    ]  # fmt: skip


def test_every_point_of_the_space_keeps_the_shape_and_lets_gradients_to_every_weight():
    x = torch.randn(3, 8, 5, 4)
    assert len(all_points()) > 1000
    for options in all_points()[::7]:
        block = Hybrid(8, **options).train()
        randomise(block)
        output = block(x)
        assert output.shape == x.shape
        output.square().sum().backward()
        without = [name for name, p in block.named_parameters() if p.grad is None]
        assert not without, (options, without)


def test_maps_can_be_captured():
    network = insert(fast_resnet(8), "hybrid", combine="parallel", pool=None, mixing="context")
    network.eval()
    with torch.no_grad(), capture(network) as maps:
        network(torch.randn(2, 3, 32, 32))
    kinds = [one.kind for one in maps.values()]
    assert kinds == ["positions", "channel", "spatial"] * 3


@pytest.mark.parametrize(
    "options, message",
    [
        ({"channel": "se"}, "channel must be one of mlp, .*, encoding, None; got 'se'"),
        ({"spatial": "cbam"}, "spatial must be one of conv"),
        ({"combine": "both"}, "combine must be one of channel first"),
        ({"pool": "max"}, "pool must be one of None"),
        ({"mixing": "local"}, "mixing must be one of None"),
        ({"residual": 2}, "residual must be one of False, True; got 2"),
        ({"channel": None, "spatial": None}, "must not both be None"),
        ({"channel": None, "pool": "additive"}, "pool='additive'"),
        ({"channel": None}, "pool='dot product' .* channel=None: give pool=None too"),
    ],
)  # fmt: skip
def test_what_is_no_point_of_the_space_is_named(options, message):
    with pytest.raises(ValueError, match=message):
        Hybrid(8, **options)


def test_the_defaults_are_the_searchs_winner():
    winner = Hybrid(8, "mlp", "position", "product", "dot product", None, True)
    default = Hybrid(8)
    assert repr(default) == repr(winner) and default[0].residual is True
    default.load_state_dict(randomise(winner).state_dict())
    x = torch.randn(2, 8, 5, 6)
    assert torch.equal(default.eval()(x), winner.eval()(x))
