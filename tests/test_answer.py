"""The answer of the comparison: the tests that the plan names, and what is made of them."""

import re

import numpy as np
import pandas as pd
import pytest
from address import ROOT
from invented import record
from scipy import stats
from statsmodels.stats.multitest import multipletests

from attention import results
from attention.networks import SETTINGS
from attention.results import answer, plan, power, report, trials
from attention.results.tables import place
from attention.study import grids
from attention.study.planned import primary

NOISE = np.random.default_rng(0).normal(0, 0.1, (8, plan.SEEDS))
PLAIN = "resnet20 (plain)"


def hybrid(seeds):
    """The records of the hybrid, with these seeds."""
    own = SETTINGS["hybrid"]
    about = {"block": "hybrid", "family": "hybrid", "width": None, "network": "resnet20"}
    about |= {"options": own["options"], "at": own.get("at"), "stages": own.get("stages")}
    return [record("resnet20 + hybrid", seed, 88.0 + 0.3 * seed, **about) for seed in seeds]


def studied(shifts, seeds=plan.SEEDS, **changes):
    """The table of the plan's networks with these mean differences to the plain one."""
    records = []
    for number, name in enumerate([None, *plan.PAPERS]):
        for seed in range(seeds):
            accuracy = 87 + 0.3 * seed + shifts.get(name, 0) + NOISE[number, seed]
            label = PLAIN if name is None else f"resnet20 + {name}"
            family = "plain" if name is None else "channel"
            records.append(record(
                label, seed, accuracy, block=name, family=family, width=None, network="resnet20",
                options=SETTINGS.get(name, {}).get("options", {}), parameters=1000 + number,
                **changes,
            ))  # fmt: skip
    for number, control in enumerate(plan.CONTROLS, 5):
        for seed in range(seeds):
            what = {"network": "resnet20", "width": None} | control
            label = f"{what['network']}-{what['width']}"
            accuracy = 87.2 + 0.3 * seed + NOISE[number, seed]
            records.append(record(label, seed, accuracy, parameters=2000 + number, **what))
    return records


def planned(shifts, **changes):
    return answer.planned(results.frame(studied(shifts, **changes)))


def test_what_the_study_trains_is_what_the_answer_reads():
    runs = primary(2)
    names = {run.name for run in runs}
    records = [
        record(
            run.name, run.seed, 80.0, block=run.block, family=run.family, width=run.width,
            options=dict(run.options), network=run.network, at=run.at, stages=run.stages,
        )
        for run in runs
    ]  # fmt: skip
    found = answer.planned(results.frame(records))
    assert set(found.name) == names and len(found) == len(runs)
    assert list(found.drop_duplicates("name").role) == ["plain"] + ["block"] * 5 + ["control"] * 2


def test_the_hybrid_that_is_compared_is_what_the_search_found(monkeypatch):
    monkeypatch.setenv("ATTENTION_PROFILE", "quick")
    drawn = {run.name for run in grids.search() if run.block == "hybrid"}
    runs = results.frame(results.read(ROOT / "data/runs/cifar10-jpeg75-validation"))
    tried = trials.trials(runs[runs.name.isin(drawn) & (runs.epochs == 5)])
    assert set(tried.name) == drawn and (tried.n == 3).sum() == grids.FINALISTS
    found, ours = tried.loc[trials.winner(tried)], SETTINGS["hybrid"]
    assert found.options == ours["options"]
    assert found.place == place("residual", ours.get("at"), ours.get("stages"))


@pytest.mark.parametrize(
    "change", [{"options": {"reduction": 16}}, {"network": "fast"}, {"width": 32}]
)
def test_a_network_of_another_kind_has_no_part_in_it(change):
    about = {"block": "se", "family": "channel", "width": None, "network": "resnet20"}
    other = record("another", 0, 99.0, **about | {"options": {"reduction": 4}} | change)
    with_it = results.frame([*studied({}), other])
    pd.testing.assert_frame_equal(
        answer.planned(with_it).reset_index(drop=True), planned({}).reset_index(drop=True)
    )


def test_longer_runs_beside_it_are_no_part_of_the_plan():
    records = [
        *studied({}),
        *(one | {"run": one["run"] | {"epochs": 60}} for one in studied({})[:2]),
    ]
    longer = results.frame(records)
    assert longer.epochs.nunique() == 2
    pd.testing.assert_frame_equal(answer.planned(longer), planned({}))


