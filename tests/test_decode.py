"""Pictures of every kind, as Pillow, torchvision and the Exif standard have them; broken ones."""

import io
import os
import struct
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image, ImageOps
from test_folder import bomb, picture, png16
from test_layout import make
from torchvision.transforms import functional

from attention.data import DataError, decode, load
from attention.data.trees import Unreadable

pytestmark = pytest.mark.filterwarnings("error")  # none is shown to users


def encoded(image, kind, **options):
    out = io.BytesIO()
    image.save(out, kind, **options)
    return out.getvalue()


def decoded(content, size=None, resize="squash"):
    with decode.header(content) as image:
        return decode.pixels(image, size, resize)


def rgb(content):
    """As torchvision's ImageFolder has it."""
    with Image.open(io.BytesIO(content)) as image:
        return np.asarray(image.convert("RGB")).transpose(2, 0, 1)


@pytest.mark.parametrize("mode, kind", [
    *[(mode, "PNG") for mode in ("1", "L", "LA", "P", "RGB", "RGBA")],
    *[(mode, "JPEG") for mode in ("L", "RGB", "CMYK", "YCbCr")],
    *[(mode, "WEBP") for mode in ("RGB", "RGBA", "L")],
    *[(mode, "BMP") for mode in ("1", "L", "P", "RGB", "RGBA")],
])  # fmt: skip
def test_every_kind_is_the_rgb_of_imagefolder(mode, kind):
    content = encoded(picture(0, (13, 9)).convert(mode), kind)
    found = decoded(content)
    assert found.shape == (3, 9, 13) and found.dtype == np.uint8
    assert np.array_equal(found, rgb(content))


def test_what_loses_nothing_gives_back_the_pixels():
    image = picture(0, (13, 9))
    wanted = np.asarray(image).transpose(2, 0, 1)
    for kind, options in (("PNG", {}), ("BMP", {}), ("WEBP", {"lossless": True})):
        assert np.array_equal(decoded(encoded(image, kind, **options)), wanted)
    grey = decoded(encoded(image.convert("L"), "PNG"))
    assert (grey == grey[:1]).all()


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_photographs_are_upright(kind, orientation):
    exif = Image.Exif()
    exif[0x0112] = orientation
    # where a pixel of the upright picture lies in the file, by the Exif standard
    turns = {1: lambda x: x, 2: lambda x: x[:, ::-1], 3: lambda x: x[::-1, ::-1],
             4: lambda x: x[::-1], 5: lambda x: x.swapaxes(0, 1),
             6: lambda x: np.rot90(x, 1), 7: lambda x: x[::-1, ::-1].swapaxes(0, 1),
             8: lambda x: np.rot90(x, -1)}  # fmt: skip
    upright = np.zeros((16, 24, 3), np.uint8)
    upright[:8, :8], upright[:8, 16:] = (255, 0, 0), (0, 255, 0)
    stored = Image.fromarray(np.ascontiguousarray(turns[orientation](upright)))
    options = {"WEBP": {"lossless": True}, "JPEG": {"quality": 100, "subsampling": 0}, "PNG": {}}
    found = decoded(encoded(stored, kind, exif=exif, **options[kind])).transpose(1, 2, 0)
    assert found.shape == upright.shape
    assert np.abs(found.astype(int) - upright).max() <= (8 if kind == "JPEG" else 0)


def test_a_cropped_photograph_is_that_of_torchvision():
    """The shorter side is resized, the middle is kept: exactly where the numbers are whole."""
    for width, height in ((40, 20), (20, 60), (20, 20), (8, 4)):
        image = picture(0, (width, height))
        wanted = functional.center_crop(functional.resize(image, 10), [10, 10])
        found = decoded(encoded(image, "PNG"), 10, "crop")
        assert np.array_equal(found, np.asarray(wanted).transpose(2, 0, 1))
    smooth = picture(1, (6, 5)).resize((301, 214), Image.Resampling.BICUBIC)
    wanted = functional.center_crop(functional.resize(smooth, 64), [64, 64])
    found = decoded(encoded(smooth, "PNG"), 64, "crop").transpose(1, 2, 0)
    assert np.abs(found.astype(int) - np.asarray(wanted)).mean() < 2
    squashed = decoded(encoded(smooth, "PNG"), 64).transpose(1, 2, 0)
    assert np.abs(squashed.astype(int) - np.asarray(wanted)).mean() > 10  # it is no squashing


