"""`save_network` writes a network into a folder, `load_network` builds it again from there.

The folder is laid out as the Hugging Face hub's mixin does it: config.json, all that is needed to
build the network, and model.safetensors, its weights, whose SHA-256 stands in the configuration.
Nothing is unpickled, and a file names nothing that is not in a list here.
"""

import dataclasses
import hashlib
import importlib
import json
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import safetensors.torch
import torch
from torch import nn

from attention.checks import instance, one_of
from attention.deploy.architectures import candidates, plain
from attention.deploy.card import Card
from attention.deploy.rebuild import built, fill, insertion, removed
from attention.deploy.same import difference
from attention.files import read_json, replacing

CONFIG, WEIGHTS = "config.json", "model.safetensors"
FORMAT = "attention network, version 1"
FORM = {
    "format": str,
    "architecture": {"library": str, "name": str, "arguments": dict},
    "insertions": [{"block": str, "version": (None, int), "at": (None, str),
                    "stages": (None, [int]), "after": (None, [str]), "start": (None, str),
                    "example": (None, [int]), "options": dict}],
    "folded": (None, [{"path": str, "block": str, "moved": (None, float), "folded": bool,
                       "note": str}]),
    "removed": [str],
    "classes": (None, [str]), "mean": (None, [float]), "std": (None, [float]),
    "size": (None, [int]), "resize": str, "dtype": str, "channels_last": bool, "shared": dict,
    "sha256": str, "libraries": dict,
}  # fmt: skip
DTYPES = ("float16", "bfloat16", "float32", "float64")


def save_network(
    network: nn.Module,
    path: str | Path,
    *,
    classes: Iterable[str] | None = None,
    mean: Sequence[float] | torch.Tensor | None = None,
    std: Sequence[float] | torch.Tensor | None = None,
    size: int | Sequence[int] | None = None,
    resize: str | None = None,
    architecture: str | None = None,
    arguments: dict[str, Any] | None = None,
) -> Path:
    """Write a network into the folder `path`, from which `load_network` builds it; give the path.

    network: this package's, torchvision's or timm's, also with another number of classes, with
        blocks that `insert` has put in and `fold` has taken out, with nn.Identity in place of a
        part, in half precision. It is not changed.
    classes, mean, std, size, resize: what whoever uses it needs to know, see `Card`; None: what was
        told when this network was loaded, if it was.
    architecture, arguments: the name of the network's builder in torchvision or timm ("resnet18"),
        and what it was called with. They need not be told where they can be found out.

    Kept are the weights and buffers in their dtype, which of them are one, and channels_last; not
    kept are the device, the mode, gradients and what is frozen.

    Raises ValueError, and writes nothing, for a network that would not be the same when built
    again (the message names the first part that differs), for a block that is not registered, and
    for a folder that holds another program's configuration.
    """
    instance(nn.Module, "network", network)
    told = {"classes": classes, "mean": mean, "std": std, "size": size, "resize": resize}
    told = {name: value for name, value in told.items() if value is not None}
    card = dataclasses.replace(getattr(network, "card", Card()), **told)
    path = Path(path)
    _expect_ours(path)
    tensors, shared = _tensors(network)
    folded = getattr(network, "folded", None)
    config = {
        "format": FORMAT,
        "architecture": None,  # which is found at last
        "folded": None if folded is None else [dataclasses.asdict(row) for row in folded],
        "removed": [],
        "insertions": [insertion(call) for call in getattr(network, "insertions", [])],
        **plain("card", dataclasses.asdict(card)),
        "dtype": _dtype(network),
        "channels_last": any(_in_channels_last(t) for t in tensors.values()),
        "shared": shared,
    }
    config |= _architecture(network, config, architecture, arguments)
    _expect_names(card, config["architecture"]["arguments"])
    content = safetensors.torch.save(
        {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()},
        metadata={"format": "pt", **shared},
    )
    config["sha256"] = hashlib.sha256(content).hexdigest()
    config["libraries"] = _libraries(config["architecture"]["library"])
    text = json.dumps(config, indent=1, allow_nan=False)
    # both are written before the first is renamed: a full disk leaves what was there
    with replacing(path / CONFIG) as config_file, replacing(path / WEIGHTS) as weights_file:
        config_file.write_text(text + "\n", encoding="utf-8")
        weights_file.write_bytes(content)
    return path


