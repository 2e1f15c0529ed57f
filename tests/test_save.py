"""A network that was saved and loaded answers as before, bit for bit; what cannot be is refused."""

import copy
import json
import os
import sys
from pathlib import Path

import pytest
import safetensors.torch
import timm
import torch
from PIL import Image, ImageOps
from torch import nn
from torchvision import models
from torchvision.transforms.functional import pil_to_tensor

import attention
from attention.data import normalise
from attention.files import replacing


class Mine(nn.Module):
    """A block of one's own, with a number that it counts."""

    def __init__(self, channels, factor=2.0):
        super().__init__()
        self.score = nn.Conv2d(channels, channels, 1)
        self.gate, self.factor, self.calls = attention.Gate("channel"), factor, 0

    def forward(self, x):
        self.calls += 1
        return self.factor * x * self.gate(self.score(x.mean((2, 3), keepdim=True)))


def moved(network):
    """The network with weights and statistics that no initialisation gives."""
    with torch.no_grad():
        for tensor in network.state_dict().values():
            if tensor.is_floating_point():
                tensor.add_(0.01 * torch.rand_like(tensor))
    return network


def same_after(network, path, size=32, **told):
    """Save, load, compare the answers bit for bit; the loaded network."""
    moved(network).eval()
    state, random = copy.deepcopy(network.state_dict()), torch.get_rng_state()
    assert attention.save_network(network, path, **told) == path
    assert torch.equal(torch.get_rng_state(), random)
    loaded = attention.load_network(path)
    assert not any(module.training for module in loaded.modules())
    like = next(network.parameters())
    images = torch.randn(2, 3, size, size).to(like)
    with torch.no_grad():
        answers, again = network(images), loaded(images)
    assert answers.dtype == again.dtype and torch.equal(answers, again)
    for name, tensor in loaded.state_dict().items():
        assert tensor.dtype == state[name].dtype and torch.equal(tensor, state[name]), name
        assert torch.equal(tensor, network.state_dict()[name])  # and that one is as it was
    return loaded


def head(make, place, layer):
    """A network of torchvision or timm whose classifier was put there by hand."""
    network = make()
    owner, _, slot = place.rpartition(".")
    setattr(network.get_submodule(owner), slot, layer)
    return network


OPTIONS = {"img_size": 64, "class_token": False, "global_pool": "avg", "drop_path_rate": 0.1}
NETWORKS = {
    "resnet": lambda: attention.resnet(14, width=8, classes=3),
    "fast": lambda: attention.fast_resnet(width=8, classes=3),
    "vit": lambda: attention.vit(width=16, depth=2, heads=2, patch=8),
    "convvit": lambda: attention.convvit(width=16, depth=2, heads=2),
    "by hand": lambda: head(lambda: attention.resnet(8), "classifier", nn.Linear(64, 4)),
    "torchvision": lambda: models.shufflenet_v2_x0_5(num_classes=3),
    "a grouped one": lambda: models.mobilenet_v3_small(),
    "a convolution as head": lambda: models.squeezenet1_1(num_classes=3),
    "a version in its state": lambda: models.mnasnet0_5(num_classes=2),
    "torchvision, by hand": lambda: head(
        lambda: models.mobilenet_v3_small(), "classifier.3", nn.Linear(1024, 2)
    ),
    "timm": lambda: timm.create_model("resnet10t", num_classes=3),
    "timm, with a tag": lambda: timm.create_model("resnet10t.c3_in1k"),
    "timm, with options": lambda: timm.create_model("test_vit", **OPTIONS),
    "timm, by hand": lambda: head(lambda: timm.create_model("resnet10t"), "fc", nn.Linear(512, 2)),
}  # fmt: skip


@pytest.mark.parametrize("name", NETWORKS)
def test_answers_stay(name, tmp_path):
    network = NETWORKS[name]()
    # timm has not always kept what a network was made with
    told = (
        {} if hasattr(network, "_model_args") or "options" not in name else {"arguments": OPTIONS}
    )
    same_after(network, tmp_path / "network", 64, **told)


