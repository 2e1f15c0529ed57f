import errno
import hashlib
import importlib
import io
import os
import pickle
import shutil
import tarfile
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from attention.data import (
    Batches,
    DataError,
    Dataset,
    Split,
    cifar10,
    folder,
    in_order,
    load,
    normalise,
    shapes10,
)

loading, drawing = (importlib.import_module(f"attention.data.{x}") for x in ("load", "shapes10"))


@pytest.fixture(autouse=True)
def one_thread():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(autouse=True)
def no_settings(monkeypatch):
    for name in ("ATTENTION_DATA", "ATTENTION_HOME", "ATTENTION_OFFLINE"):
        monkeypatch.delenv(name, raising=False)


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


PIXELS = {"mean": [0, 0, 0], "std": [1 / 255] * 3}  # normalising with these gives the pixel values


# --------------------------------------------------------------------------------------- batches


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
    resumed, whole = (
        Batches(numbered_split(), 16),
        Batches(numbered_split(), 16),
    )
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


@pytest.mark.parametrize("wrong, said", [
    ({"batch_size": 0}, "batch_size"), ({"batch_size": 1.5}, "batch_size"),
    ({"seed": -1}, "seed"), ({"crop": 12}, "at most 11"),
])  # fmt: skip
def test_wrong_arguments_of_batches(wrong, said):
    with pytest.raises(ValueError, match=said):
        Batches(numbered_split(), **{"batch_size": 8, **wrong})


def test_wrong_tensors():
    x, labels = torch.zeros(4, 3, 8, 8, dtype=torch.uint8), torch.arange(4)
    for wrong in ((x.float(), labels), (x[:, :1], labels), (x, labels[:3]), (x, labels.int()),
                  (x, labels, torch.zeros(4, 8, 8))):  # fmt: skip
        with pytest.raises(ValueError, match="must be"):
            Split(*wrong)
    with pytest.raises(ValueError, match="float32"):
        normalise(x.float(), [0] * 3, [1] * 3)


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


@pytest.mark.parametrize("n", [0, -1, 61, 2.0])
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


# ------------------------------------------------------------------------------ folders and tars


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
        folder = tmp_path / "pets.v2" / split / name
        folder.mkdir(parents=True)
        for k in range(count):
            picture(10 * number + k).save(folder / f"{k}.png")
    return tmp_path / "pets.v2"


def pack(tree, ending, prefix=""):
    mode = {".tar": "w", ".tar.gz": "w:gz", ".tgz": "w:gz", ".tar.xz": "w:xz"}[ending]
    path = tree.with_name(tree.name + ending)
    with tarfile.open(path, mode) as tar:
        for file in sorted(tree.rglob("*"), reverse=True):  # not in the order of the result
            tar.add(file, prefix + file.relative_to(tree).as_posix(), recursive=False)
    return path


def no_decoding(monkeypatch):
    def decode(*_):
        raise AssertionError("decoded, although the cache is good")

    monkeypatch.setattr(folder, "_decode", decode)


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
    folder, tar = load(tree, tmp_path / "root"), load(pack(tree, ending, prefix), tmp_path / "root")
    assert (tar.name, tar.checksum) == (folder.name, folder.checksum)
    assert {p.name for p in tmp_path.iterdir()} == {"pets.v2", f"pets.v2{ending}", "root"}


def test_other_kinds_of_images_become_rgb(tree, tmp_path):
    folder = tree / "train" / "ant"
    grey = picture(0, mode="L")
    grey.save(folder / "0.png")
    picture(1).quantize(4).save(folder / "1.png", transparency=bytes([0, 128, 255, 255]))
    picture(2, mode="RGBA").save(folder / "2.png")
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
    with pytest.raises(ValueError, match="size must be"):
        load(tree, size=0)
    with pytest.raises(ValueError, match="size="):
        load("shapes10", size=10)


