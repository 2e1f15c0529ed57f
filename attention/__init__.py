"""Attention in image classifiers: what the blocks do, what they cost, what they look at.

blocks      the attention blocks, one paper a file: nothing but torch
networks    the networks they stand in, and insert(), which puts them there
data        CIFAR-10, folders of pictures, Shapes-10; batches made on the device
training    Run says what to train, fit() trains it: a record and the weights
explain     capture() gives every map of every block; Grad-CAM; the measures of an explanation
deploy      what a network needs when it leaves the notebook: saved, built again, folded
results     records into tables, statistics, findings
study       many runs: what is missing, in order, within a budget
figures     tables and maps in, figure out
compare     which block for a folder of pictures: from the folder to one page
survey      every map of every trained network measured, and kept
benchmark   what a block and the trainer cost
checks, files, cost, settings, extras, exercises    what these share

>>> network = attention.insert(torchvision.models.resnet18(), "cbam")
>>> with attention.capture(network) as maps:
...     network(images)
"""

from typing import TYPE_CHECKING

from attention.blocks import (
    BAM,
    BLOCKS,
    CBAM,
    ECA,
    ELA,
    POOLINGS,
    SE,
    SSE,
    CoordinateAttention,
    DotProductGate,
    EncodingGate,
    Gate,
    GlobalContext,
    Hybrid,
    LocalAttention,
    NonLocal,
    SelfAttention,
    SimAM,
    SpatialGate,
    register,
)
from attention.cost import flops, parameters
from attention.deploy import fold, fold_report, load_network, save_network
from attention.explain import capture, constancy, grad_cam, rollout
from attention.extras import at_first_use
from attention.networks import convvit, fast_resnet, fuse, insert, report, resnet, unfuse, vit
from attention.settings import profile

if TYPE_CHECKING:
    from attention.data import load
    from attention.training import Run, compared, evaluate, fit, predict, pretrained, trained

__all__ = [
    "BAM", "BLOCKS", "CBAM", "ECA", "ELA", "POOLINGS", "SE", "SSE",
    "CoordinateAttention", "DotProductGate", "EncodingGate", "Gate", "GlobalContext", "Hybrid",
    "LocalAttention", "NonLocal", "Run", "SelfAttention", "SimAM", "SpatialGate",
    "capture", "compared", "constancy", "convvit", "evaluate", "fast_resnet", "fit",
    "flops", "fold", "fold_report", "fuse", "grad_cam", "insert", "load", "load_network",
    "parameters", "predict", "pretrained", "profile", "register", "report", "resnet", "rollout",
    "save_network", "trained", "unfuse", "vit",
]  # fmt: skip

# These need the notebooks' packages; the blocks, `insert`, `capture` and `save_network` do not.
__getattr__ = at_first_use(
    __name__,
    {
        "data": "attention.data",
        "training": "attention.training",
        "load": "attention.data",
        **dict.fromkeys(
            ("Run", "compared", "evaluate", "fit", "predict", "pretrained", "trained"),
            "attention.training",
        ),
    },
)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
