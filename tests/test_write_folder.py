"""A dataset as a folder of pictures: what is written, judged by torchvision and Pillow."""

import numpy as np
import pytest
import torch
from PIL import Image
from torchvision.datasets import ImageFolder

from attention.data import DataError, Dataset, Split, load, shapes10, write_folder


@pytest.fixture(scope="module")
def shapes():
    return shapes10(train=40, test=20, size=16)


def of_class(split, number):
    return split.images[split.labels == number].permute(0, 2, 3, 1).numpy()


def test_all_of_it_and_back(shapes, tmp_path):
    assert write_folder(shapes, tmp_path / "shapes") == tmp_path / "shapes"
    assert {p.name for p in (tmp_path / "shapes").iterdir()} == {"train", "test"}
    for name, split in (("train", shapes.train), ("test", shapes.test)):
        found = ImageFolder(tmp_path / "shapes" / name)
        assert found.classes == sorted(shapes.classes) and len(found) == len(split)
        for k, class_name in enumerate(found.classes):
            pixels = [np.asarray(image) for image, label in found if label == k]
            wanted = of_class(split, shapes.classes.index(class_name))
            assert np.array_equal(np.stack(pixels), wanted)
    again = load(tmp_path / "shapes", tmp_path / "root")
    assert torch.equal(again.mean, shapes.mean) and again.classes == tuple(sorted(shapes.classes))


def test_some_classes_enlarged(shapes, tmp_path):
    folder = write_folder(shapes, tmp_path / "two", ("star", "half disc"), 3, size=40,
                          split="train")  # fmt: skip
    found = ImageFolder(folder)
    assert found.classes == ["half disc", "star"] and found.targets == [0] * 3 + [1] * 3
    small = Image.fromarray(of_class(shapes.train, shapes.classes.index("star"))[0])
    large = small.resize((40, 40), Image.Resampling.BICUBIC)
    assert np.array_equal(np.asarray(found[3][0]), np.asarray(large))


def test_so_many_of_each_class_as_jpeg(shapes, tmp_path):
    folder = write_folder(shapes, tmp_path / "few", ["disc", "L"], {"disc": 4, "L": 1},
                          split="train", ending=".jpg")  # fmt: skip
    files = sorted(file.relative_to(folder).parts for file in folder.glob("*/*"))
    numbers = (shapes.train.labels == shapes.classes.index("disc")).nonzero().flatten().tolist()
    assert [name for name, _ in files] == ["L"] + ["disc"] * 4
    assert [file for _, file in files[1:]] == [f"train-{n:05}.jpg" for n in numbers]
    with Image.open(folder / "disc" / files[1][1]) as image:
        assert image.format == "JPEG"


def test_validation_images_are_written_too(shapes, tmp_path):
    data = Dataset("three", shapes.train, shapes.test, shapes.classes, shapes.train.spread(10))
    write_folder(data, tmp_path / "three", images=1)
    assert len(list((tmp_path / "three").glob("validation/*/*.png"))) == 10


def test_what_is_there_stays(shapes, tmp_path):
    (tmp_path / "mine").mkdir()
    write_folder(shapes, tmp_path / "mine", images=1)  # an empty folder is none
    before = sorted(tmp_path.rglob("*"))
    with pytest.raises(DataError, match="not there yet"):
        write_folder(shapes, tmp_path / "mine")
    (tmp_path / "file").write_text("mine")
    with pytest.raises(DataError, match="not there yet"):
        write_folder(shapes, tmp_path / "file")
    assert sorted(tmp_path.rglob("*")) == sorted([*before, tmp_path / "file"])


def test_nothing_is_left_when_it_is_stopped(shapes, tmp_path, monkeypatch):
    def stop(*_, **__):
        raise KeyboardInterrupt

    monkeypatch.setattr(Image.Image, "save", stop)
    with pytest.raises(KeyboardInterrupt):
        write_folder(shapes, tmp_path / "shapes")
    assert list(tmp_path.iterdir()) == []


def test_classes_that_no_folder_can_be_called(shapes, tmp_path):
    split = Split(shapes.train.images[:2], torch.tensor([0, 1]))
    for wrong in ("../up", "a/b", ".hidden", "end.", "", "a:b"):
        with pytest.raises(DataError, match="classes must"):
            write_folder(Dataset("some", split, split, ("good", wrong)), tmp_path / "out")
    assert list(tmp_path.iterdir()) == []
