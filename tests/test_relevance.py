"""Relevance: every kind of captured map becomes one number a pixel, as its formula says."""

import pytest
import torch
from parity import hooks, network_with
from torch import nn
from torch.nn import functional as F

from attention.blocks import CHANNEL, SE, Gate
from attention.explain import capture, every_map, relevance, relevances
from attention.networks import convvit, vit


def pictures():
    return torch.randn(2, 3, 23, 19)


def enlarged(maps, images):
    return F.interpolate(maps[:, None], images.shape[2:], mode="bilinear")[:, 0]


def captured(network, images, path):
    """The map at `path`, and what goes into the module that holds it."""
    seen = []
    owner = network.get_submodule(path.rpartition(".")[0])
    handle = owner.register_forward_pre_hook(lambda module, inputs: seen.append(inputs[0]))
    with torch.no_grad(), capture(network) as maps:
        network(images)
    handle.remove()
    return maps[path], seen[0]


def by_formula(one, x):
    """Relevance of a map, written out image by image."""
    rows = []
    for n, values in enumerate(one.maps[0]):
        if one.kind in ("spatial", "both"):
            rows.append(sum(values) / len(values))
        elif one.kind == "channel":
            mean = sum(values.flatten()) / len(values)
            raised = [max(0, float(g - mean)) for g in values.flatten()]
            rows.append(sum(g * c.abs() for g, c in zip(raised, x[n], strict=True)))
        else:
            (height, width), (heads, queries, places) = one.size, values.shape
            total = torch.zeros(height, width)
            for q in range(queries):
                for k in range(places):
                    y, x_ = divmod(k, width)
                    if one.window:  # the place k of the window lies around the query
                        y = q // width + k // one.window - one.window // 2
                        x_ = q % width + k % one.window - one.window // 2
                    if 0 <= y < height and 0 <= x_ < width:
                        total[y, x_] += values[:, q, k].sum() / (heads * queries)
            rows.append(total)
    return torch.stack(rows)


@pytest.mark.parametrize(
    "block, path, how",
    [
        ("sse", "stages.1.1.attention.gate", "the spatial gate itself"),
        ("cbam", "stages.0.1.attention.spatial_gate", "the spatial gate itself"),
        ("bam", "stages.0.2.gate", "mean over channels"),
        ("coordinate", "stages.1.1.attention.gate", "mean over channels"),
        ("ela", "stages.1.1.attention.gate", "mean over channels"),
        ("simam", "stages.1.1.attention.gate", "mean over channels"),
        ("se", "stages.0.1.attention.gate", "active that the gate raises"),
        ("cbam", "stages.1.1.attention.channel_gate", "active that the gate raises"),
        ("encoding", "stages.0.1.attention.gate", "active that the gate raises"),
        ("feature_gate", "pool.gate", "active that the gate raises"),
        ("nonlocal", "stages.1.2.weights", "over heads and queries"),
        ("selfattention", "stages.1.1.attention.weights", "over heads and queries"),
        ("local", "stages.1.1.attention.weights", "over heads and queries"),
        ("context", "stages.0.1.attention.weights", "over heads and queries"),
        ("multihead_pool", "pool.attend.weights", "over heads and queries"),
    ],
)
def test_relevance_is_the_formula_of_its_kind(block, path, how):
    network, images = network_with(block), pictures()
    found = relevance(network, images, path)
    assert hooks(network) == 0
    assert how in found.how
    assert found.maps.shape == (2, 23, 19) and found.maps.min() >= 0
    expected = enlarged(by_formula(*captured(network, images, path)), images)
    torch.testing.assert_close(found.maps, expected, rtol=1e-4, atol=1e-6)
    assert expected.std() > 1e-4


