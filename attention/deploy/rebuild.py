"""A network as its configuration tells it: built, parts put in or taken out, weights filled in."""

from typing import Any

import torch
from torch import nn

from attention.blocks import BLOCKS, POOLINGS, known
from attention.deploy.architectures import build, plain
from attention.deploy.folded import Fold, put, without
from attention.networks import insert

PLACED = ("at", "stages", "after", "start", "example")  # the arguments of `insert` beside options


def built(config: dict[str, Any]) -> nn.Module:
    """The network of a configuration, with new weights: its builder's, and what was changed in it.

    Raises ValueError for what is not known here.
    """
    network = build(config["architecture"])
    for call in config["insertions"]:
        _insert(network, call)
    if config["folded"] is not None:
        without(network, [row["path"] for row in config["folded"] if row["folded"]])
        network.folded = [Fold(**row) for row in config["folded"]]
    for path in config["removed"]:
        _remove(network, path)
    return network.to(getattr(torch, config["dtype"]))


def removed(network: nn.Module, other: nn.Module) -> list[str]:
    """Paths where `network` has nn.Identity and `other` has another module."""
    there = dict(other.named_modules())
    return [
        path
        for path, module in network.named_modules()
        if type(module) is nn.Identity and type(there.get(path, module)) is not nn.Identity
    ]


def _remove(network, path):
    if not path or path not in dict(network.named_modules()):
        raise ValueError(f"nothing is at {path!r} that could be removed")
    put(network, path, nn.Identity())


def _insert(network, call):
    name, version = call["block"], call["version"]
    if name not in (*BLOCKS, *POOLINGS):
        raise ValueError(
            f"block {name!r} is not known here: import the module that has it, and call "
            f"attention.register({name!r}, …) before"
        )
    if version is not None and version != known(name).version:
        raise ValueError(
            f"block {name!r} was saved in version {version}, and version {known(name).version}, "
            "which is here, computes something else"
        )
    given = {key: call[key] for key in PLACED if call[key] is not None}
    try:
        insert(network, name, **given, **call["options"])
    except TypeError as error:
        raise ValueError(f"block {name!r}: {error}") from error


def insertion(call: dict[str, Any]) -> dict[str, Any]:
    """A call of `insert` as plain data, its block by the name in the table.

    Raises ValueError for a block without a name, and for options that JSON does not hold.
    """
    row = known(call["block"])
    if {**BLOCKS, **POOLINGS}.get(row.name) is not row.cls:
        raise ValueError(
            f"block {row.name!r} must have a name, by which it is found again: "
            f"attention.register({row.name!r}, …), here and where the network is loaded"
        )
    placed = {key: plain(key, call.get(key)) for key in (*PLACED, "options")}
    return {"block": row.name, "version": row.version if row.family != "own" else None} | placed


def fill(network: nn.Module, tensors: dict[str, torch.Tensor], shared: dict[str, str]) -> None:
    """Put saved weights, in their dtype, into a network that was built; ValueError for others.

    tensors: {name in its state_dict: tensor}. shared: {name: the one of `tensors` that it is too}.
    """
    state = network.state_dict()  # with the versions of its modules, which a file does not have
    if lost := [kept for kept in shared.values() if kept not in list(tensors)]:
        raise ValueError(f"its weights lack {lost[0]!r}, which is shared")
    given = tensors | {name: tensors[kept] for name, kept in shared.items()}
    if state.keys() != given.keys():
        unlike = sorted(state.keys() ^ given.keys())
        raise ValueError(f"its weights are not those of this network: {', '.join(unlike[:3])}")
    for name in state:
        state[name] = given[name]
    network.load_state_dict(state, assign=True)
    for name, kept in shared.items():
        owner, _, slot = name.rpartition(".")
        other, _, place = kept.rpartition(".")
        setattr(network.get_submodule(owner), slot, getattr(network.get_submodule(other), place))
