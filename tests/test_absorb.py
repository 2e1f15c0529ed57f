"""Where the mean of a gate can go, and where it cannot: in networks made for it."""

import pytest
import torch
from test_fold import Switch, assert_alike, held, lively, some_images
from torch import nn

import attention
from attention import blocks
from attention.blocks import CBAM, SE, SSE, Gate, Rescale
from attention.deploy import fold, load_network, save_network, without
from attention.deploy.absorb import Refused, places
from attention.deploy.readers import watch
from attention.networks import FromIdentity, resnet


class Halves(nn.Module):
    """A gate that is not a sigmoid alone, in a block that nobody knows."""

    def __init__(self, channels):
        super().__init__()
        self.gate = Gate("channel")
        self.weight = nn.Parameter(torch.randn(channels, 1, 1))

    def forward(self, x):
        scale = self.gate(self.weight * x.mean((2, 3), keepdim=True))
        return 0.5 * x + x * scale.flatten(1)[..., None, None] / 2


class Bent(Halves):
    def forward(self, x):
        return super().forward(x).relu()


class Adds(nn.Module):
    """before(x), then inner, then what is read twice: by a layer and an addition."""

    def __init__(self, inner, before):
        super().__init__()
        self.before, self.inner, self.layer = before, inner, nn.Conv2d(8, 8, 1)

    def forward(self, x):
        x = self.inner(self.before(x))
        return x + self.layer(x)


class Leaks(Adds):
    """What the gate weighs is read beside it."""

    def forward(self, x):
        x = self.before(x)
        return self.inner(x) + x


def head(positions=1, channels=8):
    return nn.AdaptiveAvgPool2d(positions), nn.Flatten(), nn.Linear(channels * positions**2, 10)


def first(*layers):
    return nn.Sequential(nn.Conv2d(3, 8, 3), *layers)


def normed(layer):
    return nn.utils.parametrizations.weight_norm(layer)


FOLDS = {
    "conv": (lambda: first(SE(8, 1), *head()), "0"),
    "conv without bias": (
        lambda: nn.Sequential(nn.Conv2d(3, 8, 3, bias=False), SE(8, 1), *head()),
        "0",
    ),
    "group norm": (lambda: first(nn.GroupNorm(4, 8), SE(8, 1), nn.ReLU(), *head()), "1"),
    "conv behind": (lambda: first(nn.GELU(), SE(8, 1), nn.Conv2d(8, 8, 3), *head()), "3"),
    "groups behind": (
        lambda: first(nn.GELU(), SE(8, 1), nn.Conv2d(8, 16, 3, groups=4), *head(1, 16)),
        "3",
    ),
    "positions behind": (lambda: first(nn.GELU(), SE(8, 1), nn.MaxPool2d(2), *head(3)), "6"),
    "relu behind": (
        lambda: first(nn.GELU(), SE(8, 1), nn.ReLU(inplace=True), nn.Conv2d(8, 8, 3), *head()),
        "4",
    ),
    "norm read by an addition": (
        lambda: first(Adds(SE(8, 1), nn.BatchNorm2d(8)), *head()),
        "1.before",
    ),
    "own block": (lambda: first(Halves(8), *head()), "0"),
    "two gates": (lambda: first(SE(8, 1), SSE(8), *head()), "0"),
    "a CBAM by hand": (lambda: first(CBAM(8, 2), *head()), "0"),
    "a map of two gates": (lambda: first(blocks.Parallel(SE(8, 1), SSE(8)), *head()), "0"),
}


@pytest.mark.parametrize(("make", "where"), FOLDS.values(), ids=FOLDS)
def test_there_is_a_place(make, where):
    network, images = make().eval(), some_images(6, 12)
    for module in network.modules():
        if isinstance(module, blocks.Score):
            for values in module.parameters():
                nn.init.uniform_(values, -2, 2)
    folded = fold(network, images, tolerance=0.99)
    assert {row.note for row in folded.folded} == {where}
    with torch.no_grad():
        assert_alike(folded(images), held(network, images))
        assert (folded(images) - network(images)).abs().max() > 1e-5
    assert folded.folded[0].moved > 1e-4


