"""Folders as people have them: with and without val/ and test/, nested, zipped, with rubbish."""

import io
import os
import shutil
import tarfile
import zipfile
import zlib
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from test_folder import picture
from torchvision.datasets import ImageFolder

from attention.data import DataError, held_out, load, trees

TARS = {".tar": "w", ".tar.gz": "w:gz", ".tgz": "w:gz", ".tar.xz": "w:xz", ".txz": "w:xz",
        ".tar.bz2": "w:bz2", ".tbz2": "w:bz2"}  # fmt: skip


def make(path, counts, start=0):
    """PNGs in class folders: {"train/cat": 3, …}; every picture is another one."""
    for place, count in counts.items():
        (path / place).mkdir(parents=True)
        for k in range(count):
            start += 1
            picture(start).save(path / place / f"{k:03}.png")
    return path


def pack(tree, ending, prefix=""):
    """The tree as an archive: in no order, folders not always before what lies in them."""
    path = tree.with_name(tree.name + ending)
    files = sorted(tree.rglob("*"), key=lambda file: file.name[::-1])
    if ending == ".zip":
        with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as out:
            for file in files:
                if file.is_file():
                    out.write(file, prefix + file.relative_to(tree).as_posix())
    else:
        with tarfile.open(path, TARS[ending]) as out:
            for file in files:
                out.add(file, prefix + file.relative_to(tree).as_posix(), recursive=False)
    return path


def by_torchvision(path):
    """(uint8 (N,3,H,W), labels) of a folder of class folders."""
    found = ImageFolder(path)
    return np.stack([np.asarray(image).transpose(2, 0, 1) for image, _ in found]), found.targets


def same(split, path):
    images, labels = by_torchvision(path)
    return np.array_equal(split.images, images) and split.labels.tolist() == labels


def rows(split):
    """The pictures of a split, as a set."""
    return {image.numpy().tobytes() for image in split.images}


@pytest.mark.parametrize("train", ["train", "Train", "TRAINING"])
@pytest.mark.parametrize("val", ["val", "valid", "Validation", None])
def test_the_splits_are_those_of_imagefolder(tmp_path, train, val):
    names = {"train": train, "test": "test"} | ({"validation": val} if val else {})
    tree = make(tmp_path / "pets", {f"{n}/{c}": 3 for n in names.values() for c in ("b c", "ä")})
    data = load(tree, tmp_path / "root")
    assert set(data.splits) == set(names) and data.classes == ("b c", "ä") and data.notes == ()
    for split, folder in names.items():
        assert same(data.splits[split], tree / folder)


@pytest.mark.parametrize("ending", [".zip", *TARS])
@pytest.mark.parametrize("prefix", ["", "flowers/", "./archive/flowers/"])
def test_an_archive_is_the_same_as_its_folder(tmp_path, ending, prefix):
    tree = make(tmp_path / "pets", {"train/a": 3, "train/b": 5, "val/a": 1, "val/b": 1})
    plain = load(tree, tmp_path / "root")
    found = load(pack(tree, ending, prefix), tmp_path / "root")
    assert (found.name, found.checksum, found.notes) == ("pets", plain.checksum, plain.notes)
    assert torch.equal(found.validation.images, plain.validation.images)
    assert {file.name for file in tmp_path.iterdir()} == {"pets", f"pets{ending}", "root"}


@pytest.mark.parametrize("place", ["", "top/", "top/train/"])
def test_without_a_test_split_a_fifth_of_each_class_is_held_out(tmp_path, capsys, place):
    tree = make(tmp_path / "pets", {f"{place}a": 10, f"{place}b": 23, f"{place}c": 2})
    data = load(tree, tmp_path / "root")
    assert data.test.labels.bincount().tolist() == [2, 5, 1]
    assert data.train.labels.bincount().tolist() == [8, 18, 1]
    assert not rows(data.train) & rows(data.test)
    everything = {image.tobytes() for image in by_torchvision(tree / place)[0]}
    assert rows(data.train) | rows(data.test) == everything
    (note,) = data.notes
    assert "no test split: 8 of 35 images" in note
    assert [x for x in capsys.readouterr().out.split("\n") if x] == [f"pets: {note}"]
    again = load(tree, tmp_path / "root")  # from the cache: it says so again
    assert again.checksum == data.checksum and again.notes == data.notes
    assert note in capsys.readouterr().out


