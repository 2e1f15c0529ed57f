"""What a block is, as a short text: the same for the same block, another for any other.

A block of this package has the version that its row in the table tells. A block of one's own, from
a notebook cell say, has no such number: it is known by a digest of its compiled code and of
everything that this code reaches: functions, classes, plain values, tensors, and libraries by their
version. What else it reaches has no digest, and is refused. Docstrings, comments and line numbers
do not count; the version of Python does.
"""

import dataclasses
import dis
import functools
import hashlib
import importlib
import importlib.metadata
import inspect
import sys
import types
from pathlib import Path
from typing import Any

import numpy as np
import torch

from attention.blocks import Block, known

PLAIN = (
    int, float, complex, bool, str, bytes, type(None), type(...), range, slice,
    torch.dtype, torch.device, torch.Size, torch.memory_format,
)  # fmt: skip

# Of a class's entries: what Python and torch make of it, and what says where it was written.
NOT_CODE = {
    "__dict__", "__weakref__", "__doc__", "__module__", "__qualname__", "__firstlineno__",
    "__static_attributes__", "__annotations__", "__annotate__", "__annotate_func__",
    "__annotations_cache__", "__dataclass_fields__", "__dataclass_params__", "_backward_cls",
}  # fmt: skip

# What holds functions, and under which names.
WRAPPERS = {
    staticmethod: ("__func__",),
    classmethod: ("__func__",),
    property: ("fget", "fset", "fdel"),
    functools.partial: ("func", "args", "keywords"),
    types.MethodType: ("__func__", "__self__"),
    types.BuiltinFunctionType: ("__name__", "__self__"),
}

GLOBAL = {"LOAD_GLOBAL", "LOAD_NAME", "LOAD_FROM_DICT_OR_GLOBALS"}
CLOSURE = {"LOAD_DEREF", "LOAD_CLASSDEREF", "LOAD_FROM_DICT_OR_DEREF"}


def version(row: Block) -> str:
    """The version of a block: "v1" for one of this package, else a digest, 16 hexadecimal digits.

    Raises ValueError for what has no digest (a network, a random generator, an object of a class
    of one's own, …), and says how it is reached and what to do.
    """
    if published(row.cls) is row:
        return f"v{row.version}"
    told = _Reader().tell(row.cls, row.name)
    return hashlib.sha256(repr(told).encode()).hexdigest()[:16]


def published(value: Any) -> Block | None:
    """The row of this package's table for a class of this package; None for anything else."""
    if not isinstance(value, type) or value.__module__.split(".")[0] != "attention":
        return None
    row = known(value)
    return row if row.family != "own" else None


