"""Attention pooling against loops, torch and timm; `insert` in place of a network's own pooling."""

import pytest
import torch
import torchvision
from parity import EXACT, assert_equal_to, leaf, randomise
from timm.layers.attention_pool import AttentionPoolLatent
from torch import nn
from torchvision.ops import SqueezeExcitation

from attention.blocks import (
    POOLINGS,
    AdditivePool,
    DotProductPool,
    FeatureGate,
    MultiHeadPool,
    register,
)  # fmt: skip
from attention.cost import parameters
from attention.explain import capture
from attention.networks import fast_resnet, insert, report, resnet, vit

every_pooling = pytest.mark.parametrize("name", POOLINGS)
map_sizes = pytest.mark.parametrize("size", [(3, 4), (1, 1), (5, 2)])


# ---------------------------------------------------------------------------------- the poolings


def vectors(image):
    return list(image.flatten(1).T)


@map_sizes
def test_additive_pooling_equals_the_equation_at_each_position(size):
    block = randomise(AdditivePool(8, hidden=3)).double()
    q, w, b, u, v = block.parameters()

    def by_loop(x):
        pooled = []
        for image in x:
            energies = [v[0] @ torch.tanh(w @ q[0, 0] + b + u @ one) for one in vectors(image)]
            shares = torch.stack(energies).exp()
            terms = zip(shares / shares.sum(), vectors(image), strict=True)
            pooled.append(sum(share * one for share, one in terms))
        return torch.stack(pooled)[:, :, None, None]

    if size == (1, 1):  # nothing to choose between: the position itself, and no gradient to learn
        x = leaf(2, 8, 1, 1)
        torch.testing.assert_close(block(x), x, **EXACT)
    assert_equal_to(by_loop, block, block, leaf(2, 8, *size))


@map_sizes
def test_dot_product_pooling_equals_the_equation_at_each_position(size):
    block = randomise(DotProductPool(8)).double()
    q, wq, bq, wk, bk, wv, bv, wo, bo = block.parameters()

    def by_loop(x):
        pooled = []
        for image in x:
            query = wq @ q[0, 0] + bq
            logits = [(query * (wk @ one + bk)).sum() / 8**0.5 for one in vectors(image)]
            shares = torch.stack(logits).exp()
            terms = zip(shares / shares.sum(), vectors(image), strict=True)
            pooled.append(wo @ sum(share * (wv @ one + bv) for share, one in terms) + bo)
        return torch.stack(pooled)[:, :, None, None]

    assert_equal_to(by_loop, block, block, leaf(2, 8, *size))


@map_sizes
@pytest.mark.parametrize("heads", [1, 2, 8])
def test_multi_head_pooling_equals_torchs_and_timms(size, heads):
    block = randomise(MultiHeadPool(8, heads)).double()
    attend = block.attend
    torchs = nn.MultiheadAttention(8, heads, batch_first=True).double()
    timms = AttentionPoolLatent(8, num_heads=heads).double()
    timms.mlp = None  # ours ends at W_O

    def by_torch(x):
        parts = (attend.query, attend.key, attend.value)
        tensors = {
            "in_proj_weight": torch.cat([part.weight for part in parts]),
            "in_proj_bias": torch.cat([part.bias for part in parts]),
            "out_proj.weight": attend.out.weight,
            "out_proj.bias": attend.out.bias,
        }
        rows = x.flatten(2).mT
        inputs = (block.query.expand(len(x), 1, 8), rows, rows)
        return torch.func.functional_call(torchs, tensors, inputs)[0].mT[..., None]

    def by_timm(x):
        tensors = {
            "latent": block.query,
            "q.weight": attend.query.weight,
            "q.bias": attend.query.bias,
            "kv.weight": torch.cat([attend.key.weight, attend.value.weight]),
            "kv.bias": torch.cat([attend.key.bias, attend.value.bias]),
            "proj.weight": attend.out.weight,
            "proj.bias": attend.out.bias,
        }
        pooled = torch.func.functional_call(timms, tensors, (x.flatten(2).mT,))
        return pooled[:, :, None, None]

    assert_equal_to(by_torch, block, block, leaf(2, 8, *size))
    assert_equal_to(by_timm, block, block, leaf(2, 8, *size))


@map_sizes
def test_the_feature_gate_equals_squeeze_and_excitation_of_the_average(size):
    block = randomise(FeatureGate(8, reduction=2)).double()
    reference = SqueezeExcitation(8, 4).double()
    w1, b1, w2, b2 = block.parameters()
    tensors = {"fc1.bias": b1, "fc2.bias": b2}

    def torchvisions(x):
        weights = {"fc1.weight": w1[:, :, None, None], "fc2.weight": w2[:, :, None, None]}
        average = x.sum((2, 3), keepdim=True) / (size[0] * size[1])
        return torch.func.functional_call(reference, tensors | weights, (average,))

    assert_equal_to(torchvisions, block, block, leaf(2, 8, *size))


