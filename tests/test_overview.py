"""The one table of a study: what stands in it is what its parts say, for the right network."""

import dataclasses
import json

import pandas as pd
import pytest
import torch

from attention import survey
from attention.cost import parameters
from attention.data import Dataset, Split
from attention.results import overview, statistics
from attention.study import grids
from attention.training import machine

SEEDS = {"plain": (70.0, 71.0, 72.0), "wide": (71.0, 73.0, 72.0), "block": (72.0, 73.5, 74.0),
         "large": (60.0, 62.0, 61.0)}  # fmt: skip
SIZES = {"plain": 100, "wide": 120, "block": 110, "large": 500}


def table(missing=()):
    return pd.DataFrame([
        {"name": name, "seed": seed, "test_accuracy": value, "parameters": SIZES[name]}
        for name, values in SEEDS.items()
        for seed, value in enumerate(values)
        if (name, seed) not in missing
    ])  # fmt: skip


def images(name="pictures", size=32):
    split = Split(torch.zeros(20, 3, size, size, dtype=torch.uint8), torch.arange(20) % 10)
    return Dataset(name, split, split, tuple("abcdefghij"))


def benchmark_file(home, runs, batch_size, **changes):
    rows = [
        {"name": run.name, "parameters": parameters(run.build(10)), "flops": 1, "step_ms": n,
         "time": 1.0, "latency_ms": 2.0 * n, "memory_mib": 3.0 * n}
        for n, run in enumerate(runs, 1)
    ]  # fmt: skip
    rows[-1] |= changes
    folder = home / "data" / "benchmarks"
    folder.mkdir(parents=True, exist_ok=True)
    here = {"hardware": "abacus", "threads": 7}
    record = {"machine": here, "rounds": 9, "batch_size": batch_size, "rows": rows}
    (folder / "mechanisms.json").write_text(json.dumps(record))


def test_committed_costs_are_taken_for_the_networks_that_were_measured(own_home):
    runs = [grids.mechanism(name) for name in (None, "se", "eca", "hybrid")]
    benchmark_file(own_home, [runs[0], runs[1], runs[3]], runs[0].batch_size, parameters=1)
    found, where = overview.costs(runs, images(), progress=False)
    assert found.step_ms[runs[0].name] == 1 and found.memory_mib[runs[1].name] == 6
    # ECA was not measured, the hybrid was another block then
    assert found.loc[[runs[2].name, runs[3].name]].isna().all(axis=None)
    assert "abacus, 7 threads" in where


@pytest.mark.parametrize("case", ["no file", "another batch", "another size"])
def test_costs_of_another_setting_are_measured_here(own_home, case):
    runs = [grids.mechanism(None), grids.mechanism("se")]
    if case != "no file":
        benchmark_file(own_home, runs, 512 if case == "another batch" else runs[0].batch_size)
    data = images(size=24 if case == "another size" else 32)
    found, where = overview.costs(runs, data, rounds=1, progress=False)
    assert list(found.columns) == list(overview.COSTS) and (found > 0).all(axis=None)
    assert where == "measured here, median of 1 rounds"


def test_overview_pairs_every_network_with_plain_and_with_plain_of_its_size():
    whole = table(missing=[("block", 2)])
    found = overview.overview(whole, "plain", ["wide", "not trained"])
    assert list(found.index) == ["block", "wide", "plain", "large"]  # 72.75, 72, 71, 61
    assert found.n.to_dict() == {"block": 2, "wide": 3, "plain": 3, "large": 3}
    assert found.plain_difference["block"] == pytest.approx((2.0 + 2.5) / 2)
    assert found.size_difference["block"] == pytest.approx((1.0 + 0.5) / 2)
    assert found.size_baseline["block"] == "wide" and found.size_outgrown["large"]
    alone = statistics.paired(whole, "plain")
    assert found.plain_p_corrected["large"] == pytest.approx(alone.p_corrected["large"])
    assert found.plain_difference.isna()["plain"] and found.size_difference.isna()["wide"]


def test_complete_leaves_out_networks_with_fewer_seeds():
    rows = overview.complete(table(missing=[("block", 2)]))
    assert set(rows.name) == {"plain", "wide", "large"}
    statistics.ranks(rows)


