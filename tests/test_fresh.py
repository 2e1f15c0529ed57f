"""The block that led, asked about again on fresh seeds: the test of the second plan."""

import numpy as np
import pandas as pd
import pytest
from invented import record
from scipy import stats
from test_answer import PLAIN, studied

from attention import figures, results
from attention.files import write_record
from attention.networks import SETTINGS
from attention.results import answer, fresh, plan, report
from attention.study import grids

NOISE = np.random.default_rng(1).normal(0, 0.1, (2, len(plan.FRESH_SEEDS)))
LED = plan.MOST_ACCURATE


def again(shift, **changes):
    """Runs of the plain network and of the block that led, with the fresh seeds."""
    return [
        record(
            PLAIN if block is None else f"resnet20 + {block}", seed,
            87 + 0.3 * (seed % 3) + shift * (block is not None) + noise, block=block,
            family="channel" if block else "plain", width=None, network="resnet20",
            options=SETTINGS.get(block, {}).get("options", {}), **changes,
        )
        for block, row in zip((None, LED), NOISE, strict=True)
        for seed, noise in zip(plan.FRESH_SEEDS, row, strict=True)
    ]  # fmt: skip


def asked(shift, first=0.8):
    return fresh.asked_again(results.frame([*studied({LED: first}), *again(shift)]))


def test_the_test_is_over_the_fresh_seeds_with_the_noise_of_both_plans():
    shift = 0.3
    _, row, _ = (row for _, row in asked(shift).iterrows())
    pairs = NOISE[1] - NOISE[0] + shift
    assert row.difference == pytest.approx(pairs.mean()) and row.n == len(pairs)
    # what network and seed leave of the first plan's runs, and their mean of the pairs
    first = answer.differences(answer.planned(results.frame(studied({LED: 0.8})))).iloc[0]
    squares = first.freedom * first.spread**2 + ((pairs - pairs.mean()) ** 2).sum()
    freedom = first.freedom + len(pairs) - 1
    error = (squares / freedom / len(pairs)) ** 0.5
    assert row.freedom == freedom and row.error == pytest.approx(error)
    p = 2 * stats.t.sf(row.difference / error, freedom)
    assert row.p == pytest.approx(p) and row.p_corrected == pytest.approx(p)
    assert row.low == pytest.approx(row.difference - stats.t.ppf(0.975, freedom) * error)
    within = stats.t.sf((plan.MARGIN - row.difference) / error, freedom)
    assert row.equal_p == pytest.approx(within)


def test_the_first_seeds_stand_beside_it_as_in_the_answer_and_all_without_a_test():
    table = asked(0.1)
    first, _, every = (row for _, row in table.iterrows())
    assert list(table.index) == ["seeds 0 to 4", "seeds 5 to 12", "seeds 0 to 12"]
    there = answer.differences(answer.planned(results.frame(studied({LED: 0.8}))))
    there = there.loc[f"resnet20 + {LED}"]
    for column in ("difference", "low", "high", "p_corrected", "equal_p"):
        assert first[column] == pytest.approx(there[column])
    assert first.verdict == there.verdict
    assert every.n == 13 and np.isnan([every.p, every.p_corrected, every.equal_p]).all()
    both = (5 * first.difference + 8 * table.difference.iloc[1]) / 13
    assert every.difference == pytest.approx(both)
    assert table["mean"].to_numpy() - table.plain.to_numpy() == pytest.approx(table.difference)


