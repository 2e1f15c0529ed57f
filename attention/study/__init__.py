"""A study: many networks, several seeds, one list.

work    work() trains what has no record yet, within a `Budget`; `Times` says how long runs take
grids   GRIDS: the lists: the comparison, the ablations, the search, and the comparison on Shapes-10

`python -m attention.study` does all of it.
"""

from attention.study import grids
from attention.study.grids import GRIDS
from attention.study.work import Budget, Times, work

__all__ = ["GRIDS", "Budget", "Times", "grids", "work"]
