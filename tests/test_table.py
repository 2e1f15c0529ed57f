"""The table of blocks: a row a block, and one for a block of one's own."""

import functools

import pytest
from torch import nn

import attention
from attention.blocks import BLOCKS, FAMILIES, POOLINGS, SE, SSE, Block, known, register


class Mine(nn.Identity):
    pass


def test_every_row_can_be_found_by_its_name_and_by_its_class():
    for name, cls in {**BLOCKS, **POOLINGS}.items():
        row = known(name)
        assert row is known(cls) and row.name == name and row.cls is cls
        assert row.family in FAMILIES and isinstance(row.version, int)


def test_where_the_papers_put_their_blocks():
    for name in BLOCKS:
        between = name in ("bam", "nonlocal")
        row = known(name)
        assert (row.at, row.skip_last) == (("stage", True) if between else ("residual", False))
    assert {known(name).at for name in POOLINGS} == {"pool"}


def test_a_class_that_is_in_no_row_gets_one_of_its_own():
    assert known(Mine) == Block("Mine", Mine, "own", "residual", False, 1)
    sharp = functools.partial(SE, reduction=2)
    assert known(sharp) == Block("partial", sharp, "own")
    assert known(lambda channels: SE(channels)).name == "lambda"
    assert known(type("se", (SE,), {})).name == "own se"  # two blocks never share a name


def test_a_registered_block_is_known_by_name_and_class():
    assert attention.register is register
    register("my gate", Mine, at="stage", family="spatial")
    assert known("my gate") is known(Mine)
    assert known("my gate") == Block("my gate", Mine, "spatial", "stage")
    assert BLOCKS["my gate"] is Mine and "my gate" not in POOLINGS


def test_a_name_of_ones_own_can_be_given_again():
    register("mine", Mine)
    register("mine", SSE, at="pool")
    assert known("mine").cls is SSE and known(SSE).name == "sse"
    assert POOLINGS["mine"] is SSE and "mine" not in BLOCKS


def test_the_tables_are_read_only():
    with pytest.raises(TypeError):
        BLOCKS["mine"] = Mine
    with pytest.raises(TypeError):
        POOLINGS["mine"] = Mine


@pytest.mark.parametrize("block", ["see", "SE", ""])
def test_an_unknown_name_is_answered_with_the_names(block):
    with pytest.raises(ValueError, match="block") as error:
        known(block)
    assert all(word in str(error.value) for word in (repr(block), *BLOCKS, *POOLINGS))


@pytest.mark.parametrize("block", [SE(8), None, 3, ("se",)])
def test_what_makes_no_module_is_no_block(block):
    with pytest.raises(ValueError, match="block") as error:
        known(block)
    assert repr(block) in str(error.value)


@pytest.mark.parametrize(
    "arguments, words",
    [
        ({"name": "se"}, ["name", "'se'"]),
        ({"name": "feature_gate"}, ["name", "'feature_gate'"]),
        *(({"name": name}, ["name", repr(name)]) for name in ("", "a/b", "<b>", " a", None, 3)),
        *(({"cls": cls}, ["cls", repr(cls)]) for cls in (None, "se", 3)),
        ({"cls": nn.Identity()}, ["cls", "Identity()"]),
        *(({"at": at}, ["at", repr(at), "residual, stage, pool"]) for at in ("pre", None, 1)),
        *(({"family": f}, ["family", repr(f), *FAMILIES]) for f in ("gates", None)),
    ],
)
def test_bad_arguments_of_register_are_named_and_nothing_is_registered(arguments, words):
    before = {**BLOCKS, **POOLINGS}
    with pytest.raises(ValueError) as error:
        register(**{"name": "mine", "cls": Mine} | arguments)
    assert all(word in str(error.value) for word in words)
    assert {**BLOCKS, **POOLINGS} == before
