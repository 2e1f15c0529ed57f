"""What stays when a block is inserted: weights, names in a state, modes, copies; the report."""

import copy
import functools
import pickle

import pytest
import timm
import torch
from by_hand import randomise_norms
from parity import SMALL_OPTIONS
from some_networks import (
    applying,
    every_network,
    network_of,
)
from torch import nn

from attention.blocks import BLOCKS, SE
from attention.cost import parameters
from attention.networks import fast_resnet, insert, report, resnet

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


@pytest.mark.parametrize("name", ["own", "resnet50"])
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


# ------------------------------------------------------------------------------------ saved states


class Named(nn.Module):
    """A block whose parts have the names that `insert` uses itself."""

    def __init__(self, channels):
        super().__init__()
        self.attention = nn.Conv2d(channels, channels, 1)
        self.before = nn.BatchNorm2d(channels)
        self.attention2 = nn.ModuleDict({"before": nn.Conv2d(channels, 1, 1)})

    def forward(self, x):
        return x * self.attention(self.before(x)).sigmoid()


PLAIN = {
    "own": lambda: resnet(8, 4),
    "fast": lambda: fast_resnet(4),
    "resnet18": lambda: network_of("resnet18").to_empty(device="cpu"),
    "resnet50": lambda: network_of("resnet50").to_empty(device="cpu"),
    "timm": lambda: timm.create_model("resnet18"),
}
no_weights = applying(torch.neg)
# blocks put in one after the other; the first of them is there when the state is saved, or none
ORDERS = {
    "one": ("cbam",),
    "two": ("se", "eca"),
    "three": ("eca", "bam", "se"),
    "names": (Named, Named, Named),
    "no weights first": (no_weights, Named),
    "no weights last": ("se", no_weights),
    "pooling": ("se", "additive_pool"),
}


def put(network, block, at):
    """A pooling goes where it belongs, a block where the test wants it."""
    return insert(network, block, None if block == "additive_pool" else at)


def numbered(network):
    """Every tensor of the state gets a number of its own."""
    for number, tensor in enumerate(network.state_dict().values()):
        tensor.fill_(number % 1000 + 1)
    return network


ALL = [("own", order) for order in ORDERS]
SOME = [(name, "two") for name in PLAIN if name != "own"]


@pytest.mark.parametrize("name, order", [*ALL, *SOME, ("resnet18", "names"), ("fast", "pooling")])
@pytest.mark.parametrize("at", ["residual", "stage"])
@pytest.mark.parametrize("already", [0, 1])
def test_a_state_saved_before_an_insertion_loads_tensor_by_tensor(name, order, at, already):
    saved, network = PLAIN[name](), PLAIN[name]()
    for block in ORDERS[order][:already]:
        put(saved, block, at)
        put(network, block, at)
    state = {key: value.clone() for key, value in numbered(saved).state_dict().items()}
    there = network.state_dict()  # the network's own tensors, under the names of that time
    for tensor in there.values():
        tensor.zero_()
    for block in ORDERS[order][already:]:
        put(network, block, at)
    outcome = network.load_state_dict(state, strict=False)
    assert len(there) == len(state) > 20 and outcome.unexpected_keys == []
    for key, tensor in there.items():
        assert torch.equal(tensor, state[key]) and (tensor > 0).all(), key
    old = {tensor.data_ptr() for tensor in there.values()}
    new = [key for key, tensor in network.state_dict().items() if tensor.data_ptr() not in old]
    counts = "num_batches_tracked"  # torch does not miss them in a state without versions
    missing = [key for key in outcome.missing_keys if not key.endswith(counts)]
    assert sorted(missing) == sorted(key for key in new if not key.endswith(counts))


@pytest.mark.parametrize("name, order", ALL)
def test_a_state_saved_after_an_insertion_loads_into_the_same_network(name, order):
    saved, network = PLAIN[name](), PLAIN[name]()
    for block in ORDERS[order]:
        put(saved, block, "residual")
        put(network, block, "residual")
    state = {key: value.clone() for key, value in numbered(saved).state_dict().items()}
    network.load_state_dict(state)
    for key, tensor in network.state_dict().items():
        assert torch.equal(tensor, state[key]), key


@every_network
@pytest.mark.parametrize("at", ["residual", "stage"])
def test_copies_and_synchronised_norms_answer_the_same(make, at):
    network, images = make(), torch.randn(2, 3, 32, 32)
    insert(insert(network, "se", at, reduction=2), "bam", at, reduction=2)
    expected = randomise_norms(network)(images)
    for other in (copy.deepcopy(network), pickle.loads(pickle.dumps(network))):
        assert torch.equal(other(images), expected) and other.placements == network.placements
        assert report(other) == report(network)
    converted = nn.SyncBatchNorm.convert_sync_batchnorm(copy.deepcopy(network))
    torch.testing.assert_close(converted(images), expected)
    insert(converted, applying(lambda x: x), at)
    torch.testing.assert_close(converted(images), expected)
    for placement in converted.placements:
        converted.get_submodule(placement.path)
