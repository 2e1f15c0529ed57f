"""Exercises of the notebooks 08 to 10: own images, ablations, the comparison."""

import math
from collections.abc import Callable

import numpy as np
import pandas as pd
import torch
from statsmodels.stats.multitest import multipletests
from torch import nn

from attention.blocks import SE, SPACE, Hybrid
from attention.cost import parameters
from attention.exercises.ask import exercise, numbers_by_digest
from attention.exercises.probes import expect_block, keeps_shape, same, the_map
from attention.explain import capture
from attention.study import grids
from attention.training import compared

numbers_by_digest(
    "08.1",
    "two numbers in percent: the accuracy, and the balanced accuracy",
    "One counts pictures. The other is the mean of two recalls.",
    ["07e9ed61ad2c", "be9769d732e5"],
    step=0.1,
)
numbers_by_digest(
    "08.2",
    "four weights",
    "Which share of the 1,000 belongs to a class, and how many pictures have to share it?",
    ["496a8a5510e5", "c7a874bc73bf", "d13c6a013881", "112e3a6aed54"],
    step=0.005,
)
numbers_by_digest(
    "08.3",
    "a whole number",
    "Notebook 3 has the formula without biases; and what does start='identity' add to a block?",
    ["e9cf759b8fc9"],
)


@exercise(
    "08.4",
    "a function of (answers, labels, number of classes) that gives two tensors, recall and "
    "precision of every class",
    "A confusion matrix: which sum runs over a row, which over a column? What is 0 of 0?",
)
def recall_and_precision(function: Callable) -> str | None:
    for count in (3, 6):
        labels, answers = torch.randint(0, count, (2, 60))
        answers[answers == 1] = 0  # a class that is never answered: precision 0, not nan
        table = torch.zeros(count, count)
        for label, answer in zip(labels, answers, strict=True):
            table[label, answer] += 1
        recall, precision = function(answers, labels, count)
        if not same(torch.as_tensor(recall).float(), table.diag() / table.sum(1)):
            return "the recalls are others: of the pictures of a class, how many are found?"
        if not same(torch.as_tensor(precision).float(), table.diag() / table.sum(0).clamp(min=1)):
            return (
                "the precisions are others: of the answers for a class, how many are right? "
                "(0 for a class that is never answered)"
            )
    return None


@exercise(
    "08.5",
    "a class: Gentle(block) is a module around any block",
    "From x to block(x) there is a straight way, and a learned number says how far to go on it. "
    "Where must it start, and what is its gradient there?",
)
def starts_as_the_identity(cls: Callable) -> str | None:
    inner, x = SE(16), torch.randn(4, 16, 5, 5)
    gentle = cls(inner)
    if not torch.equal(gentle(x), x):
        return "before any training it changes what goes through it"
    if parameters(gentle) != parameters(inner) + 1:
        return f"it adds {parameters(gentle) - parameters(inner)} parameters to the block"
    gentle(x).square().sum().backward()
    gains = [p for p in gentle.parameters() if all(p is not other for other in inner.parameters())]
    if len(gains) != 1 or gains[0].grad is None or not float(gains[0].grad.abs()):
        return "at the start nothing tells the gain in which direction to go"
    with torch.no_grad():
        gains[0].fill_(1)
    return None if same(gentle(x), inner(x)) else "with a gain of 1 it is not the block"


@exercise(
    "08.6",
    "a function of two tensors of bools, what A and what B got right of the same pictures, that "
    "gives (low, high) in percentage points",
    "Draw pictures with replacement, the same for A and B, a thousand times; then two quantiles.",
)
def paired_interval(function: Callable) -> str | None:
    for count, shared in ((400, 0.9), (400, 0.0)):
        a = torch.rand(count) < 0.8
        b = torch.where(torch.rand(count) < shared, a, torch.rand(count) < 0.75)
        gaps = 100 * (a.double() - b.double())
        middle, half = float(gaps.mean()), 1.96 * float(gaps.std()) / math.sqrt(count)
        low, high = (float(value) for value in function(a, b))
        if not low < high:
            return f"its interval goes from {low:.2f} to {high:.2f}"
        if abs(low - middle + half) > 0.35 * half or abs(high - middle - half) > 0.35 * half:
            return (
                f"for two networks that differ by {middle:.1f} points it gave {low:.1f} to "
                f"{high:.1f}, which is not what drawing the pictures again gives for A minus B"
            )
    return None


numbers_by_digest(
    "09.1",
    "a probability, to two decimals",
    "What is the probability that none of the twenty comes out?",
    ["5759cb39d361"],
    step=0.01,
)
numbers_by_digest(
    "09.2",
    "two whole numbers: the seeds for one comparison, and for one of 20",
    "help(attention.results.power.seeds_needed)",
    ["9608247765e4", "a1a03202c7d6"],
)