def test_a_long_strip_is_cropped_without_taking_memory():
    found = decoded(encoded(Image.new("RGB", (60_000, 2), (1, 2, 3)), "PNG"), 224, "crop")
    assert found.shape == (3, 224, 224) and (found[2] == 3).all()


def animation(kind):
    frames = [picture(k) for k in range(3)]
    return encoded(frames[0], kind, save_all=True, append_images=frames[1:])


def cut(kind):
    content = encoded(picture(0, (64, 64)), kind)
    return content[: len(content) // 2]


@pytest.mark.parametrize("content, said", [
    (b"", "no JPEG"), (b"no picture", "no JPEG"), (cut("JPEG"), "truncated"),
    (cut("PNG"), "is no readable image"), (cut("WEBP"), "is no"), (cut("BMP"), "is no readable"),
    (encoded(picture(0), "GIF"), "no JPEG"), (encoded(picture(0), "TIFF"), "no JPEG"),
    (png16(0), "16 bits"), (png16(2), "16 bits"), (bomb(), "exceeds limit"),
    (animation("WEBP"), "animation"), (animation("PNG"), "animation"),
])  # fmt: skip
def test_what_is_broken_says_why(content, said):
    with pytest.raises(Unreadable, match=said) as error:
        decoded(content)
    assert "\n" not in str(error.value) and " at 0x" not in str(error.value)


def test_damaged_exif_is_no_damage():
    content = encoded(picture(0), "JPEG", exif=b"Exif\0\0MM\0*" + bytes(range(40)))
    assert np.array_equal(decoded(content), rgb(encoded(picture(0), "JPEG")))


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "BMP"])
def test_any_changed_bytes_are_a_picture_or_unreadable(kind):
    whole = encoded(picture(0, (16, 16)), kind)
    random = np.random.RandomState(0)
    for _ in range(60):
        content = bytearray(whole)
        for place in random.randint(0, len(whole), 3):
            content[place] = random.randint(256)
        try:
            found = decoded(bytes(content), 16)
            assert found.shape == (3, 16, 16) and found.dtype == np.uint8
        except Unreadable:
            pass


# ---------------------------------------------------------------------------- whole folders of them


@pytest.fixture
def pets(tmp_path):
    return make(tmp_path / "pets", {"train/a": 4, "train/b": 4, "test/a": 2, "test/b": 2})


def test_endings_in_any_case(pets, tmp_path):
    plain = load(pets, tmp_path / "root")
    kinds = [("PNG", ".PNG"), ("BMP", ".Bmp"), ("WEBP", ".webp"), ("PNG", ".jpeg")]
    for file, (kind, ending) in zip(sorted((pets / "train" / "a").iterdir()), kinds, strict=True):
        with Image.open(file) as image:
            image.save(file.with_suffix(".new"), kind, lossless=True)
        file.unlink()
        file.with_suffix(".new").rename(file.with_suffix(ending))
    assert load(pets, tmp_path / "root").checksum == plain.checksum


def test_broken_pictures_are_refused_or_skipped_by_name(pets, tmp_path, capsys):
    plain = load(pets, tmp_path / "root")
    for k in range(6):
        (pets / "train" / "a" / f"broken {k}.jpg").write_bytes(b"no picture")
    (pets / "train" / "b" / "moving.gif").write_bytes(encoded(picture(0), "GIF"))
    (pets / "test" / "b" / "notes.txt").write_text("text")
    os.mkfifo(pets / "test" / "a" / "pipe.png")
    (pets / "test" / "a" / "lost.png").symlink_to("nowhere.png")
    with pytest.raises(DataError) as error:
        load(pets, tmp_path / "root")
    said = str(error.value)
    for part in ("4 of 22 files", "train/b/moving.gif is in a format that is not read here",
                 "save it as PNG", "test/b/notes.txt is no picture", "pipe.png is no file",
                 "lost.png cannot be read (No such file", 'broken="skip"'):  # fmt: skip
        assert part in said
    for name in ("train/b/moving.gif", "test/b/notes.txt", "test/a/pipe.png", "test/a/lost.png"):
        (pets / name).unlink()
    with pytest.raises(DataError) as error:
        load(pets, tmp_path / "root")
    said = str(error.value)
    assert "6 of 18 files" in said and "broken 4.jpg is no JPEG" in said and "and 1 more" in said
    capsys.readouterr()
    for _ in range(2):  # decoded, and from the cache
        data = load(pets, tmp_path / "root", broken="skip")
        (note,) = data.notes
        assert data.checksum == plain.checksum
        assert note.startswith("skipped: 6 files that cannot be read: train/a/broken 0.jpg is no")
        assert all(f"broken {k}.jpg" in note for k in range(6))
        assert f"pets: {note}" in capsys.readouterr().out
    with pytest.raises(DataError, match="6 of 18"):  # the cache of the one is none of the other
        load(pets, tmp_path / "root")