INSERTED = {
    "cbam": ("cbam", {"reduction": 4, "pools": ("avg",)}),
    "by class": (attention.SE, {"reduction": 4}),
    "stages": ("bam", {"at": "stage", "stages": (1, 3)}),
    "identity": ("se", {"start": "identity"}),
    "pool": ("multihead_pool", {}),
    "mine": ("mine", {"factor": 3.0}),
    "my class": (Mine, {"factor": 3.0}),
}


@pytest.mark.parametrize("name", INSERTED)
def test_blocks_are_put_there_again(name, tmp_path):
    attention.register("mine", Mine)
    block, options = INSERTED[name]
    network = attention.insert(attention.resnet(8, width=8), block, **options)
    loaded = same_after(network, tmp_path)
    assert attention.report(loaded) == attention.report(network)
    with attention.capture(loaded) as maps:
        loaded(torch.randn(1, 3, 32, 32))
    assert maps


def test_in_torchvisions_network_two_at_one_place(tmp_path):
    network = attention.insert(models.resnet18(num_classes=3), "eca")
    attention.insert(network, "sse", stages=(3, 4))
    loaded = same_after(network, tmp_path, architecture="resnet18")
    assert attention.report(loaded) == attention.report(network)


def test_after_any_module(tmp_path):
    network = models.shufflenet_v2_x0_5(num_classes=3)
    attention.insert(network, "cbam", after=("stage3.*", "conv5"), example=(1, 3, 96, 64))
    attention.insert(network, "se", after="stage2.0.branch2", start="identity")
    loaded = same_after(network, tmp_path, 64)
    assert attention.report(loaded) == attention.report(network)
    assert loaded.insertions[0]["example"] == (1, 3, 96, 64)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float64])
def test_dtypes(dtype, tmp_path):
    network = attention.insert(attention.resnet(8, width=8), "cbam").to(dtype)
    same_after(network, tmp_path)
    mixed = attention.resnet(8, width=8).to(dtype)
    mixed.classifier.float()
    attention.save_network(mixed, tmp_path)
    kinds = {name: t.dtype for name, t in attention.load_network(tmp_path).state_dict().items()}
    assert kinds == {name: t.dtype for name, t in mixed.state_dict().items()}


def test_buffers_outside_the_state_dict_have_its_dtype(tmp_path):
    network = timm.create_model("test_vit_relpos", num_classes=2).bfloat16()
    same_after(network, tmp_path, 160)


def test_channels_last_comes_back(tmp_path):
    network = attention.resnet(8, width=8).to(memory_format=torch.channels_last)
    loaded = same_after(network, tmp_path)
    assert loaded.stem[0].weight.is_contiguous(memory_format=torch.channels_last)
    assert not loaded.stem[0].weight.is_contiguous()


def test_weights_that_are_one_stay_one(tmp_path):
    network = attention.resnet(14, width=8)
    first, second = network.stages[0][0].branch, network.stages[0][1].branch
    second[0].weight = first[0].weight
    loaded = same_after(network, tmp_path)
    first, second = loaded.stages[0][0].branch, loaded.stages[0][1].branch
    assert second[0].weight is first[0].weight
    # as the hub's mixin writes and reads it
    other = attention.resnet(14, width=8)
    other.stages[0][1].branch[0].weight = other.stages[0][0].branch[0].weight
    safetensors.torch.load_model(other, tmp_path / "model.safetensors")
    assert torch.equal(other.classifier.weight, network.classifier.weight)


def test_what_is_told_comes_back(tmp_path):
    network = attention.resnet(8, classes=2)
    mean, std = torch.tensor([0.1, 0.2, 0.3]), (0.5, 0.25, 0.125)
    path = attention.save_network(
        network, tmp_path, classes=("cat", "dog"), mean=mean, std=std, size=40
    )
    card = attention.load_network(path).card
    assert (card.classes, card.std, card.size) == (("cat", "dog"), std, (40, 40))
    assert torch.equal(torch.tensor(card.mean), mean)
    images = torch.randint(256, (2, 3, 40, 40), dtype=torch.uint8)
    want = (images / 255 - mean[:, None, None]) / torch.tensor(std)[:, None, None]
    torch.testing.assert_close(card.prepare(images), want)
    torch.testing.assert_close(card.prepare(images[0]), want[:1])
    # saved again, it is told still
    loaded = attention.load_network(path)
    assert attention.load_network(attention.save_network(loaded, tmp_path / "b")).card == card


