"""`fuse`: the same numbers as without it, and everything that is done with a network still works.

Most tests trace and split the graphs as inductor does but run them with torch's own kernels, which
spares the C++ compiler; LONG_TESTS=1 compiles every block.
"""

import copy
import os
import subprocess
import sys

import pytest
import torch
import torch.utils.checkpoint
from parity import SMALL_OPTIONS, gradients, randomise
from torch import nn
from torch._dynamo.testing import CompileCounter

import attention
from attention.blocks import BLOCKS
from attention.networks import Residual, lacking, regions
from attention.networks.resnet import conv_norm

fusing = sys.modules["attention.networks.fuse"]
pytestmark = pytest.mark.skipif(
    not hasattr(torch.utils.checkpoint, "CheckpointPolicy"), reason="fuse needs torch 2.5"
)
TRACED = "aot_eager_decomp_partition"
LONG = os.environ.get("LONG_TESTS")
# bfloat16 keeps 8 bits: 0.4 % an operation, a few operations deep
TOLERANCE = {"float32": dict(rtol=1e-4, atol=1e-4), "bfloat16": dict(rtol=0.1, atol=0.1)}


@pytest.fixture
def backend(monkeypatch):
    """Choose what regions are compiled by; nothing that was compiled is left before or after."""

    def choose(name):
        monkeypatch.setattr(fusing, "BACKEND", name)
        fusing._compiled.cache_clear()
        torch.compiler.reset()

    yield choose
    fusing._compiled.cache_clear()
    torch.compiler.reset()


def with_one_region(block):
    """A network of one residual block with this attention, which says something."""
    branch = nn.Sequential(*conv_norm(8, 8), nn.ReLU(), *conv_norm(8, 8))
    residual = Residual(branch, 8)
    residual.attention = BLOCKS[block](8, **SMALL_OPTIONS.get(block, {}))
    randomise(residual.attention)
    return nn.Sequential(residual)


FIRST = ("float32", True, 4)
CASES = [FIRST, ("float32", True, 3), ("float32", False, 4), ("bfloat16", True, 4)]


def assert_same_results(block, cases):
    """Output and gradients of a fused network are those of the plain one.

    cases: the precision, whether in training mode, the number of images.
    """
    plain = with_one_region(block)
    fused = attention.fuse(copy.deepcopy(plain))
    leaves = [list(network.parameters()) for network in (plain, fused)]
    for precision, training, images in cases:
        x = torch.randn(images, 8, 6, 6).to(memory_format=torch.channels_last).requires_grad_()
        found = []
        for network, parameters in zip((plain, fused), leaves, strict=True):
            network.train(training)
            with torch.autocast("cpu", torch.bfloat16, enabled=precision == "bfloat16"):
                output = network(x)
            assert output.is_contiguous(memory_format=torch.channels_last)
            found.append((output.float(), *gradients(output.float(), [x, *parameters])))
        for number, (mine, wanted) in enumerate(zip(found[1], found[0], strict=True)):
            scale = wanted.abs().max().clamp_min(1)
            if precision == "bfloat16" and number in without_gradient(plain, x):
                scale = max(part.abs().max() for part in found[0])
            torch.testing.assert_close(mine / scale, wanted / scale, **TOLERANCE[precision])
    for mine, wanted in zip(fused.buffers(), plain.buffers(), strict=True):
        torch.testing.assert_close(mine, wanted, rtol=0.01, atol=0.01)


def without_gradient(network, x):
    """Numbers of the gradients that are 0 but for rounding, as that of a bias before a softmax.

    In bfloat16 they are noise, whose size is that of the gradients around it and not its own.
    """
    network = copy.deepcopy(network)
    exact = gradients(network(x), [x, *network.parameters()])
    return {1 + number for number, found in enumerate(exact) if found.abs().max() < 1e-4}


