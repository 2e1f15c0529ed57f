"""Costs: where a number comes from, and what is not measured."""

import json
import sys

import pandas as pd
import pytest
import torch

from attention import SE, benchmark, figures, results
from attention.benchmark import __main__ as command
from attention.cost import kept_for_backward, parameters
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
    assert found.time[runs[1].name] == 1  # as it was measured, no ratio of the steps
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
    assert list(found.columns) == [*results.COSTS, "time"] and (found > 0).all(axis=None)
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
    assert kept == pytest.approx(kept_for_backward(lambda: network(batch)) / 2**20, 0.01)


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
    command.main(["mechanisms", "--rounds", "1"])
    rows = json.loads((own_home / "data/benchmarks/mechanisms.json").read_text())["rows"]
    found, where = benchmark.costs_of(runs, images())
    assert found.step_ms.to_list() == [row["step_ms"] for row in rows]
    assert "measured by python -m attention.benchmark mechanisms" in where
    assert runs[1].name in capsys.readouterr().out


@pytest.mark.parametrize("arguments", ["mechanisms --rounds 0", "blocks --rounds -2", "nothing"])
def test_what_the_command_line_does_not_understand_is_named(arguments, capsys):
    with pytest.raises(SystemExit, match="2"):
        command.main(arguments.split())
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


def test_blocks_stand_beside_their_peers_and_beside_a_product():
    found = benchmark.beside_peers(((4, 32, 8, 8),), 1, "float32", fused=False, progress=False)
    rows = found.set_index(["block", "form"])
    assert rows.times["a product", "here"] == 1 and rows.bound["a product", "here"] == 1
    assert {("se", "torchvision"), ("se", "timm"), ("eca", "timm"), ("cbam", "timm")} < set(
        rows.index
    )
    one = rows.loc["cbam", "here"]
    # passes over 4·32·8·8 numbers of 4 bytes
    assert one.gb_s == pytest.approx(one.passes * 32768 / (one.ms / 1000) / 1e9)
    assert one.low <= one.times <= one.high
    # the product keeps its input and its gate of 32 numbers; CBAM the map between its gates, too
    assert rows.kept["a product", "here"] == 1 + 32 / 8192
    assert 2 < one.kept < 2.5


@pytest.mark.parametrize("name", ["se", "cbam"])
def test_peers_compute_what_the_block_computes(name):
    """Same parameters in the same order, so the costs are those of the same block."""
    from attention.benchmark.blocks import BLOCKS, peers

    own = BLOCKS[name](64)
    theirs = peers(64)[name, "timm"]
    shapes = [
        sorted(p.numel() for p in module.parameters() if p.ndim > 1) for module in (own, theirs)
    ]
    assert shapes[0] == shapes[1]


def test_the_least_that_se_must_move_is_what_it_reads_and_writes():
    """By hand: a forward pass in 3, a backward pass in 4, with one buffer for each pass."""
    from attention.benchmark.blocks import PASSES

    torch.manual_seed(0)
    block = SE(8, reduction=2)
    x, slope = torch.randn(2, 8, 4, 4, requires_grad=True), torch.randn(2, 8, 4, 4)
    block(x).backward(slope)
    passes = 0
    with torch.no_grad():
        mean, passes = x.mean((2, 3)), passes + 1  # x in
    mean.requires_grad_()
    gate = block.gate(_score(block, mean))
    y, passes = x.detach() * gate.detach(), passes + 2  # x in, y out
    slope_of_gate, passes = (slope * x.detach()).sum((2, 3), keepdim=True), passes + 2  # dy, x in
    (slope_of_mean,) = torch.autograd.grad(gate, mean, slope_of_gate)
    dx = slope * gate.detach() + slope_of_mean[..., None, None] / 16  # dy in, dx out
    passes += 2
    torch.testing.assert_close(dx, x.grad)
    torch.testing.assert_close(y, block(x).detach())
    assert passes == PASSES["se"]


def _score(block, mean):
    return block.score.expand(torch.relu(block.score.reduce(mean)))[..., None, None]


