"""The vision transformer against timm's with the same weights; other image sizes; its stems."""

import functools

import pytest
import timm.models.vision_transformer as timm_vit
import torch
from parity import assert_equal_to, leaf, randomise
from torch import nn
from torch.nn import functional as F

from attention.cost import parameters
from attention.explain import capture
from attention.networks import NETWORKS, convvit, vit
from attention.networks.transformer import EncoderLayer

norm_layer = functools.partial(nn.LayerNorm, eps=1e-5)  # timm: 1e-6
WIDTH, DEPTH, HEADS = 16, 2, 4


def layer_tensors(layer, prefix=""):
    """The tensors of one of our layers under the names of timm's."""
    attention = layer.attention
    parts = (attention.query, attention.key, attention.value)
    tensors = {
        "attn.qkv.weight": torch.cat([part.weight for part in parts]),
        "attn.qkv.bias": torch.cat([part.bias for part in parts]),
    }
    names = {"norm1": layer.norm1, "norm2": layer.norm2, "attn.proj": attention.out}
    names |= {"mlp.fc1": layer.mlp[0], "mlp.fc2": layer.mlp[2]}
    for name, module in names.items():
        tensors |= {f"{name}.weight": module.weight, f"{name}.bias": module.bias}
    return {prefix + name: tensor for name, tensor in tensors.items()}


def network_tensors(network, size):
    """The tensors of our network, but its stem's, for images of `size` tokens."""
    positions = network.positions
    if positions.shape[2:] != size:
        positions = F.interpolate(positions, size, mode="bicubic", align_corners=False)
    rows = [positions[:, :, y, x] for y in range(size[0]) for x in range(size[1])]
    tensors = {
        "cls_token": network.class_token,
        "pos_embed": torch.cat([network.class_position, torch.stack(rows, 1)], 1),
    }
    for name, module in {"norm": network.norm, "head": network.classifier}.items():
        tensors |= {f"{name}.weight": module.weight, f"{name}.bias": module.bias}
    for number, layer in enumerate(network.layers):
        tensors |= layer_tensors(layer, f"blocks.{number}.")
    return tensors


def timms(size, patch=4):
    return timm_vit.VisionTransformer(
        size, patch, num_classes=7, embed_dim=WIDTH, depth=DEPTH, num_heads=HEADS, mlp_ratio=2,
        norm_layer=norm_layer,
    ).double()  # fmt: skip


def test_one_layer_equals_timms():
    layer = randomise(EncoderLayer(8, heads=2)).double()
    reference = timm_vit.Block(8, 2, mlp_ratio=2, qkv_bias=True, norm_layer=norm_layer).double()

    def by_timm(z):
        return torch.func.functional_call(reference, layer_tensors(layer), (z,))

    assert_equal_to(by_timm, lambda z: layer(z, (1, 5)), layer, leaf(2, 6, 8))


