"""The fast network against its layers written out, and its whitening against linear algebra."""

import numpy as np
import pytest
import torch
from by_hand import conv, norm, randomise_norms
from torch import nn
from torch.nn import functional as F

from attention.networks import NETWORKS, Whitening, fast_resnet, resnet, whiten

EXACT = dict(rtol=1e-9, atol=1e-9)


def pictures():
    """Ramps of every colour, with a mean, and noise so weak that epsilon matters beside it."""
    across, down = torch.linspace(-1, 1, 9), torch.linspace(-1, 1, 11)[:, None]
    level, slope, tilt = torch.randn(3, 6, 3, 1, 1)
    ramps = 0.5 + 0.5 * level + slope * across + tilt * down
    return ramps + 0.02 * torch.randn_like(ramps)


def second_moments(images):
    """E[p pᵀ] over all 2×2 patches p (channel, row, column), patch by patch."""
    images = images.double().numpy()
    count, _, height, width = images.shape
    patches = [
        images[n, :, i : i + 2, j : j + 2].reshape(12)
        for n in range(count)
        for i in range(height - 1)
        for j in range(width - 1)
    ]
    return sum(np.outer(patch, patch) for patch in patches) / len(patches)


def test_whitening_is_the_inverse_root_of_the_second_moments_plus_epsilon():
    images, layer = pictures(), Whitening()
    layer.fit(images)
    filters = layer.weight.double().numpy().reshape(24, 12)
    assert np.array_equal(filters[12:], -filters[:12])
    moments = second_moments(images)
    assert 1e-4 < np.linalg.eigvalsh(moments)[0] < 5e-4
    # F = (Λ + ε)^-½ Vᵀ, so FᵀF is the inverse, whatever the signs and the order of eigenvectors
    expected = np.linalg.inv(moments + 5e-4 * np.eye(12))
    scale = np.abs(expected).max()
    np.testing.assert_allclose(filters[:12].T @ filters[:12], expected, atol=2e-3 * scale)
    # and the filters are uncorrelated: F E[p pᵀ] Fᵀ is diagonal
    whitened = filters[:12] @ moments @ filters[:12].T
    np.testing.assert_allclose(whitened, np.diag(np.diag(whitened)), atol=1e-3)


def test_without_epsilon_the_second_moments_of_the_outputs_are_one():
    images, layer = pictures(), Whitening()
    layer.fit(images, epsilon=0)
    out = (layer(images) - layer.bias[:, None, None])[:, :12].permute(1, 0, 2, 3).flatten(1)
    found = (out @ out.T / out.shape[1]).detach().double()
    torch.testing.assert_close(found, torch.eye(12, dtype=torch.float64), rtol=0, atol=0.01)


def test_whiten_fits_the_whitening_of_a_network_and_leaves_other_networks_alone():
    images, layer, network = pictures(), Whitening(), fast_resnet(4)
    layer.fit(images)
    whiten(network, images)
    assert torch.equal(network.stem[0].weight, layer.weight)
    assert not network.stem[0].weight.requires_grad and network.stem[0].bias.requires_grad
    other = resnet(8, 4)
    before = {name: value.clone() for name, value in other.state_dict().items()}
    whiten(other, images)
    assert all(torch.equal(value, before[name]) for name, value in other.state_dict().items())


@pytest.mark.parametrize(
    "images, message",
    [
        (torch.zeros(2, 1, 8, 8), r"images must be .*\(2, 1, 8, 8\)"),
        (torch.zeros(3, 8, 8), r"images must be .*\(3, 8, 8\)"),
        (torch.zeros(2, 3, 1, 8), r"images must be .*\(2, 3, 1, 8\)"),
        (torch.zeros(0, 3, 8, 8), r"images must be .*\(0, 3, 8, 8\)"),
        (torch.zeros(2, 3, 8, 8, dtype=torch.uint8), "images must be .*uint8"),
        (torch.full((2, 3, 8, 8), torch.nan), "finite"),
    ],
)
def test_images_that_cannot_be_whitened_are_refused_and_the_filters_stay(images, message):
    layer = Whitening()
    before = layer.weight.clone()
    with pytest.raises(ValueError, match=message):
        layer.fit(images)
    assert torch.equal(layer.weight, before)


@pytest.mark.parametrize("size", [(17, 17), (14, 21)])
def test_the_network_computes_what_its_docstring_says(size):
    network = randomise_norms(fast_resnet(4, classes=5)).double()
    images = torch.randn(2, 3, *size, dtype=torch.float64)
    convs = iter([m for m in network.stages.modules() if isinstance(m, nn.Conv2d)])
    norms = iter([m for m in network.modules() if isinstance(m, nn.BatchNorm2d)])
    for layer in network.stages.modules():  # no longer the identity
        if isinstance(layer, nn.Conv2d):
            nn.init.normal_(layer.weight, 0, 0.2)
    whitening = network.stem[0]
    x = F.gelu(F.conv2d(images, whitening.weight, whitening.bias))
    for _ in range(3):
        x = F.gelu(norm(F.max_pool2d(conv(x, next(convs)), 2), next(norms)))
        x = F.gelu(x + norm(conv(x, next(convs)), next(norms)))
    expected = x.amax((2, 3)) @ network.classifier[0].weight.T / 9
    assert expected.abs().max() > 1e-3
    torch.testing.assert_close(network(images), expected, **EXACT)
    assert next(convs, None) is next(norms, None) is None


def test_every_convolution_starts_as_the_identity_on_the_channels_it_has():
    network, inputs = fast_resnet(16), 24
    for stage, outputs in zip(network.stages, (16, 64, 64), strict=True):
        down, block = stage
        shared = min(inputs, outputs)
        x = torch.randn(2, inputs, 6, 5)
        torch.testing.assert_close(down[0](x)[:, :shared], x[:, :shared])
        x = torch.randn(2, outputs, 6, 5)
        torch.testing.assert_close(block.branch[0](x), x)
        inputs = outputs


def test_statistics_of_every_norm_take_four_tenths_of_the_new_ones():
    network, seen = fast_resnet(4).train(), {}
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.register_forward_hook(lambda m, inputs, _: seen.update({m: inputs[0]}))
    network(torch.randn(4, 3, 16, 16))
    assert len(seen) == 6
    for module, x in seen.items():
        torch.testing.assert_close(module.running_mean, 0.4 * x.mean((0, 2, 3)))
        torch.testing.assert_close(module.running_var, 0.6 + 0.4 * x.var((0, 2, 3)))


@pytest.mark.parametrize(
    "argument, value", [("width", 0), ("width", 1.5), ("width", True), ("classes", 0)]
)
def test_a_bad_argument_is_named_with_its_value(argument, value):
    with pytest.raises(ValueError, match=f"{argument} must be .*{value!r}"):
        fast_resnet(**{argument: value})
    with pytest.raises(ValueError, match=f"{argument} must be .*{value!r}"):
        NETWORKS["fast"].make(**{argument: value})
