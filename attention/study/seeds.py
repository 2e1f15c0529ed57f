"""The seeds of a study: 0, 1, 2 … for the comparison, 100, 101, … for whatever is chosen."""

from attention.checks import at_least_one
from attention.settings import profile

SEEDS = {"smoke": 2, "quick": 3, "full": 5}
FIRST_SEED_OF_CHOICE = 100


def seeds(count: int | None = None) -> int:
    """How many seeds a study has: `count`, or as many as this profile sets."""
    return SEEDS[profile()] if count is None else at_least_one("count", count)


def choosing(count: int | None) -> range:
    """The seeds of a choice, as many as asked for."""
    return range(FIRST_SEED_OF_CHOICE, FIRST_SEED_OF_CHOICE + seeds(count))
