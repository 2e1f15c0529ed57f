"""Without the notebooks' packages there are blocks, `insert`, `capture`, save and load."""

import ast
import importlib.metadata
import re
import subprocess
import sys
from pathlib import Path

import pytest
from packaging.requirements import Requirement

import attention
from attention import explain

ROOT = Path(__file__).resolve().parent.parent
PYPROJECT = (ROOT / "pyproject.toml").read_text(encoding="utf-8")
REQUIRED = re.findall('"(.+?)"', re.search(r"^dependencies = \[(.+?)\]", PYPROJECT, re.M | re.S)[1])

# What is blocked is not found, as if it were not installed.
BLOCK = """
import sys
from importlib.machinery import PathFinder

class Lean(PathFinder):
    @classmethod
    def find_spec(cls, name, path=None, target=None):
        return None if name.split(".")[0] in {blocked!r} else super().find_spec(name, path, target)

sys.meta_path[sys.meta_path.index(PathFinder)] = Lean
"""

USE = """
import tempfile
import torch, torchvision
import attention

network = attention.insert(torchvision.models.resnet18(num_classes=2), "cbam").eval()
images = torch.randn(1, 3, 32, 32)
with torch.no_grad(), attention.capture(network) as maps:
    answer = network(images)
assert maps and attention.grad_cam(network, images).shape == (1, 32, 32)
with tempfile.TemporaryDirectory() as folder:
    attention.save_network(network, folder, architecture="resnet18")
    assert torch.equal(attention.load_network(folder)(images), answer)

assert {"fit", "load", "insert"} <= set(dir(attention)) and "faithfulness" in dir(attention.explain)
for name in ("fit", "load", "data", "training"):
    try:
        getattr(attention, name)
    except ImportError as error:
        assert "[notebooks]" in str(error) and f"attention.{name} needs " in str(error), error
    else:
        raise AssertionError(f"attention.{name} came without the notebooks' packages")
"""


def normal(distribution):
    """The name of a distribution as the package index compares it."""
    return re.sub(r"[-_.]+", "-", distribution).lower()


def needed(requirements):
    """The names of the distributions that are installed with these requirements."""
    found, left = set(), [Requirement(r) for r in requirements]
    while left:
        requirement = left.pop()
        if requirement.marker and not requirement.marker.evaluate({"extra": ""}):
            continue
        name = normal(requirement.name)
        if name not in found:
            found.add(name)
            left += [Requirement(r) for r in importlib.metadata.requires(name) or []]
    return found


def test_the_package_works_with_what_it_requires_and_nothing_else():
    allowed = needed(REQUIRED)
    assert {"torch", "torchvision"} < allowed and "pandas" not in allowed
    tops = importlib.metadata.packages_distributions()
    blocked = {
        top for top, owners in tops.items()
        if top != "attention" and not {normal(owner) for owner in owners} & allowed
    }  # fmt: skip
    assert {"pandas", "scipy", "matplotlib", "timm", "tqdm"} < blocked
    program = BLOCK.format(blocked=blocked) + USE
    done = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_what_the_package_requires_is_in_requirements_too():
    lines = (ROOT / "requirements.txt").read_text(encoding="utf-8").splitlines()
    assert len(REQUIRED) >= 4 and set(REQUIRED) < set(lines)


@pytest.mark.parametrize("face", [attention, explain], ids=lambda face: face.__name__)
def test_what_comes_late_is_typed_and_is_there(face):
    """An editor reads the imports under TYPE_CHECKING: those that are made at first use."""
    tree = ast.parse(Path(face.__file__).read_text(encoding="utf-8"))
    [block] = [node for node in tree.body if isinstance(node, ast.If)]
    assert block.test.id == "TYPE_CHECKING"
    late = {alias.name: node.module for node in block.body for alias in node.names}
    assert late.keys() < set(face.__all__)
    for name, module in late.items():
        face.__dict__.pop(name, None)
        assert getattr(face, name) is getattr(sys.modules[module], name) is face.__dict__[name]
    assert set(face.__all__) <= set(dir(face))
    with pytest.raises(AttributeError, match="has no attribute 'nothing'"):
        face.nothing  # noqa: B018


def test_torchvision_is_imported_where_it_is_used_and_not_before():
    """It takes as long as torch itself: everyone who imports the package would wait for it."""
    program = (
        "import sys, attention\n"
        "from attention import benchmark, data, explain, figures, results, study, training\n"
        "assert 'torchvision' not in sys.modules\n"
    )
    done = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