def test_the_hybrid_is_left_out_until_it_has_the_seeds_of_the_others():
    for count in (1, 4, 5):
        runs = answer.planned(results.frame([*studied({}), *hybrid(range(count))]))
        assert runs.seed.nunique() == 5 and ("hybrid" in set(runs.block)) == (count == 5)
        assert ("Still missing: the hybrid" in answer.sentences(runs)[-1]) == (count < 5)
    # a fifth seed has begun: the others have four in common
    begun = answer.planned(results.frame([*studied({})[:-1], *hybrid(range(4))]))
    assert begun.name.nunique() == 8 and begun.seed.nunique() == 4


def test_only_seeds_that_all_networks_have_count():
    records = studied({})[:-1]  # the last control lacks the last seed
    assert sorted(answer.planned(results.frame(records)).seed.unique()) == [0, 1, 2, 3]


def test_differences_are_those_of_a_model_of_two_factors():
    runs = planned({"se": 0.8, "bam": -0.9})
    pairs = answer.differences(runs)
    wide = runs[runs.role != "control"].pivot(index="seed", columns="name", values="test_accuracy")
    effect = wide.mean() - wide.mean()[PLAIN]
    rest = wide - wide.mean() - wide.mean(axis=1).to_numpy()[:, None] + wide.to_numpy().mean()
    freedom = (wide.shape[0] - 1) * (wide.shape[1] - 1)
    error = (2 * (rest.to_numpy() ** 2).sum() / freedom / len(wide)) ** 0.5
    for name, row in pairs.iterrows():
        assert row.difference == pytest.approx(effect[name])
        assert row.error == pytest.approx(error) and row.freedom == freedom
        assert row.p == pytest.approx(2 * stats.t.sf(abs(effect[name]) / error, freedom))
        assert row.high == pytest.approx(effect[name] + stats.t.ppf(0.975, freedom) * error)
        half = stats.t.ppf(0.95, freedom) * error  # both one-sided tests at 5 %
        assert (row.equal_low, row.equal_high) == pytest.approx(
            (effect[name] - half, effect[name] + half)
        )
    assert pairs.verdict.to_dict() == {
        "resnet20 + se": "better", "resnet20 + eca": "equal", "resnet20 + cbam": "equal",
        "resnet20 + bam": "worse",
    }  # fmt: skip


def test_the_hybrid_counts_in_the_correction_before_it_is_trained():
    pairs = answer.differences(planned({"se": 0.25, "bam": -0.2}))
    p = pairs.p.to_numpy()
    for value, name in ((pairs.p, "p_corrected"), (both_sides(pairs), "equal_p")):
        wanted = multipletests([*value, 1.0], method="holm")[1][:4]  # a fifth, at its worst
        assert pairs[name].to_numpy() == pytest.approx(wanted)
    assert pairs.p_corrected.min() == pytest.approx(5 * p.min())
    alone = power.smallest_shift(pairs.error, pairs.freedom, 0.05 / 5)
    assert pairs.detectable.to_numpy() == pytest.approx(np.asarray(alone))


def both_sides(pairs):
    """The larger p of both one-sided tests against the plan's margin."""
    worst = (plan.MARGIN - pairs.difference.abs()) / pairs.error
    return stats.t.sf(worst, pairs.freedom)


def test_what_is_neither_is_undecided():
    records = studied({})
    for number, one in enumerate(records):
        one["result"]["test_accuracy"] += 10 * NOISE.flat[(7 * number) % NOISE.size]
    pairs = answer.differences(answer.planned(results.frame(records)))
    assert "undecided" in set(pairs.verdict)
    assert all((pairs.verdict == "equal") <= (pairs.equal_p < 0.05))


def test_each_block_is_compared_with_each_plain_network_of_its_cost():
    pairs = answer.at_equal_cost(planned({"se": 0.8}))
    assert len(pairs) == 8 and set(pairs.baseline) == {"resnet20-17", "resnet26-None"}
    order = pairs.p.rank(method="first").astype(int)
    # ten are planned: the hybrid's two, which are missing, count
    assert pairs.p_corrected[order == 1].item() == pytest.approx(min(1, 10 * pairs.p.min()))


def test_sentences_say_what_the_table_says():
    runs = planned({"se": 0.8, "eca": 0.7, "bam": -0.9})
    pairs, said = answer.differences(runs), answer.sentences(runs)
    assert said[0].startswith("se (") and "more accurate" in said[0] and " and eca (" in said[0]
    assert "bam (" in said[1] and "less accurate" in said[1]
    assert "cbam (" in said[2] and "equal to the network without a block within ±0.5" in said[2]
    assert f"{pairs.detectable.max():.2f} points would be found" in said[3]
    assert said[5].startswith("Still missing: the hybrid.")
    table = report.comparison(runs)
    for name, row in pairs.iterrows():
        [sentence] = [
            s
            for s in said[:3]
            if f"{name.removeprefix('resnet20 + ')} ("
            in s.replace("cbam (", "" if name.endswith("+ bam") else "cbam (")
        ]
        for number in (row.difference, row.low, row.high):
            assert f"{number:+.2f}".replace("-", "−") in sentence
            assert f"{number:+.2f}".replace("-", "−") in table


