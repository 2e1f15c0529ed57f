"""Every block and pooling with what torch does to networks: compile, export, trace, share, copy.

What is expected, also of what cannot work, stands in plays.py; docs/your_network.md has its table.
"""

import copy
import functools
import json
import os
import pickle
import shutil
from pathlib import Path

import page_part
import pytest
import torch
import torchvision
from parity import (
    EXACT,
    SMALL_OPTIONS,
    assert_close_in,
    gradients,
    leaf,
    randomise,
    with_block,
)  # fmt: skip
from plays import MARKS, NORMS, NOTES, PROPERTIES, refused, table
from torch import nn
from torch.nn.parallel import DistributedDataParallel
from torch.optim.swa_utils import AveragedModel
from torchvision.models.feature_extraction import create_feature_extractor

from attention.blocks import BLOCKS, POOLINGS, ContextEncoding, Map, wanting
from attention.explain import capture
from attention.networks import convvit, fast_resnet, resnet, vit

ALL = {
    name: functools.partial(cls, **SMALL_OPTIONS.get(name, {}))
    for name, cls in (BLOCKS | POOLINGS).items()
}
ALL["hybrid"] = BLOCKS["hybrid"]  # the search's winner itself
every = pytest.mark.parametrize("name", ALL)
TORCH = tuple(int(number) for number in torch.__version__.split(".")[:2])
SIZES = ((2, 8, 4, 3), (3, 8, 6, 9), (1, 8, 2, 5))  # the first is traced


def made(name):
    return randomise(ALL[name](8)).eval()


def dynamic():
    """Any batch, any height, any width."""
    return {axis: torch.export.Dim(axis_name) for axis, axis_name in ((0, "n"), (2, "h"), (3, "w"))}


def maps_of(block, x):
    """All maps that the block makes of x."""
    if not any(isinstance(module, Map) for module in block.modules()):
        return []
    with torch.no_grad(), capture(block) as maps:
        block(x)
    return [one for found in maps.values() for one in found.maps]


@functools.cache
def exported(name):
    """The block, and its export with dynamic sizes."""
    block = made(name)
    x = torch.randn(SIZES[0])
    return block, torch.export.export(block, (x,), dynamic_shapes=(dynamic(),))


def assert_compiled(block, compiled, sizes, **tolerance):
    """Compiled and not, the same outputs and gradients, and the same maps as before."""
    seen = maps_of(block, torch.ones(sizes[0]))
    for size in sizes:
        x = torch.randn(size, dtype=next(iter(block.parameters()), torch.ones(())).dtype)
        x.requires_grad_()
        leaves = [x, *block.parameters()]
        output, expected = compiled(x), block(x)
        torch.testing.assert_close(output, expected, **tolerance)
        wanted = gradients(expected, leaves)
        for mine, other in zip(gradients(output, leaves), wanted, strict=True):
            torch.testing.assert_close(mine, other, **tolerance)
    again = maps_of(block, torch.ones(sizes[0]))
    assert len(seen) == len(again) and all(map(torch.equal, seen, again))


# ------------------------------------------------------------------------------- compile, export


@every
def test_a_compiled_block_takes_any_size_and_the_original_is_captured_as_before(name):
    block = made(name)
    # aot_eager traces both passes as inductor does, but spares the C++ compilation
    compiled = torch.compile(block, backend="aot_eager", dynamic=True, fullgraph=True)
    assert_compiled(block, compiled, SIZES[:2], rtol=1e-4, atol=1e-4)


@pytest.mark.skipif(not shutil.which(os.environ.get("CXX", "g++")), reason="no C++ compiler")
@pytest.mark.parametrize("name", ["se", "eca", "cbam", "bam"])
def test_inductor_compiles_the_blocks_of_the_papers(name):
    if name == "eca" and TORCH < (2, 5):
        pytest.skip("torch 2.4 expects other strides of ECA's map than its convolution gives")
    torch.compiler.reset()
    block = made(name)
    compiled = torch.compile(block, dynamic=True, fullgraph=True)
    assert_compiled(block, compiled, SIZES[:2], rtol=1e-4, atol=1e-4)
    torch.compiler.reset()


@every
def test_an_exported_block_takes_any_batch_height_and_width(name):
    if name == "encoding" and TORCH < (2, 5):
        pytest.skip("the export of torch 2.4 has no word for a switched-off autocast")
    if name == "coordinate" and TORCH < (2, 5):
        pytest.skip("the export of torch 2.4 wants bounds for the height and width of a split")
    block, program = exported(name)
    network = program.module()
    for size in SIZES:
        x = torch.randn(size)
        torch.testing.assert_close(network(x), block(x), rtol=1e-5, atol=1e-5)


