"""The global context against timm's, with addition; where it starts; its weights."""

import pytest
import torch
from parity import EXACT, assert_equal_to, gradients, leaf, randomise
from timm.layers.global_context import GlobalContext as TimmContext

from attention.blocks import GlobalContext
from attention.explain import capture


@pytest.mark.parametrize("shape", [(2, 8, 4, 5), (1, 8, 1, 1), (3, 8, 2, 6)])
def test_global_context_equals_timms_with_addition(shape):
    block = randomise(GlobalContext(8, reduction=2)).double()
    reference = TimmContext(8, fuse_add=True, fuse_scale=False, rd_channels=4).double()
    reference.mlp_add.norm.eps = 1e-5  # timm: 1e-6; the authors: torch's default
    first, norm, _, last = block.transform

    def timms(x):
        tensors = {
            "conv_attn.weight": block.score.weight[:, :, None, None],
            "conv_attn.bias": block.score.bias,
            "mlp_add.fc1.weight": first.weight[:, :, None, None],
            "mlp_add.fc1.bias": first.bias,
            "mlp_add.norm.weight": norm.weight,
            "mlp_add.norm.bias": norm.bias,
            "mlp_add.fc2.weight": last.weight[:, :, None, None],
            "mlp_add.fc2.bias": last.bias,
        }
        return torch.func.functional_call(reference, tensors, (x,))

    assert_equal_to(timms, block, block, leaf(*shape))


def test_global_context_starts_as_the_identity_and_learns():
    block, x = GlobalContext(8, reduction=2), torch.randn(2, 8, 5, 3)
    output = block(x)
    assert torch.equal(output, x)
    assert gradients(output, [block.transform[-1].weight])[0].abs().max() > 1e-3


def test_global_context_weighs_positions_once_for_all_queries():
    block, x = randomise(GlobalContext(8, reduction=2)), torch.randn(2, 8, 3, 4)
    with capture(block) as maps:
        output = block(x)
    weights = maps["weights"].cat()
    assert weights.shape == (2, 1, 1, 12)
    expected = (x.permute(0, 2, 3, 1) @ block.score.weight[0]).flatten(1).softmax(1)
    torch.testing.assert_close(weights[:, 0, 0], expected.detach())
    added = output - x
    torch.testing.assert_close(added, added[:, :, :1, :1].expand_as(x))


def test_gradients_equal_finite_differences():
    block = randomise(GlobalContext(4, reduction=2)).double()
    names, parameters = zip(*block.named_parameters(), strict=True)

    def function(x, *parameters):
        return torch.func.functional_call(block, dict(zip(names, parameters, strict=True)), (x,))

    assert torch.autograd.gradcheck(function, (leaf(2, 4, 2, 3), *parameters))


def test_what_is_mixed_does_not_depend_on_the_batch():
    block = randomise(GlobalContext(4, reduction=2)).double().eval()
    x = torch.randn(3, 4, 4, 3, dtype=torch.float64)
    alone = torch.cat([block(image[None]) for image in x])
    torch.testing.assert_close(alone, block(x), **EXACT)
    assert not torch.allclose(alone, x)


@pytest.mark.parametrize("channels, reduction, hidden", [(64, 16, 4), (64, 8, 8), (16, 16, 4)])
def test_parameter_count_is_the_documented_one(channels, reduction, hidden):
    # 2hC + 2C + 3h + 1, and h = C/r is never less than 4
    count = sum(p.numel() for p in GlobalContext(channels, reduction).parameters())
    assert count == 2 * hidden * channels + 2 * channels + 3 * hidden + 1


@pytest.mark.parametrize("reduction", [0, 1.5, True, None])
def test_a_bad_reduction_is_named(reduction):
    with pytest.raises(ValueError, match="reduction") as error:
        GlobalContext(8, reduction)
    assert repr(reduction) in str(error.value)
