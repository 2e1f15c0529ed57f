"""Files: whole or not at all, of a known form, and a changed bit is noticed."""

import errno
import hashlib
import json
import math
import multiprocessing
import os
import random
import resource
import signal
import subprocess
from pathlib import Path

import pytest
import torch

from attention import files

STATE = {"network": {"weight": torch.arange(6.0)}, "step": 3, "history": [{"epoch": 1}]}


def write_with_a_limit(path, ready):
    """In a process of its own: files may not grow beyond 10 kB, as on a disk that is full."""
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (10_000, 10_000))
    try:
        files.save_checkpoint(path, {"x": torch.zeros(100_000)})
    except OSError as error:
        ready.put(str(error))


def test_a_full_disk_gives_one_message_and_keeps_what_was_there(tmp_path):
    path = tmp_path / "weights.pt"
    files.save_checkpoint(path, {"x": torch.ones(3)})
    context = multiprocessing.get_context("forkserver")
    queue = context.Queue()
    child = context.Process(target=write_with_a_limit, args=(path, queue))
    child.start()
    message = queue.get(timeout=60)
    child.join()
    assert "cannot write weights.pt" in message and "unchanged" in message
    assert torch.equal(files.load_checkpoint(path)["x"], torch.ones(3))
    assert [p.name for p in tmp_path.iterdir()] == ["weights.pt"]


def test_a_folder_that_cannot_be_written_is_named_with_what_to_do(tmp_path, monkeypatch):
    (tmp_path / "file").touch()
    with pytest.raises(OSError, match="cannot write a.json in .*file.*set ATTENTION_HOME"):
        files.write_record(tmp_path / "file" / "a.json", {})

    def refuse(self, *args, **options):  # as a disk that is mounted to be read only
        raise OSError(errno.EROFS, "Read-only file system")

    for name in ("mkdir", "unlink"):
        monkeypatch.setattr(Path, name, refuse)
    with pytest.raises(OSError, match="cannot write a.json .*Read-only.*set ATTENTION_HOME"):
        files.write_record(tmp_path / "a.json", {})


def test_what_killed_processes_have_left_goes_when_a_process_first_writes_there(tmp_path):
    gone = subprocess.Popen(["true"])
    gone.wait()
    with files.replacing(tmp_path / "elsewhere" / "a.json") as temporary:
        temporary.write_text("mine")
    stem = temporary.name.rsplit(".", 1)[0]
    left = [tmp_path / f"{stem}.{gone.pid}", tmp_path / f".b.json{stem[7:]}.{gone.pid}"]
    kept = [tmp_path / f"{stem}.{os.getppid()}", tmp_path / f".a.json.another.{gone.pid}",
            tmp_path / f"{stem}.old"]  # fmt: skip
    for file in (*left, *kept):
        file.write_text("half")
    files.write_record(tmp_path / "c.json", {})
    assert not any(file.exists() for file in left) and all(file.exists() for file in kept)


def test_the_folder_is_looked_through_once(tmp_path, monkeypatch):
    looked = []
    glob = Path.glob
    monkeypatch.setattr(Path, "glob", lambda *a: looked.append(a) or glob(*a))
    for name in ("a.json", "b.json", "a.json"):
        files.write_record(tmp_path / name, {})
    assert len(looked) == 1


# Records

SCHEMA = {
    "name": str, "seed": int, "loss": float | int, "width": int | None, "flag": bool,
    "block": (None, {"name": str}), "history": [{"epoch": int}],
}  # fmt: skip
RECORD = {
    "name": "x", "seed": 1, "loss": 0.5, "width": None, "flag": True, "block": None,
    "history": [{"epoch": 1}, {"epoch": 2}], "more": "may stand there",
}  # fmt: skip


def test_a_record_is_read_as_it_was_written(tmp_path):
    path = tmp_path / "some" / "a.json"
    files.write_record(path, RECORD)
    assert files.read_record(path, SCHEMA) == RECORD == json.loads(path.read_text())
    files.write_record(path, RECORD | {"block": {"name": "se"}, "width": 3, "loss": 1})
    assert files.read_record(path, SCHEMA)["block"] == {"name": "se"}