@pytest.mark.parametrize(
    "size, patch",
    [((32, 32), 4), ((64, 64), 4), ((24, 40), 4), ((32, 32), 8), ((4, 4), 4)],
)
def test_the_vit_equals_timms_at_its_own_and_at_other_sizes(size, patch):
    network = randomise(vit(WIDTH, DEPTH, HEADS, patch, classes=7)).double()
    grid = (size[0] // patch, size[1] // patch)
    reference = timms(size, patch)

    def by_timm(x):
        tensors = network_tensors(network, grid)
        tensors |= {f"patch_embed.proj.{k}": v for k, v in network.stem.named_parameters()}
        return torch.func.functional_call(reference, tensors, (x,))

    output = assert_equal_to(by_timm, network, network, leaf(2, 3, *size))
    assert output.shape == (2, 7)


class Rows(nn.Module):
    """In place of timm's patches: tokens from a map that is there already."""

    def forward(self, x):
        return x.flatten(2).transpose(1, 2)


def conv_stem(x, stem, training):
    for conv, norm in ((stem[0], stem[1]), (stem[3], stem[4])):
        x = F.conv2d(x, conv.weight, stride=2, padding=1)
        mean, var = norm.running_mean, norm.running_var
        if training:
            mean, var = x.mean((0, 2, 3)), x.var((0, 2, 3), unbiased=False)
        x = (x - mean[:, None, None]) / (var[:, None, None] + 1e-5).sqrt()
        x = (x * norm.weight[:, None, None] + norm.bias[:, None, None]).clamp(min=0)
    return F.conv2d(x, stem[6].weight, stem[6].bias)


@pytest.mark.parametrize("size", [(32, 32), (48, 32)])
@pytest.mark.parametrize("training", [False, True])
def test_the_hybrid_equals_its_stem_and_then_timms(size, training):
    network = randomise(convvit(WIDTH, DEPTH, HEADS, classes=7)).double().train(training)
    reference = timms(size)
    reference.patch_embed = Rows()

    def by_parts(x):
        tensors = network_tensors(network, (size[0] // 4, size[1] // 4))
        stem = conv_stem(x, network.stem, training)
        return torch.func.functional_call(reference, tensors, (stem,))

    assert_equal_to(by_parts, network, network, leaf(2, 3, *size))


@pytest.mark.parametrize("make", [vit, convvit])
def test_while_captured_output_and_gradients_are_the_same(make):
    network = randomise(make(8, 2, 2, classes=5)).double().eval()

    def captured(x):
        with capture(network):
            return network(x)

    assert_equal_to(network, captured, network, leaf(2, 3, 16, 12))


@pytest.mark.parametrize("make", [vit, convvit])
def test_an_image_alone_gives_what_it_gives_in_a_batch(make):
    network = randomise(make(8, 2, 2)).double().eval()
    x = torch.randn(3, 3, 32, 32, dtype=torch.float64)
    alone = torch.cat([network(image[None]) for image in x])
    torch.testing.assert_close(alone, network(x), rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("name", ["vit", "convvit"])
def test_parameters_add_up_to_those_of_the_layers_counted_by_hand(name):
    d, classes = 192, 10
    layer = 4 * d * d + 4 * d + 2 * (2 * d * d) + 3 * d + 4 * d  # attention, MLP, two norms
    stem = 3 * 16 * d + d
    if name == "convvit":
        stem = 27 * 48 + 2 * 48 + 9 * 48 * 96 + 2 * 96 + 96 * d + d
    rest = 64 * d + 2 * d + 2 * d + d * classes + classes  # positions, class token, norm, W
    assert parameters(NETWORKS[name].make()) == 6 * layer + stem + rest


def test_the_transformers_start_undecided_between_the_classes():
    torch.manual_seed(1)
    x = torch.randn(16, 3, 32, 32)
    for name in ("vit", "convvit"):
        loss = F.cross_entropy(NETWORKS[name].make()(x), torch.arange(16) % 10)
        assert 1.5 < loss < 3.5  # log 10 = 2.3


@pytest.mark.parametrize("make", [vit, convvit])
@pytest.mark.parametrize(
    "argument, value",
    [
        ("width", 0),
        ("width", 8.0),
        ("depth", 0),
        ("heads", 3),
        ("heads", 0),
        ("heads", True),
        ("classes", 0),
    ],
)
def test_a_bad_argument_is_named_with_its_value(make, argument, value):
    with pytest.raises(ValueError, match=argument) as error:
        make(**{"width": 8, "depth": 1, "heads": 2} | {argument: value})
    assert repr(value) in str(error.value)


@pytest.mark.parametrize("patch", [0, 4.0, True, 5, 64])
def test_a_patch_that_does_not_divide_the_images_is_named(patch):
    with pytest.raises(ValueError, match="patch") as error:
        vit(patch=patch)
    assert repr(patch) in str(error.value)


@pytest.mark.parametrize("size", [(30, 32), (32, 6), (2, 2)])
def test_images_that_are_not_whole_patches_are_refused_with_their_size(size):
    with pytest.raises(ValueError, match=rf"4×4 pixels, got {size[0]}×{size[1]}"):
        vit(8, 1, 2)(torch.randn(2, 3, *size))


@pytest.mark.parametrize("make", [vit, convvit])
@pytest.mark.parametrize("shape", [(3, 32, 32), (2, 1, 32, 32), (2, 3, 0, 32)])
def test_what_are_no_images_is_refused_with_its_shape(make, shape):
    with pytest.raises(ValueError) as error:
        make(8, 1, 2)(torch.randn(shape))
    assert str(shape) in str(error.value)


@pytest.mark.parametrize("size", [(1, 1), (5, 3), (33, 30), (64, 20)])
def test_the_hybrid_takes_images_of_any_size_a_token_for_every_4_by_4_pixels(size):
    network = convvit(8, 1, 2).eval()
    with capture(network) as maps:
        assert network(torch.randn(2, 3, *size)).shape == (2, 10)
    expected = tuple(-(-side // 4) for side in size)
    assert maps["layers.0.attention.weights"].size == expected


def test_position_embeddings_are_interpolated_for_other_sizes_and_not_for_their_own():
    network = vit(8, 1, 2).eval()
    ramp = torch.arange(8.0).expand(8, 8)
    seen = {}
    network.layers[0].register_forward_hook(lambda layer, inputs, output: seen.update(z=inputs[0]))
    with torch.no_grad():
        network.positions.copy_(ramp.expand(1, 8, 8, 8))
        nn.init.zeros_(network.stem.weight), nn.init.zeros_(network.stem.bias)
        network(torch.randn(1, 3, 32, 32))
        assert torch.equal(seen["z"][0, 1:, 0].view(8, 8), ramp)
        network(torch.randn(1, 3, 64, 16))
    positions = seen["z"][0, 1:, 0].view(16, 4)
    assert (positions[:, 1:] > positions[:, :-1] + 1.5).all()  # half as many, twice the way
    torch.testing.assert_close(positions, positions[:1].expand(16, 4))