@pytest.mark.parametrize("make", [vit, convvit])
def test_a_transformer_by_layer_and_by_rollout(make):
    network, images = make(16, 3, 4).eval(), torch.randn(2, 3, 24, 16)
    for parameter in network.layers.parameters():
        nn.init.normal_(parameter, 0.1, 0.5)
    total = torch.eye(25)
    for number in range(3):
        path = f"layers.{number}.attention.weights"
        weights = captured(network, images, path)[0].maps[0]
        found = relevance(network, images, path)
        assert "class token" in found.how
        expected = enlarged(weights[:, :, 0, 1:].mean(1).view(2, 6, 4), images)
        torch.testing.assert_close(found.maps, expected)
        total = (weights.mean(1) + torch.eye(25)) / 2 @ total
    found = relevance(network, images, "rollout")
    assert "rollout" in found.how
    torch.testing.assert_close(found.maps, enlarged(total[:, 0, 1:].view(2, 6, 4), images))


@pytest.mark.parametrize(
    "block, path, message",
    [
        (None, "stages.0", "Network holds no attention"),
        (None, "rollout", "Network holds no attention"),
        ("sse", "stages.0", r"one of stages\.0\.1.*gate, stages\.1\.1.*gate, .*or rollout"),
        ("encoding", "stages.0.1.attention.score.assignment", "'codewords' says nothing"),
        ("sse", "rollout", "self-attention in every layer"),
        ("multihead_pool", "rollout", "self-attention in every layer"),
        ("selfattention", "rollout", "with a class token"),
    ],
)
def test_what_has_no_relevance_is_named(block, path, message):
    network = network_with(block, **({"stages": 2} if block == "selfattention" else {}))
    with pytest.raises(ValueError, match=message):
        relevance(network, pictures(), path)
    assert hooks(network) == 0


def test_a_block_that_is_called_twice_a_pass_has_no_one_map():
    network = network_with()
    network.stages[1][1].attention = network.stages[2][1].attention = SE(32, 2).eval()
    with pytest.raises(ValueError, match="one map a pass"):
        relevance(network, pictures(), "stages.1.1.attention.gate")


class Vector(nn.Module):
    """A gate on numbers that have no positions."""

    def __init__(self):
        super().__init__()
        self.gate = Gate(CHANNEL)

    def forward(self, v):
        return v * self.gate(v)


def test_a_gate_on_other_maps_than_those_around_it_is_named_and_left_out():
    network = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(), Vector()).eval()
    with pytest.raises(ValueError, match="around '2.gate' must take the maps that its gate weighs"):
        relevance(network, pictures(), "2.gate")
    assert relevances(network, pictures()) == {}


class ByName(nn.Module):
    """A block that gets its maps by name."""

    def __init__(self):
        super().__init__()
        self.block = SE(3, 1)

    def forward(self, x):
        return self.block(x=x)


def test_a_block_may_get_its_maps_by_name():
    network, images = ByName().eval(), pictures()
    expected = relevance(network.block, images, "gate").maps
    torch.testing.assert_close(relevance(network, images, "block.gate").maps, expected)


@pytest.mark.parametrize("function", [relevances, every_map, lambda n, x: relevance(n, x, "gate")])
@pytest.mark.parametrize(
    "images, message",
    [
        (torch.full((2, 3, 9, 9), float("nan")), "images must be finite"),
        (torch.zeros(2, 3, 9, 9, dtype=torch.uint8), "images must be normalised .* torch.uint8"),
        (torch.zeros(3, 9, 9), r"images must be at least one, \(N, 3, H, W\), got \(3, 9, 9\)"),
        (torch.zeros(0, 3, 9, 9), "at least one"),
        ([1.0], "got list"),
    ],
)
def test_images_without_a_relevance_are_named(function, images, message):
    with pytest.raises(ValueError, match=message):
        function(SE(3, 1).eval(), images)


@pytest.mark.parametrize("function", [relevances, every_map])
def test_batches_and_networks_that_cannot_be_are_named(function):
    with pytest.raises(ValueError, match="batch_size must be .* at least 1, got 0"):
        function(SE(3, 1).eval(), pictures(), 0)
    with pytest.raises(TypeError, match="network must be a Module, got str"):
        function("se", pictures())


def test_a_network_that_trains_has_no_relevance():
    network = network_with("se")
    network.stages[0][0][2].train()  # one norm is enough
    for path in ("stages.0.1.attention.gate", "rollout"):
        with pytest.raises(ValueError, match="eval mode"):
            relevance(network, pictures(), path)
