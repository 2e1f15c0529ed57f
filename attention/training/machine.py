"""What the machine is and what it is fast in."""

import ctypes
import functools
import platform
import subprocess
from pathlib import Path

import torch

from attention.checks import one_of
from attention.settings import gpu


def default_device() -> str:
    """ "cuda" if there is a GPU that this torch can use, else "cpu"."""
    return "cuda" if gpu() else "cpu"


def precision(device: str | torch.device, wanted: str | None = None) -> str:
    """`wanted`, or the precision that the device is fast in.

    bfloat16 on GPUs that have it (A100, H100, …) and on CPUs with AVX512-BF16 or AMX, float16 on
    the other GPUs (T4), float32 elsewhere: bfloat16 is slower than float32 on a CPU without it.
    """
    if wanted is not None:
        return one_of("precision", wanted, ("bfloat16", "float16", "float32"))
    if torch.device(device).type == "cuda":
        has_bfloat16 = torch.cuda.get_device_capability(device) >= (8, 0)
        return "bfloat16" if has_bfloat16 else "float16"
    features = getattr(torch.cpu, "get_capabilities", dict)()  # older torch: not known, float32
    has_bfloat16 = features.get("avx512_bf16") or features.get("amx_bf16")
    return "bfloat16" if has_bfloat16 else "float32"


def autocast(device: str | torch.device, precision: str) -> torch.autocast:
    """The context in which a network computes in this precision, its weights staying float32."""
    dtype = getattr(torch, precision)
    return torch.autocast(torch.device(device).type, dtype, enabled=dtype != torch.float32)


def keep_memory() -> None:
    """Let this process keep the memory that it frees, on Linux with glibc; elsewhere do nothing.

    This holds for the whole process, and as long as it lives; `fit` does it before it trains on a
    CPU.

    glibc gives large blocks back to the system as soon as they are free. Training frees and asks
    for the same large blocks at every step, and each time the system hands them out page by page:
    on two CPU cores that was a third of the time of a step.
    """
    if platform.libc_ver()[0] == "glibc":
        mmap_max, trim_threshold = -4, -1  # the numbers of mallopt's parameters in malloc.h
        libc = ctypes.CDLL(None)
        libc.mallopt(mmap_max, 0)
        libc.mallopt(trim_threshold, 2**31 - 1)


def describe(device: str | torch.device) -> dict[str, str | int | None]:
    """What ran: hardware, threads, versions and the commit of the code."""
    import torchvision

    device = torch.device(device)
    return {
        "device": device.type,
        "hardware": torch.cuda.get_device_name(device) if device.type == "cuda" else _cpu_name(),
        "threads": torch.get_num_threads(),
        "python": platform.python_version(),
        "torch": str(torch.__version__),  # a plain text: a checkpoint holds no class of torch's
        "torchvision": str(torchvision.__version__),
        "commit": _commit(),
    }


def _cpu_name():
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return platform.processor() or platform.machine()
    names = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.machine()


@functools.cache
def _commit():
    """The commit of the checkout that this file lies in, with "-dirty" if it was changed."""
    command = ["git", "describe", "--always", "--dirty", "--abbrev=12", "--exclude=*"]
    try:
        done = subprocess.run(
            command, cwd=Path(__file__).parent, capture_output=True, text=True, timeout=10
        )
    except (OSError, subprocess.TimeoutExpired):
        return None
    return done.stdout.strip() or None
