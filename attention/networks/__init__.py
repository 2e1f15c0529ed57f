"""Networks, and how an attention block gets into one.

resnet       the ResNet for CIFAR-10 (He et al. 2016)
fast         a network that learns in a few epochs, with a whitening layer (Jordan 2024)
photographs  torchvision's ResNet-18, pretrained or not
transformer  ViT (Dosovitskiy et al. 2021), and its hybrid with a convolutional stem
table        NETWORKS: each of them by name
recipes      RECIPES: how each family is trained where a run does not say it
compared     the network and the settings in which the blocks are compared
example      an example is run through a network: what its modules get and give
places       what stands in a place where a block was put; the start as the identity
anatomy      where a network has its stages, branches and pooling; torchvision's and timm's, too
find         the places that insert() was asked for
insert       insert() puts a block there, report() says where and what it costs
fuse         fuse() compiles a network region by region, unfuse() takes it back
"""

from attention.networks.anatomy import PLACES, branches, last_stage, stages
from attention.networks.compared import NETWORK, REDUCTION, SETTINGS
from attention.networks.fast import Whitening, fast_resnet, whiten
from attention.networks.fuse import fuse, lacking, regions, unfuse
from attention.networks.insert import Placement, insert, report
from attention.networks.photographs import IMAGENET, resnet18
from attention.networks.places import Chain, FromIdentity
from attention.networks.recipes import RECIPES
from attention.networks.resnet import Network, Residual, resnet
from attention.networks.table import NETWORKS, Architecture
from attention.networks.transformer import VisionTransformer, convvit, vit

__all__ = [
    "IMAGENET", "NETWORK", "NETWORKS", "PLACES", "RECIPES", "REDUCTION", "SETTINGS", "Architecture",
    "Chain", "FromIdentity", "Network", "Placement", "Residual", "VisionTransformer", "Whitening",
    "branches", "convvit", "fast_resnet", "fuse", "insert", "lacking", "last_stage", "regions",
    "report", "resnet", "resnet18", "stages", "unfuse", "vit", "whiten",
]  # fmt: skip
