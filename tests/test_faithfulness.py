"""Deletion, insertion and ROAD where the truth is known; what fills the holes that they make."""

import math

import numpy as np
import pytest
import scipy.ndimage
import torch
from torch import nn

from attention.explain import Curve, areas, faithfulness, impute
from attention.explain.removal import METHODS, blur
from attention.networks import fast_resnet

SIDE, CORNER = 8, 4  # of the images, and of what the network sees of them


class Corner(nn.Module):
    """Two logits: the sum over one corner of the image, and 0. Nothing else matters."""

    def forward(self, x):
        total = x[:, :, :CORNER, :CORNER].sum((1, 2, 3))
        return torch.stack([total, torch.zeros_like(total)], 1)


NETWORK = Corner().eval()


def bright(count=3, side=SIDE):
    """Images whose corner gives a logit near 3, brighter or darker pixel by pixel."""
    return torch.rand(count, 3, side, side) * 6 / (3 * CORNER**2)


def right_maps(images):
    """What each pixel adds to the logit."""
    maps = torch.zeros(len(images), *images.shape[2:])
    maps[:, :CORNER, :CORNER] = images[:, :, :CORNER, :CORNER].sum(1)
    return maps


def sigmoid(x):
    return 1 / (1 + math.exp(-x))


def gaussian(image, sigma, reach):
    """SciPy's blur of one image (3, H, W), the border reflected without repeating the edge."""
    options = dict(sigma=sigma, mode="mirror", radius=reach, axes=(1, 2))
    return torch.tensor(scipy.ndimage.gaussian_filter(image.double().numpy(), **options))


# ---------------------------------------------------------------------- the curves, where known


def test_the_curves_of_the_right_map_are_those_written_out():
    images = bright()
    maps = right_maps(images)
    for method in ("deletion", "insertion"):
        curve = faithfulness(NETWORK, images, maps, method, target=0, steps=SIDE**2)
        assert curve.method == method and curve.probability.shape == (3, SIDE**2 + 1)
        torch.testing.assert_close(curve.share, torch.arange(SIDE**2 + 1) / SIDE**2)
        for image, found in zip(images, curve.probability, strict=True):
            behind = gaussian(image, 5, SIDE - 1) if method == "insertion" else 0 * image
            pixels = sorted(
                (float(image[:, y, x].sum()), float(behind[:, y, x].sum()))
                for y in range(CORNER)
                for x in range(CORNER)
            )[::-1]
            expected = []
            for taken in range(SIDE**2 + 1):
                kept, gone = pixels[taken:], pixels[:taken]
                if method == "insertion":
                    logit = sum(a for a, _ in gone) + sum(b for _, b in kept)
                else:
                    logit = sum(a for a, _ in kept)
                expected.append(sigmoid(logit))
            torch.testing.assert_close(found, torch.tensor(expected), rtol=1e-5, atol=1e-5)


def test_the_right_map_beats_random_beats_inverted():
    images = bright(40, 16)
    right = right_maps(images)
    images *= right[:, None] > 0  # black around the corner: what is blurred or filled in is dark
    maps = {
        "right": right,
        "random": torch.rand(40, 16, 16),
        "constant": torch.ones(40, 16, 16),
        "inverted": 1 - right,
    }
    frame = areas(NETWORK, images, maps, target=0, steps=16)
    mean = frame.groupby("map")[list(METHODS)].mean()
    for method, sign in (("deletion", 1), ("insertion", -1), ("road", 1)):
        order = sign * mean[method]
        for chance in ("random", "constant"):
            assert order["right"] < order[chance] - 0.02 < order["inverted"] - 0.04, method
    # all that matters is gone after the first of 16 steps: σ(logit) once, then ½
    logits = images[:, :, :CORNER, :CORNER].sum((1, 2, 3))
    expected = (logits.sigmoid() / 2 + 15 * 0.5 + 0.25) / 16
    found = frame[frame["map"] == "right"]["deletion"].to_numpy()
    np.testing.assert_allclose(found, expected, rtol=1e-5)


def test_deletion_is_a_plain_loop_over_pixels():
    network = nn.Sequential(nn.Flatten(), nn.Linear(3 * 3 * 4, 5)).eval()
    images, maps = torch.randn(2, 3, 3, 4), torch.randn(2, 3, 4)
    curve = faithfulness(network, images, maps, steps=4)
    for n in range(2):
        answer = network(images[n : n + 1]).argmax()
        left = sorted((float(maps[n, y, x]), y, x) for y in range(3) for x in range(4))
        image = images[n : n + 1].clone()
        for step in range(5):
            probability = network(image).softmax(1)[0, answer]
            torch.testing.assert_close(curve.probability[n, step], probability)
            for _ in range(3 if left else 0):
                _, y, x = left.pop()
                image[..., y, x] = 0


