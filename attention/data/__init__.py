"""Datasets as plain arrays: all images of one size in one uint8 tensor.

dataset    Split and Dataset: what everything else takes; mean and spread of the channels
load       load(): by name or path, from the cache if it has been decoded before
cifar10    CIFAR-10, from disk or from a mirror, every MD5 checked
folder     a folder of pictures as people have them, or a tar or zip of one: see
           trees (what lies in it), layout (which split and class) and decode (the pixels)
shapes10   Shapes-10, drawn here: ten shapes, and the mask of each
batches    training batches made on the device; images in order for evaluation
splits     images held out to choose by, and labels without meaning
write      a dataset as a folder of pictures
"""

from attention.data.batches import Batches, in_order, normalise
from attention.data.dataset import DataError, Dataset, Split, mean_and_std
from attention.data.load import load
from attention.data.shapes10 import shapes10
from attention.data.splits import held_out, random_labels
from attention.data.write import write_folder

__all__ = [
    "Batches", "DataError", "Dataset", "Split", "held_out", "in_order", "load", "mean_and_std",
    "normalise", "random_labels", "shapes10", "write_folder",
]  # fmt: skip
