"""The survey of maps: the choice with a planted truth, the records, and what is measured again."""

import json

import numpy as np
import pandas as pd
import pytest
import scipy.stats
import torch
from torch import nn

from attention import data, survey
from attention.blocks import SE, SPATIAL, Gate
from attention.explain import every_map, grad_cam, relevance, relevances
from attention.networks import fast_resnet, insert, vit
from attention.results import findings
from attention.training import Run, key

FEW = {"choice": 20, "located": 20, "removed": 10, "answered": 20}
KNOWN = ["gradient", "centre", "random", "smooth noise", "corner"]
OTHER = "Grad-CAM, another image"


@pytest.fixture(scope="module")
def images():
    return data.shapes10(train=60, test=40)


@pytest.fixture(autouse=True)
def own_home(tmp_path, monkeypatch):
    monkeypatch.setenv("ATTENTION_HOME", str(tmp_path))
    monkeypatch.setenv("ATTENTION_PROFILE", "smoke")
    return tmp_path


def small(seed=0, **options):
    return Run(network="fast", width=4, seed=seed, epochs=1, batch_size=30, **options)


# ------------------------------------------------------------------------------------ every map


def test_every_map_holds_what_the_single_functions_give():
    network = insert(fast_resnet(8), "cbam", reduction=2, stages=2).eval()
    batch = torch.randn(5, 3, 20, 24)
    found = every_map(network, batch, batch_size=2)
    own = [f"stages.1.1.attention.{name}_gate" for name in ("channel", "spatial")]
    cams = ["Grad-CAM", "Grad-CAM, stage 1", "Grad-CAM, stage 2"]
    assert list(found) == [*own, *cams, *KNOWN, OTHER]
    families = [one.family for one in found.values()]
    assert families == ["own"] * 2 + ["Grad-CAM"] * 3 + ["baseline"] * 6
    for path in own:
        torch.testing.assert_close(found[path].maps, relevance(network, batch, path).maps)
    for name, stage in zip(cams, (2, 0, 1), strict=True):
        expected = grad_cam(network, batch, layer=network.stages[stage])
        torch.testing.assert_close(found[name].maps, expected, rtol=1e-4, atol=1e-5)
    others = [
        int((found["Grad-CAM"].maps == one).all((1, 2)).nonzero()) for one in found[OTHER].maps
    ]
    assert sorted(others) == list(range(5)) and all(a != b for a, b in enumerate(others))
    assert OTHER not in every_map(network, batch[:1])  # there is no other


class AveragedFirst(nn.Sequential):
    """A gate on what is left when the positions are gone."""

    def __init__(self, channels):
        super().__init__(nn.AdaptiveAvgPool2d(1), SE(channels, 2))


def test_maps_without_positions_are_left_out():
    batch = torch.randn(2, 3, 20, 24)
    assert list(relevances(fast_resnet(8).eval(), batch)) == []
    of_a_vector = insert(fast_resnet(8), AveragedFirst, at="pool").eval()
    assert list(relevances(of_a_vector, batch)) == []
    network = insert(fast_resnet(8), "encoding", codewords=2, stages=1).eval()
    assert list(relevances(network, batch)) == ["stages.0.1.attention.gate"]


def test_a_transformer_has_rollout_and_no_grad_cam():
    network, batch = vit(16, 2, 4).eval(), torch.randn(3, 3, 32, 32)
    found = every_map(network, batch, batch_size=2)
    layers = [f"layers.{number}.attention.weights" for number in (0, 1)]
    assert list(found) == [*layers, "rollout", *KNOWN]
    expected = relevance(network, batch, "rollout").maps
    torch.testing.assert_close(found["rollout"].maps, expected)


# --------------------------------------------------------------------------- with planted truth


class Planted(nn.Module):
    """Gates whose maps are the pixels' first channel as it is, upside down in value, and flat."""

    def __init__(self):
        super().__init__()
        self.right, self.wrong, self.flat = (Gate(SPATIAL) for _ in range(3))
        self.conv = nn.Conv2d(3, 10, 1)
        self.layer4 = nn.Identity()

    def forward(self, x):
        first = 4 * x[:, :1]
        x = x * (1 + self.right(first) + self.wrong(-first) + self.flat(0 * first))
        return self.layer4(self.conv(x)).mean((2, 3))


def bright_objects(images):
    """The same masks; the objects white, the rest black."""
    splits = [
        data.Split((255 * s.masks[:, None].expand(-1, 3, -1, -1)).byte(), s.labels, s.masks)
        for s in (images.train, images.test)
    ]
    return data.Dataset("bright", *splits, images.classes)


