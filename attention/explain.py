"""What a network looks at: `capture` gives every map of every block."""

import contextlib
import dataclasses

import torch

from attention.gates import Gate, Sum


@dataclasses.dataclass
class Captured:
    """The maps that one module gave, in order: one a forward pass, more if the module is shared.

    kind: what a map weighs: "channel" (N, C, 1, 1), "spatial" (N, 1, H, W), "both" (N, C, H, W).
    """

    kind: str
    maps: list[torch.Tensor] = dataclasses.field(default_factory=list)

    def cat(self):
        """All maps of this module along the first axis, on the CPU: one for each image."""
        return torch.cat(self.maps).cpu()


@contextlib.contextmanager
def capture(network, scores=False):
    """Collect the attention maps of the forward passes made in the `with` block.

        with attention.capture(network) as maps:
            network(images)
        maps["stages.0.1.attention.gate"].maps[0]        # (N, C, 1, 1), values in (0, 1)

    network: any module that holds blocks of this package (not a compiled copy of one).
    scores: collect also what goes into a gate that adds or multiplies scores (BAM's two branches):
        logits, each under the path of its score.

    Gives a dict {path of the module: `Captured`}. Maps are detached copies in float32; the output
    of the network does not change, and the hooks are off again after the block, whatever happened.

    Raises ValueError when the network holds no gate, RuntimeError at the end of the block when no
    map came (a network compiled in place never calls hooks that are added later).
    """
    watched = {path: m for path, m in network.named_modules() if isinstance(m, Gate)}
    if scores:
        for path, module in network.named_modules():
            if isinstance(module, Sum):
                watched |= {f"{path}.{name}": score for name, score in module.named_children()}
    if not watched:
        raise ValueError(f"{type(network).__name__} holds no gate: there are no maps to capture")
    captured = {path: Captured(module.kind) for path, module in watched.items()}

    def keep(path):
        def hook(module, inputs, output):
            captured[path].maps.append(output.detach().float().clone())

        return hook

    handles = [module.register_forward_hook(keep(path)) for path, module in watched.items()]
    try:
        yield captured
    finally:
        for handle in handles:
            handle.remove()
    if not any(one.maps for one in captured.values()):
        raise RuntimeError(
            "no map came: call the network inside the `with` block; one that was compiled never "
            "calls the hooks, so capture from the network before it is compiled"
        )
