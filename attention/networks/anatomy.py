"""Where a network has its stages, its residual branches and its pooling: the one place that knows.

Networks are known by their parts and not by their class, so that those of other libraries, and
networks of one's own that are built alike, are known too:

    this package's       stages of `Residual` blocks, pool
    ResNet, ResNeXt      layer1 to layer4 of blocks whose branch ends with conv2, bn2 or conv3, bn3
    RegNet               trunk_output (torchvision), s1 to s4 (timm)
    ConvNeXt, ResNet v2  stages (timm)
    DenseNet             features.denseblock1 to denseblock4
    VGG, MobileNet, EfficientNet, torchvision's ConvNeXt: features, or timm's blocks: parts in a
                         row, of which those whose maps have one size are one stage
    detection, segmentation: any of them as `backbone`, `body` or `encoder`
"""

from torch import nn

from attention.networks.example import Maps, Observed, Shape, observe
from attention.networks.places import Place, bare
from attention.networks.resnet import Network, Residual

# Places of a residual block, after figure 5 of Hu et al. 2018 (in its version of 2019).
RESIDUAL_PLACES = ("residual", "pre", "post", "identity")
PLACES = (*RESIDUAL_PLACES, "stage", "pool")
TRUNKS = ("backbone", "body", "encoder")
POOLS = ("pool", "avgpool", "global_pool", "head.global_pool")


def stages(network: nn.Module, observed: Observed | None = None) -> list[nn.Module]:
    """What gives the maps at the end of each stage, first to last.

    observed: of an example, where there is one already. A ValueError for a network that is built
    in another way than those that are known.
    """
    return [stage[-1] for stage in groups(network, observed)]


def groups(network: nn.Module, observed: Observed | None = None) -> list[list[nn.Module]]:
    """The modules of each stage, first to last; see `stages`."""
    known, row = anatomy(network)
    if known:
        return [[stage] for stage in known]
    if found := _by_size(row, observed or observe(network)):
        return found
    raise ValueError(_unknown(network))


def anatomy(network: nn.Module) -> tuple[list[nn.Module], list[nn.Module]]:
    """The stages of a network, where each has a name; else the row of parts that make them.

    A ValueError for a network that has neither.
    """
    trunk = network
    while isinstance(trunk, nn.Module):
        known, row = _listed(trunk), _row(trunk)
        if known or row:
            return known, row
        trunk = next((getattr(trunk, name) for name in TRUNKS if hasattr(trunk, name)), None)
    raise ValueError(_unknown(network))


def _unknown(network: nn.Module) -> str:
    return (
        "network must be of a kind whose stages are known (this package's; torchvision's or timm's "
        "ResNet, RegNet, MobileNet, EfficientNet, ConvNeXt, VGG, DenseNet; or one with such a "
        "backbone); in any other, after='…' names the modules that blocks shall follow; got "
        f"{type(network).__name__}"
    )


def _listed(trunk: nn.Module) -> list[nn.Module]:
    """The stages of a network that has a name for each; [] if it has none."""
    features = getattr(trunk, "features", None)
    if isinstance(features, nn.Module):
        dense = [part for name, part in features.named_children() if "denseblock" in name]
        if dense:
            return dense
    for names in (("layer1", "layer2", "layer3", "layer4"), ("s1", "s2", "s3", "s4")):
        found = [getattr(trunk, name, None) for name in names]
        if all(isinstance(stage, nn.Module) and branches(stage) for stage in found):
            return found
    for name in ("stages", "trunk_output"):
        row = getattr(trunk, name, None)
        if isinstance(row, nn.Sequential | nn.ModuleList):
            found = list(row.children())
            if isinstance(trunk, Network) or (found and all(map(branches, found))):
                return found
    return []


def _row(trunk: nn.Module) -> list[nn.Module]:
    """The parts of a network that are called one after the other; [] if they are not known."""
    for name in ("features", "blocks"):
        row = getattr(trunk, name, None)
        if isinstance(row, nn.Sequential):
            return list(row.children())
    return list(trunk.children()) if isinstance(trunk, nn.ModuleDict) else []