@pytest.fixture
def planted(monkeypatch):
    """Whatever is asked for, the planted network is what was trained; gives the list of calls."""
    calls = []

    def trained(run, data, progress):
        calls.append(run)
        torch.manual_seed(run.seed)
        return Planted().eval()

    monkeypatch.setattr(survey, "trained", trained)
    record = {"result": {"test_accuracy": 12.5}}
    monkeypatch.setattr(survey, "fit", lambda run, data, progress: record)
    return calls


def test_the_map_that_points_at_the_object_is_chosen_and_scores_best(planted, images):
    bright, runs = bright_objects(images), [small(0), small(1)]
    table = findings.measures(survey.survey("localisation", runs, bright, FEW, progress=False))
    assert findings.choose(table) == {
        (small().name, "own"): "right",
        (small().name, "Grad-CAM"): "Grad-CAM",
    }
    rows = findings.own_and_gradcam(table, findings.choose(table)).set_index(["map", "seed"])
    names = ["own", "Grad-CAM", "Grad-CAM, chosen stage", *KNOWN, OTHER]
    assert sorted(rows.index) == sorted((name, seed) for name in names for seed in (0, 1))
    by_map = table[table.seed == 0].set_index("map")
    for name, exact in {"right": 1, "wrong": 0}.items():
        assert by_map.pointing[name] == exact and by_map.iou[name] == exact
    # a flat map gets the object's share of the image, whatever its height
    area = float(bright.test.spread(20).masks.float().mean())
    assert by_map.energy["flat"] == pytest.approx(area)
    assert by_map.energy_low["right"] < by_map.energy["right"] < by_map.energy_high["right"]
    assert (by_map.accuracy == 12.5).all()


def test_the_map_is_chosen_on_training_images_whatever_the_test_images_say(planted, images):
    bright = bright_objects(images)
    dark = data.Split(255 - bright.test.images, bright.test.labels, bright.test.masks)
    turned = data.Dataset("turned", bright.train, dark, images.classes)
    table = findings.measures(survey.survey("localisation", [small()], turned, FEW, progress=False))
    by_map = table.set_index("map")
    assert by_map.energy["wrong"] > by_map.energy["right"]  # on the test images
    assert by_map.choice["right"] > by_map.choice["wrong"]
    assert findings.choose(table)[small().name, "own"] == "right"


def test_the_choice_is_the_mean_over_seeds_on_training_images():
    rows = [
        ("a", seed, name, "own", choice, 1 - choice)
        for seed, values in enumerate([{"x": 0.5, "y": 0.1}, {"x": 0.2, "y": 0.3}])
        for name, choice in values.items()
    ]
    columns = ["name", "seed", "map", "family", "choice", "energy"]
    assert findings.choose(pd.DataFrame(rows, columns=columns)) == {("a", "own"): "x"}


# ---------------------------------------------------------------------------------- the records


def test_localisation_from_training_to_the_record(images, own_home):
    runs = [small(block="sse"), small()]
    records = survey.survey("localisation", runs, images, FEW, progress=False)
    files = sorted((own_home / "data/explanations/localisation/shapes10").glob("*.json"))
    assert [f.stem for f in files] == sorted(key(run, images) for run in runs)
    again = survey.survey("localisation", runs, images, FEW, progress=False)
    assert again == json.loads(json.dumps(records))
    first, plain = records
    assert first["name"] == small(block="sse").name and first["images"] == FEW
    assert first["dataset"] == {"name": "shapes10", "checksum": images.checksum}
    assert {"commit", "torch", "hardware"} <= set(first["machine"])
    own = [name for name, one in first["maps"].items() if one["family"] == "own"]
    assert own == [f"stages.{n}.1.attention.gate" for n in range(3)]
    assert not [name for name, one in plain["maps"].items() if one["family"] == "own"]
    for name, one in first["maps"].items():
        for measure in ("pointing", "energy", "iou"):
            mean, low, high = one[measure]
            assert 0 <= low <= mean <= high <= 1, (name, measure)


