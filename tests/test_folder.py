"""Images from folders and tars: read as they are, or refused by name; and the cache.

Folders as people have them are in test_layout.py, pictures in test_decode.py.
"""

import errno
import io
import os
import shutil
import struct
import tarfile
import zlib

import numpy as np
import pytest
import torch
from PIL import Image

from attention.data import DataError, dataset, decode, layout, load


def picture(seed, size=(8, 8), mode="RGB"):
    channels = len(Image.new(mode, (1, 1)).getbands())
    random = np.random.RandomState(seed)
    pixels = random.randint(0, 256, (*size[::-1], channels), dtype=np.uint8)
    return Image.fromarray(pixels.squeeze())


@pytest.fixture
def tree(tmp_path):
    """A folder of two classes, with three images each to train and two to test."""
    for number, (split, name, count) in enumerate(
        [("train", "cat", 3), ("train", "ant", 3), ("test", "cat", 2), ("test", "ant", 2)]
    ):
        place = tmp_path / "pets.v2" / split / name
        place.mkdir(parents=True)
        for k in range(count):
            picture(10 * number + k).save(place / f"{k}.png")
    return tmp_path / "pets.v2"


def pack(tree, ending, prefix=""):
    mode = {".tar": "w", ".tar.gz": "w:gz", ".tgz": "w:gz", ".tar.xz": "w:xz"}[ending]
    path = tree.with_name(tree.name + ending)
    with tarfile.open(path, mode) as tar:
        for file in sorted(tree.rglob("*"), reverse=True):  # not in the order of the result
            tar.add(file, prefix + file.relative_to(tree).as_posix(), recursive=False)
    return path


def no_decoding(monkeypatch):
    def refuse(*_):
        raise AssertionError("decoded, although the cache is good")

    monkeypatch.setattr(decode, "header", refuse)


def test_a_folder_is_read(tree, tmp_path):
    (tree / "train" / ".DS_Store").write_bytes(b"x")
    (tree / "train" / "cat" / "._0.png").write_bytes(b"x")
    (tree / "train" / ".ipynb_checkpoints").mkdir()
    (tree / "train" / "notes.txt").write_bytes(b"x")
    (tree / "readme.md").write_bytes(b"x")
    (tree / "test" / "cat" / "1.png").rename(tree / "test" / "cat" / "1.PNG")
    dataset = load(tree, tmp_path / "root")
    assert (dataset.name, dataset.classes) == ("pets.v2", ("ant", "cat"))
    assert dataset.train.labels.tolist() == [0, 0, 0, 1, 1, 1]
    assert dataset.test.labels.tolist() == [0, 0, 1, 1]
    wanted = np.asarray(picture(1)).transpose(2, 0, 1)  # train/cat/1.png
    assert np.array_equal(dataset.train.images[4], wanted)
    assert dataset.train.masks is None


@pytest.mark.parametrize("ending", [".tar", ".tar.gz", ".tgz", ".tar.xz"])
@pytest.mark.parametrize("prefix", ["", "./", "top/"])
def test_a_tar_is_the_same_as_its_folder(tree, tmp_path, ending, prefix):
    plain, tar = load(tree, tmp_path / "root"), load(pack(tree, ending, prefix), tmp_path / "root")
    assert (tar.name, tar.checksum) == (plain.name, plain.checksum)
    assert {p.name for p in tmp_path.iterdir()} == {"pets.v2", f"pets.v2{ending}", "root"}