@pytest.mark.parametrize(
    ("shift", "verdict", "said"),
    [
        (1.0, "better", "se is more accurate than the network without a block (+"),
        (0.25, "better", "more accurate than the network without a block, by less than 0.5 points"),
        (-1.0, "worse", "se is less accurate than the network without a block (−"),
        (0.03, "equal", "shown to be equal to the network without a block within ±0.5 points (+"),
    ],
)
def test_the_fresh_seeds_decide_whatever_the_first_gave(shift, verdict, said):
    for first in (-0.9, 0.9):
        table = asked(shift, first)
        assert table.verdict.iloc[1] == verdict and table.verdict.iloc[2] == "an estimate"
        words = fresh.sentence(table)
        assert said in words and "on seeds 5 to 12, by which nothing was chosen" in words
        row = table.iloc[1]
        for number in (row.difference, row.low, row.high):
            assert f"{number:+.2f}".replace("-", "−") in words
            assert f"{number:+.2f}".replace("-", "−") in fresh.markdown(table)
        assert f"{row.detectable:.2f} points would be found" in words


def test_nothing_is_said_before_the_last_seed_of_both_plans():
    first, later = studied({}), again(0.4)
    assert fresh.asked_again(results.frame(later)) is None
    assert fresh.asked_again(results.frame(first)) is None
    for missing in (0, -1):
        fewer = [one for one in later if one is not later[missing]]
        assert fresh.asked_again(results.frame([*first, *fewer])) is None
    # a longer training, or one by another recipe, is no fresh seed of the comparison
    for changes in ({"epochs": 60}, {"learning_rate": 9.0}):
        others = again(0.4, **changes)[:1]
        mixed = results.frame([*first, *later[1:], *others])
        assert fresh.asked_again(mixed) is None


def test_the_fresh_seeds_are_no_part_of_the_plan_and_its_answer_stays():
    alone = answer.planned(results.frame(studied({})))
    both = answer.planned(results.frame([*studied({}), *again(0.4)]))
    pd.testing.assert_frame_equal(alone, both)


def test_the_report_has_the_plan_the_sentence_and_the_table(tmp_path):
    for number, one in enumerate([*studied({LED: 0.4}), *again(0.4)]):
        write_record(tmp_path / "runs" / f"{number}.json", one)
    text, brief = report.text(tmp_path), report.answered(tmp_path, short=True)
    said = fresh.sentence(asked(0.4, 0.4))
    assert plan.AGAIN in text and f"- {said}" in text and f"- {said}" in brief
    table = fresh.markdown(asked(0.4, 0.4))
    assert table in text and table not in brief


def test_what_is_trained_is_what_is_read(monkeypatch):
    monkeypatch.setenv("ATTENTION_PROFILE", "quick")
    runs, primary = grids.fresh(), {run.name: run for run in grids.primary(1)}
    assert [run.seed for run in runs[::2]] == list(plan.FRESH_SEEDS)
    assert not {run.seed for run in runs} & {run.seed for run in grids.primary()}
    for run in runs:
        assert vars(run.resolved()) == vars(primary[run.name].resolved()) | {"seed": run.seed}
    assert {run.block for run in runs} == {None, LED}
    assert len(grids.fresh(3)) == 6


def test_a_difference_is_written_alike_in_whatever_order_the_runs_come():
    records = [*studied({}), *again(0.4)]
    for one in records[-16:]:  # the pairs: 0.195 points on average, which two decimals cannot say
        seed, block = one["run"]["seed"], one["block"]
        one["result"]["test_accuracy"] = (
            87.13 + 0.31 * seed + (bool(block) * (0.2 - 0.04 * (seed == 5)))
        )
    said = set()
    for first in (records, records[::-1], [*records[20:], *records[:20]]):
        said.add(fresh.sentence(fresh.asked_again(results.frame(first))))
    assert len(said) == 1 and "(+0.20 points" in said.pop()


def test_the_figure_shows_first_fresh_and_all():
    figure = figures.differences(asked(0.3), margin=plan.MARGIN)
    shown = {label.get_text() for label in figure.axes[0].get_yticklabels()}
    assert shown == {"seeds 0 to 4", "seeds 5 to 12", "seeds 0 to 12"}
    low, high = figure.axes[0].get_xlim()
    table = asked(0.3)
    assert low < table.low.min() and table.high.max() < high  # no interval is cut
