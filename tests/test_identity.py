"""What a block is: the same digest for the same block, another for any other, none for a secret."""

import functools
import os
import subprocess
import sys
import types

import pytest
import torch
from IPython.core.interactiveshell import InteractiveShell
from torch import nn

import attention
from attention.blocks import Block, known, register
from attention.training import identity

CELL = """
import dataclasses
import functools
import math

import numpy as np
import torch
from torch import nn
from torch.nn import functional as F

import attention
from attention.blocks import CHANNEL, Gate

SCALE = 2.0
TABLE = {"weights": torch.tensor([1.0, 2.0]), "names": ("a", "b"), "flags": {"x", "y", "z"}}
FILTER = np.arange(6.0).reshape(2, 3)


def helper(x, power=2):
    return deeper(x) ** power


def deeper(x):
    return x * SCALE


def made(offset):
    module = attention

    def add(x):
        return x + offset + len(module.BLOCKS)
    return add


class Base(nn.Module):
    floor = 0.1

    def norm(self, x):
        return x - self.floor


class Other:
    pass


@dataclasses.dataclass(frozen=True)
class Config:
    rate: int = 3


class Doubled(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x):
        return x

    @staticmethod
    def backward(ctx, gradient):
        return gradient * 4


config, add, shift = Config(8), made(5), functools.partial(torch.add, alpha=6)


class Mine(Base):
    kind = "mine"

    def __init__(self, channels, reduction=7):
        super().__init__()
        self.score = attention.SE(channels, reduction=min(reduction, channels))
        self.gate = Gate(CHANNEL)

    @property
    def gain(self):
        return 1.5

    @staticmethod
    def squash(x):
        return F.relu(x) if x.dtype in (torch.float32, torch.float64) else x

    @classmethod
    def named(cls):
        return cls.kind + "9"

    def forward(self, x):
        '''Text.'''
        weights = [w for w in TABLE["weights"]]
        x = self.squash(helper(self.norm(x))) * self.gain * config.rate + weights[0]
        x = Doubled.apply(x) if self.named() in {"c", "d", "e"} else Mine.squash(x)
        return self.gate(add(shift(self.score(x), float(FILTER[0, 0]))))


def factory(channels):
    class Inner(nn.Module):
        def forward(self, x):
            return x
    return Inner()
"""


def digest(source=CELL, name="Mine", **names):
    names = {"__name__": "__main__"} | names
    exec(compile(source, f"<cell {len(names)}>", "exec"), names)
    return identity.version(known(names[name]))


def changed(*pairs):
    source = CELL
    for old, new in pairs:
        assert source.count(old) == 1, old
        source = source.replace(old, new)
    return source


@pytest.fixture(scope="module")
def original():
    return digest()


def test_the_same_cell_run_again_is_the_same_block(original):
    assert len(original) == 16 and int(original, 16) and digest() == original