@pytest.mark.parametrize("resize", ["squash", "crop"])
def test_pictures_are_prepared_as_datasets_are(resize, tmp_path):
    """From a file with its Exif, from Pillow's picture, from a tensor: the pixels of `load`."""
    for place in ("train/a/1.png", "train/b/1.png", "test/a/1.png", "test/b/1.png"):
        path = tmp_path / "pictures" / place
        path.parent.mkdir(parents=True)
        picture = Image.fromarray(torch.randint(256, (30, 50, 3), dtype=torch.uint8).numpy())
        picture.save(path, exif=turned())
    data = attention.load(tmp_path / "pictures", size=24, resize=resize)
    path = attention.save_network(
        attention.resnet(8, classes=2), tmp_path / "n",
        classes=data.classes, mean=data.mean, std=data.std, size=data.size, resize=resize,
    )  # fmt: skip
    card = attention.load_network(path).card
    want = normalise(data.train.images[:1], data.mean, data.std)
    with Image.open(tmp_path / "pictures/train/a/1.png") as picture:
        torch.testing.assert_close(card.prepare(picture), want)
        upright = pil_to_tensor(ImageOps.exif_transpose(picture))
        torch.testing.assert_close(card.prepare(upright), want)
        torch.testing.assert_close(card.prepare(upright.expand(3, -1, -1, -1))[2:], want)


def turned():
    exif = Image.Exif()
    exif[0x0112] = 6  # the camera was held upright
    return exif


@pytest.mark.parametrize(
    ("images", "said"),
    [
        (torch.zeros(3, 4, 4), "dtype uint8, got torch.float32"),
        ("rose.jpg", "of Pillow.*got str"),
        (torch.zeros(1, 4, 4, dtype=torch.uint8), r"must be \(N, 3, H, W\)"),
        (torch.zeros(0, 3, 4, 4, dtype=torch.uint8), r"must be \(N, 3, H, W\)"),
    ],
)
def test_other_images_are_refused(images, said):
    card = attention.deploy.Card(mean=(0.5, 0.5, 0.5), std=(0.5, 0.5, 0.5))
    with pytest.raises(ValueError, match=said):
        card.prepare(images)
    with pytest.raises(ValueError, match="mean and std were not told"):
        attention.deploy.Card().prepare(torch.zeros(3, 4, 4, dtype=torch.uint8))


def test_the_layout_is_plain(tmp_path):
    attention.save_network(attention.insert(attention.resnet(8), "se"), tmp_path / "a" / "b")
    assert sorted(os.listdir(tmp_path / "a" / "b")) == ["config.json", "model.safetensors"]
    config = json.loads((tmp_path / "a" / "b" / "config.json").read_text())
    assert config["architecture"]["name"] == "resnet"
    assert config["insertions"][0]["block"] == "se"
    before = (tmp_path / "a" / "b" / "model.safetensors").read_bytes()
    attention.save_network(attention.load_network(tmp_path / "a" / "b"), tmp_path / "c")
    assert (tmp_path / "c" / "model.safetensors").read_bytes() == before


def changed(change, make=lambda: models.shufflenet_v2_x0_5(num_classes=3)):
    network = make()
    change(network)
    return network


REFUSED = {
    "fc: Sequential": lambda: changed(lambda n: setattr(n, "fc", nn.Sequential(n.fc))),
    "maxpool: AvgPool2d": lambda: changed(lambda n: setattr(n, "maxpool", nn.AvgPool2d(2))),
    "stride is": lambda: changed(lambda n: setattr(n.maxpool, "stride", 1)),
    "forward is not that": lambda: changed(lambda n: setattr(n, "forward", n._forward_impl)),
    "hooks": lambda: changed(lambda n: n.fc.register_forward_hook(lambda *_: None)),
    "own layer is there": lambda: changed(lambda n: n.add_module("own layer", nn.ReLU())),
    "give its .module": lambda: nn.DataParallel(attention.resnet(8)),
    "network must be this package's": lambda: nn.Linear(2, 2),
    "keep their arguments": lambda: changed(lambda n: delattr(n, "config"),
                                            lambda: attention.resnet(8)),
    "must have a name": lambda: attention.insert(attention.resnet(8), Mine),
    "must be a tensor": lambda: attention.resnet(8).to("meta"),
}  # fmt: skip


