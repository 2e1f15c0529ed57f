"""`compared` gives the runs that are compared: one network and one recipe for every block."""

from collections.abc import Callable
from typing import Any

from torch import nn

from attention.networks import NETWORK, SETTINGS
from attention.settings import profile
from attention.training.run import Run

# Without a convolution's ties to its neighbours they learn more slowly, and get more epochs.
TRANSFORMERS = {
    "smoke": {"width": 32, "epochs": 1},
    "quick": {"width": 64, "epochs": 30},
    "full": {"width": 192, "epochs": 100},
}


def compared(
    block: str | Callable[..., nn.Module] | None = None,
    seed: int = 0,
    network: str = NETWORK,
    **changes: Any,
) -> Run:
    """The run of a block or pooling, or of the network without one (None), as all are compared.

    compared("se")      compared("cbam", seed=1)      compared(MyBlock)      compared(network="vit")

    In the CIFAR ResNet-20, in the place of the block's paper, with hidden layers of a quarter of
    the channels, and by the network's recipe, for as many epochs as the profile sets. Blocks whose
    weights go from every position to every other stand on the small maps of the later stages. The
    transformers ("vit", "convvit") are trained longer. changes: arguments of `Run` that are to be
    others; they replace what is set here, options as a whole.
    """
    setting = SETTINGS.get(block, {}) if isinstance(block, str) else {}
    setting = setting | (TRANSFORMERS[profile()] if network in ("vit", "convvit") else {})
    return Run(**{"network": network, "block": block, "seed": seed, **setting, **changes})
