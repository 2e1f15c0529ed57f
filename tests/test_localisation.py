"""Localisation on maps whose numbers are known, and the maps that know nothing."""

import pytest
import torch
from captum.attr import Saliency
from parity import randomise
from torch import nn

from attention.explain import (
    centred_gaussian,
    corner_gaussian,
    gradient_magnitude,
    localisation,
    of_another_image,
    random_maps,
    smooth_noise,
)
from attention.networks import fast_resnet


def object_masks():
    """One small object, one large, one of two parts, in images of 6×8."""
    masks = torch.zeros(3, 6, 8, dtype=torch.bool)
    masks[0, 1:3, 2:5] = True
    masks[1, :, 1:] = True
    masks[2, 0, 0] = masks[2, 4:, 6:] = True
    return masks


MASKS = object_masks()
SIZES = [6, 42, 5]
AREAS = [size / 48 for size in SIZES]


def assert_rows(frame, **expected):
    assert list(frame.columns) == ["pointing", "energy", "iou", "area"]
    assert list(frame["area"]) == pytest.approx(AREAS)
    for name, values in expected.items():
        assert list(frame[name]) == pytest.approx(values), name


# ------------------------------------------------------------------------------- known answers


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.float16])
def test_a_perfect_map(dtype):
    frame = localisation(MASKS.to(dtype), MASKS)
    assert_rows(frame, pointing=[1, 1, 1], energy=[1, 1, 1], iou=[1, 1, 1])


def test_an_inverted_map():
    # as many of its highest pixels as the mask has: the rest first, and for the large object,
    # beside the 6 pixels of the rest, 36 of its own 42
    frame = localisation((~MASKS).float(), MASKS)
    assert_rows(frame, pointing=[0] * 3, energy=[0] * 3, iou=[0, 36 / (42 + 42 - 36), 0])


@pytest.mark.parametrize("value", [0.0, 0.3, 7.0])
def test_a_constant_map_gets_the_area_and_not_luck(value):
    # overlap s·a of two sets of s pixels: iou = s·a / (2s − s·a)
    frame = localisation(torch.full((3, 6, 8), value), MASKS)
    assert_rows(frame, pointing=AREAS, energy=AREAS, iou=[a / (2 - a) for a in AREAS])


def test_one_bright_pixel_inside_or_outside():
    maps = torch.ones(3, 6, 8)
    maps[0, 1, 2] = 49  # inside: 49 + 5 of 96 lie on the object
    maps[1, 3, 0] = 49  # outside
    maps[2, 5, 7] = 49  # inside
    frame = localisation(maps, MASKS)
    # the bright pixel is one of the s; the other s − 1 fall on the 47 as chance has it
    overlaps = [1 + 5 * 5 / 47, 41 * 42 / 47, 1 + 4 * 4 / 47]
    assert_rows(
        frame,
        pointing=[1, 0, 1],
        energy=[54 / 96, 42 / 96, 53 / 96],
        iou=[o / (2 * s - o) for o, s in zip(overlaps, SIZES, strict=True)],
    )


def test_two_highest_pixels_share_the_point():
    maps = torch.zeros(3, 6, 8)
    maps[:, 1, 2] = maps[:, 0, 0] = 2
    assert_rows(localisation(maps, MASKS), pointing=[0.5, 0.5, 0.5])


def test_ties_at_the_threshold_are_the_average_over_ways_to_break_them():
    maps, repeats = torch.randint(0, 4, (3, 6, 8)).float(), 20000
    frame = localisation(maps, MASKS)
    assert_rows(frame)
    for n, size in enumerate(SIZES):
        values, inside = maps[n].flatten(), MASKS[n].flatten()
        order = torch.rand(repeats, 48).argsort(1)
        order = order.gather(1, values[order].argsort(dim=1, descending=True, stable=True))
        ordered = inside[order].float()
        overlap, point = float(ordered[:, :size].sum(1).mean()), float(ordered[:, 0].mean())
        assert frame["pointing"][n] == pytest.approx(point, abs=0.02)
        assert frame["iou"][n] == pytest.approx(overlap / (2 * size - overlap), abs=0.005)


def test_without_ties_it_is_a_plain_loop_over_pixels():
    maps = torch.rand(3, 6, 8)
    frame = localisation(maps, MASKS)
    for n, size in enumerate(SIZES):
        pixels = sorted(
            ((float(maps[n, y, x]), bool(MASKS[n, y, x])) for y in range(6) for x in range(8)),
            reverse=True,
        )
        overlap = sum(inside for _, inside in pixels[:size])
        on_object = sum(value for value, inside in pixels if inside)
        assert frame["pointing"][n] == pixels[0][1]
        assert frame["energy"][n] == pytest.approx(on_object / sum(v for v, _ in pixels))
        assert frame["iou"][n] == pytest.approx(overlap / (2 * size - overlap))


