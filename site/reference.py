"""The reference: a page for each room of the package, in the names that users type."""

import importlib
import inspect
import types
from collections.abc import Iterator, Mapping
from pathlib import Path

from docstrings import rst

import attention

# The rooms that users enter, in the order of the package's own map.
ROOMS = ("blocks", "networks", "data", "training", "explain", "deploy", "results", "study",
         "figures", "compare", "cost", "settings")  # fmt: skip


def public(module: types.ModuleType) -> list[str]:
    """What a room shows: its __all__, else the functions and classes that are written in it."""
    if hasattr(module, "__all__"):
        return sorted(module.__all__, key=str.lower)
    return [
        name for name, thing in vars(module).items()
        if not name.startswith("_") and callable(thing)
        and getattr(thing, "__module__", "") == module.__name__
    ]  # fmt: skip


def typed(room: str, name: str, thing: object) -> str:
    """The name as users type it: attention.insert rather than attention.networks.insert."""
    short = name in attention.__all__ and getattr(attention, name) is thing
    return f"attention.{name}" if short else f"attention.{room}.{name}"


def entries() -> Iterator[tuple[str, str, object]]:
    """(room, the name that users type, what it is), the parts of modules in a room among them."""
    for room in ROOMS:
        module = importlib.import_module(f"attention.{room}")
        for name in public(module):
            thing = getattr(module, name)
            if isinstance(thing, types.ModuleType):
                for part in public(thing):
                    yield room, f"attention.{room}.{name}.{part}", getattr(thing, part)
            else:
                yield room, typed(room, name, thing), thing


def write_pages(folder: Path) -> None:
    """A page for each room, and one that leads to them."""
    folder.mkdir(parents=True, exist_ok=True)
    found = list(entries())
    for room in ROOMS:
        module = importlib.import_module(f"attention.{room}")
        lines = [room, "=" * len(room), "", *rst(module.__doc__, links()), ""]
        for where, name, thing in found:
            if where == room:
                lines += _entry(name, thing)
        (folder / f"{room}.rst").write_text("\n".join(lines), encoding="utf-8")
    names = {name.removeprefix("attention."): name for _, name, _ in found}
    typed_most = [f":py:obj:`~{names[n]}`" for n in sorted(attention.__all__, key=str.lower)
                  if n in names]  # fmt: skip
    lines = [
        "Reference", "=========", "", *rst(attention.__doc__), "Names that are typed most",
        "-------------------------", "", " · ".join(typed_most), "", ".. toctree::",
        "   :hidden:", "", *(f"   {room}" for room in ROOMS), "",
    ]  # fmt: skip
    (folder / "index.rst").write_text("\n".join(lines), encoding="utf-8")


def _entry(name, thing):
    if inspect.isclass(thing):
        return [f".. autoclass:: {name}", "   :members:", ""]
    if callable(thing):
        return [f".. autofunction:: {name}", ""]
    if isinstance(thing, Mapping):
        words = ", ".join(f"``{key}``" for key in thing)
    elif isinstance(thing, str | int | float | tuple | list):
        words = f"``{thing!r}``"
    else:
        return []
    return [f".. py:data:: {name}", "", f"   {words}", ""]


def links():
    """A function name → the role that links to it, or None."""
    by_name = {}
    for _, name, _ in entries():
        parts = name.split(".")
        for start in range(1, len(parts)):
            by_name.setdefault(".".join(parts[start:]), name)
        by_name.setdefault(name, name)
    return lambda name: f":py:obj:`{name} <{by_name[name]}>`" if name in by_name else None


def setup(app) -> dict:
    link = links()

    def plain_to_rst(app, what, name, obj, options, lines):
        lines[:] = rst("\n".join(lines), link)

    app.connect("autodoc-process-docstring", plain_to_rst)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
