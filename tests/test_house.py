"""The house itself: imports run one way, rooms are few, files are short, signatures are typed."""

import ast
import inspect
from pathlib import Path

import pytest

import attention
from attention import (
    blocks,
    compare,
    data,
    deploy,
    exercises,
    explain,
    figures,
    networks,
    results,
    study,
    training,
)

PACKAGE = Path(attention.__file__).parent
FILES = sorted(PACKAGE.glob("**/*.py"))
# A room may import those that stand before it, never one that stands behind it.
ORDER = (
    "checks", "files", "cost", "settings", "extras", "blocks", "networks", "data", "training",
    "explain", "deploy", "results", "study", "figures", "exercises", "benchmark", "survey",
    "compare", "__init__",
)  # fmt: skip


def room(path):
    """The folder at the top of the package that a file lies in, or the file itself."""
    first = path.relative_to(PACKAGE).parts[0]
    return first.removesuffix(".py")


def imported(path):
    """The modules of this package that a file imports, as tuples: ("blocks", "gate")."""
    found = []
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path.name}: a relative import"
            parts = node.module.split(".")
            if parts == ["attention"]:
                found += [(alias.name,) for alias in node.names]
            elif parts[0] == "attention":
                found.append(tuple(parts[1:]))
        elif isinstance(node, ast.Import):
            names = [alias.name.split(".") for alias in node.names]
            found += [tuple(name[1:]) for name in names if name[0] == "attention"]
    return found


def graph():
    """{room: the rooms that it imports}"""
    found = {}
    for path in FILES:
        others = {module[0] for module in imported(path)}
        found.setdefault(room(path), set()).update(others - {room(path)})
    return found


def test_every_room_has_its_place():
    assert set(graph()) <= set(ORDER)


def test_imports_run_one_way():
    for name, others in graph().items():
        behind = [other for other in others if ORDER.index(other) > ORDER.index(name)]
        assert not behind, f"{name} imports {behind}, which stand above it"


def test_no_circles_inside_a_room():
    for name in {room(path) for path in FILES}:
        inside = {
            path.stem: {m[1] for m in imported(path) if m[0] == name and len(m) > 1}
            for path in FILES
            if room(path) == name and path.stem not in ("__init__", "__main__")
        }
        while inside:
            ground = {stem for stem, others in inside.items() if not others & set(inside)}
            assert ground, f"files of {name} import each other in a circle: {sorted(inside)}"
            inside = {stem: others for stem, others in inside.items() if stem not in ground}


def test_at_most_six_floors():
    floors, left = {}, graph()
    while left:
        for name, others in list(left.items()):
            if not others & set(left):
                floors[name] = 1 + max((floors[other] for other in others), default=0)
                del left[name]
    assert max(floors.values()) <= 6, floors
    assert len(floors) <= 19  # 18 rooms and the exercises, which nothing is tied to


def test_another_room_is_entered_by_its_door():
    for path in FILES:
        for module in imported(path):
            indoors = len(module) > 1 and module[0] != room(path)
            assert not indoors, f"{path.name} imports {'.'.join(module)}: go through {module[0]}"


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_no_file_is_long(path):
    assert len(path.read_text(encoding="utf-8").splitlines()) <= 300


@pytest.mark.parametrize(
    "face",
    [
        attention, blocks, compare, data, deploy, exercises, explain, figures, networks, results,
        study, training,
    ],
    ids=lambda face: face.__name__,
)  # fmt: skip
def test_public_functions_are_typed(face):
    assert face.__doc__ and len(face.__doc__) > 40
    assert sorted(face.__all__) == sorted(set(face.__all__))
    for name in face.__all__:
        thing = getattr(face, name)
        if not callable(thing) or not getattr(thing, "__module__", "").startswith("attention"):
            continue
        assert inspect.getdoc(thing), f"{face.__name__}.{name} has no docstring"
        function = thing.__init__ if inspect.isclass(thing) else thing
        function = inspect.unwrap(function)
        if not inspect.isfunction(function) or not function.__module__.startswith("attention"):
            continue  # torch's own, inherited
        parameters = list(inspect.signature(function).parameters.values())
        untyped = [
            p.name for p in parameters if p.annotation is p.empty and p.name not in ("self", "cls")
        ]
        assert not untyped, f"{face.__name__}.{name}: {untyped} without a type"


def test_the_faces_name_every_file():
    """The map of a room is its docstring: whoever opens the folder finds each file there."""
    for folder in (p for p in PACKAGE.iterdir() if (p / "__init__.py").exists()):
        words = ast.get_docstring(ast.parse((folder / "__init__.py").read_text(encoding="utf-8")))
        for path in folder.glob("*.py"):
            if not path.stem.startswith("__"):
                assert path.stem in words, f"{folder.name}/__init__.py does not name {path.name}"


def test_the_package_names_every_room():
    for name in ORDER[:-1]:
        assert name in attention.__doc__, f"attention/__init__.py does not name {name}"
