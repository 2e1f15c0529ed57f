"""The site: Sphinx can read what it is given, links lead somewhere, the explorer is right."""

import json
import re
import sys
from pathlib import Path

import pytest
import torch
from address import ROOT
from PIL import Image

import attention

pytest.importorskip("sphinx", reason="site/requirements.txt is not installed")
sys.path.append(str(ROOT / "site"))
import docstrings  # noqa: E402
import explorer  # noqa: E402
import mathml  # noqa: E402
import pages  # noqa: E402
import reference  # noqa: E402
import sources  # noqa: E402


def test_a_plain_docstring_becomes_what_sphinx_reads():
    text = """Grad-CAM maps (N, H, W) in [0, 1]: x* of `capture`_d.

    images: (N, 3, H, W), normalised,
        as the network takes them. target: a class.
    layer, path: a |module|.

        mean, std       of all its values
        fixed           the share that the mean map
                        explains

        with capture(network) as maps:
            network(images)
    """
    lines = docstrings.rst(text, lambda name: ":py:obj:`x`" if name == "capture" else None)
    assert lines[0] == r"Grad-CAM maps (N, H, W) in [0, 1]: x\* of :py:obj:`x`\ \_d."
    found = "\n".join(lines)
    assert "``images``\n   (N, 3, H, W), normalised, as the network takes them.\n" in found
    assert "``target``\n   a class.\n" in found
    assert "``layer, path``\n   a \\|module\\|.\n" in found
    assert "``fixed``\n   the share that the mean map explains\n" in found
    code = ".. code-block:: python\n\n   with capture(network) as maps:\n       network(images)"
    assert code in found
    room = docstrings.rst(
        "What a room is.\n\nse, eca     gates\nencoding    a gate\n            more"
    )
    assert room[2:] == ["``se, eca``", "   gates", "", "``encoding``", "   a gate more", ""]


def test_every_name_of_the_package_is_in_the_reference(tmp_path):
    reference.write_pages(tmp_path)
    text = "\n".join(path.read_text(encoding="utf-8") for path in tmp_path.glob("*.rst"))
    documented = set(re.findall(r"\.\. (?:autoclass|autofunction|py:data):: (\S+)", text))
    rooms = {"data", "training"}  # modules, under their own names
    missing = {f"attention.{name}" for name in attention.__all__} - documented
    assert missing <= {f"attention.{room}" for room in rooms}
    assert {"attention.explain.relevance", "attention.results.statistics.pooled"} <= documented


def test_every_formula_of_a_notebook_is_drawn():
    formulas = []
    for path in sources.notebooks():
        for cell in json.loads(path.read_text(encoding="utf-8"))["cells"]:
            if cell["cell_type"] == "markdown":
                text = re.sub(r"`[^`]*`", "", "".join(cell["source"]))
                formulas += re.findall(r"\$\$(.+?)\$\$", text, re.DOTALL)
                formulas += re.findall(r"(?<!\$)\$([^$\n]+)\$", text)
    assert len(formulas) > 100
    for formula in formulas:
        assert mathml.markup(formula, block=True).count("<math") == 1
    tagged = mathml.markup(r"y = x^2 \tag{3}", block=True)
    assert "(3)" in tagged and "tag" not in re.sub("<[^>]*>", "", tagged)
    with pytest.raises(ValueError, match="unheard"):
        mathml.markup(r"\unheard{x}")


def test_links_of_a_notebook_hold_in_the_site(monkeypatch):
    name = sources.notebooks()[0].name
    kept = f"[one]({name}) [two](https://example.org/a) [three](#part)"
    assert sources.readdressed(kept, "notebooks") == kept
    assert sources.readdressed("[R](../RESULTS.md#a)", "notebooks") == "[R](../results.md#a)"
    badge = "[![Open](https://a/b.svg)](https://c/OWNER/REPOSITORY/d) text"
    assert sources.readdressed(badge, "notebooks") == "text"
    code = "[SE](../attention/blocks/se.py)"
    assert sources.readdressed(code, "notebooks") == "SE (`attention/blocks/se.py`)"
    monkeypatch.setattr(sources, "repository", lambda: "https://github.com/a/b")
    assert sources.readdressed(code, "notebooks").endswith("/a/b/blob/main/attention/blocks/se.py)")


def test_a_picture_from_elsewhere_stays_out(tmp_path):
    sources.write_notebooks(tmp_path)
    assert len(list(tmp_path.glob("*.ipynb"))) == len(sources.notebooks())
    for path in tmp_path.glob("*.ipynb"):
        cells = json.loads(path.read_text(encoding="utf-8"))["cells"]
        words = ["".join(cell["source"]) for cell in cells if cell["cell_type"] == "markdown"]
        assert not any(re.search(r"!\[[^\]]*\]\(http", text) for text in words)


def test_nothing_is_loaded_from_elsewhere():
    for path in [*(ROOT / "site" / "static").iterdir(), *(ROOT / "site" / "pages").iterdir()]:
        text = path.read_text(encoding="utf-8")
        assert not re.search(r"(src|href)=\"https?:|@import|url\(http|fetch\(", text), path.name