def test_a_class_of_which_nothing_is_left_is_refused(pets, tmp_path):
    for file in (pets / "test" / "a").iterdir():
        file.write_bytes(b"no picture")
    with pytest.raises(DataError, match="folder test/a has no images that can be read: test/a/000"):
        load(pets, tmp_path / "root", broken="skip")
    for file in pets.glob("*/*/*"):
        file.write_bytes(b"no picture")
    with pytest.raises(DataError, match="has no images that can be read"):
        load(pets, tmp_path / "root", broken="skip")


def test_a_file_that_may_not_be_read(pets, tmp_path, monkeypatch):
    real = Path.read_bytes

    def refuse(path):
        if path.name == "001.png" and path.parent.parent.name == "train":
            raise PermissionError(13, "Permission denied", str(path))
        return real(path)

    monkeypatch.setattr(Path, "read_bytes", refuse)  # the tests may run as root, who may read all
    with pytest.raises(DataError, match=r"2 of 12 .*a/001.png cannot be read \(Permission denied"):
        load(pets, tmp_path / "root")
    assert len(load(pets, tmp_path / "root", broken="skip").train) == 6


def test_pictures_of_many_sizes_need_one(pets, tmp_path):
    picture(9, (210, 150)).save(pets / "test" / "a" / "000.png")
    said = r"test/a/000.png 210×150 and test/a/001.png 8×8 .*say size=32"
    with pytest.raises(DataError, match=said):
        load(pets, tmp_path / "root")
    for file in sorted(pets.glob("*/*/*"))[1:]:
        picture(9, (130, 110)).save(file)
    with pytest.raises(DataError, match=r"001.png 130×110 .*say size=96"):
        load(pets, tmp_path / "root")
    squashed = load(pets, tmp_path / "root", size=96)
    cropped = load(pets, tmp_path / "root", 96, "crop")
    assert squashed.size == cropped.size == (96, 96)
    assert not torch.equal(squashed.train.images, cropped.train.images)
    wanted = ImageOps.fit(picture(9, (210, 150)), (96, 96), Image.Resampling.BILINEAR)
    assert np.array_equal(cropped.test.images[0], np.asarray(wanted).transpose(2, 0, 1))


@pytest.mark.parametrize("wrong, said", [
    ({"resize": "stretch"}, "resize must be one of squash, crop"), ({"resize": None}, "resize"),
    ({"broken": "ignore"}, "broken must be one of refuse, skip"), ({"broken": True}, "broken"),
    ({"resize": "crop"}, "resize='crop' needs a size="),
])  # fmt: skip
def test_wrong_wishes(pets, tmp_path, wrong, said):
    with pytest.raises(ValueError, match=said):
        load(pets, tmp_path / "root", **wrong)


def test_too_many_pixels_are_refused_before_the_first_is_decoded(pets, tmp_path, monkeypatch):
    monkeypatch.setattr("attention.data.dataset.MOST_BYTES", 12 * 3 * 64 - 1)

    def refuse(*_):
        raise AssertionError("decoded")

    monkeypatch.setattr(decode, "pixels", refuse)
    with pytest.raises(DataError, match="12 images of 8×8 pixels take"):
        load(pets, tmp_path / "root")
    for file in pets.glob("*/*/*"):
        picture(0, (9, 8)).save(file)
    with pytest.raises(DataError, match="12 images of 9×8 pixels take.*say size=32"):
        load(pets, tmp_path / "root")


def test_a_jpeg_of_a_camera_with_two_pictures_is_its_first(tmp_path):
    first, second = picture(0, (16, 16)), picture(1, (16, 16))
    content = encoded(first, "MPO", save_all=True, append_images=[second])
    assert struct.unpack(">H", content[:2]) == (0xFFD8,)
    assert np.array_equal(decoded(content), rgb(content))
