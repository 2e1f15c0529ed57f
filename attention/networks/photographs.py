"""torchvision's ResNet-18 for photographs, with any number of classes, pretrained or not."""

from torch import nn

from attention.checks import at_least_one

IMAGENET = "IMAGENET1K_V1"  # torchvision's name for the weights: it also fixes the file's hash


def resnet18(
    classes: int = 1000, width: int | None = None, weights: str | None = None
) -> nn.Module:
    """torchvision's ResNet-18 (He et al. 2016): (N, 3, H, W) → (N, classes), maps of H/4 … H/32.

    classes: the last layer is made for them, also where the others are pretrained. width: None
    alone, torchvision has no other. weights: None, or `IMAGENET`, which torchvision takes from its
    cache or downloads, the hash of the file checked.
    """
    from torchvision import models

    at_least_one("classes", classes)
    if width is not None:
        raise ValueError(f"width must be None for torchvision's ResNet-18, got {width!r}")
    if weights is None:
        return models.resnet18(num_classes=classes)
    network = models.resnet18(weights=weights)
    network.fc = nn.Linear(network.fc.in_features, classes)
    return network
