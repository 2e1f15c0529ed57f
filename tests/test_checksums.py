"""What records are found by: names and checksums of datasets, as they were when this was written.

A training is kept under the name and the checksum of its data. Whoever changes how data are read
must leave them as they are, or all that was trained is trained again.
"""

import numpy as np
from PIL import Image

from attention.data import held_out, load, random_labels, shapes10


def image_folder(path):
    """A tree whose pixels are the same everywhere: PNGs, of numbers that follow from a seed."""
    random = np.random.RandomState(0)
    for split, count in (("train", 4), ("test", 2)):
        for name in ("B b", "a", "ü"):
            (path / split / name).mkdir(parents=True)
            for k in range(count):
                pixels = random.randint(0, 256, (10, 8, 3), dtype=np.uint8)
                Image.fromarray(pixels).save(path / split / name / f"{k}.png")
    return path


def test_drawn_images():
    data = shapes10(train=40, test=20)
    assert data.checksum.startswith("e743472b3650944bd16dba75")
    assert held_out(data).checksum.startswith("365064ec671b6b0945206af9")
    assert random_labels(data).checksum.startswith("014c8a15b888428cc2440867")


def test_an_image_folder(tmp_path):
    path = image_folder(tmp_path / "some pictures")
    data = load(path, tmp_path / "root")
    assert (data.name, data.classes) == ("some pictures", ("B b", "a", "ü"))
    assert data.checksum.startswith("f5d63b8c67c423b979f99c4b")
    assert load(path, tmp_path / "root", size=5).checksum.startswith("03434f62b77ef19ab3943ff0")
    assert held_out(data).name == "some pictures-validation"
    assert held_out(data).checksum.startswith("7e83254b3f01a5dff0bed5e5")
