"""A hybrid: one block for every point of the space that the scores span.

Which score for channels, which for positions, how the two combine, what pools before the channel
score, what mixes positions first: `SPACE` names the choices, `Hybrid` puts them together.
"""

from torch import nn

from attention.blocks.bam import SpatialBranch
from attention.blocks.cbam import PooledMLP, SpatialConv
from attention.blocks.combine import Parallel, Pooled, Product, Rescale, Sum
from attention.blocks.dot_product import DotProductScore
from attention.blocks.eca import ChannelConv
from attention.blocks.encoding import ContextEncoding
from attention.blocks.global_context import GlobalContext
from attention.blocks.non_local import NonLocal
from attention.blocks.pooling import AdditivePool, DotProductPool
from attention.blocks.se import ChannelMLP
from attention.blocks.sse import PositionConv
from attention.checks import one_of

SPACE = {
    "channel": {
        "mlp": ChannelMLP,  # SE
        "mlp avg+max": PooledMLP,  # CBAM
        "conv": ChannelConv,  # ECA
        "encoding": ContextEncoding,  # EncNet
        None: None,
    },
    "spatial": {
        "conv": SpatialConv,  # CBAM
        "position": PositionConv,  # sSE
        "dilated": SpatialBranch,  # BAM
        "dot product": DotProductScore,  # qkv
        None: None,
    },
    "combine": ("channel first", "spatial first", "parallel", "sum", "product"),
    "pool": {None: None, "additive": AdditivePool, "dot product": DotProductPool},
    "mixing": {None: None, "context": GlobalContext, "nonlocal": NonLocal},
    "residual": (False, True),
}
REDUCED = (ChannelMLP, PooledMLP, SpatialBranch, GlobalContext)  # what has a hidden layer


class Hybrid(nn.Sequential):
    """A channel score and a spatial score, combined; the names are those in `SPACE`.

    channel, spatial: the two scores; None leaves one out, not both.
    combine: "channel first" or "spatial first": two gates, one after the other (CBAM);
        "parallel": ½ (x · channel map + x · spatial map); "sum" or "product": of both scores under
        one gate (BAM).
    pool: what stands in place of the average over positions in front of the channel score; without
        a channel score it must be None.
    mixing: what mixes positions before the gates.
    residual: x · (1 + map) in place of x · map.
    reduction: by how much the hidden layers of the parts are smaller than the channels.

    The defaults won the search on held-out training images of CIFAR-10 (notebook 10), as they had
    won an earlier one in a smaller network (`Run`'s "fast" one). The space itself was written down
    when test results of its parents in that network, with one seed, were known.

    (N, C, H, W) → the same shape.
    """

    def __init__(
        self,
        channels: int,
        channel: str | None = "mlp",
        spatial: str | None = "position",
        combine: str = "product",
        pool: str | None = "dot product",
        mixing: str | None = None,
        residual: bool = True,
        reduction: int = 16,
    ) -> None:
        chosen = {"channel": channel, "spatial": spatial, "combine": combine, "pool": pool,
                  "mixing": mixing, "residual": residual}  # fmt: skip
        for name, value in chosen.items():
            one_of(name, value, SPACE[name])
        if channel is None and spatial is None:
            raise ValueError("channel and spatial must not both be None: that is no gate")
        if channel is None and pool is not None:
            raise ValueError(
                f"pool goes before a channel score, got pool={pool!r} (the default, if you gave "
                "none) with channel=None: give pool=None too"
            )
        scores = {}
        if channel is not None:
            score = _part("channel", channel, channels, reduction)
            scores["channel"] = (
                score if pool is None else Pooled(SPACE["pool"][pool](channels), score)
            )
        if spatial is not None:
            scores["spatial"] = _part("spatial", spatial, channels, reduction)
        mixers = [] if mixing is None else [_part("mixing", mixing, channels, reduction)]
        super().__init__(*mixers, *_gates(scores, combine, residual))


def _part(choice, name, channels, reduction):
    cls = SPACE[choice][name]
    return cls(channels, reduction) if cls in REDUCED else cls(channels)


def _gates(scores, combine, residual):
    """The modules that apply one or two scores, in the order in which x passes them."""
    if len(scores) == 2 and combine in ("sum", "product"):
        joint = Sum if combine == "sum" else Product
        return [Rescale(joint(**scores), residual)]
    gates = [Rescale(score, residual) for score in scores.values()]
    if combine == "spatial first":
        gates.reverse()
    return [Parallel(*gates)] if len(gates) == 2 and combine == "parallel" else gates