def test_styled_says_what_is_there_and_a_dash_for_what_is_not():
    found = overview.overview(table(missing=[("block", 1), ("block", 2)]), "plain", ["wide"])
    found["mflops"] = found["step_ms"] = found["latency_ms"] = 1.0
    found["memory_mib"], found["pointing"] = float("nan"), 50.4
    found.loc["large", ["plain_p_corrected", "size_p_corrected"]] = 0.04, 0.06
    styler = overview.styled(found, {"pointing": ("own map", "{:.0f} %")})
    shown = styler.data
    assert shown.loc["block", ("accuracy (%)", "interval")] == "–"  # one seed
    assert shown.loc["block", ("minus plain", "points")] == "+2.00"
    assert shown.loc["large", ("minus plain", "points")] == "−10.00"
    assert shown.loc["plain", ("cost", "memory (MiB)")] == "–"
    assert shown.loc["plain", ("maps", "own map")] == "50 %"
    html = styler.to_html()
    assert html.count("font-weight: bold") == 1
    bold = {tuple(place) for place, style in styler._compute().ctx.items() if style}
    row, columns = list(shown.index).index("large"), [c[0] for c in shown.columns]
    assert bold == {(row, n) for n, top in enumerate(columns) if top == "minus plain"}


def survey_records(own_home, what, data, values):
    """Records as `survey` keeps them; values: (run, {map: the measure}) for each."""
    for run, maps in values:
        rows = {}
        for name, value in maps.items():
            family = {"Grad-CAM": name, "random": "baseline"}.get(name, "own")
            rows[name] = {"family": family, "how": "", "agreement": None, "choice": value}
            rows[name] |= {one: (value, value, value) for one in survey.MEASURES[what]}
        record = {
            "name": run.name, "run": dataclasses.asdict(run), "dataset": {"name": data.name},
            "accuracy": 50.0, "images": 1, "maps": rows, "effect": {},
            "machine": machine.describe("cpu"),
        }  # fmt: skip
        path = survey.folder(what) / data.name / f"{run.key(data)}.json"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(record))
    runs = [run for run, _ in values]
    return overview.known(what, [*runs, grids.mechanism("eca")], data)


def test_maps_are_those_of_each_network_on_both_kinds_of_images(own_home):
    data = images()
    plain, block, again = (
        grids.mechanism(None), grids.mechanism("se"), grids.mechanism("se", seed=1),
    )  # fmt: skip
    others = {"Grad-CAM": 0.5, "random": 0.4}
    located = survey_records(own_home, "localisation", data, [
        (plain, others),
        (block, {"stage1": 0.2, "stage2": 0.6, **others}),
        (again, {"stage1": 0.1, "stage2": 0.8, **others}),
    ])  # fmt: skip
    removed = survey_records(own_home, "faithfulness", data, [
        (block, {"stage1": 0.0, "stage2": 0.3, **others}),
    ])  # fmt: skip
    found = overview.maps(located, removed)
    assert found.pointing[block.name] == pytest.approx(70) and found.pointing.isna()[plain.name]
    assert found.pointing_gradcam[plain.name] == pytest.approx(50)
    # under ROAD the second map brings the answer further down than noise, Grad-CAM less far
    assert found.faithful[block.name] == pytest.approx(10)
    assert found.faithful_gradcam[block.name] == pytest.approx(-10)
    assert found.faithful.isna()[plain.name]
    assert overview.maps([], []).shape == (0, 4)
    assert overview.maps(located, []).faithful.isna().all()


def test_beside_puts_a_networks_columns_on_each_of_its_runs():
    columns = pd.DataFrame({"step_ms": [5.0, 7.0], "parameters": [1, 2]}, index=["block", "wide"])
    rows = overview.beside(table(), columns)
    assert (rows[rows.name == "block"].step_ms == 5).all() and len(rows) == len(table())
    assert (rows[rows.name == "wide"].parameters == 2).all()  # replaced, not doubled
    assert rows[rows.name == "plain"].step_ms.isna().all()


def test_the_guide_sets_budgets_by_the_plain_network():
    rows = table().assign(step_ms=table().name.map({"plain": 10, "wide": 14, "block": 11}))
    found = overview.guide(rows, "plain", factors=(1, 1.2), columns=("parameters", "step_ms"))
    assert list(found.budget) == [
        "parameters ≤ 100", "parameters ≤ 120", "step_ms ≤ 10.0", "step_ms ≤ 12.0",
    ]  # fmt: skip
    assert found.choice[0] == "plain" and found.best[1] == "block" and found.best[3] == "block"
    without = overview.guide(table(), "plain", columns=("parameters", "latency_ms"))
    assert len(without) == 3
