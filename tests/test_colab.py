"""The cells that every notebook begins with, in small; tests/colab.py runs whole notebooks."""

import json
import os
import subprocess
import sys
import types
from importlib.metadata import version
from pathlib import Path

import nbformat
import pytest
import torch
from address import ROOT, address, places
from packaging.version import Version
from setup_cell import FORM, METADATA, NOTEBOOKS, SETUP, cells

import attention
from attention import settings
from attention.training import machine

sys.path.insert(0, str(ROOT))
import setup_course  # noqa: E402


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_every_notebook_begins_with_the_same_two_cells_and_asks_for_a_gpu(path):
    notebook = nbformat.read(path, as_version=nbformat.NO_CONVERT)
    nbformat.validate(notebook)
    code = [cell for cell in notebook.cells if cell.cell_type == "code"]
    assert [cell.source for cell in code[:2]] == cells(), "python tests/setup_cell.py writes them"
    assert code[0].outputs == []
    [output] = code[1].outputs
    assert output.text.startswith("device    ") and "\nresults   " in output.text
    assert METADATA.items() <= notebook.metadata.items()


def test_there_are_twelve_notebooks_and_the_cell_is_short():
    assert len(NOTEBOOKS) >= 12
    assert len([line for line in SETUP.splitlines() if line.strip()]) <= 20


# The first cell: where is the course?

STUB = 'def install():\n    print("from", __file__)\n'


@pytest.fixture(scope="module")
def remote(tmp_path_factory):
    """A repository with what the cell looks for."""
    folder = tmp_path_factory.mktemp("remote")
    (folder / "setup_course.py").write_text(STUB)
    git = ["git", "-c", "user.name=n", "-c", "user.email=e", "-C", str(folder)]
    subprocess.run([*git, "init", "--quiet"], check=True)
    subprocess.run([*git, "add", "."], check=True)
    subprocess.run([*git, "commit", "--quiet", "--message=all"], check=True)
    return folder


def run_cell(folder, remote, slug="somebody/course", path=""):
    """What the first cell prints when it is run in `folder`, and what it ends with."""
    variables = {
        **os.environ, "PYTHONPATH": str(path), "GIT_CONFIG_COUNT": "1",
        "GIT_CONFIG_KEY_0": f"url.file://{remote}.insteadOf",
        "GIT_CONFIG_VALUE_0": "https://github.com/somebody/course",
    }  # fmt: skip
    command = [sys.executable, "-S", "-c", SETUP.format(slug=slug)]  # -S: without what is installed
    folder.mkdir(parents=True, exist_ok=True)
    done = subprocess.run(command, cwd=folder, env=variables, capture_output=True, text=True)
    return done.stdout.strip(), done.stderr.strip()


def test_in_an_empty_folder_the_course_is_fetched_and_the_next_time_found(tmp_path, remote):
    course = tmp_path / "attention-course" / "setup_course.py"
    for _ in range(2):
        assert run_cell(tmp_path, remote) == (f"from {course}", "")
        assert [path.name for path in tmp_path.iterdir()] == ["attention-course"]
    assert run_cell(tmp_path / "attention-course" / "notebooks", remote)[0] == f"from {course}"


def test_a_clone_that_was_broken_off_is_passed_by(tmp_path, remote):
    for name in ("attention-course", "attention-course-again"):
        (tmp_path / name / ".git").mkdir(parents=True)
        (tmp_path / name / "attention").mkdir()
    found = tmp_path / "attention-course-again-again" / "setup_course.py"
    for _ in range(2):
        assert run_cell(tmp_path, remote) == (f"from {found}", "")
    assert len([*tmp_path.iterdir()]) == 3


def test_git_writes_what_the_cell_looks_for_after_all_that_the_notebooks_need():
    listed = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True).stdout
    tops = [name.partition("/")[0] for name in listed.split()]
    if "setup_course.py" not in tops:
        pytest.skip("no checkout")
    assert set(tops[tops.index("setup_course.py") :]) <= {
        "setup_course.py",
        "site",
        "solutions",
        "tests",
    }


def test_an_address_that_is_none_is_told_in_a_sentence(tmp_path, remote):
    for slug in ("OWNER/REPOSITORY", "somebody/course/nothing/there"):
        printed, error = run_cell(tmp_path, remote, slug)
        assert printed == "" and "Traceback" not in error
        said = f"https://github.com/{slug} could not be fetched. Is it the course's?"
        assert said in error and not [*tmp_path.iterdir()]


