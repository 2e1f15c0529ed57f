"""What a comparison trains, and how long that will take."""

import contextlib
import dataclasses
import math
import socket
import urllib.parse
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import torch
from torchvision.models import ResNet18_Weights

from attention.blocks import BLOCKS, POOLINGS
from attention.checks import at_least_one, one_of, some_of
from attention.data import Dataset
from attention.networks import IMAGENET, NETWORKS, RECIPES, SETTINGS
from attention.settings import offline, profile
from attention.study import Times
from attention.training import Files, Run, ahead

SMALL = 64  # pixels: up to here the CIFAR ResNet-20, above it torchvision's ResNet-18
SCRATCH, PRETRAINED = "resnet18", "resnet18-pretrained"
SECONDS_OF_SILENCE = 20  # after which a download is given up
# How long a network learns: enough epochs for so many steps, within these bounds. A folder of 200
# pictures needs many epochs, one of 50,000 few. Fixed by the pictures alone, so that a comparison
# that was stopped goes on with the same runs.
LENGTHS = {
    "smoke": {"steps": 1, "least": 1, "most": 1},
    "quick": {"steps": 300, "least": 10, "most": 60},
    "full": {"steps": 1500, "least": 30, "most": 150},
}
FINE_TUNING = 4  # a pretrained network learns for so many times fewer steps and epochs
SEEDS = {"smoke": 2, "quick": 5, "full": 5}


@dataclasses.dataclass(frozen=True)
class Plan:
    """What is compared on which pictures, and nothing about how far it has come.

    blocks: without the plain network, which is always there. seeds: at most so many rounds.
    why: what the network is and why it was taken, in a sentence.
    """

    data: Dataset
    network: str
    why: str
    blocks: tuple[str, ...]
    epochs: int
    seeds: int

    @property
    def names(self) -> dict[str | None, str]:
        """{block: what its run is called}, the plain network (None) first."""
        return {run.block: run.name for run in self.round(0)}

    def round(self, seed: int) -> list[Run]:
        """Every network once, with the same seed, the plain one first."""
        return [self.run(block, seed) for block in (None, *self.blocks)]

    def run(self, block: str | None, seed: int = 0) -> Run:
        """The run of a block, None for the plain network."""
        # the first stage of the CIFAR networks has 16 channels: hidden layers as in their study
        narrow = SETTINGS if NETWORKS[self.network].recipe == "resnet" else {}
        # a block that damps what the pretrained weights answer would have to mend that first
        identity = self.network == PRETRAINED and block in BLOCKS
        return Run(
            network=self.network, block=block, seed=seed, epochs=self.epochs,
            start="identity" if identity else None,
            options=narrow.get(block, {}).get("options", {}),
        )  # fmt: skip


def make_plan(
    data: Dataset,
    blocks: Sequence[str],
    network: str | None = None,
    seeds: int | None = None,
    epochs: int | None = None,
    had: Callable[[], str | None] | None = None,
) -> Plan:
    """A plan, checked; nothing is trained, but pretrained weights may be downloaded.

    network: a name from `NETWORKS`; None: "resnet20" for pictures up to `SMALL` pixels, above it
    torchvision's ResNet-18, pretrained where the weights can be had. seeds: at most so many; None:
    the profile's. epochs: None: by the number of pictures, see `LENGTHS`. had: gives why the
    weights cannot be had, None if they can; None: `missing_weights`.
    """
    blocks = some_of("blocks", blocks, (*BLOCKS, *POOLINGS))
    seeds = SEEDS[profile()] if seeds is None else at_least_one("seeds", seeds)
    if epochs is not None:
        at_least_one("epochs", epochs)

    def plan(chosen: str, why: str) -> Plan:
        wanted = _epochs(data, chosen) if epochs is None else epochs
        return Plan(data, chosen, why, blocks, wanted, seeds)

    if network is not None:
        one_of("network", network, NETWORKS)
        return plan(network, f"{_called(network)}, as asked for")
    if max(data.size) <= SMALL:
        return plan("resnet20", f"{_called('resnet20')}, since no picture is above {SMALL} pixels")
    above = f"since the pictures are above {SMALL} pixels"
    if _begun(scratch := plan(SCRATCH, "")):
        why = f"{_called(SCRATCH)}, with which this comparison was begun"
        return dataclasses.replace(scratch, why=f"{why} (--network {PRETRAINED} is the other)")
    missing = missing_weights() if had is None else had()
    if missing is None:
        return plan(PRETRAINED, f"{_called(PRETRAINED)}, {above}")
    return plan(
        SCRATCH, f"{_called(SCRATCH)}, {above}; pretrained weights cannot be had: {missing}"
    )


