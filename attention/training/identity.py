"""What a block is, as a short text: the same for the same block, another for any other.

A block of this package has the version that its row in the table tells. A block of one's own, from
a notebook cell say, has no such number: it is known by a digest of its compiled code and of
everything that this code reaches. Comments, formatting, line numbers and the docstring of a class
do not count, nor does when or in which process it was defined; the version of Python does, and a
move from a notebook to a file may (it is compiled another way there).
"""

import collections.abc
import copyreg
import dis
import functools
import hashlib
import importlib
import importlib.metadata
import importlib.util
import inspect
import random
import sys
import types
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from attention.blocks import Block, known

PLAIN = (int, float, complex, bool, str, bytes, type(None), type(...))

# What changes while it is used: a digest of it would be another one a moment later.
STATEFUL = (
    nn.Module, torch.Generator, np.random.Generator, np.random.RandomState, random.Random,
    collections.abc.Iterator,
)  # fmt: skip

DESCRIPTORS = (
    types.MethodDescriptorType, types.WrapperDescriptorType, types.GetSetDescriptorType,
    types.MemberDescriptorType, types.ClassMethodDescriptorType, types.MethodWrapperType,
)  # fmt: skip

# Of a class's entries: where it was written, and what Python and torch number by themselves.
NOT_CODE = {
    "__dict__", "__weakref__", "__doc__", "__module__", "__qualname__", "__firstlineno__",
    "__static_attributes__", "__annotations__", "__annotate__", "__annotate_func__",
    "__annotations_cache__", "__abstractmethods__", "_abc_impl", "__orig_bases__", "__parameters__",
    "__type_params__", "_backward_cls",
}  # fmt: skip


GLOBALS = ("LOAD_GLOBAL", "LOAD_NAME", "LOAD_FROM_DICT_OR_GLOBALS")


def version(row: Block) -> str:
    """The version of a block: "v1" for one of this package, else a digest, 16 hexadecimal digits.

    Raises ValueError for what has no digest (an open file, a network, a random generator, …), and
    says how it is reached and what to do.
    """
    if ours(row):
        return f"v{row.version}"
    digest = _Digest()
    digest.add(row.cls, row.name)
    return digest.text()


def ours(row: Block) -> bool:
    """Whether this is a row of the package's own table."""
    return _published(row.cls) is row


