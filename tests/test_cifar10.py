"""CIFAR-10 from mirrors, an archive or a folder, and what `auto` does without it."""

import errno
import hashlib
import importlib
import io
import pickle
import shutil
import tarfile
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import numpy as np
import pytest
import torchvision

from attention.data import DataError, cifar10, load, shapes10

loading = importlib.import_module("attention.data.load")


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
    official = torchvision.datasets.CIFAR10
    monkeypatch.setattr(cifar10, "ARCHIVE_MD5", hashlib.md5(path.read_bytes()).hexdigest())
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
    official = torchvision.datasets.CIFAR10
    assert (cifar10.ARCHIVE, cifar10.FOLDER) == (official.filename, official.base_folder)
    assert cifar10.ARCHIVE_MD5 == official.tgz_md5
    assert cifar10.CIFAR10_MIRRORS[-1] == official.url  # the slow one
    assert all(url.startswith("https://") for url in cifar10.CIFAR10_MIRRORS)


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
    aside = tmp_path / "cifar-10-python.tar.gz.corrupt"
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


@pytest.mark.parametrize("value, off", [
    ("", True), ("0", True), ("no", True), ("False", True), ("off", True), (" ", True),
    ("1", False), ("yes", False), ("TRUE", False), ("on", False),
])  # fmt: skip
def test_offline_or_not(mirrors, tmp_path, monkeypatch, value, off):
    asked = mirrors("good")
    monkeypatch.setenv("ATTENTION_OFFLINE", value)
    if off:
        assert load("cifar10", tmp_path).name == "cifar10"
    else:
        with pytest.raises(DataError, match="ATTENTION_OFFLINE is set"):
            load("cifar10", tmp_path)
    assert asked == ["good"] * off


@pytest.mark.parametrize("name", ["cifar10", "auto"])
def test_an_unclear_offline_is_an_error_and_no_reason_for_other_images(
    cifar, tmp_path, monkeypatch, name
):
    monkeypatch.setenv("ATTENTION_OFFLINE", "maybe")
    with pytest.raises(ValueError, match="ATTENTION_OFFLINE must be one of .*got 'maybe'") as error:
        load(name, tmp_path)
    assert not isinstance(error.value, DataError)
