"""What a study of a thousand runs would cost: on paper, with the part that could be measured."""

from pathlib import Path

import pandas as pd

from attention.files import read_record
from attention.results.tables import as_markdown

MEASURED = {"runs": int, "gather_seconds": float, "gather_wall_seconds": float,
            "again_seconds": float, "peak_memory_mib": float, "bytes": int,
            "bytes_of_weights": int}  # fmt: skip
# What `python tests/scale.py` writes.
SCALE = {"machine": {"hardware": str, "commit": str | None}, "stand_in": MEASURED,
         "ray": (None, MEASURED)}  # fmt: skip
RUNS, GPUS = 1000, 100
IMAGENET = 1_281_167  # training images
# (what is trained, training images, epochs, images a second that a GPU is assumed to train,
# bytes of an image, bytes of the weights in float16)
STUDIES = (
    ("CIFAR-10: ResNet-20, 30 epochs", 50_000, 30, 50_000, 3 * 32**2, 2 * 270_000),
    ("ImageNet at 32×32: ResNet-20, 40 epochs", IMAGENET, 40, 50_000, 3 * 32**2, 2 * 335_000),
    ("ImageNet at 224×224: ResNet-50, 90 epochs", IMAGENET, 90, 2_500, 3 * 224**2, 2 * 25_557_000),
)


def text(path: str | Path) -> str:
    """The part of RESULTS.md about scale, from the file of the simulation."""
    found = read_record(path, SCALE)
    here = found["stand_in"]
    own = here["gather_seconds"] / here["runs"]
    said = [
        f"*Simulated:* {here['runs']:,} runs that take no time, through the study's own code "
        f"(`python tests/scale.py`), on {found['machine']['hardware']}. Each costs the process "
        f"that started the study {1000 * own:.1f} ms of its own time, {own / 30:.2%} of a run of "
        f"30 s; all took {here['gather_wall_seconds'] / 60:.1f} minutes and "
        f"{here['peak_memory_mib']:,.0f} MiB at most (torch included). To "
        "begin again and find all of them finished, each record read and each file of weights "
        f"checked, takes {here['again_seconds']:.0f} s of its own time. The folder then "
        f"has {2 * here['runs']:,} files, {here['bytes'] / 2**20:,.0f} MiB with weights of "
        f"{here['bytes_of_weights'] / 1000:.0f} kB.",
    ]
    if ray := found.get("ray"):
        own = ray["gather_seconds"] / ray["runs"]
        said.append(
            f"*With Ray's own processes* on the same machine, {ray['runs']:,} such runs: "
            f"{1000 * own:.1f} ms each of this process, {own / 30:.2%} of a run of 30 s, "
            f"{1000 * ray['gather_wall_seconds'] / ray['runs']:.0f} ms each in all, "
            f"{ray['peak_memory_mib']:,.0f} MiB."
        )
    said.append(
        "*What broke first* were two things that grew with the square of the number of runs. "
        "Before every file the folder was searched for what killed processes had left: 22 ms at "
        "20,000 files, by which 10,000 runs take four minutes. And the time left was added up over "
        "all runs that were missing, 30 µs each: 25 minutes. Both are mended. Ray is handed no "
        "more runs at once than it has places, and 100."
    )
    said.append(
        f"*On paper:* {RUNS:,} runs on {GPUS} GPUs, eight to a machine. The images a second of one "
        "GPU are assumed, not measured; the study's own time is the simulated one and a second for "
        "each GB of weights that is checked.\n\n" + as_markdown(_paper(own))
    )
    said.append(
        "Pictures of 224×224 break the data set before they break the study: it is held in memory "
        "whole, and `attention.load` refuses more than 4 GiB of decoded pixels. Beyond that a "
        "loader that reads from the disk is needed, which this package does not have."
    )
    return "\n\n".join(said)


def _paper(own: float) -> pd.DataFrame:
    """own: seconds that a run costs the process that started the study."""
    rows = []
    for name, images, epochs, speed, pixels, weights in STUDIES:
        seconds = images * epochs / speed
        whole = RUNS * seconds / GPUS
        mine = RUNS * (own + weights / 1e9)
        rows.append({
            "study": name,
            "assumed images/s": f"{speed:,}",
            "one run (h)": _number(seconds / 3600),
            "GPU hours": _number(RUNS * seconds / 3600),
            f"hours on {GPUS}": _number(whole / 3600),
            "the study's own time": f"{mine:,.0f} s ({mine / whole:.2%})",
            "images, decoded (GB)": _number(images * pixels / 1e9),
            "weights kept (GB)": _number(RUNS * weights / 1e9),
        })  # fmt: skip
    return pd.DataFrame(rows)


def _number(value: float) -> str:
    return f"{value:,.0f}" if value >= 100 else f"{value:.2g}"
