"""Before anything long begins, a line says what will be trained and for about how long."""

import importlib

import pytest
import torch

from attention import data
from attention.study import ahead as before_a_study
from attention.training import Run, ahead, fit

work = importlib.import_module("attention.study.work")
pytestmark = pytest.mark.usefixtures("own_home")
TINY = {
    "network": "fast", "width": 4, "batch_size": 40, "epochs": 2, "train_images": 80,
    "test_images": 60,
}  # fmt: skip
CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def images():
    return data.shapes10(train=120, test=60)


@pytest.fixture
def a_second_an_image(monkeypatch):
    """Every training image takes a second; how often that was measured."""
    measured = []

    def rate(run, data, device):
        measured.append(run)
        return 1

    monkeypatch.setattr(ahead, "seconds_an_image", rate)
    return measured


@pytest.mark.usefixtures("a_second_an_image")
def test_a_run_is_announced_with_its_epochs_images_and_time(images):
    run = Run(**TINY | {"epochs": 90})
    said = ahead.announcement(run, images, CPU)
    assert said == "fast-4 (plain), seed 0: 90 epochs of 80 images, about 2 h 0 min"
    assert "60 epochs of 80 images, about 1 h 20 min" in ahead.announcement(run, images, CPU, 60)
    whole = Run(**TINY | {"epochs": 90, "train_images": None})
    assert "90 epochs of 120 images" in ahead.announcement(whole, images, CPU)


def test_what_is_soon_over_is_not(images, a_second_an_image, monkeypatch):
    assert ahead.announcement(Run(**TINY), images, CPU) is None
    assert ahead.announcement(Run(**TINY | {"epochs": 90}), images, CPU, epochs=2) is None
    assert not a_second_an_image  # nor is it measured
    monkeypatch.setattr(ahead, "seconds_an_image", lambda *_: 0.001)
    assert ahead.announcement(Run(**TINY | {"epochs": 90}), images, CPU) is None


def test_the_measurement_changes_nothing(images, monkeypatch, capsys, own_home):
    state = torch.get_rng_state()
    assert 0 < ahead.seconds_an_image(Run(**TINY), images, CPU) < 10
    assert torch.equal(torch.get_rng_state(), state)
    silent = fit(Run(**TINY), images, CPU, progress=False)
    monkeypatch.setenv("ATTENTION_HOME", str(own_home / "other"))
    monkeypatch.setattr(ahead, "FEW", 0)
    monkeypatch.setattr(ahead, "LONG", 0)
    told = fit(Run(**TINY), images, CPU)
    assert told["result"] == silent["result"]
    assert capsys.readouterr().out.count("fast-4 (plain), seed 0: 2 epochs of 80 images") == 1


def planned(*blocks, epochs=90):
    return [Run(**TINY | {"epochs": epochs}, block=block) for block in blocks]


def test_a_study_is_announced_with_what_fits_into_its_minutes(images, a_second_an_image):
    minutes = {None: 60, "se": 90, "eca": 60, "cbam": 120}

    def estimate(run, data):
        return 60 * minutes[run.block]

    runs = planned(*minutes)
    said = before_a_study.announcement(runs, images, CPU, estimate, None)
    assert said == (
        "to train: fast-4 (plain), fast-4 + se and 2 more: 4 runs of 90 epochs, 80 images each, "
        "about 5 h 30 min"
    )
    said = before_a_study.announcement(runs, images, CPU, estimate, 130)
    assert said.endswith("; in 2 h 10 min about 2 of them")  # 60 and 60: se is passed over
    mixed = [*planned(None), *planned("se", epochs=30)]
    said = before_a_study.announcement(mixed, images, CPU, estimate, None)
    assert "2 runs of 30 to 90 epochs" in said and "more" not in said
    assert before_a_study.announcement([], images, CPU, estimate, None) is None
    assert before_a_study.announcement(runs, images, CPU, estimate, 0) is None
    assert not a_second_an_image


def test_where_nothing_is_known_one_run_of_a_study_is_measured(images, a_second_an_image):
    said = before_a_study.announcement(planned(None, "se"), images, CPU, lambda *_: None, None)
    assert said.endswith("about 4 h 0 min") and len(a_second_an_image) == 1


def test_work_and_fit_say_it_before_they_train(images, monkeypatch, capsys):
    monkeypatch.setattr(ahead, "FEW", 0)
    monkeypatch.setattr(ahead, "LONG", 0)
    seen = []
    monkeypatch.setattr(work, "fit", lambda *a, **k: seen.append(capsys.readouterr().out))
    runs = [Run(**TINY), Run(**TINY, block="se")]
    work.work(runs, images, device="cpu", progress=True, minutes=2)
    assert "to train: fast-4 (plain), fast-4 + se: 2 runs of 2 epochs" in seen[0]
    seen.clear()
    work.work(runs, images, device="cpu", progress=False)
    assert "".join(seen) == ""