def _by_size(row: list[nn.Module], observed: Observed) -> list[list[nn.Module]]:
    """Parts in a row, grouped by the size of their maps; those without a convolution left out."""
    found, last = [], None
    for part in row:
        calls = observed.get(part)
        if not calls or not isinstance(calls[-1].made, Shape) or len(calls[-1].made.extents) != 4:
            continue
        maps = observed.maps(part)
        extents = calls[-1].made.extents
        size = extents[1:3] if isinstance(maps, Maps) and maps.last else extents[2:]
        if size != last:
            found.append([])
        found[-1].append(part)
        last = size
    weighted = (nn.Conv2d, nn.Linear)
    return [s for s in found if any(isinstance(m, weighted) for p in s for m in p.modules())]


def branches(stage: nn.Module) -> list[nn.Module]:
    """The residual blocks in a stage, in order; [] if it has none that are known."""
    stage = bare(stage)
    if _residual(stage):
        return [stage]
    return [block for child in stage.children() for block in branches(child)]


def branch_place(block: nn.Module, at: str, parents: dict) -> Place | None:
    """The place `at`, one of `RESIDUAL_PLACES`, of a residual block; None if it has no such place.

    parents: {module: (its parent, its name there)}.
    """
    known = _residual(block)
    if at == "post" and known.get(at) == "":
        return Place(*parents[block])
    if at not in known:
        return None
    side = "ahead" if at == "pre" or known[at] == "drop_path" else "behind"
    return Place(block, known[at], side)


def _residual(block: nn.Module) -> dict[str, str]:
    """{place: slot} of a residual block; {} for what is none, or none that is known."""
    if isinstance(block, Residual):
        return {"residual": "attention", "pre": "branch", "post": "activation",
                "identity": "shortcut"}  # fmt: skip
    parts = list(block._modules)
    for conv, norm in (("conv3", "bn3"), ("conv2", "bn2")):
        if isinstance(bare(block._modules.get(conv)), nn.Conv2d):
            # a norm that stands before its convolution (ResNet v2) does not end the branch
            if norm not in parts[parts.index(conv) :]:
                break
            places = {"residual": norm}
            if "conv1" in parts and hasattr(block, "downsample"):
                places |= {"pre": "conv1", "post": "", "identity": "downsample"}
            return places
    if hasattr(block, "use_res_connect"):  # torchvision's MobileNet and EfficientNet
        slot = next((name for name in ("block", "conv") if name in parts), None)
        return {"residual": slot} if slot and block.use_res_connect else {}
    if {"block", "stochastic_depth"} <= set(parts):  # torchvision's ConvNeXt
        return {"residual": "block"}
    if {"f", "activation"} <= set(parts):  # torchvision's RegNet
        return {"residual": "f"}
    if "drop_path" in parts and getattr(block, "has_skip", True):  # timm's
        return {"residual": "drop_path"}
    return {}


def pool_place(network: nn.Module, observed: Observed) -> Place:
    """The network's global pooling, between its last maps and its classifier.

    A ValueError for a network that does not call such a part: a pooling put there would change
    nothing, or something else.
    """
    for path in POOLS:
        *parents, slot = path.split(".")
        owner = network
        for name in parents:
            owner = getattr(owner, name, None)
        if isinstance(getattr(owner, slot, None), nn.Module):
            place = Place(owner, slot, "instead")
            if _pools(observed, place):
                return place
    raise ValueError(
        "network must have a global pooling that can be replaced: a module called "
        f"{', '.join(POOLS[:-1])} or {POOLS[-1]}, which gets maps (N, C, H, W) of more than one "
        "position when the network runs, and gives a vector of C; got "
        f"{type(network).__module__}.{type(network).__name__}"
    )


def _pools(observed: Observed, place: Place) -> bool:
    """Whether what stands there makes one vector of each map, whatever the map's size."""
    maps = place.maps(observed)
    if not isinstance(maps, Maps) or maps.last:
        return False
    call = observed[place.part][-1]
    vector = (maps.channels,), (maps.channels, 1, 1)
    made = isinstance(call.made, Shape) and call.made.extents[1:] in vector
    return made and call.given.extents[2:] != (1, 1)


def last_stage(network: nn.Module) -> nn.Module | None:
    """What gives the last maps: of `stages`, or layer4 or features as torchvision has them.

    None for a network without such a part.
    """
    if isinstance(getattr(network, "stages", None), nn.Sequential):  # also timm's
        return network.stages[-1]
    for name in ("layer4", "features"):
        if isinstance(getattr(network, name, None), nn.Module):
            return getattr(network, name)
    return None
