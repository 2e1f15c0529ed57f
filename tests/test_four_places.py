"""The four places of a block in a residual block, after figure 5 of the SE paper, by hand."""

import copy

import pytest
import timm
import torch
from by_hand import randomise_norms
from some_networks import NUMERIC, applying, assert_untouched, snapshot
from torch import nn

from attention.blocks import SE
from attention.explain import capture
from attention.networks import fast_resnet, insert
from attention.networks.places import Ahead

MAKE = NUMERIC | {
    "fast": lambda: fast_resnet(4),
    "timm": lambda: timm.create_model("test_resnet", num_classes=10),
}
every_network = pytest.mark.parametrize("make", MAKE.values(), ids=MAKE)
every_place = pytest.mark.parametrize("at", ["residual", "pre", "post", "identity"])


def branch(block, x):
    """The residual branch of a block of this package, torchvision or timm."""
    if hasattr(block, "branch"):
        return block.branch(x)
    x = block.bn1(block.conv1(x)).relu()
    x = block.bn2(block.conv2(x))
    return block.bn3(block.conv3(x.relu())) if hasattr(block, "conv3") else x


def by_hand(at, f):
    """block, x → what the block answers with f at this place."""

    def answer(block, x):
        shortcut = getattr(block, "shortcut", None) or getattr(block, "downsample", None)
        identity = x if shortcut is None else shortcut(x)
        activation = getattr(block, "activation", torch.relu)
        changed = branch(block, f(x) if at == "pre" else x)
        if at == "residual":
            changed = f(changed)
        if at == "identity":
            identity = f(identity)
        out = activation(identity + changed)
        return f(out) if at == "post" else out

    return answer


@every_network
@every_place
def test_the_block_stands_where_the_figure_has_it(make, at):
    network, images = randomise_norms(make()).eval(), torch.randn(2, 3, 32, 32)
    reference = copy.deepcopy(network)
    residual = [m for m in reference.modules() if hasattr(m, "branch") or hasattr(m, "conv2")]
    for block in residual:
        block.forward = by_hand(at, torch.cos).__get__(block)
    plain = network(images)
    insert(network, applying(torch.cos), at)
    assert len(network.placements) == len(residual)
    torch.testing.assert_close(network(images), reference(images))
    assert not torch.allclose(network(images), plain)


@every_network
@every_place
def test_two_blocks_at_one_place_are_applied_in_their_order(make, at):
    network, images = randomise_norms(make()).eval(), torch.randn(2, 3, 32, 32)
    other = copy.deepcopy(network)
    insert(network, applying(lambda x: torch.cos(3 * x) + 0.1), at)
    insert(other, applying(lambda x: 3 * x), at)
    insert(other, applying(torch.cos), at)
    insert(other, applying(lambda x: x + 0.1), at)
    torch.testing.assert_close(other(images), network(images))


@every_network
@every_place
def test_a_block_there_starts_as_the_identity_is_captured_and_old_weights_load(make, at):
    network, images = randomise_norms(make()).eval(), torch.randn(2, 3, 32, 32)
    old = copy.deepcopy(network.state_dict())
    expected = network(images)
    insert(network, "cbam", at, start="identity", reduction=2)
    insert(network, "se", at, start="identity", reduction=2)
    assert torch.equal(network(images), expected)
    with capture(network) as maps:
        network(images)
    assert len(maps) == 3 * len(network.placements) / 2
    assert all(len(one.maps) == 1 for one in maps.values())
    for tensor in network.state_dict().values():
        tensor.zero_()
    outcome = network.load_state_dict(old, strict=False)
    assert outcome.unexpected_keys == [] and torch.equal(network(images), expected)
    network.load_state_dict(copy.deepcopy(network.state_dict()))
    assert torch.equal(network(images), expected)


@pytest.mark.parametrize("make", MAKE.values(), ids=MAKE)
def test_states_from_any_time_load_where_blocks_stand_inside_of_others(make):
    """A block on the branch, one behind the whole stage, one before the branch: four states."""
    network, images = randomise_norms(make()).eval(), torch.randn(2, 3, 32, 32)
    stage = "stages.1" if hasattr(network, "stem") else "layer2"
    states, expected = [copy.deepcopy(network.state_dict())], network(images)
    for options in ({"after": stage}, {"at": "residual"}, {"at": "pre"}, {"at": "post"},
                    {"after": f"{stage}.0"}):  # fmt: skip
        insert(network, "se", start="identity", reduction=2, **options)
        states.append(copy.deepcopy(network.state_dict()))
    for state in states:
        for tensor in network.state_dict().values():
            tensor.zero_()
        outcome = network.load_state_dict(state, strict=False)
        assert outcome.unexpected_keys == []
        assert not [key for key in outcome.missing_keys if "attention" not in key]
        assert torch.equal(network(images), expected)
    network.load_state_dict(states[-1])


def test_a_shortcut_without_a_part_gets_one_and_a_failure_takes_it_away():
    network = NUMERIC["basic"]()
    before, parts = snapshot(network), list(network.layer1[0]._modules)
    with pytest.raises(ValueError, match="must make"):
        insert(network, applying(lambda x: x[:, :1]), "identity")
    assert_untouched(network, before)
    assert list(network.layer1[0]._modules) == parts and network.layer1[0].downsample is None
    insert(network, "se", "identity")
    assert type(network.layer1[0].downsample) is SE
    assert [p.path for p in network.placements][:2] == [
        "layer1.0.downsample", "layer2.0.downsample.attention",
    ]  # fmt: skip
    insert(network, "se", "pre", stages=1)
    assert type(network.layer1[0].conv1) is Ahead
    assert type(network.layer1[0].conv1.after) is nn.Conv2d
