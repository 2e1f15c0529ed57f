"""A search and its end: everything that was tried, what was chosen, and whether it wins.

described   a run of a search in few words; parts, parents: what a hybrid is made of
trials      one row for everything that was tried; over_plain: its records beside the plain network
winner      what is chosen by it
versus      one network against its rivals; verdict: the same in sentences

Verdicts are computed from the records, so that no sentence outlives the numbers it is about.
"""

import inspect

import pandas as pd
from statsmodels.stats.multitest import multipletests

from attention.blocks import Hybrid, known
from attention.checks import one_of
from attention.results import statistics

# The published block that has a part of a hybrid.
PARENTS = {
    "channel": {"mlp": "se", "mlp avg+max": "cbam", "conv": "eca", "encoding": "encoding"},
    "spatial": {"conv": "spatial", "position": "sse", "dilated": "bam", "dot product": "qkv"},
    "mixing": {"context": "context", "nonlocal": "nonlocal"},
}


def parts(run):
    """All options of a hybrid's run, with the defaults of those that it leaves out."""
    options = list(inspect.signature(Hybrid).parameters.values())[1:]  # all but channels
    return {one.name: one.default for one in options} | dict(run.options)


def parents(run):
    """The names of the blocks whose parts a hybrid has, from its run; each once."""
    chosen = parts(run)
    names = [PARENTS[part].get(chosen[part]) for part in PARENTS]
    return [name for number, name in enumerate(names) if name and name not in names[:number]]


def described(run):
    """A run of a search in few words: "plain", a block's name, or a hybrid's parts.

    "context → mlp (additive) & conv, sum, 1 + map, after stages": positions are mixed by global
    context, then channels scored by an MLP on additive pooling, positions by a convolution, …
    """
    if run.block != "hybrid":
        return run.block or "plain"
    part = parts(run)
    channel, spatial = part["channel"], part["spatial"]
    words = [channel and channel + (f" ({part['pool']})" if part["pool"] else ""), spatial]
    words = [" & ".join(word for word in words if word)]
    if channel and spatial:
        words.append(part["combine"])
    if part["residual"]:
        words.append("1 + map")
    if (run.at or known("hybrid").at) == "stage":
        words.append("after stages")
    return (f"{part['mixing']} → " if part["mixing"] else "") + ", ".join(words)


def trials(runs, records):
    """A search: one row for everything that was tried, the best of the first round first.

    runs: `grids.search()`, in its order: the first seed is the first round. records: what of it
    is there.

    kind: "plain", "parent", "candidate" or "finalist" (a candidate that was to be trained again);
    first: accuracy in the first round; later: mean accuracy of the other seeds, nan without any;
    n, mean: of all seeds; each: all accuracies, by seed; run. The index is `described`. What has
    no record of the first round is left out.
    """
    found = {
        (record["name"], record["run"]["seed"]): record["result"]["test_accuracy"]
        for record in records
    }
    first = runs[0].seed
    rows = {}
    for run in (run for run in runs if run.seed == first):
        again = [other.seed for other in runs if other.name == run.name and other.seed != first]
        values = {s: found[run.name, s] for s in (first, *again) if (run.name, s) in found}
        later = [value for seed, value in values.items() if seed != first]
        kind = "plain" if run.block is None else "parent"
        if run.block == "hybrid":
            kind = "finalist" if again else "candidate"
        rows[described(run)] = {
            "kind": kind,
            "n": len(values),
            "first": values.get(first),
            "later": sum(later) / len(later) if later else None,
            "mean": sum(values.values()) / len(values) if values else None,
            "each": list(values.values()),
            "run": run,
        }
    table = pd.DataFrame.from_dict(rows, orient="index")
    table = table.astype({name: float for name in ("first", "later", "mean")})
    return table.dropna(subset="first").sort_values("first", ascending=False)


def over_plain(records):
    """The same records, every accuracy minus that of the plain network with the same seed.

    Seeds are easy or hard for all networks alike; this takes it out. Records of a seed without a
    plain network are left out.
    """
    plain = {
        record["run"]["seed"]: record["result"]["test_accuracy"]
        for record in records
        if record["run"]["block"] is None
    }
    found = []
    for record in records:
        result, seed = record["result"], record["run"]["seed"]
        if seed in plain:
            ahead = result["test_accuracy"] - plain[seed]
            found.append(record | {"result": result | {"test_accuracy": ahead}})
    return found


