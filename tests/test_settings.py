"""The environment: what it says is used, and what it cannot mean is refused by its name."""

import pytest

import attention
from attention import settings
from attention.training import Run
from attention.training.recipes import comparison


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
    "profile, epochs, widths",
    [
        ("smoke", 1, {"fast": 16, "vit": 32, "convvit": 32}),
        ("quick", 3, {"fast": 16, "vit": 64, "convvit": 64}),
        ("full", 30, {"fast": 64, "vit": 192, "convvit": 192}),
    ],
)
def test_the_comparison_of_each_profile_is_made_of_runs(profile, epochs, widths, monkeypatch):
    monkeypatch.setenv("ATTENTION_PROFILE", profile)
    assert comparison() == comparison("fast")
    for network, width in widths.items():
        run = Run(**comparison(network), seed=2)
        assert (run.network, run.epochs, run.seed) == (network, epochs, 2)
        built = run.build(10)
        features = built.classifier[0] if network == "fast" else built.classifier
        assert features.in_features == width * (4 if network == "fast" else 1)
    assert comparison("resnet20")["width"] is None
    assert Run(block="sse", **comparison()).block == "sse"
    with pytest.raises(ValueError, match="network must be one of fast, .*'nope'"):
        comparison("nope")