def test_the_split_follows_from_the_contents_alone(tmp_path):
    tree = make(tmp_path / "one", {"a": 30, "b": 30})
    first = load(tree, tmp_path / "root")
    other = tmp_path / "other"
    for k, file in enumerate(sorted(tree.glob("*/*"), reverse=True)):
        (other / file.parent.name).mkdir(parents=True, exist_ok=True)
        shutil.copy(file, other / file.parent.name / f"renamed-{k}.png")
    renamed = load(other, tmp_path / "root")
    assert rows(renamed.test) == rows(first.test) and rows(renamed.train) == rows(first.train)
    for seed in range(200, 210):
        picture(seed).save(tree / "a" / f"more-{seed}.png")
        more = load(tree, tmp_path / "root")
        assert len(rows(first.test) - rows(more.test)) <= 1
        assert len(rows(more.test) - rows(first.test)) <= 1
        first = more
    assert load(tree, tmp_path / "root", size=4).test.labels.tolist() == first.test.labels.tolist()


def test_copies_of_a_file_are_never_on_both_sides(tmp_path, capsys):
    tree = make(tmp_path / "pets", {"a": 12, "b": 12})
    for file in sorted(tree.glob("*/*")):
        for k in range(3):
            shutil.copy(file, file.with_name(f"copy-{k}-{file.name}"))
    data = load(tree, tmp_path / "root")
    assert not rows(data.train) & rows(data.test) and len(data.train) + len(data.test) == 96
    assert len(data.notes) == 1  # nothing about pictures that both have


def test_validation_images_stay_what_they_are(tmp_path):
    tree = make(tmp_path / "pets", {"train/a": 10, "train/b": 10, "valid/a": 2, "valid/b": 2})
    data = load(tree, tmp_path / "root")
    assert same(data.validation, tree / "valid")
    assert (len(data.train), len(data.test)) == (16, 4)
    assert rows(data.train) | rows(data.test) == {
        x.tobytes() for x in by_torchvision(tree / "train")[0]
    }
    chosen = held_out(data)
    assert chosen.test is data.validation and chosen.train is data.train
    shutil.rmtree(tree / "valid")
    assert load(tree, tmp_path / "root").checksum == data.checksum


def test_rubbish_is_ignored_by_its_name(tmp_path):
    tree = make(tmp_path / "pets", {"a": 5, "b": 5})
    plain = load(tree, tmp_path / "root")
    for name in (".DS_Store", "Thumbs.db", "desktop.ini", "a/.DS_Store", "a/thumbs.db", "a/._0.png",
                 "__MACOSX/a/._0.png", ".ipynb_checkpoints/a/0.png", "readme.md"):  # fmt: skip
        (tree / name).parent.mkdir(parents=True, exist_ok=True)
        (tree / name).write_bytes(b"rubbish")
    for path in (tree, pack(tree, ".zip"), pack(tree, ".tar", "pets/")):
        found = load(path, tmp_path / "root")
        assert (found.checksum, found.notes) == (plain.checksum, plain.notes)


def test_a_class_may_be_called_train(tmp_path):
    tree = make(tmp_path / "rail", {"train": 5, "tram": 5})
    assert load(tree, tmp_path / "root").classes == ("train", "tram")


