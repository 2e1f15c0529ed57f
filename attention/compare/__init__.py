"""Which block for these pictures? A plain network and a few blocks trained on a folder of pictures.

    python -m attention.compare FOLDER --blocks se,eca,cbam --minutes 60

study     compare(): from a folder to the page
plan      what is trained: the network, the blocks, the epochs; how long it will take
rounds    training, a round after the other: every network with the next seed
verdict   differences to the plain network over seeds and pictures; what can be said, in sentences
findings  what the page tells, put together
evidence  answers, mistakes, maps and times of the trained networks
page      one HTML page of it that needs nothing else, made from page.html
"""

from attention.compare.plan import Plan, make_plan
from attention.compare.study import compare
from attention.compare.verdict import Verdict, differences, judge

__all__ = ["Plan", "Verdict", "compare", "differences", "judge", "make_plan"]
