"""Checks of arguments: what passes comes back, what does not is named with its value."""

import math

import numpy as np
import pytest
import torch

from attention import checks

NAMES = ("avg", "max")
# a check, a value that it refuses, and what its message must say
REFUSED = [
    *((lambda v: checks.at_least(3, "it", v), v) for v in (2, -1, np.int64(2))),
    *((checks.at_least_one, v) for v in (0, True, np.True_, 1.0, np.float64(2), math.nan)),
    *((checks.at_least_one, v) for v in ("1", None, [1], torch.tensor([1, 2]))),
    *((lambda v: checks.between(2, 4, "it", v), v) for v in (1, 5, 3.0, False, math.inf)),
    *((checks.odd, v) for v in (0, 2, -1, 3.0, True)),
    *((lambda v: checks.divides("it", v, 8), v) for v in (0, 3, 16, 2.0, True)),
    *((checks.finite, v) for v in (math.nan, math.inf, "1", None, True, np.True_, 1j)),
    *((checks.positive, v) for v in (0, -0.5, math.nan, math.inf, True)),
    *((checks.not_negative, v) for v in (-1e-9, math.nan, math.inf, False)),
    *((checks.fraction, v) for v in (0, 1, 95, -0.1, math.nan, True)),
    *((lambda v: checks.one_of("it", v, NAMES), v) for v in ("av", "", None, ["avg"], 0)),
    *((lambda v: checks.some_of("it", v, NAMES), v) for v in ("avg", (), ("avg", "avg"), None)),
    *((lambda v: checks.some_of("it", v, NAMES), v) for v in (("avg", "min"), [["avg"]], 3)),
]
PASSES = [
    (lambda v: checks.at_least(3, "it", v), (3, 10**20, np.uint8(4))),
    (checks.at_least_one, (1, np.int64(7))),
    (lambda v: checks.between(2, 4, "it", v), (2, 3, 4)),
    (checks.odd, (1, 3, np.int32(5))),
    (lambda v: checks.divides("it", v, 8), (1, 2, 8)),
    (checks.finite, (-1, 0.5, np.float32(2))),
    (checks.positive, (1e-9, 3)),
    (checks.not_negative, (0, 0.0, 2)),
    (checks.fraction, (1e-9, 0.95)),
    (lambda v: checks.one_of("it", v, dict.fromkeys(NAMES)), NAMES),
    (lambda v: checks.some_of("it", v, NAMES), (("avg",), ("max", "avg"))),
]


def called(check, value):
    return check("it", value) if check.__name__ != "<lambda>" else check(value)


@pytest.mark.parametrize("check, value", REFUSED)
def test_what_is_refused_is_named_with_its_value(check, value):
    with pytest.raises(ValueError, match="^it must be|^it must divide") as error:
        called(check, value)
    assert repr(value) in str(error.value)


@pytest.mark.parametrize("check, values", PASSES)
def test_what_passes_comes_back(check, values):
    assert [called(check, value) for value in values] == list(values)


def test_a_whole_number_of_numpys_comes_back_as_int_and_a_list_of_names_as_a_tuple():
    assert type(checks.at_least_one("it", np.int64(3))) is int
    assert checks.some_of("it", ["max", "avg"], iter(NAMES)) == ("max", "avg")


@pytest.mark.parametrize("check", [checks.one_of, checks.some_of])
def test_names_are_listed(check):
    with pytest.raises(ValueError, match="of avg, max"):
        check("it", "min", NAMES)


@pytest.mark.parametrize(
    "x, message",
    [
        (torch.zeros(2, 3, 4, 4), r"\(N, 8, H, W\), got \(2, 3, 4, 4\)"),
        (torch.zeros(8, 4, 4), r"\(8, 4, 4\)"),
        (torch.zeros(2, 8, 0, 4), r"\(2, 8, 0, 4\)"),
        (torch.zeros(2, 8, 4, 4, dtype=torch.uint8), "floating-point.*uint8"),
        (np.zeros((2, 8, 4, 4)), "ndarray"),
        ([[1.0]], "list"),
    ],
)
def test_what_is_no_feature_map_is_refused(x, message):
    with pytest.raises(ValueError, match=message):
        checks.expect_maps(x, 8)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
def test_feature_maps_of_any_batch_and_floating_type_pass(dtype):
    assert checks.expect_maps(torch.zeros(0, 8, 1, 5, dtype=dtype), 8) is None
