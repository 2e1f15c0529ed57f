"""`fuse` compiles a network region by region: the same blocks in fewer passes over the maps."""

import functools
import importlib.util
import os
import platform
import shutil
import types
from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import nn
from torch.nn.modules import module as torch_module
from torch.utils import checkpoint

from attention.blocks import Map
from attention.checks import instance
from attention.networks.anatomy import branches
from attention.networks.places import bare
from attention.networks.transformer import EncoderLayer

# What torch.compile makes machine code with on a CPU, where CXX does not say it.
COMPILERS = {"Darwin": "clang++", "Windows": "cl"}
BACKEND = "inductor"
GLOBAL_HOOKS = ("_global_forward_hooks", "_global_forward_pre_hooks",
                "_global_backward_hooks", "_global_backward_pre_hooks")  # fmt: skip
HOOKS = ("_forward_hooks", "_forward_pre_hooks", "_backward_hooks", "_backward_pre_hooks")


def fuse(network: nn.Module) -> nn.Module:
    """Compile a network's regions by torch.compile; return the network.

    network: changed in place. Modules, names, weights and state_dict stay, so it is trained, saved
        and captured like any other; `regions` says what is compiled, `unfuse` takes it back.

    A region is compiled when it is first called, for all batches of two and more images; a batch of
    one, another size of the maps, training and eval mode, autocast are compiled when they first
    come. It takes seconds each: `fuse` is for what runs many times. The same regions of two
    networks are compiled once a process, and torch keeps what it compiled on the disk.

    The results are the plain network's but for rounding: in float32 the tests hold outputs and
    gradients to 1e-4 of their size, in bfloat16 to a tenth: there, what happens between
    two products of matrices is no longer rounded to bfloat16.

    A region runs as it is written while somebody watches it: `capture`, any hook on it or on all
    modules, torch.fx, torch.export. A copy of a fused network is a plain one. Second derivatives
    are refused by torch.

    Raises RuntimeError where torch.compile lacks its compiler, or is that of torch 2.4 (the network
    is then as it was), ValueError for a network in which there is nothing to fuse.
    """
    found = regions(network)
    if not found:
        raise ValueError(
            "network must hold residual blocks, attention, or convolutions with their norm, to be "
            f"fused; this {type(network).__name__} does not"
        )
    devices = {parameter.device.type for parameter in network.parameters()} or {"cpu"}
    for device in sorted(devices):
        if missing := lacking(device):
            raise RuntimeError(f"fuse cannot compile here: {missing}. The network runs without it")
    for module in found.values():
        module._compiled_call_impl = Fused(module)  # where nn.Module.compile() puts its own
    return network


def unfuse(network: nn.Module) -> nn.Module:
    """Let a fused network run as it is written again; return the network."""
    for module in instance(nn.Module, "network", network).modules():
        if isinstance(module._compiled_call_impl, Fused):
            del module._compiled_call_impl
    return network


def regions(network: nn.Module) -> dict[str, nn.Module]:
    """What `fuse` compiles, {path: module}: the outermost modules that are one of these.

    A residual block with the attention on its branch, so that norm, ReLU, gate and sum are done
    together; a layer of a transformer; an attention block that stands elsewhere; a convolution, its
    norm and activation in a row.
    """
    instance(nn.Module, "network", network)
    placed = {placement.path for placement in getattr(network, "placements", ())}
    return dict(_cut(network, "", placed))


def lacking(device: str) -> str | None:
    """What this machine lacks to compile for "cpu" or "cuda", in words; None: nothing."""
    if not hasattr(checkpoint, "CheckpointPolicy"):  # 2.4 compiles each region anew, ECA wrongly
        return f"torch 2.5 or newer is needed, and this is {torch.__version__}"
    if device == "cpu":
        usual = COMPILERS.get(platform.system(), "g++")
        compiler = os.environ.get("CXX") or usual
        if not shutil.which(compiler.split()[0]):
            return f"torch.compile needs a C++ compiler, and {compiler} is not on this machine"
    elif importlib.util.find_spec("triton") is None:
        return "torch.compile needs Triton, which is not installed"
    return None


class Fused:
    """What a region is called by: its compiled form, or, while it is watched, itself."""

    def __init__(self, module: nn.Module) -> None:
        self.module = module
        self.compiled = _compiled(repr(module))

    def __call__(self, *inputs: Any, **options: Any) -> Any:
        if _watched(self.module, inputs):
            return self.module._call_impl(*inputs, **options)
        for value in inputs:
            if isinstance(value, torch.Tensor) and value.ndim:
                torch._dynamo.maybe_mark_dynamic(value, 0)
        return self.compiled(self.module, *inputs, **options)


def _cut(module: nn.Module, path: str, placed: set[str]) -> Iterator[tuple[str, nn.Module]]:
    """(path, region) for all regions in a module."""
    kinds = [type(child) for child in module.children()]
    attention = path in placed or any(issubclass(kind, Map) for kind in kinds)
    layers = nn.Conv2d in kinds and nn.BatchNorm2d in kinds
    residual = branches(module) == [bare(module)]
    if attention or layers or residual or isinstance(module, EncoderLayer):
        yield path, module
        return
    for name, child in module.named_children():
        yield from _cut(child, f"{path}.{name}" if path else name, placed)


@functools.cache
def _compiled(kind: str) -> Callable[..., Any]:
    """What runs modules of one kind compiled, `kind` being how they print themselves.

    Torch remembers what it has compiled by the code that was called, and gives up after 8 forms:
    each kind has a code of its own. No size is made variable but the batch's, or a network would
    compute otherwise after another one, of other sizes, had run.
    """
    code = _forward.__code__.replace(co_name=f"forward_of_{kind.partition('(')[0]}")
    function = types.FunctionType(code, globals())
    return torch.compile(function, dynamic=False, backend=BACKEND, options=_options())


def _options() -> dict[str, Any]:
    """ReLU's masks are made again in the backward pass, from its output, and not kept.

    torch's code for a CPU reads and writes masks of bool one by one, without vector instructions:
    kept, they make the residual block of a ResNet twice as slow as it is without a compiler.
    """
    try:
        kind = importlib.import_module("torch._inductor.custom_graph_pass").CustomGraphPass
    except ImportError:  # an older torch
        return {}
    if BACKEND != "inductor":
        return {}

    class Masks(kind):
        def __call__(self, graph: torch.fx.Graph) -> None:
            for node in graph.nodes:
                if node.target is torch.ops.aten.le.Scalar:
                    node.meta["recompute"] = checkpoint.CheckpointPolicy.MUST_RECOMPUTE

        def uuid(self) -> str:
            return "attention: masks of ReLU made again, 1"

    return {"joint_custom_post_pass": Masks()}


def _forward(module: nn.Module, *inputs: Any, **options: Any) -> Any:
    return module.forward(*inputs, **options)


def _watched(module: nn.Module, inputs: tuple) -> bool:
    """Whether somebody wants to see what the parts of a region do."""
    if any(not isinstance(x, torch.Tensor) for x in inputs[:1]):  # torch.fx traces
        return True
    if torch.compiler.is_compiling() or torch.jit.is_tracing():
        return True
    if any(getattr(torch_module, name) for name in GLOBAL_HOOKS):
        return True
    return any(
        (isinstance(part, Map) and part.wanted) or any(getattr(part, name) for name in HOOKS)
        for part in module.modules()
    )
