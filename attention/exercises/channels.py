"""Exercises of the notebooks 00 to 02: a gate, squeeze and excitation, ECA."""

from collections.abc import Callable

import torch
from torch import nn

from attention.blocks import SE
from attention.cost import parameters
from attention.exercises.ask import exercise, letters_by_digest, numbers_by_digest
from attention.exercises.probes import (
    channel_gates,
    expect_block,
    keeps_shape,
    reach,
    same,
    the_map,
)
from attention.networks import insert, resnet

numbers_by_digest(
    "00.1",
    "one logit, to two decimals",
    "Solve weight = σ(ℓ) for ℓ; the inverse of the sigmoid is called the logit function.",
    ["5accd425c4a4"],
    step=0.01,
)
numbers_by_digest(
    "00.2",
    "two numbers, to three decimals: for x · m, and for x · (1 + m)",
    "Follow the 3 through one block after the other; what does each multiply it by?",
    ["ff65485ca750", "d9364c641e82"],
    step=0.001,
)


@exercise(
    "00.3",
    "torchvision's resnet18 with SE blocks in its last stage and nowhere else",
    "help(attention.insert) says how stages are counted and named.",
)
def se_in_the_last_stage(network: nn.Module) -> str | None:
    placed = getattr(network, "placements", None)
    if not placed:
        return "no block was inserted into this network"
    where = sorted({place.path.split(".")[0] for place in placed})
    if where != ["layer4"]:
        return f"there are blocks in {', '.join(where)}"
    if not all(isinstance(network.get_submodule(place.path), SE) for place in placed):
        return "the blocks are no SE blocks"
    return None


@exercise(
    "00.4",
    "a function of (network, images) that gives a float",
    "capture gives a dict; what .cat() gives of each of its values is a tensor with the weights.",
)
def the_smallest_weight(function: Callable) -> str | None:
    for block in ("se", "eca"):
        network = insert(resnet(8, width=8), block).eval()
        images = torch.randn(5, 3, 32, 32)
        lowest = min(float(weights.min()) for weights in channel_gates(network, images))
        given = float(function(network, images))
        if abs(given - lowest) > 1e-5:
            return f"of a network with {block} it gave {given:.4f}, and a gate gave {lowest:.4f}"
    return None


@exercise(
    "00.5",
    "a module with an attention.Gate('spatial') in it, for maps of 8 channels",
    "Which logit is above 0 exactly where the mean over channels is?",
)
def opens_where_the_mean_is_positive(block: nn.Module) -> str | None:
    block = expect_block(block)
    if fault := keeps_shape(block, 8):
        return fault
    x = torch.randn(3, 8, 6, 5)
    weights, mean = the_map(block, x, "spatial"), x.mean(1, keepdim=True)
    if weights.shape != mean.shape:
        return f"its map is {tuple(weights.shape)}; one weight a position is {tuple(mean.shape)}"
    wrong = int(((weights > 0.5) != (mean > 0)).sum())
    if wrong:
        return f"at {wrong} of {mean.numel()} positions the weight is on the wrong side of ½"
    return None if same(block(x), x * weights) else "its output is not x times its map"


numbers_by_digest(
    "01.1",
    "a whole number",
    "Two matrices; how many rows and columns has each, and how many outputs get a bias?",
    ["a5a80ea03a1f"],
)
numbers_by_digest(
    "01.2",
    "four weights, to two decimals: two for the first image, two for the second",
    "What does the ReLU do to the hidden number of the second image?",
    ["916f6d8ad01a", "b1e37c363824", "5ece65c2238f", "ae85b9d7831c"],
    step=0.01,
)


@exercise(
    "01.3",
    "a function of (block, x) that gives a tensor (N, C)",
    "Equations 2 to 4, one after the other; mind what stands between the two layers.",
)
def the_weights_of_se(function: Callable) -> str | None:
    for channels in (8, 32):
        x, block = torch.randn(3, channels, 5, 4), SE(channels, reduction=4)
        with torch.no_grad():
            given = function(block, x)
            if given.shape != (3, channels):
                return f"for 3 images of {channels} channels its shape is {tuple(given.shape)}"
            if not same(given, the_map(block, x, "channel").flatten(1)):
                return "these are not the weights that the block's own gate gives"
    return None


@exercise(
    "01.4",
    "an attention block, a module for 32 channels",
    "One line of ScratchSE changes; the class around it stays.",
)
def squeezes_by_the_maximum(block: nn.Module) -> str | None:
    block = expect_block(block)
    if fault := keeps_shape(block, 32):
        return fault
    x = torch.rand(2, 32, 6, 6) + 0.5
    peak = x == x.amax((2, 3), keepdim=True)
    hushed = torch.where(peak, x, x / 2)  # the same maxima, other averages
    for parameter in block.parameters():
        nn.init.uniform_(parameter, 0, 0.1)  # positive, so that no ReLU is silent
    with torch.no_grad():
        given, again, louder = block(x), block(hushed), block(2 * x)
        if not same(given / x, (given / x).mean((2, 3), keepdim=True).expand_as(x)):
            return "it does not multiply a whole channel by one weight"
        if not same(given[peak], again[peak]):
            return "the weights change when the averages do, though the maxima stay"
        if same(given / x, louder / (2 * x)):
            return "the weights do not change when the maxima do"
    return None


