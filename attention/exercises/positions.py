"""Exercises of the notebooks 03 to 05: CBAM, BAM, spatial gates."""

from collections.abc import Callable

import torch
from torch import nn

from attention.blocks import BAM, CBAM, SSE, DotProductGate, SpatialGate
from attention.cost import flops, parameters
from attention.exercises.ask import exercise, numbers_by_digest
from attention.exercises.probes import expect_block, keeps_shape, reach, same, the_map
from attention.explain import capture

numbers_by_digest(
    "03.1",
    "a whole number",
    "Two matrices without biases, and a window over how many pooled maps?",
    ["c5f3dda9dbbd"],
)
numbers_by_digest(
    "03.2",
    "two weights, to two decimals",
    "The mean and the maximum of each position first; then the two numbers of the kernel.",
    ["1562e3d7c88e", "1c3649fd3482"],
    step=0.01,
)


@exercise(
    "03.3",
    "an attention block, a module for 32 channels, made of CBAM's two gates",
    "What does the forward of attention/blocks/cbam.py do, line by line?",
)
@torch.no_grad()
def spatial_comes_first(block: nn.Module) -> str | None:
    block = expect_block(block)
    if parameters(block) != parameters(CBAM(32)):
        return f"it has {parameters(block)} parameters, CBAM has {parameters(CBAM(32))}"
    for weight in block.parameters():
        nn.init.uniform_(weight, 0, 0.1)  # positive, so that no ReLU is silent
    reference = CBAM(32)
    reference.load_state_dict(block.state_dict())
    x = torch.rand(2, 32, 6, 6)
    where = x * reference.spatial_gate(reference.spatial(x))
    if same(block(x), where * reference.channel_gate(reference.channel(where))):
        return None
    if same(block(x), reference(x)):
        return "this is CBAM as published, channels first"
    return "its output is not that of the spatial gate followed by the channel gate"


@exercise(
    "03.4",
    "a spatial gate, a module for 32 channels",
    "help(attention.SpatialGate) names the two arguments.",
)
@torch.no_grad()
def only_the_maximum(block: nn.Module) -> str | None:
    block, x = expect_block(block), torch.rand(2, 32, 6, 6)
    peak = x == x.amax(1, keepdim=True)
    hushed = torch.where(peak, x, x / 2)  # the same maxima over channels, other averages
    if parameters(block) != 9:
        return f"it has {parameters(block)} parameters; how many has one 3×3 window?"
    if not same(block(x)[peak], block(hushed)[peak]):
        return "its map changes when the averages do, though the maxima stay"
    return None


@exercise(
    "03.5",
    "a spatial gate, a module for 32 channels with at most 98 parameters",
    "What does a position at the border read where there is no neighbour? help(torch.nn.Conv2d) "
    "knows other ways to fill in.",
)
def has_no_border(block: nn.Module) -> str | None:
    block = expect_block(block)
    if fault := keeps_shape(block, 32):
        return fault
    if parameters(block) > 98:
        return f"it has {parameters(block)} parameters"
    for weight in block.parameters():
        nn.init.uniform_(weight, 0.01, 0.05)
    blank = torch.full((1, 32, 9, 9), 0.5)
    weights = the_map(block, blank, "spatial")
    if float(weights.max() - weights.min()) > 1e-5:
        return (
            f"on a blank picture its weights go from {weights.min():.3f} to {weights.max():.3f}, "
            "so it still draws a pattern that is not in the picture"
        )
    seen = reach(lambda x: block(x).sum(1), torch.rand(1, 32, 9, 9), (0, 4, 4)).sum(1)[0] > 0
    return None if int(seen.sum()) > 1 else "a position looks at itself alone, at no neighbour"


@exercise(
    "03.6",
    "a function of maps (N, 1, H, W) that gives a number from 0 to 1",
    "The variance of all weights is that of the mean map and that around it. Divide by N, not N−1.",
)
def share_of_own_pattern(function: Callable) -> str | None:
    fixed = torch.rand(1, 1, 7, 7).expand(40, 1, 7, 7)
    if abs(float(function(fixed))) > 1e-4:
        return f"of 40 times the same map it gave {float(function(fixed)):.3f}; nothing is its own"
    own = torch.rand(40, 1, 7, 7)
    for weight in (0.2, 1.0, 3.0):
        maps = (fixed + weight * own).double()
        around = (maps - maps.mean(0)).square().mean()
        wanted = float(around / (maps - maps.mean()).square().mean())
        if abs(float(function(maps)) - wanted) > 1e-3:
            return "for maps of which a part changes from picture to picture the share is another"
    return None


numbers_by_digest(
    "04.1",
    "two whole numbers: the side, and how many positions are read",
    "Draw the positions that the last 3×3 reads in one row, then what those read.",
    ["205712aa957c", "85cdfc5f5520"],
)
numbers_by_digest(
    "04.2",
    "three numbers, to two decimals: the paper's BAM, the released BAM, CBAM's two gates",
    "One sigmoid over both logits, or one for each? And where is the 1 +?",
    ["9a8b07c5421e", "3f1335e77d6f", "c59b051c5b14"],
    step=0.01,
)


@exercise(
    "04.3",
    "an attention block, a module for 32 channels, with the branches of the paper's BAM",
    "Which line of the forward in attention/blocks/bam.py makes the sum?",
)
@torch.no_grad()
def is_the_missing_bam(block: nn.Module) -> str | None:
    block, x = expect_block(block), torch.randn(2, 32, 6, 5)
    if parameters(block) != parameters(BAM(32)):
        return f"it has {parameters(block)} parameters, the paper's BAM has {parameters(BAM(32))}"
    with capture(block, scores=True) as maps:
        out = block(x)
    one, two = (found.cat() for path, found in maps.items() if path != "gate")
    if same(out, x * (1 + (one + two).sigmoid())):
        return "this is the sum, as the paper has it"
    wanted = x * (1 + (one * two).sigmoid())
    return None if same(out, wanted) else "its output is not x · (1 + σ(Mc · Ms))"