class _Reader:
    """Tells a value, and all that it reaches, in lists of texts; `way` says how it was reached."""

    def __init__(self) -> None:
        self.seen: dict[int, tuple[int, Any]] = {}  # by id; kept, or the id might be used again

    def tell(self, value: Any, way: str) -> list:
        kind = type(value).__name__
        if type(value) in PLAIN or isinstance(value, np.generic):
            return [kind, repr(value)]
        if row := published(value):  # its code is what its version says; its defaults are not
            defaults = {p.name: p.default for p in inspect.signature(value).parameters.values()}
            return ["block", row.name, row.version, self.tell(defaults, f"{way}, defaults")]
        if named := _of_a_library(value):
            return ["library", *named]
        if type(value) not in (tuple, frozenset):  # these need another object to hold themselves
            if id(value) in self.seen:
                return ["seen", self.seen[id(value)][0]]
            self.seen[id(value)] = len(self.seen), value
        return [kind, self.parts(value, way)]

    def parts(self, value: Any, way: str) -> Any:
        """What an object is made of."""
        kind = type(value)
        if kind in (list, tuple):
            return [self.tell(item, f"{way}[{place}]") for place, item in enumerate(value)]
        if kind in (dict, types.MappingProxyType):
            return [(self.tell(k, way), self.tell(v, f"{way}[{k!r}]")) for k, v in value.items()]
        if kind in (set, frozenset) and all(type(item) in PLAIN for item in value):
            return sorted(map(repr, value))  # its order is another in every process
        if kind is types.FunctionType:
            return self.function(value, way)
        if isinstance(value, type):
            bases = [self.tell(base, f"{way}, base") for base in (kind, *value.__bases__)]
            names = sorted(vars(value).keys() - NOT_CODE)
            return bases, [(name, self.tell(vars(value)[name], f"{way}.{name}")) for name in names]
        if kind in WRAPPERS:
            return [self.tell(getattr(value, name), f"{way}.{name}") for name in WRAPPERS[kind]]
        if kind is np.ndarray and not value.dtype.hasobject:
            return value.dtype.str, value.shape, hashlib.sha256(value.tobytes()).hexdigest()
        if kind is torch.Tensor and value.layout == torch.strided and not value.requires_grad:
            numbers = value.cpu().contiguous().view(-1).view(torch.uint8).numpy()
            return value.dtype, tuple(value.shape), hashlib.sha256(numbers).hexdigest()
        if dataclasses.is_dataclass(value) and value.__dataclass_params__.frozen:
            fields = {field.name: getattr(value, field.name) for field in dataclasses.fields(value)}
            return self.tell(kind, f"{way}, its class"), self.tell(fields, way)
        raise ValueError(
            f"block cannot be told from others, and its records not from theirs: {way} is "
            f"{kind.__name__} {' '.join(repr(value).split()):.80}, which may change or cannot be "
            "compared. Make it a constant (numbers, text, a tuple, a tensor) or a function, or an "
            "argument of the block and pass it in options"
        )

    def function(self, function: types.FunctionType, way: str) -> list:
        cells = zip(function.__code__.co_freevars, function.__closure__ or (), strict=True)
        closure = {name: cell.cell_contents for name, cell in cells if cell != types.CellType()}
        beside = ("__defaults__", "__kwdefaults__", "__dict__")
        told = [self.tell(getattr(function, name), f"{way}.{name}") for name in beside]
        return [*told, self.code(function.__code__, function.__globals__, closure, way)]

    def code(self, code: types.CodeType, names: dict, closure: dict, way: str) -> list:
        """Compiled code, and the globals and the closure that it names."""
        count = code.co_argcount + code.co_kwonlyargcount
        told = [code.co_flags, code.co_argcount, code.co_posonlyargcount, code.co_varnames[:count]]
        told += [getattr(code, "co_exceptiontable", b"")]
        steps = [step for step in dis.get_instructions(code) if step.opname != "EXTENDED_ARG"]
        hidden = [step.opname == "STORE_NAME" and step.argval in NOT_CODE for step in steps]
        for number, step in enumerate(steps):
            following, value = steps[number + 1 :], step.argval
            if any(hidden[number : number + 2]):  # of a class in here: its docstring, its line
                continue
            told.append(step.opname)
            if isinstance(value, types.CodeType):
                told.append(self.code(value, names, closure, way))
            elif step.opcode in dis.hasconst:
                told.append(self.tell(code.co_consts[step.arg], way))
            else:
                told.append(value)
            if step.opname in GLOBAL and value in names:
                told.append(self.used(names[value], following, f"{way}, global {value}"))
            elif step.opname in CLOSURE and value in closure:
                told.append(self.used(closure[value], following, f"{way}, closure {value}"))
            elif step.opname == "IMPORT_NAME":
                path = "." * steps[number - 2].argval + value
                module = importlib.import_module(path, names.get("__package__"))
                told.append(self.tell(module, f"{way}, import {path}"))
        return told

    def used(self, value: Any, following: list[dis.Instruction], way: str) -> list:
        """A value that the code names; of a module of one's own, what the code takes from it."""
        for step in following:
            own = isinstance(value, types.ModuleType) and not _of_a_library(value)
            if not own or step.opname not in ("LOAD_ATTR", "LOAD_METHOD"):
                break
            value, way = getattr(value, step.argval, None), f"{way}.{step.argval}"
        return self.tell(value, way)


def _of_a_library(value):
    """(name, distribution) of a module, class or function of Python or a library; else None."""
    if isinstance(value, types.ModuleType):
        module, path = value.__name__, []
    elif isinstance(value, types.FunctionType | type):
        module, path = str(value.__module__), value.__qualname__.split(".")
    else:
        return None
    origin, found = _origin(module.split(".")[0]), sys.modules.get(module)
    for name in path:
        found = getattr(found, name, None)
    return (".".join([module, *path]), origin) if origin and found is value else None


def _origin(top):
    """Python or the distribution, with its version, of a package; None for one of one's own.

    The program that runs is one's own, wherever pytest or Jupyter that started it lies.
    """
    if top in sys.stdlib_module_names:
        return f"python {sys.version_info[0]}.{sys.version_info[1]}"
    found = sys.modules.get(top)
    places = [getattr(found, "__file__", None) or "", *getattr(found, "__path__", ())]
    installed = any({"site-packages", "dist-packages"} & {*Path(p).parts} for p in places)
    return _distribution(top) if installed and top not in ("__main__", "attention") else None


@functools.cache
def _distribution(top):
    names = importlib.metadata.packages_distributions().get(top, [])
    return " ".join(f"{n} {importlib.metadata.version(n)}" for n in sorted(set(names))) or top
