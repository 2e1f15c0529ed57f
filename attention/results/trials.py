"""A search and its end: everything that was tried, what was chosen, and whether it wins.

described   a hybrid of a search in few words; parents: the blocks that have its parts
trials      one row for everything that was tried; over_plain: its runs beside the plain network
winner      what is chosen by it
verdict     what `statistics.versus` gave of one network and its rivals, in sentences

Verdicts are computed from the records, so that no sentence outlives the numbers it is about.
"""

from collections.abc import Mapping, Sequence

import pandas as pd

from attention.checks import one_of
from attention.results.statistics import significant

# The published block that has a part of a hybrid.
PUBLISHED = {
    "channel": {"mlp": "se", "mlp avg+max": "cbam", "conv": "eca", "encoding": "encoding"},
    "spatial": {"conv": "spatial", "position": "sse", "dilated": "bam", "dot product": "qkv"},
    "mixing": {"context": "context", "nonlocal": "nonlocal"},
}


def parents(options: Mapping) -> list[str]:
    """The names of the blocks whose parts a hybrid has, from its options; each once."""
    names = [PUBLISHED[part].get(options.get(part)) for part in PUBLISHED]
    return list(dict.fromkeys(filter(None, names)))


def described(options: Mapping, place: str | None = None) -> str:
    """A hybrid in few words, from its options and where it stands (`tables.place`).

    "context → mlp (additive) & conv, sum, 1 + map, after stages": positions are mixed by global
    context, then channels scored by an MLP on additive pooling, positions by a convolution, …
    """
    channel, spatial = options.get("channel"), options.get("spatial")
    if channel and options.get("pool"):
        channel += f" ({options['pool']})"
    words = [" & ".join(filter(None, (channel, spatial)))]
    words += [options["combine"]] if channel and spatial else []
    words += ["1 + map"] if options.get("residual") else []
    where, _, which = (place or "").partition(", stages ")
    if which or where == "stage":
        words.append(f"{'after' if where == 'stage' else 'in'} stages {which}".rstrip())
    mixing = options.get("mixing")
    return (f"{mixing} → " if mixing else "") + ", ".join(words)


def trials(table: pd.DataFrame) -> pd.DataFrame:
    """A search: one row for everything that was tried, the best of the first round first.

    table: the runs of a search, see `tables.frame`; its lowest seed is the first round.

    kind: "plain", "parent", "candidate" or "finalist" (a candidate that was trained again); first:
    accuracy in the first round; later: mean accuracy of the other seeds, nan without any; n, mean:
    of all seeds; each: all accuracies, by seed; name, options and place. The index is "plain", the
    name of a block, or a hybrid `described`. What has no run of the first round is left out.
    """
    rows = {}
    for name, runs in table.sort_values("seed").groupby("name", sort=False):
        run, each = runs.iloc[0], runs.test_accuracy.to_list()
        if run.seed != table.seed.min():
            continue
        if run.family == "hybrid":
            label, kind = described(run.options, run.place), "finalist" if each[1:] else "candidate"
        else:
            kind = "plain" if run.family == "plain" else "parent"
            label = "plain" if kind == "plain" else run.block
        rows[label] = {
            "kind": kind,
            "n": len(each),
            "first": each[0],
            "later": sum(each[1:]) / len(each[1:]) if each[1:] else None,
            "mean": sum(each) / len(each),
            "each": each,
            "name": name,
            "options": run.options,
            "place": run.place,
        }
    found = pd.DataFrame.from_dict(rows, orient="index")
    if rows:
        found = found.astype({"later": float}).sort_values("first", ascending=False, kind="stable")
    return found


def over_plain(table: pd.DataFrame, plain: str) -> pd.DataFrame:
    """The same runs, every accuracy minus that of the network `plain` with the same seed.

    Seeds are easy or hard for all networks alike; this takes it out. Runs of a seed without a
    plain network are left out.
    """
    one_of("plain", plain, list(table.name.unique()))
    base = table[table.name == plain].set_index("seed").test_accuracy
    ahead = table.test_accuracy - table.seed.map(base)
    return table.assign(test_accuracy=ahead).dropna(subset="test_accuracy")


def winner(table: pd.DataFrame) -> str | None:
    """The best finalist of `trials`, by its mean over all seeds; None without any.

    Finalists that have fewer seeds than others do not count: a mean of one seed, the one that they
    were picked by, is too high.
    """
    finalists = table[table.kind == "finalist"] if len(table) else table
    if not len(finalists) or finalists.n.max() < 2:
        return None
    return finalists[finalists.n == finalists.n.max()]["mean"].idxmax()


def verdict(pairs: pd.DataFrame, kin: Sequence[str], step_ms: pd.Series) -> str:
    """Does the network win? Sentences about what `statistics.versus` gave.

    pairs: from `versus`, for the parents and the baselines; better and worse is what is
    significant after the correction for all of them. kin: the names of the parents among them.
    step_ms: by name, with the network's own; the goal is to beat every parent in no more time than
    the costliest of them.
    """
    if pairs.empty:
        return "No verdict: there are no runs of it, or none of its rivals."
    name = pairs.baseline.iloc[0]
    for parent in kin:
        one_of("kin", parent, list(pairs.index))
    tested = pairs[pairs.n >= 2]
    missing = ", ".join(pairs.index.difference(tested.index, sort=False))
    if tested.empty:
        return f"No verdict: fewer than two seeds that {name} shares with {missing}."
    sure = significant(tested)
    groups = {
        "better than": tested[sure & (tested.difference > 0)],
        "worse than": tested[sure & (tested.difference < 0)],
        "not significantly different from": tested[~sure],
    }
    lines = [
        f"{name} is {words} {'; '.join(_difference(row) for row in group.itertuples())}."
        for words, group in groups.items()
        if len(group)
    ]
    lines.append(f"Corrected for {len(tested)} comparisons (Holm); the intervals are not.")
    if missing:
        lines.append(f"Not tested, for want of seeds: {missing}.")
    step_ms = step_ms.reindex([name, *kin])
    if kin and step_ms.notna().all():
        dearest = step_ms[kin].idxmax()
        fast = step_ms[name] <= step_ms[dearest]
        beaten = [parent for parent in kin if parent in groups["better than"].index]
        reached = "reached" if fast and len(beaten) == len(kin) else "not reached"
        lines.append(
            f"One training step takes {step_ms[name]:.0f} ms; that of its costliest parent, "
            f"{dearest}, {step_ms[dearest]:.0f} ms.\n"
            f"The goal, every parent beaten significantly in no more time than the costliest: "
            f"{reached} ({len(beaten)} of {len(kin)} parents, {'within' if fast else 'beyond'} its "
            "time)."
        )
    elif kin:
        lines.append("No goal to judge: its training step is not measured beside its parents'.")
    return "\n".join(lines)


def _difference(row):
    words = f"{row.Index} ({row.difference:+.2f}, {row.low:+.2f} to {row.high:+.2f}"
    return words.replace(" -", " −").replace("(-", "(−") + f", {row.n:.0f} seeds)"
