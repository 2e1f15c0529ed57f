"""From a folder of pictures to the page that says which block to take."""

import shlex
from collections.abc import Sequence
from pathlib import Path

import torch

from attention import checks
from attention.compare import page
from attention.compare.findings import findings
from attention.compare.plan import Plan, counts, make_plan, seconds
from attention.compare.rounds import train
from attention.compare.verdict import MARGIN
from attention.data import DataError, Dataset, load
from attention.files import replacing
from attention.settings import profile
from attention.training import duration

SIDE = {"smoke": 128, "quick": 128, "full": 224}  # pixels, where no size is given and one is needed
LARGEST = 256


def compare(
    folder: str | Path, blocks: Sequence[str], network: str | None = None, minutes: float = 60,
    seeds: int | None = None, size: int | None = None, epochs: int | None = None,
    broken: str = "refuse", out: str | Path | None = None,
    device: str | torch.device | None = None, progress: bool = True,
) -> Path | None:  # fmt: skip
    """Train a plain network and one with each block on a folder of pictures; write the page.

    folder, size, broken: as in `attention.load`; where no size is given, pictures of several sizes,
    or of more than `LARGEST` pixels, are made smaller squares, and it is said. blocks, network,
    seeds, epochs: see `make_plan`. minutes: rounds are begun as long as they fit. out: the page;
    None: compare-<name of the dataset>.html here.

    It says first what it will train and how long that takes. What is finished is kept at home (see
    `fit`): stopped at any moment, the same call goes on. Returns the page's path, or None while not
    even one round is complete.
    """
    checks.positive("minutes", minutes)
    checks.instance(bool, "progress", progress)
    device = checks.device("device", device)
    data, resized = pictures(folder, size, broken)
    plan = make_plan(data, blocks, network, seeds, epochs)
    out = Path(f"compare-{data.name}.html" if out is None else out).expanduser()
    if out.is_dir():
        raise ValueError(f"out must be a file, and {out} is a folder")
    estimate = seconds(plan, device)
    print(*before(plan, estimate, minutes, resized), sep="\n", flush=True)
    rounds = train(plan, estimate, minutes, device, progress)
    if not rounds.complete:
        print("No round is complete yet: the same command goes on from here.")
        return None
    asked = {
        "blocks": ",".join(blocks), "network": network, "size": size, "epochs": epochs,
        "broken": broken if broken != "refuse" else None,
    }  # fmt: skip
    said = [word for name, value in asked.items() if value for word in (f"--{name}", str(value))]
    command = shlex.join(["python", "-m", "attention.compare", str(folder), *said])
    content = findings(plan, rounds, device, resized, command)
    with replacing(out) as temporary:
        temporary.write_text(page.render(**content), encoding="utf-8")
    print("", *content["verdict"].sentences, "", f"The page: {out}", sep="\n")
    return out


def pictures(
    folder: str | Path, size: int | None = None, broken: str = "refuse"
) -> tuple[Dataset, str]:  # fmt: skip
    """The dataset, and a sentence if its pictures were given a size that nobody asked for."""
    if size is not None:
        return load(folder, size=size, broken=broken), ""
    try:
        data = load(folder, broken=broken)
        if max(data.size) <= LARGEST:
            return data, ""
        was = "are of {1}×{0} pixels".format(*data.size)
    except DataError:  # if it is not about the size, it comes again
        if not Path(folder).expanduser().exists():
            raise
        was = "differ in size"
    side = SIDE[profile()]
    said = f"The pictures {was}: each was made {side}×{side} pixels (--size changes it)."
    return load(folder, size=side, broken=broken), said


def before(
    plan: Plan, estimate: dict[str, float], minutes: float, resized: str = ""
) -> list[str]:  # fmt: skip
    """What will be trained and how long that takes, a line each."""
    run, data, total = plan.round(0)[0].resolved(), plan.data, sum(estimate.values())
    for_training, for_test = counts(run, data)
    fits = min(plan.seeds, int(60 * minutes / total))
    lines = [
        repr(data), *([resized] if resized else []),
        f"Network: {plan.why}.",
        f"Trained: without a block, and with {', '.join(plan.blocks)}; "
        f"{page.number(run.epochs, 'epoch')} of {for_training:,} pictures each, tested on "
        f"{for_test:,}.",
        *(f"  {name}: about {duration(time)}" for name, time in estimate.items()),
        f"A round, each of these with the same seed, takes about {duration(total)}. In "
        f"{minutes:g} minutes: {fits} of {page.number(plan.seeds, 'round')}, and what is finished "
        "already.",
        f"Equal will mean: closer than ±{MARGIN:g} point.",
    ]  # fmt: skip
    if fits < min(2, plan.seeds):
        lines.append(
            "A verdict takes two rounds or more. Call the same command again when it has ended, or "
            f"give it --minutes {2.2 * total / 60:.0f}, a smaller --size, or fewer --epochs."
        )
    return lines
