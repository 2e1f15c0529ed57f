"""Attention in image classifiers: what the blocks do, what they cost, what they look at.

gates       scores, the gate, and how its map is applied: what every gating block is made of
positions   from queries to positions: additive, scaled dot-product and multi-head attention
mixing      blocks that mix positions: non-local, self-attention, global context
local       self-attention to the window around each position
encoding    the context-encoding score: positions told against codewords
hybrid      one block for every point of the space that the scores span
blocks      BLOCKS: every block by name, each with paper and equation
pooling     POOLINGS: attention in place of the global average pooling
insertion   insert() puts them into anybody's residual network
networks    NETWORKS: the CIFAR ResNet and the fast network
transformer ViT, and its hybrid with a convolutional stem
data        CIFAR-10, image folders, Shapes-10; batches made on the device
training    Run says what to train, fit() trains it and gives a record
splits      images held out to choose by, and labels without meaning
grids       what a study trains: the comparison, the search, the ablations
study       many runs: what is missing, in order, shared by processes, within a budget
archive     all records as one file
explain     capture() gives every map of every block; Grad-CAM; the measures of an explanation
survey      every map of every trained network measured, and kept
findings    what a survey has found, as tables
figures     records and maps in, figure out
records     records into tables
statistics  what the tables say: paired differences, ranks, what fits a budget
trials      a search, its winner, and the verdict
overview    the study in one table
benchmark   what a block and the trainer cost
counting, memory   parameters, FLOPs, the largest tensor that a computation makes
settings, machine, files, checks, exercises: what these share

>>> network = attention.insert(torchvision.models.resnet18(), "cbam")
>>> with attention.capture(network) as maps:
...     network(images)
"""

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
from attention.data import load
from attention.explain import capture, grad_cam, rollout
from attention.networks import NETWORKS, convvit, fast_resnet, insert, report, resnet, vit
from attention.settings import home, profile
from attention.training import Run, comparison, evaluate, fit, predict, trained

__all__ = [
    "BAM", "BLOCKS", "CBAM", "ECA", "ELA", "NETWORKS", "POOLINGS", "SE", "SSE",
    "CoordinateAttention", "DotProductGate", "EncodingGate", "GlobalContext", "Hybrid",
    "LocalAttention", "NonLocal", "Run", "SelfAttention", "SimAM", "SpatialGate",
    "capture", "comparison", "convvit", "evaluate", "fast_resnet", "fit", "flops", "grad_cam",
    "home", "insert", "load", "parameters", "predict", "profile", "register", "report", "resnet",
    "rollout", "trained", "vit",
]  # fmt: skip
