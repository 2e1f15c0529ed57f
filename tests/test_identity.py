"""What a block is: the same digest for the same block, another for any other, none for a secret."""

import functools
import os
import subprocess
import sys
import textwrap

import pytest
import torch
from IPython.core.interactiveshell import InteractiveShell
from torch import nn

import attention
from attention.blocks import Block, known, register
from attention.training import identity

CELL = """
import functools
import math
import random

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
    def add(x):
        return x + offset
    return add


class Base(nn.Module):
    floor = 0.1

    def norm(self, x):
        return x - self.floor


class Settings:
    def __init__(self):
        self.rate = 3


class Scaled:
    def __init__(self, factor):
        self.factor = factor

    def __call__(self, x):
        return x * self.factor


settings, scaled, add = Settings(), Scaled(4), made(5)
shift = functools.partial(torch.add, alpha=6)


class Mine(Base):
    kind = "mine"

    def __init__(self, channels, reduction=7):
        super().__init__()
        self.score = attention.SE(channels, min(reduction, channels))
        self.gate = Gate(CHANNEL)

    @property
    def gain(self):
        return 1.5

    @staticmethod
    def squash(x):
        return F.relu(x) if x.dtype in {torch.float32, torch.float64} else x

    @functools.lru_cache
    def width(self):
        return 8

    def forward(self, x):
        '''Text.'''
        weights = [w for w in TABLE["weights"]]
        x = self.squash(helper(self.norm(x))) * self.gain * settings.rate + weights[0]
        return self.gate(scaled(add(shift(self.score(x), float(FILTER[0, 0])))))
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
    assert len(original) == 16 and int(original, 16)
    assert digest() == original


def test_comments_formatting_and_lines_do_not_matter(original):
    source = changed(
        ("SCALE = 2.0", "# a comment\n\n\nSCALE = (\n    2.0\n)"),
        ("return x * SCALE", "return (x  # why\n            * SCALE)"),
        ('    kind = "mine"', '    """Text."""\n    kind = "mine"'),
        ("'''Text.'''", "'''Other text.'''"),
    )
    assert digest(source) == original
    moved = changed(("class Base", "unused = 3\n\n\nclass Base"), ("import math\n", ""))
    assert digest(moved) == original  # what it does not reach


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("SCALE = 2.0", "SCALE = 2"),
        ("SCALE = 2.0", "SCALE = 2.5"),
        ("torch.tensor([1.0, 2.0])", "torch.tensor([1.0, 2.5])"),
        ("torch.tensor([1.0, 2.0])", "torch.tensor([[1.0, 2.0]])"),
        ("torch.tensor([1.0, 2.0])", "torch.tensor([1.0, 2.0], dtype=torch.float64)"),
        ('("a", "b")', '("b", "a")'),
        ('("a", "b")', '["a", "b"]'),
        ('{"x", "y", "z"}', '{"x", "y"}'),
        ("np.arange(6.0)", "np.arange(1.0, 7.0)"),
        ("power=2", "power=3"),
        ("return x * SCALE", "return x / SCALE"),
        ("return x + offset", "return x - offset"),
        ("made(5)", "made(6)"),
        ("floor = 0.1", "floor = 0.2"),
        ("return x - self.floor", "return x + self.floor"),
        ("self.rate = 3", "self.rate = 4"),
        ("Scaled(4)", "Scaled(5)"),
        ("return x * self.factor", "return x / self.factor"),
        ("alpha=6", "alpha=7"),
        ("torch.add,", "torch.sub,"),
        ("class Mine(Base)", "class Mine(Base, Scaled)"),
        ('kind = "mine"', 'kind = "thine"'),
        ("reduction=7", "reduction=8"),
        ("reduction=7", "*, reduction=7"),
        ("reduction=7", "other=7"),
        ("Gate(CHANNEL)", 'Gate("both")'),
        ("attention.SE", "attention.EncodingGate"),
        ("return 1.5", "return 1.6"),
        ("F.relu(x)", "F.gelu(x)"),
        ("{torch.float32, torch.float64}", "{torch.float32, torch.float16}"),
        ("return 8", "return 9"),
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


def test_the_parts_of_a_partial_count():
    versions = {
        identity.version(known(functools.partial(attention.BAM, **options)))
        for options in ({}, {"dilation": 1}, {"dilation": 4}, {"reduction": 4})
    }
    assert len(versions) == 4
    one, other = (known(functools.partial(attention.BAM, dilation=1)) for _ in range(2))
    assert identity.version(one) == identity.version(other)


def test_a_name_of_ones_own_for_a_package_block_is_not_that_block():
    register("narrow", functools.partial(attention.SE, reduction=2))
    one = identity.version(known("narrow"))
    register("narrow", functools.partial(attention.SE, reduction=4))
    assert identity.version(known("narrow")) != one


def test_a_block_of_the_package_has_the_version_of_its_row():
    for name in (*attention.BLOCKS, *attention.POOLINGS):
        if name != "narrow":
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
    script = """
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
        [sys.executable, "-c", textwrap.dedent(script), str(tmp_path)],
        env=os.environ | {"PYTHONHASHSEED": "1"}, capture_output=True, text=True,
    )  # fmt: skip
    assert done.stdout.split() == [original, original], done.stderr