def break_tree(tree, how):
    if how == "empty class":
        for file in (tree / "test" / "ant").iterdir():
            file.unlink()
    elif how == "classes differ":
        (tree / "test" / "ant").rename(tree / "test" / "bee")
    elif how == "no test":
        shutil.rmtree(tree / "test")
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


@pytest.mark.parametrize("packed", [False, True])
@pytest.mark.parametrize("how, said", [
    ("empty class", "test/ant has no images"), ("classes differ", "'ant'.*'bee'"),
    ("no test", "no test/<class>/"), ("no train", "no train/<class>/"),
    ("not an image", "train/cat/1.png is no"), ("cut off", "train/cat/1.png is no"),
    ("not an image's name", "train/cat/list.csv"), ("too deep", "train/cat/more"),
])  # fmt: skip
def test_what_is_wrong_is_named(tree, tmp_path, packed, how, said):
    break_tree(tree, how)
    path = tree
    if packed:
        for split in ("train", "test"):
            (tree / split).mkdir(exist_ok=True)
        path = pack(tree, ".tar.gz")
    with pytest.raises(DataError, match=said) as error:
        load(path, tmp_path / "root")
    assert str(path) in str(error.value) and "\n" not in str(error.value)
    assert not list((tmp_path / "root").rglob("*.npz"))


def test_unknown_names_and_files(tmp_path):
    with pytest.raises(DataError, match="cifar11.*cifar10, shapes10, auto"):
        load("cifar11", tmp_path)
    (tmp_path / "images.zip").write_bytes(b"x")
    with pytest.raises(DataError, match=r"\.tar\.xz"):
        load(tmp_path / "images.zip", tmp_path)


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


# ---------------------------------------------------------------------------------------- CIFAR-10


@pytest.fixture(scope="session")
def small_cifar10(tmp_path_factory):
    """An archive laid out as CIFAR-10's, with four images a batch, and what its MD5s are."""
    names = [f"data_batch_{k}" for k in range(1, 6)] + ["test_batch", "batches.meta"]
    contents = {}
    for number, name in enumerate(names[:-1]):
        pixels = np.random.RandomState(number).randint(0, 256, (4, 3072), dtype=np.uint8)
        contents[name] = pickle.dumps({"data": pixels, "labels": [number, 1, 2, 3]})
    contents["batches.meta"] = pickle.dumps({"label_names": list("abcdefghij")})
    path = tmp_path_factory.mktemp("archive") / "cifar-10-python.tar.gz"
    with tarfile.open(path, "w:gz") as tar:
        for name, content in contents.items():
            member = tarfile.TarInfo(f"cifar-10-batches-py/{name}")
            member.size = len(content)
            tar.addfile(member, io.BytesIO(content))
    md5 = {name: hashlib.md5(content).hexdigest() for name, content in contents.items()}
    return path, md5, contents


@pytest.fixture
def cifar(small_cifar10, monkeypatch):
    """The path of the small archive, which now passes for CIFAR-10. There are no mirrors yet."""
    path, md5, _ = small_cifar10
    official = cifar10.CIFAR10
    monkeypatch.setattr(official, "tgz_md5", hashlib.md5(path.read_bytes()).hexdigest())
    monkeypatch.setattr(official, "train_list", [[n, m] for n, m in md5.items() if "data" in n])
    monkeypatch.setattr(official, "test_list", [["test_batch", md5["test_batch"]]])
    monkeypatch.setattr(official, "meta", {**official.meta, "md5": md5["batches.meta"]})
    monkeypatch.setattr(cifar10, "CIFAR10_MIRRORS", ())
    return path


