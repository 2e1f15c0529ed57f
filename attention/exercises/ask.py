"""check("01.3", answer): says whether an answer is right, and never what the answer is.

An exercise either knows a property that the answer must have (of a function or a block that the
student writes), or digests of numbers and words. A digest keeps the answer from the eye of whoever
reads this package; it is no lock: who lets a machine try all numbers finds them.
"""

import copy
import dataclasses
import hashlib
import math
import numbers
from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import nn

from attention.checks import one_of

ROUNDS = 1000  # of the digest: a hundredth of a second an answer


@dataclasses.dataclass(frozen=True)
class Exercise:
    """wants: the form of the answer, in words. hint: where to look, without the answer.

    fault: a function of the answer; None when it is right, else what is wrong with it, in words.
    """

    wants: str
    hint: str
    fault: Callable[[Any], str | None]


EXERCISES: dict[str, Exercise] = {}


def check(key: str, answer: Any) -> None:
    """Say whether `answer` is right; None, also inside a tuple, means that it is not given yet.

    key: the notebook and the number of the exercise, "01.3". Raises a ValueError for a key that
    there is not; an answer, whatever it is, raises nothing.
    """
    exercise = EXERCISES[one_of("key", key, EXERCISES)]
    if answer is None or (isinstance(answer, tuple) and any(part is None for part in answer)):
        print(f"{key}: not answered yet.")
        return
    try:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            # a copy: the block of the student keeps its weights
            own = copy.deepcopy(answer) if isinstance(answer, nn.Module) else answer
            fault = exercise.fault(own)
    except Exception as error:  # a learner's answer may be anything: say what went wrong, go on
        fault = f"{type(error).__name__}: {error}"
    if fault is None:
        print(f"{key}: right.")
        return
    print(f"{key}: not yet: {fault}")
    print(f"      asked for: {exercise.wants}")
    print(f"      hint: {exercise.hint}")


def exercise(key: str, wants: str, hint: str) -> Callable[[Callable], Callable]:
    """Enter a function of the answer as the exercise `key`; it gives None or what is wrong."""

    def enter(fault: Callable[[Any], str | None]) -> Callable[[Any], str | None]:
        EXERCISES[key] = Exercise(wants, hint, fault)
        return fault

    return enter


def numbers_by_digest(
    key: str, wants: str, hint: str, digests: Iterable[str], step: float = 0
) -> None:
    """Enter an exercise whose answer is a number, or a tuple with one for each of `digests`.

    step: how exact the answer must be. It falls into a bucket of this width, and the buckets beside
        the right one count: off by a step is right, off by two is not. 0: exactly the number.
    """
    digests = tuple(digests)

    def fault(answer: Any) -> str | None:
        given = answer if isinstance(answer, list | tuple) else (answer,)
        if len(given) != len(digests):
            return f"{len(digests)} numbers are asked for, {len(given)} came"
        places = range(len(digests))
        wrong = [
            place + 1
            for place in places
            if digests[place] not in _digests(key, place, given[place], step)
        ]
        if not wrong:
            return None
        if len(digests) == 1:
            return "it is another number"
        return f"other numbers are right in the places {', '.join(map(str, wrong))}"

    EXERCISES[key] = Exercise(wants, hint, fault)


def letters_by_digest(key: str, wants: str, hint: str, digest: str) -> None:
    """Enter an exercise whose answer is a choice of letters, in any order: "bd"."""

    def fault(answer: Any) -> str | None:
        letters = "".join(sorted(set(answer.lower()) - set(" ,")))
        return None if _digest(key, 0, letters) == digest else "it is another choice"

    EXERCISES[key] = Exercise(wants, hint, fault)


def digests_of(key: str, answer: Any, step: float = 0) -> tuple[str, ...]:
    """What to enter for an answer: for who writes an exercise. answer: as the student gives it."""
    if isinstance(answer, str):
        return (_digest(key, 0, "".join(sorted(answer))),)
    given = answer if isinstance(answer, list | tuple) else (answer,)
    return tuple(_digests(key, place, value, step)[0] for place, value in enumerate(given))


def _digests(key, place, value, step):
    """Of the bucket that a number lies in, and of the two beside it."""
    if isinstance(value, torch.Tensor):
        value = value.item()
    if isinstance(value, bool) or not isinstance(value, numbers.Real) or not math.isfinite(value):
        raise TypeError(f"a number is asked for, {value!r} came")
    if not step:
        whole = int(value) == value
        return [_digest(key, place, str(int(value)) if whole else str(float(value)))]
    bucket = round(value / step)
    return [_digest(key, place, str(bucket + by)) for by in (0, -1, 1)]


def _digest(key, place, text):
    """The exercise and the place are the salt: the same number has another digest elsewhere."""
    salt = f"{key} {place}".encode()
    return hashlib.pbkdf2_hmac("sha256", text.encode(), salt, ROUNDS)[:6].hex()
