"""The answer of the comparison: the tests of `plan`, in a table and in sentences.

Figure, table and sentence of a difference all take it from `differences`.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import pandas as pd

from attention.blocks import known
from attention.networks import NETWORK, SETTINGS
from attention.results import plan
from attention.results.power import smallest_shift
from attention.results.statistics import equivalence, holm, pooled, significant
from attention.results.tables import labels, place

# What a verdict says of a block.
VERDICTS = {
    "better": "more accurate than the network without a block",
    "worse": "less accurate than the network without a block",
    "equal": f"shown to be equal to the network without a block within ±{plan.MARGIN} points",
    "undecided": "neither shown to differ from the network without a block nor shown to be equal "
    f"to it within ±{plan.MARGIN} points",
}


def planned(table: pd.DataFrame) -> pd.DataFrame:
    """The runs of the plan among those of a table, see `tables.frame`, of its complete seeds.

    Where some were trained for longer as well, or by another recipe, what most of these runs have
    counts.
    A seed is complete when all networks have it that have any seed at all: so every difference is
    over the same seeds. The hybrid, which is chosen and trained after the others, is left out until
    it has their seeds. A column `role` is added: "plain", "block" or "control". The networks
    without a block come first.
    """
    runs = table.assign(role=[role(row) for row in table.to_dict("records")])
    runs = runs[runs.role.notna()]
    runs = runs[runs.epochs == runs.epochs.mode().max()]
    runs = runs[runs.recipe.isin(runs.recipe.mode()[:1])]
    hybrid = runs.block == "hybrid"
    if not _complete(runs[~hybrid]) <= set(runs[hybrid].seed):
        runs = runs[~hybrid]
    runs = runs[runs.seed.isin(_complete(runs))]
    order = {"plain": 0, "block": 1, "control": 2}
    return runs.sort_values(["role", "parameters"], key=lambda c: c.map(order).fillna(c))


def _complete(runs):
    """The seeds that all networks have which these runs are of."""
    there = runs.groupby("seed").name.nunique()
    return set(there.index[there == runs.name.nunique()])


def role(row: Mapping[str, Any]) -> str | None:
    """What part a row of `tables.frame` has in the plan, by what was trained; None if none."""
    width = None if pd.isna(row["width"]) else row["width"]
    if not isinstance(row["block"], str):
        this = (row["network"], width)
        controls = [(c.get("network", NETWORK), c.get("width")) for c in plan.CONTROLS]
        return "plain" if this == (NETWORK, None) else "control" if this in controls else None
    if row["block"] not in plan.BLOCKS:
        return None
    setting = SETTINGS.get(row["block"], {})
    where = place(known(row["block"]).at, setting.get("at"), setting.get("stages"))
    wanted = (NETWORK, None, setting.get("options", {}), where)
    return "block" if (row["network"], width, row["options"], row["place"]) == wanted else None


def differences(runs: pd.DataFrame) -> pd.DataFrame:
    """The plan's test: each block minus the network without one, a row each, by name.

    runs: from `planned`, with at least two seeds. What `statistics.pooled` gives over these
    networks, the controls left out, `judged` for the plan's five: the hybrid counts before it is
    trained.
    """
    main = runs[runs.role != "control"]
    [plain] = main[main.role == "plain"].name.unique()
    return judged(pooled(main, plain, confidence=plan.CONFIDENCE), plan.FAMILY)


def judged(pairs: pd.DataFrame, family: int) -> pd.DataFrame:
    """Pairs with the tests of a plan that asks for `family` of them.

    pairs: from `statistics.pooled`. p_corrected and detectable are for the family. equal_low,
    equal_high and equal_p are of the two one-sided tests (`statistics.equivalence`) with the plan's
    margin. verdict: "better" or "worse" where the difference is significant, else "equal" where it
    is shown to lie within the margin, else "undecided".
    """
    alpha = 1 - plan.CONFIDENCE
    pairs = pairs.assign(
        p_corrected=holm(pairs.p, family),
        detectable=smallest_shift(pairs.error, pairs.freedom, alpha / family),
    )
    same = equivalence(pairs, plan.MARGIN)
    same_p, sure = holm(same.p, family), significant(pairs)
    verdict = pd.Series("undecided", pairs.index)
    verdict[same_p < alpha] = "equal"
    verdict[sure & (pairs.difference > 0)] = "better"
    verdict[sure & (pairs.difference < 0)] = "worse"
    return pairs.assign(equal_low=same.low, equal_high=same.high, equal_p=same_p, verdict=verdict)


def at_equal_cost(runs: pd.DataFrame) -> pd.DataFrame:
    """Each block minus each plain network that costs about as much; corrected for the plan's ten.

    runs: from `planned`. A row a pair, with the columns of `statistics.pooled`; name and baseline
    say which.
    """
    blocks = runs[runs.role == "block"].name.unique()
    parts = [
        pooled(runs, control, confidence=plan.CONFIDENCE).loc[blocks].reset_index()
        for control in runs[runs.role == "control"].name.unique()
    ]
    pairs = pd.concat(parts, ignore_index=True)
    return pairs.assign(p_corrected=holm(pairs.p, plan.FAMILY * len(plan.CONTROLS)))


def sentences(runs: pd.DataFrame, brief: bool = False) -> list[str]:
    """The verdict in words, from `differences` and `at_equal_cost`; before the last seed, how far
    it is.

    runs: from `planned`. brief: without the numbers that the tables have.
    """
    seeds = sorted(runs.seed.unique())
    if len(seeds) < plan.SEEDS:
        begun = f"So far {len(seeds)} of {plan.SEEDS} seeds {'is' if len(seeds) == 1 else 'are'} "
        missing = f" Still missing: {', '.join(absent)}." if (absent := _absent(runs)) else ""
        return [f"{begun}trained.{missing} There is no verdict before the last seed."]
    pairs, short = differences(runs), labels(runs)
    blocks = runs[runs.role == "block"]
    short |= dict(zip(blocks.name, blocks.block, strict=True))  # the options are the plan's
    found = []
    for verdict, words in VERDICTS.items():
        rows = pairs[pairs.verdict == verdict]
        if len(rows):
            found.append(
                f"{_listed(rows, short, brief)} {'is' if len(rows) == 1 else 'are'} {words}."
            )
    sees = pairs.detectable.max()
    found.append(
        f"{len(seeds)} seeds, one pooled spread of {pairs.spread.iloc[0]:.2f} points, Holm's "
        f"correction for {plan.FAMILY}: a true difference of {sees:.2f} points would be found in "
        "four cases of five."
    )
    if "control" in set(runs.role):
        found.append(_beside_controls(runs, short, brief))
    if absent := _absent(runs):
        found.append(
            f"Still missing: {', '.join(absent)}. The correction counts that already; the runs of "
            "a block will enter the pooled spread, and may move what is said here."
        )
    return found


def _beside_controls(runs: pd.DataFrame, short: dict[str, str], brief: bool) -> str:
    """Which blocks differ from a plain network of their cost: one sentence."""
    pairs = at_equal_cost(runs)
    sure, clauses = significant(pairs), []
    for more, rows in (("more", pairs.difference > 0), ("less", pairs.difference < 0)):
        for name, those in pairs[sure & rows].groupby("name", sort=False):
            others = _listed(those.set_index("baseline"), short, brief)
            clauses.append(f"{short[name]} is {more} accurate than {others}")
        if not (sure & rows).any():
            clauses.append(f"no block is shown to be {more} accurate than one of them")
    comparisons = plan.FAMILY * len(plan.CONTROLS)
    return (
        f"Beside plain networks that cost about as much, Holm's correction for {comparisons}: "
        f"{'; '.join(clauses)}."
    )


def _absent(runs: pd.DataFrame) -> list[str]:
    """The networks of the plan that no run is of, in short."""
    blocks = [name for name in plan.BLOCKS if name not in set(runs.block)]
    blocks = [f"the {name}" if name == "hybrid" else name for name in blocks]
    controls = len(plan.CONTROLS) - runs[runs.role == "control"].name.nunique()
    few = f"{controls} of the {len(plan.CONTROLS)} plain networks of equal cost"
    return blocks + ([few] if controls else [])


def with_interval(row: Any) -> str:
    """+0.31 points, 95 % interval +0.10 to +0.52: a row of `differences`, in words."""
    said = (
        f"{row.difference:+.2f} points, {100 * row.confidence:g} % interval {row.low:+.2f} to "
        f"{row.high:+.2f}"
    )
    return said.replace("-", "−")


def _listed(rows: pd.DataFrame, short: dict[str, str], brief: bool) -> str:
    """se (+0.31 points, 95 % interval +0.10 to +0.52) and eca (…)"""
    words: Sequence[str] = [
        short[row.Index] if brief else f"{short[row.Index]} ({with_interval(row)})"
        for row in rows.itertuples()
    ]
    return " and ".join([", ".join(words[:-1]), words[-1]] if len(words) > 1 else words)