def test_a_photograph_on_its_side_is_turned(tree, tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 6  # orientation: to be turned by 90° clockwise
    picture(0).save(tree / "train" / "ant" / "0.png", exif=exif)
    upright = np.rot90(np.asarray(picture(0)), -1).transpose(2, 0, 1)
    assert np.array_equal(load(tree, tmp_path / "root").train.images[0], upright)


@pytest.mark.filterwarnings("error")
def test_other_kinds_of_images_become_rgb(tree, tmp_path):
    ants = tree / "train" / "ant"
    grey = picture(0, mode="L")
    grey.save(ants / "0.png")
    picture(1).quantize(4).save(ants / "1.png", transparency=bytes([0, 128, 255, 255]))
    picture(2, mode="RGBA").save(ants / "2.png")
    dataset = load(tree, tmp_path / "root")
    assert np.array_equal(dataset.train.images[0], np.stack([np.asarray(grey)] * 3))
    palette = np.asarray(picture(1).quantize(4).convert("RGB")).transpose(2, 0, 1)
    assert np.array_equal(dataset.train.images[1], palette)
    colours = np.asarray(picture(2, mode="RGBA"))[:, :, :3].transpose(2, 0, 1)
    assert np.array_equal(dataset.train.images[2], colours)


def test_sizes(tree, tmp_path):
    picture(7, size=(30, 20)).save(tree / "test" / "cat" / "0.png")
    with pytest.raises(DataError, match=r"test/cat/0.png 30×20 .*size="):
        load(tree, tmp_path / "root")
    dataset = load(tree, tmp_path / "root", size=10)
    assert dataset.size == (10, 10) == tuple(dataset.test.images.shape[2:])
    resized = picture(7, size=(30, 20)).resize((10, 10), Image.Resampling.BILINEAR)
    assert np.array_equal(dataset.test.images[2], np.asarray(resized).transpose(2, 0, 1))
    for wrong in (0, -1, 1.5, True, "32", float("nan"), (8, 8)):
        with pytest.raises(ValueError, match="size must be"):
            load(tree, size=wrong)
    with pytest.raises(ValueError, match="size="):
        load("shapes10", size=10)


def png(width, height, depth, kind, content):
    """A PNG made by hand. kind: 0 grey, 2 RGB."""
    header = struct.pack(">IIBBBBB", width, height, depth, kind, 0, 0, 0)
    parts = [(b"IHDR", header), (b"IDAT", zlib.compress(content)), (b"IEND", b"")]
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))
        for name, data in parts
    )


def png16(kind):
    channels = {0: 1, 2: 3}[kind]
    image = png(8, 8, 16, kind, (b"\0" + bytes(range(16)) * channels) * 8)
    assert Image.open(io.BytesIO(image)).size == (8, 8)
    return image


def bomb():
    return png(10_000, 10_000, 1, 0, bytes(1251 * 10_000))


def break_tree(tree, how):
    if how == "empty class":
        for file in (tree / "test" / "ant").iterdir():
            file.unlink()
    elif how == "classes differ":
        (tree / "test" / "ant").rename(tree / "test" / "bee")
    elif how == "empty test":
        shutil.rmtree(tree / "test")
        (tree / "test").mkdir()
    elif how == "no train":
        shutil.rmtree(tree / "train")
    elif how == "not an image":
        (tree / "train" / "cat" / "1.png").write_bytes(b"no image at all")
    elif how == "cut off":
        file = tree / "train" / "cat" / "1.png"
        file.write_bytes(file.read_bytes()[:150])
    elif how == "not an image's name":
        (tree / "train" / "cat" / "list.csv").write_bytes(b"1,2")
    elif how == "too deep":
        (tree / "train" / "cat" / "more").mkdir()
        picture(0).save(tree / "train" / "cat" / "more" / "0.png")
    elif how == "a folder, not a file":
        (tree / "train" / "cat" / "9.png").mkdir()
    elif how == "a pipe":
        os.mkfifo(tree / "train" / "cat" / "9.png")
    elif how == "16 bits a channel":
        (tree / "train" / "cat" / "1.png").write_bytes(png16(2))
    elif how == "16 bits of grey":
        (tree / "train" / "cat" / "1.png").write_bytes(png16(0))
    elif how == "too many pixels":
        (tree / "train" / "cat" / "1.png").write_bytes(bomb())