def test_the_ends_are_the_untouched_image_and_what_lies_behind_it():
    network, images = fast_resnet(8).eval(), torch.randn(3, 3, 23, 19)
    maps = torch.rand(3, 23, 19)
    behind = {
        "deletion": torch.zeros(3, 3, 23, 19),
        "insertion": torch.stack([gaussian(image, 5, 10) for image in images]).float(),
        "road": impute(images, torch.ones(3, 1, 23, 19, dtype=torch.bool), 7),
    }
    with torch.no_grad():
        whole = network(images).softmax(1)
        chosen = torch.arange(3), whole.argmax(1)
        for method, background in behind.items():
            found = faithfulness(network, images, maps, method, steps=2, seed=7).probability
            ends = found[:, [-1, 0]] if method == "insertion" else found[:, [0, -1]]
            expected = torch.stack([whole[chosen], network(background).softmax(1)[chosen]], 1)
            torch.testing.assert_close(ends, expected)


@pytest.mark.parametrize("method", METHODS)
def test_a_target_that_is_given_and_one_that_is_not(method):
    network, images = fast_resnet(8).eval(), torch.randn(3, 3, 16, 16)
    maps = torch.rand(3, 16, 16)
    with torch.no_grad():
        answers = network(images).argmax(1)

    def curve(target):
        return faithfulness(network, images, maps, method, target, steps=2).probability

    assert torch.equal(curve(None), curve(answers))
    everything = sum(curve(target) for target in range(10))
    torch.testing.assert_close(everything, torch.ones(3, 3))
    mixed = curve(torch.tensor([1, 5, 5]))
    assert torch.equal(mixed[0], curve(1)[0]) and torch.equal(mixed[1:], curve(5)[1:])


def test_equal_pixels_come_in_a_random_order_that_follows_from_the_seed():
    images = bright()
    constant, steps = torch.ones(3, SIDE, SIDE), 4

    def curve(seed):
        return faithfulness(NETWORK, images, constant, target=0, steps=steps, seed=seed).probability

    assert torch.equal(curve(3), curve(3)) and not torch.equal(curve(3), curve(4))
    logits = torch.stack([curve(seed).logit() for seed in range(200)]).mean(0)
    whole = images[:, :, :CORNER, :CORNER].sum((1, 2, 3))
    expected = whole[:, None] * torch.linspace(1, 0, steps + 1)
    torch.testing.assert_close(logits, expected, rtol=0, atol=0.15)


def test_only_equal_pixels_are_shuffled():
    images, maps = bright(), torch.zeros(3, SIDE, SIDE)
    maps[:, :CORNER, :CORNER] = 1
    for seed in range(5):
        found = faithfulness(NETWORK, images, maps, target=0, steps=4, seed=seed).probability
        torch.testing.assert_close(found[:, 1:], torch.full((3, 4), 0.5))


def test_scale_of_the_map_and_batch_size_do_not_matter():
    network, images = fast_resnet(8).eval(), torch.randn(5, 3, 16, 16)
    maps = torch.rand(5, 16, 16)
    for method in METHODS:
        whole = faithfulness(network, images, maps, method, steps=3)
        for other in (2, 5, 1):
            parts = faithfulness(network, images, 3 * maps - 1, method, steps=3, batch_size=other)
            torch.testing.assert_close(parts.probability, whole.probability)


def test_the_area_is_numpys_trapezoid():
    curve = Curve("road", torch.linspace(0, 1, 7), torch.rand(4, 7))
    expected = getattr(np, "trapezoid", getattr(np, "trapz", None))(curve.probability, curve.share)
    np.testing.assert_allclose(curve.area, expected, rtol=1e-6)
    flat = Curve("deletion", torch.linspace(0, 1, 4), torch.full((2, 4), 0.3))
    torch.testing.assert_close(flat.area, torch.tensor([0.3, 0.3]))


