"""What a study trains: the lists of runs, their order, and what a choice may look at."""

import itertools
import re

import pytest
import torch

from attention.blocks import BLOCKS, POOLINGS
from attention.blocks.dot_product import DotProductScore
from attention.blocks.hybrid import SPACE, Hybrid
from attention.blocks.non_local import NonLocal
from attention.data import Dataset, Split, held_out
from attention.networks import REDUCTION, SETTINGS
from attention.results import plan
from attention.study import grids, planned, seeds
from attention.training import compared


@pytest.fixture(autouse=True)
def somewhere(monkeypatch, tmp_path):
    monkeypatch.setenv("ATTENTION_HOME", str(tmp_path))
    monkeypatch.setenv("ATTENTION_PROFILE", "smoke")
    monkeypatch.setenv("ATTENTION_DATA", "shapes10")


def pictures(count=40):
    images = torch.randint(256, (count, 3, 32, 32), dtype=torch.uint8)
    split = Split(images, torch.arange(count) % 10)
    return Dataset("pictures", split, split, tuple("abcdefghij"))


def hybrid(number):
    """The setting of the hybrid when a search has chosen this candidate."""
    options, at = grids.candidates(14)[number]
    return {"options": options | {"reduction": REDUCTION}, "at": at, "stages": grids.late(options)}


@pytest.mark.parametrize("name", grids.GRIDS)
def test_one_seed_of_everything_comes_before_the_next(name, monkeypatch):
    monkeypatch.setenv("ATTENTION_PROFILE", "quick")
    runs = grids.GRIDS[name].runs(3)
    seeds = [run.seed for run in runs]
    assert seeds == sorted(seeds) and runs[0].block is None
    assert len({str(run) for run in runs}) == len(runs)
    # tables tell them apart
    assert len({(run.name, run.seed, run.learning_rate) for run in runs}) == len(runs)
    assert len(grids.GRIDS[name].runs()) >= len(grids.GRIDS[name].runs(1))


def test_the_comparison_has_every_mechanism_and_wider_networks(monkeypatch):
    monkeypatch.setenv("ATTENTION_PROFILE", "quick")
    runs = grids.everything(1)
    assert {run.block for run in runs} == {None, *BLOCKS, *POOLINGS}
    assert {run.network for run in runs} == {"resnet20", "resnet26", "vit", "convvit"}
    controls = [compared(None, **control) for control in plan.CONTROLS]
    assert set(controls) <= set(runs)
    largest = max(sum(p.numel() for p in run.build(10).parameters()) for run in controls)
    blocks = [run for run in runs if run.block in BLOCKS]
    counts = [sum(p.numel() for p in run.build(10).parameters()) for run in blocks]
    assert sum(count <= largest for count in counts) >= len(counts) - 2


def test_shapes_has_every_mechanism_as_it_is_compared_so_that_its_maps_can_be_located(monkeypatch):
    monkeypatch.setenv("ATTENTION_PROFILE", "quick")
    runs = grids.shapes(1)
    assert {run.block for run in runs} == {None, *BLOCKS, *POOLINGS}
    [hybrid] = [run for run in runs if run.block == "hybrid"]
    assert hybrid.resolved().options == SETTINGS["hybrid"]["options"]


def test_choices_and_the_comparison_share_neither_seeds_nor_images():
    data = pictures()
    seeds = {name: {run.seed for run in grid.runs(5)} for name, grid in grids.GRIDS.items()}
    assert not seeds["everything"] & (seeds["search"] | seeds["ablations"])
    for name in ("search", "ablations"):
        seen = grids.GRIDS[name].data(data)
        assert seen.name == "pictures-validation" and seen.test.labels.shape == (10,)
    assert grids.GRIDS["everything"].data(data) is data
    assert grids.GRIDS["shapes"].data(data).test.masks is not None


@pytest.mark.parametrize("question", grids.ABLATIONS)
def test_every_ablation_changes_its_block_and_starts_with_the_published_one(question):
    published, *others = grids.ABLATIONS[question]
    runs = {one: grids.ablation(question, one) for one in (published, *others)}
    block = runs[published].block
    assert block in ("se", "eca", "cbam", "bam")
    assert runs[published].options == compared(block).options
    networks = {str(run.build(10)) for run in runs.values()}
    # CBAM's order changes what is done, not what is there
    assert len(networks) == len(runs) or question in ("CBAM: order", "CBAM: pools")
    images = torch.randn(2, 3, 32, 32)
    answers = []
    for run in runs.values():
        network = run.build(10).train()
        answers.append(network(images))
        if run.block == "hybrid":  # nothing comes from the hybrid that is compared
            assert run.at == "residual" and run.options.keys() == {*SPACE, "reduction"}
    different = [not torch.allclose(answers[0], answer) for answer in answers[1:]]
    assert all(different)


def test_candidates_are_drawn_from_the_space_and_each_is_another():
    found = grids.candidates(14)
    assert found == grids.candidates(20)[:14] and grids.candidates() == found[:5]
    for number, (options, at) in enumerate(found):
        assert set(options) == set(SPACE) and (options, at) not in found[:number]
        Hybrid(16, **options)
        parts = [options[name] for name in ("channel", "spatial", "mixing")]
        assert sum(part is not None for part in parts) >= 2


def test_no_candidate_relates_all_positions_of_a_large_map(monkeypatch):
    monkeypatch.setenv("ATTENTION_PROFILE", "quick")
    runs = [run for run in grids.search() if run.block == "hybrid"]
    large = {run.stages for run in runs if {"nonlocal", "dot product"} & {
        run.options["mixing"], run.options["spatial"]}}  # fmt: skip
    assert large == {(2, 3)} and {run.stages for run in runs} == {(2, 3), None}
    sizes = []
    for run in runs:
        network = run.build(10)
        for module in network.modules():
            if isinstance(module, NonLocal | DotProductScore):
                module.register_forward_pre_hook(lambda _, x: sizes.append(x[0].shape[-1]))
        network(torch.randn(2, 3, 32, 32))
    assert set(sizes) == {16, 8}


