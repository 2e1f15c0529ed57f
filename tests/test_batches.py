"""Batches: every image once, cut, mirrored in turns and normalised, as (seed, epoch) say."""

import numpy as np
import pytest
import torch

from attention.data import Batches, Split, in_order, normalise


def numbered_split(n=60, size=12):
    """Random images whose label is their number."""
    random = np.random.RandomState(0)
    pixels = random.randint(0, 256, (n, 3, size, size), dtype=np.uint8)
    return Split(torch.from_numpy(pixels), torch.arange(n))


def epoch(batches, number):
    """The images of one epoch, sorted by label."""
    pairs = list(batches.epoch(number))
    labels = torch.cat([labels for _, labels in pairs])
    return torch.cat([x for x, _ in pairs])[labels.argsort()]


EMPTY = torch.zeros(0, 3, 8, 8, dtype=torch.uint8), torch.zeros(0, dtype=torch.int64)
PIXELS = {"mean": [0, 0, 0], "std": [1 / 255] * 3}  # normalising with these gives the pixel values


def test_every_image_is_some_crop_of_the_padded_image_maybe_mirrored():
    split, crop = numbered_split(300, 8), 2
    seen = set()
    for number, image in enumerate(epoch(Batches(split, 64, crop=crop, **PIXELS), 0)):
        original = split.images[number].numpy()
        padded = np.stack([np.pad(c, crop, mode="reflect") for c in original])
        matches = []
        for row in range(2 * crop + 1):
            for column in range(2 * crop + 1):
                window = padded[:, row : row + 8, column : column + 8]
                for mirrored in (False, True):
                    wanted = window[:, :, ::-1] if mirrored else window
                    if np.allclose(image.numpy(), wanted, atol=1e-3):
                        matches.append((row, column, mirrored))
        assert len(matches) == 1
        seen.update(matches)
    assert len(seen) == 2 * (2 * crop + 1) ** 2  # 300 draws from 50 cases: all of them occur


def test_augmentation_does_not_depend_on_the_batch_size():
    split = numbered_split()
    small, large = (Batches(split, size, seed=3) for size in (7, 60))
    for number in (0, 5):
        assert torch.equal(epoch(small, number), epoch(large, number))


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_augmentation_does_not_depend_on_the_device():
    split = numbered_split()
    here, there = (Batches(split, 16, device=device) for device in ("cpu", "cuda"))
    for number in (0, 1):
        torch.testing.assert_close(epoch(here, number), epoch(there, number).cpu())


def test_order_does_not_depend_on_the_batch_size_and_differs_between_epochs_and_seeds():
    def order(batch_size, seed, number):
        batches = Batches(numbered_split(), batch_size, seed=seed)
        return torch.cat([labels for _, labels in batches.epoch(number)]).tolist()

    assert order(7, 0, 1) == order(60, 0, 1)
    assert len({tuple(order(60, seed, number)) for seed in (0, 1) for number in (0, 1)}) == 4


def test_an_epoch_needs_no_earlier_one():
    resumed, whole = (Batches(numbered_split(), 16) for _ in range(2))
    for number in range(3):
        list(whole.epoch(number))
    assert torch.equal(epoch(resumed, 3), epoch(whole, 3))


@pytest.mark.parametrize("batch_size", [1, 16, 59, 60, 1000])
def test_an_epoch_has_every_image_once_in_nearly_equal_batches(batch_size):
    batches = Batches(numbered_split(), batch_size)
    labels = [labels for _, labels in batches.epoch(0)]
    sizes = [len(x) for x in labels]
    assert len(sizes) == len(batches) == int(np.ceil(60 / batch_size))
    assert max(sizes) <= batch_size and max(sizes) - min(sizes) <= 1
    assert torch.cat(labels).sort().values.tolist() == list(range(60))


def test_flips_alternate():
    split = numbered_split()
    batches = Batches(split, 16, crop=0, **PIXELS)
    epochs = [epoch(batches, number).round().byte() for number in range(3)]
    as_it_is = [(x == split.images).flatten(1).all(1) for x in epochs]
    mirrored = [(x == split.images.flip(3)).flatten(1).all(1) for x in epochs]
    assert torch.equal(mirrored[0], ~as_it_is[0]) and mirrored[0].sum() == 30
    assert torch.equal(mirrored[1], as_it_is[0]) and torch.equal(as_it_is[1], mirrored[0])
    assert torch.equal(mirrored[2], mirrored[0])
    other = epoch(Batches(split, 16, seed=1, crop=0, **PIXELS), 0).round().byte()
    assert not torch.equal((other == split.images).flatten(1).all(1), as_it_is[0])