@every_pooling
@pytest.mark.parametrize("shape", [(1, 8, 1, 1), (3, 8, 5, 2), (2, 8, 1, 7)])
def test_a_pooling_makes_one_vector_of_any_map(name, shape):
    pooling = randomise(POOLINGS[name](8)).double()
    x = torch.randn(shape, dtype=torch.float64)
    output = pooling(x)
    assert output.shape == (shape[0], 8, 1, 1)
    alone = torch.cat([pooling(image[None]) for image in x])
    torch.testing.assert_close(alone, output, **EXACT)


@every_pooling
def test_a_pooling_does_not_mind_the_order_of_positions(name):
    pooling, x = randomise(POOLINGS[name](8)).double(), leaf(2, 8, 3, 4)
    shuffled = x.flatten(2)[:, :, torch.randperm(12)].unflatten(2, (2, 6))
    torch.testing.assert_close(pooling(shuffled), pooling(x), **EXACT)


def test_the_average_is_the_mean_over_positions():
    x = torch.randn(3, 8, 5, 2)
    torch.testing.assert_close(POOLINGS["average_pool"](8)(x), x.mean((2, 3), keepdim=True))


@pytest.mark.parametrize("name", [name for name in POOLINGS if name != "average_pool"])
def test_capturing_a_pooling_changes_neither_output_nor_gradients(name):
    pooling = randomise(POOLINGS[name](8)).double()

    def captured(x):
        with capture(pooling):
            return pooling(x)

    assert_equal_to(pooling, captured, pooling, leaf(2, 8, 3, 4))


@every_pooling
@pytest.mark.parametrize("channels", [0, -4, 2.5, True, "64", None])
def test_bad_channels_are_named(name, channels):
    with pytest.raises(ValueError, match="channels") as error:
        POOLINGS[name](channels)
    assert repr(channels) in str(error.value)


@every_pooling
def test_input_that_is_not_maps_of_these_channels_is_refused_with_its_shape(name):
    for shape in ((2, 5, 4, 4), (2, 8, 4)):
        with pytest.raises(ValueError) as error:
            POOLINGS[name](8)(torch.randn(shape))
        assert str(shape) in str(error.value) and "8" in str(error.value)


def test_heads_that_do_not_divide_the_channels_are_named():
    with pytest.raises(ValueError, match="heads must divide 8 .* got 3"):
        MultiHeadPool(8, heads=3)


# -------------------------------------------------------------------------- in a network: at="pool"

NETWORKS = {
    "fast": (lambda: fast_resnet(8), "pool", 32),
    "resnet": (lambda: resnet(8, 4), "pool", 16),
    "resnet18": (lambda: torchvision.models.resnet18(weights=None), "avgpool", 512),
    "resnet50": (lambda: torchvision.models.resnet50(weights=None), "avgpool", 2048),
}


def network_of(name):
    with torch.device("meta"):  # shapes, no numbers
        return NETWORKS[name][0]()


every_network = pytest.mark.parametrize("name", NETWORKS)


@every_network
@pytest.mark.parametrize("pooling", POOLINGS)
def test_a_pooling_takes_the_place_of_the_networks_own(name, pooling):
    _, slot, channels = NETWORKS[name]
    network = network_of(name)
    before = parameters(network)
    others = [path for path, _ in network.named_modules() if path and not path.startswith(slot)]
    insert(network, pooling)
    new = getattr(network, slot)
    assert type(new) is POOLINGS[pooling]
    after = [path for path, _ in network.named_modules() if path and not path.startswith(slot)]
    assert after == others
    [placement] = network.placements
    assert (placement.block, placement.path, placement.channels) == (pooling, slot, channels)
    assert placement.parameters == parameters(network) - before == parameters(new)
    assert (placement.parameters > 0) == (pooling != "average_pool")
    assert {p.device for p in new.parameters()} <= {next(network.parameters()).device}
    assert f"{parameters(network) - before:+,} parameters" in report(network)


def small_torchvision():
    return torchvision.models.ResNet(torchvision.models.resnet.BasicBlock, [1, 1, 1, 1])


