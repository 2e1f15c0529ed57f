"""SimAM against its energy function, minimised, and against the paper's closed form."""

import functools

import pytest
import torch
from parity import EXACT, assert_equal_to, leaf

from attention.blocks import SimAM


def simam_equations(x, regularisation=1e-4):
    """Yang et al. 2021, eq. 5 and 6, one channel of one image, one neuron at a time."""
    images = []
    for image in x:
        channels = []
        for channel in image:
            neurons = channel.flatten().unbind()
            mean = sum(neurons) / len(neurons)
            variance = sum((neuron - mean) ** 2 for neuron in neurons) / len(neurons)
            weighed = []
            for neuron in neurons:
                above = 4 * (variance + regularisation)
                below = (neuron - mean) ** 2 + 2 * variance + 2 * regularisation
                weighed.append(neuron / (1 + torch.exp(-below / above)))
            channels.append(torch.stack(weighed).view(channel.shape))
        images.append(torch.stack(channels))
    return torch.stack(images)


@pytest.mark.parametrize("shape", [(3, 4, 5, 7), (1, 2, 6, 3), (2, 3, 1, 1)])
@pytest.mark.parametrize("options", [{}, {"regularisation": 0.1}])
def test_simam_equals_the_equations(shape, options):
    block = SimAM(shape[1], **options).double()
    expected = functools.partial(simam_equations, **options)
    assert_equal_to(expected, block, block, leaf(*shape))


def test_the_score_is_the_inverse_of_the_least_energy_of_a_neuron():
    # eq. 2: a line w·x + b takes the neuron t to 1 and the others of its channel to −1. Least
    # squares over the line; the mean and the variance of all neurons stand in for the others'.
    neurons, regularisation = torch.randn(12, dtype=torch.float64), 0.3
    scores = SimAM(1, regularisation).score(neurons.view(1, 1, 3, 4)).flatten()
    mean, variance = neurons.mean(), neurons.var(correction=0)
    for neuron, score in zip(neurons, scores, strict=True):
        # (1 − w t − b)² + (1 + w μ + b)² + w² σ² + λ w²: rows of a linear least-squares problem
        rows = torch.stack([neuron, mean, (variance + regularisation).sqrt()])
        lines = torch.stack([rows, torch.tensor([1.0, 1.0, 0.0], dtype=torch.float64)], 1)
        target = torch.tensor([1.0, -1.0, 0.0], dtype=torch.float64)
        residual = target - lines @ torch.linalg.lstsq(lines, target[:, None]).solution[:, 0]
        torch.testing.assert_close(score, 1 / residual.square().sum(), **EXACT)


def test_simam_has_no_parameters_and_the_published_lambda():
    block = SimAM(64)
    assert not list(block.parameters()) and block.score.regularisation == 1e-4


@pytest.mark.parametrize("value", [0, -1e-4, float("nan"), True, "1e-4", None])
def test_a_bad_lambda_is_named(value):
    with pytest.raises(ValueError, match="regularisation") as error:
        SimAM(4, regularisation=value)
    assert repr(value) in str(error.value)