def test_what_is_left_out_is_said(tmp_path):
    tree = make(tmp_path / "pets", {"train/a": 5, "train/b": 5, "test/a": 1, "test/b": 1,
                                    "unlabelled": 2})  # fmt: skip
    picture(100).save(tree / "train" / "loose.png")
    data = load(tree, tmp_path / "root")
    beside, loose = data.notes
    assert beside == "left out, beside train/: unlabelled/"
    assert loose == "left out: 1 picture in train, in no class folder"


def test_the_same_picture_in_two_splits_is_named(tmp_path, capsys):
    tree = make(tmp_path / "pets", {f"{s}/{c}": 3 for s in ("train", "val", "test") for c in "ab"})
    shutil.copy(tree / "train" / "a" / "000.png", tree / "test" / "b" / "copy.png")
    with Image.open(tree / "train" / "b" / "001.png") as image:
        image.save(tree / "val" / "b" / "again.bmp")  # other bytes, the same pixels
    data = load(tree, tmp_path / "root")
    assert len(data.notes) == 2
    assert "in validation and in train: 1 image," in data.notes[0]
    assert "val/b/again.bmp is train/b/001.png" in data.notes[0]
    assert "in test and in train: 1 image," in data.notes[1]
    assert "test/b/copy.png is train/a/000.png" in data.notes[1]
    assert capsys.readouterr().out.count("pixel for pixel") == 2


@pytest.mark.parametrize("packed", [False, True])
@pytest.mark.parametrize("counts, said", [
    ({"a": 5}, "only 'a'"), ({"a": 5, "b": 0}, "class folder b has no images"),
    ({"a": 1, "b": 5}, "the class 'a' needs at least 2"),
    ({"a/x": 2, "b/x": 2}, "class folder a, but a/x is a folder"),
    ({"val/a": 2, "val/b": 2}, "only val/"), ({"val/a": 2, "test/a": 2}, "only test/, val/"),
    ({"train": 3}, "a folder for each class in train/, and there is none"),
    ({"train": 3, "test": 3}, "a folder for each class in t"),
    ({"train/a": 3, "train/b": 3, "test": 3}, "without test/, test images are held out"),
    ({"train/a": 3, "train/b": 3, "val": 3}, "without val/, validation images are held out"),
    ({"train/a": 3, "train/b": 3, "val/a": 3}, r"train and validation .*only in train: \['b'\]"),
    ({"train/a": 1, "train/b": 1, "val/a": 1, "val/b": 1, "valid/a": 1}, "val/ and valid/"),
    ({"new\nline": 3, "b": 3}, "a name that nobody can print"), ({}, "there is no folder"),
])  # fmt: skip
def test_what_is_no_layout_is_refused(tmp_path, packed, counts, said):
    tree = make(tmp_path / "pets", counts)
    tree.mkdir(exist_ok=True)
    path = pack(tree, ".tar") if packed else tree
    with pytest.raises(DataError, match=said) as error:
        load(path, tmp_path / "root")
    assert str(path) in str(error.value) and "\n" not in str(error.value)


def test_links_in_a_circle_end(tmp_path):
    (tmp_path / "pets").mkdir()
    (tmp_path / "pets" / "again").symlink_to(tmp_path / "pets")
    with pytest.raises(DataError, match="only 'again'|is a folder"):
        load(tmp_path / "pets", tmp_path / "root")
    tree = make(tmp_path / "more", {"a": 3, "b": 3})
    (tree / "a" / "up").symlink_to(tree)
    with pytest.raises(DataError, match="a/up is a folder"):
        load(tree, tmp_path / "root")


def test_names_that_are_no_unicode(tmp_path):
    tree = make(tmp_path / "pets", {"a": 3, "b": 3})
    os.rename(tree / "a" / "000.png", os.fsencode(tree / "a") + b"/\xff.png")
    assert len(load(tree, tmp_path / "root").train) == 4
    with open(os.fsencode(tree / "a") + b"/\xfe.png", "wb") as file:
        file.write(b"no picture")
    with pytest.raises(DataError, match=r"a/\\udcfe.png is no JPEG"):
        load(tree, tmp_path / "root")
    os.rename(tree / "b", os.fsencode(tree) + b"/\xff")
    with pytest.raises(DataError, match="a name that nobody can print"):
        load(tree, tmp_path / "root")


