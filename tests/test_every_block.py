"""What every mixing block and every gate on positions keeps to: sizes, batches, memory, compilers.

(test_blocks.py asks the same of the other gates.)
"""

import copy

import pytest
import torch
from parity import EXACT, assert_equal_to, gradients, leaf, randomise

from attention.blocks import (
    SSE,
    DotProductGate,
    EncodingGate,
    GlobalContext,
    LocalAttention,
    NonLocal,
    SelfAttention,
    SpatialGate,
)  # fmt: skip
from attention.explain import capture

MODES = ("embedded", "gaussian", "dot", "concatenation")
NEW = {
    "sse": SSE,
    "spatial": lambda channels: SpatialGate(channels, 3),
    "qkv": lambda channels: DotProductGate(channels, 2),
    "encoding": lambda channels: EncodingGate(channels, 3),
    **{f"nonlocal {mode}": lambda channels, m=mode: NonLocal(channels, m) for mode in MODES},
    "context": lambda channels: GlobalContext(channels, 2),
    "selfattention": lambda channels: SelfAttention(channels, 2, reach=2),
    "local": lambda channels: LocalAttention(channels, 3, heads=2),
}
every_block = pytest.mark.parametrize("name", NEW)


@every_block
def test_while_captured_output_and_gradients_are_the_same(name):
    block = randomise(NEW[name](8)).double().eval()

    def captured(x):
        with capture(block):
            return block(x)

    assert_equal_to(block, captured, block, leaf(2, 8, 5, 3))


@every_block
@pytest.mark.parametrize("shape", [(1, 8, 1, 1), (2, 8, 1, 5), (1, 8, 7, 2), (3, 8, 4, 4)])
def test_any_map_keeps_its_shape_and_an_image_alone_gives_what_it_gives_in_a_batch(name, shape):
    block = randomise(NEW[name](8)).double().eval()
    x = torch.randn(shape, dtype=torch.float64)
    output = block(x)
    assert output.shape == shape and output.isfinite().all()
    alone = torch.cat([block(image[None]) for image in x])
    torch.testing.assert_close(alone, output, **EXACT)


@every_block
def test_bfloat16_autocast_is_close_to_float32_and_keeps_learning(name):
    block = NEW[name](16).eval()
    x = torch.randn(4, 16, 6, 5)
    expected = copy.deepcopy(block)(x)
    with torch.autocast("cpu", torch.bfloat16):
        output = block(x)
    # bfloat16 keeps 8 bits: 0.4 % an operation, a few operations deep
    torch.testing.assert_close(output.float(), expected, rtol=0.04, atol=0.04)
    grads = gradients(output.float(), list(block.parameters()))
    assert all(grad.dtype == torch.float32 and grad.isfinite().all() for grad in grads)


@every_block
def test_channels_last_gives_the_same_numbers(name):
    block = randomise(NEW[name](8)).double().eval()
    x = torch.randn(3, 8, 5, 6, dtype=torch.float64)
    expected = copy.deepcopy(block)(x)
    output = block(x.to(memory_format=torch.channels_last))
    torch.testing.assert_close(output, expected, **EXACT)


@every_block
def test_a_compiled_block_equals_the_eager_one_without_a_graph_break(name):
    # aot_eager traces both passes as inductor does, but spares the C++ compilation
    block = randomise(NEW[name](8)).double()
    x = leaf(2, 8, 4, 3)
    torch.compiler.reset()
    compiled = torch.compile(
        copy.deepcopy(block), backend="aot_eager", dynamic=False, fullgraph=True
    )
    expected, output = block(x), compiled(x)
    torch.testing.assert_close(output, expected, **EXACT)
    wanted = gradients(expected, [x, *block.parameters()])
    for mine, other in zip(gradients(output, [x, *compiled.parameters()]), wanted, strict=True):
        torch.testing.assert_close(mine, other, **EXACT)
    torch.compiler.reset()


@every_block
@pytest.mark.parametrize("shape", [(2, 5, 4, 4), (8, 4, 4), (2, 8, 4), (2, 8)])
def test_input_that_is_not_maps_of_these_channels_is_refused_with_its_shape(name, shape):
    with pytest.raises(ValueError) as error:
        NEW[name](8)(torch.randn(shape))
    assert "(N, 8, H, W)" in str(error.value) and str(shape) in str(error.value)