@pytest.mark.skipif(TORCH < (2, 6), reason="ONNX with dynamic_shapes came with torch 2.6")
@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning")
@every
def test_onnxruntime_gives_the_same_for_another_batch_and_size(name):
    import onnxruntime

    block, program = exported(name)
    program = torch.onnx.export(program, dynamo=True, verbose=False)
    session = onnxruntime.InferenceSession(program.model_proto.SerializeToString())
    (entry,) = session.get_inputs()
    for size in SIZES[1:]:
        x = torch.randn(size)
        (output,) = session.run(None, {entry.name: x.numpy()})
        torch.testing.assert_close(torch.from_numpy(output), block(x), rtol=1e-4, atol=1e-4)


@pytest.mark.filterwarnings("ignore")  # torch's own, of what a trace fixes and of its age
@every
def test_a_jit_traced_block_takes_another_batch_and_size(name):
    block = made(name)
    traced = torch.jit.trace(block, torch.randn(SIZES[0]))
    for size in SIZES:
        x = torch.randn(size)
        torch.testing.assert_close(traced(x), block(x), rtol=1e-5, atol=1e-5)


# -------------------------------------------------------------------------------------- torch.fx


def expect_fx(name):
    if name in ("selfattention", "local") and TORCH < (2, 5):
        pytest.skip("torch.fx of 2.4 traces no arange of a traced length, no traced dtype")


@every
def test_fx_traces_a_network_with_the_block(name):
    network = with_block(resnet(8, 8), name)
    expect_fx(name)
    with refused(name, "fx"):
        traced = torch.fx.symbolic_trace(network)
        x = torch.randn(3, 3, 8, 16)
        torch.testing.assert_close(traced(x), network(x))


@every
def test_torchvision_extracts_what_the_block_gives(name):
    expect_fx(name)
    network = torchvision.models.ResNet(torchvision.models.resnet.BasicBlock, [1, 1, 1, 1])
    network = with_block(network, name)
    path = network.placements[0].path
    seen, x = {}, torch.randn(2, 3, 32, 64)
    hook = network.get_submodule(path).register_forward_hook(
        lambda module, inputs, output: seen.update(map=output.clone())  # the sum is in place
    )
    with torch.no_grad():
        network(x)
        hook.remove()
        with refused(name, "fx"):
            found = create_feature_extractor(network, {path: "map"})(x)["map"]
            torch.testing.assert_close(found, seen["map"])
        if name == "encoding":  # what the error advises
            network.eval()  # where the failed call left it is another mode
            whole = {"leaf_modules": [ContextEncoding]}
            found = create_feature_extractor(network, {path: "map"}, tracer_kwargs=whole)(x)["map"]
            torch.testing.assert_close(found, seen["map"])


def test_a_gate_is_a_node_for_torchvision():
    """Its extractor gives the map that `capture` gives."""
    network, x = with_block(resnet(8, 8), "cbam"), torch.randn(2, 3, 8, 8)
    path = f"{network.placements[0].path}.spatial_gate"
    with torch.no_grad(), capture(network) as maps:
        network(x)
    with torch.no_grad():
        found = create_feature_extractor(network, {path: "map"})(x)["map"]
    assert torch.equal(found, maps[path].cat())


@pytest.mark.parametrize("make", [fast_resnet, vit, convvit])
def test_fx_traces_the_networks_of_the_package(make):
    network = make(16).eval()
    traced = torch.fx.symbolic_trace(network)
    for side in (32, 16):
        x = torch.randn(2, 3, side, 32)
        torch.testing.assert_close(traced(x), network(x))


# ------------------------------------------------------------------------------- two processes


def share_work(rank, folder):
    """In each of two processes: for all blocks, the gradients of both against those of one."""
    torch.set_num_threads(1)
    torch.distributed.init_process_group(
        "gloo", init_method=f"file://{folder}/meeting", rank=rank, world_size=2
    )
    wrong = {}
    for name in ALL:
        try:
            torch.manual_seed(0)  # both make the same network
            alone = nn.Sequential(nn.Conv2d(3, 8, 3), made(name)).double().eval()
            shared = DistributedDataParallel(copy.deepcopy(alone))
            for _ in range(2):  # the second time, DDP asks whether each parameter was reached
                x = torch.randn(4, 3, 6, 5, dtype=torch.float64)
                alone.zero_grad()
                shared.zero_grad()
                alone(x).square().mean().backward()
                shared(x[2 * rank : 2 * rank + 2]).square().mean().backward()
                for mine, other in zip(shared.parameters(), alone.parameters(), strict=True):
                    torch.testing.assert_close(mine.grad, other.grad, **EXACT)
        except Exception as error:
            wrong[name] = repr(error)
    (Path(folder) / f"{rank}.json").write_text(json.dumps(wrong), encoding="utf-8")
    torch.distributed.destroy_process_group()


