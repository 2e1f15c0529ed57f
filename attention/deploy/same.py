"""Are two networks built alike? Then they compute the same from the same weights."""

import functools
import inspect
from typing import Any

import torch
from torch import nn

from attention.blocks import Map

# Modules whose attributes are settings. Those of one's own may count calls, or keep a map.
SETTINGS = ("attention", "torch", "torchvision", "timm")
# What no forward reads: where a network comes from, what was put in, what a head once had.
NOTES = {
    "config", "insertions", "placements", "folded", "card", "num_classes", "pretrained_cfg",
    "default_cfg", "pretrained_model_args", "_model_args", "_traits", "attention_bias_cache",
}  # fmt: skip
OF_EVERY_MODULE = set(nn.Module().__dict__)


def difference(network: nn.Module, built: nn.Module) -> str | None:
    """The first thing in which `network` is not built as `built`, in words; None: there is none.

    Looked at are the modules and their order, classes and settings, the hooks on their forward, the
    names and shapes of their weights, and the buffers that a state_dict leaves out. The weights
    themselves may differ, and the device.
    """
    ours, theirs = (list(n.named_modules(remove_duplicate=False)) for n in (network, built))
    for (path, module), (place, other) in zip(ours, theirs, strict=False):
        if path != place:
            break
        if found := _in_module(module, other):
            return f"{path or 'the network itself'}: {found}"
    if more := [path for path, _ in ours if path not in dict(theirs)]:
        return f"{more[0]} is there, and is not when built"
    if fewer := [path for path, _ in theirs if path not in dict(ours)]:
        return f"{fewer[0]} is missing"
    in_order = [path for path, _ in ours] == [path for path, _ in theirs]
    return None if in_order else "its modules stand in another order"


def _in_module(module, other):
    """The first difference between two modules, apart from those inside them."""
    kind = type(module)
    if kind is not type(other):
        return f"{kind.__name__}, and {type(other).__name__} when built"
    for name in module.__dict__.keys() - other.__dict__.keys():
        if inspect.isroutine(getattr(kind, name, None)):
            return f"{name} is not that of its class {kind.__name__}"
    for hooks in ("_forward_hooks", "_forward_pre_hooks"):
        if len(getattr(module, hooks)) != len(getattr(other, hooks)):
            return f"it has hooks ({hooks[1:]}), which are not saved: remove them"
    if kind.__module__.split(".")[0] in SETTINGS:
        left_out = (
            NOTES | OF_EVERY_MODULE | ({"size", "wanted"} if isinstance(other, Map) else set())
        )
        for name in other.__dict__.keys() - left_out:
            mine, its = (_told(m.__dict__.get(name)) for m in (module, other))
            if mine != its:
                return f"{name} is {mine}, and {its} when built"
    return _in_tensors(module, other)


def _in_tensors(module, other):
    """The first difference between the parameters and buffers of two modules themselves."""
    left_out = other._non_persistent_buffers_set
    if module._non_persistent_buffers_set != left_out:
        return "other buffers are kept out of its state_dict"
    for kind in ("_parameters", "_buffers"):
        mine, its = ({k: v for k, v in getattr(m, kind).items() if v is not None}
                     for m in (module, other))  # fmt: skip
        if mine.keys() != its.keys():
            return f"it has {sorted(mine)}, and {sorted(its)} when built"
        for name in mine:
            if mine[name].shape != its[name].shape:
                return (
                    f"{name} is {tuple(mine[name].shape)}, and {tuple(its[name].shape)} when built"
                )
            if name in left_out and not _equal(mine[name], its[name]):
                return f"{name} has other numbers, and a state_dict leaves it out"
    return None


def _equal(ours, theirs):
    return ours.dtype == theirs.dtype and torch.equal(ours.cpu(), theirs.cpu())


def _told(value: Any) -> Any:
    """A setting as something that can be compared; of objects that are no plain data, the class."""
    if isinstance(value, str | int | float | bool | None | torch.dtype):
        return value
    if isinstance(value, list | tuple):
        return [_told(item) for item in value]
    if isinstance(value, dict):
        return {str(key): _told(item) for key, item in value.items()}
    if isinstance(value, functools.partial):
        return [_told(value.func), _told(value.args), _told(value.keywords)]
    named = value if hasattr(value, "__qualname__") else type(value)
    return f"{named.__module__}.{named.__qualname__}"