class _Digest:
    """Adds up what it is given, and all that this reaches. `way` says how a value was reached."""

    def __init__(self, seen: dict[int, tuple[int, Any]] | None = None) -> None:
        self.hash = hashlib.sha256()
        self.seen = dict(seen or {})  # id: a number, and the object, or its id might be used again

    def text(self) -> str:
        return self.hash.hexdigest()[:16]

    def put(self, *words: object) -> None:
        """Add words with their lengths, so that no two lists of words give the same bytes."""
        for word in words:
            content = word if isinstance(word, bytes) else str(word).encode()
            self.hash.update(f"{len(content)} ".encode() + content)

    def add(self, value: Any, way: str) -> None:
        if type(value) in PLAIN:
            self.put(type(value).__name__, value if type(value) is bytes else repr(value))
        elif row := _published(value):
            # its code is what its version says; its defaults may be relied on here
            self.put("block", row.name, row.version)
            for parameter in inspect.signature(value).parameters.values():
                self.put(parameter.name)
                self.add(parameter.default, f"{way}, default {parameter.name}")
        elif origin := _library(value):
            self.put("library", *origin)
        elif type(value) in (tuple, frozenset):  # no cycle without an object that is seen
            self.add_items(value, way)
        elif id(value) in self.seen:
            self.put("seen", self.seen[id(value)][0])
        else:
            self.seen[id(value)] = len(self.seen), value
            self.add_object(value, way)

    def add_object(self, value: Any, way: str) -> None:
        """Add what may change or may contain itself; `add` sees to it that it comes once."""
        if isinstance(value, STATEFUL):
            self.refuse(value, way, "it changes while it is used")
        elif isinstance(value, types.FunctionType):
            self.add_function(value, way)
        elif isinstance(value, type):
            self.add_class(value, way)
        elif isinstance(value, torch.Tensor):
            self.add_tensor(value, way)
        elif type(value) in (list, set, dict, types.MappingProxyType):
            self.add_items(value, way)
        elif isinstance(value, DESCRIPTORS):
            self.put(type(value).__name__, value.__name__)
        elif parts := _parts(value):
            self.put(type(value).__name__)
            self.add_items(parts, way)
        else:
            self.add_as_pickled(value, way)

    def add_items(self, value: collections.abc.Collection, way: str) -> None:
        self.put(type(value).__name__, len(value))
        if isinstance(value, set | frozenset):  # its order is another in every process
            each = [_Digest(self.seen) for _ in value]
            for digest, item in zip(each, value, strict=True):
                digest.add(item, f"{way}, an item of it")
            self.put(*sorted(digest.text() for digest in each))
            return
        pairs = enumerate(value) if isinstance(value, list | tuple) else value.items()
        for name, item in pairs:
            self.add(name, f"{way}, a key of it")
            self.add(item, f"{way}[{name!r}]")

    def add_tensor(self, tensor: torch.Tensor, way: str) -> None:
        if tensor.requires_grad or tensor.layout != torch.strided:
            self.refuse(tensor, way, "only a dense tensor that needs no gradient stays as it is")
        numbers = tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8)
        self.put("tensor", tensor.dtype, tuple(tensor.shape), numbers.numpy().tobytes())

    def add_class(self, cls: type, way: str) -> None:
        self.put("class")
        for base in (type(cls), *cls.__bases__):
            self.add(base, f"{way}, base {base.__name__}")
        for name in sorted(vars(cls).keys() - NOT_CODE):
            self.put(name)
            self.add(vars(cls)[name], f"{way}.{name}")

    def add_function(self, function: types.FunctionType, way: str) -> None:
        self.put("function")
        for what in ("__defaults__", "__kwdefaults__", "__dict__"):
            self.add(getattr(function, what), f"{way}, {what.strip('_')}")
        inside = {}
        cells = function.__closure__ or ()
        for name, cell in zip(function.__code__.co_freevars, cells, strict=True):
            self.put(name)
            try:
                inside[name] = cell.cell_contents
            except ValueError:  # not yet set
                continue
            if not _own_module(inside[name]):
                self.add(inside[name], f"{way}, closure {name}")
        self.add_code(function.__code__, function.__globals__, inside, way)

    def add_code(self, code: types.CodeType, names: dict, inside: dict, way: str) -> None:
        """Add compiled code, and the globals that it names."""
        self.put(code.co_flags, code.co_argcount, code.co_posonlyargcount, code.co_kwonlyargcount)
        self.put(*code.co_varnames[: code.co_argcount + code.co_kwonlyargcount])
        self.put(getattr(code, "co_exceptiontable", b""))
        instructions = [i for i in dis.get_instructions(code) if i.opname != "EXTENDED_ARG"]
        for number, instruction in enumerate(instructions):
            name, value = instruction.opname, instruction.argval
            self.put(name)
            if isinstance(value, types.CodeType):
                self.add_code(value, names, inside, way)
            elif instruction.opcode in dis.hasconst:
                self.add(value, way)
            else:
                self.put(value)
            after = instructions[number + 1 :]
            if name in GLOBALS and value in names:
                self.add_used(names[value], after, f"{way}, global {value}")
            elif name in ("LOAD_DEREF", "LOAD_CLASSDEREF") and _own_module(inside.get(value)):
                self.add_used(inside[value], after, f"{way}, closure {value}")
            elif name == "IMPORT_NAME":
                dots = "." * instructions[number - 2].argval
                path = importlib.util.resolve_name(dots + value, names.get("__package__"))
                module = importlib.import_module(path)
                if after[0].opname != "IMPORT_FROM":
                    self.add_used(module, [], f"{way}, import {value}")
            elif name == "IMPORT_FROM":
                self.add(getattr(module, value, None), f"{way}, import {value}")

    def add_used(self, value: Any, after: list[dis.Instruction], way: str) -> None:
        """Add a global; of a module that is not installed, what the code takes from it."""
        for instruction in after:
            if not _own_module(value) or instruction.opname not in ("LOAD_ATTR", "LOAD_METHOD"):
                break
            way = f"{way}.{instruction.argval}"
            value = getattr(value, instruction.argval, None)
        if _own_module(value):
            self.refuse(value, way, "what is used of it is not known; import that by its name")
        self.add(value, way)

    def add_as_pickled(self, value: Any, way: str) -> None:
        """Add what pickle would keep: how it is made, of what, and its state."""
        try:
            reduce = copyreg.dispatch_table.get(type(value))
            kept = reduce(value) if reduce else value.__reduce_ex__(2)
        except Exception as error:
            self.refuse(value, way, f"it has no contents that could be compared: {error}")
        if isinstance(kept, str):  # the name of a thing that there is once, as torch.float32
            name = kept.split(".")[-1]
            places = [m for m in list(sys.modules.values()) if vars(m).get(name) is value]
            if not any(_origin(module.__name__) for module in places):
                self.refuse(value, way, "its contents cannot be seen")
            self.put("once", type(value).__name__, name)
            return
        function, arguments, state, items, pairs = (*kept, None, None, None)[:5]
        self.put("object")
        self.add(function, f"{way}, its kind")
        self.add((arguments, state), f"{way}, its parts")
        self.add((list(items or ()), list(pairs or ())), f"{way}, its items")

    def refuse(self, value: Any, way: str, why: str) -> None:
        what = f"{type(value).__name__} {value!r}".replace("\n", " ")
        raise ValueError(
            f"block cannot be told from others, and its records not from theirs: {way} is "
            f"{what:.100}; {why}. Make it a constant (numbers, text, a tuple), or an argument of "
            "the block and pass it in options"
        )