@pytest.mark.parametrize("said", REFUSED)
def test_what_is_not_built_again_is_refused(said, tmp_path):
    with pytest.raises(ValueError, match=said):
        attention.save_network(REFUSED[said](), tmp_path / "network")
    assert not os.listdir(tmp_path)


@pytest.mark.parametrize(
    ("told", "said"),
    [
        ({"classes": ["a"]}, "10 outputs, got 1"),
        ({"classes": "ab"}, "classes must be a list"),
        ({"classes": [1, 2]}, "classes must be names"),
        ({"mean": [0.5]}, "the same channels"),
        ({"mean": [0.5], "std": [0.0]}, "std must be above 0"),
        ({"size": (3, 3, 3)}, "size must be"),
        ({"size": 0}, "size must be"),
        ({"resize": "stretch"}, "resize must be one of squash, crop"),
        ({"arguments": {"depth": nn.ReLU}}, "arguments.*must be numbers"),
        ({"arguments": {"weights": "DEFAULT"}}, "not where weights are"),
        ({"architecture": "resnext"}, "name must be one of"),
    ],
)
def test_bad_arguments_are_refused(told, said, tmp_path):
    with pytest.raises(ValueError, match=said):
        attention.save_network(attention.resnet(8), tmp_path / "network", **told)
    assert not os.listdir(tmp_path)


def test_an_architecture_that_is_told(tmp_path):
    network = models.googlenet(aux_logits=False, init_weights=False, num_classes=3)
    with pytest.raises(ValueError, match="aux_logits is False"):
        attention.save_network(network, tmp_path)
    arguments = {"aux_logits": False, "num_classes": 3}
    attention.save_network(network, tmp_path, architecture="googlenet", arguments=arguments)
    assert isinstance(attention.load_network(tmp_path), models.GoogLeNet)


def test_another_programs_folder_is_not_written_over(tmp_path):
    (tmp_path / "config.json").write_text('{"model_type": "bert"}')
    with pytest.raises(ValueError, match="something else"):
        attention.save_network(attention.resnet(8), tmp_path)
    (tmp_path / "file").write_text("")
    with pytest.raises(ValueError, match="is a file"):
        attention.save_network(attention.resnet(8), tmp_path / "file")


def test_a_full_disk_leaves_what_was_there(tmp_path, monkeypatch):
    attention.save_network(attention.resnet(8), tmp_path)
    before = {path: path.read_bytes() for path in tmp_path.iterdir()}

    def full(self, content):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("pathlib.Path.write_bytes", full)
    with pytest.raises(OSError, match="cannot write"):
        attention.save_network(attention.resnet(14), tmp_path)
    assert {path: path.read_bytes() for path in tmp_path.iterdir()} == before


@pytest.fixture
def saved(tmp_path):
    network = attention.insert(attention.resnet(8, width=8), "se")
    return attention.save_network(network, tmp_path)


def test_a_flipped_bit_is_noticed(saved):
    path = saved / "model.safetensors"
    content = bytearray(path.read_bytes())
    content[-5] ^= 1
    with replacing(path) as temporary:
        temporary.write_bytes(content)
    with pytest.raises(ValueError, match="damaged"):
        attention.load_network(saved)
    path.unlink()
    with pytest.raises(FileNotFoundError, match="model.safetensors missing"):
        attention.load_network(saved)


