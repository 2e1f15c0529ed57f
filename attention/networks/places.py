"""What stands where a block was put: `Chain`, what was there and the block; `FromIdentity`."""

from collections import OrderedDict
from typing import Any, NamedTuple

import torch
from torch import nn

from attention.cost import evaluating
from attention.networks.example import Maps, Observed, Shape, watch


class Chain(nn.Sequential):
    """What stood in a place, as `before`, and the blocks that were put behind it.

    What was saved when it stood there alone has its names without "before.": they load too.
    """

    part = "before"

    @property
    def blocks(self) -> list[nn.Module]:
        """The blocks, in the order in which they were put there."""
        return [module for name, module in self._modules.items() if name != self.part]

    def forward(self, *inputs: Any, **options: Any) -> Any:
        x = self.before(*inputs, **options)
        for block in self.blocks:
            x = block(x)
        return x

    def _load_from_state_dict(self, state_dict, prefix, *arguments) -> None:
        inside = f"{prefix}{self.part}."
        tensors = _names(getattr(self, self.part))
        own = [names for names, of_block in tensors if not of_block]
        if not all(any(inside + name in state_dict for name in names) for names in own):
            old = {name for names, _ in tensors for name in names if prefix + name in state_dict}
            moved = {inside + name: state_dict.pop(prefix + name) for name in old}
            state_dict.update(moved)
        super()._load_from_state_dict(state_dict, prefix, *arguments)


class Ahead(Chain):
    """The blocks that were put in front of what stands in a place, and that part, as `after`."""

    part = "after"

    def forward(self, x: Any, *inputs: Any, **options: Any) -> Any:
        for block in self.blocks:
            x = block(x)
        return self.after(x, *inputs, **options)


def bare(module: nn.Module | None) -> nn.Module | None:
    """What stands in a place, without the blocks that were put behind or in front of it."""
    while isinstance(module, Chain):
        module = getattr(module, module.part)
    return module


def _names(module: nn.Module) -> list[tuple[list[str], bool]]:
    """For each tensor of a state: the names it may have been saved by; whether it is a block's.

    A name without the "before." of a `Chain` is from the time before it stood there.
    """
    found = []
    for name in module.state_dict():
        forms, of_block, owner = [""], False, module
        *parts, last = name.split(".")
        for part in parts:
            longer = [f"{form}{part}." for form in forms]
            if isinstance(owner, Chain):
                of_block = of_block or part != owner.part
                longer += forms if part == owner.part else []
            forms, owner = longer, getattr(owner, "_modules", {}).get(part)
        found.append(([form + last for form in forms], of_block))
    return found


class ChannelsLast(nn.Module):
    """A block for maps (N, C, H, W) where the network has them as (N, H, W, C)."""

    def __init__(self, block: nn.Module) -> None:
        super().__init__()
        self.block = block

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.block(x.permute(0, 3, 1, 2)).permute(0, 2, 3, 1)


class FromIdentity(nn.Module):
    """x + gain · (block(x) − x): x itself at the start, with a gain of 0; the block with one of 1.

    (N, C, H, W) → the same shape and dtype.

    The gain is learned, one number a block. The first step moves the gain alone, since the block's
    own gradient is multiplied by it; from the second on both learn. A block that is the identity by
    itself at the start (a non-local block, whose last norm has weights of 0) gets a gain of 1: with
    two zeros in a row, neither would ever have a gradient.

    It is one number, not one a channel, so that it says how far the network has come towards the
    block, and is no channel attention itself.

    Bachlechner et al., "ReZero is All You Need: Fast Convergence at Large Depth", UAI 2021, whose
    x + α F(x) this is, with the block's change to x as F.
    """

    def __init__(self, block: nn.Module, channels: int) -> None:
        super().__init__()
        self.block = block
        self.gain = nn.Parameter(torch.tensor(float(is_identity(block, channels))))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        change = self.block(x) - x
        return (x + self.gain * change).to(x.dtype)  # under autocast a block may give another

    def extra_repr(self) -> str:
        return "start as the identity"