def _called(network):
    """What a network is called in a sentence."""
    called = {
        "resnet20": "the CIFAR ResNet-20, from scratch",
        SCRATCH: "torchvision's ResNet-18, from scratch",
        PRETRAINED: f"torchvision's ResNet-18, pretrained on ImageNet ({IMAGENET})",
    }
    return called.get(network, f"{network}, from scratch")


def _epochs(data, network):
    length, tuned = LENGTHS[profile()], FINE_TUNING if network == PRETRAINED else 1
    run = Run(network=network).resolved()
    images = min(run.train_images or len(data.train), len(data.train))
    batch = RECIPES[NETWORKS[network].recipe]["batch_size"]
    wanted = math.ceil(length["steps"] / math.ceil(images / batch))
    return math.ceil(min(max(wanted, length["least"]), length["most"]) / tuned)


def _begun(plan):
    """Whether a run of the first round is finished or under way."""
    places = [Files(run, plan.data) for run in plan.round(0)]
    return any(place.record.exists() or place.checkpoint.exists() for place in places)


def missing_weights() -> str | None:
    """Why the pretrained weights of ResNet-18 cannot be had; None: they are on disk now."""
    weights = ResNet18_Weights[IMAGENET]
    name = Path(urllib.parse.urlsplit(weights.url).path).name
    if Path(torch.hub.get_dir(), "checkpoints", name).is_file():
        return None
    if offline():
        return "ATTENTION_OFFLINE is set"
    try:
        with _impatient():
            weights.get_state_dict(progress=True, check_hash=True)
    except (OSError, RuntimeError) as error:  # no network, a server that refuses, a wrong hash
        return f"the download failed ({getattr(error, 'reason', None) or error})"
    return None


@contextlib.contextmanager
def _impatient() -> Iterator[None]:
    """Connections that are silent are given up, which urllib would wait for without end."""
    before = socket.getdefaulttimeout()
    socket.setdefaulttimeout(SECONDS_OF_SILENCE)
    try:
        yield
    finally:
        socket.setdefaulttimeout(before)


def seconds(plan: Plan, device: torch.device, steps: int = 2) -> dict[str, float]:
    """{name of a run: seconds that one training of it will take here, testing included}

    From the records of the same network on pictures of this size, made on this hardware; where
    there is none, from `steps` timed steps on noise, after one that warms up.
    """
    times, found = Times(device), {}
    for run in plan.round(0):
        run = run.resolved()
        train, test = counts(run, plan.data)
        known = times.rates.get((run.name, *plan.data.size))
        rate = (
            sum(known) / len(known)
            if known
            else ahead.seconds_an_image(run, plan.data, device, steps)
        )
        # a test picture goes forward only, which is about a third of a training step
        found[run.name] = rate * run.epochs * train + (0 if known else rate * test / 3)
    return found


def counts(run: Run, data: Dataset) -> tuple[int, int]:
    """How many training and test pictures a run takes."""
    run = run.resolved()
    limits = ((run.train_images, data.train), (run.test_images, data.test))
    train, test = (min(limit or len(split), len(split)) for limit, split in limits)
    return train, test
