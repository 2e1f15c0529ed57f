"""What is compared: the network in which the blocks stand, their options, and where they stand."""

from typing import Any

NETWORK = "resnet20"
# At 16 channels the papers' reduction of 16 leaves a hidden layer of one unit.
REDUCTION = 4
# block → arguments of `insert`; a block that is not here has its own options and place
SETTINGS: dict[str, dict[str, Any]] = {
    **{
        name: {"options": {"reduction": REDUCTION}}
        for name in ("se", "cbam", "bam", "context", "feature_gate")
    },
    # On maps of 32×32, weights over all positions are a million an image and head.
    "qkv": {"stages": (2, 3)},
    "nonlocal": {"stages": (2,)},
    "selfattention": {"stages": (3,)},
    "local": {"stages": (3,), "options": {"kernel_size": 3}},
    # Chosen by a search on held-out images, before its first test (notebook 10).
    "hybrid": {
        "options": {
            "channel": "mlp", "spatial": "position", "combine": "product",
            "pool": "dot product", "mixing": None, "residual": True, "reduction": REDUCTION,
        },
        "at": "residual",
    },
}  # fmt: skip
