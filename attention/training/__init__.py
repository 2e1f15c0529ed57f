"""Train a network: a run says what, fit() does it, and a record holds what came out.

run         Run: what to train, as plain data
keys        key(): the name of the files of a run
identity    what a block is: its version, or a digest of a block of one's own
compared    compared(): the run of a block in the setting in which all are compared
fit         fit(): a run's record, trained if there is none; recorded(): not trained; trained(): its
            network; Files
pretrained  pretrained(): a network that comes trained with the repository
trainer     the loop: epochs, steps, the schedule, the checkpoint; evaluate(), predict()
ahead       how long a run will take, and the line that says so before it begins
machine     what the machine is and what it is fast in
compiled    worth_compiling(): whether a training pays for the compiler
graphs      Replayed: gradients on a GPU, recorded once as a CUDA graph
"""

from attention.training.ahead import duration
from attention.training.compared import compared
from attention.training.fit import Files, fit, recorded, trained
from attention.training.graphs import Replayed
from attention.training.keys import key
from attention.training.pretrained import pretrained
from attention.training.run import Options, Run
from attention.training.trainer import Trainer, evaluate, predict

__all__ = [
    "Files", "Options", "Replayed", "Run", "Trainer", "compared", "duration", "evaluate", "fit",
    "key", "predict", "pretrained", "recorded", "trained",
]  # fmt: skip
