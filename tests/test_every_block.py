"""What every block of the table keeps to: sizes, batches, types, memory, compilers, bad input."""

import copy
import functools
import pickle

import pytest
import torch
from parity import (
    EXACT,
    SMALL_OPTIONS,
    assert_close_in,
    assert_equal_to,
    gradients,
    leaf,
    randomise,
)  # fmt: skip

from attention.blocks import BAM, BLOCKS, CBAM, SE, NonLocal
from attention.explain import capture

MODES = ("embedded", "gaussian", "dot", "concatenation")
# the whole table, and the variants of a block that compute otherwise
NEW = {
    **{name: functools.partial(cls, **SMALL_OPTIONS.get(name, {})) for name, cls in BLOCKS.items()},
    **{f"nonlocal {mode}": functools.partial(NonLocal, mode=mode) for mode in MODES},
    "se without bias": functools.partial(SE, reduction=2, bias=False),
    "cbam official": functools.partial(CBAM, reduction=2, variant="official"),
    "bam official": functools.partial(BAM, reduction=2, variant="official"),
}
every_block = pytest.mark.parametrize("name", NEW)
# those of the table itself are in test_plays_well.py
every_variant = pytest.mark.parametrize("name", [name for name in NEW if name not in BLOCKS])


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
    x = torch.randn(4, 16, 6, 5, requires_grad=True)
    expected = copy.deepcopy(block)(x)
    with torch.autocast("cpu", torch.bfloat16):
        output = block(x)
    # bfloat16 keeps 8 bits: 0.4 % an operation, a few operations deep
    torch.testing.assert_close(output.float(), expected, rtol=0.04, atol=0.04)
    grads = gradients(output.float(), [x, *block.parameters()])
    assert all(grad.dtype == torch.float32 and grad.isfinite().all() for grad in grads)


@every_variant
def test_channels_last_gives_the_same_numbers_and_stays_channels_last(name):
    block = randomise(NEW[name](8)).double().eval()
    x = torch.randn(3, 8, 5, 6, dtype=torch.float64)
    expected = copy.deepcopy(block)(x)
    output = block(x.to(memory_format=torch.channels_last))
    torch.testing.assert_close(output, expected, **EXACT)
    assert output.is_contiguous(memory_format=torch.channels_last)


@every_variant
def test_a_copy_and_a_pickled_block_are_the_block(name):
    block, x = randomise(NEW[name](8)).eval(), torch.randn(2, 8, 4, 3)
    expected = block(x)
    assert torch.equal(copy.deepcopy(block)(x), expected)
    assert torch.equal(pickle.loads(pickle.dumps(block))(x), expected)


@every_variant
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_a_block_in_another_precision_keeps_it_and_is_close(name, dtype):
    assert_close_in(dtype, NEW[name](8).eval(), torch.randn(2, 8, 4, 3))


@every_variant
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


@every_block
@pytest.mark.parametrize("dtype", [torch.uint8, torch.int64, torch.bool])
def test_whole_numbers_are_no_maps(name, dtype):
    with pytest.raises(ValueError, match="floating-point") as error:
        NEW[name](8)(torch.ones((2, 8, 4, 4), dtype=dtype))
    assert str(dtype) in str(error.value)


@pytest.mark.parametrize("name", BLOCKS)
@pytest.mark.parametrize("channels", [0, -4, 2.5, 8.0, True, "64", None])
def test_bad_channels_are_named(name, channels):
    with pytest.raises(ValueError, match="channels") as error:
        BLOCKS[name](channels)
    assert repr(channels) in str(error.value)


BAD_NUMBERS = {name: (0, -1, 2.5, 3.0, True, "3", (3,)) for name in ("reduction", "codewords")}
BAD_NUMBERS |= {"heads": (0, -2, 2.0, True), "reach": (0, 1.5, False), "dilation": (0, -1, 1.5)}
BAD_NUMBERS |= {"kernel_size": (0, -3, 4, 3.0, True, "3"), "norm_groups": (0, 2.5, False)}
BAD_NAMES = ("offical", "", None, 1, ["paper"])
OPTIONS = {
    "se": ("reduction",), "eca": ("kernel_size",), "encoding": ("codewords",),
    "spatial": ("kernel_size",), "qkv": ("reduction",), "cbam": ("reduction", "kernel_size"),
    "bam": ("reduction", "dilation"), "coordinate": ("reduction",),
    "ela": ("kernel_size", "norm_groups"), "context": ("reduction",),
    "selfattention": ("heads", "reach"), "local": ("kernel_size", "heads"),
}  # fmt: skip
NAMES = {"cbam": "variant", "bam": "variant", "nonlocal": "mode", "hybrid": "combine"}


@pytest.mark.parametrize(
    "name, option, value",
    [
        *((n, option, bad) for n, options in OPTIONS.items() for option in options
          for bad in BAD_NUMBERS[option]),
        *((name, option, bad) for name, option in NAMES.items() for bad in BAD_NAMES),
        *((name, "pools", bad) for name in ("cbam", "spatial")
          for bad in (("avg", "min"), ("avg", "avg"), "avg", (), None, 3, [["avg"]])),
        *(("se", "bias", bad) for bad in ("no", None, 2)),
    ],
)  # fmt: skip
def test_a_bad_option_is_named_with_its_value(name, option, value):
    with pytest.raises(ValueError, match=option) as error:
        BLOCKS[name](8, **{option: value})
    assert repr(value) in str(error.value)


@pytest.mark.parametrize("name", BLOCKS)
def test_an_option_that_a_block_does_not_have_is_refused(name):
    with pytest.raises(TypeError, match="reductoin"):
        BLOCKS[name](8, reductoin=4)
