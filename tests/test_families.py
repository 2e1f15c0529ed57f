"""The table of networks and blocks: `insert` in other people's networks, all of them alike."""

import copy
import functools

import page_part
import pytest
import torch
from by_hand import randomise_norms
from families import FAMILIES, MARKS, table
from torchvision.models import detection

from attention.blocks import BLOCKS
from attention.explain import capture
from attention.networks import FromIdentity, insert, report, stages

BLOCK_NAMES = ("se", "cbam", "bam", "nonlocal")
SMALL = (1, 3, 32, 48)  # an example that is quick
every_family = pytest.mark.parametrize("name", FAMILIES)


@functools.cache
def original(name):
    torch.manual_seed(0)
    return randomise_norms(FAMILIES[name].make()).eval()


def made(name):
    return copy.deepcopy(original(name))


def answers(network, images):
    """The answers as one row of numbers, whatever they come in."""
    found = network(images)
    if isinstance(found, dict):
        found = list(found.values())
    return torch.cat([one.flatten() for one in (found if isinstance(found, list) else [found])])


@functools.cache
def some_images():
    return torch.rand(2, 3, 32, 64, generator=torch.Generator().manual_seed(0))


def assert_no_old_weight_is_skipped(name, network):
    """A state saved before the insertions loads, every tensor of it into the tensor it was."""
    before = original(name)
    state = {
        key: torch.full_like(tensor, number % 100 + 1)
        for number, (key, tensor) in enumerate(before.state_dict().items())
    }
    paths = tuple(f"{placement.path}." for placement in network.placements)
    blocks = {k for k in network.state_dict() if k.startswith(paths)}
    outcome = network.load_state_dict(state, strict=False)
    assert outcome.unexpected_keys == []
    assert {k for k in outcome.missing_keys if not k.endswith("num_batches_tracked")} <= blocks
    loaded = [t for k, t in network.state_dict().items() if k not in blocks]
    assert sorted(t.flatten()[0].item() for t in loaded) == sorted(
        t.flatten()[0].item() for t in state.values()
    )


@every_family
@pytest.mark.parametrize("block", BLOCK_NAMES)
def test_a_block_after_the_stages(name, block):
    network, count = made(name), FAMILIES[name].stages
    insert(network, block, "stage", example=SMALL)
    skipped = block in ("bam", "nonlocal")
    assert len(network.placements) == len(stages(network)) - skipped == count - skipped
    network.train()
    answers(network, some_images()).square().sum().backward()
    for placement in network.placements:
        module = network.get_submodule(placement.path)
        assert type(module) is BLOCKS[block]
        assert any((p.grad != 0).any() for p in module.parameters()), placement.path
    with capture(network.eval()) as maps:
        network(some_images())
    for placement in network.placements:
        inside = [one for path, one in maps.items() if path.startswith(f"{placement.path}.")]
        assert inside and all(one.maps for one in inside)
    assert_no_old_weight_is_skipped(name, network)


@every_family
def test_blocks_everywhere_start_as_the_identity_and_old_weights_load(name):
    network, branches = made(name), FAMILIES[name].branches
    expected = answers(network, some_images())
    for block in ("cbam", "nonlocal"):
        insert(network, block, "stage", start="identity", example=SMALL)
        if branches:
            insert(network, block, "residual", start="identity", example=SMALL)
    assert [p.at for p in network.placements].count("residual") == 2 * branches
    torch.testing.assert_close(answers(network, some_images()), expected, rtol=1e-6, atol=1e-6)
    for placement in network.placements:
        start = network.get_submodule(placement.path)
        assert type(start) is FromIdentity and type(start.block) is BLOCKS[placement.block]
        start.gain.data.fill_(0.5)
    assert not torch.allclose(answers(network, some_images()), expected)
    assert len(report(network).splitlines()) == len(network.placements) + 1
    assert_no_old_weight_is_skipped(name, network)


@every_family
def test_what_a_family_has_not_is_refused(name):
    network, (_, _, branches, pool, four) = made(name), FAMILIES[name]
    before = repr(network)
    if not branches:
        with pytest.raises(ValueError, match="no residual branches.*at='stage'"):
            insert(network, "se")
    if not pool:
        with pytest.raises(ValueError, match="pooling that can be replaced"):
            insert(network, "average_pool")
    if not four:
        for at in ("pre", "post", "identity"):
            with pytest.raises(ValueError, match=f"at must be a place that this .* got '{at}'"):
                insert(network, "se", at)
    assert repr(network) == before and not hasattr(network, "placements")
    if four:
        for at in ("pre", "post", "identity"):
            insert(network, "se", at, example=SMALL)
        assert len(network.placements) == 3 * branches
        network = made(name)
    if pool:
        insert(network, "multihead_pool")
        assert answers(network, some_images()).shape == answers(original(name), some_images()).shape
        with capture(network) as maps:
            network(some_images())
        assert len(maps) == 1
        insert(network, "average_pool")
        assert [p.block for p in network.placements] == ["average_pool"]


def test_a_whole_detector_takes_blocks_in_its_backbone():
    network = detection.fasterrcnn_mobilenet_v3_large_320_fpn(
        weights=None, weights_backbone=None, min_size=64, max_size=96
    ).eval()
    insert(network, "cbam", "stage", stages=(3, 5))
    assert [p.path for p in network.placements] == [
        "backbone.body.6.attention", "backbone.body.16.attention",
    ]  # fmt: skip
    with capture(network) as maps:
        network([torch.rand(3, 64, 96)])
    assert len(maps) == 4


def test_the_readme_has_the_table():
    assert page_part.between(MARKS)[1] == table(), "stale: python tests/families.py writes it anew"
