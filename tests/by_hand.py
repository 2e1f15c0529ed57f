"""The layers of convolutional networks, written out, and networks whose layers all matter."""

import torch
from torch import nn


def randomise_norms(network):
    """Every BatchNorm gets weights and statistics that matter; the network, in eval mode."""
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            for values in (module.weight, module.bias, module.running_mean):
                nn.init.normal_(values, 0.3, 0.5)
            nn.init.uniform_(module.running_var, 0.5, 2)
    return network.eval()


def conv(x, layer):
    """A convolution with "same" padding, as a product with all windows."""
    stride, size = layer.stride[0], layer.kernel_size[0]
    columns = nn.functional.unfold(x, size, padding=size // 2, stride=stride)
    out = layer.weight.flatten(1) @ columns
    return out.view(len(x), -1, *((extent + stride - 1) // stride for extent in x.shape[2:]))


def norm(x, layer):
    """BatchNorm in eval mode."""

    def view(t):
        return t.view(1, -1, 1, 1)

    x = (x - view(layer.running_mean)) / (view(layer.running_var) + layer.eps).sqrt()
    return x * view(layer.weight) + view(layer.bias)


def padded(x, channels):
    """He et al.'s option A, one value at a time: every second position, new channels of zero."""
    n, old, height, width = x.shape
    out = torch.zeros(n, channels, (height + 1) // 2, (width + 1) // 2, dtype=x.dtype)
    for c in range(old):
        for i in range(out.shape[2]):
            for j in range(out.shape[3]):
                out[:, c, i, j] = x[:, c, 2 * i, 2 * j]
    return out