@pytest.mark.parametrize(
    ("change", "fault"),
    [
        ({"name": 3}, r"it\['name'\] must be str, got 3"),
        ({"seed": 1.0}, r"it\['seed'\] must be int, got 1.0"),
        ({"seed": True}, r"it\['seed'\] must be int, got True"),
        ({"loss": None}, r"it\['loss'\] must be float \| int, got None"),
        ({"width": "3"}, r"it\['width'\] must be int \| None, got '3'"),
        ({"flag": 1}, r"it\['flag'\] must be bool, got 1"),
        ({"block": {}}, r"it\['block'\] lacks name"),
        ({"block": []}, r"it\['block'\] must be dict, got \[\]"),
        ({"history": {}}, r"it\['history'\] must be list, got {}"),
        ({"history": [{"epoch": 1}, {}]}, r"it\['history'\]\[1\] lacks epoch"),
        ({"history": [{"epoch": 1}, 2]}, r"it\['history'\]\[1\] must be dict, got 2"),
    ],
)
def test_a_record_of_another_form_is_named_with_what_is_wrong(change, fault, tmp_path):
    path = tmp_path / "a.json"
    files.write_record(path, RECORD | change)
    with pytest.raises(ValueError, match=f"a.json in .* is not a record .{fault}.*remove it"):
        files.read_record(path, SCHEMA)


def test_what_is_no_json_or_no_number_is_no_record(tmp_path):
    path, text = tmp_path / "a.json", json.dumps(RECORD | {"loss": math.nan}).encode()
    for content in (b"", b"{", b"[]", b"null", b"\xff\xfe", b"[" * 100_000, text[:-9], text):
        path.write_bytes(content)
        with pytest.raises(ValueError, match="a.json in .* is not a record"):
            files.read_record(path, SCHEMA)


def test_a_record_that_json_cannot_hold_is_not_written(tmp_path):
    for value in (math.nan, math.inf, {1, 2}, torch.ones(1)):
        with pytest.raises(ValueError, match="a.json cannot hold this record"):
            files.write_record(tmp_path / "a.json", {"loss": value})
    assert not list(tmp_path.iterdir())


# Tensors


def test_weights_are_read_as_they_were_written(tmp_path):
    path = tmp_path / "a.safetensors"
    shared = torch.randn(2, 3, 4, 5).to(memory_format=torch.channels_last)
    weights = {"a": shared, "b": shared, "c": torch.tensor(3), "d": torch.randn(4)[::2]}
    sha256 = files.save_weights(path, weights)
    assert sha256 == hashlib.sha256(path.read_bytes()).hexdigest()
    read = files.load_weights(path, sha256)
    assert read.keys() == weights.keys()
    for name, tensor in weights.items():
        assert torch.equal(read[name], tensor) and read[name].dtype == tensor.dtype
    assert files.save_weights(path, weights) == sha256  # bit for bit the same file


def write_weights(path):
    sha256 = files.save_weights(path, {"x": torch.arange(6.0)})
    return lambda: files.load_weights(path, sha256)


def write_checkpoint(path):
    files.save_checkpoint(path, STATE)
    return lambda: files.load_checkpoint(path)


@pytest.mark.parametrize("write", [write_weights, write_checkpoint])
def test_every_changed_bit_and_every_cut_is_noticed(write, tmp_path):
    path = tmp_path / "a.tensors"
    read = write(path)
    read()
    content, draw, damages = path.read_bytes(), random.Random(0), []
    for _ in range(40):
        changed = bytearray(content)
        changed[draw.randrange(len(content))] ^= 1 << draw.randrange(8)
        damages.append(bytes(changed))
    for damaged in (*damages, content[:-1], content[:7], b"", content + b"\0"):
        path.write_bytes(damaged)
        with pytest.raises(ValueError, match=f"{path} is damaged"):
            read()
    path.write_bytes(content)
    read()


def test_a_checkpoint_is_read_as_it_was_written(tmp_path):
    path = tmp_path / "a.pt"
    files.save_checkpoint(path, STATE)
    read = files.load_checkpoint(path)
    assert read["step"] == 3 and read["history"] == STATE["history"]
    assert torch.equal(read["network"]["weight"], STATE["network"]["weight"])


def test_what_is_set_aside_is_out_of_the_way(tmp_path):
    path = tmp_path / "a.json"
    for content in ("first", "second"):
        path.write_text(content)
        aside = files.set_aside(path)
        assert not path.exists() and aside.read_text() == content
        assert aside.name == "a.json.corrupt"
