"""The vision transformer for small images, and its hybrid with a convolutional stem."""

import torch
from torch import nn
from torch.nn import functional as F

from attention.blocks import MultiHead, tokens
from attention.checks import at_least, at_least_one, divides, expect_maps, expect_whole_patches

SIDE = 32  # of the images that the position embeddings are learned on


class Patches(nn.Conv2d):
    """The projection E of every patch of P×P pixels: (N, 3, H, W) → (N, features, H/P, W/P).

    Dosovitskiy et al. 2021, eq. 1. Raises ValueError unless H and W are multiples of P.
    """

    def __init__(self, features: int, patch: int) -> None:
        super().__init__(3, features, patch, stride=patch)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        expect_whole_patches(x, self.kernel_size[0])
        return super().forward(x)


class EncoderLayer(nn.Module):
    """z' = z + MultiHead(LN(z)),  z'' = z' + MLP(LN(z')): (N, T, features) → the same shape.

    Dosovitskiy et al. 2021, eq. 2 and 3: the norms come first, the MLP has one hidden layer with a
    GELU, `ratio` times as wide.
    """

    def __init__(self, features: int, heads: int, ratio: int = 2) -> None:
        super().__init__()
        self.norm1, self.norm2 = nn.LayerNorm(features), nn.LayerNorm(features)
        self.attention = MultiHead(features, heads)
        self.mlp = nn.Sequential(
            nn.Linear(features, ratio * features), nn.GELU(), nn.Linear(ratio * features, features)
        )

    def forward(self, z: torch.Tensor, size: tuple[int, int]) -> torch.Tensor:
        """size: (H, W) of the map whose positions are the last H·W tokens; see `Weights`."""
        normed = self.norm1(z)
        z = z + self.attention(normed, normed, size)
        return z + self.mlp(self.norm2(z))


class VisionTransformer(nn.Module):
    """(N, 3, H, W) → logits (N, classes), through `stem`, tokens, `layers`, `classifier`.

    z_0 = [class token; stem(x) as tokens] + positions,  z_l = layer_l(z_l−1),
    logits = W LN(z_L)_class

    Dosovitskiy et al., "An Image is Worth 16x16 Words: Transformers for Image Recognition at
    Scale", ICLR 2021, eq. 1–4.

    stem: (N, 3, H, W) → (N, features, h, w), the tokens' map. grid: (h, w) for which position
    embeddings are learned; for another size they are interpolated (section 3.2). config: the name
    of the function that built it, and its arguments; None for one of one's own.
    """

    config: dict | None = None

    def __init__(
        self,
        stem: nn.Module,
        features: int,
        depth: int,
        heads: int,
        grid: tuple[int, int],
        classes: int,
    ) -> None:
        super().__init__()
        at_least_one("depth", depth)
        self.stem = stem
        self.class_token = nn.Parameter(torch.zeros(1, 1, features))
        self.class_position = nn.Parameter(0.02 * torch.randn(1, 1, features))
        self.positions = nn.Parameter(0.02 * torch.randn(1, features, *grid))
        self.layers = nn.ModuleList(EncoderLayer(features, heads) for _ in range(depth))
        self.norm = nn.LayerNorm(features)
        self.classifier = nn.Linear(features, at_least_one("classes", classes))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        expect_maps(x, 3)
        x = self.stem(x)
        size = x.shape[2:]
        positions = resized(self.positions, size)
        first = (self.class_token + self.class_position).expand(x.shape[0], -1, -1)
        z = torch.cat([first.to(x.dtype), tokens(x + positions.to(x.dtype))], 1)
        for layer in self.layers:
            z = layer(z, size)
        return self.classifier(self.norm(z[:, 0]))


@torch.fx.wrap  # one step of a traced network, which does not know its sizes
def resized(positions: torch.Tensor, size: tuple[int, int]) -> torch.Tensor:
    """Position embeddings (1, features, h, w), interpolated where the size is another."""
    if positions.shape[2:] == size:
        return positions
    return F.interpolate(positions, size=size, mode="bicubic", align_corners=False)


def vit(
    width: int = 192, depth: int = 6, heads: int = 4, patch: int = 4, classes: int = 10
) -> VisionTransformer:
    """ViT for images of 32×32: 64 patches of 4×4 pixels, each one token.

    width: features of a token. patch: pixels of a patch's side; it divides 32. Images of another
    size must be whole patches too.

    Dosovitskiy et al. 2021, made small: as many layers and features as 50,000 images can train; the
    MLP is 2, not 4, times as wide.
    """
    divides("heads", heads, at_least_one("width", width))
    side = SIDE // divides("patch", patch, SIDE)
    stem = Patches(width, patch)
    network = VisionTransformer(stem, width, depth, heads, (side, side), classes)
    arguments = {"width": width, "depth": depth, "heads": heads, "patch": patch, "classes": classes}
    network.config = {"name": "vit", "arguments": arguments}
    return network


def convvit(
    width: int = 192, depth: int = 6, heads: int = 4, classes: int = 10
) -> VisionTransformer:
    """The same transformer on tokens from a convolutional stem: two 3×3 of stride 2, then 1×1.

    Images of any size: a token for every 4×4 pixels, those at the border included.

    Xiao et al., "Early Convolutions Help Transformers See Better", NeurIPS 2021, section 4.
    """
    divides("heads", heads, at_least(4, "width", width))
    layers, inputs = [], 3
    for outputs in (width // 4, width // 2):
        layers += [
            nn.Conv2d(inputs, outputs, 3, stride=2, padding=1, bias=False),
            nn.BatchNorm2d(outputs),
            nn.ReLU(),
        ]
        inputs = outputs
    stem = nn.Sequential(*layers, nn.Conv2d(inputs, width, 1))
    network = VisionTransformer(stem, width, depth, heads, (SIDE // 4, SIDE // 4), classes)
    arguments = {"width": width, "depth": depth, "heads": heads, "classes": classes}
    network.config = {"name": "convvit", "arguments": arguments}
    return network