def test_comments_formatting_and_lines_do_not_matter(original):
    source = changed(
        ("SCALE = 2.0", "# a comment\n\n\nSCALE = (\n    2.0\n)"),
        ("return x * SCALE", "return (x  # why\n            * SCALE)"),
        ('    kind = "mine"', '    """Text."""\n    kind = "mine"'),
        ("'''Text.'''", "'''Other text.'''"),
        ("class Base", "unused = 3\n\n\nclass Base"),  # what it does not reach
        ("import math\n", ""),
        ("class Inner(nn.Module):", "class Inner(nn.Module):\n        '''Text.'''\n"),
    )
    assert digest(source) == original
    assert digest(source, "factory") == digest(name="factory")


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("SCALE = 2.0", "SCALE = 2"),
        ("torch.tensor([1.0, 2.0])", "torch.tensor([1.0, 2.5])"),
        ("torch.tensor([1.0, 2.0])", "torch.tensor([[1.0, 2.0]])"),
        ("torch.tensor([1.0, 2.0])", "torch.tensor([1.0, 2.0], dtype=torch.float64)"),
        ('("a", "b")', '("b", "a")'),
        ('("a", "b")', '["a", "b"]'),
        ('{"x", "y", "z"}', '{"x", "y"}'),
        ("np.arange(6.0)", "np.arange(1.0, 7.0)"),
        ("power=2", "power=3"),
        ("helper(x, power=2)", "helper(power, x=2)"),
        ("return x * SCALE", "return x / SCALE"),
        ("x + offset", "x - offset"),
        ("made(5)", "made(6)"),
        ("module.BLOCKS", "module.POOLINGS"),
        ("floor = 0.1", "floor = 0.2"),
        ("return x - self.floor", "return x + self.floor"),
        ("Config(8)", "Config(9)"),
        ("gradient * 4", "gradient * 5"),
        ("alpha=6", "alpha=7"),
        ("torch.add,", "torch.sub,"),
        ("class Mine(Base)", "class Mine(Base, Other)"),
        ('kind = "mine"', 'kind = "thine"'),
        ("reduction=7", "reduction=8"),
        ("reduction=7", "*, reduction=7"),
        ("reduction=7", "other=7"),
        ("SE(channels, reduction=min", "SE(channels, bias=min"),
        ("Gate(CHANNEL)", 'Gate("both")'),
        ("attention.SE", "attention.EncodingGate"),
        ("return 1.5", "return 1.6"),
        ('"9"', '"8"'),
        ("F.relu(x)", "F.gelu(x)"),
        ("(torch.float32, torch.float64)", "(torch.float32, torch.float16)"),
        ('{"c", "d", "e"}', '{"c", "d"}'),
        ("[w for w in TABLE", "[2 * w for w in TABLE"),
        ("'''Text.'''", "torch.manual_seed(0)"),
    ],
)
def test_whatever_changes_what_it_computes_gives_another_digest(old, new, original):
    assert digest(changed((old, new))) != original


def test_a_default_of_a_package_block_that_is_used_counts(original, monkeypatch):
    defaults = attention.SE.__init__.__defaults__
    monkeypatch.setattr(attention.SE.__init__, "__defaults__", (8, *defaults[1:]))
    assert digest() != original


def test_what_a_partial_binds_counts_under_a_registered_name_too():
    versions = set()
    for options in ({}, {"dilation": 1}, {"dilation": 4}, {"reduction": 4}):
        register("mine", functools.partial(attention.BAM, **options))
        versions.add(identity.version(known("mine")))
        again = known(functools.partial(attention.BAM, **options))
        assert identity.version(again) in versions
    assert len(versions) == 4


def test_a_block_of_the_package_has_the_version_of_its_row_and_no_other_has():
    for name in (*attention.BLOCKS, *attention.POOLINGS):
        assert identity.version(known(name)) == f"v{known(name).version}"
    assert identity.version(Block("se", attention.SE, "channel", version=3)) != "v3"  # not the row


def test_in_a_notebook_a_class_has_no_source_file_and_its_digest_is_the_same():
    shell = InteractiveShell.instance()
    try:
        digests = []
        for source in (CELL, "\n\n" + CELL, changed(("SCALE = 2.0", "SCALE = 3.0"))):
            shell.run_cell(source).raise_error()
            digests.append(identity.version(known(shell.user_ns["Mine"])))
    finally:
        InteractiveShell.clear_instance()
    assert digests[0] == digests[1] != digests[2]


def test_the_digest_is_the_same_in_every_process(original, tmp_path):
    (tmp_path / "cell.py").write_text(CELL)
    script = """if True:
    import sys
    from attention.blocks import known
    from attention.training import identity
    sys.path.insert(0, sys.argv[1])
    for _ in range(2):  # the second time from the compiled file
        import cell
        print(identity.version(known(cell.Mine)))
        del sys.modules["cell"]
    """
    done = subprocess.run(
        [sys.executable, "-c", script, str(tmp_path)],
        env=os.environ | {"PYTHONHASHSEED": "1"}, capture_output=True, text=True,
    )  # fmt: skip
    assert done.stdout.split() == [original, original], done.stderr


