"""Files are written whole or not at all, and what is damaged is noticed when it is read.

`replacing`                             any file: written under a temporary name, then renamed
`write_record`, `read_record`           records: JSON of a known form; `read_json`: any such file
`expect_record`                         one that is no file: what another machine has sent
`save_weights`, `load_weights`          weights of a network: safetensors, with their SHA-256
`put_weights`                           the bytes of such a file, sent by another machine
`save_checkpoint`, `load_checkpoint`    where a training stands: a checksum, then torch's format
"""

import contextlib
import glob
import hashlib
import io
import json
import math
import os
import platform
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import safetensors.torch
import torch

NUMBER = int | float
_swept: set[Path] = set()  # folders in which this process has removed what others have left
# The record of a training: what `read_record` wants to find, and more may stand beside it.
RECORD = {
    "run": {"network": str, "width": int | None, "block": str | None, "at": str | None,
            "stages": list | None, "start": str | None, "options": dict, "seed": int,
            "epochs": int},
    "name": str,
    "family": str,
    "block": (None, {"name": str, "family": str, "at": str, "version": str}),
    "dataset": {"name": str, "checksum": str, "classes": int, "train_images": int,
                "test_images": int, "size": [int], "class_names": [str], "mean": [NUMBER],
                "std": [NUMBER]},
    "result": {"test_accuracy": NUMBER, "test_loss": NUMBER, "parameters": int, "flops": int,
               "weights": str,
               "history": [{"epoch": int, "train_loss": NUMBER, "train_accuracy": NUMBER}]},
    "cost": {"seconds": NUMBER, "epoch_seconds": [NUMBER], "images_per_second": NUMBER,
             "test_seconds": NUMBER, "peak_memory_mib": NUMBER,
             "sessions": [{"from_epoch": int, "hardware": str, "precision": str, "threads": int,
                           "torch": str}]},
    "machine": {"device": str, "hardware": str, "threads": int, "precision": str, "python": str,
                "torch": str, "torchvision": str, "commit": str | None, "finished": str},
}  # fmt: skip