@exercise(
    "09.3",
    "a module for 32 channels, made of two blocks of this package",
    "nn.Sequential puts one block behind the other. Which comes first?",
)
@torch.no_grad()
def positions_then_channels(block: nn.Module) -> str | None:
    block = expect_block(block)
    reference = Hybrid(32, channel="conv", spatial="position", combine="spatial first", pool=None,
                       mixing=None, residual=False).eval()  # fmt: skip
    mine, theirs = list(block.parameters()), list(reference.parameters())
    if sorted(p.numel() for p in mine) != sorted(p.numel() for p in theirs):
        return f"it has {parameters(block)} parameters; 1×1 and kernel 3 have {32 + 3}"
    for number in {p.numel() for p in theirs}:
        value = torch.randn(number)
        for parameter in (*mine, *theirs):
            if parameter.numel() == number:
                parameter.data = value.reshape(parameter.shape)
    x = torch.randn(3, 32, 7, 5)
    return None if same(block(x), reference(x)) else "its output is another; mind the order"


@exercise(
    "09.4",
    "a function of a list of p-values that gives the corrected ones, in the same order",
    "The smallest p is multiplied by how many, the next by how many? No corrected p is smaller "
    "than that of a smaller p, and none is above 1.",
)
def is_holm(function: Callable) -> str | None:
    for p in ([0.01, 0.04], [0.04, 0.001, 0.03, 0.03, 0.8], [0.5, 0.4, 0.3], [0.02]):
        wanted = multipletests(p, method="holm")[1]
        given = np.asarray(function(p), dtype=float)
        if given.shape != wanted.shape or not np.allclose(given, wanted, atol=1e-9):
            return f"for {p} it gave {given.round(3).tolist()}"
    return None


@exercise(
    "09.5",
    "a module for 64 channels with 64 parameters and an attention.Gate('channel')",
    "A logit for each channel that is learned and that nothing computes.",
)
def is_the_control(block: nn.Module) -> str | None:
    block = expect_block(block)
    if fault := keeps_shape(block, 64):
        return fault
    if parameters(block) != 64:
        return f"it has {parameters(block)} parameters"
    for parameter in block.parameters():
        nn.init.normal_(parameter)
    one, other = (the_map(block, torch.randn(3, 64, 5, 5), "channel") for _ in range(2))
    if not same(one[:1].expand_as(other), other):
        return "its weights change with the picture: then it is no control"
    if float(one.std()) < 0.05:
        return "all its channels get the same weight, whatever is learned"
    x = torch.randn(3, 64, 5, 5)
    return None if same(block(x), x * one[:1]) else "its output is not x times its map"


numbers_by_digest(
    "10.1",
    "a number of points, to two decimals",
    "Draw ten numbers with this standard deviation, keep the largest, do it very often.",
    ["0a0ce708aa21"],
    step=0.02,
)
numbers_by_digest(
    "10.2",
    "three numbers, to two decimals: the mean difference, and its interval from low to high",
    "Subtract seed by seed first. The interval is ± t · s/√n; t of 4 degrees of freedom is 2.776.",
    ["9f17185c7af7", "c062bcdba894", "4fcf4b168143"],
    step=0.01,
)


@exercise(
    "10.3",
    "a function of a table with the columns accuracy and cost that gives a list of names",
    "Who is left out? The one for whom another is at least as good in both, and better in one.",
)
def is_the_front(function: Callable) -> str | None:
    rng = np.random.default_rng(0)
    for count in (6, 12):
        table = pd.DataFrame(
            {"accuracy": rng.integers(60, 70, count), "cost": rng.integers(1, 8, count)},
            index=[f"network {number}" for number in range(count)],
        )
        wanted = {
            name for name, row in table.iterrows()
            if not ((table.accuracy >= row.accuracy) & (table.cost <= row.cost)
                    & ((table.accuracy > row.accuracy) | (table.cost < row.cost))).any()
        }  # fmt: skip
        given = set(function(table))
        if given - wanted:
            return f"it names {len(given - wanted)} that another beats"
        if wanted - given:
            return f"it leaves out {len(wanted - given)} that nobody beats"
    return None


@exercise(
    "10.4",
    "a dict with a key for each choice of attention.blocks.SPACE",
    "grids.candidates() lists what was tried, with the place of each.",
)
def was_not_tried(options: dict) -> str | None:
    if set(options) != set(SPACE):
        return f"its keys are {', '.join(map(str, options))}"
    Hybrid(16, **options)
    if options in [candidate for candidate, _ in grids.candidates()]:
        return "the search has tried this one"
    return None


@exercise(
    "10.5",
    "a class: Mine(channels) is an attention block, for any number of channels",
    "Begin with a block of an earlier exercise. Its map leaves through an attention.Gate, so that "
    "capture sees it.",
)
def may_enter(cls: Callable) -> str | None:
    for channels in (16, 64):
        block = expect_block(cls(channels))
        if fault := keeps_shape(block, channels):
            return fault
        opponent = parameters(SE(channels, **compared("se").options))
        if parameters(block) > 2 * opponent:
            return (
                f"for {channels} channels it has {parameters(block)} parameters; SE, as it is "
                f"compared, has {opponent}, and twice as many are allowed"
            )
        for parameter in block.parameters():
            nn.init.uniform_(parameter, 0, 0.1)  # no ReLU is silent, no gain is at 0
        x = torch.rand(4, channels, 6, 6)
        with torch.no_grad(), capture(block) as maps:
            block(x)
        if all(float(one.cat().std(0).mean()) < 1e-6 for one in maps.values()):
            return "its map is the same for every picture"
    return None
