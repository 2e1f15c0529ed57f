"""What plays well with each block: a table of docs/your_network.md, and what the tests expect.

`python tests/plays.py` writes the table into docs/your_network.md.
"""

import contextlib
import dataclasses

import page_part
import pytest
import torch

from attention.blocks import BLOCKS, POOLINGS

MARKS = "<!-- plays well: written by python tests/plays.py -->\n", "<!-- end of plays well -->\n"
PROPERTIES = {
    "compile": "`torch.compile`, without a graph break, once for all sizes (and once more for a "
    "batch of 1, as torch does), forward and backward: the graphs, by `aot_eager`, of all, and "
    "inductor's code of SE, ECA, CBAM and BAM; `capture` gives the same maps of the original "
    "afterwards",
    "export": "`torch.export` with dynamic batch, height and width",
    "ONNX": "`torch.onnx.export`, run by onnxruntime on another batch and size, to 1e-4",
    "fx": "`torch.fx.symbolic_trace`, and torchvision's `create_feature_extractor`, of a network "
    "with the block in it",
    "DDP": "`DistributedDataParallel`: two processes have the gradients of one",
    "SyncBN": "conversion to `SyncBatchNorm`; empty where there is no BatchNorm",
    "copies": "`deepcopy`, pickle, `state_dict`, moving averages (`AveragedModel`)",
    "types": "float16, bfloat16 and float64",
    "layout": "channels_last and contiguous maps stay so (empty: a pooling gives vectors)",
    "func": "`torch.func`: gradients of each image, by `vmap` of `grad` (in eval mode: in training "
    "mode a BatchNorm of torch refuses)",
    "second": "second derivatives",
    "jit": "`torch.jit.trace`, for another batch and size",
}


@dataclasses.dataclass(frozen=True)
class Note:
    """What is to be known of a property of some blocks, and how it says so where it fails."""

    words: str
    works: bool = True
    error: type[Exception] = Exception
    message: str = ""


LEAF = Note(
    "its squares need autocast switched off, which a graph of torch.fx cannot hold: the error says "
    "so, and how to keep the block whole (`leaf_modules`)",
    works=False,
    error=torch.fx.proxy.TraceError,
    message="keep it whole.*leaf_modules",
)
TWO_IMAGES = Note(
    "in training mode a process with one image alone is refused: the norm is over the batch",
    error=ValueError,
    message="at least 2 images, got 1",
)
FUSED = Note(
    "`with attention.blocks.wanting(network):`; else torch's fused kernel raises an error",
    error=RuntimeError,
    message="derivative for .*attention.* is not implemented",
)
NOTES = {
    **dict.fromkeys([("encoding", "fx")], LEAF),
    **dict.fromkeys([(name, "SyncBN") for name in ("encoding", "bam")], TWO_IMAGES),
    **{
        (name, "second"): FUSED
        for name in ("qkv", "hybrid", "nonlocal", "selfattention", "dot_pool", "multihead_pool")
    },
}
NORMS = ("encoding", "bam", "coordinate", "nonlocal")  # have a BatchNorm


def refused(name: str, column: str, when: bool = True):
    """The error that a note announces must come; without a note, none may."""
    note = NOTES.get((name, column))
    if note is None or not when:
        return contextlib.nullcontext()
    return pytest.raises(note.error, match=note.message)


def cell(name: str, column: str) -> str:
    """What the table says."""
    if (column == "SyncBN" and name not in NORMS) or (column == "layout" and name in POOLINGS):
        return ""
    note = NOTES.get((name, column))
    if note is None:
        return "✓"
    letter = "abc"[list(dict.fromkeys(NOTES.values())).index(note)]
    return f"{'✓' if note.works else '–'} ({letter})"


def table() -> str:
    """All blocks and poolings against all properties, in Markdown, and what the columns mean."""
    lines = [
        f"| | {' | '.join(PROPERTIES)} |",
        f"|---|{':-:|' * len(PROPERTIES)}",
        *(
            f"| `{name}` | {' | '.join(cell(name, column) for column in PROPERTIES)} |"
            for name in (*BLOCKS, *POOLINGS)
        ),
        "",
        *(f"- **{column}**: {words}." for column, words in PROPERTIES.items()),
        "",
    ]
    for letter, note in zip("abc", dict.fromkeys(NOTES.values()), strict=True):
        lines.append(f"({letter}) {note.words}.  ")
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    page_part.write(MARKS, table())