@pytest.mark.skipif(not torch.distributed.is_available(), reason="torch without distributed")
def test_two_processes_have_the_gradients_of_one(tmp_path):
    torch.multiprocessing.spawn(share_work, (str(tmp_path),), nprocs=2)
    assert [json.loads((tmp_path / f"{rank}.json").read_text()) for rank in (0, 1)] == [{}, {}]


@every
def test_norms_become_synchronised_ones(name):
    block = made(name)
    converted = nn.SyncBatchNorm.convert_sync_batchnorm(copy.deepcopy(block))
    norms = [module for module in converted.modules() if isinstance(module, nn.SyncBatchNorm)]
    assert bool(norms) == (name in NORMS)
    assert not any(
        type(module) in (nn.BatchNorm1d, nn.BatchNorm2d) for module in converted.modules()
    )
    x = torch.randn(3, 8, 4, 5)
    assert converted.state_dict().keys() == block.state_dict().keys()
    assert torch.equal(converted(x), block(x))
    if name in NORMS:
        torch.testing.assert_close(converted.train()(x), block.train()(x))
        with refused(name, "SyncBN"):
            assert converted(x[:1]).isfinite().all()


# ------------------------------------------------------------------------------ copies and types


@every
def test_a_copy_and_a_pickled_block_and_a_loaded_one_are_the_block(name):
    block, x = made(name), torch.randn(2, 8, 4, 3)
    expected = block(x)
    assert torch.equal(copy.deepcopy(block)(x), expected)
    assert torch.equal(pickle.loads(pickle.dumps(block))(x), expected)
    other = ALL[name](8).eval()
    other.load_state_dict(block.state_dict())
    assert torch.equal(other(x), expected)


@every
def test_a_moving_average_of_the_block_is_halfway_after_two_updates(name):
    block, other = (nn.Sequential(nn.Conv2d(3, 8, 1), made(name)) for _ in range(2))
    x = torch.randn(2, 3, 4, 3)
    average = AveragedModel(block, use_buffers=True)
    average.update_parameters(block)
    torch.testing.assert_close(average(x), block(x))
    average.update_parameters(other)
    for mine, first, second in zip(
        average.module.parameters(), block.parameters(), other.parameters(), strict=True
    ):
        torch.testing.assert_close(mine, (first + second) / 2)
    assert average(x).isfinite().all()


@every
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_a_block_in_another_precision_keeps_it_and_is_close(name, dtype):
    assert_close_in(dtype, ALL[name](8).eval(), torch.randn(2, 8, 4, 3))


@pytest.mark.parametrize("name", BLOCKS)
@pytest.mark.parametrize("layout", [torch.channels_last, torch.contiguous_format])
def test_maps_stay_as_they_lie_in_memory(name, layout):
    block, x = made(name).double(), torch.randn(3, 8, 5, 6, dtype=torch.float64)
    expected = block(x)
    block, x = block.to(memory_format=layout), x.to(memory_format=layout)
    output = block(x)
    torch.testing.assert_close(output, expected, **EXACT)
    with wanting(block):
        captured = block(x)
    assert all(maps.is_contiguous(memory_format=layout) for maps in (output, captured))


# ------------------------------------------------------------------------------------ gradients


@every
def test_vmap_of_grad_gives_the_gradients_of_each_image(name):
    block, x = made(name).double(), torch.randn(3, 8, 4, 3, dtype=torch.float64)
    parameters = dict(block.named_parameters())

    def loss(parameters, x, image):
        output = torch.func.functional_call(block, parameters, (image[None] + x,))
        return output.square().sum()

    nothing = torch.zeros(1, 8, 4, 3, dtype=torch.float64)
    each = torch.func.vmap(torch.func.grad(loss, (0, 1)), (None, None, 0))
    found, of_images = each(parameters, nothing, x)
    for number, image in enumerate(x):
        inputs = [shift := nothing.clone().requires_grad_(), *parameters.values()]
        wanted = torch.autograd.grad(loss(parameters, shift, image), inputs)
        mine = [of_images[number], *(grads[number] for grads in found.values())]
        for one, other in zip(mine, wanted, strict=True):
            torch.testing.assert_close(one, other, **EXACT)


@every
def test_second_derivatives_are_those_of_finite_differences(name):
    block, x = made(name).double(), leaf(2, 8, 2, 2)
    with refused(name, "second"):
        assert torch.autograd.gradgradcheck(block, x, fast_mode=True)
    if (name, "second") in NOTES:
        with wanting(block):
            assert torch.autograd.gradgradcheck(block, x, fast_mode=True)


# ------------------------------------------------------------------------------------- the table


def test_the_readme_has_the_table():
    assert page_part.between(MARKS)[1] == table(), "stale: python tests/plays.py writes it anew"
    assert all(name in ALL and column in PROPERTIES for name, column in NOTES)
