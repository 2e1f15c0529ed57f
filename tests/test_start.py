"""start="identity": the network answers at first as it did without the block, and learns."""

import copy

import pytest
import torch
from by_hand import randomise_norms
from some_networks import NUMERIC, Scale, assert_untouched, every_network, snapshot
from torch import nn
from torch.nn import functional as F

from attention.blocks import BLOCKS, POOLINGS
from attention.explain import capture
from attention.networks import FromIdentity, insert, report, resnet

ZERO = ("nonlocal", "context")  # their last layer starts at 0: the identity by themselves
every_block = pytest.mark.parametrize("block", [*BLOCKS, Scale])


@every_block
@pytest.mark.parametrize("at", ["residual", "stage"])
@pytest.mark.parametrize("training", [False, True])
def test_at_the_start_the_network_answers_bit_for_bit_as_without_the_block(block, at, training):
    network = randomise_norms(resnet(8, 8)).train(training)
    images = torch.randn(4, 3, 16, 16)
    expected = copy.deepcopy(network)(images)
    insert(network, block, at, start="identity")
    assert torch.equal(network(images), expected)
    if block not in ZERO:
        assert not torch.equal(insert(network, block, at)(images), expected)


@every_network
def test_so_do_torchvisions_networks(make):
    network, images = randomise_norms(make()), torch.randn(2, 3, 32, 32)
    expected = network(images)
    insert(insert(network, "cbam", start="identity"), "bam", start="identity")
    assert torch.equal(network(images), expected)
    assert "identity" in report(network)


@every_block
def test_within_two_steps_both_the_gain_and_the_block_have_learned(block):
    network = insert(resnet(8, 8), block, at="residual", start="identity")
    images, labels = torch.randn(8, 3, 16, 16), torch.arange(8)
    optimiser = torch.optim.SGD(network.parameters(), lr=0.1)
    starts = [module for module in network.modules() if isinstance(module, FromIdentity)]
    before = copy.deepcopy([start.state_dict() for start in starts])
    assert [start.gain.item() for start in starts] == [float(block in ZERO)] * 3
    for step in (1, 2):
        optimiser.zero_grad()
        F.cross_entropy(network(images), labels).backward()
        if step == 1:  # one of the two has a gradient, and that is enough
            for start in starts:
                weights = list(start.block.parameters())
                learning = [bool((p.grad != 0).any()) for p in weights]
                assert (start.gain.grad != 0) == (block not in ZERO)
                assert any(learning) == (block in ZERO)
        optimiser.step()
    for start, old in zip(starts, before, strict=True):
        moved = [name for name, p in start.named_parameters() if not torch.equal(p, old[name])]
        assert "gain" in moved and (len(moved) > 1 or block == "simam"), (moved, start)


@every_block
def test_with_a_gain_of_one_it_is_the_block(block):
    network = randomise_norms(resnet(8, 8))
    x, maps = torch.randn(2, 3, 16, 16), torch.randn(2, 8, 4, 4)
    insert(network, block, start="identity", at="residual")
    start = network.stages[0][0].attention
    torch.nn.init.ones_(start.gain)
    torch.testing.assert_close(start(maps), start.block(maps))
    assert network(x).isfinite().all()


@pytest.mark.parametrize("block", BLOCKS)
def test_capture_finds_the_maps(block):
    network = insert(resnet(8, 8), block, start="identity").eval()
    with capture(network) as maps:
        network(torch.randn(2, 3, 16, 16))
    assert maps and all(one.maps for one in maps.values())
    paths = tuple(f"{placement.path}." for placement in network.placements)
    assert all(path.startswith(paths) for path in maps)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float64])
def test_the_dtype_is_that_of_the_maps(dtype):
    start = FromIdentity(nn.Conv2d(4, 4, 1), 4)
    x = torch.randn(2, 4, 3, 3)
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(start(x), x) and start(x).dtype == torch.float32
    start, x = start.to(dtype), x.to(dtype)
    assert torch.equal(start(x), x) and start(x).dtype == dtype
    network = insert(NUMERIC["own"]().to(dtype), "cbam", start="identity")
    assert {p.dtype for p in network.parameters()} == {dtype}


@pytest.mark.parametrize("pool", POOLINGS)
def test_a_pooling_has_no_identity_to_start_from(pool):
    network = resnet(8, 8)
    before = snapshot(network)
    with pytest.raises(ValueError, match=f"start must be None at 'pool'.*{pool}"):
        insert(network, pool, start="identity")
    assert_untouched(network, before)


@pytest.mark.parametrize("start", ["Identity", "zero", 0, True, ["identity"]])
def test_other_starts_are_refused(start):
    network = resnet(8, 8)
    before = snapshot(network)
    with pytest.raises(ValueError, match="start must be one of None, identity"):
        insert(network, "se", start=start)
    assert_untouched(network, before)