def test_normalise_is_the_formula():
    x = numbered_split().images
    mean, std = torch.tensor([0.4, 0.5, 0.6]), torch.tensor([0.2, 0.25, 0.3])
    wanted = (x.double() / 255 - mean.view(3, 1, 1)) / std.view(3, 1, 1)
    came = normalise(x, mean, std)
    assert came.dtype == torch.float32
    assert came.is_contiguous(memory_format=torch.channels_last)
    torch.testing.assert_close(came, wanted.float(), rtol=1e-5, atol=1e-5)


def test_batches_are_normalised_and_channels_last():
    split = numbered_split()
    for x, _ in Batches(split, 16).epoch(0):
        assert x.is_contiguous(memory_format=torch.channels_last)
    x = epoch(Batches(split, 16, crop=0), 0)  # by the split's own mean and spread
    torch.testing.assert_close(x.mean((0, 2, 3)), torch.zeros(3), atol=1e-4, rtol=0)
    torch.testing.assert_close(x.std((0, 2, 3)), torch.ones(3), atol=1e-3, rtol=0)


def test_in_order_gives_all_images_in_order():
    split = numbered_split()
    pairs = list(in_order(split, 25, **PIXELS))
    assert [len(labels) for _, labels in pairs] == [25, 25, 10]
    assert torch.equal(torch.cat([x for x, _ in pairs]).round().byte(), split.images)
    assert torch.equal(torch.cat([labels for _, labels in pairs]), split.labels)


def test_in_order_refuses_before_the_first_batch():
    for wrong in ({"batch_size": 0}, {"std": [1, 0, 1]}, {"mean": None}):
        with pytest.raises(ValueError, match=next(iter(wrong))):
            in_order(numbered_split(), **{"batch_size": 8, **PIXELS, **wrong})


@pytest.mark.parametrize("wrong, said", [
    ({"split": None}, "split must be"), ({"split": Split(*EMPTY)}, "at least one image"),
    ({"batch_size": 0}, "batch_size"), ({"batch_size": 1.5}, "batch_size"),
    ({"batch_size": True}, "batch_size"), ({"seed": -1}, "seed"), ({"seed": None}, "seed"),
    ({"crop": 12}, "crop must be at most 11"), ({"crop": -1}, "crop"), ({"crop": 0.5}, "crop"),
    ({"mean": [0.5] * 3}, "mean and std"), ({"device": "nonsense"}, "nonsense"),
    ({"mean": [0.5] * 3, "std": [0, 1, 1]}, "std must be 3 finite numbers above 0"),
    ({"mean": [0.5] * 3, "std": [-1, 1, 1]}, "std must be"),
    ({"mean": [0.5, float("nan"), 0], "std": [1] * 3}, "mean must be 3 finite numbers"),
    ({"mean": [0.5] * 2, "std": [1] * 3}, "mean must be"),
    ({"mean": "grey", "std": [1] * 3}, "mean must be"),
])  # fmt: skip
def test_wrong_arguments_of_batches(wrong, said):
    with pytest.raises((ValueError, RuntimeError), match=said):
        Batches(**{"split": numbered_split(), "batch_size": 8, **wrong})


@pytest.mark.parametrize("number", [-1, 0.5, None, True])
def test_wrong_epochs(number):
    with pytest.raises(ValueError, match="number must be"):
        next(Batches(numbered_split(), 8).epoch(number))


def test_normalise_refuses_what_is_no_image():
    x = numbered_split().images
    for wrong in (x.float(), x.numpy(), x[0], x[:, :1], None):
        with pytest.raises(ValueError, match="images must be uint8 .*got"):
            normalise(wrong, [0] * 3, [1] * 3)
    with pytest.raises(ValueError, match="std must be"):
        normalise(x, [0] * 3, [1, 1, float("inf")])