def test_functions_of_ones_own_module_count_one_by_one(tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(tmp_path)
    source = """
    import parts_of_mine
    def Mine(channels):
        from parts_of_mine import last
        return last(parts_of_mine.first(channels))
    """
    digests = []
    for first, last, other in ((1, 1, 1), (2, 1, 1), (1, 2, 1), (1, 1, 2)):
        (tmp_path / "parts_of_mine.py").write_text(
            f"def first(x): return x + {first}\n"
            f"def last(x): return x + {last}\n"
            f"def other(x): return x + {other}\n"
        )
        for cached in tmp_path.glob("__pycache__/*"):
            cached.unlink()
        sys.modules.pop("parts_of_mine", None)
        digests.append(digest(textwrap.dedent(source)))
    assert len(set(digests[:3])) == 3 and digests[3] == digests[0]


@pytest.mark.parametrize(
    ("line", "use", "named"),
    [
        ("file = open(__file__)", "file.read()", "global file is TextIOWrapper"),
        ("net = nn.Linear(2, 2)", "net(x)", "global net is Linear"),
        ("weight = nn.Parameter(torch.ones(2))", "x * weight", "global weight is Parameter"),
        ("noise = torch.Generator()", "torch.rand(2, generator=noise)", "global noise is Gener"),
        ("noise = np.random.default_rng(0)", "noise.normal()", "global noise is Generator"),
        ("noise = random.Random(0)", "noise.random()", "global noise is Random"),
        ("draw = random.Random(0).random", "draw()", "global draw.*self.* is Random"),
        ("steps = (i for i in range(3))", "next(steps)", "global steps is generator"),
        ("steps = iter([1, 2])", "next(steps)", "global steps is list_iterator"),
        ("class Holder:\n    net = nn.Linear(2, 2)", "Holder.net(x)", "Holder.net is Linear"),
        ("import threading; lock = threading.Lock()", "lock.acquire()", "global lock is lock"),
        ("secret = np.frompyfunc(lambda x: x, 1, 1)", "secret(x)", "global secret is ufunc"),
        ("import parity", "list(map(repr, [parity]))", "global parity is module"),
    ],
)
def test_what_has_no_digest_is_named_with_the_way_to_it_and_what_to_do(line, use, named):
    head = CELL.split("SCALE =")[0]
    source = f"""
class Mine(nn.Module):
    def __init__(self, channels):
        super().__init__()

    def forward(self, x):
        return x, {use}
"""
    with pytest.raises(ValueError, match=f"Mine.forward, {named}|{named}") as raised:
        digest(f"{head}\n{line}\n{source}", __file__=__file__)
    assert "pass it in options" in str(raised.value) and len(str(raised.value)) < 500


def test_a_decorator_of_a_library_hides_nothing():
    source = """
    import contextlib, torch
    from torch import nn
    class Mine(nn.Module):
        def __init__(self, channels):
            super().__init__()
        @torch.no_grad()
        def forward(self, x):
            return x * NUMBER
    """
    digests = [digest(textwrap.dedent(source).replace("NUMBER", n)) for n in ("1", "2", "2")]
    assert digests[0] != digests[1] == digests[2]


def test_what_blocks_are_made_of_has_a_digest():
    source = """
    import collections, dataclasses, enum, functools, re, typing
    from pathlib import Path
    import numpy as np, torch
    import scipy.special
    from torch.nn import functional as F

    Point = collections.namedtuple("Point", "a b")

    @dataclasses.dataclass
    class Config:
        size: int | None = None
        names: list = dataclasses.field(default_factory=list)

    class Kind(enum.Enum):
        FIRST = 1
        SECOND = 2

    class Doubled(torch.autograd.Function):
        @staticmethod
        def forward(ctx, x):
            return x

        @staticmethod
        def backward(ctx, gradient):
            return gradient * 2

    class Table(dict):
        extra = 3

    kind, config, point = Kind.FIRST, Config(4), Point(1, 2)
    apply, table = Doubled.apply, Table(a=1)
    functions = [torch.sigmoid, F.gelu, F.max_pool2d, np.exp, scipy.special.expit, lambda x: x + 5]
    things = [re.compile("a"), Path("a"), torch.channels_last, torch.float16, torch.device("cpu"),
              np.dtype("f4"), np.float32(1), range(3), slice(1, 2), torch.Size([1]), int | str]
    counts, made = collections.Counter("aab"), Table.fromkeys

    def Mine(channels):
        return kind, config, point, apply, functions, things, counts, table, made
    """
    source = textwrap.dedent(source)
    changes = [
        ("Kind.FIRST,", "Kind.SECOND,"), ("SECOND = 2", "SECOND = 3"), ("Config(4)", "Config(5)"),
        ("size: int | None = None", "size: int | None = 0"), ("Point(1, 2)", "Point(1, 3)"),
        ("gradient * 2", "gradient * 3"), ("Table(a=1)", "Table(a=2)"), ("extra = 3", "extra = 4"),
        ("np.exp", "np.log"), ("torch.sigmoid", "torch.tanh"), ("x + 5", "x + 6"),
        ('compile("a")', 'compile("b")'), ("float16", "bfloat16"),
        ("channels_last", "preserve_format"),
        ('Path("a")', 'Path("b")'), ("np.float32(1)", "np.float32(2)"), ("range(3)", "range(4)"),
        ('"aab"', '"abb"'), ("int | str", "int | float"),
    ]  # fmt: skip
    sources = [source, *(source.replace(*change) for change in changes)]
    assert len({digest(text) for text in sources}) == len(sources) == len(set(sources))
    assert digest(source) == digest(source)


def test_a_function_that_calls_itself_and_classes_that_know_each_other_end():
    source = """
    def Mine(channels, depth=2):
        return Mine(channels, depth - 1) if depth else Other()
    class Other:
        def again(self):
            return Mine, Other, friends
    friends = [Other]
    friends.append(friends)
    """
    assert digest(textwrap.dedent(source)) == digest(textwrap.dedent(source))


def test_blocks_of_libraries_are_known_by_name_and_version():
    timm_layers = pytest.importorskip("timm.layers")
    versions = {
        identity.version(known(block))
        for block in (timm_layers.EcaModule, timm_layers.SEModule, nn.Identity)
    }
    assert len(versions) == 3
    assert torch.__version__.split("+")[0] in identity._library(nn.Identity)[1]