def test_the_program_that_runs_is_ones_own_whatever_has_started_it(original, monkeypatch):
    main = types.ModuleType("__main__")
    main.__file__ = "/usr/lib/site-packages/ipykernel_launcher.py"
    exec(CELL, vars(main))
    monkeypatch.setitem(sys.modules, "__main__", main)
    assert identity.version(known(main.Mine)) == original


@pytest.mark.parametrize(
    "reached",
    [
        "import parts\ndef Mine(channels): return parts.first(channels)",
        "from parts import first\ndef Mine(channels): return first(channels)",
        "def made():\n import parts\n return lambda c: parts.first(c)\nMine = made()",
    ],
)
def test_functions_of_ones_own_module_count_one_by_one(reached, monkeypatch):
    digests = []
    for first, other in ((1, 1), (2, 1), (1, 2)):
        parts = types.ModuleType("parts")
        exec(f"def first(x): return x + {first}\ndef other(x): return x + {other}", vars(parts))
        monkeypatch.setitem(sys.modules, "parts", parts)
        digests.append(digest(reached))
    assert digests[0] != digests[1] and digests[2] == digests[0]


@pytest.mark.parametrize(
    ("line", "use", "named"),
    [
        ("file = open(__file__)", "file.read()", "global file is TextIOWrapper"),
        ("net = nn.Linear(2, 2)", "net(x)", "global net is Linear"),
        ("weight = nn.Parameter(torch.ones(2))", "x * weight", "global weight is Parameter"),
        ("leaf = torch.ones(2, requires_grad=True)", "x * leaf", "global leaf is Tensor"),
        ("noise = torch.Generator()", "torch.rand(2, generator=noise)", "global noise is Gener"),
        ("import random; draw = random.Random(0).random", "draw()", "__self__ is Random"),
        ("steps = iter([1, 2])", "next(steps)", "global steps is list_iterator"),
        ("other = Other()", "other.x", "global other is Other"),
        ("call = Mine(1).forward", "call(x)", "global call.__self__ is Mine"),
        ("class Holder:\n    net = nn.Linear(2, 2)", "Holder.net(x)", "Holder.net is Linear"),
        ("class Holder:\n    things = {Other}", "Holder", "Holder.things is set"),
        ("deeper = functools.lru_cache(made)", "deeper(x)", "global deeper is _lru_cache_wrapper"),
        ("import parity", "list(map(repr, [parity]))", "global parity is module"),
        ("def late(x):\n    import parity\n    return x", "late(x)", "import parity is module"),
        ("@torch.no_grad()\ndef late(x):\n    return x", "late(x)", "closure ctx_factory.__self__"),
    ],
)
def test_what_has_no_digest_is_named_with_the_way_to_it_and_what_to_do(line, use, named):
    source = (
        f"{CELL}\n{line}\nclass Last(nn.Module):\n    def forward(self, x):\n        return {use}"
    )
    with pytest.raises(ValueError, match=f"Last.forward, .*{named}") as raised:
        digest(source, "Last", __file__=__file__)
    assert "pass it in options" in str(raised.value) and len(str(raised.value)) < 500


def test_functions_and_classes_that_know_each_other_end():
    source = """
def Mine(channels, depth=2):
    return Mine(channels, depth - 1) if depth else Other()
class Other:
    def again(self):
        return Mine, Other, friends
friends = [Other]
friends.append(friends)
"""
    assert digest(source) == digest(source) != digest(source.replace("depth=2", "depth=3"))


def test_whatever_the_package_offers_can_be_part_of_a_block():
    for name in attention.blocks.__all__:
        assert digest(f"from attention import blocks\ndef Mine(c): return blocks.{name}(c)")


def test_blocks_of_libraries_are_known_by_name_and_version(monkeypatch):
    versions = {identity.version(known(block)) for block in (nn.Identity, nn.ReLU, nn.SiLU)}
    assert len(versions) == 3
    monkeypatch.setattr(identity, "_distribution", lambda name: f"{name} 99")
    assert identity.version(known(nn.Identity)) not in versions
    assert torch.__version__.split("+")[0] not in identity._of_a_library(nn.Identity)[1]
    monkeypatch.undo()
    assert torch.__version__.split("+")[0] in identity._of_a_library(nn.Identity)[1]
