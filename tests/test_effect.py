"""What a map does: replaced by hand, described where the answer is known, and knocked out."""

import copy

import numpy as np
import pytest
import torch
from parity import hooks, randomise
from torch import nn

from attention.blocks import ChannelMLP, NonLocal, Rescale, SelfAttention
from attention.blocks.gate import BOTH, CHANNEL, POSITIONS, SPATIAL, Gate
from attention.blocks.pooling import MultiHeadPool
from attention.explain import Captured, behaviour, capture, knocked_out, replaced
from attention.networks import fast_resnet, insert


def gate_of(block, x):
    """The block's map, by its own parts."""
    return block.score(x).sigmoid()


# -------------------------------------------------------------------------------------- replaced


@pytest.mark.parametrize("residual", [False, True])
def test_a_replaced_gate_equals_the_computation_by_hand(residual):
    block, x = Rescale(ChannelMLP(4, 2), residual), torch.randn(5, 4, 3, 6)
    randomise(block).eval()
    apply = (lambda g: x * (1 + g)) if residual else (lambda g: x * g)
    with torch.no_grad():
        whole, gate = block(x), gate_of(block, x)
        mean = gate.mean(0, keepdim=True)
        with replaced(block, "gate", "mean", mean) as same:
            assert same is block
            torch.testing.assert_close(block(x), apply(mean))
        with replaced(block, "gate", "ones"):
            assert torch.equal(block(x), apply(torch.ones(5, 4, 1, 1)))
        with replaced(block, "gate", "shuffled"):
            output = block(x)
        candidates = torch.stack([apply(gate[[n]]) for n in range(5)])  # with the map of image n
        distances = (candidates - output).abs().amax((2, 3, 4))
        giver = distances.argmin(0)
        assert (distances.amin(0) < 1e-6).all()
        assert sorted(giver.tolist()) == [0, 1, 2, 3, 4]
        torch.testing.assert_close(block(x), whole)
    torch.testing.assert_close(whole, apply(gate))


@pytest.mark.parametrize("count", [2, 3, 7])
def test_no_image_keeps_its_own_map_when_they_are_shuffled(count):
    gate = Gate(SPATIAL)
    logits = torch.arange(float(count)).view(-1, 1, 1, 1)
    orders = set()
    for seed in range(30):
        with replaced(gate, "", "shuffled", seed=seed):
            order = gate(logits).logit().flatten().round().int().tolist()
            again = gate(logits).logit().flatten().round().int().tolist()
        assert sorted(order) == sorted(again) == list(range(count))
        assert all(one != n for n, one in enumerate(order))
        with replaced(gate, "", "shuffled", seed=seed):
            assert gate(logits).logit().flatten().round().int().tolist() == order
        orders.add(tuple(order))
    assert len(orders) >= {2: 1, 3: 2, 7: 10}[count]  # of which two and three images have no more


def test_weights_over_positions_are_replaced_by_their_mean():
    x, weights = torch.randn(3, 4, 2, 5), torch.randn(1, 2, 10, 10).softmax(-1)
    with torch.no_grad():
        block = randomise(NonLocal(4)).eval()
        rows = x.flatten(2).mT
        with replaced(block, "weights", "mean", weights[:, :1]):
            found = block(x)
        mixed = (weights[0, 0] @ block.g(rows)).mT.unflatten(2, (2, 5))
        torch.testing.assert_close(found, x + block.norm(block.out(mixed)))
        block = randomise(SelfAttention(4, heads=2, reach=2)).eval()
        with replaced(block, "weights", "mean", weights):
            found = block(x)
        values = block.value(rows)
        heads = [weights[0, n] @ values[..., 2 * n : 2 * n + 2] for n in range(2)]
        expected = block.out(torch.cat(heads, -1)).mT.unflatten(2, (2, 5))
        torch.testing.assert_close(found, expected)