# ------------------------------------------------------------------------------------------ zips


def png(seed):
    out = io.BytesIO()
    picture(seed).save(out, "PNG")
    return out.getvalue()


def zipped(path, names, **options):
    with zipfile.ZipFile(path, "w", **options) as out:
        for number, name in enumerate(names):
            out.writestr(name, png(number))
    return path


EIGHT = [f"{c}/{k}.png" for c in ("cat", "ant") for k in range(4)]


def test_a_zip_from_windows(tmp_path):
    plain = load(zipped(tmp_path / "plain.zip", EIGHT), tmp_path / "root")
    names = [f"pets\\{name}".replace("/", "\\") for name in EIGHT]
    found = load(zipped(tmp_path / "windows.zip", ["pets\\", *names][1:]), tmp_path / "root")
    assert found.checksum == plain.checksum
    with zipfile.ZipFile(tmp_path / "folders.zip", "w") as out:
        out.writestr("pets\\", b"")
        out.writestr("pets\\cat\\", b"")
        for number, name in enumerate(names):
            out.writestr(name, png(number))
    assert load(tmp_path / "folders.zip", tmp_path / "root").checksum == plain.checksum


def test_a_zip_from_a_mac_says_utf8_without_saying_so(tmp_path):
    path = zipped(tmp_path / "mac.zip", [f"{c}/{k}.png" for c in ("Bär", "Kuh") for k in range(3)])
    content = bytearray(path.read_bytes())
    for sign, place in ((b"PK\3\4", 6), (b"PK\1\2", 8)):  # where the flags stand
        start = -1
        while (start := content.find(sign, start + 1)) >= 0:
            content[start + place + 1] &= ~0x08
    path.write_bytes(content)
    with zipfile.ZipFile(path) as found:
        assert "BΣr" not in found.namelist()[0] and "Bär" not in found.namelist()[0]
    assert load(path, tmp_path / "root").classes == ("Bär", "Kuh")


@pytest.mark.parametrize("how, said", [
    ("link", "cat/0.png is a link"), ("encrypted", "cat/0.png is encrypted"),
    ("bzip2", "cat/0.png is compressed by another method"), ("crc", "cat/0.png is damaged"),
    ("larger", "cat/0.png is damaged|cat/0.png is no"),
])  # fmt: skip
def test_members_of_a_zip_that_are_not_read(tmp_path, how, said):
    method = zipfile.ZIP_BZIP2 if how == "bzip2" else zipfile.ZIP_STORED
    path = tmp_path / "pets.zip"
    with zipfile.ZipFile(path, "w", method) as out:
        for number, name in enumerate(EIGHT):
            info = zipfile.ZipInfo(name)
            if how == "link" and number == 0:
                info.external_attr = 0o120777 << 16
            out.writestr(info, png(number), method if number == 0 else zipfile.ZIP_STORED)
    content = bytearray(path.read_bytes())
    if how == "encrypted":
        content[6] |= 1
        content[content.find(b"PK\1\2") + 8] |= 1
    elif how == "crc":
        content[content.find(b"IDAT") + 20] ^= 1
    elif how == "larger":  # than the header says
        place = content.find(b"PK\1\2") + 24
        content[place : place + 4] = (10).to_bytes(4, "little")
    path.write_bytes(content)
    with pytest.raises(DataError, match=f'1 of 8 files cannot be read: .*{said}.*broken="skip"'):
        load(path, tmp_path / "root")
    data = load(path, tmp_path / "root", broken="skip")
    assert len(data.train) + len(data.test) == 7 and data.notes[0].startswith(
        "skipped: 1 file that cannot"
    )


