"""Exercises of the notebook 06b: the vision transformer, and attention beyond classifying."""

from collections.abc import Callable

import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from attention.exercises.ask import exercise, numbers_by_digest
from attention.exercises.probes import expect_block, same, the_map

numbers_by_digest(
    "06b.1",
    "a number of MiB, to two decimals",
    "How many tokens are there with the class token, and how many weights has a head?",
    ["cb8c9d263e27"],
    step=0.01,
)
numbers_by_digest(
    "06b.2",
    "a whole number",
    "Four matrices, two in the MLP, each with a bias; a LayerNorm has two numbers a feature.",
    ["a3853ea1942e"],
)


@exercise(
    "06b.3",
    "a function of q, k and v, each (words, d), that gives (words, d)",
    "A logit of minus infinity is a weight of 0, and the others still add up to 1.",
)
def sees_two_words_back(function: Callable) -> str | None:
    q, k, v = 2 * torch.randn(3, 7, 16)
    given = function(q, k, v)
    later = [torch.cat([rows[:4], torch.randn(3, 16)]) for rows in (q, k, v)]
    if not same(function(*later)[:4], given[:4]):
        return "what the fourth word gets changes with the fifth"
    earlier = [torch.cat([torch.randn(1, 16), rows[1:]]) for rows in (q, k, v)]
    if not same(function(*earlier)[3:], given[3:]):
        return "what the fourth word gets changes with the first"
    seen = torch.ones(7, 7).tril().triu(-2).bool()
    wanted = nn.functional.scaled_dot_product_attention(q, k, v, seen)
    return None if same(given, wanted, 1e-4) else "it gives something else for what is not hidden"


@exercise(
    "06b.4",
    "a function of a list of matrices (T, T), first layer first, that gives one matrix (T, T)",
    "Half of a layer's output is its input. Which layer's matrix stands on the left of a product?",
)
def is_rollout(function: Callable) -> str | None:
    layers = [(3 * torch.randn(5, 5)).softmax(1) for _ in range(3)]
    total = torch.eye(5)
    for weights in layers:
        total = (weights + torch.eye(5)) / 2 @ total
    given = function(layers)
    if given.shape != (5, 5) or not same(given.sum(1), torch.ones(5)):
        return "the rows of what it gives do not add up to 1"
    if same(given, total):
        return None
    backwards = function(layers[::-1])
    return "it multiplies in the other order" if same(backwards, total) else "it is another matrix"


@exercise(
    "06b.5",
    "a module that takes maps (N, 32, H, W) and gives (N, 5, 32)",
    "The queries are an nn.Parameter. MultiHead wants queries, keys and the size (H, W).",
)
@torch.no_grad()
def asks_with_five_queries(module: nn.Module) -> str | None:
    module = expect_block(module)
    for side in (6, 9):
        x = torch.randn(2, 32, side, 4)
        if (given := module(x)).shape != (2, 5, 32):
            return f"maps {tuple(x.shape)} became {tuple(given.shape)}"
        weights = the_map(module, x, "positions")
        if weights.shape[2:] != (5, 4 * side):
            return f"its weights are {tuple(weights.shape)}: who asks, and who is asked?"
    shuffled = x.flatten(2)[..., torch.randperm(4 * side)].view_as(x)
    if not same(module(shuffled), given, 1e-4):
        return "the same positions in another order give something else"
    if float(given.std(1).mean()) < 1e-4:
        return "all its queries get the same"
    if not any(weights.shape[-2:] == (5, 32) for weights in module.parameters()):
        return "no parameter of it is five queries of 32 numbers"
    return None


@exercise(
    "06b.6",
    "a function of q, k, v, each (1, d), and what it has kept (at first None), that gives "
    "(output (1, d), what is to be kept)",
    "The newest word asks all words so far. Which of their vectors does it need, and do they "
    "change when a word is added?",
)
def keeps_what_it_has_computed(function: Callable) -> str | None:
    q, k, v = 2 * torch.randn(3, 40, 16)
    wanted = nn.functional.scaled_dot_product_attention(q, k, v, is_causal=True)
    kept, outputs, work = None, [], []
    for word in range(40):
        with FlopCounterMode(display=False) as counter:
            out, kept = function(*(rows[word : word + 1] for rows in (q, k, v)), kept)
        outputs.append(out)
        work.append(counter.get_total_flops())
    for word, out in enumerate(outputs):
        if not same(out, wanted[word : word + 1], 1e-4):
            return f"word {word + 1} gets something else than with the causal mask"
    times = work[-1] / max(1, work[0])
    return None if times < 60 else f"the fortieth word costs {times:.0f} times what the first costs"