@pytest.mark.parametrize("packed", [False, True])
@pytest.mark.parametrize("how, said", [
    ("empty class", "test/ant has no images"), ("classes differ", "'ant'.*'bee'"),
    ("empty test", "each class in test/, and there is none; without test/, test images are held"),
    ("no train", "expected images in train/<class>/, and there is only test/"),
    ("not an image", "train/cat/1.png is no"), ("cut off", "train/cat/1.png is no"),
    ("not an image's name", "train/cat/list.csv"), ("too deep", "train/cat/more"),
    ("a folder, not a file", "train/cat/9.png is"), ("a pipe", "train/cat/9.png is"),
    ("16 bits a channel", "train/cat/1.png .*16 bits"),
    ("16 bits of grey", "train/cat/1.png .*16 bits"),
    ("too many pixels", "train/cat/1.png .*exceeds limit"),
])  # fmt: skip
def test_what_is_wrong_is_named(tree, tmp_path, packed, how, said):
    break_tree(tree, how)
    path = pack(tree, ".tar.gz") if packed else tree
    with pytest.raises(DataError, match=said) as error:
        load(path, tmp_path / "root")
    assert str(path) in str(error.value) and "\n" not in str(error.value)
    assert not list((tmp_path / "root").rglob("*.npz"))


def test_links_that_lead_nowhere_or_in_a_circle(tree, tmp_path):
    (tree / "train" / "cat" / "9.png").symlink_to("9.png")
    with pytest.raises(DataError, match="train/cat/9.png cannot be read .*symbolic links"):
        load(tree, tmp_path / "root")
    (tree / "train" / "cat" / "9.png").unlink()
    (tree / "train" / "dog").symlink_to("dog")
    with pytest.raises(DataError, match="train/dog cannot be read"):
        load(tree, tmp_path / "root")
    (tree / "train" / "dog").unlink()
    (tree / "train" / "dog").symlink_to("nowhere")
    with pytest.raises(DataError, match="train/dog cannot be read .*No such file"):
        load(tree, tmp_path / "root")
    (tmp_path / "loop").symlink_to("loop")
    with pytest.raises(DataError, match="name must be"):
        load(tmp_path / "loop", tmp_path / "root")


def test_a_folder_that_may_not_be_read(tree, tmp_path, monkeypatch):
    def refuse(path):
        raise PermissionError(errno.EACCES, "Permission denied", str(path))

    monkeypatch.setattr(os, "scandir", refuse)  # the tests may run as root, who may read all
    with pytest.raises(DataError, match="cannot list its files .*Permission denied"):
        load(tree, tmp_path / "root")


def test_a_pipe_or_a_device_is_no_tar(tmp_path):
    os.mkfifo(tmp_path / "pets.tar")
    (tmp_path / "zero.tar").symlink_to("/dev/zero")
    for name in ("pets.tar", "zero.tar"):
        with pytest.raises(DataError, match="expected a folder, or an archive"):
            load(tmp_path / name, tmp_path / "root")


@pytest.mark.parametrize("packed", [False, True])
def test_what_would_not_fit_into_memory_is_refused_before_it_is_decoded(
    tree, tmp_path, monkeypatch, packed
):
    path = pack(tree, ".tar") if packed else tree
    with pytest.raises(DataError, match=r"10 images of 100000×100000 .*279.*the limit is 4.0 GiB"):
        load(path, tmp_path / "root", size=100_000)
    monkeypatch.setattr(dataset, "MOST_BYTES", 10 * 3 * 8 * 8 - 1)
    with pytest.raises(DataError, match="10 images of 8×8 pixels"):
        load(path, tmp_path / "root")
    monkeypatch.setattr(dataset, "MOST_BYTES", 10 * 3 * 8 * 8)
    assert load(path, tmp_path / "root").size == (8, 8)


@pytest.mark.parametrize("packed", [False, True])
def test_a_file_too_large_for_an_image_is_not_read(tree, tmp_path, monkeypatch, packed):
    monkeypatch.setattr(layout, "MOST_FILE_BYTES", 1 << 20)
    with open(tree / "train" / "cat" / "1.png", "r+b") as file:
        file.truncate((1 << 20) + 1)
    path = pack(tree, ".tar.gz") if packed else tree
    with pytest.raises(DataError, match="cat/1.png has 1,048,577 bytes, more than the 1,048,576"):
        load(path, tmp_path / "root")


