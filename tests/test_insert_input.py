"""Blocks of the user's own, and requests that `insert` refuses, leaving the network as it was."""

import pytest
import torch
from by_hand import randomise_norms
from some_networks import (
    Scale,
    assert_blocks_stand_at,
    assert_untouched,
    expected_paths,
    network_of,
    shortcuts_only,
    snapshot,
)
from torch import nn

from attention.blocks import BLOCKS, SE, register
from attention.networks import insert, resnet

# ----------------------------------------------------------------- blocks of the user's own; errors


def test_a_class_of_ones_own_goes_to_the_residual_blocks_with_its_options():
    network, images = randomise_norms(resnet(8, 4)), torch.randn(2, 3, 8, 8)
    expected = shortcuts_only(network, images)
    insert(network, Scale, factor=0.0)
    torch.testing.assert_close(network(images), expected)
    assert [(p.block, p.channels, p.parameters) for p in network.placements] == [
        ("Scale", 4, 4),
        ("Scale", 8, 8),
        ("Scale", 16, 16),
    ]
    weights = [p for key, p in network.named_parameters() if key.endswith("attention.weight")]
    assert [len(weight) for weight in weights] == [4, 8, 16]


def test_a_lambda_is_called_with_the_channels_of_each_place():
    channels = []
    network = insert(network_of("resnet18"), lambda c: channels.append(c) or SE(c, reduction=c))
    assert channels == [64, 64, 128, 128, 256, 256, 512, 512]
    expected = expected_paths("resnet18", "residual", (1, 2, 3, 4))
    assert_blocks_stand_at(network, SE, expected)


def test_a_class_of_ones_own_may_say_where_it_belongs():
    register("scale at stages", Scale, at="stage")
    network = insert(network_of("resnet18"), "scale at stages")
    assert [p.path for p in network.placements] == ["layer1.2", "layer2.2", "layer3.2", "layer4.2"]


def third_time_unlucky():
    calls = []

    def make(channels):
        calls.append(channels)
        if len(calls) == 3:
            raise KeyError("third")
        return SE(channels)

    return make


@pytest.mark.parametrize("name", ["own", "resnet18"])
@pytest.mark.parametrize("at", ["residual", "stage"])
def test_a_block_that_fails_half_way_leaves_the_network_untouched(name, at):
    network = network_of(name)
    before = snapshot(network)
    with pytest.raises(KeyError, match="third"):
        insert(network, third_time_unlucky(), at=at)
    assert_untouched(network, before)


@pytest.mark.parametrize("make", [lambda: resnet(8, 4), lambda: network_of("resnet18")])
@pytest.mark.parametrize(
    "block, options, fragments",
    [
        ("see", {}, ["block", "'see'", *BLOCKS]),
        ("SE", {}, ["block", "'SE'", *BLOCKS]),
        (7, {}, ["block", "7"]),
        (None, {}, ["block", "None"]),
        ("se", {"at": "end"}, ["at", "'end'", "residual", "stage"]),
        ("se", {"stages": 0}, ["stages", "0", "1 to"]),
        ("se", {"stages": 5}, ["stages", "5", "1 to"]),
        ("se", {"stages": (1, 5)}, ["stages", "5", "1 to"]),
        ("se", {"stages": -1}, ["stages", "-1", "1 to"]),
        ("se", {"stages": ()}, ["stages"]),
        ("se", {"stages": "1"}, ["stages", "'1'"]),
        ("se", {"stages": 1.0}, ["stages", "1.0"]),
        ("se", {"stages": (1, None)}, ["stages", "None"]),
        ("se", {"stages": True}, ["stages", "True", "1 to"]),
        ("se", {"stages": "12"}, ["stages", "'12'"]),
        ("se", {"stages": (1, float("nan"))}, ["stages", "nan"]),
        ("se", {"stages": [[1]]}, ["stages", "[[1]]"]),
        ("se", {"at": ""}, ["at", "''", "residual"]),
        ("se", {"at": ["residual"]}, ["at", "['residual']"]),
        ("se", {"at": 1}, ["at", "1", "residual"]),
        ("se", {"at": "pool"}, ["at='pool'", "'se'"]),
        ("dot_pool", {"at": "residual"}, ["at='residual'", "dot_pool"]),
        (Scale, {"at": "pool", "stages": 1}, ["stages must be None", "1"]),
        (["se"], {}, ["block", "['se']"]),
        (nn.Sequential(SE(4, 2)), {}, ["block", "SE"]),
        (int, {}, ["module", "int"]),
        ("se", {"reduction": 0}, ["reduction", "0"]),
        (lambda channels: None, {}, ["module", "None"]),
        (lambda channels: nn.Identity, {}, ["module", "Identity"]),
        (lambda channels: channels, {}, ["module"]),
        (SE(4, 2), {}, ["block", "SE"]),
    ],
)
def test_a_bad_request_is_explained_and_leaves_the_network_untouched(
    make, block, options, fragments
):
    network = make()
    before = snapshot(network)
    with pytest.raises(ValueError) as error:
        insert(network, block, **options)
    for fragment in fragments:
        assert fragment in str(error.value)
    assert_untouched(network, before)


def test_an_option_that_the_block_does_not_have_leaves_the_network_untouched():
    network = resnet(8, 4)
    before = snapshot(network)
    with pytest.raises(TypeError, match="reductoin"):
        insert(network, "se", reductoin=4)
    assert_untouched(network, before)
