"""Costs against hand counts."""

import pytest
import torch
from torch import nn

from attention.cost import flops, kept_for_backward, largest_tensor, parameters
from attention.networks import insert, resnet


def convolution_flops(inputs, outputs, kernel, positions):
    return 2 * inputs * outputs * kernel * kernel * positions


def resnet20_flops(size):
    total, inputs = convolution_flops(3, 16, 3, size * size), 16
    for outputs, side in ((16, size), (32, size // 2), (64, size // 4)):
        for _ in range(3):
            total += convolution_flops(inputs, outputs, 3, side * side)
            total += convolution_flops(outputs, outputs, 3, side * side)
            inputs = outputs
    return total + 2 * 64 * 10


@pytest.mark.parametrize("size", [32, 16])
def test_flops_equal_the_hand_count_of_convolutions_and_classifier(size):
    assert flops(resnet(20), (1, 3, size, size)) == resnet20_flops(size)


def test_flops_of_a_batch_are_those_of_its_images():
    assert flops(resnet(20), (3, 3, 16, 16)) == 3 * resnet20_flops(16)


def test_flops_of_se_are_its_two_matrix_products():
    added = sum(3 * 2 * 2 * channels * (channels // 4) for channels in (16, 32, 64))
    network = insert(resnet(20), "se", reduction=4)
    assert flops(network, (1, 3, 16, 16)) == resnet20_flops(16) + added


@pytest.mark.parametrize("training", [False, True])
def test_flops_leave_modes_and_statistics_as_they_were(training):
    network = insert(resnet(8, 4), "bam", reduction=2).train(training)
    network.stages[1].train(not training)  # as for frozen statistics
    modes = [module.training for module in network.modules()]
    before = {name: value.clone() for name, value in network.state_dict().items()}
    flops(network, (1, 3, 8, 8))
    assert [module.training for module in network.modules()] == modes
    assert all(torch.equal(value, before[name]) for name, value in network.state_dict().items())


def test_flops_that_fail_leave_modes_as_they_were():
    network = resnet(8, 4).train()
    with pytest.raises(RuntimeError):
        flops(network, (1, 4, 8, 8))
    assert all(module.training for module in network.modules())


def test_a_network_without_parameters_has_a_cost_too():
    network = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten())
    assert parameters(network) == flops(network, (2, 3, 8, 8)) == 0


def test_parameters_are_those_that_are_trained():
    network = resnet(8, 4)
    everything = parameters(network)
    network.classifier.requires_grad_(False)
    assert everything - parameters(network) == 16 * 10 + 10


@pytest.mark.parametrize(
    "shape", [(3, 32, 32), (1, 3, 32, 32, 1), 32, "1333", (1, 3, 0, 32), (1, 3, 32.0, 32), None]
)
def test_a_shape_that_is_not_four_whole_numbers_is_refused(shape):
    with pytest.raises(ValueError, match="shape must be"):
        flops(resnet(8, 4), shape)


def test_what_is_kept_for_the_backward_pass_is_counted_once():
    layer, x = nn.Linear(5, 7), torch.randn(3, 5)
    # the layer keeps x (for its weight's gradient), ReLU its own result
    assert kept_for_backward(lambda: layer(x).relu()) == 4 * (3 * 5 + 3 * 7)
    y = torch.randn(3, 5, requires_grad=True)
    assert kept_for_backward(lambda: y.exp()) == 4 * 3 * 5
    assert kept_for_backward(lambda: y * y) == 4 * 3 * 5
    assert kept_for_backward(lambda: layer(y)) == 4 * (3 * 5 + 7 * 5)
    with torch.no_grad():
        assert kept_for_backward(lambda: y * y) == 0


def test_the_largest_tensor_of_a_computation_leaves_views_out():
    x = torch.ones(3, 4)
    assert largest_tensor(lambda: x + 1) == 12
    assert largest_tensor(lambda: (x.T @ x).sum()) == 16  # 4 × 4, though only one number is left
    assert largest_tensor(lambda: x.expand(1000, 3, 4).unfold(1, 2, 1)) == 0
    assert largest_tensor(lambda: x.max(1)) == 3