def test_scale_and_the_other_images_do_not_matter_and_chance_gets_the_area():
    maps = torch.rand(400, 6, 8)
    frame = localisation(maps, MASKS[:1].expand(400, -1, -1))
    again = localisation(5 * maps[7:8], MASKS[:1])
    assert list(again.loc[0]) == pytest.approx(list(frame.loc[7]))
    assert frame["pointing"].mean() == pytest.approx(AREAS[0], abs=0.06)
    assert frame["energy"].mean() == pytest.approx(AREAS[0], abs=0.01)


def test_the_whole_image_as_object_and_masks_of_ones_and_zeros():
    whole = torch.ones(3, 6, 8, dtype=torch.bool)
    assert (localisation(torch.rand(3, 6, 8), whole) == 1).all(axis=None)
    maps = torch.rand(3, 6, 8)
    assert localisation(maps, MASKS.long()).equals(localisation(maps, MASKS))


EMPTY = MASKS & torch.tensor([True, False, True])[:, None, None]
MAPS = torch.ones(3, 6, 8)


@pytest.mark.parametrize(
    "maps, masks, message",
    [
        (MAPS, MASKS[:2], r"\(3, 6, 8\), as the maps are, got torch.bool \(2, 6, 8\)"),
        (MAPS, MASKS.long() * 2, r"bool \(or 0 and 1\)"),
        (MAPS, None, "got None"),
        (MAPS, MASKS[:, None], r"\(3, 1, 6, 8\)"),
        (MAPS, MASKS.float(), "got torch.float32"),
        (MAPS, EMPTY, "1 are empty"),
        (MAPS[0], MASKS[0], r"\(N, H, W\), got \(6, 8\)"),
        (MAPS[:0], MASKS[:0], r"\(N, H, W\), got \(0, 6, 8\)"),
        (MAPS - 1.5, MASKS, "at least 0, got -0.5"),
        (MAPS * float("nan"), MASKS, "finite"),
        (MAPS / 0, MASKS, "finite"),
    ],
)
def test_what_has_no_localisation_is_named(maps, masks, message):
    with pytest.raises(ValueError, match=message):
        localisation(maps, masks)


# -------------------------------------------------------------------------- maps that know nothing


def test_gradient_magnitude_equals_captums_saliency():
    network, images = randomise(fast_resnet(8)).eval(), torch.randn(3, 3, 23, 19)
    with torch.no_grad():
        answers = network(images).argmax(1)
    for target, classes in ((None, answers), (2, 2), (torch.tensor([1, 0, 9]),) * 2):
        pixels = images.clone().requires_grad_()
        expected = Saliency(network).attribute(pixels, classes, abs=True).amax(1).detach()
        found = gradient_magnitude(network, images, target)
        torch.testing.assert_close(found, expected)
        assert found.min() >= 0 and found.std() > 0
    assert all(p.grad is None for p in network.parameters()) and not images.requires_grad


def test_gradient_magnitude_equals_finite_differences():
    network = nn.Sequential(nn.Conv2d(3, 4, 3), nn.Tanh(), nn.Flatten(), nn.Linear(24, 2)).double()
    images = torch.randn(2, 3, 4, 5, dtype=torch.float64)
    found = gradient_magnitude(network.eval().requires_grad_(False), images, 1)
    expected = torch.zeros(2, 4, 5)
    for y in range(4):
        for x in range(5):
            for colour in range(3):
                step = torch.zeros_like(images)
                step[:, colour, y, x] = 1e-5
                change = (network(images + step) - network(images - step))[:, 1] / 2e-5
                expected[:, y, x] = torch.maximum(expected[:, y, x], change.abs().float())
    torch.testing.assert_close(found, expected)


def test_gradient_magnitude_wants_eval_mode_and_a_class():
    network, images = fast_resnet(8), torch.randn(2, 3, 18, 14)
    with pytest.raises(ValueError, match="eval mode"):
        gradient_magnitude(network, images)
    with pytest.raises(ValueError, match="from 0 to 9"):
        gradient_magnitude(network.eval(), images, 10)


