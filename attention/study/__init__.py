"""A study: many networks, several seeds, one list.

work     work() trains what has no record yet, within a `Budget`; `Times` says how long runs
         take
ahead    what a study will train and for about how long, in a line
cluster  Cluster: the same on many machines, by Ray
gather   how runs are handed to the cluster, and what it gives is checked and written
remote   what a machine of the cluster does with a run
planned  the comparison of `results.plan` as a list of runs, and what might be objected to it
grids    GRIDS: all lists: these, every mechanism, the ablations, the search, Shapes-10
seeds    which seeds the comparison has, and which a choice

`python -m attention.study` does all of it.
"""

from attention.study import grids
from attention.study.cluster import Cluster
from attention.study.grids import GRIDS
from attention.study.work import Budget, Times, work

__all__ = ["GRIDS", "Budget", "Cluster", "Times", "grids", "work"]
