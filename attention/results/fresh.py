"""The second plan: the block that led after the first, on seeds by which nothing was chosen."""

import pandas as pd

from attention.results import plan
from attention.results.answer import VERDICTS, differences, judged, planned, with_interval
from attention.results.overview import intervals, numbers
from attention.results.statistics import pooled
from attention.results.tables import as_markdown


def asked_again(table: pd.DataFrame) -> pd.DataFrame | None:
    """The difference that `plan.AGAIN` asks about: on the first seeds, the fresh ones, all.

    table: the runs of one dataset, see `tables.frame`. None before the last seed of both plans.

    Three rows with the columns of `answer.differences`: the first seeds, from which the question
    comes, as they stand there; the fresh ones, which are the test, one alone; all of them, an
    estimate, without p. mean is that of the block, plain that of the network without one.
    """
    first = planned(table)
    first = first[(first.role != "control") & (first.seed < plan.SEEDS)]
    led = first.block == plan.MOST_ACCURATE
    if first.seed.nunique() < plan.SEEDS or not led.any():
        return None
    [plain], [name] = first.name[first.role == "plain"].unique(), first.name[led].unique()
    fresh = table[table.name.isin([plain, name]) & table.seed.isin(plan.FRESH_SEEDS)]
    for column in ("epochs", "recipe", "train_images"):
        fresh = fresh[fresh[column] == first[column].iloc[0]]
    if len(fresh) < 2 * len(plan.FRESH_SEEDS):
        return None
    both, test = pd.concat([first, fresh]), f"{name} again"
    # under a name of its own, the block is compared over the fresh seeds, with the noise of all
    apart = pd.concat([first, fresh.assign(name=fresh.name.replace(name, test))])
    parts = [
        differences(first).loc[[name]],
        judged(pooled(apart, plain, confidence=plan.CONFIDENCE).loc[[test]], family=1),
        pooled(both, plain, confidence=plan.CONFIDENCE).loc[[name]].assign(
            p=float("nan"), p_corrected=float("nan"), verdict="an estimate"
        ),
    ]  # fmt: skip
    seeds = range(plan.SEEDS), plan.FRESH_SEEDS, range(plan.FRESH_SEEDS[-1] + 1)
    alone = both[both.name == plain].set_index("seed").test_accuracy
    rows = pd.concat(parts).assign(plain=[alone[list(some)].mean() for some in seeds])
    rows.index = pd.Index([f"seeds {some[0]} to {some[-1]}" for some in seeds], name="name")
    # accuracies have two decimals: the last bits of a fit shall not decide how 0.195 is written
    rows = rows.round(dict.fromkeys(["difference", "low", "high"], 9))
    return rows.drop(columns=["options", "place", "network", "width"])


def sentence(pairs: pd.DataFrame) -> str:
    """What the fresh seeds say, in words; pairs: from `asked_again`."""
    [(_, test), (_, all_seeds)] = list(pairs.iterrows())[1:]
    words = VERDICTS[test.verdict]
    if test.verdict in ("better", "worse") and test.equal_p < 1 - plan.CONFIDENCE:
        words += f", by less than {plan.MARGIN} points"
    return (
        f"Asked again, on {test.name}, by which nothing was chosen: {test.block} is {words} "
        f"({with_interval(test)}); a true difference of {test.detectable:.2f} points would be "
        f"found in four cases of five. Over all {all_seeds.n} seeds, also those that it was picked "
        f"by: {with_interval(all_seeds)}, an estimate."
    )


def markdown(pairs: pd.DataFrame) -> str:
    """`asked_again` as Markdown."""
    block = pairs.block.iloc[0]
    shown = pd.DataFrame({
        "seeds": pairs.index.str.removeprefix("seeds "),
        "without a block (%)": numbers(pairs.plain, "{:.2f}"),
        f"{block} (%)": numbers(pairs["mean"], "{:.2f}"),
        "difference": numbers(pairs.difference, "{:+.2f}"),
        "its interval": intervals(pairs.low, pairs.high, "{:+.2f} to {:+.2f}"),
        "p": numbers(pairs.p_corrected, "{:.3f}"),
        f"p of ±{plan.MARGIN}": numbers(pairs.equal_p, "{:.3f}"),
        "verdict": pairs.verdict,
    }, pairs.index)  # fmt: skip
    return as_markdown(shown)
