"""Weights are made only because somebody wants them; how the mechanisms differentiate and export.

`Weights` of a fused mechanism hold all pairs of positions: `wanting` (and with it `capture`) asks
for them, a hook of somebody else's does not.
"""

import pytest
import torch
from parity import gradients, randomise

from attention.blocks import (
    DotProductGate,
    LocalAttention,
    MultiHeadPool,
    NonLocal,
    SelfAttention,
    known,
    wanting,
)  # fmt: skip
from attention.cost import Largest
from attention.explain import capture
from attention.networks import convvit, vit

# what compares many pairs of positions, and need not keep the comparisons
PAIRS = {
    "qkv": lambda channels: DotProductGate(channels, 2),
    "selfattention": lambda channels: SelfAttention(channels, 2),
    **{
        f"nonlocal {mode}": lambda channels, mode=mode: NonLocal(channels, mode)
        for mode in ("embedded", "gaussian", "dot")
    },
    "local": lambda channels: LocalAttention(channels, 7, 2),
}
every_pair = pytest.mark.parametrize("name", PAIRS)


def largest(block, *inputs):
    """The size of the largest tensor of one pass forward and one backward."""
    with Largest() as watch:
        gradients(block(*inputs), [inputs[0], *block.parameters()])
    return watch.elements


@every_pair
def test_a_tensor_of_all_pairs_is_made_while_wanted_and_never_else(name):
    height, width = 32, 28
    block = randomise(PAIRS[name](8))
    x = torch.randn(1, 8, height, width, requires_grad=True)
    pairs = (height * width) * (height * width if name != "local" else 49 * 8)
    assert largest(block, x) < pairs / 3
    with wanting(block):
        assert largest(block, x) >= pairs
    assert largest(block, x) < pairs / 3


@pytest.mark.parametrize("name", [*PAIRS, "vit"])
def test_a_hook_that_does_nothing_changes_no_tensor(name):
    block = vit(8, 1, 2, patch=1) if name == "vit" else randomise(PAIRS[name](8))
    x = torch.randn(1, 3 if name == "vit" else 8, 24, 24, requires_grad=True)
    before, output = largest(block, x), block(x)
    for module in block.modules():
        module.register_forward_hook(lambda module, inputs, output: None)
    assert largest(block, x) == before
    assert torch.equal(block(x), output)


@pytest.mark.parametrize("by_name", [False, True])
def test_the_size_may_be_given_by_name(by_name):
    attend = MultiHeadPool(8, 2).attend
    queries, keys = torch.randn(2, 1, 8), torch.randn(2, 6, 8)
    with capture(attend) as maps:
        attend(queries, keys, size=(2, 3)) if by_name else attend(queries, keys, (2, 3))
    assert maps["weights"].size == (2, 3)


@every_pair
def test_second_derivatives_while_wanted_equal_finite_differences(name):
    block = randomise(PAIRS[name](4)).double().eval()
    x = 0.3 * torch.randn(1, 4, 2, 2, dtype=torch.float64)
    with wanting(block):
        assert torch.autograd.gradgradcheck(block, x.requires_grad_())


EXPORTED = {
    **{
        name: (lambda name=name: known(name).cls(8), (3, 8, 4, 5))
        for name in (
            "qkv", "nonlocal", "context", "selfattention", "average_pool", "additive_pool",
            "dot_pool", "multihead_pool", "feature_gate",
        )
    },
    "local": (lambda: LocalAttention(8, 3), (3, 8, 4, 5)),
    "vit": (lambda: vit(8, 1, 2), (3, 3, 16, 16)),
    "convvit": (lambda: convvit(8, 1, 2), (3, 3, 16, 16)),
}  # fmt: skip


@pytest.mark.parametrize("name", EXPORTED)
def test_an_exported_module_takes_any_batch(name):
    make, shape = EXPORTED[name]
    module = randomise(make()).eval()
    batch = torch.export.Dim("batch", min=1, max=64)
    program = torch.export.export(module, (torch.randn(shape),), dynamic_shapes=({0: batch},))
    for count in (1, 5):
        x = torch.randn(count, *shape[1:])
        torch.testing.assert_close(program.module()(x), module(x))
