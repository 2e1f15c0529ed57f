"""The notebooks' exercises: an answer is checked, and the check does not give it away.

ask         check("01.3", answer); how answers are kept as digests, and how an exercise is entered
probes      what the checks of blocks share
channels    the exercises of the notebooks 00 to 02
positions   those of 03 to 05
queries     those of 06 and 07
transformers    those of 06b
evidence    those of 08 to 10
board       leaderboard(): blocks of one's own beside the committed records, on held-out images

What an answer should be stands in solutions/, which the teacher's edition has and the student's
has not.
"""

from attention.exercises import channels, evidence, positions, queries, transformers
from attention.exercises.ask import EXERCISES, check, digests_of
from attention.exercises.board import leaderboard

__all__ = [
    "EXERCISES", "channels", "check", "digests_of", "evidence", "leaderboard", "positions",
    "queries", "transformers",
]  # fmt: skip
