"""A network's architecture as plain data: found for a network, and built again from it.

{"library": "attention", "torchvision" or "timm", "name": of the builder, "arguments": its own}
"""

import contextlib
import importlib
import inspect
import operator
import re
import warnings
from collections import Counter
from typing import Any

import torch
from torch import nn
from torch.overrides import TorchFunctionMode

from attention.networks import convvit, fast_resnet, resnet, vit

BUILDERS = {"resnet": resnet, "fast_resnet": fast_resnet, "vit": vit, "convvit": convvit}
# Arguments that would fetch weights, or read other files.
FORBIDDEN = re.compile(r"weights.*|pretrained.*|checkpoint_path|cache_dir")


def build(architecture: dict[str, Any]) -> nn.Module:
    """The network of an architecture, with new weights; nothing is fetched.

    Raises ValueError for a name or for arguments that the library does not know, ImportError when
    timm is wanted and is not there.
    """
    library, name, arguments = (architecture[key] for key in ("library", "name", "arguments"))
    builders = {"attention": _own, "torchvision": _of_torchvision, "timm": _of_timm}
    if library not in builders:
        raise ValueError(f"library must be one of {', '.join(builders)}; got {library!r}")
    if wrong := [key for key in arguments if FORBIDDEN.fullmatch(key)]:
        raise ValueError(
            f"arguments must say how the network is built, not where weights are; got {wrong[0]!r}"
        )
    builder = builders[library](name)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of an initialisation that will change
            return builder(**arguments)
    except Exception as error:
        raise ValueError(f"{library}'s {name} cannot be built with {arguments}: {error}") from error


def candidates(
    network: nn.Module, name: str | None, arguments: dict[str, Any] | None
) -> list[dict[str, Any]]:
    """Architectures that this network may have, the likeliest first.

    name, arguments: where they are known; None: they are worked out, the number of classes from
    the last layer.

    Raises ValueError for a network of no library that is known here.
    """
    library = type(network).__module__.split(".")[0]
    if library == "attention":
        found = _own_arguments(network, name)
    elif library == "timm":
        found = _timm_arguments(network, name)
    elif library == "torchvision":
        found = _torchvision_arguments(network, name)
    else:
        inner = next((a for a in ("module", "_orig_mod") if hasattr(network, a)), None)
        raise ValueError(
            "network must be this package's, torchvision's or timm's, so that its builder is found "
            f"by name; got {type(network).__module__}.{type(network).__qualname__}"
            f"{f', a wrapper: give its .{inner}' if inner else ''}"
        )
    if arguments is not None:
        found = dict.fromkeys(named for named, _ in found)
        found = [(named, plain("arguments", arguments)) for named in found]
    unlike = [pair for number, pair in enumerate(found) if pair not in found[:number]]
    return [{"library": library, "name": named, "arguments": given} for named, given in unlike]


def plain(argument: str, value: Any) -> Any:
    """A value as JSON gives it back: numbers, texts, lists, dicts; ValueError for anything else."""
    if value is None or isinstance(value, str | bool | int | float):
        return value
    if isinstance(value, list | tuple):
        return [plain(argument, item) for item in value]
    if isinstance(value, dict) and all(isinstance(key, str) for key in value):
        return {key: plain(f"{argument}[{key!r}]", item) for key, item in value.items()}
    with contextlib.suppress(TypeError):
        return operator.index(value)  # numpy's
    raise ValueError(
        f"{argument} must be numbers, texts, lists or dicts of them, to be saved; got {value!r}"
    )


def _own(name):
    if name not in BUILDERS:
        raise ValueError(f"name must be one of {', '.join(BUILDERS)}; got {name!r}")
    return BUILDERS[name]


def _of_torchvision(name):
    from torchvision import models

    if name not in models.list_models():
        raise ValueError(f"name must be one of torchvision.models.list_models(), got {name!r}")
    builder = models.get_model_builder(name)
    # a detector's own default fetches the weights of its backbone
    none = {key for key in ("weights", "weights_backbone") if key in _parameters(builder)}
    return lambda **arguments: builder(**dict.fromkeys(none), **arguments)


def _of_timm(name):
    try:
        timm = importlib.import_module("timm")
    except ModuleNotFoundError as error:
        raise ImportError(
            "this network is timm's, which is not installed: pip install timm"
        ) from error
    # no path, and no address: create_model would read them
    if not re.fullmatch(r"\w+(\.\w+)?", name) or not timm.is_model(name.partition(".")[0]):
        raise ValueError(f"name must be one of timm.list_models(), got {name!r}")
    return lambda **arguments: timm.create_model(name, pretrained=False, **arguments)


def _own_arguments(network, name):
    config = getattr(network, "config", None)
    if not isinstance(config, dict) or config.get("name") not in BUILDERS:
        raise ValueError(
            f"network must come from one of attention's {', '.join(BUILDERS)}, which keep their "
            f"arguments; this {type(network).__name__} does not"
        )
    arguments = plain("network.config", config["arguments"])
    classes = {"classes": _outputs(network)}
    return [(name or config["name"], given) for given in (arguments, arguments | classes)]


def _timm_arguments(network, name):
    config = getattr(network, "pretrained_cfg", None) or {}
    name = name or config.get("architecture")
    if name is None:
        raise ValueError("architecture must be the name of this network of timm: it has no other")
    if config.get("tag") and "." not in name:
        name = f"{name}.{config['tag']}"
    known = plain("the network's own argument", getattr(network, "_model_args", {}))
    known = {key: value for key, value in known.items() if not FORBIDDEN.fullmatch(key)}
    counts = (getattr(network, "num_classes", None), _outputs(network))
    given = [known | {"num_classes": count} for count in counts if count is not None]
    return [(name, arguments) for arguments in (*given, known)]


def _torchvision_arguments(network, name):
    """All builders of its class, or the one named; those that lack no weights of this network."""
    from torchvision import models

    known = [{"num_classes": count} for count in (_outputs(network),) if count] + [{}]
    if name is not None:
        return [(name, given) for given in known]
    module = type(network).__module__
    names = [n for n in models.list_models() if models.get_model_builder(n).__module__ == module]
    shapes = Counter(p.shape for p in network.parameters())
    lacking = {}
    for place, (named, given) in enumerate((n, given) for n in names for given in known):
        with contextlib.suppress(ValueError), _Unfilled():
            skeleton = build({"library": "torchvision", "name": named, "arguments": given})
            if type(skeleton) is type(network):
                wanted = Counter(p.shape for p in skeleton.parameters())
                lacking[(wanted - shapes).total(), -wanted.total(), place] = named, given
    if not lacking:
        raise ValueError(
            f"no builder of torchvision gives a {type(network).__name__}: say which one made this, "
            "as architecture="
        )
    likeliest = sorted(lacking)
    fitting = [key for key in likeliest if key[0] == 0] or likeliest[:1]
    return [lacking[key] for key in fitting]


class _Unfilled(TorchFunctionMode):
    """Parameters that are made in its `with` block have a shape, and no memory."""

    def __torch_function__(self, function, types, args=(), kwargs=None):
        kwargs = kwargs or {}
        if function is torch.empty:
            kwargs = kwargs | {"device": "meta"}
        return function(*args, **kwargs)


def _parameters(builder):
    return inspect.signature(builder).parameters


def _outputs(network):
    """The outputs of the last linear layer or convolution; None if there is none."""
    layers = [m for m in network.modules() if isinstance(m, nn.Linear | nn.Conv2d)]
    if not layers:
        return None
    last = layers[-1]
    return last.out_features if isinstance(last, nn.Linear) else last.out_channels
