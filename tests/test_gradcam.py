"""Grad-CAM equals Captum's, of any network and layer, and leaves nothing behind."""

import numpy as np
import pytest
import torch
import torchvision
from captum.attr import LayerAttribution, LayerGradCam
from parity import hooks, with_block
from torch import nn

from attention.explain import grad_cam
from attention.networks import fast_resnet, resnet, vit


def network_with(block=None, make=fast_resnet, **options):
    """A small network whose layers, and blocks if any, say something."""
    network = make(8) if make is fast_resnet else make(8, 4)
    for module in network.modules():
        if isinstance(module, nn.Conv2d):
            nn.init.kaiming_normal_(module.weight)
    return with_block(network, block, **options)


def pictures(count=3):
    return torch.randn(count, 3, 23, 19)


def captum_map(network, images, target, layer):
    found = LayerGradCam(network, network.get_submodule(layer)).attribute(
        images, target, relu_attributions=True
    )
    found = LayerAttribution.interpolate(found, tuple(images.shape[2:]), "bilinear")[:, 0].detach()
    return (found / found.amax((1, 2), keepdim=True)).nan_to_num(0)


def assert_equal_maps(found, expected):
    torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-5)
    assert expected.max() == 1  # there is something to compare


@pytest.mark.parametrize("make", [fast_resnet, resnet])
@pytest.mark.parametrize("block", [None, "se", "cbam", "bam", "selfattention", "multihead_pool"])
def test_grad_cam_equals_captums(make, block):
    network, images = network_with(block, make), pictures()
    for target in (4, torch.tensor([9, 0, 4])):
        found = grad_cam(network, images, target)
        assert found.shape == (3, 23, 19) and not found.requires_grad
        assert_equal_maps(found, captum_map(network, images, target, "stages.2"))


@pytest.mark.parametrize("layer", ["stem", "stem.0", "stages.0.0", "stages.1", "stages.1.1.branch"])
def test_any_layer_by_its_path_or_as_a_module(layer):
    network, images = network_with("cbam"), pictures()
    expected = captum_map(network, images, 2, layer)
    assert_equal_maps(grad_cam(network, images, 2, layer), expected)
    assert_equal_maps(grad_cam(network, images, 2, network.get_submodule(layer)), expected)


@pytest.mark.parametrize(
    "make, layer",
    [
        (torchvision.models.resnet18, "layer4"),
        (lambda: torchvision.models.mobilenet_v2(width_mult=0.25), "features"),
        (torchvision.models.squeezenet1_1, "features"),
    ],
)
def test_the_last_convolutional_layer_of_torchvisions_networks_is_found(make, layer):
    network, images = make().eval(), torch.randn(2, 3, 64, 48)
    target = torch.tensor([7, 123])
    expected = captum_map(network, images, target, layer)
    assert_equal_maps(grad_cam(network, images, target), expected)


@pytest.mark.parametrize("layer", ["bn1", "layer1.0.bn2", "layer2.0.downsample", "layer4.1.conv2"])
def test_a_layer_whose_output_is_then_changed_in_place(layer):
    network, images = torchvision.models.resnet18(num_classes=5).eval(), torch.randn(2, 3, 48, 64)
    assert_equal_maps(grad_cam(network, images, 3, layer), captum_map(network, images, 3, layer))


def test_without_a_target_it_is_the_class_that_the_network_answers():
    network, images = network_with("se", resnet), pictures(6)
    with torch.no_grad():
        network.classifier.bias -= network(images).mean(0)
        answers = network(images).argmax(1)
    assert len(answers.unique()) > 1
    found = grad_cam(network, images)
    assert_equal_maps(found, captum_map(network, images, answers, "stages.2"))
    assert not torch.allclose(found, grad_cam(network, images, (answers + 1) % 10))


def test_all_forms_of_a_target_are_one():
    network, images = network_with(), pictures()
    expected = grad_cam(network, images, torch.tensor([5, 5, 5]))
    forms = [5, torch.tensor(5), np.int64(5), [5, 5, 5], torch.tensor([5, 5, 5], dtype=torch.uint8)]
    for target in forms:
        assert torch.equal(grad_cam(network, images, target), expected)


def test_a_batch_is_one_image_at_a_time():
    network, images = network_with("cbam"), pictures()
    alone = torch.cat([grad_cam(network, one[None], 1) for one in images])
    assert_equal_maps(grad_cam(network, images, 1), alone)


def test_frozen_weights_and_no_grad_change_nothing():
    network, images = network_with("se"), pictures()
    expected = grad_cam(network, images, 1)
    network.requires_grad_(False)
    with torch.no_grad():
        assert torch.equal(grad_cam(network, images, 1), expected)
    assert not images.requires_grad and images.grad is None


