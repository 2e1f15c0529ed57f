"""Answers to the notebooks' exercises are checked here; an open exercise stops nothing."""

from collections.abc import Callable
from typing import Any


def check(answer: Any, is_right: Callable[[Any], Any], hint: str) -> None:
    """Say whether `answer` is right; `None` means that it is not given yet.

    is_right: a function of the answer. A wrong answer, or one that raises, gets the hint.
    """
    if answer is None:
        print("Not answered yet.")
        return
    try:
        right = bool(is_right(answer))
    except Exception as error:  # a learner's answer may be anything: say what went wrong, go on
        print(f"Not yet: {type(error).__name__}: {error}. {hint}")
        return
    print("Right." if right else f"Not yet. {hint}")
