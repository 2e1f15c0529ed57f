"""Exercises of the notebooks 06 and 07: self-attention, and what a map is worth."""

from collections.abc import Callable

import torch
from scipy import stats
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from attention.blocks import NonLocal
from attention.exercises.ask import exercise, numbers_by_digest
from attention.exercises.probes import expect_block, same, the_map
from attention.explain import faithfulness

numbers_by_digest(
    "06.1",
    "three weights, to three decimals",
    "Divide the three products by √d, with the d of these vectors; then the softmax.",
    ["2794ff1597e5", "d7186a2fcea5", "231609ddb6cc"],
    step=0.001,
)
numbers_by_digest(
    "06.2",
    "a whole number of layers",
    "How far does one layer carry, straight and along the diagonal?",
    ["d6b7176c9f84"],
)


@exercise(
    "06.3",
    "a function of q, k and v, each (positions, d)",
    "Over which axis do the weights of one query add up to 1, and what keeps them from an extreme?",
)
def is_attention(function: Callable) -> str | None:
    for rows, d in ((6, 8), (5, 32)):
        q, k, v = 2 * torch.randn(3, rows, d)
        wanted = nn.functional.scaled_dot_product_attention(q, k, v)
        if not same(function(q, k, v), wanted, 1e-4):
            return f"for {rows} positions and d = {d} it gives something else"
    return None


@exercise(
    "06.4",
    "an attention.NonLocal(32) with some of its weights changed",
    "When do all positions ask the same question? And what must the norm's weight not be?",
)
@torch.no_grad()
def adds_the_same_everywhere(block: nn.Module) -> str | None:
    if not isinstance(block, NonLocal):
        return "this is no NonLocal"
    x = 3 * torch.randn(2, 32, 6, 5)
    weights, added = the_map(expect_block(block), x, "positions"), block(x) - x
    if float(added.abs().max()) < 1e-4:
        return "it adds nothing: it is still the identity"
    if float((added - added.mean((2, 3), keepdim=True)).abs().max()) > 1e-4:
        return "what it adds differs from position to position"
    if float(weights.std(3).max()) < 1e-4:
        return "its weights are all equal: it adds an average, and chooses nothing"
    if same(added[0, :, 0, 0], added[1, :, 0, 0]):
        return "it adds the same to both pictures"
    return None


@exercise(
    "06.5",
    "a function of q, k and v, each (n, d), that gives (n, d)",
    "A product of three matrices can be made in two orders. Which one never has n × n numbers?",
)
def never_makes_the_matrix(function: Callable) -> str | None:
    q, k, v = torch.randn(3, 12, 4)
    if not same(function(q, k, v), q @ k.T @ v / 12, 1e-4):
        return "it gives something else than (q kᵀ / n) v"
    work = []
    for n in (64, 512):
        with FlopCounterMode(display=False) as counter:
            function(*torch.randn(3, n, 4))
        work.append(counter.get_total_flops())
    if work[1] > 12 * work[0]:
        return f"for 8 times the positions it computes {work[1] / work[0]:.0f} times as much"
    return None


numbers_by_digest(
    "07.1",
    "three numbers, to three decimals: pointing, energy, IoU",
    "Where all values are equal, chance decides which pixels are the highest.",
    ["9296f1e19dda", "1255744d0af2", "186b7c977c08"],
    step=0.001,
)


class Patch(nn.Module):
    """Logits from the mean colours of one square of 8×8 pixels; blind to the rest."""

    def __init__(self, row: int, column: int) -> None:
        super().__init__()
        self.row, self.column = row, column
        self.classify = nn.Linear(3, 10)
        nn.init.normal_(self.classify.weight, 0, 5)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        seen = x[:, :, self.row : self.row + 8, self.column : self.column + 8]
        return self.classify(seen.mean((2, 3)))


class AnswersOnly(nn.Module):
    """What a network answers, without its gradients and its parts."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.hidden = (network,)  # in a tuple, so that it is no part of this module

    @torch.no_grad()
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.hidden[0](x)


@exercise(
    "07.2",
    "a function of (activations, gradients), both (N, C, H, W), that gives maps (N, H, W)",
    "Selvaraju et al.: one weight a channel from the gradients; what is negative is cut off; "
    "each map is divided by its largest number.",
)
def is_grad_cam(function: Callable) -> str | None:
    activations, gradients = torch.randn(2, 4, 6, 5, 5)
    maps = torch.einsum("nc,nchw->nhw", gradients.mean((2, 3)), activations).relu()
    given = function(activations, gradients)
    if given.shape != maps.shape:
        return f"it gives {tuple(given.shape)}"
    if float(given.min()) < 0:
        return "there are negative numbers in its maps"
    wanted = maps / maps.amax((1, 2), keepdim=True)
    return None if same(given, wanted) else "its maps are not those of equations 1 and 2"


@exercise(
    "07.3",
    "a function of two maps (H, W) that gives a number from −1 to 1",
    "Spearman: which numbers does the correlation of the ranks compare?",
)
def is_rank_correlation(function: Callable) -> str | None:
    one = torch.randn(9, 9)
    for other, what in ((one, "itself"), (one.exp(), "its own exponential"), (-one, "its negative"),
                        (one + torch.randn(9, 9), "a noisy copy of it")):  # fmt: skip
        wanted = stats.spearmanr(one.flatten(), other.flatten()).statistic
        given = float(function(one, other))
        if abs(given - wanted) > 1e-3:
            return f"for a map and {what} it gave {given:.3f}"
    return None


@exercise(
    "07.4",
    "maps (200, 32, 32) for a network that sees the upper left 8×8 pixels alone",
    "The removal measures look at the order of the pixels only. What may come after the corner?",
)
def as_faithful_and_too_much(maps: torch.Tensor) -> str | None:
    torch.manual_seed(0)
    network, images = Patch(0, 0).eval(), torch.randn(200, 3, 32, 32)
    truth = torch.zeros(200, 32, 32)
    truth[:, :8, :8] = 1
    yours, best = (float(faithfulness(network, images, one).area.mean()) for one in (maps, truth))
    elsewhere = maps.clone()
    elsewhere[:, :8, :8] = 0
    if not bool((elsewhere.amax((1, 2)) > 0).all()):
        return "there is a picture whose map points at nothing outside the corner"
    if yours > best + 0.02:
        return f"deletion finds it worse: an area of {yours:.3f}, and {best:.3f} for the corner"
    return None


@exercise(
    "07.5",
    "a function of (network, images) that gives maps (N, H, W), from the network's answers alone",
    "What must happen to the answer when a pixel that the network sees is changed?",
)
def finds_the_patch(function: Callable) -> str | None:
    hits = []
    for _ in range(8):
        row, column = torch.randint(0, 25, (2,)).tolist()
        network, images = AnswersOnly(Patch(row, column)).eval(), torch.randn(6, 3, 32, 32)
        maps = function(network, images).detach()
        if maps.shape != (6, 32, 32):
            return f"for 6 images of 32×32 it gave {tuple(maps.shape)}"
        best = maps.flatten(1).argmax(1)
        rows, columns = best // 32, best % 32
        hits += (
            ((rows - row).clamp(0, 7) == rows - row)
            .logical_and((columns - column).clamp(0, 7) == columns - column)
            .tolist()
        )
    share = sum(hits) / len(hits)
    if share < 0.9:
        return f"in {share:.0%} of the pictures its highest pixel lies where the network looks"
    return None