def test_faithfulness_and_effect(images):
    run, few = small(block="sse", stages=(2,)), FEW | {"removed": 3}
    record = survey.measure("faithfulness", run, images, few)
    for one in record["maps"].values():
        for measure in ("deletion", "insertion", "road"):
            mean, low, high = one[measure]
            assert 0 <= low <= mean <= high <= 1
    table = findings.effects([record])
    assert list(table["map"]) == ["stages.1.1.attention.gate"]
    ways = {f"accuracy_{way}" for way in ("whole", "mean", "ones", "shuffled")}
    assert ways | {"kind", "saturated", "over_images"} <= set(table)
    network, some = survey.trained(run, images, progress=False), images.test.spread(20)
    right = survey.predict(network, some, images).argmax(1) == some.labels
    assert table.accuracy_whole[0] == pytest.approx(100 * float(right.float().mean()))


class ByTheGate(nn.Module):
    """Two classes, bright and dark, told apart by the gate alone."""

    def __init__(self):
        super().__init__()
        self.gate, self.layer4 = Gate(SPATIAL), nn.Conv2d(3, 2, 1)

    def forward(self, x):
        gate = self.gate(4 * x.mean((1, 2, 3), keepdim=True))
        return torch.cat([0.5 - gate, gate - 0.5], 1)[:, :, 0, 0] + 0 * self.layer4(x).mean((2, 3))


def test_a_map_of_another_image_is_one_of_any_class(monkeypatch):
    labels = torch.arange(2).repeat_interleave(200)  # class by class, as in a folder tree
    pixels = (255 * labels).byte().view(-1, 1, 1, 1).expand(-1, 3, 4, 4).contiguous()
    split = data.Split(pixels, labels)
    two = data.Dataset("two", split, split, ("dark", "bright"))
    monkeypatch.setattr(survey, "trained", lambda run, data, progress: ByTheGate().eval())
    record = {"result": {"test_accuracy": 100}}
    monkeypatch.setattr(survey, "fit", lambda run, data, progress: record)
    counts = {"choice": 4, "located": 4, "removed": 4, "answered": 400}
    [row] = survey.measure("faithfulness", small(), two, counts)["effect"].values()
    assert row["accuracy_whole"] == 100
    # half of the maps come from the other class: 200 ± 10 of 400
    assert 37.5 < row["accuracy_shuffled"] < 62.5


def test_no_image_is_left_alone_where_maps_are_shuffled(monkeypatch):
    split = data.Split(torch.randint(255, (101, 3, 4, 4)).byte(), torch.arange(101) % 2)
    odd = data.Dataset("odd", split, split, ("dark", "bright"))
    monkeypatch.setattr(survey, "trained", lambda run, data, progress: ByTheGate().eval())
    monkeypatch.setattr(survey, "fit", lambda *_, **__: {"result": {"test_accuracy": 1.0}})
    counts = {"choice": 4, "located": 4, "removed": 4, "answered": 101}
    [row] = survey.measure("faithfulness", small(), odd, counts)["effect"].values()
    assert row["accuracy_shuffled"] is not None


@pytest.mark.parametrize(
    "arguments, message",
    [
        (["nope"], "invalid choice: 'nope'"),
        (["localisation", "--seeds", "0"], "--seeds must be"),
        (["localisation", "--minutes", "nan"], "--minutes must be"),
        (["localisation", "--minutes", "-1"], "--minutes must be"),
    ],
)
def test_the_command_refuses_what_it_cannot_do(arguments, message, capsys):
    with pytest.raises(SystemExit) as stopped:
        survey.main(arguments)
    assert stopped.value.code == 2 and message in capsys.readouterr().err


def test_the_command_prints_a_table(planted, images, capsys, monkeypatch):
    monkeypatch.setattr(survey, "load", lambda name: bright_objects(images))
    monkeypatch.setattr(survey, "networks", lambda what, seeds: [small(n) for n in range(seeds)])
    monkeypatch.setattr(survey, "IMAGES", {"smoke": FEW, "full": FEW})
    survey.main(["localisation", "--seeds", "2", "--minutes", "5"])
    said = capsys.readouterr().out
    assert "Grad-CAM, another image" in said and "pointing" in said
    assert len(planted) == 2


def test_what_is_measured_twice_is_measured_once(planted, images):
    bright, runs = bright_objects(images), [small(seed) for seed in range(3)]

    def ask(runs, counts=FEW):
        return survey.survey("localisation", runs, bright, counts, progress=False)

    one = ask(runs[1:2])
    assert planted == runs[1:2]
    three = ask(runs)  # goes on where it was: the others only
    assert planted == [runs[1], runs[0], runs[2]]
    assert three[1] == json.loads(json.dumps(one[0]))
    ask(runs)
    assert len(planted) == 3
    ask(runs[:1], FEW | {"located": 10})
    assert len(planted) == 4


