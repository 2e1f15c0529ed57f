"""Files are written under a temporary name and then renamed: a reader never sees half a file."""

import contextlib
import io
import os
from pathlib import Path

import torch


@contextlib.contextmanager
def replacing(path):
    """Give a temporary path beside `path`, and rename it to `path` when the block ends well.

    When the block fails (a full disk, a keyboard interrupt), what stood at `path` still stands
    there, and an OSError says which file could not be written.
    """
    path = Path(path)
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        yield temporary
        with open(temporary, "rb+") as file:
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except OSError as error:
        raise OSError(
            error.errno,
            f"cannot write {path.name} in {path.parent} ({error.strerror or error}); "
            "what was there before is unchanged",
        ) from error
    finally:
        temporary.unlink(missing_ok=True)


def save_tensors(tensors, path):
    """torch.save through memory: a full disk is then an OSError, as it is for any other file."""
    buffer = io.BytesIO()
    torch.save(tensors, buffer)
    with replacing(path) as temporary:
        temporary.write_bytes(buffer.getbuffer())