def test_nothing_is_left_behind_in_the_network():
    network, images = network_with("se"), pictures()
    parameters = list(network.parameters())
    parameters[0].grad = torch.full_like(parameters[0], 3)
    before = {key: value.clone() for key, value in network.state_dict().items()}
    grad_cam(network, images)
    assert hooks(network) == 0
    assert (parameters[0].grad == 3).all() and all(p.grad is None for p in parameters[1:])
    for key, value in network.state_dict().items():
        assert torch.equal(value, before[key])
    with pytest.raises(ValueError):
        grad_cam(network, images, 10)
    with pytest.raises(RuntimeError):
        grad_cam(network, images[:, :2])
    assert hooks(network) == 0


class Brightness(nn.Module):
    """Logits: how bright the positive part of the image is, and how dark."""

    def __init__(self):
        super().__init__()
        self.features = nn.ReLU()
        self.unused = nn.Conv2d(3, 3, 1)

    def forward(self, x):
        bright = self.features(x).mean((1, 2, 3))
        return torch.stack([bright, -bright], 1)


class Beside(Brightness):
    """A layer that runs, and whose maps nobody uses."""

    def forward(self, x):
        self.unused(x)
        return super().forward(x)


def test_a_map_known_by_construction_and_one_without_positive_evidence():
    images = pictures()
    expected = images.clamp_min(0).sum(1)
    expected = expected / expected.amax((1, 2), keepdim=True)
    assert_equal_maps(grad_cam(Brightness().eval(), images, 0), expected)
    assert (grad_cam(Brightness().eval(), images, 1) == 0).all()


@pytest.mark.parametrize(
    "options, message",
    [
        ({"target": 10}, "from 0 to 9, got 10"),
        ({"target": -1}, "from 0 to 9"),
        ({"target": torch.tensor([0, 1, 10])}, "from 0 to 9"),
        ({"target": 1.0}, "a class or one class for each of the 3 images"),
        ({"target": torch.tensor([0, 1])}, "each of the 3 images"),
        ({"target": torch.zeros(3, 1, dtype=torch.long)}, "each of the 3 images"),
        ({"target": "cat"}, "each of the 3 images, got 'cat'"),
        ({"target": True}, "got True"),
        ({"images": pictures() * float("nan")}, "images must be finite"),
        ({"images": pictures().byte()}, "images must be normalised .* torch.uint8"),
        ({"images": pictures()[0]}, r"\(N, 3, H, W\), got \(3, 23, 19\)"),
        ({"images": pictures()[:0]}, "at least one"),
        ({"images": pictures().numpy()}, "got ndarray"),
        ({"layer": "stages.7"}, "'stages.7' is no module of this Network"),
        ({"layer": nn.ReLU()}, "a module of the network, got ReLU"),
        ({"layer": 3}, "a module, its path or None, got 3"),
        ({"layer": "classifier"}, "must give maps .* Sequential does not"),
    ],
)
def test_what_grad_cam_cannot_take_is_named(options, message):
    with pytest.raises(ValueError, match=message):
        grad_cam(**{"network": network_with(), "images": pictures()} | options)


def test_layers_and_networks_that_cannot_be_explained_are_named():
    network, images = network_with(), pictures()
    with pytest.raises(ValueError, match="Conv2d does not"):
        grad_cam(Brightness().eval(), images, layer="unused")
    with pytest.raises(ValueError, match="must have a part in the answer"):
        grad_cam(Beside().eval(), images, 0, layer="unused")
    with pytest.raises(ValueError, match=r"logits \(N, classes\), got \(3, 3, 23, 19\)"):
        grad_cam(nn.ReLU().eval(), images, layer="")
    with pytest.raises(TypeError, match="network must be a Module"):
        grad_cam("resnet18", images)
    with pytest.raises(ValueError, match="of the network"):
        grad_cam(network, images, layer=network_with().stages[-1])
    transformer = vit(16, 2, 4).eval()
    with pytest.raises(ValueError, match="given for a VisionTransformer.*rollout"):
        grad_cam(transformer, torch.randn(1, 3, 32, 32))
    expected = captum_map(transformer, torch.ones(1, 3, 32, 32), 1, "stem")
    assert_equal_maps(grad_cam(transformer, torch.ones(1, 3, 32, 32), 1, "stem"), expected)
    network.stages[0][0][2].train()  # one norm is enough
    with pytest.raises(ValueError, match="eval mode"):
        grad_cam(network, images)