def test_answers_are_timed_in_every_form(own_home):
    torch.manual_seed(0)
    networks = {name: compared(name).build(10) for name in (None, "se")}
    networks = {name or "plain": network for name, network in networks.items()}
    found = benchmark.answering(
        networks, torch.randn(32, 3, 32, 32), (1,), 1, fused=False, progress=False
    )
    forms = set(map(tuple, found[["network", "form"]].to_numpy()))
    assert {("plain", "eager"), ("se", "folded")} <= forms
    assert (("se", "onnxruntime") in forms) == (not torch.__version__.startswith(("2.4", "2.5")))
    assert ("plain", "folded") not in forms and (found.ms > 0).all()
    assert found.set_index(["network", "form"]).times["plain", "eager"] == 1


def test_growth_is_the_slope_of_a_straight_line(monkeypatch):
    from attention.benchmark import sizes

    monkeypatch.setattr(sizes, "forward_and_backward", lambda module, shape, precision: shape)
    monkeypatch.setattr(sizes, "in_turns", lambda steps, rounds, progress: {
        key: [shape[0] * shape[1] ** 0.5 * shape[2] ** 2] for key, shape in steps.items()
    })  # fmt: skip
    found = sizes.growth(("se",), 1).set_index("grows with")
    assert found.exponent.round(6).to_dict() == {"batch": 1, "channels": 0.5, "side": 2}


def test_a_replayed_step_is_timed_beside_the_same_step_as_it_is_written(monkeypatch):
    module, made = sys.modules["attention.benchmark.trainer"], []
    monkeypatch.setattr(module, "STEPS", 2)
    monkeypatch.setattr(module, "Replayed", lambda step, parameters: made.append(step) or step)
    found = benchmark.replayed(shapes10(80, 20), 1, progress=False)
    assert len(made) == 1 and found["times"] == found["replayed"] / found["as written"] > 0


def test_an_ordinary_pipeline_trains_on_the_same_images():
    found = benchmark.pipeline(shapes10(80, 20), 1, 1, workers=0, progress=False)
    assert found["fit"] > 0 and found["ordinary"] > 0 and found["times"] > 0


def test_what_was_measured_is_told_in_results(own_home, monkeypatch, capsys):
    from attention.results import speed

    rows = pd.DataFrame([
        {"network": "plain", "form": "as written", "step_ms": 10.0, "times": 1.0, "own": 1.0},
        {"network": "se", "form": "fused", "step_ms": 12.0, "times": 1.2, "own": 1.25},
    ])  # fmt: skip
    monkeypatch.setitem(command.WHAT, "networks", lambda rounds, short: rows)
    command.main(["networks", "--rounds", "2"])
    text = speed.text(own_home / "data" / "benchmarks")
    assert "| se" in text and "1.20" in text and "1.25" in text and "2 rounds" in text


def test_what_blocks_keep_and_a_note_on_a_measurement_are_told(own_home, monkeypatch, capsys):
    from attention.results import speed

    rows = benchmark.beside_peers(((4, 32, 8, 8),), 1, "float32", fused=False, progress=False)
    rows = rows.assign(precision="float32")
    monkeypatch.setitem(command.WHAT, "blocks", lambda rounds, short: rows)
    command.main(["blocks", "--rounds", "1"])
    folder = own_home / "data" / "benchmarks"
    assert speed.KEPT in speed.text(folder)
    record = json.loads((folder / "blocks.json").read_text())
    (folder / "blocks.json").write_text(json.dumps(record | {"note": "Why it is so."}))
    assert speed.text(folder).endswith("Why it is so.")


def test_the_figure_has_a_panel_for_each_shape_and_precision():
    row = {"block": "se", "form": "timm", "times": 2.0, "low": 1.9, "high": 2.2, "bound": 1.4}
    table = pd.DataFrame([
        row | {"shape": shape, "precision": precision}
        for shape in ("1×2×3×4", "5×6×7×8") for precision in ("float32", "bfloat16")
    ])  # fmt: skip
    figure = figures.beside_peers(table)
    titles = [axis.get_title() for axis in figure.axes]
    assert titles == [
        "1×2×3×4, float32",
        "5×6×7×8, float32",
        "1×2×3×4, bfloat16",
        "5×6×7×8, bfloat16",
    ]
    [segment] = figure.axes[0].collections[-1].get_segments()
    assert segment[0][0] == 1.4  # the bound