def test_a_bomb_in_a_zip_is_not_unpacked(tmp_path, monkeypatch):
    path = tmp_path / "bomb.zip"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as out:
        for number, name in enumerate(EIGHT):
            out.writestr(name, bytes(1 << 24) if number == 0 else png(number))
    content = bytearray(path.read_bytes())
    place = content.find(b"PK\1\2") + 24
    content[place : place + 4] = (100).to_bytes(4, "little")  # it claims 100 bytes
    path.write_bytes(content)
    most = []

    class Spy:
        def __init__(self):
            self.real = zlib.decompressobj(-15)

        def decompress(self, data, length=0):
            found = self.real.decompress(data, length)
            most.append(len(found))
            return found

        def __getattr__(self, name):
            return getattr(self.real, name)

    monkeypatch.setattr(zipfile, "_get_decompressor", lambda *_: Spy())
    with pytest.raises(DataError, match="cat/0.png is"):
        load(path, tmp_path / "root")
    assert max(most) < 1 << 16
    monkeypatch.undo()
    monkeypatch.setattr("attention.data.layout.MOST_FILE_BYTES", 99)
    with pytest.raises(DataError, match="cat/0.png has 100 bytes, more than the 99"):
        load(path, tmp_path / "root")


def test_a_zip_with_any_byte_changed_or_cut_off(tmp_path):
    path = zipped(tmp_path / "pets.zip", EIGHT, compression=zipfile.ZIP_DEFLATED)
    whole, good = path.read_bytes(), load(path, tmp_path / "root")
    everything = rows(good.train) | rows(good.test)
    random, refused = np.random.RandomState(0), 0
    for place in random.permutation(len(whole))[:80]:
        for changed in (
            whole[:place] + bytes([whole[place] ^ 0x10]) + whole[place + 1 :], whole[:place],
        ):  # fmt: skip
            path.write_bytes(changed)
            try:
                found = load(path, tmp_path / "root")
                lost = "in no class folder" in found.notes[0]  # cat/0.png became cat?0.png
                assert lost or rows(found.train) | rows(found.test) == everything
            except DataError as error:
                assert str(path) in str(error)
                refused += 1
    assert refused > 100


def test_an_archive_s_folder_that_leaves_it_is_nowhere(tmp_path):
    plain = load(zipped(tmp_path / "plain.zip", EIGHT), tmp_path / "root")
    names = [*EIGHT, "../evil.png", "/../../evil/2.png"]
    found = load(zipped(tmp_path / "evil.zip", names), tmp_path / "root")
    assert found.checksum == plain.checksum and not list(tmp_path.parent.rglob("evil*.png"))


def test_the_environment_takes_the_same_paths(tmp_path, monkeypatch):
    path = zipped(tmp_path / "pets.zip", EIGHT)
    monkeypatch.setenv("ATTENTION_DATA", str(path))
    assert load(root=tmp_path / "root").checksum == load(path, tmp_path / "root").checksum


def test_two_files_of_one_name_in_a_zip_are_damage(tmp_path):
    with pytest.warns(UserWarning, match="Duplicate name"):
        path = zipped(tmp_path / "pets.zip", [*EIGHT, EIGHT[0]])
    with pytest.raises(DataError, match="damaged or incomplete .two files are called 'cat/0.png'"):
        load(path, tmp_path / "root")
    tree = make(tmp_path / "twice", {"a": 3, "b": 3})
    tar = pack(tree, ".tar")
    picture(99).save(tree / "a" / "000.png")
    with tarfile.open(tar, "a") as out:
        out.add(tree / "a" / "000.png", "a/000.png")  # in a tar, the later one counts
    assert load(tar, tmp_path / "root").checksum == load(tree, tmp_path / "root").checksum


def test_parts_of_names():
    assert trees._parts("./a//b/c.png") == ("a", "b", "c.png") == trees._parts("/a/b/c.png")
    assert Path("a").parts == trees._parts("a")
