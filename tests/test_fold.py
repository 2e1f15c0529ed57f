"""Gates that are folded: the network says what it says with them held at their means."""

import copy
import functools

import pytest
import torch
import torchvision
from some_networks import assert_untouched, snapshot
from torch import nn

import attention
from attention import blocks
from attention.blocks import Gate
from attention.deploy import fold, fold_report
from attention.networks import resnet

NETWORKS = {
    "resnet20": functools.partial(resnet, 20, 4),
    "resnet18": functools.partial(torchvision.models.resnet18, num_classes=10),
}
INSERTED = {
    "se": ("se", {}),
    "eca": ("eca", {}),
    "cbam": ("cbam", {}),
    "cbam official": ("cbam", {"variant": "official"}),
    "cbam avg": ("cbam", {"pools": ("avg",)}),
    "bam": ("bam", {"at": "residual"}),
    "bam official": ("bam", {"at": "residual", "variant": "official"}),
    "sse": ("sse", {}),
    "simam": ("simam", {}),
    "coordinate": ("coordinate", {}),
    "hybrid": ("hybrid", {}),
    "hybrid in turn": (
        "hybrid",
        {"combine": "spatial first", "spatial": "position", "pool": None, "residual": False},
    ),
    "hybrid in parallel": ("hybrid", {"combine": "parallel", "spatial": "conv"}),
}


def some_images(count=8, size=32):
    return torch.randn(count, 3, size, size)


@torch.no_grad()
def lively(network):
    """In eval mode, with norms and gates that do something, and many answers to white noise."""
    for module in network.modules():
        if isinstance(module, nn.BatchNorm1d | nn.BatchNorm2d):
            for values, (low, high) in (
                (module.weight, (0.5, 1.5)),
                (module.bias, (-0.5, 0.5)),
                (module.running_mean, (-0.1, 0.1)),
                (module.running_var, (0.5, 1.5)),
            ):
                values.uniform_(low, high)
    classifier = network.fc if hasattr(network, "fc") else network.classifier
    classifier.bias.sub_(network.eval()(some_images(40)).mean(0))
    return network


@torch.no_grad()
def held(network, images, chosen=None):
    """What the network says with its gates held at their means: by hooks, channel by channel."""
    network, seen = copy.deepcopy(network), {}
    gates = {
        path: module
        for path, module in network.named_modules()
        if isinstance(module, Gate) and (chosen is None or path in chosen)
    }
    keepers = [
        gate.register_forward_hook(lambda m, i, out, path=path: seen.update({path: out}))
        for path, gate in gates.items()
    ]
    network(images)
    for keeper in keepers:
        keeper.remove()
    for path, gate in gates.items():
        mean = seen[path].mean((0, 2, 3), keepdim=True)
        gate.register_forward_hook(lambda m, i, out, mean=mean: mean.expand_as(out))
    return network(images)


def assert_alike(found, expected, tolerance=1e-5):
    error = (found - expected).abs().max() / expected.abs().max()
    assert error < tolerance, float(error)


def rows(network):
    return {row.path: row for row in network.folded}


@pytest.mark.parametrize(
    ("make", "name"),
    [("resnet20", name) for name in INSERTED]
    + [("resnet18", name) for name in ("se", "cbam official", "hybrid in turn")],
)
def test_all_gates_folded_are_all_gates_held(make, name):
    block, options = INSERTED[name]
    stages = (1, 3) if make == "resnet20" else 2
    network = lively(attention.insert(NETWORKS[make](), block, stages=stages, **options))
    images, before = some_images(), snapshot(network)
    folded = fold(network, images, tolerance=0.99)
    assert_untouched(network, before)
    with torch.no_grad():
        assert_alike(folded(images), held(network, images))
        difference = (folded(images) - network(images)).abs().max()
    assert difference > 1e-4  # else holding the gates has been no test
    assert not any(isinstance(module, blocks.Map) for module in folded.modules())
    gates = [path for path, module in network.named_modules() if isinstance(module, Gate)]
    assert [row.path for row in folded.folded] == gates
    assert all(row.folded for row in folded.folded)
    plain = NETWORKS[make]()  # what is left is built as the network was without attention
    assert [(path, type(m)) for path, m in folded.named_modules()] == [
        (path, type(m)) for path, m in plain.named_modules()
    ]
    plain.load_state_dict(folded.state_dict())
    with torch.no_grad():
        assert torch.equal(plain.eval()(images), folded(images))
    assert attention.report(folded) == "no attention blocks inserted"
    assert not any(module.training for module in folded.modules())
    with pytest.raises(ValueError, match="holds no attention"), attention.capture(folded):
        folded(images)


def test_after_a_stage_the_layers_that_read_it_take_the_gate():
    network = lively(attention.insert(NETWORKS["resnet18"](), "bam", stages=(1, 2, 3, 4)))
    images = some_images()
    folded = fold(network, images, tolerance=0.99)
    with torch.no_grad():
        assert_alike(folded(images), held(network, images))
    notes = [row.note for row in folded.folded]
    assert notes == [
        "layer2.0.conv1, layer2.0.downsample.0",
        "layer3.0.conv1, layer3.0.downsample.0",
        "layer4.0.conv1, layer4.0.downsample.0",
        "fc",
    ]


def test_a_stage_that_a_shortcut_without_weights_reads_is_left():
    network = lively(attention.insert(resnet(8, 4), "bam"))
    images = some_images()
    folded = fold(network, images, tolerance=0.99)
    assert not any(row.folded for row in folded.folded)
    assert "stages.0.0.activation before it is a ReLU" in folded.folded[0].note
    assert "in stages.1.0.shortcut reads its output" in folded.folded[0].note
    with torch.no_grad():
        assert torch.equal(folded(images), network(images))
    last = lively(attention.insert(resnet(8, 4), "bam", stages=3))  # only the classifier reads it
    assert fold(last, images, tolerance=0.99).folded[0].note == "classifier"