def test_there_are_no_more_candidates_than_the_space_holds():
    with pytest.raises(
        ValueError, match="number must be at most (.*), all .* got 1000000"
    ) as error:
        grids.candidates(10**6)
    most = int(re.search(r"at most (\d+)", str(error.value))[1])
    blocks = {  # counted by hand: what every part may be, and where it stands
        (channel, spatial, combine, pool, mixing, residual, at)
        for channel, spatial, combine, pool, mixing, residual in itertools.product(*SPACE.values())
        for at in ("residual", "stage")
        if (channel or spatial) and (channel or not pool)
        and len([part for part in (channel, spatial, mixing) if part]) > 1
        and (channel and spatial or combine == "channel first")
    }  # fmt: skip
    assert most == len(blocks) and len(grids.candidates(most)) == most


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: grids.everything(0), "count must be .* at least 1, got 0"),
        (lambda: grids.shapes(1.5), "count must be .* got 1.5"),
        (lambda: grids.ablations("2"), "count must be .* got '2'"),
        (lambda: grids.search(-1), "count must be .* got -1"),
        (lambda: grids.candidates(0), "number must be .* at least 1, got 0"),
        (lambda: grids.candidates(True), "number must be .* got True"),
        (lambda: compared("sew"), "block must be one of .* got 'sew'"),
        (lambda: compared("se", -1), "seed must be .* got -1"),
        (lambda: grids.ablation("SE", "16"), "question must be one of SE: reduction, .* got 'SE'"),
        (lambda: grids.ablation("SE: reduction", "3"), "choice must be one of 4, 2.* got '3'"),
    ],
)
def test_a_wrong_argument_is_named(call, message):
    with pytest.raises(ValueError, match=message):
        call()


def test_only_the_best_of_a_search_are_trained_again(monkeypatch):
    data, records = held_out(pictures()), {}
    monkeypatch.setattr(grids, "finished", lambda run, data: records.get(run))
    runs = grids.search(3, data)
    first = [run for run in runs if run.block == "hybrid"]
    assert len(first) == len(grids.candidates()) and {run.seed for run in runs} == {100}
    for place, run in enumerate(first):
        assert {run.seed for run in grids.search(3, data)} == {100}
        records[run] = {"result": {"test_accuracy": 50 + (2 * place) % 5}}
    again = [run for run in grids.search(3, data) if run.seed == 101 and run.block == "hybrid"]
    best = sorted(first, key=lambda run: -(50 + (2 * first.index(run)) % 5))[: grids.FINALISTS]
    assert [run.options for run in again] == [run.options for run in best]
    blocks = [run.block for run in grids.search(3, data) if run.seed == 102]
    assert blocks == [None] + ["hybrid"] * grids.FINALISTS


@pytest.mark.parametrize("number", range(14))
def test_a_hybrid_loses_one_part_at_a_time(number, monkeypatch):
    monkeypatch.setenv("ATTENTION_PROFILE", "quick")
    monkeypatch.setitem(SETTINGS, "hybrid", hybrid(number))
    options = SETTINGS["hybrid"]["options"]
    plain, whole, *less = grids.parts(1)
    assert plain.block is None and {plain, whole} <= set(grids.search())  # trained once
    there = [name for name in ("channel", "spatial", "pool", "mixing") if options[name]]
    assert len(less) == len(there) + (1 if {"channel", "spatial"} <= set(there) else 0)
    images = torch.randn(2, 3, 32, 32)
    answers = [run.build(10).train()(images) for run in (whole, *less)]
    assert not any(torch.allclose(answers[0], answer) for answer in answers[1:])
    for words, run in zip(grids.without(options), less, strict=True):
        gone = {name for name in there if not run.options[name]}
        assert run.at == whole.at and run.epochs == whole.epochs
        assert gone == {
            "without the channel score": {"channel"} | ({"pool"} & set(there)),
            "without the spatial score": {"spatial"},
            "the average as the pool": {"pool"},
            "without mixing": {"mixing"},
        }.get(words, set())
        assert gone or run.options["residual"] != options["residual"]


def test_the_cheaper_forms_of_the_hybrid_have_fewer_gates_or_fewer_parameters(monkeypatch):
    monkeypatch.setenv("ATTENTION_PROFILE", "quick")
    plain, whole, *less = grids.cheaper()
    assert {plain, whole} <= set(grids.parts(1))  # trained once
    assert len(less) + 1 == len(planned.cheaper_forms())
    counts = {}
    for run in (whole, *less):
        network = run.build(10)
        gates = len([one for one in network.placements if one.block == "hybrid"])
        counts[run] = (gates, sum(p.numel() for p in network.parameters()))
    assert [gates for gates, _ in counts.values()] == [9, 3, 3, 6, 9, 3]
    assert all(parameters < counts[whole][1] for _, parameters in [*counts.values()][1:])


def test_what_is_no_whole_hybrid_cannot_lose_a_part():
    with pytest.raises(ValueError, match="options must have all of .*, got none for combine"):
        grids.without({"channel": "mlp", "spatial": "conv"})


def test_the_number_of_seeds_follows_the_profile(monkeypatch):
    for profile, count in seeds.SEEDS.items():
        monkeypatch.setenv("ATTENTION_PROFILE", profile)
        assert [run.seed for run in grids.everything() if run.block == "cbam"] == [*range(count)]
