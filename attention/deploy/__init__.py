"""What a trained network needs when it leaves the notebook.

save            save_network() writes a network into a folder, load_network() builds it again
rebuild         a network as its configuration tells it
architectures   a network's architecture by name and arguments: found, and built
same            are two networks built alike?
card            what whoever uses a network needs to know: class names, mean and std, size
fold            fold() puts gates that are constant into the layers around them
folded          what became of each gate; a network's structure without some of them
absorb          where a constant can go;   readers: who made a tensor, and who reads it
"""

from attention.deploy.card import Card
from attention.deploy.fold import fold
from attention.deploy.folded import Fold, fold_report, without
from attention.deploy.save import load_network, save_network

__all__ = ["Card", "Fold", "fold", "fold_report", "load_network", "save_network", "without"]