@pytest.fixture
def trained_home(own_home, monkeypatch):
    """A home with a small network, with CBAM and without, trained on a few drawn pictures."""
    monkeypatch.setattr(explorer, "checkout", lambda: None)
    monkeypatch.setattr(explorer, "MEASURED", 24)
    monkeypatch.setattr(explorer, "SHOWN", 6)
    data = attention.load("shapes10")
    for block in (None, "cbam"):
        run = attention.Run(network="resnet20", width=4, block=block, epochs=1, train_images=64)
        attention.fit(run, data, progress=False, precision="float32")
    return data


def test_the_explorers_data(trained_home, tmp_path):
    folder = tmp_path / "static"
    folder.mkdir()
    shown = explorer.write(folder)
    text = (folder / "explorer-data.js").read_text(encoding="utf-8")
    data = json.loads(text.removeprefix("window.EXPLORER = ").removesuffix(";\n"))
    assert data["schema"] == explorer.SCHEMA and data["datasets"] == shown
    [dataset] = shown
    assert dataset["name"] == "shapes10" and len(dataset["labels"]) == 6
    height, width = dataset["size"]
    assert Image.open(folder / dataset["sprite"]).size == (width, 6 * height)
    plain, cbam = dataset["networks"]
    assert (plain["block"], plain["places"]) == (None, [])
    assert [place["name"] for place in cbam["places"]] == ["stage 1", "stage 2", "stage 3"]
    columns = {cbam["gradcam"]} | {place["gradcam"] for place in cbam["places"]}
    for place in cbam["places"]:
        assert [one["kind"] for one in place["maps"]] == ["channel", "spatial"] * 3
        assert [one["where"] for one in place["maps"][::2]] == ["block 1", "block 2", "block 3"]
        assert set(place["ways"]) == set(explorer.WAYS)
        columns |= {one["column"] for one in place["maps"]}
        for found in [cbam["answers"], *(way["answers"] for way in place["ways"].values())]:
            assert torch.tensor(found).shape == (6, 10)
            torch.testing.assert_close(torch.tensor(found).sum(1), torch.ones(6), atol=1e-3, rtol=0)
    assert columns == set(range(len(columns)))  # every map has its place in the sprite
    sprite = Image.open(folder / cbam["sprite"])
    assert sprite.size == (len(columns) * width, 6 * height)


def test_what_a_replaced_stage_answers_is_right(trained_home, tmp_path):
    """The gates of the second stage by hand: each picture gets those of the one before it."""
    (tmp_path / "static").mkdir()
    [shown] = explorer.write(tmp_path / "static")
    network = attention.pretrained("cbam", data="shapes10")
    split = explorer.chosen(trained_home.test)
    assert split.labels[:6].tolist() == shown["labels"]
    about = network.record["dataset"]
    mean, std = (torch.tensor(about[name])[:, None, None] for name in ("mean", "std"))
    images = (split.images[:6].float() / 255 - mean) / std
    gates = [module for path, module in network.named_modules()
             if path.startswith("stages.1.") and path.endswith("gate")]  # fmt: skip
    assert len(gates) == 6
    kept, handles = {}, []
    for gate in gates:
        handles.append(gate.register_forward_hook(lambda m, i, o: kept.update({m: o})))
    with torch.no_grad():
        network(images)
        own = dict(kept)
        for handle in handles:
            handle.remove()
        for gate in gates:
            moved = torch.cat([own[gate][-1:], own[gate][:-1]])
            gate.register_forward_hook(lambda m, i, o, moved=moved: moved)
        answers = network(images).softmax(1)
    found = shown["networks"][1]["places"][1]["ways"]["other"]["answers"]
    torch.testing.assert_close(torch.tensor(found), answers, atol=2e-4, rtol=0)


def test_without_a_network_the_page_says_how_to_train_one(own_home, monkeypatch, tmp_path):
    monkeypatch.setattr(explorer, "checkout", lambda: None)
    (tmp_path / "static").mkdir()
    shown = explorer.write(tmp_path / "static")
    assert shown == []
    monkeypatch.setattr(pages.evidence, "other_networks", lambda: "")
    pages.write(tmp_path, shown)
    text = (tmp_path / "explorer.md").read_text(encoding="utf-8")
    assert "attention.fit(" in text and "site/build.py" in text and "{%" not in text
    assert "No record of one block" in (tmp_path / "answers.md").read_text(encoding="utf-8")
    links = [
        link
        for page in tmp_path.glob("*.md")
        for link in re.findall(r"\]\((?!http)([^)#]+)", page.read_text(encoding="utf-8"))
    ]
    there = {"results.md", "api/index.rst", "api/blocks.rst", *map(_name, tmp_path.glob("*.md"))}
    there |= {f"notebooks/{path.name}" for path in sources.notebooks()}
    there |= {f"docs/{path.name}" for path in sources.DOCS}
    assert links and set(links) <= there


def _name(path: Path) -> str:
    return path.name
