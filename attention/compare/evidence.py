"""What the trained networks of a comparison answer, where they err, what they look at, how fast."""

import dataclasses
import re

import torch
from torch import nn
from torch.utils.benchmark import Timer

from attention import explain
from attention.blocks import BOTH, SPATIAL, Map
from attention.checks import at_least_one
from attention.data import Dataset, Split, normalise
from attention.networks import last_stage
from attention.training import Run, predict, trained

SECONDS = 0.5  # for which the time of one picture is tried
BATCH = 100  # pictures of 224 pixels at once: 500 take gigabytes


@dataclasses.dataclass(frozen=True)
class Column:
    """One map for each of some pictures.

    heading: over the column. note: how the maps were made. maps: (N, H, W). highest: the value that
    is drawn brightest; 1 for gates, on their fixed scale, else the map's own highest, None.
    """

    heading: str
    note: str
    maps: torch.Tensor
    highest: float | None


@dataclasses.dataclass(frozen=True)
class Mistake:
    """A test picture (its number in the split), its class, the answer, and how sure that was."""

    picture: int
    label: int
    answer: int
    probability: float


def probabilities(
    run: Run, split: Split, data: Dataset, record: dict, device: torch.device
) -> torch.Tensor:  # fmt: skip
    """What the trained network of a run answers: (pictures, classes), rows adding up to 1.

    In the precision that its record was made in, so that the accuracy is that of the record.
    """
    network = trained(run, data, device, progress=False)
    precision = record["machine"]["precision"]
    return predict(network, split, data, precision=precision, batch_size=BATCH).softmax(1)


def worst(shares: torch.Tensor, labels: torch.Tensor, count: int = 8) -> list[Mistake]:
    """The wrong answers that were given most surely. shares: probabilities (pictures, classes)."""
    at_least_one("count", count)
    sure, answers = shares.max(1)
    wrong = (answers != labels).nonzero()[:, 0]
    order = wrong[sure[wrong].argsort(descending=True, stable=True)][:count]
    return [
        Mistake(int(n), int(labels[n]), int(answers[n]), float(sure[n])) for n in order
    ]  # fmt: skip


def maps(
    network: nn.Module, plain: nn.Module, pictures: torch.Tensor, data: Dataset
) -> list[Column]:
    """Grad-CAM of the plain network and of the one with a block, and the block's own maps.

    pictures: uint8 (N, 3, H, W). Of a block that stands in many places, the last of each stage.
    """
    device = next(network.parameters()).device
    images = normalise(pictures.to(device), data.mean, data.std)
    columns = []
    for heading, one in (("Grad-CAM, plain", plain), ("Grad-CAM, with the block", network)):
        if last_stage(one) is not None:
            note = "evidence for the answer in the last maps; dark all over where there is none"
            columns.append(Column(heading, note, explain.grad_cam(one, images), None))
    own = explain.relevances(network, images)
    for stage, path in _last_of_each_stage(list(own)).items():
        module = dict(network.named_modules()).get(path)
        gate = isinstance(module, Map) and module.kind in (SPATIAL, BOTH)
        how, heading = own[path].how, f"the block's map, {stage}"
        columns.append(Column(heading, f"{path}: {how}", own[path].maps, 1.0 if gate else None))
    return columns


def _last_of_each_stage(paths):
    """{where: path}, of paths that begin with stages.<from 0> or layer<from 1> the last of each."""
    found = {}
    for path in paths:
        numbered = re.match(r"stages\.(\d+)|layer(\d+)", path)
        if numbered is None:
            stage = path
        else:
            first, second = numbered.groups()
            stage = f"stage {int(first) + 1 if first else second}"
        found[stage] = path
    return found


def milliseconds(network: nn.Module, size: tuple[int, int]) -> float:
    """The time of one picture, from its pixels on the device to its logits: the median.

    It is tried for `SECONDS`, in float32 and eval mode, with the threads of this process.
    """
    image = torch.zeros(1, 3, *size, device=next(network.parameters()).device)
    image = image.contiguous(memory_format=torch.channels_last)
    with torch.no_grad():
        timer = Timer(
            "network(image)", globals={"network": network, "image": image},
            num_threads=torch.get_num_threads(),
        )  # fmt: skip
        return 1000 * timer.blocked_autorange(min_run_time=SECONDS).median