def winner(table):
    """The run of the best finalist of `trials`, by its mean over all seeds; None without any.

    Finalists that have fewer seeds than others do not count: a mean of one seed, the one that they
    were picked by, is too high.
    """
    finalists = table[table.kind == "finalist"]
    if not len(finalists) or finalists.n.max() < 2:
        return None
    return finalists[finalists.n == finalists.n.max()]["mean"].idxmax()


def versus(table, name, others, test=statistics.paired, confidence=0.95):
    """A test of `statistics` the other way round: `name` minus each of `others`, a row for each.

    test: `statistics.paired` or `statistics.pooled`. Only those of `others` that have runs get a
    row, none if `name` has none. The correction (Holm) is for these comparisons.
    """
    columns = ["baseline", "n", "difference", "spread", "low", "high", "p", "p_corrected"]
    columns.append("confidence")
    there = [one for one in others if {name, one} <= set(table.name)]
    if not there:
        return pd.DataFrame(columns=columns)
    pairs = test(table, name, confidence=confidence).loc[there]
    tested = pairs.p.notna()
    if tested.any():
        corrected = multipletests(pairs.p[tested], method="holm")[1]
        pairs.loc[tested, "p_corrected"] = corrected
    turned = {"difference": -pairs.difference, "low": -pairs.high, "high": -pairs.low}
    return pairs.assign(**turned)[columns]


def verdict(pairs, kin, step_ms):
    """Does the network win? Sentences about what `versus` gave.

    pairs: from `versus`, for the parents and the baselines. kin: the names of the parents among
    them. step_ms: by name, with the network's own; the goal is to beat every parent in no more
    time than the costliest of them.
    """
    if pairs.empty:
        return "No verdict: there are no runs of it, or none of its rivals."
    name = pairs.baseline.iloc[0]
    for one in kin:
        one_of("kin", one, list(pairs.index))
    tested = pairs[pairs.n >= 2]
    if len(tested) < len(pairs):
        missing = ", ".join(pairs.index.difference(tested.index, sort=False))
        if tested.empty:
            return f"No verdict: fewer than two seeds that {name} shares with {missing}."
    groups = {
        "better than": tested[tested.low > 0],
        "worse than": tested[tested.high < 0],
        "not clearly different from": tested[(tested.low <= 0) & (tested.high >= 0)],
    }
    lines = [
        f"{name} is {words} {'; '.join(_difference(row) for row in group.itertuples())}."
        for words, group in groups.items()
        if len(group)
    ]
    if len(tested) < len(pairs):
        lines.append(f"Not tested, for want of seeds: {missing}.")
    sure = tested.index[tested.p_corrected < 1 - tested.confidence]
    lines.append(
        f"After correction for {len(tested)} comparisons: a difference to "
        f"{', '.join(sure) if len(sure) else 'none of them'}."
    )
    step_ms = step_ms.reindex([name, *kin])
    if kin and step_ms.notna().all():
        dearest = step_ms[kin].idxmax()
        within = step_ms[name] <= step_ms[dearest]
        lines.append(
            f"One training step takes {step_ms[name]:.0f} ms; that of its costliest parent, "
            f"{dearest}, {step_ms[dearest]:.0f} ms."
        )
        beaten = [one for one in kin if one in groups["better than"].index]
        reached = within and len(beaten) == len(kin)
        lines.append(
            f"The goal, every parent beaten with an interval above zero in no more time than the "
            f"costliest: {'reached' if reached else 'not reached'} "
            f"({len(beaten)} of {len(kin)} parents, {'within' if within else 'beyond'} its time)."
        )
    elif kin:
        lines.append("No goal to judge: its training step is not measured beside its parents'.")
    return "\n".join(lines)


def _difference(row):
    words = f"{row.Index} ({row.difference:+.2f}, {row.low:+.2f} to {row.high:+.2f}"
    return words.replace(" -", " −").replace("(-", "(−") + f", {row.n:.0f} seeds)"
