"""The environment: what it says is used, and what it cannot mean is refused by its name."""

import pytest
import torch

import attention
from attention import settings
from attention.blocks import BLOCKS, POOLINGS
from attention.training import Run, compared


def test_home_is_a_folder_that_need_not_be_there(monkeypatch, tmp_path):
    monkeypatch.setenv("ATTENTION_HOME", str(tmp_path / "new"))
    assert settings.home() == tmp_path / "new"
    monkeypatch.setenv("ATTENTION_HOME", "")
    assert (settings.home() / "pyproject.toml").exists()
    (tmp_path / "file").touch()
    for wrong in (tmp_path / "file", "~nobody-of-this-name/x"):
        monkeypatch.setenv("ATTENTION_HOME", str(wrong))
        with pytest.raises(ValueError, match="ATTENTION_HOME must be a folder"):
            settings.home()


def test_the_profile_is_one_of_three(monkeypatch):
    for name in settings.PROFILES:
        monkeypatch.setenv("ATTENTION_PROFILE", name)
        assert attention.profile() == name
    monkeypatch.setenv("ATTENTION_PROFILE", "")
    assert attention.profile() in ("quick", "full")
    monkeypatch.setenv("ATTENTION_PROFILE", "huge")
    with pytest.raises(ValueError, match="ATTENTION_PROFILE must be one of smoke, quick, full"):
        settings.profile()


def test_minutes_are_a_bound_in_every_profile(monkeypatch):
    for profile, default in (("smoke", None), ("quick", 1), ("full", 30)):
        monkeypatch.setenv("ATTENTION_PROFILE", profile)
        monkeypatch.delenv("ATTENTION_MINUTES", raising=False)
        assert settings.minutes() == default
        monkeypatch.setenv("ATTENTION_MINUTES", "")
        assert settings.minutes() == default
        monkeypatch.setenv("ATTENTION_MINUTES", "2.5")
        assert settings.minutes() == 2.5


@pytest.mark.parametrize("wrong", ["nan", "inf", "-1", "0", "ten", "1e999", " "])
def test_minutes_that_bound_nothing_are_refused(wrong, monkeypatch):
    monkeypatch.setenv("ATTENTION_MINUTES", wrong)
    with pytest.raises(ValueError, match=f"ATTENTION_MINUTES must be .* above 0, got '{wrong}'"):
        settings.minutes()


@pytest.mark.parametrize(
    "profile, epochs, width, longer",
    [("smoke", 1, 32, 1), ("quick", 10, 64, 30), ("full", 30, 192, 100)],
)
def test_the_comparison_of_each_profile_is_made_of_runs(
    profile, epochs, width, longer, monkeypatch
):
    monkeypatch.setenv("ATTENTION_PROFILE", profile)
    for name in (None, *BLOCKS, *POOLINGS):
        run = compared(name, seed=2)
        assert (run.network, run.block, run.seed) == ("resnet20", name, 2)
        assert run.resolved().epochs == epochs
    assert compared() == Run() and compared("sse") == Run(block="sse")
    for network in ("vit", "convvit"):
        run = compared(network=network)
        assert (run.epochs, run.build(10).classifier.in_features) == (longer, width)
    with pytest.raises(ValueError, match="network must be one of fast, .*'nope'"):
        compared(network="nope")


def test_hidden_layers_of_the_comparison_are_a_quarter_of_the_channels():
    for name in ("se", "cbam", "bam", "context", "feature_gate"):
        assert compared(name).options == {"reduction": 4}
    assert compared("se", options={"bias": False}).options == {"bias": False}  # as a whole
    hidden = [
        tuple(p.shape) for p in compared("se").build(10).stages[0].parameters() if p.ndim == 2
    ]
    assert hidden == 3 * [(4, 16), (16, 4)]
    assert compared(attention.SE).options == {}  # a class has its own


def test_no_weights_over_all_positions_of_the_large_maps_are_compared():
    images = torch.zeros(1, 3, 32, 32)
    for name in ("qkv", "nonlocal", "selfattention", "local"):
        network = compared(name).build(10).eval()
        with torch.no_grad(), attention.capture(network) as maps:
            network(images)
        sizes = [one.cat().shape for one in maps.values() if one.kind == "positions"]
        assert sizes and all(shape[-1] <= 256 for shape in sizes), name
