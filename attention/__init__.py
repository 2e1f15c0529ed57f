"""Attention in image classifiers: what the blocks do, what they cost, what they look at.

gates       scores, the gate, and how its map is applied: what every block is made of
blocks      BLOCKS: SE, ECA, CBAM, BAM, each with paper and equation
networks    the CIFAR ResNet, the fast network, and insert() for anybody's residual network
data        CIFAR-10, image folders, Shapes-10; batches made on the device
training    Run says what to train, fit() trains it and gives a record
explain     capture() gives every map of every block
figures     records and maps in, figure out
records     records into tables
benchmark   what a block and the trainer cost
counting, settings, machine, files, checks, exercises: what these share

>>> network = attention.insert(torchvision.models.resnet18(), "cbam")
>>> with attention.capture(network) as maps:
...     network(images)
"""

from attention.blocks import BAM, BLOCKS, CBAM, ECA, SE
from attention.counting import flops, parameters
from attention.data import load
from attention.explain import capture
from attention.insertion import insert, report
from attention.networks import NETWORKS, fast_resnet, resnet
from attention.settings import home, profile
from attention.trainer import evaluate, predict
from attention.training import Run, fit, trained

__all__ = [
    "BAM", "BLOCKS", "CBAM", "ECA", "NETWORKS", "SE", "Run",
    "capture", "evaluate", "fast_resnet", "fit", "flops", "home", "insert", "load", "parameters",
    "predict", "profile", "report", "resnet", "trained",
]  # fmt: skip