@contextlib.contextmanager
def replacing(path: str | Path) -> Iterator[Path]:
    """Give a temporary path beside `path`, and rename it to `path` when the block ends well.

    When the block fails (a full disk, a keyboard interrupt), what stood at `path` still stands
    there, and an OSError says which file could not be written. What processes of this machine that
    were killed have left in the folder is removed when a process first writes there: to look each
    time takes longer than to write, where there are ten thousand records.
    """
    path = Path(path)
    here = platform.node()[:32]
    temporary = path.with_name(f".{path.name}.{here}.{os.getpid()}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        if (folder := path.parent.resolve()) not in _swept:
            _swept.add(folder)
            for left in folder.glob(f".*.{glob.escape(here)}.*"):
                number = left.suffix[1:]
                if number.isdecimal() and not psutil.pid_exists(int(number)):
                    left.unlink(missing_ok=True)
        yield temporary
        with open(temporary, "rb+") as file:
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except OSError as error:
        said = (
            f"cannot write {path.name} in {path.parent} ({error.strerror or error}): make room "
            "there, or set ATTENTION_HOME to a folder that can be written; what was there before "
            "is unchanged"
        )
        raise OSError(error.errno, said) from error
    finally:
        with contextlib.suppress(OSError):  # or it would hide the error above
            temporary.unlink(missing_ok=True)


def write_record(path: str | Path, record: dict) -> None:
    """Write a record as JSON; ValueError for what JSON cannot hold, as numbers not finite."""
    try:
        text = json.dumps(record, indent=1, allow_nan=False)
    except (TypeError, ValueError) as error:
        raise ValueError(f"{Path(path).name} cannot hold this record: {error}") from error
    with replacing(path) as temporary:
        temporary.write_text(text + "\n", encoding="utf-8")


def read_record(path: str | Path, schema: Any = RECORD) -> dict:
    """The record at `path`; ValueError, naming the file, when it is not of the form of `schema`.

    schema: a type; {key: schema}, where more keys may be there; [schema] for a list of any length;
    or (None, schema), where null will do. Numbers must be finite.
    """
    try:
        return read_json(path, schema)
    except ValueError as error:
        raise ValueError(f"{error}: remove it to have it made anew") from None


def read_json(path: str | Path, schema: Any, what: str = "a record") -> dict:
    """The same for any file of JSON, of which the message says that it is not `what`."""
    path = Path(path)
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
        _fit(found, schema, "it")
    except (ValueError, RecursionError) as error:  # not UTF-8, not JSON, or another form
        raise ValueError(f"{path.name} in {path.parent} is not {what} ({error})") from None
    return found


def expect_record(found: Any, schema: Any = RECORD) -> dict:
    """A record that has come another way than by a file; ValueError when it is of another form."""
    _fit(found, schema, "the record")
    return found


def _fit(value, schema, where):
    """Raise a ValueError unless `value` is of the form of the schema."""
    if isinstance(schema, tuple):
        if value is None:
            return
        schema = schema[1]
    kind = type(schema) if isinstance(schema, dict | list) else schema
    is_bool = isinstance(value, bool) and kind is not bool  # which Python takes for an int
    if is_bool or not isinstance(value, kind) or value in (math.inf, -math.inf) or value != value:
        expected = kind.__name__ if isinstance(kind, type) else kind
        raise ValueError(f"{where} must be {expected}, got {value!r:.60}")
    if isinstance(schema, dict):
        if missing := [name for name in schema if name not in value]:
            raise ValueError(f"{where} lacks {', '.join(missing)}")
        for name in schema:
            _fit(value[name], schema[name], f"{where}[{name!r}]")
    elif isinstance(schema, list):
        for number, item in enumerate(value):
            _fit(item, schema[0], f"{where}[{number}]")


def save_weights(path: str | Path, weights: dict[str, torch.Tensor]) -> str:
    """Write {name: tensor} as safetensors; give the SHA-256 of the file, in hexadecimal.

    What float16 holds without a loss (see `rounded`) is written as float16: half the size.
    """
    # safetensors takes no two names for one memory, and only plain memory order
    plain = {
        name: _half(tensor).to("cpu", copy=True, memory_format=torch.contiguous_format)
        for name, tensor in weights.items()
    }
    content = safetensors.torch.save(plain)
    with replacing(path) as temporary:
        temporary.write_bytes(content)
    return hashlib.sha256(content).hexdigest()


def put_weights(path: str | Path, content: bytes, sha256: str) -> None:
    """Write what another machine has sent of a file of weights.

    Raises ValueError, and writes nothing, if it is not the file of this SHA-256, or no safetensors.
    """
    if hashlib.sha256(content).hexdigest() != sha256:
        raise ValueError(
            f"the weights, {len(content):,} bytes, are damaged: their SHA-256 is not the "
            f"{sha256[:12]}… that the record tells"
        )
    try:
        safetensors.torch.load(content)
    except safetensors.SafetensorError as error:
        raise ValueError(
            f"{len(content):,} bytes of weights are no safetensors ({error})"
        ) from None
    with replacing(path) as temporary:
        temporary.write_bytes(content)


def rounded(tensor: torch.Tensor) -> torch.Tensor:
    """The numbers of a tensor as float16 has them, in its own dtype; as they were where one of them
    is too large for float16.
    """
    half = tensor.detach().half().to(tensor.dtype)
    return half if half.isfinite().all() else tensor.detach()


def _half(tensor):
    tensor = tensor.detach()
    lossless = tensor.is_floating_point() and torch.equal(rounded(tensor), tensor)
    return tensor.half() if lossless else tensor


def load_weights(path: str | Path, sha256: str) -> dict[str, torch.Tensor]:
    """The tensors at `path`, on the CPU; ValueError if it is not the file of this SHA-256."""
    content = Path(path).read_bytes()
    if hashlib.sha256(content).hexdigest() != sha256:
        raise ValueError(
            f"{path} is damaged, or of another training: its SHA-256 is not the {sha256[:12]}… "
            "that the record tells"
        )
    return safetensors.torch.load(content)


def save_checkpoint(path: str | Path, state: dict) -> None:
    """Write what `torch.save` can hold, with a checksum before it."""
    # through memory: a full disk is then an OSError, as it is for any other file
    buffer = io.BytesIO()
    torch.save(state, buffer)
    content = buffer.getvalue()
    with replacing(path) as temporary:
        temporary.write_bytes(hashlib.sha256(content).digest() + content)


def load_checkpoint(path: str | Path, device: str | torch.device = "cpu") -> dict:
    """What `save_checkpoint` has written, on this device; ValueError when a bit has changed."""
    content = Path(path).read_bytes()
    checksum, content = content[:32], content[32:]
    if hashlib.sha256(content).digest() != checksum:
        raise ValueError(f"{path} is damaged or cut off: its checksum is wrong")
    return torch.load(io.BytesIO(content), map_location=device, weights_only=True)


def set_aside(path: str | Path) -> Path:
    """Rename a damaged file to <name>.corrupt, so that it is out of the way; give the new path."""
    aside = Path(path).with_name(f"{Path(path).name}.corrupt")
    os.replace(path, aside)
    return aside
