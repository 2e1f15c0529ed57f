"""Agreement of maps, intervals of means, networks that lose what they learned layer by layer."""

import math

import numpy as np
import pytest
import scipy.stats
import torch
import torchvision
from parity import randomise
from torch import nn

from attention.explain import grad_cam, mean_interval, randomised, rank_correlation
from attention.networks import fast_resnet, insert, resnet, vit

# ----------------------------------------------------------------------------- rank correlation


def expected_correlation(first, second):
    pairs = zip(first.flatten(1).numpy(), second.flatten(1).numpy(), strict=True)
    return [scipy.stats.spearmanr(a, b).statistic for a, b in pairs]


@pytest.mark.parametrize("levels", [2, 5, 1000])
def test_rank_correlation_equals_scipys_with_ties_too(levels):
    first = torch.randint(levels, (6, 7, 5)).float()
    second = torch.randint(levels, (6, 7, 5)).float() + first * torch.arange(-3, 3)[:, None, None]
    found = rank_correlation(first, second)
    assert found.shape == (6,) and np.abs(found).max() > 0.5
    np.testing.assert_allclose(found, expected_correlation(first, second), atol=1e-12)


def test_only_the_order_counts():
    maps = torch.randn(4, 6, 5)
    np.testing.assert_allclose(rank_correlation(maps, maps.exp()), 1)
    np.testing.assert_allclose(rank_correlation(maps, -3 * maps), -1)
    other = torch.randn(4, 6, 5)
    found = rank_correlation(maps, other)
    np.testing.assert_allclose(rank_correlation(other.double(), maps), found)
    np.testing.assert_allclose(rank_correlation(maps, other**3), found)


def test_a_constant_map_has_no_rank_correlation(recwarn):
    maps = torch.randn(4, 6, 5)
    constant = maps.clone()
    constant[1], constant[3] = 0, 0.7
    for pair in ((maps, constant), (constant, maps), (constant, constant)):
        found = rank_correlation(*pair)
        assert list(np.isnan(found)) == [False, True, False, True]
        np.testing.assert_allclose(found[[0, 2]], 1)
    assert not recwarn.list


@pytest.mark.parametrize(
    "first, second, message",
    [
        (torch.ones(2, 3, 4), torch.ones(2, 4, 3), r"one shape, got \(2, 3, 4\) and \(2, 4, 3\)"),
        (torch.ones(2, 3, 4), torch.ones(1, 3, 4), "one shape"),
        (torch.ones(2, 3), torch.ones(2, 3), r"\(N, H, W\)"),
        (torch.ones(2, 3, 4), torch.ones(2, 1, 3, 4), r"\(N, H, W\)"),
        (torch.ones(2, 3, 4), torch.ones(2, 3, 4) / 0, "finite"),
        (torch.ones(2, 3, 4) * math.nan, torch.ones(2, 3, 4), "finite"),
    ],
)
def test_what_has_no_rank_correlation_is_named(first, second, message):
    with pytest.raises(ValueError, match=message):
        rank_correlation(first, second)


# -------------------------------------------------------------------------------- mean_interval


def test_the_interval_holds_the_true_mean_about_as_often_as_it_says():
    samples = np.random.default_rng(0).normal(3, 2, (200, 25))
    held = 0
    for sample in samples:
        mean, low, high = mean_interval(sample)
        assert mean == pytest.approx(sample.mean()) and low < mean < high
        held += low < 3 < high
    assert 0.88 <= held / 200 <= 0.99


@pytest.mark.parametrize("confidence", [0.5, 0.95])
def test_the_interval_of_many_normal_values_is_the_textbooks(confidence):
    values = np.random.default_rng(1).normal(0, 1, 1000)
    half = scipy.stats.norm.ppf(0.5 + confidence / 2) * values.std() / 1000**0.5
    mean, low, high = mean_interval(values, confidence)
    assert [low, high] == pytest.approx([mean - half, mean + half], abs=0.1 * half)


def test_the_interval_follows_from_the_seed_and_leaves_nan_out():
    values = np.random.default_rng(2).normal(0, 1, 20)
    found = mean_interval(values, seed=4)
    assert all(type(number) is float for number in found)
    assert found == mean_interval(values, seed=4) == mean_interval(torch.tensor(values), seed=4)
    assert found != mean_interval(values, seed=5)
    holes = np.insert(values, [0, 7, 20], math.nan)
    assert found == mean_interval(list(holes), seed=4)


def test_constant_values_are_their_own_interval():
    assert mean_interval([0.25] * 3 + [math.nan]) == (0.25, 0.25, 0.25)


@pytest.mark.parametrize("confidence", [95, 1, 0, -0.5, math.nan])
def test_a_confidence_is_a_share(confidence):
    with pytest.raises(ValueError, match="confidence must be"):
        mean_interval([1.0, 2, 3], confidence)


@pytest.mark.parametrize("values", [[1, 2, math.inf], [[1.0, 2], [3, 4]], 3.0])
def test_values_are_a_list_of_finite_numbers(values):
    with pytest.raises(ValueError, match="values must be a list of finite numbers"):
        mean_interval(values)


def test_the_interval_is_scipys():
    values = np.random.default_rng(3).exponential(1, 60)
    found = scipy.stats.bootstrap((values,), np.mean, n_resamples=20000, method="percentile")
    expected = found.confidence_interval
    assert mean_interval(values)[1:] == pytest.approx([expected.low, expected.high], abs=0.02)


@pytest.mark.parametrize("values", [[], [1.0], [1.0, math.nan], [math.nan] * 5])
def test_too_few_values_have_no_interval(values):
    count = int(np.isfinite(values).sum())
    with pytest.raises(ValueError, match=f"at least 2 numbers, got {count}"):
        mean_interval(values)