def test_an_installed_package_is_found_but_not_another_of_that_name(tmp_path, remote):
    for name, fetched in (("attention-in-image-classifiers", False), ("attention", True)):
        packages = tmp_path / name / "packages"
        folder = packages / f"{name.replace('-', '_')}-0.1.0.dist-info"
        folder.mkdir(parents=True)
        (folder / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 0.1.0\n")
        printed, error = run_cell(tmp_path / name / "empty", remote, path=packages)
        assert bool(printed) == fetched and not error


def test_the_address_in_the_cell_is_the_one_of_pyproject():
    assert f'"https://github.com/{address()}"' in cells()[0]


def test_no_file_names_the_address_that_does_not_get_the_new_one():
    listed = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True).stdout
    own = f"github.com/{address()}".encode()
    naming = {path for name in listed.split() if own in (path := ROOT / name).read_bytes()}
    assert naming <= set(places())


# What is missing is installed, and nothing else


@pytest.fixture
def pip(monkeypatch):
    """pip is not called: what it was asked for, and to what it was bound."""
    asked = types.SimpleNamespace(returncode=0, commands=[], pins=[])

    def called(command):
        pins = Path(command[command.index("--constraint") + 1])
        asked.pins.append(pins.read_text().splitlines())
        asked.commands.append(command[command.index("--constraint") + 2 :])
        return asked

    monkeypatch.setattr(setup_course.subprocess, "run", called)
    return asked


def test_what_is_installed_is_left_alone(pip, capsys):
    setup_course.install()
    assert not pip.commands and capsys.readouterr().out == ""


def test_what_is_missing_is_installed_and_pip_bound_to_the_rest(pip, monkeypatch, capsys):
    there = setup_course.installed()
    assert str(there["numpy"]) == version("numpy")
    for name in ("scipy", "statsmodels"):
        del there[name]
    there["ipywidgets"], there["torch"] = Version("7.7.1"), Version("2.11.0+cu128")
    monkeypatch.setattr(setup_course, "installed", lambda: there)
    setup_course.install()
    assert [one.partition(">")[0] for [*command] in pip.commands for one in command] == [
        "scipy", "statsmodels",
    ]  # fmt: skip
    assert {"ipywidgets==7.7.1", "torch==2.11.0+cu128"} <= set(pip.pins[0])
    assert capsys.readouterr().out == "installing scipy, statsmodels\n"


def test_what_is_old_stays_and_is_named(pip, monkeypatch, capsys):
    there = setup_course.installed() | {"pandas": Version("1.5")}
    monkeypatch.setattr(setup_course, "installed", lambda: there)
    setup_course.install()
    assert not pip.commands
    assert "pandas 1.5 stays, though the course was tested with >=" in capsys.readouterr().out


def test_pip_that_fails_is_told_in_a_sentence(pip, monkeypatch):
    pip.returncode = 1
    monkeypatch.setattr(setup_course, "installed", dict)
    with pytest.raises(SystemExit, match="pip could not install torch.* Then run this cell again"):
        setup_course.install()


def test_what_was_broken_off_counts_as_missing(tmp_path, monkeypatch):
    (tmp_path / "scipy" / "linalg").mkdir(parents=True)  # unpacked, and no metadata yet
    half = tmp_path / "pandas-2.2.3.dist-info"
    half.mkdir()
    (tmp_path / "own-1.0-unknown.egg-info").write_text("Name: own\nVersion: 1.0-unknown\n")
    monkeypatch.setattr(sys, "path", [str(tmp_path)])
    assert setup_course.installed() == {}
    (half / "METADATA").write_text("Metadata-Version: 2.1\nName: Pandas\nVersion: 2.2.3\n")
    assert setup_course.installed() == {"pandas": Version("2.2.3")}


# The form


@pytest.fixture
def own_environment(monkeypatch):
    """Variables that are as before when the test is over."""
    monkeypatch.setattr(settings, "_BEFORE", {})
    for name in ("PROFILE", "DATA", "MINUTES", "HOME"):
        monkeypatch.setenv(f"ATTENTION_{name}", "")
    for name in ("KAGGLE_KERNEL_RUN_TYPE",):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.delitem(sys.modules, "google.colab", raising=False)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)


def rows(capsys):
    """{device, profile, dataset, minutes, results: what is said of it}; a second line is joined."""
    found, name = {}, None
    for line in capsys.readouterr().out.splitlines():
        name = line[:10].strip() or name
        found[name] = f"{found.get(name, '')} {line[10:]}".strip()
    return found


@pytest.mark.usefixtures("own_environment")
def test_the_form_is_automatic_and_then_the_environment_speaks(monkeypatch, capsys):
    exec(FORM, {})
    said = rows(capsys)
    assert said.keys() == {"device", "profile", "dataset", "minutes", "results"}
    assert said["profile"] == "quick" and said["minutes"].startswith("at most 1 ")
    assert settings.home() == ROOT and "folder of the course" in said["results"]
    monkeypatch.setattr(settings, "_BEFORE", {})
    monkeypatch.setenv("ATTENTION_PROFILE", "smoke")
    monkeypatch.setenv("ATTENTION_DATA", "/some/where/flowers.zip")
    monkeypatch.setenv("ATTENTION_HOME", str(ROOT))
    exec(FORM, {})
    said = rows(capsys)
    assert (said["profile"], said["dataset"]) == ("smoke", "flowers.zip")
    assert said["minutes"] == "no limit" and said["results"] == "in ATTENTION_HOME"