@pytest.mark.parametrize("size", [(7, 9), (8, 6), (32, 32)])
def test_the_gaussian_lies_in_the_middle_and_is_symmetric(size):
    maps = centred_gaussian(torch.zeros(3, 3, *size))
    assert maps.shape == (3, *size)
    assert torch.equal(maps[0], maps[1]) and torch.equal(maps[0], maps[2])
    torch.testing.assert_close(maps, maps.flip(1))
    torch.testing.assert_close(maps, maps.flip(2))
    height, width = size
    middle = (
        slice((height - 1) // 2, height // 2 + 1),
        slice((width - 1) // 2, width // 2 + 1),
    )
    torch.testing.assert_close(maps[0][middle], maps[0].max().expand_as(maps[0][middle]))
    assert (maps[0] == maps[0].max()).sum() <= maps[0][middle].numel()
    corner = torch.tensor(torch.e) ** (-2 * 0.5 * (0.5 / 0.25) ** 2)  # two standard deviations
    torch.testing.assert_close(maps[0, 0, 0], corner)
    maps[0] = 0  # the maps of the images do not share their memory
    assert maps[1].max() > 0.8


def test_a_wider_gaussian_is_flatter():
    images = torch.zeros(1, 3, 9, 9)
    narrow, wide = (centred_gaussian(images, width)[0] for width in (0.1, 0.5))
    assert narrow[4, 4] == wide[4, 4] == 1
    torch.testing.assert_close(wide[4, 8], torch.tensor(-0.5).exp())  # half a side: one deviation
    assert narrow[0, 0] < 1e-9


def test_random_maps_follow_from_the_seed_and_are_uniform():
    images = torch.zeros(50, 3, 12, 10)
    before = torch.get_rng_state()
    maps = random_maps(images, 3)
    assert torch.equal(torch.get_rng_state(), before)
    assert maps.shape == (50, 12, 10) and maps.min() >= 0 and maps.max() < 1
    assert torch.equal(maps, random_maps(images, 3))
    assert not torch.equal(maps, random_maps(images, 4))
    shares = torch.histc(maps, 10, 0, 1) / maps.numel()
    assert (shares - 0.1).abs().max() < 0.015
    assert len(maps.flatten(1).unique(dim=0)) == 50


def test_a_bell_in_a_corner_is_a_quarter_of_a_bell_of_twice_the_image():
    images = torch.zeros(2, 3, 9, 7)
    corner = corner_gaussian(images)
    twice = centred_gaussian(torch.zeros(2, 3, 17, 13), 0.25 / 2)
    torch.testing.assert_close(corner, twice[:, 8:, 6:])
    assert (corner.flatten(1).argmax(1) == 0).all() and corner[0, 0, 0] == 1


def test_smooth_noise_is_as_smooth_as_an_enlarged_map():
    images = torch.zeros(40, 3, 32, 24)
    maps = smooth_noise(images, seed=2)
    assert maps.shape == (40, 32, 24) and maps.min() >= 0 and maps.max() < 1
    assert torch.equal(maps, smooth_noise(images, seed=2))
    assert not torch.equal(maps, smooth_noise(images))
    # between the middles of two places of the 8×8 map, a line: no second difference
    second = maps[:, 2:] - 2 * maps[:, 1:-1] + maps[:, :-2]
    bends = (second.abs().amax((0, 2)) > 1e-5).nonzero()[:, 0] + 1
    assert set(bends.tolist()) == {4 * place + side for place in range(8) for side in (1, 2)}
    assert maps.var(0).mean() > 0.02  # and noise: the images have nothing in common
    assert smooth_noise(images[..., :5, :3], 2).shape == (40, 5, 3)


@pytest.mark.parametrize("count", [2, 5])
def test_the_maps_of_other_images(count):
    maps = torch.arange(float(count)).view(-1, 1, 1).expand(-1, 2, 3)
    for seed in range(10):
        found = of_another_image(maps, seed)[:, 0, 0]
        assert sorted(found.tolist()) == list(range(count))
        assert (found != torch.arange(count)).all()
        assert torch.equal(found, of_another_image(maps, seed)[:, 0, 0])


BATCH = torch.zeros(2, 3, 6, 8)


@pytest.mark.parametrize(
    "function, arguments, message",
    [
        *((f, (BATCH[0],), r"\(N, 3, H, W\), got \(3, 6, 8\)")
          for f in (random_maps, smooth_noise, centred_gaussian, corner_gaussian)),
        *((f, (BATCH, width), "width must be")
          for f in (centred_gaussian, corner_gaussian) for width in (0, -1, float("nan"))),
        (random_maps, (BATCH, -1), "seed must be a whole number of at least 0, got -1"),
        (random_maps, (BATCH, 0.5), "seed"),
        (smooth_noise, (BATCH, 0), "size must be .* at least 1, got 0"),
        (of_another_image, (MAPS[:1],), "a batch of at least 2, got 1"),
        (of_another_image, (MAPS[0],), r"\(N, H, W\)"),
        (gradient_magnitude, (nn.Flatten().eval(), BATCH / 0), "images must be finite"),
        (gradient_magnitude, (nn.Flatten().eval(), BATCH.byte()), "images must be normalised"),
        (gradient_magnitude, (nn.Flatten(), BATCH), "eval mode"),
    ],
)  # fmt: skip
def test_baselines_name_what_they_cannot_take(function, arguments, message):
    with pytest.raises(ValueError, match=message):
        function(*arguments)
