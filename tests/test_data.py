"""Splits and datasets: what they hold, what they refuse."""

import pytest
import torch
from test_batches import numbered_split

from attention.data import DataError, Dataset, Split, load, mean_and_std


def test_wrong_tensors():
    x, labels = torch.zeros(4, 3, 8, 8, dtype=torch.uint8), torch.arange(4)
    for wrong in ((x.float(), labels), (x[:, :1], labels), (x, labels[:3]), (x, labels.int()),
                  (x, labels, torch.zeros(4, 8, 8))):  # fmt: skip
        with pytest.raises(ValueError, match="must be"):
            Split(*wrong)
    for wrong in ((x.numpy(), labels), (None, labels), (x, labels.tolist()), (x, None)):
        with pytest.raises(ValueError, match="torch.Tensor, got (numpy|builtins)"):
            Split(*wrong)


@pytest.mark.parametrize("shuffled", [False, True])
def test_spread_has_all_classes_in_the_split_s_order(shuffled):
    labels = torch.arange(10).repeat_interleave(30)
    if shuffled:
        labels = labels[torch.randperm(300, generator=torch.Generator().manual_seed(0))]
    number = torch.arange(300).to(torch.int16).view(torch.uint8).view(300, 2)
    pixels = torch.zeros(300, 3, 2, 2, dtype=torch.uint8)
    pixels[:, 0, 0] = number  # every image holds its own number
    part = Split(pixels, labels, torch.zeros(300, 2, 2, dtype=torch.bool)).spread(25)
    numbers = part.images[:, 0, 0].contiguous().view(torch.int16).flatten().tolist()
    assert numbers == sorted(set(numbers)) and len(part) == len(part.masks) == 25
    assert torch.equal(part.labels, labels[numbers])
    assert set(part.labels.bincount(minlength=10).tolist()) == {2, 3}


@pytest.mark.parametrize("n", [0, -1, 61, 2.0, True, None, "5", float("nan")])
def test_spread_refuses(n):
    with pytest.raises(ValueError, match="n must be"):
        numbered_split().spread(n)


def test_mean_and_std_and_checksum():
    split = numbered_split()
    names = tuple(f"class {k}" for k in range(60))
    dataset = Dataset("some", split, split.spread(5), names)
    pixels = split.images.double() / 255
    torch.testing.assert_close(dataset.mean, pixels.mean((0, 2, 3)).float())
    torch.testing.assert_close(dataset.std, pixels.std((0, 2, 3), correction=0).float())
    assert dataset.size == (12, 12)
    changed = split.images.clone()
    changed[-1, -1, -1, -1] += 1
    others = [
        Dataset("some", Split(changed, split.labels), dataset.test, dataset.classes),
        Dataset("some", Split(split.images, split.labels.flip(0)), dataset.test, names),
        Dataset("some", split, dataset.test, (*names[:-1], "c")),
    ]
    assert len({x.checksum for x in [dataset, *others]}) == 4
    assert Dataset("other", split, dataset.test, names).checksum == dataset.checksum


def test_a_channel_that_never_varies_is_not_divided_by_0():
    pixels = torch.full((2, 3, 4, 4), 51, dtype=torch.uint8)
    mean, std = mean_and_std(pixels)
    torch.testing.assert_close(mean, torch.full((3,), 0.2))
    torch.testing.assert_close(std, torch.full((3,), 1 / 255))


def test_mean_and_std_need_pixels():
    for wrong in (torch.zeros(0, 3, 8, 8, dtype=torch.uint8), torch.zeros(2, 3, 8, 8), None):
        with pytest.raises(DataError):
            mean_and_std(wrong)


@pytest.mark.parametrize("wrong, said", [
    *[({"name": name}, "name must be") for name in (
        "", " ", ".hidden", "../../../evil", "a/b", "a\\b", "<script>", "a&b", "$x$", "a\n",
        "x" * 101, None, 5, b"bytes",
    )],
    ({"train": None}, "train must be a Split"), ({"test": "emptied"}, "test must be a Split"),
    ({"classes": ["a"] * 60}, "classes must be a tuple"), ({"classes": (1,) * 60}, "classes"),
    ({"classes": ("a",) * 59}, "labels of train must be 0 … 58"),
    ({"test": "smaller"}, "train and test must have images of one size"),
    ({"validation": "smaller"}, "train and validation must have images of one size"),
    ({"validation": "emptied"}, "validation must be a Split"), ({"validation": 3}, "validation"),
    ({"notes": ["a"]}, "notes must be a tuple"), ({"notes": "a"}, "notes"),
    ({"notes": (1,)}, "notes"),
])  # fmt: skip
def test_wrong_datasets(wrong, said):
    split = numbered_split()
    tests = {
        "emptied": split.take(torch.tensor([], dtype=torch.int64)),
        "smaller": numbered_split(size=8),
    }
    wrong = {part: tests.get(value, value) if isinstance(value, str) else value
             for part, value in wrong.items()}  # fmt: skip
    good = {"name": "some", "train": split, "test": split, "classes": ("a",) * 60}
    Dataset(**good)
    with pytest.raises(DataError, match=said):
        Dataset(**{**good, **wrong})


def test_validation_images_are_optional_and_leave_the_checksum():
    split = numbered_split()
    names = tuple(f"class {k}" for k in range(60))
    plain = Dataset("some", split, split.spread(5), names)
    more = Dataset("some", split, split.spread(5), names, split.spread(7), ("a note",))
    assert plain.validation is None and plain.notes == () and more.checksum == plain.checksum
    assert list(plain.splits) == ["train", "test"]
    assert list(more.splits) == ["train", "validation", "test"]
    assert repr(plain) == "some: 60 training and 5 test images of 12×12, 60 classes"
    assert repr(more) == "some: 60 training, 7 validation and 5 test images of 12×12, 60 classes"


@pytest.mark.parametrize("name", ["", " ", 5, True, b"cifar10", "cifar11", "no/such/folder", "\0",
                                  "x" * 5000, [], "CIFAR10"])  # fmt: skip
def test_wrong_names(name, tmp_path):
    with pytest.raises(DataError, match="name must be"):
        load(name, tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_a_wrong_root():
    for root in (5, "", b"data"):
        with pytest.raises(DataError, match="root must be"):
            load("shapes10", root)


def test_wrong_values_in_the_environment(tmp_path, monkeypatch):
    (tmp_path / "empty").mkdir()
    (tmp_path / "no.tar").write_bytes(b"no tar at all")
    for value, said in {
        " ": "name must be", "no-such": "name must be", "/dev/null": "a folder, or an archive",
        str(tmp_path / "empty"): "there is no folder", str(tmp_path / "no.tar"): "damaged",
    }.items():  # fmt: skip
        monkeypatch.setenv("ATTENTION_DATA", value)
        with pytest.raises(DataError, match=said):
            load(root=tmp_path / "root")