def test_a_header_of_any_length_is_not_read(tmp_path):
    member = tarfile.TarInfo("pax")
    member.type, member.size = tarfile.XHDTYPE, 1 << 40
    (tmp_path / "pets.tar").write_bytes(member.tobuf(tarfile.GNU_FORMAT) + bytes(1024))
    with pytest.raises(DataError, match=r"a header of 1,099,511,627,776 bytes"):
        load(tmp_path / "pets.tar", tmp_path / "root")


@pytest.mark.parametrize("given, wanted", [
    ("<script>alert(1)</script>", "script-alert(1)--script-"), ("a & $b$", "a - -b-"),
    (".hidden", "hidden"), ("..", "images"), ("Blumen & Bäume 2", "Blumen - Bäume 2"),
    ("x" * 200, "x" * 64), ("new\nline", "new-line"), ("CIFAR10", "CIFAR10-files"),
    ("shapes10", "shapes10-files"), ("$$", "images"),
])  # fmt: skip
def test_a_name_is_harmless_in_paths_and_tables(tree, tmp_path, given, wanted):
    name = given.replace("/", ":") if given != ".." else "..."
    moved = tree.rename(tmp_path / name)
    assert load(moved, tmp_path / "root").name == wanted
    assert [p.parent.name for p in (tmp_path / "root").rglob("*.npz")] == ["cache"]
    tar = pack(moved, ".tar") if given != "x" * 200 else moved
    assert load(tar, tmp_path / "root").name == wanted


def test_unknown_names_and_files(tmp_path):
    with pytest.raises(DataError, match="cifar10, shapes10, auto.*cifar11"):
        load("cifar11", tmp_path)
    (tmp_path / "images.rar").write_bytes(b"x")
    with pytest.raises(DataError, match=r"\.zip.*\.tar\.xz"):
        load(tmp_path / "images.rar", tmp_path)


def test_a_tar_with_a_link_is_refused(tree, tmp_path):
    (tree / "train" / "cat" / "9.png").symlink_to("0.png")
    with pytest.raises(DataError, match=r"train/cat/9.png is a link"):
        load(pack(tree, ".tar"), tmp_path / "root")
    assert len(load(tree, tmp_path / "root").train) == 7  # in a folder it leads to its image


def test_a_path_never_takes_a_built_in_name(tree, tmp_path):
    assert load(tree.rename(tmp_path / "cifar10"), tmp_path / "root").name == "cifar10-files"


def test_the_environment_names_dataset_and_home(tree, tmp_path, monkeypatch):
    monkeypatch.setenv("ATTENTION_DATA", str(tree))
    monkeypatch.setenv("ATTENTION_HOME", str(tmp_path / "drive"))
    assert load().name == "pets.v2"
    assert len(list((tmp_path / "drive" / "data" / "cache").iterdir())) == 1


@pytest.mark.parametrize("ending", [".tar", ".tar.gz", ".tar.xz"])
def test_a_truncated_archive(tree, tmp_path, ending):
    path = pack(tree, ending)
    whole = path.read_bytes()
    for length in sorted({0, 100, *range(512, len(whole), 1536), len(whole) - 10}):
        if ending == ".tar" and not any(whole[length - 512 : length]) and length > 512:
            continue  # cut within the zeros that end it: nothing is missing
        path.write_bytes(whole[:length])
        with pytest.raises(DataError, match="damaged or incomplete") as error:
            load(path, tmp_path / "root")
        assert str(path) in str(error.value)


