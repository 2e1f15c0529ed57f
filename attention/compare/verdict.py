"""What a comparison can say: differences to the plain network, and sentences about them.

Two things would give other numbers: other seeds, and other pictures of the same kind. A folder has
few test pictures, so both are counted here, unlike in `results.statistics`, where all networks are
compared on one large set of images. One test for one claim: the table and the sentences of the page
are made from the same frame.
"""

import dataclasses
from collections.abc import Mapping

import numpy as np
import pandas as pd
from scipy import stats

from attention.checks import one_of, positive
from attention.results import power, statistics

CONFIDENCE = 0.95
MARGIN = 1.0  # points: closer than this counts as equal; said before anything is trained
PLAIN = "the network without a block"


def differences(right: Mapping[str, np.ndarray], plain: str) -> pd.DataFrame:
    """Every network minus the plain one, in points of accuracy: a frame by name.

    right: {name: bool (seeds, pictures)}, whether each training's network answers each test picture
    right; all of one shape, with two seeds and two pictures or more. plain: one of the names.

    n: seeds. mean, difference: over seeds and pictures. error: its standard error, √(a² + b²), with
    a, error_seeds, of `statistics.pooled` over seeds, and b, error_pictures, over pictures: the
    spread of the pictures' own differences, with one more answer won and one more lost, which keeps
    it honest where few answers differ (Bonett & Price, Journal of Educational and Behavioral
    Statistics 2012). What a picture and a seed have in common is counted in both: the error is too
    large rather than too small. freedom: by Satterthwaite's rule. low, high: the 95 % interval, for
    all networks at once (Bonferroni). p_corrected: below 0.05 where that interval excludes 0.
    detectable: the smallest true difference that is found four times in five. confidence.
    """
    one_of("plain", plain, right)
    shapes = {name: np.shape(answers) for name, answers in right.items()}
    seeds, pictures = shape = shapes[plain]
    if set(shapes.values()) != {shape} or min(shape) < 2 or len(right) < 2:
        raise ValueError(
            "right must hold two networks or more, each (seeds, pictures) with two of both, got "
            f"{shapes}"
        )
    table = pd.DataFrame([
        {"name": name, "seed": seed, "test_accuracy": 100 * answers[seed].mean()}
        for name, answers in right.items()
        for seed in range(seeds)
    ])  # fmt: skip
    pairs = statistics.pooled(table, plain, confidence=CONFIDENCE)
    alpha = (1 - CONFIDENCE) / len(pairs)
    changes = {name: right[name].mean(0) - right[plain].mean(0) for name in pairs.index}
    over_pictures = pd.Series({name: _error(change) for name, change in changes.items()})
    seed_part, picture_part = pairs.error**2, over_pictures**2
    error = np.sqrt(seed_part + picture_part)
    freedom = error**4 / (seed_part**2 / pairs.freedom + picture_part**2 / (pictures - 1))
    half = stats.t.ppf(1 - alpha / 2, freedom) * error
    p = pd.Series(2 * stats.t.sf(np.abs(pairs.difference) / error, freedom), pairs.index)
    return pairs[["baseline", "n", "mean", "difference"]].assign(
        error=error, error_seeds=pairs.error, error_pictures=over_pictures, freedom=freedom,
        low=pairs.difference - half, high=pairs.difference + half, p=p,
        p_corrected=(p * len(pairs)).clip(upper=1),
        detectable=power.smallest_shift(error, freedom, alpha), confidence=CONFIDENCE,
    )  # fmt: skip


def _error(change):
    """Standard error over pictures, in points, of a mean change of the share of right answers."""
    return 100 * np.append(change, [1, -1]).std(ddof=1) / np.sqrt(len(change) + 2)


@dataclasses.dataclass(frozen=True)
class Verdict:
    """best: the block that comes out highest. take: the one to take, None: the plain network.

    sentences: what can be said, the answer first. kind: "unknown", "better" or "open".
    """

    kind: str
    best: str | None
    take: str | None
    sentences: tuple[str, ...]


