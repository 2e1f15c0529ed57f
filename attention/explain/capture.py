"""What a network looks at: `capture` gives every map of every block."""

import contextlib
import dataclasses

import torch

from attention.blocks.gate import POSITIONS, Map, wanting
from attention.blocks.gates import Sum


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

    def cat(self):
        """All maps of this module along the first axis, on the CPU: one for each image."""
        return torch.cat(self.maps).cpu()

    def over_image(self):
        """The maps of kind "positions" as pictures: (N, heads, Q, H, W), on the CPU.

        A window is laid where it lies around its query, with 0 elsewhere. Tokens in front of the
        positions (ViT's class token) are left out of the picture; as a query they stay, in front.
        """
        if self.kind != POSITIONS:
            raise ValueError(f"only maps of kind 'positions' have queries, these are {self.kind!r}")
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


def rollout(layers):
    """Attention rollout: what the output of a stack of attention layers took from its input.

    layers: the weights of each layer, first to last, (N, heads, T, T) each.
    Returns (N, T, T): row i says how token i at the end is made of the tokens at the start; every
    row adds up to 1.

    The heads are averaged; half of each layer's output is the shortcut around it, so that a layer
    is ½ (weights + identity); layers are multiplied. Abnar & Zuidema, "Quantifying Attention Flow
    in Transformers", ACL 2020, section 3.
    """
    if not layers or any(one.ndim != 4 or one.shape != layers[0].shape for one in layers):
        shapes = [tuple(one.shape) for one in layers]
        raise ValueError(f"layers must be weights (N, heads, T, T), all of one shape; got {shapes}")
    if layers[0].shape[2] != layers[0].shape[3]:
        raise ValueError(
            "rollout needs the weights of self-attention, as many queries as positions; got "
            f"{tuple(layers[0].shape)}"
        )
    total = shortcut = torch.eye(layers[0].shape[2]).to(layers[0])
    for weights in layers:
        total = 0.5 * (weights.mean(1) + shortcut) @ total
    return total


@contextlib.contextmanager
def capture(network, scores=False):
    """Collect the attention maps of the forward passes made in the `with` block.

        with attention.capture(network) as maps:
            network(images)
        maps["stages.0.1.attention.gate"].maps[0]        # (N, C, 1, 1), values in (0, 1)

    network: any module that holds blocks of this package (not a compiled copy of one). Blocks that
        mix positions make their weights while they are captured, and never else; each map of kind
        "positions" is (queries × positions) large.
    scores: collect also what goes into a gate that adds or multiplies scores (BAM's two branches):
        logits, each under the path of its score.

    Gives a dict {path of the module: `Captured`}. Maps are detached copies in float32; the output
    of the network does not change, and the hooks are off again after the block, whatever happened.

    Raises ValueError when the network holds no attention, RuntimeError at the end of the block when
    no map came (a network compiled in place never calls hooks that are added later).
    """
    watched = {path: m for path, m in network.named_modules() if isinstance(m, Map)}
    if scores:
        for path, module in network.named_modules():
            if isinstance(module, Sum):
                watched |= {f"{path}.{name}": score for name, score in module.named_children()}
    if not watched:
        raise ValueError(
            f"{type(network).__name__} holds no attention: there are no maps to capture"
        )
    captured = {
        path: Captured(module.kind, window=getattr(module, "window", None))
        for path, module in watched.items()
    }

    def keep(path):
        def hook(module, inputs, output):
            captured[path].maps.append(output.detach().float().clone())
            if module.kind == POSITIONS:
                captured[path].size = tuple(inputs[1])

        return hook

    handles = [module.register_forward_hook(keep(path)) for path, module in watched.items()]
    try:
        with wanting(network):
            yield captured
    finally:
        for handle in handles:
            handle.remove()
    if not any(one.maps for one in captured.values()):
        raise RuntimeError(
            "no map came: call the network inside the `with` block; one that was compiled never "
            "calls the hooks, so capture from the network before it is compiled"
        )
