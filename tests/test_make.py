"""make.py: the commands where there is no make."""

import os
import runpy
import sys
from types import SimpleNamespace

import pytest
from address import ROOT

sys.path.insert(0, str(ROOT))
import make  # noqa: E402


@pytest.fixture
def ran(tmp_path, monkeypatch):
    """What is run, as (the words after the program, its environment); nothing is."""
    called = []

    def run(command, env=None, **_):
        called.append((list(map(str, command))[1:], env or {}))
        return SimpleNamespace(returncode=called[-1][0][1:2] == ["fails"] and 3)

    monkeypatch.setattr(make.subprocess, "run", run)
    monkeypatch.setattr(make, "READY", tmp_path / ".installed")
    return called


def test_the_environment_is_made_once_and_again_when_a_list_has_changed(ran):
    make.environment()
    assert [words[1] for words, _ in ran] == ["venv", "pip"] and make.READY.exists()
    make.environment()
    assert len(ran) == 2
    os.utime(make.READY, (0, 0))
    make.environment()
    assert len(ran) == 4


def test_every_notebook_is_run_in_the_quick_profile_or_in_yours(ran, monkeypatch):
    for given, used in (("", "quick"), ("full", "full")):
        monkeypatch.setenv("ATTENTION_PROFILE", given)
        ran.clear()
        make.notebooks()
        run = [pair for pair in ran if "nbconvert" in pair[0]]
        assert [words[-1] for words, _ in run] == make.NOTEBOOKS and len(run) >= 12
        assert {variables["ATTENTION_PROFILE"] for _, variables in run} == {used}


def test_the_tests_are_lint_units_and_notebooks_in_a_home_of_their_own(ran):
    make.test()
    assert [words[1] for words, _ in ran[2:]] == ["ruff", "ruff", "pytest", "pytest"]
    words, variables = ran[-1]
    assert "--nbval" in words and set(make.NOTEBOOKS) < set(words)
    assert variables["ATTENTION_PROFILE"] == "smoke" and variables["ATTENTION_HOME"] != str(ROOT)


def test_the_site_is_built_in_the_environment(ran):
    make.site()
    assert [words[-1] for words, _ in ran][-1] == "site/build.py"
    assert "site/requirements.txt" in ran[1][0]


def test_what_fails_ends_the_command_with_its_code(ran):
    with pytest.raises(SystemExit) as failed:
        make.python("-m", "fails")
    assert failed.value.code == 3


@pytest.mark.parametrize("words", [[], ["nonsense"], ["test", "notebooks"]])
def test_what_is_no_command_is_answered_with_those_that_are(words, monkeypatch):
    monkeypatch.setattr(sys, "argv", ["make.py", *words])
    with pytest.raises(SystemExit, match="python make.py test"):
        runpy.run_path(str(ROOT / "make.py"), run_name="__main__")
