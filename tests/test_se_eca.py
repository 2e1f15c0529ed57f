"""SE and ECA against torchvision and timm, and the rule for ECA's kernel."""

import pytest
from parity import assert_same_as_module, linear, randomise, same
from timm.layers import EcaModule
from torch import nn
from torchvision.ops import SqueezeExcitation

from attention.blocks import ECA, SE

shapes = pytest.mark.parametrize("shape", [(3, 16, 5, 7), (2, 16, 1, 1), (1, 16, 6, 3)])


@shapes
def test_se_equals_torchvision(shape):
    reference = randomise(SqueezeExcitation(16, 4)).double()
    assert_same_as_module(SE(16, reduction=4).double(), reference, shape, [linear] * 4)


@shapes
def test_se_without_bias_equals_torchvision_with_biases_of_zero(shape):
    reference = randomise(SqueezeExcitation(16, 4)).double()
    for conv in (reference.fc1, reference.fc2):
        nn.init.zeros_(conv.bias.requires_grad_(False))
    block = SE(16, reduction=4, bias=False).double()
    assert_same_as_module(block, reference, shape, [linear] * 2)


@shapes
def test_eca_equals_timm(shape):
    reference = randomise(EcaModule(16)).double()
    assert_same_as_module(ECA(16).double(), reference, shape, [same])


def test_eca_equals_timm_with_a_wide_kernel():
    reference = randomise(EcaModule(kernel_size=9)).double()
    assert_same_as_module(ECA(12, kernel_size=9).double(), reference, (2, 12, 3, 4), [same])


@pytest.mark.parametrize(
    "channels, k",
    [(1, 1), (8, 3), (16, 3), (32, 3), (64, 3), (128, 5), (256, 5), (512, 5), (1024, 5), (2048, 7)],
)
def test_eca_takes_its_kernel_from_the_number_of_channels(channels, k):
    assert [p.shape for p in ECA(channels).parameters()] == [(1, 1, k)]


def test_eca_rule_equals_timms_for_every_width_from_8_to_600():
    ours = [ECA.rule(channels) for channels in range(8, 600)]
    assert ours == [EcaModule(channels).conv.kernel_size[0] for channels in range(8, 600)]


@pytest.mark.parametrize("channels, hidden", [(40, 2), (47, 2), (16, 1), (3, 1)])
def test_ses_hidden_width_is_a_sixteenth_rounded_down_and_at_least_one(channels, hidden):
    shapes = [tuple(p.shape) for p in SE(channels).parameters()]
    assert shapes == [(hidden, channels), (hidden,), (channels, hidden), (channels,)]