class Twice(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv, self.block = nn.Conv2d(3, 8, 3), SE(8, 1)

    def forward(self, x):
        return self.block(self.block(self.conv(x)).sin())


class Doubled(nn.Conv2d):
    def forward(self, x):
        return super().forward(x).square()


REFUSED = {
    "read by an addition": (
        lambda: first(nn.GELU(), Adds(SE(8, 1), nn.GELU()), *head()),
        ["2.before before it is a GELU", "`add` in 2 reads its output"],
    ),
    "read beside the gate": (
        lambda: first(Leaks(SE(8, 1), nn.BatchNorm2d(8)), *head()),
        ["`add` in 1 reads its input too", "`add` in 1 reads its output"],
    ),
    "a norm with nothing to multiply": (
        lambda: first(nn.BatchNorm2d(8, affine=False), SE(8, 1), nn.GELU(), *head()),
        ["1 before it is a BatchNorm2d", "`gelu` in 3 reads its output"],
    ),
    "a convolution of another kind": (
        lambda: nn.Sequential(Doubled(3, 8, 3), SE(8, 1), nn.GELU(), *head()),
        ["0 before it is a Doubled", "`gelu` in 2"],
    ),
    "a weight that is computed": (
        lambda: nn.Sequential(normed(nn.Conv2d(3, 8, 3)), SE(8, 1), nn.GELU(), *head()),
        ["0 before it is a ParametrizedConv2d"],
    ),
    "called twice": (lambda: nn.Sequential(Twice(), *head()), ["it is called 2 times in a pass"]),
    "more than a product": (
        lambda: attention.insert(resnet(8, 4), Bent, stages=3),
        ["it does more than multiply by its gate"],
    ),
    "a pooling": (lambda: attention.insert(resnet(8, 4), "feature_gate"), ["not the shape of"]),
    "the images": (lambda: nn.Sequential(SE(3), nn.GELU(), *head(1, 3)), ["no layer of its own"]),
    "the answer": (lambda: first(nn.GELU(), SE(8, 1)), ["its output is the network's"]),
}  # fmt: skip


@pytest.mark.parametrize(("make", "why"), REFUSED.values(), ids=REFUSED)
def test_there_is_no_place_and_it_says_so(make, why):
    network, images = make().eval(), some_images(4, 12)
    folded = fold(network, images, tolerance=0.99)
    (row,) = folded.folded
    assert not row.folded
    for words in why:
        assert words in row.note, row.note
    with torch.no_grad():
        assert torch.equal(folded(images), network(images))


MOVES = {
    "mlp": (blocks.ChannelMLP(8, 2), True),
    "mlp avg+max": (blocks.PooledMLP(8, 2), True),
    "position": (blocks.PositionConv(8), True),
    "dilated": (blocks.SpatialBranch(8, 2, 1), True),
    "dot product": (blocks.DotProductScore(8, 2), True),
    "sum": (blocks.Sum(channel=blocks.ChannelMLP(8, 2), spatial=blocks.PositionConv(8)), True),
    "channel conv": (blocks.ChannelConv(8), False),
    "spatial conv": (blocks.SpatialConv(8), False),
    "encoding": (blocks.ContextEncoding(8), None),
}


@pytest.mark.parametrize("each", [True, False], ids=["a channel's own", "one for all"])
@pytest.mark.parametrize(("score", "any_factor"), MOVES.values(), ids=MOVES)
def test_a_gate_that_stays_sees_what_it_saw(score, any_factor, each):
    """A constant gate passes the one before it, which has to score as if it had not."""
    constant = SE(8) if each else SSE(8)
    network = first(Rescale(score), constant, nn.GELU(), *head()).double().eval()
    for values in score.parameters():
        nn.init.uniform_(values, -2, 2)
    nn.init.zeros_(constant.score.expand.weight if each else constant.score.conv.weight)
    factor = constant.score.expand.bias.sigmoid() if each else torch.full((8,), 0.5).double()
    images = some_images(6, 12).double()
    watched = watch(network, images[:1])
    if any_factor is None or each and not any_factor:
        with pytest.raises(Refused, match=f"the {type(score).__name__} of 1 before it would see"):
            places(watched, constant, factor)
        return
    with torch.no_grad():
        expected = network(images)
        steps, layers = places(watched, constant, factor)
        assert torch.equal(network(images), expected) and layers == [network[0]]
        for step in steps:
            step()
        network[2] = nn.Identity()
        assert_alike(network(images), expected, 1e-12)


def test_what_else_holds_a_weight_keeps_it():
    network = first(SE(8, 1), *head()).eval()
    weight = network[0].weight
    folded = fold(network, some_images(4, 12), tolerance=0.99)
    assert network[0].weight is weight and not torch.equal(folded[0].weight, weight)
    assert folded[0].weight.requires_grad and folded[0].weight.dtype == weight.dtype


def test_precision_and_memory_order_stay():
    network = lively(attention.insert(resnet(8, 4), "cbam")).to(memory_format=torch.channels_last)
    folded = fold(network.bfloat16(), some_images().bfloat16(), tolerance=0.99)
    assert all(row.folded for row in folded.folded)
    assert {values.dtype for values in folded.parameters()} == {torch.bfloat16}
    conv = folded.stages[1][0].branch[3].weight
    assert conv.is_contiguous(memory_format=torch.channels_last)


def test_a_gate_that_is_shut_folds():
    network = first(SE(8, 1), *head()).eval()
    nn.init.zeros_(network[1].score.expand.weight)
    nn.init.constant_(network[1].score.expand.bias, -200)
    folded = fold(network, some_images(4, 12), tolerance=0)
    assert folded.folded[0].moved == 0 and not folded[0].weight.any()


def test_both_gates_of_a_sum_fold_or_none():
    network = attention.insert(resnet(8, 4), "hybrid", combine="parallel", stages=3).eval()
    gates = [path for path, module in network.named_modules() if isinstance(module, Gate)]
    with pytest.raises(ValueError, match="gates must have all of"):
        without(network, gates[:1])
    with pytest.raises(ValueError, match="gates must be paths of gates"):
        without(network, ["stages.2"])


def test_a_block_that_started_as_the_identity_folds():
    network = attention.insert(resnet(8, 4), "cbam", start="identity")
    for module in network.modules():
        if isinstance(module, FromIdentity):
            nn.init.constant_(module.gain, 0.7)
    network, images = lively(network), some_images()
    folded = fold(network, images, tolerance=0.99)
    assert all(row.folded and row.block == "FromIdentity" for row in folded.folded)
    with torch.no_grad():
        assert_alike(folded(images), held(network, images))
    assert attention.report(folded) == "no attention blocks inserted"


def test_mixing_and_gates_one_behind_the_other():
    """Of two blocks in one place the constant one goes, and the other keeps its name."""
    network = attention.insert(attention.insert(resnet(8, 4), Switch, stages=3), "se", stages=3)
    network = lively(attention.insert(network, "context", stages=3))
    images = some_images(40)
    folded = fold(network, images, tolerance=0)
    assert [(row.block, row.folded) for row in folded.folded] == [
        ("Switch", False), ("SE", False), ("GlobalContext", False),
    ]  # fmt: skip
    assert "before it is a Switch" in folded.folded[1].note
    assert folded.folded[2].note == "it multiplies by no gate"


def test_a_folded_network_is_saved_and_built_again(tmp_path):
    network = attention.insert(attention.insert(resnet(8, 4), "cbam"), "sse", stages=(1, 2))
    network = lively(attention.insert(network, "bam", stages=3))
    images = some_images(40)
    folded = fold(network, images, tolerance=0)
    assert {row.folded for row in folded.folded} == {True, False}
    again = load_network(save_network(folded, tmp_path / "folded"))
    assert again.folded == folded.folded and again.placements == folded.placements
    with torch.no_grad():
        assert torch.equal(again(images), folded(images))
    assert load_network(save_network(again, tmp_path / "again")).folded == folded.folded