def test_areas_has_one_row_an_image_and_map_and_passes_its_options_on():
    images = bright()
    maps = {"right": right_maps(images), "random": torch.rand(3, SIDE, SIDE)}
    frame = areas(NETWORK, images, maps, target=1, steps=3, seed=5)
    assert list(frame.columns) == ["map", "image", *METHODS]
    assert list(frame["map"]) == ["right"] * 3 + ["random"] * 3
    assert list(frame["image"]) == [0, 1, 2] * 2 and list(frame.index) == list(range(6))
    for name, one in maps.items():
        for method in METHODS:
            expected = faithfulness(NETWORK, images, one, method, target=1, steps=3, seed=5).area
            assert list(frame[frame["map"] == name][method]) == expected.tolist()


@pytest.mark.parametrize(
    "options, message",
    [
        ({"method": "removal"}, "deletion, insertion, road; got 'removal'"),
        ({"steps": 0}, "steps .* at least 1, got 0"),
        ({"steps": 2.5}, "steps"),
        ({"target": 2}, "from 0 to 1, got 2"),
        ({"target": torch.zeros(2, dtype=torch.long)}, "each of the 3 images"),
        ({"maps": torch.ones(3, 1, 8, 8)}, r"\(N, H, W\)"),
        ({"maps": torch.ones(3, 8, 7)}, r"\(3, 8, 8\), as the images are, got \(3, 8, 7\)"),
        ({"maps": torch.ones(2, 8, 8)}, r"got \(2, 8, 8\)"),
        ({"maps": torch.ones(3, 8, 8) / 0}, "finite"),
        ({"maps": [[1.0]]}, "maps must be a tensor .* got list"),
        ({"images": bright() * math.nan}, "images must be finite"),
        ({"images": (255 * bright()).byte()}, "images must be normalised"),
        ({"images": bright()[0]}, r"\(N, 3, H, W\), got \(3, 8, 8\)"),
        ({"images": bright()[:0], "maps": torch.ones(0, 8, 8)}, "at least one"),
        ({"batch_size": 0}, "batch_size must be .* at least 1, got 0"),
        ({"seed": -1}, "seed"),
        ({"target": "cat"}, "a class or one class for each .* got 'cat'"),
        ({"target": True}, "got True"),
        ({"network": nn.Flatten(0).eval()}, r"logits \(N, classes\), got \(576,\)"),
        ({"network": Corner()}, "eval mode"),
    ],
)
def test_what_has_no_curve_is_named(options, message):
    given = {"network": NETWORK, "images": bright(), "maps": torch.ones(3, 8, 8)}
    with pytest.raises(ValueError, match=message):
        faithfulness(**given | options)


@pytest.mark.parametrize("maps", [{}, torch.ones(3, 8, 8)])
def test_areas_want_maps_by_name(maps):
    with pytest.raises(ValueError, match="maps must be a dict of at least one map"):
        areas(NETWORK, bright(), maps)


# ---------------------------------------------------------------------------- filling and blurring


def by_gauss(image, hole):
    """The linear system of section 4.2, pixel by pixel, densely: image (3, H, W), hole (H, W)."""
    places = {place: i for i, place in enumerate(zip(*np.nonzero(hole), strict=True))}
    matrix, right = np.zeros((len(places),) * 2), np.zeros((len(places), 3))
    for (y, x), i in places.items():
        around = [(y + a, x + b) for a in (-1, 0, 1) for b in (-1, 0, 1) if a or b]
        for j, k in around:
            if 0 <= j < hole.shape[0] and 0 <= k < hole.shape[1]:
                weight = 1 / 6 if j == y or k == x else 1 / 12
                matrix[i, i] += weight
                if (j, k) in places:
                    matrix[i, places[j, k]] -= weight
                else:
                    right[i] += weight * image[:, j, k]
    filled = image.copy()
    filled[:, hole] = np.linalg.solve(matrix, right).T
    return filled


@pytest.mark.parametrize("share", [0.1, 0.5, 0.9, None])
@pytest.mark.parametrize("size", [(20, 20), (11, 14), (1, 9), (8, 1), (2, 2)])
def test_imputing_solves_the_linear_system(share, size):
    images = torch.randn(2, 3, *size, dtype=torch.float64)
    taken = torch.zeros(2, 1, *size, dtype=torch.bool)
    if share is None:
        taken[:, :, 2:9, 4:] = taken[:, :, :, -1] = True  # one large hole, up to the border
    else:
        taken = torch.rand(2, 1, *size) < share
    taken[:, :, 0, 0] = False
    found = impute(images, taken, noise=0)
    solved = np.stack([by_gauss(images[n].numpy(), taken[n, 0].numpy()) for n in range(2)])
    torch.testing.assert_close(found, torch.tensor(solved), rtol=1e-10, atol=1e-10)
    assert torch.equal(found.masked_fill(taken, 0), images.masked_fill(taken, 0))
    assert not taken.any() or found[taken.expand_as(found)].abs().max() > 1e-3


