"""The vision transformer for small images, and its hybrid with a convolutional stem."""

import torch
from torch import nn
from torch.nn import functional as F

from attention.blocks.positions import MultiHead, tokens
from attention.checks import at_least_one, divides


class EncoderLayer(nn.Module):
    """z' = z + MultiHead(LN(z)),  z'' = z' + MLP(LN(z')): (N, T, D) → the same shape.

    Dosovitskiy et al. 2021, eq. 2 and 3: the norms come first, the MLP has one hidden layer with a
    GELU.
    """

    def __init__(self, features, heads, ratio=2):
        super().__init__()
        self.norm1, self.norm2 = nn.LayerNorm(features), nn.LayerNorm(features)
        self.attention = MultiHead(features, heads)
        self.mlp = nn.Sequential(
            nn.Linear(features, ratio * features), nn.GELU(), nn.Linear(ratio * features, features)
        )

    def forward(self, z, size):
        normed = self.norm1(z)
        z = z + self.attention(normed, normed, size)
        return z + self.mlp(self.norm2(z))


class VisionTransformer(nn.Module):
    """(N, 3, H, W) → logits (N, classes), through `stem`, tokens, `layers`, `classifier`.

    z_0 = [class token; stem(x) as tokens] + positions,  logits = W LN(z_L)_class

    Dosovitskiy et al., "An Image is Worth 16x16 Words: Transformers for Image Recognition at
    Scale", ICLR 2021, eq. 1–4.

    stem: (N, 3, H, W) → (N, features, h, w), the tokens' map. grid: (h, w) for which position
    embeddings are learned; for another size they are interpolated (section 3.2).
    """

    def __init__(self, stem, features, depth, heads, grid, classes):
        super().__init__()
        self.stem = stem
        self.class_token = nn.Parameter(torch.zeros(1, 1, features))
        self.class_position = nn.Parameter(0.02 * torch.randn(1, 1, features))
        self.positions = nn.Parameter(0.02 * torch.randn(1, features, *grid))
        self.layers = nn.ModuleList(EncoderLayer(features, heads) for _ in range(depth))
        self.norm = nn.LayerNorm(features)
        self.classifier = nn.Linear(features, at_least_one("classes", classes))

    def forward(self, x):
        x = self.stem(x)
        size, positions = x.shape[2:], self.positions
        if size != positions.shape[2:]:
            positions = F.interpolate(positions, size=size, mode="bicubic", align_corners=False)
        first = (self.class_token + self.class_position).expand(len(x), -1, -1).to(x.dtype)
        z = torch.cat([first, tokens(x + positions.to(x.dtype))], 1)
        for layer in self.layers:
            z = layer(z, size)
        return self.classifier(self.norm(z[:, 0]))


def vit(width=192, depth=6, heads=4, patch=4, classes=10):
    """ViT for images of 32×32: 64 patches of 4×4 pixels, each one token.

    width: features of a token. Dosovitskiy et al. 2021, made small: as many layers and features as
    50,000 images can train; the MLP is 2, not 4, times as wide.
    """
    divides("heads", heads, at_least_one("width", width))
    stem = nn.Conv2d(3, width, at_least_one("patch", patch), stride=patch)
    grid = (32 // patch, 32 // patch)
    return VisionTransformer(stem, width, at_least_one("depth", depth), heads, grid, classes)


def convvit(width=192, depth=6, heads=4, classes=10):
    """The same transformer on tokens from a convolutional stem: two 3×3 of stride 2, then 1×1.

    Xiao et al., "Early Convolutions Help Transformers See Better", NeurIPS 2021, section 4.
    """
    divides("heads", heads, at_least_one("width", width))
    layers, inputs = [], 3
    for outputs in (width // 4, width // 2):
        layers += [
            nn.Conv2d(inputs, outputs, 3, stride=2, padding=1, bias=False),
            nn.BatchNorm2d(outputs),
            nn.ReLU(),
        ]
        inputs = outputs
    stem = nn.Sequential(*layers, nn.Conv2d(inputs, width, 1))
    return VisionTransformer(stem, width, at_least_one("depth", depth), heads, (8, 8), classes)
