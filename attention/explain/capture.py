"""What a network looks at: `capture` gives every map of every block."""

import contextlib
import dataclasses
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

import torch
from torch import nn
from torch.nn.modules.module import register_module_forward_hook

from attention.blocks import POSITIONS, Map, Score, wanting
from attention.checks import instance


@dataclasses.dataclass
class Captured:
    """The maps that one module gave, in order: one a forward pass, more if the module is shared.

    kind: what a map weighs, and with it the shape:
        "channel" (N, C, 1, 1), "spatial" (N, 1, H, W), "both" (N, C, H, W): a gate's, in (0, 1);
        "positions" (N, heads, Q, K): K weights for each of Q queries;
        "codewords" (N, K, H, W): each position's shares of K codewords, their sum 1.
    size: of "positions": (H, W) of the map whose positions are looked at.
    window: of "positions": k, where a query sees a k×k window and K = k².
    """

    kind: str
    maps: list[torch.Tensor] = dataclasses.field(default_factory=list)
    size: tuple[int, int] | None = None
    window: int | None = None

    def cat(self) -> torch.Tensor:
        """All maps of this module along the first axis, on the CPU: one for each image."""
        if not self.maps:
            raise ValueError("there are no maps: this part of the network was not called")
        return torch.cat(self.maps).cpu()

    def over_image(self) -> torch.Tensor:
        """The maps of kind "positions" as pictures: (N, heads, Q, H, W), on the CPU.

        A window is laid where it lies around its query, with 0 elsewhere. Tokens in front of the
        positions (ViT's class token) are left out of the picture; as a query they stay, in front.
        """
        if self.kind != POSITIONS:
            raise ValueError(f"only maps of kind 'positions' have queries, these are {self.kind!r}")
        if self.size is None:
            raise ValueError("size is not known: the height and width of the positions looked at")
        weights, (height, width), k = self.cat(), self.size, self.window
        if k is None:
            return weights[..., -height * width :].unflatten(-1, (height, width))
        weights = weights.unflatten(-1, (k, k)).unflatten(2, (height, width))
        reach = k // 2
        # with a margin, for the parts of windows that lie outside
        canvas = weights.new_zeros(*weights.shape[:4], height + 2 * reach, width + 2 * reach)
        for y in range(height):
            for x in range(width):
                canvas[:, :, y, x, y : y + k, x : x + k] = weights[:, :, y, x]
        inside = canvas[..., reach : reach + height, reach : reach + width]
        return inside.flatten(2, 3)


def rollout(layers: Sequence[torch.Tensor]) -> torch.Tensor:
    """Attention rollout: what the output of a stack of attention layers took from its input.

    layers: the weights of each layer, first to last, (N, heads, T, T) each, rows adding up to 1.
    Returns (N, T, T): row i says how token i at the end is made of the tokens at the start; every
    row adds up to 1.

    The heads are averaged; half of each layer's output is the shortcut around it, so that a layer
    is ½ (weights + identity); layers are multiplied. Abnar & Zuidema, "Quantifying Attention Flow
    in Transformers", ACL 2020, section 3.
    """
    layers = list(instance(Sequence, "layers", layers))
    shapes = {tuple(getattr(weights, "shape", ())) for weights in layers}
    if len(shapes) != 1 or [len(shape) == 4 and shape[2] == shape[3] for shape in shapes] != [True]:
        raise ValueError(
            "layers must be the weights of self-attention (N, heads, T, T), all of one shape; got "
            f"{', '.join(map(str, shapes)) or 'none'}"
        )
    if not all((weights >= 0).all() and ((weights.sum(-1) - 1).abs() < 0.05).all()
               for weights in layers):  # fmt: skip
        raise ValueError("layers must be weights: at least 0, each row adding up to 1")
    total = shortcut = torch.eye(layers[0].shape[2]).to(layers[0])
    for weights in layers:
        total = 0.5 * (weights.mean(1) + shortcut) @ total
    return total


@contextlib.contextmanager
def after(modules: Iterable[nn.Module], hook: Callable[[nn.Module, Any], Any]) -> Iterator[None]:
    """For the `with` block, call hook(module, output) whenever one of these modules has run.

    What the hook returns, if not None, goes on in place of the output. The hook is global and asks
    who ran: a hook on a module would go along into every copy made of it, and stay there.
    """
    watched = set(modules)  # by identity

    def called(module, inputs, output):
        return hook(module, output) if module in watched else None

    handle = register_module_forward_hook(called)
    try:
        yield
    finally:
        handle.remove()


@contextlib.contextmanager
def capture(network: nn.Module, scores: bool = False) -> Iterator[dict[str, Captured]]:
    """Collect the attention maps of the forward passes made in the `with` block.

        with attention.capture(network) as maps:
            network(images)
        maps["stages.0.1.attention.gate"].maps[0]        # (N, C, 1, 1), values in (0, 1)

    network: any module that holds blocks of this package (not a copy by torch.compile; what `fuse`
        has compiled runs as it is written while it is captured). Blocks that
        mix positions make their weights while they are captured, and never else; each map of kind
        "positions" is (queries × positions) large.
    scores: collect also what goes into the gates: the logits of every `Score`, under its path.
        (BAM has one gate, and two branches to look at.)

    Gives a dict {path of the module: `Captured`}. Maps are detached copies in float32; the output
    of the network does not change, and nothing is left behind after the block, whatever happened.
    A copy of the network made inside the block is not watched.

    Raises ValueError when the network holds no attention, RuntimeError at the end of the block when
    no map came (a network compiled in place never calls hooks that are added later).
    """
    instance(nn.Module, "network", network)
    kinds = (Map, Score) if scores else Map
    paths = {module: path for path, module in network.named_modules() if isinstance(module, kinds)}
    if not any(isinstance(module, Map) for module in paths):
        raise ValueError(
            f"{type(network).__name__} holds no attention: there are no maps to capture"
        )
    captured = {
        path: Captured(module.kind, window=getattr(module, "window", None))
        for module, path in paths.items()
    }

    def keep(module, output):
        found = captured[paths[module]]
        found.maps.append(output.detach().float().clone())
        found.size = getattr(module, "size", None)

    with wanting(network), after(paths, keep):
        yield captured
    if not any(one.maps for one in captured.values()):
        raise RuntimeError(
            "no map came: call the network inside the `with` block; one that was compiled never "
            "calls the hooks, so capture from the network before it is compiled"
        )