@pytest.fixture
def mirrors(cifar, monkeypatch):
    """A function: kinds of mirrors, in order → the list of requests they get, on this machine."""
    monkeypatch.setenv("NO_PROXY", "*")
    monkeypatch.setattr(cifar10, "READ_SECONDS", 0.3)
    whole, asked, over = cifar.read_bytes(), [], threading.Event()

    class Mirror(BaseHTTPRequestHandler):
        def do_GET(self):
            kind = self.path.strip("/")
            asked.append(kind)
            if kind == "missing":
                return self.send_error(404)
            self.send_response(200)
            self.send_header("Content-Length", str(len(whole)))
            self.end_headers()
            if kind == "good":
                self.wfile.write(whole)
            elif kind == "changed":
                self.wfile.write(whole[:99] + bytes([whole[99] ^ 1]) + whole[100:])
            elif kind == "broken-off":
                self.wfile.write(whole[:500])
            elif kind == "stalled":
                self.wfile.write(whole[:500])
                self.wfile.flush()
                over.wait(5)

        def log_message(self, *_):
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Mirror)
    threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()

    def use(*kinds):
        address = f"http://127.0.0.1:{server.server_port}"
        monkeypatch.setattr(cifar10, "CIFAR10_MIRRORS", tuple(f"{address}/{k}" for k in kinds))
        return asked

    yield use
    over.set()
    server.shutdown()
    server.server_close()


def assert_is_small_cifar10(dataset, contents):
    assert (dataset.name, dataset.classes) == ("cifar10", tuple("abcdefghij"))
    assert (len(dataset.train), len(dataset.test)) == (20, 4)
    assert dataset.train.labels.tolist()[::4] == [0, 1, 2, 3, 4]
    second = pickle.loads(contents["data_batch_2"])["data"][3]
    assert np.array_equal(dataset.train.images[7], second.reshape(3, 32, 32))


def test_the_published_md5_and_mirrors():
    assert cifar10.CIFAR10.tgz_md5 == "c58f30108f718f92721af3b95e74349a"
    assert all(url.startswith("https://") for url in cifar10.CIFAR10_MIRRORS)
    assert "cs.toronto.edu" in cifar10.CIFAR10_MIRRORS[-1]  # the slow one


def test_cifar10_from_the_first_mirror_that_works(mirrors, small_cifar10, tmp_path, monkeypatch):
    asked = mirrors("missing", "stalled", "broken-off", "changed", "good", "never asked")
    assert_is_small_cifar10(load("cifar10", tmp_path), small_cifar10[2])
    assert asked == ["missing", "stalled", "broken-off", "changed", "good"]
    assert {p.name for p in tmp_path.iterdir()} == {"cifar-10-python.tar.gz", "cache"}
    monkeypatch.setattr(cifar10, "read", None)
    assert_is_small_cifar10(load("cifar10", tmp_path), small_cifar10[2])  # from the cache


def test_all_mirrors_fail(mirrors, tmp_path):
    mirrors("missing", "stalled", "broken-off", "changed")
    closed = "http://127.0.0.1:9/refused"
    cifar10.CIFAR10_MIRRORS += (closed, "http://no-such-host.invalid/x")
    start = time.monotonic()
    with pytest.raises(DataError) as error:
        load("cifar10", tmp_path)
    assert time.monotonic() - start < 30
    said = str(error.value)
    lines = [line for line in said.splitlines() if line.startswith("  - ")]
    reasons = ["HTTP status 404", "silent for 0.3 s", "broke off", "wrong MD5", "refused", "name"]
    assert len(lines) == 6
    assert all(reason in line for reason, line in zip(reasons, lines, strict=True)), said
    assert "127.0.0.1" in lines[0] and "no-such-host.invalid" in lines[5]
    assert str(tmp_path) in said and "ATTENTION_DATA" in said and "shapes10" in said
    assert list(tmp_path.iterdir()) == []  # nothing half-downloaded is left


def test_a_dead_network_is_given_up(cifar, tmp_path, monkeypatch):
    monkeypatch.setattr(cifar10, "PATIENCE_SECONDS", 0)
    monkeypatch.setattr(cifar10, "CIFAR10_MIRRORS", ("http://127.0.0.1:9/a", "http://nowhere/b"))
    with pytest.raises(DataError, match="refused(.|\n)*nowhere: not tried") as error:
        load("cifar10", tmp_path)
    assert "127.0.0.1:9: not tried" not in str(error.value)