@pytest.mark.usefixtures("own_environment")
def test_what_the_form_says_goes_before_the_environment_until_it_is_automatic_again(monkeypatch):
    monkeypatch.setenv("ATTENTION_PROFILE", "full")
    settings.choose("smoke", "shapes10", "2.5")
    assert attention.profile() == "smoke" and settings.minutes() == 2.5
    assert os.environ["ATTENTION_DATA"] == "shapes10"
    settings.choose()
    assert attention.profile() == "full" and settings.minutes() == 30
    assert os.environ["ATTENTION_DATA"] == ""
    for wrong in (dict(profile="huge"), dict(minutes="0"), dict(minutes="soon")):
        with pytest.raises(ValueError, match="ATTENTION_(PROFILE|MINUTES) must be"):
            settings.choose(**wrong)


def colab(monkeypatch, mount):
    google = types.ModuleType("google")
    google.colab = types.ModuleType("google.colab")
    google.colab.drive = types.SimpleNamespace(mount=mount)
    monkeypatch.setitem(sys.modules, "google", google)
    monkeypatch.setitem(sys.modules, "google.colab", google.colab)


@pytest.mark.usefixtures("own_environment")
def test_on_colab_the_drive_keeps_the_results(monkeypatch, tmp_path, capsys):
    mounted = []
    monkeypatch.setattr(settings, "DRIVE", tmp_path)
    colab(monkeypatch, lambda path: (mounted.append(path), (tmp_path / "MyDrive").mkdir()))
    settings.choose()
    said = rows(capsys)
    assert said["results"].startswith("gone with this machine") and not mounted
    assert "Runtime, Change runtime type, T4 GPU" in said["device"]
    for _ in range(2):
        settings.choose(drive=True)
        assert settings.home() == tmp_path / "MyDrive" / "attention-course"
    assert mounted == [str(tmp_path)] and rows(capsys)["results"].startswith("in ATTENTION_HOME")
    settings.choose(drive=False)
    assert settings.home() == ROOT


@pytest.mark.usefixtures("own_environment")
def test_a_drive_that_cannot_be_mounted_is_told(monkeypatch, tmp_path):
    def refuse(path):
        raise ValueError("mount failed")

    monkeypatch.setattr(settings, "DRIVE", tmp_path)
    colab(monkeypatch, refuse)
    with pytest.raises(RuntimeError, match="could not be mounted .mount failed.*untick"):
        settings.choose(drive=True)
    assert settings.home() == ROOT


@pytest.mark.usefixtures("own_environment")
def test_outside_colab_nothing_is_mounted_and_kaggle_says_how_to_get_a_gpu(monkeypatch, capsys):
    settings.choose(drive=True)
    assert settings.home() == ROOT and settings.place() is None
    assert "Runtime" not in rows(capsys)["device"]
    monkeypatch.setenv("KAGGLE_KERNEL_RUN_TYPE", "Interactive")
    colab(monkeypatch, lambda path: pytest.fail("mounted"))  # Kaggle's image has that module, too
    settings.choose(drive=True)
    said = rows(capsys)
    assert "Settings, Accelerator, GPU T4 x2" in said["device"] and "Persistence" in said["results"]


@pytest.mark.parametrize(
    ("capability", "built", "usable"),
    [
        ((7, 5), ["sm_75", "sm_80", "sm_90"], True),
        ((6, 0), ["sm_75", "sm_80", "sm_90"], False),  # Kaggle's P100
        ((8, 9), ["sm_80", "sm_90a"], True),  # machine code of the same major version
        ((8, 0), ["sm_86"], False),
        ((12, 0), ["sm_90", "compute_90"], True),  # made when it is loaded
        ((12, 0), ["sm_90", "sm_120"], True),
        ((9, 0), ["gfx90a"], True),
    ],
)
@pytest.mark.usefixtures("own_environment")
def test_a_gpu_that_this_torch_has_no_code_for_is_none(
    capability, built, usable, monkeypatch, capsys
):
    assert settings.gpu() is None and machine.default_device() == "cpu"
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda: capability)
    monkeypatch.setattr(torch.cuda, "get_arch_list", lambda: built)
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda: "Abacus")
    assert settings.gpu() == ("Abacus" if usable else None)
    assert machine.default_device() == ("cuda" if usable else "cpu")
    assert attention.profile() == ("full" if usable else "quick")
    settings.choose()
    assert ("no code for the Abacus" in rows(capsys)["device"]) == (not usable)


def test_the_notebooks_are_valid_json_as_they_are_written():
    for path in NOTEBOOKS:
        text = path.read_text(encoding="utf-8")
        assert text == json.dumps(json.loads(text), indent=1, ensure_ascii=False) + "\n", path.name