@pytest.mark.parametrize(("bam", "word"), [(-1.0, "less"), (0.2, None), (1.4, "more")])
def test_a_sentence_says_what_lies_beside_the_networks_of_its_cost(bam, word):
    runs = planned(dict.fromkeys(plan.PAPERS, 0.2) | {"bam": bam})  # the controls have 0.2
    pairs = answer.at_equal_cost(runs)
    [said] = [sentence for sentence in answer.sentences(runs) if "cost about as much" in sentence]
    sure = pairs[pairs.p_corrected < 0.05]
    assert len(sure) == (2 if word else 0) and {*sure.name} <= {"resnet20 + bam"}
    assert (f"bam is {word} accurate than" in said) == bool(word)
    assert " is " not in said.replace("bam is", "").replace("no block is", "")
    for row in sure.itertuples():
        interval = f"{row.difference:+.2f} points, 95 % interval {row.low:+.2f} to {row.high:+.2f}"
        assert f"{row.baseline} ({interval.replace('-', '−')})" in said
    for absent in {"more", "less"} - {word}:
        assert f"no block is shown to be {absent} accurate than one of them" in said


def test_brief_sentences_say_the_same_without_the_numbers_of_the_table():
    runs = planned({"se": 0.8, "eca": 0.7, "bam": -0.9})
    whole, brief = answer.sentences(runs), answer.sentences(runs, brief=True)
    without = [re.sub(r" \([+−][^)]*\)", "", sentence) for sentence in whole]
    assert brief == without != whole


def test_there_is_no_verdict_before_the_last_seed():
    runs = planned({"se": 0.8}, seeds=plan.SEEDS - 1)
    assert answer.sentences(runs) == [
        "So far 4 of 5 seeds are trained. Still missing: the hybrid. "
        "There is no verdict before the last seed."
    ]
    few = runs[(runs.block != "bam") & (runs.name != "resnet26-None")]
    absent = "bam, the hybrid, 1 of the 2 plain networks of equal cost"
    assert f" Still missing: {absent}. " in answer.sentences(few)[0]
    assert answer.sentences(few[few.seed == 0])[0].startswith("So far 1 of 5 seeds is trained. ")
    table = report.comparison(runs)
    assert "minus plain" not in table and "95 % interval" not in table
    first = runs.sort_values(["name", "seed"]).groupby("name", sort=False).test_accuracy.agg(list)
    for accuracies in first:
        assert ", ".join(f"{accuracy:.2f}" for accuracy in accuracies) in table


def test_the_report_in_the_repository_is_that_of_its_records():
    assert (ROOT / "RESULTS.md").read_text(encoding="utf-8") == report.text(ROOT / "data")
    assert plan.TEXT in report.text(ROOT / "data")


def test_the_report_has_every_pair_of_a_block_and_a_plain_network_of_its_cost():
    runs = planned({"se": 0.8})
    pairs, lines = answer.at_equal_cost(runs), report.controls(runs).splitlines()[2:]
    assert len(lines) == len(pairs) == 8
    for line, pair in zip(lines, pairs.itertuples(), strict=True):
        for number in (pair.difference, pair.low, pair.high):
            assert f"{number:+.2f}".replace("-", "−") in line
        assert f"{pair.p_corrected:.3f}" in line and pair.baseline in line


def test_a_block_that_is_slower_than_the_plan_had_thought_is_named():
    runs, names = planned({}), {name: f"resnet20 + {name}" for name in plan.PAPERS}
    steps = pd.Series({PLAIN: 1.0, "resnet26-None": 1.3, names["se"]: 1.2, names["bam"]: 1.4})
    [said] = report.expected(runs, steps)  # CBAM it had never thought to be fast
    assert said.startswith("The plan took bam ") and "× 1.40" in said and "× 1.30" in said
    assert (
        report.expected(runs, steps * 0 + 1) == report.expected(runs, pd.Series(dtype=float)) == []
    )


def test_the_table_tells_what_a_step_takes_where_it_was_measured():
    runs = planned({})
    steps = pd.Series({PLAIN: 1.0, "resnet20 + cbam": 1.5})
    lines = report.comparison(runs, steps).splitlines()
    assert lines[0].rstrip(" |").endswith("training step")
    [cbam] = [line for line in lines if "| cbam" in line]
    [eca] = [line for line in lines if "| eca" in line]
    assert cbam.rstrip(" |").endswith("× 1.50") and eca.rstrip(" |").endswith("–")