@pytest.mark.parametrize(
    ("keys", "value", "said"),
    [
        (["format"], "attention network, version 2", "must be of 'attention network, version 1'"),
        (["architecture", "library"], "os", "library must be one of"),
        (["architecture", "name"], "system", "name must be one of"),
        (["architecture", "arguments", "weights"], "DEFAULT", "not where weights are"),
        (["architecture", "arguments", "files"], "x", "cannot be built"),
        (["architecture", "arguments", "width"], 4, "size mismatch"),
        (["architecture", "arguments", "depth"], 14, "weights are not those"),
        (["insertions", 0, "block"], "mine", "block 'mine' is not known here.*attention.register"),
        (["insertions", 0, "version"], 7, "saved in version 7"),
        (["insertions", 0, "options"], {"network": 3}, "block 'se'"),
        (["insertions", 0, "at"], "nowhere", "at must be one of"),
        (["insertions"], None, "must be"),
        (["dtype"], "int8", "dtype must be one of"),
        (["removed"], ["stages.7"], "nothing is at 'stages.7'"),
        (["removed"], [""], "nothing is at ''"),
        (
            ["folded"],
            [{"path": "stem", "block": "", "moved": None, "folded": True, "note": ""}],
            "gates must be paths",
        ),
        (["shared"], {"x": "stem"}, "weights lack 'stem'"),
        (["shared"], {"x": []}, "weights lack"),
        (["shared"], {"x": "classifier.bias"}, "weights are not those"),
        (["std"], [0.0], "same channels|std must be"),
    ],
)
def test_a_changed_configuration_is_refused(keys, value, said, saved):
    path = saved / "config.json"
    config = json.loads(path.read_text())
    place = config
    for key in keys[:-1]:
        place = place[key]
    place[keys[-1]] = value
    path.write_text(json.dumps(config))
    with pytest.raises(ValueError, match=said):
        attention.load_network(saved)


@pytest.mark.parametrize("name", ["hf-hub:timm/resnet18", "local-dir:/etc", "../resnet10t", "no"])
def test_timms_other_sources_are_refused(name, saved):
    path = saved / "config.json"
    config = json.loads(path.read_text())
    config["architecture"] = {"library": "timm", "name": name, "arguments": {}}
    path.write_text(json.dumps(config))
    with pytest.raises(ValueError, match="timm.list_models"):
        attention.load_network(saved)


def test_a_network_of_timm_without_timm(tmp_path, monkeypatch):
    attention.save_network(timm.create_model("test_resnet"), tmp_path)
    monkeypatch.setitem(sys.modules, "timm", None)  # as if it were not installed
    with pytest.raises(ImportError, match="pip install timm"):
        attention.load_network(tmp_path)


@pytest.mark.parametrize("text", ["", "{", "[]", '{"format": 1}', "\xff"])
def test_a_damaged_configuration_is_refused(text, saved):
    (saved / "config.json").write_text(text)
    with pytest.raises(ValueError, match="config.json .* is not the configuration"):
        attention.load_network(saved)


@pytest.mark.parametrize("block", ["se", "cbam", "hybrid"])
def test_a_folded_network(block, tmp_path):
    network = moved(attention.insert(attention.resnet(14, width=8), block, start=None)).eval()
    images = torch.randn(8, 3, 32, 32)
    folded = attention.fold(network, images, tolerance=0.5)
    assert any(row.folded for row in folded.folded)
    loaded = same_after(folded, tmp_path)
    assert attention.report(loaded) == attention.report(folded)
    assert attention.fold_report(loaded) == attention.fold_report(folded)


def test_what_was_taken_out_stays_out(tmp_path):
    network = models.resnet18(num_classes=10)
    network.maxpool = nn.Identity()
    same_after(network, tmp_path, architecture="resnet18")
    without_head = models.mobilenet_v3_small()
    without_head.classifier = nn.Identity()
    same_after(without_head, tmp_path, 64)


def test_the_example_of_the_documentation(tmp_path, monkeypatch, capsys):
    page = Path(__file__).resolve().parent.parent / "docs" / "your_network.md"
    examples = page.read_text(encoding="utf-8").split("```python\n")
    [example] = [part for part in examples if "save_network(" in part]
    data = attention.data.shapes10(20, 10)
    monkeypatch.chdir(tmp_path)
    Image.fromarray(data.test.images[0].permute(1, 2, 0).numpy()).save("rose.jpg")
    network = attention.insert(attention.resnet(8), "cbam").eval()
    exec(example.split("```")[0], {"attention": attention, "network": network, "data": data})
    assert capsys.readouterr().out.strip() in data.classes
