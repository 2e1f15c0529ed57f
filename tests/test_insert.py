"""Where `insert` puts blocks, what they do there, and that everything else stays.

Where blocks go in torchvision's large networks is tested on the meta device, which has shapes and
no numbers; what they do there is tested with numbers, on its smallest.
"""

import pytest
import torch
from by_hand import randomise_norms
from some_networks import (
    SIZES,
    applying,
    assert_blocks_stand_at,
    every_network,
    every_size,
    expected_paths,
    network_of,
    shortcuts_only,
)
from torch import nn

from attention.blocks import BAM, BLOCKS, CBAM, ECA, SE
from attention.networks import insert, resnet

# --------------------------------------------------------------------------- where blocks go: paths


@every_size
def test_residual_blocks_all_get_one_at_residual(name):
    stages = range(1, len(SIZES[name][0]) + 1)
    for block, kind in (("se", SE), ("cbam", CBAM)):
        network = insert(network_of(name), block)
        assert_blocks_stand_at(network, kind, expected_paths(name, "residual", stages))


@every_size
def test_bam_stands_after_every_stage_but_the_last(name):
    stages = range(1, len(SIZES[name][0]))
    network = insert(network_of(name), "bam")
    assert_blocks_stand_at(network, BAM, expected_paths(name, "stage", stages))


@every_size
def test_other_blocks_at_stage_stand_after_all_stages(name):
    stages = range(1, len(SIZES[name][0]) + 1)
    network = insert(network_of(name), "se", at="stage")
    assert_blocks_stand_at(network, SE, expected_paths(name, "stage", stages))


@pytest.mark.parametrize("name", ["own", "resnet18"])
@pytest.mark.parametrize(
    "block, kind, options, at, stages",
    [
        ("se", SE, {"stages": (1,)}, "residual", [1]),
        ("eca", ECA, {"stages": 3}, "residual", [3]),
        ("cbam", CBAM, {"stages": [3, 1, 3], "at": "stage"}, "stage", [1, 3]),
        ("bam", BAM, {"stages": range(2, 4)}, "stage", [2, 3]),
        ("bam", BAM, {"stages": 1, "at": "residual"}, "residual", [1]),
    ],
)
def test_stages_and_place_can_be_chosen(name, block, kind, options, at, stages):
    network = insert(network_of(name), block, **options)
    assert_blocks_stand_at(network, kind, expected_paths(name, at, stages))
    assert network.insertions[0]["stages"] == tuple(stages)


def test_bam_at_residual_stands_in_all_stages():
    network = insert(network_of("resnet18"), "bam", at="residual")
    assert_blocks_stand_at(network, BAM, expected_paths("resnet18", "residual", (1, 2, 3, 4)))


# -------------------------------------------------------------------- where blocks go: what they do


@every_network
def test_a_block_of_zeros_leaves_the_shortcuts_so_it_stands_before_the_addition(make):
    network, images = randomise_norms(make()), torch.randn(2, 3, 32, 32)
    plain = network(images)
    expected = shortcuts_only(network, images)
    insert(network, applying(torch.zeros_like))
    torch.testing.assert_close(network(images), expected)
    assert not torch.allclose(plain, expected, atol=1e-2)


@every_network
def test_a_block_sees_the_whole_branch_so_negating_it_negates_the_last_norm(make):
    network, images = randomise_norms(make()), torch.randn(2, 3, 32, 32)
    inserted = insert(randomise_norms(make()), applying(torch.neg))
    for ours, theirs in zip(inserted.parameters(), network.parameters(), strict=True):
        ours.data.copy_(theirs)
    for ours, theirs in zip(inserted.buffers(), network.buffers(), strict=True):
        ours.data.copy_(theirs)
    for module in network.modules():
        if hasattr(module, "branch"):
            last = module.branch[-1]
        elif hasattr(module, "conv2"):
            last = getattr(module, "bn3", module.bn2)
        else:
            continue
        last.weight.data.neg_()
        last.bias.data.neg_()
    torch.testing.assert_close(inserted(images), network(images))


@every_network
@pytest.mark.parametrize("at", ["residual", "stage"])
def test_a_block_that_does_nothing_changes_no_bit_of_the_output(make, at):
    network, images = randomise_norms(make()), torch.randn(2, 3, 32, 32)
    expected = network(images)
    insert(network, applying(lambda x: x), at=at)
    assert torch.equal(network(images), expected)


@every_network
def test_a_block_after_the_last_stage_stands_right_before_the_pooling(make):
    network, images = randomise_norms(make()), torch.randn(2, 3, 32, 32)
    classifier = getattr(network, "classifier", None) or network.fc
    expected = 2 * (network(images) - classifier.bias) + classifier.bias  # all after it is linear
    insert(
        network, applying(lambda x: 2 * x), at="stage", stages=3 if "stem" in repr(network) else 4
    )
    torch.testing.assert_close(network(images), expected)


@every_network
@pytest.mark.parametrize("at", ["residual", "stage"])
def test_blocks_inserted_one_after_another_are_applied_in_that_order(make, at):
    network, images = randomise_norms(make()), torch.randn(2, 3, 32, 32)
    other = randomise_norms(make())
    for ours, theirs in zip(
        other.state_dict().values(), network.state_dict().values(), strict=True
    ):
        ours.copy_(theirs)
    insert(network, applying(lambda x: torch.sin(torch.exp(-x.abs()) + 1) * 2), at=at)
    insert(other, applying(torch.abs), at=at)
    insert(other, applying(lambda x: torch.exp(-x)), at=at)
    insert(other, applying(lambda x: torch.sin(x + 1)), at=at)
    insert(other, applying(lambda x: 2 * x), at=at)
    torch.testing.assert_close(other(images), network(images))


@pytest.mark.parametrize("name", ["own", "resnet18", "resnet50"])
def test_inserting_twice_keeps_both(name):
    counts, widths = SIZES[name]
    network = insert(insert(network_of(name), "se"), "eca")
    for kind in (SE, ECA):
        found = [m.score.channels for m in network.modules() if isinstance(m, kind)]
        assert found == [c for n, c in zip(counts, widths, strict=True) for _ in range(n)]
    assert [p.block for p in network.placements] == ["se"] * sum(counts) + ["eca"] * sum(counts)


@pytest.mark.parametrize("name", ["own", "resnet18"])
def test_after_a_second_insertion_every_placement_still_leads_to_its_block(name):
    network = insert(insert(insert(network_of(name), "se"), "bam"), "eca")
    for placement in network.placements:
        assert type(network.get_submodule(placement.path)) is BLOCKS[placement.block]


class Doubling(nn.Sequential):
    """A Sequential with a part called "attention" and a forward of its own."""

    def __init__(self, channels):
        super().__init__()
        self.attention = nn.Conv2d(channels, channels, 1)

    def forward(self, x):
        return 2 * x


def test_a_second_block_is_applied_behind_whatever_the_first_is_made_of():
    network, images = randomise_norms(resnet(8, 4)), torch.randn(2, 3, 8, 8)
    expected = shortcuts_only(network, images)
    insert(insert(network, Doubling), applying(torch.zeros_like))
    torch.testing.assert_close(network(images), expected)