def test_with_torch_2_4_all_runs_but_fuse_which_says_why():
    script = """
import torch.utils.checkpoint
del torch.utils.checkpoint.CheckpointPolicy
import attention
network = attention.insert(attention.resnet(8), "se")
network(torch.randn(2, 3, 32, 32)).sum().backward()
attention.fuse(network)
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    assert "RuntimeError: fuse cannot compile here: torch 2.5 or newer is needed" in done.stderr


@pytest.mark.parametrize("block", BLOCKS)
def test_a_fused_block_gives_what_the_plain_one_gives(block, backend):
    backend(TRACED)
    assert_same_results(block, [FIRST])


@pytest.mark.skipif(lacking("cpu") is not None, reason="no C++ compiler")
@pytest.mark.parametrize("block", BLOCKS if LONG else ["cbam"])
def test_so_does_what_inductor_makes_of_it(block, backend):
    backend("inductor")
    assert_same_results(block, CASES if LONG else [FIRST, CASES[-1]])


def test_one_compilation_for_all_batches_and_for_all_regions_of_a_kind(backend):
    counter = CompileCounter()
    backend(counter)
    networks = [nn.Sequential(*(attention.SE(8) for _ in range(3))).eval() for _ in range(2)]
    assert len(regions(attention.fuse(networks[0]))) == 3
    counts = []
    with torch.no_grad():
        for images, size in [(4, 8), (7, 8), (2, 8), (4, 8), (4, 6), (9, 6), (4, 8), (1, 8)]:
            networks[0](torch.randn(images, 8, size, size))
            counts.append(counter.frame_count)
        assert counts == [1, 1, 1, 1, 2, 2, 2, 3]
        attention.fuse(networks[1])(torch.randn(5, 8, 8, 8))
    assert counter.frame_count == 3


@pytest.mark.parametrize(
    ("make", "paths"),
    [
        (lambda: attention.insert(attention.resnet(8), "bam"),
         ["stem", "stages.0.0", "stages.0.1", "stages.1.0", "stages.1.1",
          "stages.2.0"]),
        (lambda: attention.insert(attention.resnet(8), "additive_pool"),
         ["stem", "stages.0.0", "stages.1.0", "stages.2.0", "pool"]),
        (lambda: attention.insert(attention.fast_resnet(8), "se", at="post"),
         ["stages.0.0", "stages.0.1", "stages.1.0", "stages.1.1", "stages.2.0", "stages.2.1"]),
        (lambda: attention.vit(width=8, depth=2), ["layers.0", "layers.1"]),
        (lambda: nn.Sequential(nn.Conv2d(3, 8, 3), attention.SimAM(8)), ["1"]),
    ],
    ids=["bam", "pool", "post", "vit", "own"],
)  # fmt: skip
def test_the_regions_are_residual_blocks_and_what_stands_beside_them(make, paths):
    assert list(regions(make())) == paths


def fused_and_plain():
    """A network that has one region, and its copy before it was fused."""
    plain = attention.insert(attention.resnet(8, width=8), "cbam", reduction=4, stages=3)
    plain.stem, plain.stages[0], plain.stages[1] = nn.Conv2d(3, 16, 1), nn.Identity(), nn.Identity()
    return attention.fuse(copy.deepcopy(plain.eval())), plain


def test_a_fused_network_is_captured_hooked_and_explained_as_the_plain_one(backend):
    backend("eager")
    (fused, plain), x = fused_and_plain(), torch.randn(2, 3, 16, 16)
    called = []
    with torch.no_grad():
        before = fused(x)  # compiled, without any hook
        found = []
        for network in (plain, fused):
            with attention.capture(network, scores=True) as maps:
                network(x)
            found.append(maps)
        handle = fused.stages[2][0].attention.channel_gate.register_forward_hook(
            lambda *_: called.append(1)
        )
        fused(x)
        handle.remove()
        torch.testing.assert_close(fused(x), before)
    assert called == [1] and found[0].keys() == found[1].keys() and len(found[0]) == 4
    for path, one in found[0].items():
        torch.testing.assert_close(found[1][path].cat(), one.cat())
    torch.testing.assert_close(attention.grad_cam(fused, x), attention.grad_cam(plain, x))
    assert attention.flops(fused, (1, 3, 16, 16)) == attention.flops(plain, (1, 3, 16, 16))


def test_a_compiled_region_runs_and_not_the_module_itself(backend):
    counter = CompileCounter()
    backend(counter)
    (fused, plain), x = fused_and_plain(), torch.randn(2, 3, 16, 16)
    with attention.capture(fused):
        fused(x)
    torch.fx.symbolic_trace(fused)
    copy.deepcopy(fused)(x)
    assert counter.frame_count == 0
    torch.testing.assert_close(fused(x), plain(x))
    assert counter.frame_count == 1
    assert attention.unfuse(fused) is fused
    fused(torch.randn(2, 3, 8, 8))
    assert counter.frame_count == 1


def test_names_weights_and_files_stay(backend, tmp_path):
    backend("eager")
    plain, x = attention.insert(attention.resnet(8, width=8), "se").eval(), torch.randn(2, 3, 8, 8)
    fused = attention.fuse(copy.deepcopy(plain))
    assert list(fused.state_dict()) == list(plain.state_dict())
    fused.load_state_dict(plain.state_dict())
    again = attention.load_network(attention.save_network(fused, tmp_path / "network"))
    for network in (again, copy.deepcopy(fused)):
        assert not any(module._compiled_call_impl for module in network.modules())
    torch.testing.assert_close(again(x), plain(x))
    with pytest.raises(ValueError, match="must not be compiled yet"):
        attention.insert(fused, "se")
    attention.insert(attention.unfuse(fused), "se", at="pre")


def test_an_error_inside_a_region_is_the_one_of_the_plain_network(backend):
    backend("eager")
    fused = attention.fuse(nn.Sequential(attention.SE(8)))
    with pytest.raises(ValueError, match=r"\(N, 8, H, W\), got \(2, 4, 3, 3\)"):
        fused(torch.randn(2, 4, 3, 3))


def test_what_cannot_be_fused_is_said_and_left_as_it_was(monkeypatch):
    with pytest.raises(TypeError, match="network must be a Module, got str"):
        attention.fuse("resnet")
    with pytest.raises(ValueError, match="network must hold .* this Linear does not"):
        attention.fuse(nn.Linear(2, 2))
    monkeypatch.setenv("CXX", "no-such-compiler")
    network = attention.resnet(8)
    with pytest.raises(RuntimeError, match="needs a C\\+\\+ compiler, and no-such-compiler is not"):
        attention.fuse(network)
    assert not any(module._compiled_call_impl for module in network.modules())
