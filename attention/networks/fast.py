"""A convolutional network that learns in a few epochs, after airbench94 (Jordan 2024)."""

import torch
from torch import nn

from attention.checks import at_least_one
from attention.networks.resnet import Network, Residual, conv_norm


class Whitening(nn.Conv2d):
    """2×2 convolution to 24 channels, 12 filters and their negatives, that decorrelates the pixels.

    (N, 3, H, W) → (N, 24, H − 1, W − 1)

    Neighbouring pixels and the three colours are nearly equal; a network sees more in what is left
    when that is taken out. `fit` computes the filters from training images. They are not trained.

    Jordan, "94% on CIFAR-10 in 3.29 Seconds on a Single GPU", 2024, arXiv 2404.00498, section 3.1.
    """

    def __init__(self) -> None:
        super().__init__(3, 24, 2)
        self.weight.requires_grad_(False)

    @torch.no_grad()
    def fit(self, images: torch.Tensor, epsilon: float = 5e-4) -> None:
        """Compute the filters from normalised images (N, 3, H, W), H and W at least 2.

        w_i = v_i / √(λ_i + ε), with the eigenvectors v and the eigenvalues λ of the second moments
        E[p pᵀ] of 2×2 patches p: the mean is not taken out, as in the author's code.
        """
        if images.ndim != 4 or images.shape[1] != 3 or min(images.shape[2:]) < 2 or not len(images):
            raise ValueError(
                f"images must be (N, 3, H, W), at least 2×2 pixels, got {tuple(images.shape)}"
            )
        if not images.is_floating_point() or not images.isfinite().all():
            raise ValueError(f"images must be normalised, finite numbers, got {images.dtype}")
        patches = images.unfold(2, 2, 1).unfold(3, 2, 1).permute(0, 2, 3, 1, 4, 5).reshape(-1, 12)
        moments = (patches.T @ patches / len(patches)).double()
        values, vectors = torch.linalg.eigh(moments)
        filters = (vectors / (values + epsilon).sqrt()).T.reshape(12, 3, 2, 2)
        self.weight.copy_(torch.cat([filters, -filters]))


def whiten(network: nn.Module, images: torch.Tensor) -> None:
    """Compute the filters of the network's `Whitening` layers from normalised images, if any."""
    for module in network.modules():
        if isinstance(module, Whitening):
            module.fit(images)


class Scale(nn.Module):
    """x · factor, a constant; any shape."""

    def __init__(self, factor: float) -> None:
        super().__init__()
        self.factor = factor

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x * self.factor

    def extra_repr(self) -> str:
        return f"{self.factor:.3g}"


def fast_resnet(width: int = 64, classes: int = 10) -> Network:
    """A residual network that learns in a few epochs, on two CPU cores or a small GPU.

    Three stages of `width`, 4·`width` and 4·`width` channels. Each begins with a convolution and a
    2×2 max pooling, before the norm, which then has a quarter of the work, and goes on with one
    residual block of one convolution. After airbench94 (Jordan 2024, arXiv 2404.00498), with
    residual branches for attention to stand on, and from it: the whitening layer, convolutions
    that start as the identity, norms whose statistics follow within a few steps, and logits
    divided by 9, so that the first steps change the features and not only the classifier.
    """
    at_least_one("width", width)
    at_least_one("classes", classes)
    inputs, stages = 24, []
    for outputs in (width, 4 * width, 4 * width):
        conv, norm = conv_norm(inputs, outputs, momentum=0.4)
        branch = nn.Sequential(*conv_norm(outputs, outputs, momentum=0.4))
        nn.init.dirac_(conv.weight.data[:inputs])
        nn.init.dirac_(branch[0].weight)
        down = nn.Sequential(conv, nn.MaxPool2d(2), norm, nn.GELU())
        stages.append(nn.Sequential(down, Residual(branch, outputs, activation=nn.GELU)))
        inputs = outputs
    stem = nn.Sequential(Whitening(), nn.GELU())
    classifier = nn.Sequential(nn.Linear(inputs, classes, bias=False), Scale(1 / 9))
    network = Network(stem, stages, nn.AdaptiveMaxPool2d(1), classifier)
    network.config = {"name": "fast_resnet", "arguments": {"width": width, "classes": classes}}
    return network
