"""Costs: where a number comes from, and what is not measured."""

import json

import pytest
import torch

from attention import benchmark, results
from attention.cost import parameters
from attention.data import Dataset, Split, shapes10
from attention.training import compared

pytestmark = pytest.mark.usefixtures("own_home")


def images(size=32):
    split = Split(torch.zeros(20, 3, size, size, dtype=torch.uint8), torch.arange(20) % 10)
    return Dataset("pictures", split, split, tuple("abcdefghij"))


def committed(home, runs, batch_size, **changes):
    rows = [
        {"name": run.name, "parameters": parameters(run.build(10)), "flops": 1, "step_ms": n,
         "time": 1.0, "latency_ms": 2.0 * n, "memory_mib": 3.0 * n}
        for n, run in enumerate(runs, 1)
    ]  # fmt: skip
    rows[-1] |= changes
    folder = home / "data" / "benchmarks"
    folder.mkdir(parents=True)
    here = {"hardware": "abacus", "threads": 7, "precision": "float7"}
    record = {"machine": here, "rounds": 9, "batch_size": batch_size, "rows": rows}
    (folder / "mechanisms.json").write_text(json.dumps(record))


def test_committed_costs_are_taken_for_the_networks_that_were_measured(own_home):
    runs = [compared(name) for name in (None, "se", "eca", "hybrid")]
    committed(own_home, [runs[0], runs[1], runs[3]], 64, parameters=1)
    found, where = benchmark.costs_of(runs, images(), progress=False)
    assert found.step_ms[runs[0].name] == 1 and found.memory_mib[runs[1].name] == 6
    # ECA was not measured, the hybrid was another block then
    assert found.loc[[runs[2].name, runs[3].name]].isna().all(axis=None)
    assert "on abacus, 7 threads, float7" in where


@pytest.mark.parametrize("case", ["no file", "another batch", "another size"])
def test_costs_of_another_setting_are_measured_here(own_home, case):
    runs = [compared(None), compared("se")]
    if case != "no file":
        committed(own_home, runs, 512 if case == "another batch" else 64)
    data = images(size=24 if case == "another size" else 32)
    found, where = benchmark.costs_of(runs, data, rounds=1, progress=False)
    assert list(found.columns) == list(results.COSTS) and (found > 0).all(axis=None)
    assert where.startswith("measured here, median of 1 rounds")


def test_costs_are_those_of_each_network_beside_the_first():
    runs = [compared(name) for name in (None, "se", "nonlocal")]
    found = benchmark.costs(runs, rounds=1, progress=False)
    assert list(found.index) == [run.name for run in runs] and found.time.iloc[0] == 1
    assert found.parameters.to_list() == [parameters(run.build(10)) for run in runs]
    ratio = found.step_ms / found.step_ms.iloc[0]
    torch.testing.assert_close(found.time.to_numpy(), ratio.to_numpy())


def test_what_training_keeps_is_that_of_a_whole_batch():
    run = compared("nonlocal")
    [kept] = benchmark.inference([run], rounds=1, progress=False).memory_mib
    network = run.build(10).train()
    batch = torch.randn(64, 3, 32, 32).to(memory_format=torch.channels_last)
    assert kept == pytest.approx(benchmark.kept_for_backward(lambda: network(batch)) / 2**20, 0.01)


def test_the_loop_of_fit_is_measured_beside_its_bare_step():
    found = benchmark.trainer_overhead(shapes10(train=80, test=20), rounds=1, progress=False)
    assert found["share"] == found["fit"] / found["bare step"] > 0


def test_every_measure_of_maps_is_timed():
    found = benchmark.explanation(shapes10(train=20, test=20), count=4, progress=False)
    assert {"all maps", "localisation", "agreement", "behaviour", "knocked out"} < set(found)
    removals = [name for name in found if name.startswith("removal, ")]
    assert len(removals) == 5 and "gate" in removals[0] and min(found.values()) > 0


def test_the_command_writes_what_costs_of_reads(own_home, monkeypatch, capsys):
    runs = [compared(None), compared("se")]
    monkeypatch.setattr(benchmark, "mechanisms", lambda: runs)
    benchmark.main(["mechanisms", "--rounds", "1"])
    rows = json.loads((own_home / "data/benchmarks/mechanisms.json").read_text())["rows"]
    found, where = benchmark.costs_of(runs, images())
    assert found.step_ms.to_list() == [row["step_ms"] for row in rows]
    assert "measured by python -m attention.benchmark mechanisms" in where
    assert runs[1].name in capsys.readouterr().out


@pytest.mark.parametrize(
    "arguments", ["mechanisms --rounds 0", "blocks --rounds -2", "nothing", ""]
)
def test_what_the_command_line_does_not_understand_is_named(arguments, capsys):
    with pytest.raises(SystemExit, match="2"):
        benchmark.main(arguments.split())
    message = capsys.readouterr().err
    assert "--rounds must be a whole number of at least 1, got" in message or "what" in message


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: benchmark.costs([]), "runs must be a list of Run, at least one .* got"),
        (lambda: benchmark.costs(compared(None)), "runs must be a list of Run"),
        (lambda: benchmark.inference(["se"]), r"runs must be a list of Run, .* got \['se'\]"),
        (lambda: benchmark.costs_of(None, images()), "runs must be a list of Run"),
        (lambda: benchmark.costs([compared(None)], rounds=0), "rounds must be .* got 0"),
        (lambda: benchmark.in_turns({}, 1.5), "rounds must be .* got 1.5"),
        (lambda: benchmark.trainer_overhead(images(), rounds=0), "rounds must be .* got 0"),
        (lambda: benchmark.explanation(images()), "masks of its objects, pictures has none"),
        (lambda: benchmark.explanation(shapes10(20, 20), 0), "count must be .* got 0"),
    ],
)
def test_a_wrong_argument_is_named(call, message):
    with pytest.raises(ValueError, match=message):
        call()