def test_a_wrong_archive_is_set_aside(mirrors, small_cifar10, tmp_path, capsys):
    mirrors("good")
    (tmp_path / "cifar-10-python.tar.gz").write_bytes(b"something of the user's")
    assert_is_small_cifar10(load("cifar10", tmp_path), small_cifar10[2])
    aside = tmp_path / "cifar-10-python.tar.gz.wrong-md5-1"
    assert aside.read_bytes() == b"something of the user's"
    assert aside.name in capsys.readouterr().out


def test_cifar10_from_the_extracted_folder(cifar, small_cifar10, tmp_path):
    with tarfile.open(cifar) as tar:
        tar.extractall(tmp_path, filter="data")
    assert_is_small_cifar10(load("cifar10", tmp_path), small_cifar10[2])


@pytest.mark.parametrize("name", ["data_batch_3", "test_batch", "batches.meta"])
def test_bytes_with_a_wrong_md5_are_never_unpickled(
    cifar, small_cifar10, tmp_path, monkeypatch, capsys, name
):
    with tarfile.open(cifar) as tar:
        tar.extractall(tmp_path, filter="data")
    file = tmp_path / "cifar-10-batches-py" / name
    file.write_bytes(file.read_bytes()[:-1] + b"?")
    (tmp_path / "cifar-10-python.tar.gz").write_bytes(cifar.read_bytes() + b"?")
    unpickle, good = pickle.load, small_cifar10[2].values()

    def checked(file, **options):
        assert file.read() in good
        file.seek(0)
        return unpickle(file, **options)

    monkeypatch.setattr(pickle, "load", checked)
    with pytest.raises(DataError, match="neither on disk"):
        load("cifar10", tmp_path)
    assert "cifar-10-batches-py is not used" in capsys.readouterr().out


def test_a_disk_that_fills_during_the_download(mirrors, tmp_path, monkeypatch):
    mirrors("good")

    def full(self, url, output_file, *_, **__):
        Path(output_file).write_bytes(b"the beginning")
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(cifar10.pooch.HTTPDownloader, "__call__", full)
    with pytest.raises(DataError, match="cannot write to .*No space left"):
        load("cifar10", tmp_path)
    assert list(tmp_path.iterdir()) == []


# ---------------------------------------------------------------------------- auto and Shapes-10


@pytest.fixture
def few_shapes(monkeypatch):
    monkeypatch.setattr(loading, "shapes10", lambda: shapes10(20, 10))


