"""The non-local blocks against loops over pairs and timm.

Outputs and gradients in float64, to 1e-9, by the fast path and by the equation itself.
"""

import contextlib

import pytest
import torch
from parity import EXACT, assert_equal_to, gradients, leaf, randomise
from timm.layers.non_local_attn import NonLocalAttn

from attention.blocks import NonLocal, wanting
from attention.explain import capture

# The fused kernel, and the equation itself while the weights are wanted: both must be right.
ways = pytest.mark.parametrize("way", [contextlib.nullcontext, wanting], ids=["fast", "equation"])
MODES = ("embedded", "gaussian", "dot", "concatenation")
every_mode = pytest.mark.parametrize("mode", MODES)


def non_local_by_loop(block, x, training):
    """Wang et al. 2018, eq. 1–6: each pair of positions by itself."""
    size = x.shape[2:]
    count = size[0] * size[1]

    def linear(layer, one):
        return layer.weight @ one + (0 if layer.bias is None else layer.bias)

    pair = {
        "embedded": lambda a, b: (linear(block.theta, a) * linear(block.phi, b)).sum().exp(),
        "gaussian": lambda a, b: (a * b).sum().exp(),
        "dot": lambda a, b: (linear(block.theta, a) * linear(block.phi, b)).sum(),
        "concatenation": lambda a, b: (
            torch.cat([block.first.weight[0], block.second.weight[0]])
            @ torch.cat([linear(block.theta, a), linear(block.phi, b)])
        ).clamp(min=0),
    }[block.mode]
    images = []
    for image in x:
        vectors, rows = image.flatten(1).T, []
        for a in vectors:
            f = [pair(a, b) for b in vectors]
            normaliser = sum(f) if block.mode in ("embedded", "gaussian") else count
            rows.append(sum(w * linear(block.g, b) for w, b in zip(f, vectors, strict=True)))
            rows[-1] = rows[-1] / normaliser
        images.append(torch.stack(rows, 1).unflatten(1, size))
    z = torch.einsum("oc,nchw->nohw", block.out.weight[:, :, 0, 0], torch.stack(images))
    z = z + block.out.bias[:, None, None]
    mean, var = block.norm.running_mean, block.norm.running_var
    if training:
        mean, var = z.mean((0, 2, 3)), z.var((0, 2, 3), unbiased=False)
    z = (z - mean[:, None, None]) / (var[:, None, None] + 1e-5).sqrt()
    return x + z * block.norm.weight[:, None, None] + block.norm.bias[:, None, None]


@ways
@every_mode
@pytest.mark.parametrize("size, training", [((3, 4), False), ((2, 3), True), ((1, 1), False)])
def test_non_local_equals_a_loop_over_pairs(way, mode, size, training):
    block = randomise(NonLocal(6, mode)).double().train(training)
    x = leaf(2, 6, *size)
    with way(block):
        assert_equal_to(lambda x: non_local_by_loop(block, x, training), block, block, x)


@ways
@pytest.mark.parametrize("training", [False, True])
@pytest.mark.parametrize("use_scale", [False, True])
def test_embedded_non_local_equals_timms(way, training, use_scale):
    block = randomise(NonLocal(16)).double().train(training)
    reference = NonLocalAttn(16, use_scale=use_scale, rd_channels=8).double().train(training)
    up = 4 if use_scale else 1  # timm divides the logits by √16, the paper does not
    layers = {"t": block.theta, "p": block.phi, "g": block.g}

    def timms(x):
        tensors = {"z.weight": block.out.weight, "z.bias": block.out.bias}
        tensors |= {f"{key}.weight": one.weight[:, :, None, None] for key, one in layers.items()}
        tensors |= {f"{key}.bias": one.bias for key, one in layers.items()}
        tensors |= {key: up * tensors[key] for key in ("t.weight", "t.bias")}
        tensors |= {f"norm.{key}": value for key, value in block.norm.named_parameters()}
        tensors |= {f"norm.{key}": value.clone() for key, value in block.norm.named_buffers()}
        return torch.func.functional_call(reference, tensors, (x,))

    with way(block):
        assert_equal_to(timms, block, block, leaf(2, 16, 4, 5))


@every_mode
@pytest.mark.parametrize("training", [False, True])
def test_non_local_starts_as_the_identity(mode, training):
    x = torch.randn(2, 6, 5, 3)
    assert torch.equal(NonLocal(6, mode).train(training)(x), x)


def test_non_local_learns_from_the_identity():
    block, x = NonLocal(6), torch.randn(2, 6, 5, 3)
    assert gradients(block(x), [block.norm.weight])[0].abs().min() > 1e-6


@every_mode
def test_the_weights_of_non_local_are_the_normalised_pairs(mode):
    block, x = randomise(NonLocal(6, mode)).eval(), torch.randn(2, 6, 3, 4)
    with capture(block) as maps:
        block(x)
    weights = maps["weights"].cat()
    assert weights.shape == (2, 1, 12, 12) and maps["weights"].size == (3, 4)
    rows = x.flatten(2).mT
    if mode in ("embedded", "gaussian"):
        torch.testing.assert_close(weights.sum(-1), torch.ones(2, 1, 12))
    if mode == "gaussian":
        expected = (rows @ rows.mT).softmax(-1)
    elif mode == "embedded":
        expected = (block.theta(rows) @ block.phi(rows).mT).softmax(-1)
    elif mode == "dot":
        expected = block.theta(rows) @ block.phi(rows).mT / 12
    else:
        expected = (block.first(block.theta(rows)) + block.second(block.phi(rows)).mT).relu() / 12
        assert (weights == 0).any() and (weights > 0).any()
    torch.testing.assert_close(weights[:, 0], expected.detach())


@pytest.mark.parametrize("mode", ["softmax", "Embedded", "", None, ["dot"]])
def test_an_unknown_mode_is_named_beside_the_known_ones(mode):
    with pytest.raises(ValueError, match=", ".join(MODES)) as error:
        NonLocal(8, mode)
    assert repr(mode) in str(error.value)


@pytest.mark.parametrize("mode, count", [("embedded", 8480), ("gaussian", 4320), ("dot", 8480)])
def test_parameter_count_of_non_local_for_64_channels(mode, count):
    # θ, φ, g: 3·(32·64 + 32); W_z: 64·32 + 64; BatchNorm: 128
    halves = 1 if mode == "gaussian" else 3
    assert count == halves * (32 * 64 + 32) + 64 * 32 + 64 + 128
    assert sum(p.numel() for p in NonLocal(64, mode).parameters()) == count


def test_gradients_equal_finite_differences():
    block = randomise(NonLocal(4)).double()
    names, parameters = zip(*block.named_parameters(), strict=True)

    def function(x, *parameters):
        return torch.func.functional_call(block, dict(zip(names, parameters, strict=True)), (x,))

    assert torch.autograd.gradcheck(function, (leaf(2, 4, 2, 3), *parameters))


def test_what_is_mixed_does_not_depend_on_the_batch():
    block = randomise(NonLocal(4)).double().eval()
    x = torch.randn(3, 4, 4, 3, dtype=torch.float64)
    alone = torch.cat([block(image[None]) for image in x])
    torch.testing.assert_close(alone, block(x), **EXACT)
    assert not torch.allclose(alone, x)