def judge(
    pairs: pd.DataFrame | None,
    pictures: int,
    names: Mapping[str, str],
    chosen_by: Mapping[str, float] | None = None,
    margin: float = MARGIN,
) -> Verdict:
    """What `differences` allow to say.

    pairs: None where there are fewer than two rounds. pictures: how many test pictures. names:
    {name in pairs: block}. chosen_by: {name: accuracy on validation pictures}: the block is chosen
    by these, and the test pictures are asked about it alone; None: chosen on the test pictures.
    """
    positive("margin", margin)
    if pairs is None:
        return Verdict("unknown", None, None, (
            "Nothing can be said yet: with fewer than two seeds, the difference between two "
            "networks cannot be told from that between two trainings of one network.",
        ))  # fmt: skip
    order = pairs.difference if chosen_by is None else pd.Series(chosen_by)[pairs.index]
    shown = statistics.significant(pairs) & (pairs.difference > 0)
    best = (order[shown] if shown.any() else order).idxmax()
    row, block = pairs.loc[best], names[best]
    interval = f"{100 * row.confidence:.0f} % interval {points(row.low)} to {points(row.high)}"
    if shown.any():
        kind, take = "better", block
        first = (
            f"Take {block}: it is {points(row.difference)} points more accurate than {PLAIN} "
            f"({interval})."
        )
    else:
        kind, take = "open", None
        picked = "The highest is" if chosen_by is None else "The validation pictures pick"
        first = (
            f"No block is shown to be better than {PLAIN}: take that. {picked} {block}, with "
            f"{points(row.difference)} points against it ({interval})."
        )
    said = [
        first, _seen(row, pictures, len(pairs)), *_others(pairs, names, best),
        *_equal(pairs, names, margin), _chosen(chosen_by is not None, block, len(pairs)),
        _more(row),
    ]  # fmt: skip
    return Verdict(kind, block, take, tuple(sentence for sentence in said if sentence))


def points(value: float) -> str:
    """A difference in points: +1.2, −0.4, with a minus sign that is one."""
    return f"{round(value, 1) + 0.0:+.1f}".replace("-", "−")  # −0.0 + 0 is 0


def _seen(row, pictures, comparisons):
    allows = f", and allows for {comparisons} comparisons" if comparisons > 1 else ""
    return (
        f"The interval counts {row.n:.0f} seeds and {pictures:,} test pictures{allows}. A true "
        f"difference of {row.detectable:.1f} points would have been found four times in five; a "
        "smaller one may be there and be missed."
    )


def _chosen(validation, block, comparisons):
    if validation:
        return f"{block} was picked by the validation pictures; no test picture had a part in it."
    if comparisons > 1:
        return (
            f"{block} was picked by the same test pictures, as the highest of {comparisons}: its "
            "own figure flatters it; the interval allows for that."
        )
    return ""


def _others(pairs, names, best):
    """Blocks beside the best that are shown to be better or worse."""
    sure = pairs[statistics.significant(pairs)].drop(index=best, errors="ignore")
    for word, rows in (("better", sure[sure.difference > 0]), ("worse", sure[sure.difference < 0])):
        if len(rows):
            told = " and ".join(f"{names[n]} ({points(x)})" for n, x in rows.difference.items())
            yield (
                f"Shown to be {word} than {PLAIN}, too: {told}."
                if word == "better"
                else (f"Shown to be worse than {PLAIN}: {told}.")
            )
    if len(pairs) > 1:
        yield "Blocks were compared with the plain network alone, not with each other."


def _equal(pairs, names, margin):
    equal = statistics.equivalence(pairs, margin)
    same = [names[name] for name in pairs.index if equal.equivalent[name]]
    if same:
        yield (
            f"As good as {PLAIN} to within ±{margin:g} point: {', '.join(same)} (two one-sided "
            "tests, Holm). "
        ).strip()


def _more(row):
    """Which of both would narrow the interval, where it matters."""
    if row.error_pictures > row.error_seeds:
        return "Most of the doubt comes from the number of test pictures: more seeds help little."
    return "Most of the doubt comes from the seeds: more of them narrow the interval."