def test_a_filled_pixel_is_the_weighted_mean_of_its_neighbours():
    images, taken = torch.randn(3, 3, 32, 32), torch.rand(3, 1, 32, 32) < 0.8
    found = impute(images, taken, noise=0)
    kernel = torch.tensor([[1.0, 2, 1], [2, 0, 2], [1, 2, 1]])
    for y, x in ((0, 0), (31, 7), (12, 31), (15, 16), (20, 3)):
        taken[..., y, x] = True
        found = impute(images, taken, noise=0)
        box = found[..., max(0, y - 1) : y + 2, max(0, x - 1) : x + 2]
        weights = kernel[max(0, 1 - y) : 33 - y, max(0, 1 - x) : 33 - x]
        mean = (box * weights).sum((2, 3)) / weights.sum()
        torch.testing.assert_close(found[..., y, x], mean, rtol=1e-4, atol=1e-5)


IMAGES, HOLE = torch.ones(3, 3, 5, 6), torch.zeros(3, 1, 5, 6, dtype=torch.bool)


@pytest.mark.parametrize(
    "options, message",
    [
        ({"taken": HOLE[:, 0]}, r"bool \(3, 1, 5, 6\), got torch.bool \(3, 5, 6\)"),
        ({"taken": HOLE[0]}, r"bool \(3, 1, 5, 6\), got torch.bool \(1, 5, 6\)"),
        ({"taken": HOLE.expand(-1, 3, -1, -1)}, r"got torch.bool \(3, 3, 5, 6\)"),
        ({"taken": HOLE.float()}, "got torch.float32"),
        ({"taken": None}, "got None"),
        ({"noise": -1}, "noise must be at least 0, got -1"),
        ({"noise": math.nan}, "noise"),
        ({"seed": -1}, "seed must be a whole number of at least 0"),
        ({"images": IMAGES[0]}, r"images must be at least one, \(N, 3, H, W\), got \(3, 5, 6\)"),
        ({"images": IMAGES.byte()}, "images must be normalised .* torch.uint8"),
        ({"images": IMAGES * math.nan}, "images must be finite"),
    ],
)
def test_what_cannot_be_filled_is_named(options, message):
    with pytest.raises(ValueError, match=message):
        impute(**{"images": IMAGES, "taken": HOLE} | options)


def test_the_noise_has_the_stated_deviation_and_only_fills():
    images, taken = torch.randn(4, 3, 32, 32), torch.rand(4, 1, 32, 32) < 0.5
    quiet, loud = (impute(images, taken, 1, noise) for noise in (0, 0.3))
    speckle = (loud - quiet)[taken.expand_as(images)]
    assert float(speckle.std()) == pytest.approx(0.3, rel=0.05) and abs(speckle.mean()) < 0.02
    assert ((loud == images) | taken).all()
    assert torch.equal(loud, impute(images, taken, 1, 0.3))
    assert not torch.equal(loud, impute(images, taken, 2, 0.3))


@pytest.mark.parametrize("size", [(1, 1), (1, 6), (5, 1), (7, 9)])
def test_an_image_without_known_pixels_is_filled_with_the_mean_colour(size):
    images = torch.randn(2, 3, *size)
    taken = torch.ones(2, 1, *size, dtype=torch.bool)
    assert (impute(images, taken, noise=0) == 0).all()
    taken[0] = False
    assert torch.equal(impute(images, taken)[0], images[0])


@pytest.mark.parametrize("size, sigma", [((32, 32), 5.0), ((9, 14), 5.0), ((17, 21), 1.5)])
def test_the_blur_is_scipys_and_keeps_a_constant_and_the_sum(size, sigma):
    images = torch.randn(2, 3, *size, dtype=torch.float64)
    reach = min(int(2 * sigma), *(side - 1 for side in size))
    expected = torch.stack([gaussian(image, sigma, reach) for image in images])
    torch.testing.assert_close(blur(images, sigma), expected)
    constant = torch.full((1, 3, *size), 0.7)
    torch.testing.assert_close(blur(constant, sigma), constant)
    point = torch.zeros(1, 3, 43, 45)
    point[0, :, 21, 22] = torch.tensor([1.0, -2, 3])
    torch.testing.assert_close(blur(point, sigma).sum((2, 3)), point.sum((2, 3)))
    assert blur(point, sigma)[0, 0].max() < 0.1
