"""From records to what can be said: nothing here trains, and nothing measures.

tables      records into typed tables, one row a run; short labels; measured costs
statistics  pairs of networks over seeds: differences, their tests, and equivalence
power       what a study of this size can find, and the seeds that it takes
ranking     how stable the order of the networks is
guide       what to take within a budget
overview    the study in one table, and in words
classes     which classes a network confuses
trials      a search, its winner, and the verdict
choices     one change inside a block, or of the recipe, beside what is compared
fresh       the block that led, on fresh seeds
lengths     networks of the comparison that were trained for longer as well
findings    what a survey of maps has found
everything  every network that was trained, in tables
report      RESULTS.md, written from the records
readme      the answer in the README, the same as in RESULTS.md
speed       what attention costs, from what the benchmark has measured
scale       what a study of a thousand runs costs, simulated and on paper
answer      the comparison's answer: the tests of the plan, in a table and in sentences
plan        what the comparison will ask, and by which test, written before its runs
"""

from attention.results import (
    answer,
    choices,
    findings,
    fresh,
    guide,
    lengths,
    overview,
    plan,
    power,
    ranking,
    statistics,
    trials,
)
from attention.results.classes import by_class, confusion, confusions
from attention.results.tables import (
    COSTS,
    beside,
    frame,
    histories,
    labels,
    plain_networks,
    read,
    read_costs,
)

__all__ = [
    "COSTS", "answer", "beside", "by_class", "choices", "confusion", "confusions", "findings",
    "frame", "fresh", "guide", "histories", "labels", "lengths", "overview", "plain_networks",
    "plan", "power", "ranking", "read", "read_costs", "statistics", "trials",
]  # fmt: skip