@torch.no_grad()
def still(layer):
    """A layer that says the same for every input, but something else for each channel."""
    layer.weight.zero_()
    if layer.bias is not None:
        layer.bias.uniform_(-2, 2)


@pytest.mark.parametrize("tolerance", [0, 0.5])
def test_a_gate_that_is_constant_folds_without_a_difference(tolerance):
    network = lively(attention.insert(resnet(14, 4), "se"))
    for module in network.modules():
        if isinstance(module, attention.SE):
            still(module.score.expand)
    images = some_images()
    folded = fold(network, images, tolerance)
    assert all(row.folded and row.moved < 1e-6 for row in folded.folded)
    with torch.no_grad():
        assert_alike(folded(images), network(images), 1e-6)


@pytest.mark.parametrize("variant", ["paper", "official"])
@pytest.mark.parametrize("constant", ["channel", "spatial"])
def test_one_half_of_cbam_folds_alone(constant, variant):
    network = attention.insert(resnet(8, 4), "cbam", stages=3, reduction=2, variant=variant)
    cbam = network.stages[2][0].attention
    with torch.no_grad():
        if constant == "channel":
            cbam.spatial.conv.weight.mul_(20)
            still(cbam.channel.mlp[2])
        else:
            cbam.channel.mlp[2].weight.mul_(20)
            cbam.spatial.conv.weight.zero_()
    lively(network).double()
    images = some_images(40).double()
    folded = fold(network, images, tolerance=0)
    assert {path: row.folded for path, row in rows(folded).items()} == {
        "stages.2.0.attention.channel_gate": constant == "channel",
        "stages.2.0.attention.spatial_gate": constant == "spatial",
    }
    left = "spatial" if constant == "channel" else "channel"
    assert "% of the answers" in rows(folded)[f"stages.2.0.attention.{left}_gate"].note
    with torch.no_grad(), attention.capture(folded) as maps:
        assert_alike(folded(images), network(images), 1e-6)
    assert (
        list(maps) == ["stages.2.0.attention.gate"]
        and maps["stages.2.0.attention.gate"].kind == left
    )
    assert folded.placements[0].parameters == attention.parameters(getattr(cbam, left))
    assert type(network.stages[2][0].attention) is attention.CBAM


class Switch(nn.Module):
    """Half the channels for one half of the images, the other half for the others."""

    def __init__(self, channels):
        super().__init__()
        self.gate = Gate("channel")
        self.register_buffer("sign", torch.ones(channels, 1, 1))
        self.sign[: channels // 2] = -1

    def forward(self, x):
        return x * self.gate(50 * self.sign * (x[:, :1, :1, :1] - x[:, :1, :1, 1:2]))


def test_a_gate_that_moves_is_left():
    network = lively(attention.insert(resnet(8, 4), Switch, stages=3))
    images = some_images(40)
    folded = fold(network, images, tolerance=0.05)
    (row,) = folded.folded
    assert not row.folded and row.moved > 0.4 and "% of the answers" in row.note
    with torch.no_grad():
        assert torch.equal(folded(images), network(images))


@pytest.mark.parametrize("tolerance", [0, 0.1, 0.3])
def test_no_more_answers_change_than_the_tolerance_allows(tolerance):
    network = lively(attention.insert(resnet(8, 4), "cbam"))
    images = some_images(60, 16)
    folded = fold(network, images.split(25), tolerance)
    with torch.no_grad():
        others = (folded(images).argmax(1) != network(images).argmax(1)).float().mean()
        assert others <= tolerance
        chosen = [row.path for row in folded.folded if row.folded]
        assert_alike(folded(images), held(network, images, chosen))
    assert 0 < len(chosen) and (tolerance > 0 or len(chosen) < 6)


def test_the_report_has_a_line_for_each_map():
    network = attention.insert(lively(attention.insert(resnet(8, 4), "se")), "nonlocal").eval()
    folded = fold(network, some_images(), tolerance=0.99)
    lines = fold_report(folded).splitlines()
    assert lines[-1] == "3 of 5 folded" and len(lines) == 6
    assert (
        lines[0].startswith("stages.0.0.attention.gate") and "into stages.0.0.branch.4" in lines[0]
    )
    assert "it multiplies by no gate" in lines[1] and "NonLocal" in lines[1]
    with pytest.raises(ValueError, match="must come from `fold`"):
        fold_report(network)


def test_bad_input_is_refused_by_name():
    network, images = attention.insert(resnet(8, 4), "se"), some_images(2)
    with pytest.raises(ValueError, match="network must be in eval mode"):
        fold(network, images)
    network.eval()
    for tolerance in (-0.1, 1, float("nan"), "0"):
        with pytest.raises(ValueError, match="tolerance must be"):
            fold(network, images, tolerance)
    for wrong in (images[0], [], 3, images.byte(), [images, images[:, 0]]):
        with pytest.raises(ValueError, match="images must be"):
            fold(network, wrong)
    with pytest.raises(ValueError, match="images must all have one size"):
        fold(attention.insert(resnet(8, 4), "sse").eval(), [images, images[..., 1:]])
    with pytest.raises(ValueError, match="holds no attention"):
        fold(resnet(8, 4).eval(), images)
    with pytest.raises(ValueError, match="network must hold gates"):
        fold(attention.insert(resnet(8, 4), "nonlocal").eval(), images)
    with pytest.raises(ValueError, match="network must answer with logits"):
        fold(nn.Sequential(network, nn.Flatten(0)).eval(), images)