def test_auto_takes_cifar10_from_disk(cifar, small_cifar10, tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("ATTENTION_OFFLINE", "1")
    shutil.copy(cifar, tmp_path)
    assert_is_small_cifar10(load(root=tmp_path), small_cifar10[2])
    assert "NOT CIFAR-10" not in capsys.readouterr().out


def test_auto_downloads(mirrors, small_cifar10, tmp_path):
    mirrors("good")
    assert_is_small_cifar10(load("auto", tmp_path), small_cifar10[2])


def test_auto_offline_is_shapes10_and_says_so(mirrors, tmp_path, monkeypatch, capsys, few_shapes):
    asked = mirrors("good")
    monkeypatch.setenv("ATTENTION_OFFLINE", "1")
    assert load("auto", tmp_path).name == "shapes10"
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == lines[-1] == "#" * len(lines[0]) and len(lines) > 8
    assert all(line[0] == line[-1] == "#" and len(line) == len(lines[0]) for line in lines)
    text = " ".join(" ".join(line.strip("# ") for line in lines).split())
    assert "NOT CIFAR-10" in text and "ATTENTION_OFFLINE" in text and "What you can do" in text
    assert asked == []
    assert not (tmp_path / "cache" / "cifar10.npz").exists()


def test_auto_falls_back_when_the_download_fails(mirrors, tmp_path, capsys, few_shapes):
    mirrors("missing")
    assert load("auto", tmp_path).name == "shapes10"
    said = capsys.readouterr().out
    assert "NOT CIFAR-10" in said and "HTTP status 404" in said


def test_shapes10_are_the_same_bytes_everywhere():
    dataset = shapes10(train=50, test=20, seed=3)
    digest = hashlib.sha256()
    for split in (dataset.train, dataset.test):
        for part in (split.images, split.labels, split.masks):
            digest.update(part.numpy().tobytes())
    assert digest.hexdigest() == "c0ed433b289aea4110e83a8ee6067e6377654860c6824eb9cf9f273f497a66d8"


def test_shapes10_is_cached_with_its_masks(tmp_path, monkeypatch, few_shapes):
    first = load("shapes10", tmp_path)
    monkeypatch.setattr(loading, "shapes10", None)
    second = load("shapes10", tmp_path)
    assert second.checksum == first.checksum
    assert torch.equal(second.test.masks, first.test.masks)


def test_shapes10_is_balanced_shuffled_and_seeded():
    dataset = shapes10(train=100, test=50)
    assert dataset.classes == drawing.CLASSES and dataset.size == (32, 32)
    assert dataset.train.labels.bincount().tolist() == [10] * 10
    assert dataset.test.labels.bincount().tolist() == [5] * 10
    assert dataset.train.labels.tolist() != sorted(dataset.train.labels.tolist())
    assert shapes10(train=100, test=50, seed=1).checksum != dataset.checksum
    for wrong in ({"train": 15}, {"test": 0}, {"size": 8}, {"seed": -1}):
        with pytest.raises(ValueError, match=next(iter(wrong))):
            shapes10(**{"train": 10, "test": 10, **wrong})


@pytest.mark.parametrize("size", [32, 48])
def test_masks_cover_the_object(size):
    train = shapes10(train=200, test=10, size=size).train
    area = train.masks.float().mean((1, 2))
    assert 0.01 < area.min() and area.max() < 0.25
    masks = train.masks[:, None].float()
    grown = torch.nn.functional.max_pool2d(masks, 7, 1, 3)
    near = grown - torch.nn.functional.max_pool2d(masks, 3, 1, 1)  # beside the object
    core = 1 - torch.nn.functional.max_pool2d(1 - masks, 3, 1, 1)  # without its blended border
    pixels = train.images.float()

    def colour(where):
        return (pixels * where).sum((2, 3)) / where.sum((2, 3)).clamp_min(1)

    there = core.sum((1, 2, 3)) > 0
    contrast = (colour(core) - colour(near)).abs().sum(1)[there]
    assert there.float().mean() > 0.9
    assert contrast.median() > 120 and (contrast > 40).float().mean() > 0.98
    shifted = torch.roll(core, size // 2, 3)  # the measure tells a wrong mask
    assert (colour(shifted) - colour(near)).abs().sum(1).median() < 60


def test_the_shapes_differ_in_form():
    """Each class as drawn upright, beside every other class in any rotation: never the same."""
    u, v = np.meshgrid(*[np.arange(-1200, 1200, 40)] * 2)
    forms = {}
    for name in drawing.CLASSES:
        turned = []
        for k in range(0, drawing.TURN, 4):
            cos, sin = drawing.COS[k].item(), drawing.SIN[k].item()
            turned.append(
                drawing._inside(name, (u * cos + v * sin) >> 12, (v * cos - u * sin) >> 12)
            )
        forms[name] = np.stack(turned)
        assert forms[name].any()
    for one in drawing.CLASSES:
        for other in drawing.CLASSES:
            if one != other:
                both = (forms[one][0] & forms[other]).sum((1, 2))
                either = (forms[one][0] | forms[other]).sum((1, 2))
                assert (both / either).max() < 0.85, (one, other)