@pytest.mark.parametrize("ending", [".tar.gz", ".tar.xz"])
def test_one_changed_byte(tree, tmp_path, ending):
    path = pack(tree, ending)
    whole, good, refused = path.read_bytes(), load(path, tmp_path / "root").checksum, 0
    for place in range(len(whole) // 20, len(whole) - 20, len(whole) // 40):
        path.write_bytes(whole[:place] + bytes([whole[place] ^ 0x10]) + whole[place + 1 :])
        try:
            assert load(path, tmp_path / "root").checksum == good  # a bit that means nothing
        except DataError as error:
            assert f"{path} is damaged or incomplete" in str(error)
            refused += 1
    assert refused > 30


def test_a_broken_header_within_a_plain_tar(tree, tmp_path):
    path = pack(tree, ".tar")
    with tarfile.open(path) as tar:
        header = tar.getmembers()[5].offset
    content = bytearray(path.read_bytes())
    content[header + 3] ^= 1
    path.write_bytes(content)
    with pytest.raises(DataError, match="broken header"):
        load(path, tmp_path / "root")


def test_the_second_load_comes_from_the_cache(tree, tmp_path, monkeypatch):
    first = load(tree, tmp_path / "root")
    no_decoding(monkeypatch)
    second = load(tree, tmp_path / "root")
    assert (second.name, second.classes, second.checksum) == (
        first.name, first.classes, first.checksum,
    )  # fmt: skip


def test_each_size_has_a_cache_of_its_own(tree, tmp_path):
    for size, wanted in ((None, (8, 8)), (4, (4, 4)), (None, (8, 8))):
        assert load(tree, tmp_path / "root", size).size == wanted


@pytest.mark.parametrize("packed", [False, True])
def test_a_changed_source_is_decoded_again(tree, tmp_path, packed):
    first = load(pack(tree, ".tar") if packed else tree, tmp_path / "root")
    picture(99).save(tree / "train" / "ant" / "0.png")
    changed = load(pack(tree, ".tar") if packed else tree, tmp_path / "root")
    assert np.array_equal(changed.train.images[0], np.asarray(picture(99)).transpose(2, 0, 1))
    assert torch.equal(changed.train.images[1:], first.train.images[1:])
    assert len(list((tmp_path / "root" / "cache").iterdir())) == 1


def test_a_damaged_cache_is_made_anew(tree, tmp_path):
    first = load(tree, tmp_path / "root")
    (file,) = (tmp_path / "root" / "cache").iterdir()
    whole = file.read_bytes()
    place = whole.index(first.train.images.numpy().tobytes()) + 100
    for damaged in (whole[: len(whole) // 2], whole[:place] + b"??" + whole[place + 2 :], b""):
        file.write_bytes(damaged)
        assert load(tree, tmp_path / "root").checksum == first.checksum
        assert file.stat().st_size == len(whole)


def test_a_good_cache_outlives_a_damaged_archive(tree, tmp_path, monkeypatch):
    path = pack(tree, ".tar.gz")
    first, times = load(path, tmp_path / "root"), path.stat()
    whole = path.read_bytes()
    path.write_bytes(whole[:-100])
    with pytest.raises(DataError, match="damaged"):
        load(path, tmp_path / "root")
    path.write_bytes(whole)
    os.utime(path, ns=(times.st_atime_ns, times.st_mtime_ns))
    no_decoding(monkeypatch)
    assert load(path, tmp_path / "root").checksum == first.checksum


def test_a_full_disk_costs_only_the_cache(tree, tmp_path, monkeypatch, capsys):
    load(tree, tmp_path / "root")
    (file,) = (tmp_path / "root" / "cache").iterdir()
    before = file.read_bytes()
    picture(99).save(tree / "train" / "ant" / "0.png")

    def full(out, **_):
        out.write(b"the beginning")
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(np, "savez", full)
    capsys.readouterr()
    dataset = load(tree, tmp_path / "root")
    assert np.array_equal(dataset.train.images[0], np.asarray(picture(99)).transpose(2, 0, 1))
    said = capsys.readouterr().out
    assert "No space left on device" in said and said.count("\n") == 1
    assert list(file.parent.iterdir()) == [file] and file.read_bytes() == before