def _published(value):
    """The row of this package's table for a class of this package; None for anything else."""
    if not isinstance(value, type) or value.__module__.split(".")[0] != "attention":
        return None
    row = known(value)
    return row if row.family != "own" else None


def _parts(value):
    """The parts of what wraps or binds a function, by name; None for anything else."""
    if isinstance(value, staticmethod | classmethod | types.MethodType):
        return {"function": value.__func__, "self": getattr(value, "__self__", None)}
    if isinstance(value, property):
        return {name: getattr(value, name) for name in ("fget", "fset", "fdel")}
    if isinstance(value, functools.cached_property):
        return {"function": value.func}
    if isinstance(value, functools._lru_cache_wrapper):
        return {"function": value.__wrapped__}
    if isinstance(value, types.BuiltinFunctionType) and value.__self__ is not None:
        return {"name": value.__name__, "self": value.__self__}
    return None


def _library(value):
    """(name, distribution) of what an installed library or Python itself defines; else None."""
    owner = getattr(value, "__self__", None)
    if isinstance(value, types.ModuleType):
        module, path = value.__name__, ""
    elif isinstance(value, types.FunctionType):  # its __module__ may be a wrapped function's
        module, path = value.__globals__.get("__name__"), value.__qualname__
    elif isinstance(value, type):
        module, path = value.__module__, value.__qualname__
    elif isinstance(value, types.BuiltinFunctionType) and isinstance(owner, types.ModuleType):
        module, path = owner.__name__, value.__name__
    else:
        return None
    origin, found = _origin(module), sys.modules.get(module)
    for name in filter(None, path.split(".")):
        found = getattr(found, name, None)
    return (f"{module}.{path}", origin) if origin and found is value else None


def _own_module(value):
    """Whether this is a module that is neither installed nor Python's."""
    return isinstance(value, types.ModuleType) and not _library(value)


@functools.cache
def _origin(module):
    """The distribution and version that a module comes from; None for a module of one's own."""
    top = str(module).split(".")[0]
    if top in sys.stdlib_module_names:
        return f"python {sys.version_info[0]}.{sys.version_info[1]}"
    found = sys.modules.get(top)
    places = [getattr(found, "__file__", None) or "", *getattr(found, "__path__", ())]
    folders = {folder for place in places for folder in Path(place).parts}
    if top in ("__main__", "attention") or not folders & {"site-packages", "dist-packages"}:
        return None
    names = importlib.metadata.packages_distributions().get(top, [])
    return " ".join(f"{n} {importlib.metadata.version(n)}" for n in sorted(set(names))) or top
