"""What stays when a block is inserted: weights, names in a state, modes, copies; the report."""

import functools

import pytest
import torch
from by_hand import randomise_norms
from parity import SMALL_OPTIONS
from some_networks import (
    every_network,
    every_size,
    network_of,
)

from attention.blocks import BLOCKS, SE
from attention.cost import parameters
from attention.networks import insert, report, resnet

# -------------------------------------------------------------------- what stays, and what is added


@every_network
@pytest.mark.parametrize("at", ["residual", "stage"])
def test_weights_already_there_stay(make, at):
    network = randomise_norms(make())
    before = [(p, p.detach().clone()) for p in network.parameters()]
    buffers = [(b, b.clone()) for b in network.buffers()]
    insert(network, "cbam", at=at, reduction=2)
    kept = {id(tensor) for tensor in (*network.parameters(), *network.buffers())}
    assert len(before) > 20 and len(buffers) > 20
    for tensor, values in before + buffers:
        assert id(tensor) in kept and torch.equal(tensor, values)


@every_network
@pytest.mark.parametrize("training", [False, True])
def test_dtype_and_mode_carry_over_to_the_blocks(make, training):
    network = insert(make().double().train(training), "bam", reduction=2, variant="official")
    assert len(network.placements) in (2, 3)
    for placement in network.placements:
        block = network.get_submodule(placement.path)
        assert {p.dtype for p in block.parameters()} == {torch.float64}
        assert {m.training for m in block.modules()} == {training}
    assert network(torch.randn(2, 3, 64, 64, dtype=torch.float64)).dtype == torch.float64


def test_blocks_go_to_the_device_of_the_network():
    network = insert(network_of("resnet18"), "cbam")
    assert {p.device.type for p in network.parameters()} == {"meta"}


@every_size
@pytest.mark.parametrize("block", BLOCKS)
def test_the_report_adds_up_to_the_true_difference(name, block):
    network = network_of(name)
    before = sum(p.numel() for p in network.parameters())
    insert(network, block)
    total = sum(p.numel() for p in network.parameters())
    assert total > before or block == "simam"  # which has no parameters
    assert sum(p.parameters for p in network.placements) == total - before
    text = report(network)
    assert f"{total - before:+,} parameters" in text and f"{total:,} in all" in text
    assert f"({100 * (total - before) / before:.2f} %)" in text
    for placement in network.placements:
        (line,) = (line for line in text.splitlines() if f" {placement.path} " in line)
        assert line.split()[0] == block and str(placement.channels) in line
        assert f"{placement.parameters:+,}" in line


def test_the_report_counts_a_shared_block_once():
    network = resnet(14, 4)
    before = parameters(network)
    shared = functools.cache(lambda channels: SE(channels, reduction=2))
    insert(network, shared)
    assert len({id(m) for m in network.modules() if isinstance(m, SE)}) == 3
    assert f"{parameters(network) - before:+,} parameters" in report(network)


def test_the_report_of_a_plain_network_says_that_there_is_nothing():
    assert "no attention blocks" in report(resnet(8, 4))


def test_equal_seeds_give_the_common_layers_equal_initial_weights():
    torch.manual_seed(3)
    plain = resnet(14, 4).state_dict()
    for block in BLOCKS:
        torch.manual_seed(3)
        with_block = insert(resnet(14, 4), block, **SMALL_OPTIONS.get(block, {}))
        state = with_block.state_dict()
        assert len(state) > len(plain) or block == "simam"  # which has no parameters
        for key, tensor in plain.items():
            assert torch.equal(tensor, state[key]), (block, key)
