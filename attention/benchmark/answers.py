"""What an answer costs: as it is written, fused, folded, and by onnxruntime."""

import copy
import importlib.util
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path

import pandas as pd
import torch
from torch import nn

from attention.benchmark.timing import device_here, in_turns, random_images
from attention.blocks import Gate
from attention.deploy import fold
from attention.networks import fuse
from attention.training import compared

BATCHES = (1, 128)
CALLS = 20  # of a batch of one: a single call is too short to be timed
TOLERANCE = 0.02  # of the images may get another answer when gates are folded


def answering(
    networks: dict[str, nn.Module] | None = None, images: torch.Tensor | None = None,
    batches: Sequence[int] = BATCHES, rounds: int = 10, fused: bool = True, progress: bool = True,
) -> pd.DataFrame:  # fmt: skip
    """Milliseconds from images to logits in eval mode and float32, as multiples of the first.

    networks: {name: network}; the first is compared with. None: ResNet-20 without a block and with
    the four of the papers, with the weights that they begin with. images: normalised images by
    which gates are found constant and folded (`attention.fold`); None: nothing is folded.

    A row a network, form ("eager", "fused", "folded", "onnxruntime", the last where it is
    installed, from torch 2.6 on) and batch: ms, times (the median of the ratios within a round),
    and folds, how many gates were folded.
    """
    device = device_here()
    if networks is None:
        names = (None, "se", "eca", "cbam", "bam")
        networks = {name or "plain": compared(name).build(10) for name in names}
    forms, folds = {}, {}
    for name, network in networks.items():
        network = network.eval().to(device)
        forms[name, "eager"] = network
        if fused:
            forms[name, "fused"] = fuse(copy.deepcopy(network))
        if images is not None and getattr(network, "placements", ()):
            folded = fold(network, images, tolerance=TOLERANCE)
            forms[name, "folded"] = folded.to(device).to(memory_format=torch.channels_last)
            folds[name] = len(network.placements) - _gates_left(folded)
        if device.type == "cpu" and _has_onnx():
            forms[name, "onnxruntime"] = _onnx(network)
    first, parts = next(iter(forms)), []
    for batch in batches:
        x = random_images(batch, (32, 32), device)
        calls = {form: _calls(network, x) for form, network in forms.items()}
        times = pd.DataFrame(in_turns(calls, rounds, progress))
        ratios = times.div(times[first], axis=0).median()
        for name, form in forms:
            ms = 1000 * times[name, form].median() / (CALLS if batch == 1 else 1)
            parts.append({"network": name, "form": form, "batch": batch, "ms": ms,
                          "times": ratios[name, form],
                          "folds": folds.get(name) if form == "folded" else None})  # fmt: skip
    return pd.DataFrame(parts)


def _gates_left(network):
    return sum(isinstance(module, Gate) for module in network.modules())


def _calls(network: Callable, x: torch.Tensor) -> Callable[[], None]:
    @torch.no_grad()
    def call() -> None:
        for _ in range(CALLS if len(x) == 1 else 1):
            network(x)

    return call


def _has_onnx():
    """Whether onnxruntime is there, and a torch that writes a network for batches of any size."""
    torch_version = tuple(int(number) for number in torch.__version__.split(".")[:2])
    return importlib.util.find_spec("onnxruntime") is not None and torch_version >= (2, 6)


def _onnx(network):
    """The network in onnxruntime, for any batch, with as many threads as torch has."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = torch.get_num_threads()
    with tempfile.TemporaryDirectory() as folder:
        file = str(Path(folder) / "network.onnx")
        torch.onnx.export(
            network, (torch.randn(2, 3, 32, 32),), file, dynamo=True, verbose=False,
            dynamic_shapes=({0: torch.export.Dim("batch")},),
        )  # fmt: skip
        session = onnxruntime.InferenceSession(file, options)
    [name] = [given.name for given in session.get_inputs()]
    return lambda x: session.run(None, {name: x.contiguous().numpy()})