@pytest.mark.parametrize("make", [NonLocal, lambda c: SelfAttention(c, 2, 2), MultiHeadPool])
def test_the_mean_of_one_image_is_that_image_and_two_images_swap_their_weights(make):
    block, x = randomise(make(4)).eval(), torch.randn(2, 4, 3, 5)
    [path] = [path for path, m in block.named_modules() if path.endswith("weights")]
    with torch.no_grad():
        with capture(block) as maps:
            whole = block(x)
        first, second = maps[path].cat().split(1)
        with replaced(block, path, "mean", first):
            with_first = block(x)
        with replaced(block, path, "mean", second):
            with_second = block(x)
        with replaced(block, path, "shuffled"):
            swapped = block(x)
    close = dict(rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(torch.stack([with_first[0], with_second[1]]), whole, **close)
    torch.testing.assert_close(torch.stack([with_second[0], with_first[1]]), swapped, **close)
    assert not torch.allclose(swapped, whole, atol=1e-2)


def test_the_hook_is_off_afterwards_also_after_an_error():
    network, images = insert(fast_resnet(8), "se", reduction=2).eval(), torch.randn(2, 3, 18, 14)
    path = "stages.1.1.attention.gate"
    with torch.no_grad():
        whole = network(images)
        with replaced(network, path, "ones"):
            assert hooks(network) == 1
            assert not torch.allclose(network(images), whole)
        assert hooks(network) == 0 and torch.equal(network(images), whole)
        with pytest.raises(KeyError), replaced(network, path, "ones"):
            raise KeyError
        with pytest.raises(RuntimeError), replaced(network, path, "ones"):
            network(images[:, :2])
    assert hooks(network) == 0


MEAN = torch.full((1, 8, 1, 1), 0.5)


@pytest.mark.parametrize(
    "block, path, way, mean, message",
    [
        ("se", "stages.0", "ones", None, "an attention map in the network, got 'stages.0'"),
        ("se", "nowhere", "ones", None, "got 'nowhere'"),
        ("se", "stages.0.1.attention.gate", "zeros", None, "mean, ones, shuffled; got 'zeros'"),
        ("se", "stages.0.1.attention.gate", "mean", None, "given with way='mean', and only then"),
        ("se", "stages.0.1.attention.gate", "ones", MEAN, "and only then"),
        ("se", "stages.0.1.attention.gate", "shuffled", MEAN, "and only then"),
        ("nonlocal", "stages.0.2.weights", "ones", None, "for gates, .* of kind 'positions'"),
    ],
)
def test_what_cannot_be_replaced_is_named(block, path, way, mean, message):
    network = insert(fast_resnet(8), block)
    with pytest.raises(ValueError, match=message), replaced(network, path, way, mean):
        raise AssertionError("never reached")
    assert hooks(network) == 0


# ------------------------------------------------------------------------------------- behaviour

LABELS = torch.tensor([0, 0, 1, 1, 5, 5])
PATTERN = torch.tensor([0.1, 0.5, 0.9]).view(1, 3, 1, 1)
BY_CLASS = torch.tensor([0.2, 0.2, 0.4, 0.4, 0.9, 0.9]).view(6, 1, 1, 1)
WITHIN = torch.tensor([0.2, 0.8] * 3).view(6, 1, 1, 1)  # in each class the same two values
ENDS = torch.tensor([0, 0.04, 0.06, 0.94, 0.96, 1]).view(1, 6, 1, 1)
SPREAD, CLASSES = np.std([0.1, 0.5, 0.9]), np.std([0.2, 0.4, 0.9])
BOTH_STD = (SPREAD**2 + 0.15**2) ** 0.5
HANDMADE = {  # maps, mean, std, saturated, over_images, over_classes, fixed
    "constant": (torch.full((6, 3, 1, 1), 0.4), 0.4, 0, 0, 0, 0, 1),
    "pattern": (PATTERN.expand(6, -1, -1, -1), 0.5, SPREAD, 0, 0, 0, 1),
    "classes": (BY_CLASS.expand(-1, 4, 1, 1), 0.5, CLASSES, 0, CLASSES, CLASSES, 0),
    "within": (WITHIN.expand(-1, 4, 1, 1), 0.5, 0.3, 0, 0.3, 0, 0),
    "saturated": (ENDS.expand(6, -1, 1, 1), 0.5, ENDS.numpy().std(), 4 / 6, 0, 0, 1),
    "both": (
        PATTERN + 0.5 * (WITHIN - 0.5), 0.5, BOTH_STD, 2 / 6, 0.15, 0, (SPREAD / BOTH_STD) ** 2
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", HANDMADE)
def test_behaviour_of_maps_made_by_hand(name):
    maps, *expected = HANDMADE[name]
    frame = behaviour({name: Captured(BOTH, [maps])}, LABELS)
    columns = ["mean", "std", "saturated", "over_images", "over_classes", "fixed"]
    assert list(frame.columns) == ["kind", *columns] and frame.loc[name, "kind"] == BOTH
    assert list(frame.loc[name, columns]) == pytest.approx(expected, abs=1e-6)


def test_behaviour_has_one_row_a_map_and_equals_numpys_over_any_batches():
    maps = {
        "a.gate": Captured(CHANNEL, [torch.rand(2, 3, 1, 1), torch.rand(4, 3, 1, 1)]),
        "b.weights": Captured(POSITIONS, [torch.rand(6, 2, 4, 4).softmax(-1)], (2, 2)),
    }
    frame = behaviour(maps, LABELS)
    assert list(frame.index) == list(maps) and list(frame["kind"]) == [CHANNEL, POSITIONS]
    for path, one in maps.items():
        values = torch.cat(one.maps).numpy().reshape(6, -1).astype(float)
        classes = np.stack([(values[n] + values[n + 1]) / 2 for n in (0, 2, 4)])
        row = frame.loc[path]
        assert row["mean"] == pytest.approx(values.mean())
        assert row["std"] == pytest.approx(values.std(), rel=1e-5)
        assert row["saturated"] == pytest.approx(((values < 0.05) | (values > 0.95)).mean())
        assert row["over_images"] == pytest.approx(values.std(0).mean(), rel=1e-5)
        assert row["over_classes"] == pytest.approx(classes.std(0).mean(), rel=1e-5)
        # the variance that the mean map explains: R² of a prediction by it
        explained = (
            1 - ((values - values.mean(0)) ** 2).sum() / ((values - values.mean()) ** 2).sum()
        )
        assert row["fixed"] == pytest.approx(explained, abs=1e-5)


def test_a_batch_of_one_has_no_other_image_to_take_a_map_from():
    gate = Gate(SPATIAL)
    with (
        pytest.raises(ValueError, match="batch of at least 2, got 1"),
        replaced(gate, "", "shuffled"),
    ):
        gate(torch.zeros(1, 1, 2, 2))


@pytest.mark.parametrize("mean", [torch.ones(2, 1, 2, 2), torch.ones(1, 2), torch.ones(1, 1, 3, 2)])
def test_a_mean_of_another_shape_is_named(mean):
    gate = Gate(SPATIAL)
    with (
        pytest.raises(ValueError, match=r"mean must be a map \(1, 1, 2, 2\), got"),
        replaced(gate, "", "mean", mean),
    ):
        gate(torch.zeros(5, 1, 2, 2))


def test_a_copy_made_inside_keeps_its_own_maps():
    network, images = fast_resnet(8).eval(), torch.randn(2, 3, 18, 14)
    insert(network, "se", reduction=2)
    with torch.no_grad():
        whole = network(images)
        with replaced(network, "stages.1.1.attention.gate", "ones"):
            twin = copy.deepcopy(network)
            torch.testing.assert_close(twin(images), whole)
    assert hooks(twin) == 0


def test_capture_sees_the_map_that_is_put_in_place():
    gate, x = Gate(SPATIAL), torch.randn(2, 1, 3, 3)
    with replaced(gate, "", "ones"), capture(gate) as maps:
        gate(x)
    assert (maps[""].cat() == 1).all()


@pytest.mark.parametrize("count", [5, 7])
def test_behaviour_wants_one_label_an_image(count):
    with pytest.raises(ValueError, match=f"labels must be 6, one for each image, got {count}"):
        behaviour({"gate": Captured(BOTH, [torch.rand(6, 3, 1, 1)])}, torch.zeros(count))


# ----------------------------------------------------------------------------------- knocked_out


class Sides(nn.Module):
    """Which side of the image is bright? It answers from the gate alone, or without it."""

    def __init__(self, matters):
        super().__init__()
        self.gate, self.matters = Gate(SPATIAL), matters

    def forward(self, x):
        gate = self.gate(x.mean(1, keepdim=True))
        seen = gate if self.matters else x
        half = x.shape[3] // 2
        return torch.stack([seen[..., :half].sum((1, 2, 3)), seen[..., half:].sum((1, 2, 3))], 1)


def sided(labels):
    images = 0.1 * torch.randn(len(labels), 3, 4, 6)
    for image, label in zip(images, labels, strict=True):
        image[..., :3] += 1 - 2 * label
        image[..., 3:] -= 1 - 2 * label
    return images


@pytest.mark.parametrize("matters", [True, False])
def test_knocking_out_a_gate_costs_what_it_is_worth(matters):
    network, labels = Sides(matters).eval(), torch.tensor([0, 1] * 20)
    images, called = sided(labels), []

    def accuracy(network):
        called.append(hooks(network))
        with torch.no_grad():  # two images at a time, one of each side
            answers = torch.cat([network(pair).argmax(1) for pair in images.split(2)])
        return 100 * float((answers == labels).double().mean())

    frame = knocked_out(network, images, accuracy)
    assert list(frame.index) == ["gate"]
    assert list(frame.columns) == ["whole", "mean", "ones", "shuffled"]
    # the mean and ones are the same for both sides; the other image's gate points at the wrong one
    assert list(frame.loc["gate"]) == ([100, 50, 50, 0] if matters else [100] * 4)
    assert called == [0, 1, 1, 1] and hooks(network) == 0


def test_knocked_out_takes_the_mean_over_the_images_and_goes_through_every_map():
    network = insert(fast_resnet(8), "selfattention", heads=2, reach=2, stages=(1, 2)).eval()
    images, seen = torch.randn(4, 3, 18, 14), []

    def accuracy(network):
        with torch.no_grad(), capture(network) as maps:
            network(images)
        seen.append({path: one.cat() for path, one in maps.items()})
        return float(len(seen))

    frame = knocked_out(network, images, accuracy)
    paths = [f"stages.{number}.1.attention.weights" for number in (0, 1)]
    assert list(frame.index) == paths and list(frame.columns) == ["whole", "mean", "shuffled"]
    assert frame.to_numpy().tolist() == [[1, 2, 3], [1, 4, 5]]
    whole, mean, shuffled = seen[0][paths[0]], seen[1][paths[0]], seen[2][paths[0]]
    torch.testing.assert_close(mean, whole.mean(0, keepdim=True).expand(4, -1, -1, -1))
    torch.testing.assert_close(shuffled.sum(0), whole.sum(0))
    assert not torch.allclose(shuffled, whole)
    torch.testing.assert_close(seen[3][paths[0]], whole)  # one map at a time


def test_a_network_without_maps_has_nothing_to_knock_out():
    with pytest.raises(ValueError, match="holds no attention"):
        knocked_out(fast_resnet(8).eval(), torch.randn(2, 3, 18, 14), lambda network: 0.0)


@pytest.mark.parametrize(
    "images, options, message",
    [
        (torch.full((2, 3, 4, 6), float("nan")), {}, "images must be finite"),
        (torch.zeros(2, 3, 4, 6, dtype=torch.uint8), {}, "images must be normalised"),
        (torch.zeros(3, 4, 6), {}, r"\(N, 3, H, W\)"),
        (torch.zeros(2, 3, 4, 6), {"batch_size": 0}, "batch_size must be .* at least 1"),
    ],
)
def test_what_cannot_be_knocked_out_is_named(images, options, message):
    with pytest.raises(ValueError, match=message):
        knocked_out(Sides(True).eval(), images, lambda network: 0.0, **options)
    with pytest.raises(ValueError, match="eval mode"):
        knocked_out(Sides(True), torch.zeros(2, 3, 4, 6), lambda network: 0.0)


def test_behaviour_of_nothing_is_an_error():
    with pytest.raises(ValueError, match="maps must hold at least one captured map"):
        behaviour({}, LABELS)