@pytest.mark.parametrize(
    "make, channels",
    [(lambda: fast_resnet(8), 32), (lambda: resnet(8, 4), 16), (small_torchvision, 512)],
)
def test_the_pooling_gets_the_last_map_and_feeds_the_classifier(make, channels):
    network, seen = insert(make().eval(), "multihead_pool", heads=2), {}
    ours = hasattr(network, "stages")
    last = network.stages if ours else network.layer4
    last.register_forward_hook(lambda module, inputs, output: seen.update(map=output))
    pooling, classifier = (
        (network.pool, network.classifier) if ours else (network.avgpool, network.fc)
    )
    with torch.no_grad():
        output = network(torch.randn(2, 3, 40, 48))
        assert seen["map"].shape[1] == channels
        expected = classifier(pooling(seen["map"]).flatten(1))
    torch.testing.assert_close(output, expected)


def test_options_mode_and_dtype_go_to_the_pooling():
    network = insert(resnet(8, 4).double().eval(), "multihead_pool", heads=8)
    assert network.pool.attend.heads == 8 and not network.pool.training
    assert network(torch.randn(1, 3, 8, 8, dtype=torch.float64)).dtype == torch.float64


@pytest.mark.parametrize("name", ["fast", "resnet18"])
def test_a_second_pooling_replaces_the_first_and_blocks_stay(name):
    _, slot, _ = NETWORKS[name]
    network = network_of(name)
    before = parameters(network)
    insert(insert(insert(network, "additive_pool"), "se"), "dot_pool")
    assert type(getattr(network, slot)) is DotProductPool
    blocks = [placement.block for placement in network.placements]
    assert blocks == ["se"] * (len(blocks) - 1) + ["dot_pool"] and len(blocks) > 3
    added = parameters(network) - before
    assert sum(placement.parameters for placement in network.placements) == added
    text = report(network)
    assert "additive_pool" not in text and f"{added:+,} parameters" in text


class Brightest(nn.Module):
    """A pooling from a notebook cell: the sum of position and channel maxima, with one weight."""

    def __init__(self, channels, factor=2.0):
        super().__init__()
        self.weight = nn.Parameter(torch.full((channels, 1, 1), factor))

    def forward(self, x):
        return self.weight * x.amax((2, 3), keepdim=True)


@pytest.mark.parametrize("registered", [False, True])
def test_a_pooling_of_ones_own_goes_there_by_argument_or_by_its_row(registered):
    network, images = fast_resnet(8).eval(), torch.randn(2, 3, 16, 16)
    expected = 3 * network(images)  # its own is a maximum, and the classifier is linear
    if registered:
        register("brightest", Brightest, at="pool")
        insert(network, "brightest", factor=3.0)
    else:
        insert(network, Brightest, at="pool", factor=3.0)
    assert [placement.path for placement in network.placements] == ["pool"]
    torch.testing.assert_close(network(images), expected)


def test_a_function_can_make_the_pooling():
    network = insert(resnet(8, 4), lambda channels: nn.AdaptiveMaxPool2d(1), at="pool")
    assert isinstance(network.pool, nn.AdaptiveMaxPool2d)
    assert [placement.channels for placement in network.placements] == [16]


@pytest.mark.parametrize("make", [lambda: fast_resnet(8), lambda: resnet(8, 4)])
@pytest.mark.parametrize(
    "block, options, words",
    [
        ("dot_pool", {"at": "residual"}, ["at='residual'", "dot_pool"]),
        ("feature_gate", {"at": "stage"}, ["at='stage'", "feature_gate"]),
        ("se", {"at": "pool"}, ["at='pool'", "'se'"]),
        ("nonlocal", {"at": "pool"}, ["at='pool'", "'nonlocal'"]),
        (AdditivePool, {"at": "residual"}, ["at='residual'"]),
        ("dot_pool", {"stages": (1,)}, ["stages must be None", "(1,)"]),
        (Brightest, {"at": "pool", "stages": 3}, ["stages must be None", "3"]),
        (lambda channels: 7, {"at": "pool"}, ["module", "7"]),
        ("multihead_pool", {"heads": 5}, ["heads", "5"]),
        ("avg_pool", {}, ["'avg_pool'", *POOLINGS]),
    ],
)
def test_a_pooling_in_the_wrong_place_is_explained_and_the_network_stays(
    make, block, options, words
):
    network = make()
    before = repr(network)
    with pytest.raises(ValueError) as error:
        insert(network, block, **options)
    assert all(word in str(error.value) for word in words)
    assert repr(network) == before and not hasattr(network, "placements")


@pytest.mark.parametrize("block", ["dot_pool", "se"])
def test_a_transformer_has_no_such_places(block):
    network = vit(width=8, depth=1, heads=2)
    before = repr(network)
    with pytest.raises(ValueError, match="network must .*VisionTransformer"):
        insert(network, block)
    assert repr(network) == before
