"""A study: many networks, several seeds, one list.

work     work() trains what has no record yet, within a `Budget`; `Times` says how long runs
         take
ahead    what a study will train and for about how long, in a line
planned  the comparison of `results.plan` as a list of runs, and what might be objected to it
grids    GRIDS: all lists: these, every mechanism, the ablations, the search, Shapes-10
seeds    which seeds the comparison has, and which a choice

`python -m attention.study` does all of it.
"""

from attention.study import grids
from attention.study.grids import GRIDS
from attention.study.work import Budget, Times, work

__all__ = ["GRIDS", "Budget", "Times", "grids", "work"]