@exercise(
    "01.5",
    "a function of a block that changes its weights and gives it back",
    "What must the second layer put out so that the sigmoid gives ¾, and how does it stop "
    "listening to the first?",
)
def is_constant_at_three_quarters(function: Callable) -> str | None:
    block = SE(64)
    changed = function(block)
    if not isinstance(changed, SE) or parameters(changed) != parameters(SE(64)):
        return "what it gives back is no SE block for 64 channels"
    weights = the_map(changed, 3 * torch.randn(4, 64, 5, 5), "channel")
    if not same(weights, torch.full_like(weights, 0.75), 1e-4):
        return f"on four images its weights go from {weights.min():.2f} to {weights.max():.2f}"
    return None


@exercise(
    "01.6",
    "a module for 64 channels with an attention.Gate('channel') and fewer parameters than SE(64)",
    "Besides the mean, what can be said of the numbers of a channel whatever their order is?",
)
def sees_more_than_the_average(block: nn.Module) -> str | None:
    block = expect_block(block)
    if fault := keeps_shape(block, 64):
        return fault
    if parameters(block) >= parameters(SE(64)):
        return f"it has {parameters(block)} parameters, SE(64) has {parameters(SE(64))}"
    x = torch.randn(4, 64, 6, 6)
    stronger = x.mean((2, 3), keepdim=True) + 3 * (x - x.mean((2, 3), keepdim=True))
    weights = the_map(block, x, "channel")
    if weights.shape[:2] != (4, 64) or weights.numel() != 4 * 64:
        return f"its map is {tuple(weights.shape)}; one weight a channel and image is (4, 64, 1, 1)"
    if (weights - the_map(block, stronger, "channel")).abs().mean() < 1e-3:
        return "two images of the same averages, one of three times the contrast, get the same"
    moved = x.flatten(2)[:, :, torch.randperm(36)].view_as(x)
    if not same(weights, the_map(block, moved, "channel"), 1e-4):
        return "the weights change when the positions are shuffled: it knows where"
    return None


numbers_by_digest(
    "02.1",
    "a whole number of channels",
    "Turn equation 12 around: how large must the logarithm be? Mind the numbers halfway.",
    ["12715d0bce8f"],
)
numbers_by_digest(
    "02.2",
    "a whole number",
    "Every block has one kernel and no bias; how long is it in each of the four stages?",
    ["73fe5c058194"],
)
numbers_by_digest(
    "02.3",
    "four weights, to two decimals",
    "Beyond both ends stands a zero. Conv1d does not turn its kernel around.",
    ["2d93919db5ea", "75aad2a45049", "54b61a221c36", "d5a75b912920"],
    step=0.01,
)
letters_by_digest(
    "02.4",
    "letters, as a string",
    "Write the weight of a channel down as a formula. What in it belongs to this channel alone?",
    "63a3f42826fb",
)


@exercise(
    "02.5",
    "a module for 16 channels with 3 parameters",
    "Where do the zeros beyond both ends come from, and what else could stand there? "
    "help(torch.nn.Conv1d)",
)
def closes_the_circle(block: nn.Module) -> str | None:
    block = expect_block(block)
    if fault := keeps_shape(block, 16):
        return fault
    if parameters(block) != 3:
        return f"it has {parameters(block)} parameters"
    x = torch.randn(2, 16, 5, 5)
    with torch.no_grad():
        for by in (1, 5):
            if not same(block(x.roll(by, 1)), block(x).roll(by, 1)):
                return f"when all channels move on by {by} in the circle, the output does not"
    seen = reach(lambda x: block(x).mean((2, 3)), x, (0, 0)).amax((0, 2, 3)) > 0
    if seen.nonzero().flatten().tolist() != [0, 1, 15]:
        return f"channel 0 depends on the channels {seen.nonzero().flatten().tolist()}"
    return None


@exercise(
    "02.6",
    "a module for 64 channels with an attention.Gate('channel') and at most 16 parameters",
    "A sum over all channels has no order. What may a weight be made of besides it?",
)
def has_no_order_and_sees_all(block: nn.Module) -> str | None:
    block = expect_block(block)
    if fault := keeps_shape(block, 64):
        return fault
    if parameters(block) > 16:
        return f"it has {parameters(block)} parameters"
    for parameter in block.parameters():  # a start at 0 would hide what it can learn
        nn.init.uniform_(parameter, 0.5, 1)
    x, order = torch.randn(3, 64, 5, 5), torch.randperm(64)
    weights = the_map(block, x, "channel")
    if not same(the_map(block, x[:, order], "channel"), weights[:, order]):
        return "numbering the channels differently changes the weights"
    if float(weights.std(1).mean()) < 1e-3:
        return "all channels of an image get the same weight"
    listens = reach(lambda x: block(x).mean((2, 3)), x, (0, 5)).amax((2, 3))[0] > 0
    if not listens.all():
        return f"the weight of a channel depends on {int(listens.sum())} of the 64 channels"
    return None
