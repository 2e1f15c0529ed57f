"""The context-encoding gate against a loop over residuals; its shares of codewords."""

import pytest
import torch
from parity import assert_equal_to, leaf, randomise

from attention.blocks import CHANNEL, EncodingGate
from attention.explain import capture

map_sizes = pytest.mark.parametrize("shape", [(2, 6, 3, 4), (2, 6, 1, 1), (3, 6, 4, 2)])


def softmax(logits):
    """Of a list of numbers."""
    powers = [torch.exp(one) for one in logits]
    return [one / sum(powers) for one in powers]


def encoding_by_loop(block, x, training):
    """Every residual between a position and a codeword, one at a time (Zhang et al. 2018)."""
    score = block.score
    d, s = score.codewords, score.smoothing
    images = []
    for image in x:
        places = image.flatten(1).T
        encoded = [0] * len(d)
        for one in places:
            shares = softmax([-s[k] * ((one - d[k]) ** 2).sum() for k in range(len(d))])
            for k in range(len(d)):
                encoded[k] = encoded[k] + shares[k] * (one - d[k]) / len(places)
        images.append(torch.stack(encoded))
    e = torch.stack(images)  # (N, K, C)
    mean, var = score.norm.running_mean, score.norm.running_var
    if training:
        mean = e.mean((0, 2))
        var = ((e - mean[:, None]) ** 2).mean((0, 2))
    e = (e - mean[:, None]) / (var[:, None] + 1e-5).sqrt()
    e = e * score.norm.weight[:, None] + score.norm.bias[:, None]
    logits = e.clamp(min=0).sum(1) @ score.linear.weight.T + score.linear.bias
    return x / (1 + torch.exp(-logits[:, :, None, None]))


@map_sizes
@pytest.mark.parametrize("training", [False, True])
def test_the_encoding_gate_equals_a_loop_over_residuals(shape, training):
    block = randomise(EncodingGate(6, codewords=3)).double().train(training)
    x = leaf(*shape)
    before = [block.score.norm.running_mean.clone(), block.score.norm.running_var.clone()]
    assert_equal_to(lambda x: encoding_by_loop(block, x, training), block, block, x)
    changed = not torch.equal(before[0], block.score.norm.running_mean)
    assert changed == training


def test_the_shares_of_codewords_are_those_of_the_loop():
    block = randomise(EncodingGate(6, codewords=3))
    x = torch.randn(2, 6, 4, 3)
    with capture(block.eval()) as maps:
        block(x)
    shares = maps["score.assignment"].maps[0]
    assert shares.shape == (2, 3, 4, 3) and maps["gate"].kind == CHANNEL
    d, s = block.score.codewords, block.score.smoothing
    for n, y, column in ((0, 0, 0), (1, 3, 1), (0, 2, 2)):
        one = x[n, :, y, column]
        expected = softmax([-s[k] * ((one - d[k]) ** 2).sum() for k in range(3)])
        torch.testing.assert_close(shares[n, :, y, column], torch.stack(expected).detach())


def test_the_codewords_start_as_the_authors_start_them():
    score = EncodingGate(64, codewords=32).score
    assert score.codewords.abs().max() <= (32 * 64) ** -0.5 and score.codewords.std() > 0.01
    assert 0 <= score.smoothing.min() and score.smoothing.max() <= 1


def test_the_encoding_gate_in_training_mode_refuses_a_single_image_and_says_why():
    block = EncodingGate(6)
    with pytest.raises(ValueError, match="batch of at least 2 images, got 1"):
        block(torch.randn(1, 6, 4, 4))
    assert block.eval()(torch.randn(1, 6, 4, 4)).shape == (1, 6, 4, 4)


@pytest.mark.parametrize("codewords", [0, -1, 2.5, None])
def test_a_bad_number_of_codewords_is_named(codewords):
    with pytest.raises(ValueError, match="codewords") as error:
        EncodingGate(8, codewords)
    assert repr(codewords) in str(error.value)


def test_parameter_count_is_the_documented_one_for_64_channels():
    # C² + C + KC + 3K with K = 16
    assert sum(p.numel() for p in EncodingGate(64).parameters()) == 5232


def test_autocast_does_not_touch_the_encoding():
    # in bfloat16 the squares of numbers far from 0 would lose the distances between them
    block, x = randomise(EncodingGate(6, codewords=3)).eval(), 30 + torch.randn(2, 6, 4, 3)
    expected = block(x)
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(block(x), expected)