def load_network(path: str | Path) -> nn.Module:
    """The network that `save_network` has written into the folder `path`, on the CPU, in eval mode.

    It gives the answers, bit for bit, that the saved one gave in eval mode on the same machine.
    Its `card` has what was told beside it: class names, mean and std of the pixels, their size.
    Blocks of one's own must have been registered under the names that they had.

    Raises FileNotFoundError where there is no such folder, ValueError when one of its files is
    damaged or from elsewhere, or names something that is not known here.
    """
    path = Path(path)
    if missing := [name for name in (CONFIG, WEIGHTS) if not (path / name).is_file()]:
        raise FileNotFoundError(f"{path} holds no saved network: {' and '.join(missing)} missing")
    config = _read(path)
    content = (path / WEIGHTS).read_bytes()
    if hashlib.sha256(content).hexdigest() != config["sha256"]:
        raise ValueError(
            f"{WEIGHTS} in {path} is damaged, or of another network: its SHA-256 is not the one "
            f"that {CONFIG} tells"
        )
    try:
        card = Card(**{field.name: config[field.name] for field in dataclasses.fields(Card)})
        with torch.random.fork_rng(devices=[]):
            network = built(config)
        fill(network, safetensors.torch.load(content), config["shared"])
    except ImportError:  # timm is not here
        raise
    except Exception as error:  # whatever a configuration from elsewhere may lead to
        versions = ", ".join(f"{name} {version}" for name, version in config["libraries"].items())
        raise ValueError(
            f"the network in {path} cannot be built (it was saved with {versions}): {error}"
        ) from error
    if config["channels_last"]:
        network.to(memory_format=torch.channels_last)
    network.card = card
    return network.eval()


def _read(path):
    """The configuration in a folder, of the form that `save_network` writes."""
    config = read_json(path / CONFIG, FORM, "the configuration of a network saved by this package")
    if config["format"] != FORMAT:
        raise ValueError(f"{CONFIG} in {path} must be of {FORMAT!r}, got {config['format']!r}")
    one_of("dtype", config["dtype"], DTYPES)
    return config


def _expect_ours(path):
    """Raise a ValueError where a configuration that is not one of ours would be written over."""
    if path.exists() and not path.is_dir():
        raise ValueError(f"path must be a folder, and {path} is a file")
    if (path / CONFIG).exists():
        try:
            _read(path)
        except ValueError as error:
            raise ValueError(f"path must not be a folder of something else: {error}") from None


def _architecture(network, config, name, arguments):
    """The part of the configuration from which the network is built the same again."""
    differences = []
    with torch.random.fork_rng(devices=[]):  # the caller's random numbers stay where they are
        for architecture in candidates(network, name, arguments):
            found = {"architecture": architecture}
            try:
                other = built(config | found)
                if lacking := removed(network, other):
                    found["removed"] = lacking
                    other = built(config | found)
                different = difference(network, other)
            except ValueError as error:
                different = str(error)
            if different is None:
                return found
            given = ", ".join(f"{k}={v!r}" for k, v in architecture["arguments"].items())
            differences.append(f"{architecture['name']}({given}): {different}")
    raise ValueError(
        "network must be one that its builder makes again, and it is not "
        f"{differences[0]}. Say as architecture= and arguments= what it was made by, or keep "
        "its state_dict, with safetensors.torch.save_model"
    )


def _tensors(network):
    """The tensors to write, each once, and {name: the name under which the same one is written}."""
    tensors, names, shared = {}, {}, {}
    for name, tensor in network.state_dict().items():
        if not isinstance(tensor, torch.Tensor) or tensor.is_meta or tensor.is_quantized:
            raise ValueError(f"{name} must be a tensor of numbers, got {type(tensor).__name__}")
        memory = (tensor.device, tensor.data_ptr(), tensor.shape, tensor.stride(), tensor.dtype)
        kept = names.setdefault(memory, name) if tensor.numel() else name
        if kept == name:
            tensors[name] = tensor
        else:
            shared[name] = kept
    return tensors, shared


def _dtype(network):
    """The floating dtype of the weights, in which the buffers outside a state_dict are, too."""
    kinds = {t.dtype for t in (*network.parameters(), *network.buffers()) if t.is_floating_point()}
    name = str(kinds.pop()).removeprefix("torch.") if len(kinds) == 1 else "float32"
    return name if name in DTYPES else "float32"


def _in_channels_last(tensor):
    last = tensor.ndim == 4 and tensor.is_contiguous(memory_format=torch.channels_last)
    return last and not tensor.is_contiguous()


def _expect_names(card, arguments):
    """Raise a ValueError unless there are as many class names as the network has outputs."""
    count = arguments.get("num_classes", arguments.get("classes"))
    if card.classes is not None and count is not None and len(card.classes) != count:
        raise ValueError(
            f"classes must be the names of the network's {count} outputs, got {len(card.classes)}"
        )


def _libraries(library):
    names = ["torch"] if library == "attention" else ["torch", library]
    return {name: importlib.import_module(name).__version__ for name in names}