@exercise(
    "04.4",
    "a tensor (2, 2), a row a channel and a column a position",
    "Of a sum a + b: by how much do the two rows differ in each column? And of a product a · b?",
)
def a_product_and_no_sum(table: torch.Tensor) -> str | None:
    (a, b), (c, d) = torch.as_tensor(table).double().tolist()
    if abs(a * d - b * c) > 1e-6:
        return "no product of a number a channel and a number a position gives this table"
    if abs((a - c) - (b - d)) < 1e-3:
        return "a sum of a number a channel and a number a position gives this table as well"
    return None


@exercise(
    "04.5",
    "a module for 32 channels with an attention.Gate('both') and at most 200 parameters",
    "Two small scores of earlier notebooks broadcast to one another when they are added.",
)
def both_without_the_batch(block: nn.Module) -> str | None:
    if fault := keeps_shape(expect_block(block), 32):
        return fault
    if parameters(block) > 200:
        return f"it has {parameters(block)} parameters"
    x = torch.randn(3, 32, 6, 6)
    weights = the_map(block, x, "both")
    if weights.shape != x.shape:
        return f"its map is {tuple(weights.shape)}; a weight for each number is {tuple(x.shape)}"
    if not same(block(x), x * (1 + weights)):
        return "its output is not x · (1 + map)"
    for what, over in (("channel", 1), ("position", (2, 3))):
        if float(weights.std(over).mean()) < 1e-4:
            return f"its weights do not change from {what} to {what}"
    block.train()
    with torch.no_grad():
        if not same(block(x)[:1], block(x[:1])):
            return "in training mode an image's answer depends on the other images of the batch"
    return None


numbers_by_digest(
    "05.1",
    "two whole numbers: the factor of sSE's arithmetic, and that of the number of weights",
    "How many positions has a map of three times the side, and how many pairs of positions?",
    ["d1df48071ec1", "427a3a0c1b39"],
)
numbers_by_digest(
    "05.2",
    "a whole number",
    "Query and key have C/r outputs each, the value one; all three have biases.",
    ["b08fe7c74804"],
)


@exercise(
    "05.3",
    "a spatial gate, a module for 32 channels",
    "Two scores that were built above, both modules; the sum stands before the sigmoid.",
)
@torch.no_grad()
def looks_at_both(block: nn.Module) -> str | None:
    block, x = expect_block(block), torch.randn(2, 32, 6, 5)
    wanted = parameters(SSE(32)) + parameters(SpatialGate(32))
    if parameters(block) != wanted:
        return f"it has {parameters(block)} parameters; the two scores together have {wanted}"
    with capture(block, scores=True) as maps:
        out = block(x)
    scores = [one.cat() for path, one in maps.items() if path != "gate"]
    if len(scores) != 2:
        return f"{len(scores)} scores were seen at work in it"
    return None if same(out, x * sum(scores).sigmoid()) else "its output is not x · σ(sum)"


@exercise(
    "05.4",
    "an attention.DotProductGate(32) with some of its weights changed",
    "When is q · k the same for every k?",
)
def asks_all_alike(block: nn.Module) -> str | None:
    if not isinstance(block, DotProductGate):
        return "this is no DotProductGate"
    weights = the_map(expect_block(block), 3 * torch.randn(2, 32, 6, 5), "positions")
    if same(weights, torch.full_like(weights, 1 / 30)):
        return None
    return f"of 30 positions one gets {weights.min():.3f} and another {weights.max():.3f}"


@exercise(
    "05.5",
    "a function of (block, x) that gives a number: 0 if places mean nothing to the block",
    "Shuffle the positions, let the block work, put them back. What should have come out?",
)
def whether_places_matter(function: Callable) -> str | None:
    x = torch.randn(2, 32, 6, 6)
    with torch.no_grad():
        for block, matters in ((SSE(32), False), (DotProductGate(32), False),
                               (SpatialGate(32), True), (CBAM(32), True)):  # fmt: skip
            given = float(function(block.eval(), x))
            if (abs(given) > 1e-4) != matters:
                name = type(block).__name__
                return f"for {name} it gave {given:.5f}"
    return None


@exercise(
    "05.6",
    "a module for 32 channels with an attention.Gate('spatial') and at most 66 parameters",
    "One summary of the whole map, made once, that every position is compared with or given.",
)
def sees_all_and_stays_cheap(block: nn.Module) -> str | None:
    block = expect_block(block)
    if fault := keeps_shape(block, 32):
        return fault
    if parameters(block) > 66:
        return f"it has {parameters(block)} parameters"
    for weight in block.parameters():  # a start at 0 would hide what it can learn
        nn.init.uniform_(weight, -0.2, 0.2)
    weights = the_map(block, torch.randn(2, 32, 8, 8), "spatial")
    if weights.shape != (2, 1, 8, 8) or float(weights.std((2, 3)).min()) < 1e-4:
        return "its weights do not differ from position to position"
    seen = reach(lambda x: block(x).sum(1), torch.randn(1, 32, 8, 8), (0, 0, 0)).sum(1)[0] > 0
    if not seen.all():
        return f"a corner's weight depends on {int(seen.sum())} of 64 positions"
    small, large = (flops(block, (1, 32, side, side)) for side in (8, 32))
    if large > 24 * small:  # 16 times the positions
        return f"on 16 times the positions it computes {large / small:.0f} times as much"
    return None