@torch.no_grad()
def is_identity(block: nn.Module, channels: int) -> bool:
    """Whether a new block gives the maps back that it gets; False on the meta device."""
    like = next(block.parameters(), torch.empty(0))
    generator = torch.Generator().manual_seed(0)  # the caller's random numbers stay where they are
    x = torch.randn(2, channels, 8, 8, generator=generator, device="cpu").to(like)
    with evaluating(block), torch.random.fork_rng(devices=[]):
        return not x.is_meta and torch.equal(block(x), x)


class Place(NamedTuple):
    """Where a block goes: next to `owner.slot`, on this `side` of it.

    slot: "" is the end of `owner`, a Sequential. side: "behind", "ahead", or "instead".
    """

    owner: nn.Module
    slot: str
    side: str = "behind"

    @property
    def part(self) -> nn.Module | None:
        """What stands there; None where nothing does (the shortcut of torchvision's ResNets)."""
        return getattr(self.owner, self.slot) if self.slot else self.owner

    def maps(self, observed: Observed) -> Maps | str:
        """The maps that a block gets there; else a text that says what there is instead."""
        if self.part is None:  # what goes into the owner
            return observed.maps(self.owner, "given")
        return observed.maps(self.part, "made" if self.side == "behind" else "given")


def put_all(
    network: nn.Module,
    places: list[Place],
    modules: list[nn.Module],
    observed: Observed,
    name: str,
) -> None:
    """Put each block into its place, and run the example again to see that all are called.

    Raises ValueError when one is not, or does not keep the shape of its maps, or the network does
    not run any more; whatever happens, the network is then as it was.
    """
    before = [(owner, owner._modules.copy(), vars(owner).copy()) for owner in network.modules()]
    try:
        for place, module in zip(places, modules, strict=True):
            _put(place, module, observed)
        try:
            now = watch(network, observed.example)
        except Exception as error:
            raise ValueError(
                f"block {name!r} cannot stand in this {type(network).__name__}: the example does "
                f"not run through it any more ({type(error).__name__}: {error})"
            ) from error
        paths = {module: path for path, module in network.named_modules()}
        for place, module in zip(places, modules, strict=True):
            _check_calls(now.get(module, []), place, f"block {name!r} at {paths[module]!r}")
    except BaseException:
        for owner, parts, others in before:
            vars(owner).update(others)
            owner._modules.clear()
            owner._modules.update(parts)
        raise


def _put(place: Place, module: nn.Module, observed: Observed) -> None:
    owner, slot, side = place
    part = place.part
    if not slot:
        owner.append(module)
    elif side == "instead":
        flat = len(observed[part][-1].made.extents) == 2
        parts = OrderedDict(attention=module, flatten=nn.Flatten(1))
        setattr(owner, slot, nn.Sequential(parts) if flat else module)
    elif part is None or (isinstance(part, nn.Identity) and side == "behind"):
        setattr(owner, slot, module)
    else:
        kind = Ahead if side == "ahead" else Chain
        if type(part) is not kind:
            part = kind(OrderedDict({kind.part: part}))
            setattr(owner, slot, part)
        count = len(part.blocks)
        part.add_module(f"attention{count + 1}" if count else "attention", module)


def _check_calls(calls: list, place: Place, what: str) -> None:
    """Raise a ValueError unless a block was called, and gave maps of the right shape."""
    if not calls:
        raise ValueError(f"{what} would have no effect: it is not called when the network runs")
    for call in calls:
        given, made = call.given, call.made
        wanted = given.extents
        if place.side == "instead":
            wanted = (*wanted[:2], 1, 1)
        if not isinstance(made, Shape) or made.extents != wanted:
            got = made.extents if isinstance(made, Shape) else made
            raise ValueError(f"{what} must make {wanted} of {given.extents}, it gave {got}")
