"""What attention costs, measured: blocks, whole networks, training, answers, the measures of maps.

    python -m attention.benchmark               a look at all of it, in less than two minutes
    python -m attention.benchmark blocks        each block beside timm's and torchvision's, and
                                                fused: times a product with a given gate
    python -m attention.benchmark networks      the papers' blocks in ResNet-20, also fused
    python -m attention.benchmark mechanisms    every block, pooling and transformer in it
    python -m attention.benchmark trainer       fit's loop beside its own step, and beside an
                                                ordinary pipeline of Dataset and DataLoader; on
                                                a GPU, its step with a CUDA graph
    python -m attention.benchmark inference     an answer: as written, fused, folded, onnxruntime
    python -m attention.benchmark growth        cost against batch, channels and side, exponents
    python -m attention.benchmark explain       every measure of a network's maps, 1,000 images

Each writes what it has found to data/benchmarks/, from which RESULTS.md, the README's costs and the
notebooks' are taken, and a table (CSV) and a figure to figures/benchmarks/.

Times of one machine vary with what else it does: what is compared is measured in turns, each figure
is a median over the turns, and ratios are taken within a turn.

timing      a call, calls in turns, a block forward and back
blocks      blocks beside other libraries', fused, beside the bytes that they move
whole       whole networks: a training step, an answer, memory
trainer     `fit` beside its bare step and an ordinary pipeline
answers     answers of a trained network, four ways
sizes       cost against size, with fitted exponents
maps        the measures of maps
"""

from attention.benchmark.answers import answering
from attention.benchmark.blocks import beside_peers
from attention.benchmark.maps import explanation
from attention.benchmark.sizes import growth
from attention.benchmark.timing import in_turns, seconds
from attention.benchmark.trainer import pipeline, replayed, trainer_overhead
from attention.benchmark.whole import (
    costs,
    costs_of,
    eager_and_fused,
    four_blocks,
    inference,
    mechanisms,
)

__all__ = [
    "answering", "beside_peers", "costs", "costs_of", "eager_and_fused", "explanation",
    "four_blocks", "growth", "in_turns", "inference", "mechanisms", "pipeline", "replayed",
    "seconds", "trainer_overhead",
]  # fmt: skip