# ------------------------------------------------------------------------------------ randomised


def copied(network):
    return {key: value.clone() for key, value in network.state_dict().items()}


def changed(before, after):
    """The paths of the modules whose parameters or buffers are not what they were."""
    keys = [key for key in before if not torch.equal(before[key], after[key])]
    return {key.rpartition(".")[0] for key in keys}


def layers_run(network):
    """Paths of the layers that learn, in the order in which an image passes them."""
    kinds = (nn.Conv2d, nn.Conv1d, nn.Linear, nn.BatchNorm1d, nn.BatchNorm2d)
    run, handles = [], []
    for path, module in network.named_modules():
        if isinstance(module, kinds):
            handles.append(module.register_forward_hook(lambda *_, path=path: run.append(path)))
    network(torch.randn(2, 3, 32, 32))
    for handle in handles:
        handle.remove()
    return list(dict.fromkeys(run))


NETWORKS = {
    "fast": lambda: insert(fast_resnet(8), "cbam", reduction=2),
    "resnet": lambda: insert(resnet(14, 4), "eca"),
    "encoding": lambda: insert(resnet(8, 4), "encoding", codewords=2),
    "squeezenet": lambda: torchvision.models.squeezenet1_1(num_classes=3),
}


@pytest.mark.parametrize("name", NETWORKS)
def test_each_step_changes_one_more_layer_from_the_output_to_the_input(name):
    network = randomise(NETWORKS[name]()).eval()
    original, before, paths = copied(network), copied(network), []
    for path, step in randomised(network):
        assert step is not network and not step.training
        after = copied(step)
        assert changed(before, after) == {path}
        before = after
        paths.append(path)
    if name == "encoding":  # a score has codewords of its own, beside its layers
        own = [f"stages.{number}.0.attention.score" for number in (2, 1, 0)]
        assert [path for path in paths if path in own] == own
        assert [path for path in paths if path not in own] == layers_run(network)[::-1]
    elif name == "squeezenet":  # two of its convolutions stand side by side
        assert sorted(paths) == sorted(layers_run(network)) and paths[-1] == "features.0"
    else:
        assert paths == layers_run(network)[::-1]
    assert changed(original, network.state_dict()) == set()


def test_a_transformer_from_its_classifier_to_its_stem():
    network = randomise(vit(16, 2, 4)).eval()
    before, paths = copied(network), []
    for path, step in randomised(network):
        after = copied(step)
        assert changed(before, after) == {path}
        before = after
        paths.append(path)
    numbers = [path.split(".")[1] for path in paths if path.startswith("layers")]
    assert paths[:2] == ["classifier", "norm"]
    assert paths[-2:] == ["stem", ""]  # the class token and the places are the network's own
    assert numbers == ["1"] * 8 + ["0"] * 8


def test_the_new_values_are_initial_values():
    network = randomise(resnet(14, 32)).eval()
    for path, step in randomised(network):
        module = step.get_submodule(path)
        if isinstance(module, nn.BatchNorm2d):
            assert (module.weight == 1).all() and (module.bias == 0).all()
            assert (module.running_mean == 0).all() and (module.running_var == 1).all()
        else:  # torch's own: uniform, ± 1 / √(inputs of a unit)
            new = module.weight.detach().flatten()
            old = network.get_submodule(path).weight.detach().flatten()
            bound = module.weight[0].numel() ** -0.5
            assert 0.95 * bound < new.abs().max() <= bound
            assert float(new.std()) == pytest.approx(bound / 3**0.5, rel=0.1)
            assert abs(np.corrcoef(new, old)[0, 1]) < 0.2


def test_it_follows_from_the_seed_whatever_the_caller_draws():
    network = randomise(resnet(8, 4)).eval()

    def last(seed, disturb=False):
        for _, step in randomised(network, seed):
            found = copied(step)
            if disturb:
                torch.manual_seed(99)
                torch.rand(5)
        return found

    first = last(3)
    assert changed(first, last(3, disturb=True)) == set()
    drawn = {path for path in layers_run(network) if first[f"{path}.weight"].std() > 0}
    assert changed(first, last(4)) == drawn and len(drawn) == 8  # all but the norms


def test_the_callers_random_numbers_are_left_alone():
    network = randomise(resnet(8, 4)).eval()
    torch.manual_seed(5)
    expected = torch.rand(3)
    torch.manual_seed(5)
    steps = randomised(network)
    next(steps), next(steps)
    assert torch.equal(torch.rand(3), expected)  # between two steps, and after giving up


@pytest.mark.parametrize(
    "arguments, error", [((nn.Flatten(), -1), ValueError), (("network",), TypeError)]
)
def test_what_cannot_be_randomised_is_named(arguments, error):
    with pytest.raises(error, match="seed must be|network must be"):
        next(randomised(*arguments))


@pytest.mark.parametrize("make", [lambda: fast_resnet(8), lambda: resnet(8, 4)])
def test_grad_cam_of_a_randomised_network_is_another(make):
    network, images = make().eval(), torch.randn(4, 3, 32, 32)
    for module in network.modules():
        if isinstance(module, nn.Conv2d):
            nn.init.kaiming_normal_(module.weight)
    before = grad_cam(network, images, 3)
    similar = []
    for _, step in randomised(network):
        maps = grad_cam(step, images, 3)
        similar.append(np.nan_to_num(rank_correlation(before, maps)).mean())
    assert len(similar) == len(layers_run(network)) and not torch.allclose(maps, before)
    assert similar[-1] < 0.9
    assert torch.equal(grad_cam(network, images, 3), before)