def test_a_budget_stops_before_the_next_network(planted, images, capsys):
    bright, runs = bright_objects(images), [small(seed) for seed in range(2)]

    def ask(minutes):
        return survey.survey("localisation", runs, bright, FEW, minutes=minutes, progress=False)

    assert ask(0) == [] and planted == []
    assert capsys.readouterr().out.count(small().name) == 2
    survey.survey("localisation", runs[1:], bright, FEW, progress=False)
    assert [one["run"]["seed"] for one in ask(0)] == [1]
    assert [one["run"]["seed"] for one in ask(60)] == [0, 1]


def spoiled(record, **changes):
    """The record as text, with another value at a name."""
    return json.dumps(record | changes)


@pytest.mark.parametrize(
    "spoil",
    [
        lambda record: "",
        lambda record: "{}",
        lambda record: "[1]",
        lambda record: '{"name": "a"}',
        lambda record: spoiled(record, maps=None),
        lambda record: spoiled(record, run=record["run"] | {"seed": 5}),
        lambda record: spoiled(record, run=record["run"] | {"block": "se"}),
        lambda record: spoiled(record, dataset=record["dataset"] | {"checksum": "0"}),
    ],
)
def test_a_file_that_is_no_record_of_this_network_is_set_aside(
    planted, images, own_home, capsys, spoil
):
    bright, run = bright_objects(images), small()
    [record] = survey.survey("localisation", [run], bright, FEW, progress=False)
    path = own_home / "data/explanations/localisation/bright" / f"{key(run, bright)}.json"
    path.write_text(spoil(json.loads(path.read_text())))
    [again] = survey.survey("localisation", [run], bright, FEW, progress=False)
    assert again["maps"] == record["maps"] and len(planted) == 2
    said = capsys.readouterr().out
    assert path.name in said and f"set aside as {path.name}.corrupt" in said
    assert path.with_name(f"{path.name}.corrupt").exists()


def test_what_an_older_survey_has_measured_is_measured_anew(planted, images, monkeypatch):
    bright = bright_objects(images)
    survey.survey("localisation", [small()], bright, FEW, progress=False)
    monkeypatch.setattr(survey, "VERSION", survey.VERSION + 1)
    survey.survey("localisation", [small()], bright, FEW, progress=False)
    assert len(planted) == 2


def test_a_measurement_that_fails_leaves_no_record(planted, images, own_home, monkeypatch):
    def fails(maps, masks):
        raise KeyboardInterrupt

    monkeypatch.setattr(survey, "localisation", fails)
    with pytest.raises(KeyboardInterrupt):
        survey.survey("localisation", [small()], bright_objects(images), FEW, progress=False)
    assert not list((own_home / "data").glob("explanations/**/*.json*"))


def test_bad_input_is_refused(images):
    for ask in (survey.networks, lambda what: survey.survey(what, [], images)):
        with pytest.raises(ValueError, match="what must be one of localisation, faithfulness"):
            ask("nope")
    for minutes in (-1, float("nan"), "10"):
        with pytest.raises(ValueError, match="minutes must be"):
            survey.survey("localisation", [], images, minutes=minutes)
    for counts in ({"choice": 5}, 5, FEW | {"removed": 1}, FEW | {"located": 2.5}):
        with pytest.raises(ValueError, match="images"):
            survey.survey("localisation", [], images, counts)
    with pytest.raises(ValueError, match="at least 1, got 0"):
        survey.networks("faithfulness", 0)
    splits = [data.Split(s.images, s.labels) for s in (images.train, images.test)]
    without = data.Dataset("plain", *splits, images.classes)
    with pytest.raises(ValueError, match="needs masks of the objects, and plain has none"):
        survey.survey("localisation", [small()], without)


# ------------------------------------------------------------------------------------ the table


def test_the_interval_over_seeds_is_students(planted, images):
    runs = [small(seed) for seed in range(3)]
    records = survey.survey("localisation", runs, bright_objects(images), FEW, progress=False)
    table = findings.measures(records)
    row = findings.over_seeds(table, ["energy"]).loc[(small().name, "Grad-CAM"), "energy"]
    values = table[table["map"] == "Grad-CAM"].energy
    assert np.ptp(values) > 0
    low, high = scipy.stats.t.interval(0.95, 2, values.mean(), scipy.stats.sem(values))
    assert list(row) == pytest.approx([values.mean(), low, high])
