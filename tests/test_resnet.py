"""The ResNet for CIFAR-10 against the paper's numbers, hand counts, and the paper's equations."""

import pytest
import torch
from by_hand import conv, norm, padded, randomise_norms
from torch import nn

from attention.cost import parameters
from attention.networks import NETWORKS, insert, resnet
from attention.networks.resnet import PadShortcut


def test_resnet20_has_the_parameters_of_its_layers_counted_by_hand():
    convolutions = 3 * 16 + 6 * 16 * 16 + (16 + 5 * 32) * 32 + (32 + 5 * 64) * 64
    norms = 2 * (7 * 16 + 6 * 32 + 6 * 64)
    assert parameters(resnet()) == 9 * convolutions + norms + 64 * 10 + 10 == 269_722


@pytest.mark.parametrize(
    "depth, millions", [(20, "0.27"), (32, "0.46"), (44, "0.66"), (56, "0.85"), (110, "1.7")]
)
def test_size_and_depth_are_those_of_table_6_of_the_paper(depth, millions):
    with torch.device("meta"):
        network = NETWORKS[f"resnet{depth}"].make()
    digits = len(millions.split(".")[1])
    assert f"{parameters(network) / 1e6:.{digits}f}" == millions
    assert sum(isinstance(m, (nn.Conv2d, nn.Linear)) for m in network.modules()) == depth


@pytest.mark.parametrize("depth", [0, 2, 7, 9, 18, 54, 20.0, "20", True, None])
def test_a_depth_that_is_not_6n_plus_2_is_refused(depth):
    with pytest.raises(ValueError, match="depth") as error:
        resnet(depth)
    assert repr(depth) in str(error.value)


@pytest.mark.parametrize(
    "argument, value",
    [("width", 0), ("width", 2.5), ("width", True), ("classes", 0), ("classes", None)],
)
def test_a_bad_argument_is_named_with_its_value(argument, value):
    with pytest.raises(ValueError, match=argument) as error:
        resnet(8, **{argument: value})
    assert repr(value) in str(error.value)


@pytest.mark.parametrize("size", [(6, 8), (5, 7), (1, 1)])
def test_pad_shortcut_takes_every_second_position_and_adds_channels_of_zero(size):
    x = torch.randn(2, 3, *size)
    assert torch.equal(PadShortcut(new_channels=4, stride=2)(x), padded(x, 7))


@pytest.mark.parametrize("size", [(16, 16), (13, 9)])
def test_resnet_computes_what_the_paper_writes(size):
    network = randomise_norms(resnet(14, 4)).double()
    convs = iter([m for m in network.modules() if isinstance(m, nn.Conv2d)])
    norms = iter([m for m in network.modules() if isinstance(m, nn.BatchNorm2d)])
    images = torch.randn(2, 3, *size, dtype=torch.float64)
    x = norm(conv(images, next(convs)), next(norms)).relu()
    for channels in (4, 4, 8, 8, 16, 16):
        shortcut = x if x.shape[1] == channels else padded(x, channels)
        x = norm(conv(x, next(convs)), next(norms)).relu()
        x = norm(conv(x, next(convs)), next(norms))
        x = (shortcut + x).relu()
    expected = x.mean((2, 3)) @ network.classifier.weight.T + network.classifier.bias
    torch.testing.assert_close(network(images), expected, rtol=1e-9, atol=1e-9)
    assert next(convs, None) is None


@pytest.mark.parametrize("kept", [(2, 3), (3,)])
def test_a_block_that_forgets_the_shape_is_refused_and_not_broadcast(kept):
    class Forgetful(nn.Module):
        def __init__(self, channels):
            super().__init__()

        def forward(self, x):
            return x.mean(kept, keepdim=True)  # the gate alone, not applied

    with pytest.raises(ValueError, match="'Forgetful' cannot stand .* must keep the shape"):
        insert(resnet(8, 4), Forgetful)
    network = resnet(8, 4)
    network.stages[0][0].attention = Forgetful(4)
    with pytest.raises(ValueError, match=r"keep the shape .*\(2, 4, 8, 8\); Forgetful gave \(2, 4"):
        network(torch.randn(2, 3, 8, 8))


def test_statistics_of_every_norm_take_a_tenth_of_the_new_ones():
    norms = [m for m in resnet(8, 4).modules() if isinstance(m, nn.BatchNorm2d)]
    assert len(norms) == 7 and {m.momentum for m in norms} == {0.1}
