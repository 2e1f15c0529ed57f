"""From a folder to the page: what is trained, what is repeated, what the page says."""

import base64
import dataclasses
import html
import html.parser
import io
import json
import multiprocessing
import os
import re
import time

import pytest
import torch
from PIL import Image

from attention import data
from attention.compare import __main__ as command
from attention.compare import compare, evidence, findings, page, rounds, study
from attention.data import Dataset, write_folder
from attention.training import duration

CLASSES = ("<script>alert(1)</script>", 'a"b&c')
BLOCKS = ["se", "cbam"]


def small(test=20):
    """Two classes of Shapes-10 as 16×16 pictures."""
    drawn = data.shapes10(train=240, test=150)
    parts = []
    for split, count in ((drawn.train, 48), (drawn.test, test)):
        part = split.take((split.labels < 2).nonzero()[:, 0][:count])
        parts.append(data.Split(part.images[:, :, ::2, ::2].contiguous(), part.labels))
    return Dataset("flowers", *parts, drawn.classes[:2])


@pytest.fixture(scope="module", autouse=True)
def hasty():
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(evidence, "SECONDS", 0.01)
        yield


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return write_folder(small(), tmp_path_factory.mktemp("pictures") / "flowers")


@pytest.fixture(scope="module")
def made(folder, tmp_path_factory):
    """A home in which the comparison is finished, and its page."""
    home = tmp_path_factory.mktemp("home")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("ATTENTION_HOME", str(home))
        patch.setenv("ATTENTION_PROFILE", "smoke")
        out = compare(folder, BLOCKS, out=home / "page.html", progress=False)
    return home, out.read_text(encoding="utf-8")


@pytest.fixture
def at_home(made, monkeypatch):
    monkeypatch.setenv("ATTENTION_HOME", str(made[0]))
    monkeypatch.setenv("ATTENTION_PROFILE", "smoke")
    return made[0]


def records(home):
    return {path: path.read_bytes() for path in home.glob("data/runs/*/*.json")}


class Page(html.parser.HTMLParser):
    """The elements of a page; every one that is opened has to be closed in its turn."""

    VOID = {"meta", "link", "img", "line", "br"}

    def __init__(self, text):
        super().__init__()
        self.open, self.tags, self.texts, self.rows = [], [], [], {}
        self.feed(text)
        self.close()
        assert not self.open

    def handle_starttag(self, tag, attributes):
        self.tags.append((tag, dict(attributes)))
        if tag not in self.VOID:
            self.open.append((tag, dict(attributes)))

    def handle_startendtag(self, tag, attributes):
        self.tags.append((tag, dict(attributes)))

    def handle_endtag(self, tag):
        assert self.open.pop()[0] == tag

    def handle_data(self, text):
        if not self.open or self.open[-1][0] in ("style", "title"):
            return
        self.texts.append(text)
        for tag, attributes in self.open:
            if tag == "tr" and "data-name" in attributes:
                kind = self.open[-1][1].get("class") or self.open[-1][0]
                self.rows.setdefault(attributes["data-name"], {})[kind] = text.strip()

    def all(self, tag):
        return [attributes for name, attributes in self.tags if name == tag]


def test_the_page_needs_nothing_but_itself(made):
    parsed = Page(made[1])
    assert not parsed.all("script") and not re.search(r"https?://|url\(|@import", made[1])
    assert [link["href"] for link in parsed.all("link")] == ["data:,"]
    pictures = parsed.all("img")
    assert len(pictures) > 6 and all(one["alt"] for one in pictures)
    for one in pictures:
        kind, content = one["src"].split(",", 1)
        assert kind == "data:image/png;base64"
        Image.open(io.BytesIO(base64.b64decode(content))).verify()
    assert "prefers-color-scheme: dark" in made[1] and parsed.all("meta")[1]["name"] == "viewport"


def test_the_verdict_has_the_numbers_of_the_table(made):
    parsed = Page(made[1])
    block, difference, interval = re.search(
        r"highest is (\w+), with (\S+) points against it \(95 % interval (.*?)\)", made[1]
    ).groups()
    assert parsed.rows[block]["difference"] == difference
    assert parsed.rows[block]["between"] == interval
    highest = max(("se", "cbam"), key=lambda name: float(parsed.rows[name]["accuracy"]))
    assert parsed.rows[highest]["accuracy"] == parsed.rows[block]["accuracy"]
    plain, own = (float(parsed.rows[name]["accuracy"]) for name in ("plain", block))
    assert own - plain == pytest.approx(float(difference.replace("−", "-")), abs=0.11)


def test_the_table_has_the_accuracies_of_the_records(made):
    parsed = Page(made[1])
    kept = [json.loads(text) for text in records(made[0]).values()]
    assert len(kept) == 6
    for block in (None, *BLOCKS):
        own = [r["result"]["test_accuracy"] for r in kept if r["run"]["block"] == block]
        shown = float(parsed.rows[block or "plain"]["accuracy"])
        assert len(own) == 2 and shown == pytest.approx(sum(own) / 2, abs=0.051)


def test_networks_that_have_hardly_learned_are_named_as_such(made):
    assert "This is the smoke profile" in made[1]
    half = small().test.take(torch.arange(4))
    half.labels[:] = torch.tensor([0, 0, 1, 1])
    assert findings.hardly_learned(61, half) == []
    [said] = findings.hardly_learned(59, half)
    assert "right in 59.0 %, and who always says the same in 50.0 %" in said


def test_what_the_page_says_to_type_works(made, at_home, tmp_path, monkeypatch, capsys):
    code = re.findall(r"<pre><code>(.*?)</code></pre>", made[1], re.DOTALL)[0]
    picture = small().test.images[0]
    Image.fromarray(picture.permute(1, 2, 0).numpy()).save(tmp_path / "picture.jpg")
    monkeypatch.chdir(tmp_path)
    exec(html.unescape(code), {})
    answer, share = capsys.readouterr().out.split()
    assert answer in small().classes and 50 <= int(share.rstrip("%")) <= 100


def test_called_again_it_trains_nothing(at_home, folder, monkeypatch, capsys):
    before = records(at_home)
    monkeypatch.setitem(rounds.work.__globals__, "fit", lambda *a, **k: pytest.fail("trained"))
    compare(folder, BLOCKS, out=at_home / "again.html", minutes=1e-3, progress=False)
    assert records(at_home) == before
    said = capsys.readouterr().out
    first = "flowers: 48 training and 20 test images of 16×16, 2 classes"
    assert said.startswith(first) and "resnet20 + se (reduction 4): about" in said
    assert said.index("A round") < said.index("No block is shown") < said.index("The page:")


def test_of_one_seed_the_page_says_that_nothing_can_be_said(at_home, folder):
    out = compare(folder, BLOCKS, seeds=1, out=at_home / "one.html", progress=False)
    parsed = Page(text := out.read_text(encoding="utf-8"))
    assert "Nothing can be said yet" in text and "points against it" not in text
    assert set(parsed.rows) == {"plain", *BLOCKS} and "difference" not in parsed.rows["se"]
    assert not [row for row in parsed.all("tr") if row.get("class") == "taken"]
    assert "--blocks se,cbam --seeds 5" in text


def test_validation_pictures_choose_the_block(at_home, tmp_path):
    """Validation pictures are in no record: the trainings are those that are there."""
    images = dataclasses.replace(small(), validation=small(30).test)
    path = write_folder(images, tmp_path / "flowers")
    before = records(at_home)
    out = compare(path, BLOCKS, out=at_home / "validated.html", progress=False)
    assert records(at_home) == before
    text = out.read_text(encoding="utf-8")
    [picked] = re.findall(r"The validation pictures pick (\w+), with", text)
    shown = {
        name: float(re.search(rf'data-name="{name}".*?validation.*?">([\d.]+)<', text, re.S)[1])
        for name in BLOCKS
    }
    assert shown[picked] == max(shown.values())
    assert f"{picked} was picked by the validation pictures" in text


CONTEXT = multiprocessing.get_context("forkserver")
CONTEXT.set_forkserver_preload(["attention.compare"])


def child(home, folder):
    os.environ.update(ATTENTION_HOME=str(home), ATTENTION_PROFILE="smoke")
    torch.set_num_threads(1)
    compare(folder, BLOCKS, out=home / "page.html", progress=False)


def test_killed_in_the_middle_it_goes_on(own_home, folder, made):
    process = CONTEXT.Process(target=child, args=(own_home, folder))
    process.start()
    while len(records(own_home)) < 2 and process.is_alive():
        time.sleep(0.01)
    process.kill()
    process.join()
    before = records(own_home)
    assert 2 <= len(before) < 6 and not (own_home / "page.html").exists()
    trained, fit = [], rounds.work.__globals__["fit"]

    def counting(run, *arguments, **options):
        trained.append(run)
        return fit(run, *arguments, **options)

    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(rounds.work.__globals__, "fit", counting)
        compare(folder, BLOCKS, out=own_home / "page.html", progress=False)
    after = records(own_home)
    assert len(trained) == 6 - len(before) and before.items() <= after.items() and len(after) == 6
    first, second = Page(made[1]), Page((own_home / "page.html").read_text())
    for name in ("plain", *BLOCKS):  # as if it had not been killed
        for column in ("accuracy", "difference", "between"):
            assert first.rows[name].get(column) == second.rows[name].get(column)


def test_names_reach_the_page_escaped(at_home, made, tmp_path):
    images = small()
    evil = Dataset("flowers", images.train, images.test, CLASSES)
    for number, name in enumerate(images.classes):
        assert name in made[1], number
    counts = torch.eye(2, dtype=torch.long).numpy()
    text = page.render(
        name="flowers", about=CLASSES[0], warnings=[], seeds=[0], classes=evil.classes,
        verdict=type("V", (), {"sentences": (CLASSES[0],)}), compared=False, validated=False,
        rows=[], reading="", caption=CLASSES[0],
        matrices=[page.matrix(CLASSES[1], counts, CLASSES)],
        mistaken="plain", shown="se", columns=[], maps=[], notes=[CLASSES[0]], small=True,
        mistakes=[{"image": "data:,", "number": 1, "label": CLASSES[0], "answer": CLASSES[1],
                   "probability": 0.5}],
        steps=[{"text": CLASSES[0], "code": CLASSES[1]}], provenance=[("a", CLASSES[0])],
    )  # fmt: skip
    parsed = Page(text)
    assert not parsed.all("script") and "<script" not in text
    assert "".join(parsed.texts).count(CLASSES[0]) >= 6
    assert CLASSES[1] in [one.get("title") for one in parsed.all("th")]
    assert parsed.all("img")[0]["alt"] == f"test picture 1: {CLASSES[0]}"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ("--blocks se,nope", "blocks must be some of se, .*each once; got .*'nope'"),
        ("--blocks se,se", "blocks must be some of .*each once"),
        ("--blocks=", "blocks must be some of"),
        ("--network nope", "network must be one of .*resnet20.*; got 'nope'"),
        ("--minutes 0", "minutes must be above 0, got 0.0"),
        ("--minutes nan", "minutes must be a finite number, got nan"),
        ("--minutes soon", "--minutes: invalid float value: 'soon'"),
        ("--seeds 0", "seeds must be a whole number of at least 1, got 0"),
        ("--epochs -1", "epochs must be a whole number of at least 1, got -1"),
        ("--size 0", "size must be a whole number of at least 1, got 0"),
        ("--broken maybe", "broken must be one of refuse, skip; got 'maybe'"),
        ("--out {folder}", "out must be a file, and .* is a folder"),
    ],
)
def test_a_wrong_argument_is_named_before_anything_is_trained(
    arguments, message, folder, own_home, capsys, monkeypatch
):
    monkeypatch.setattr("attention.compare.study.train", lambda *a, **k: pytest.fail("trained"))
    words = arguments.format(folder=folder).split()
    with pytest.raises(SystemExit, match="2"):
        command.main([str(folder), *words])
    assert re.search(message, " ".join(capsys.readouterr().err.split()))


def test_a_folder_that_is_not_there_is_named(own_home, capsys):
    with pytest.raises(SystemExit, match="2"):
        command.main([str(own_home / "nowhere")])
    assert "nowhere" in capsys.readouterr().err


def test_pictures_of_several_sizes_are_made_of_one_and_it_is_said(tmp_path, own_home):
    for part in ("train", "test"):
        for name in ("a", "b"):
            (tmp_path / part / name).mkdir(parents=True)
            for side in (20, 30):
                Image.new("RGB", (side, 20)).save(tmp_path / part / name / f"{side}.png")
    images, said = study.pictures(tmp_path)
    assert images.size == (128, 128) and "differ in size: each was made 128×128" in said
    assert study.pictures(tmp_path, size=9)[0].size == (9, 9)
    for path in tmp_path.glob("*/*/20.png"):
        path.unlink()
    images, said = study.pictures(tmp_path)
    assert images.size == (20, 30) and not said
    (tmp_path / "train" / "a" / "broken.png").write_bytes(b"no picture")
    with pytest.raises(ValueError, match="broken.png"):
        study.pictures(tmp_path)
    assert study.pictures(tmp_path, broken="skip")[0].notes
    for path in tmp_path.glob("*/*/30.png"):
        Image.new("RGB", (400, 300)).save(path)
    images, said = study.pictures(tmp_path, broken="skip")
    assert images.size == (128, 128) and "are of 400×300 pixels" in said


def test_stopped_from_the_keyboard_it_says_how_to_go_on(folder, own_home, capsys, monkeypatch):
    def stop(*arguments, **options):
        raise KeyboardInterrupt

    monkeypatch.setattr("attention.compare.study.train", stop)
    with pytest.raises(SystemExit, match="130"):
        command.main([str(folder), "--network", "resnet20", "--blocks", "se"])
    assert "the same command goes on" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("seconds", "words"),
    [(0.34, "0.3 s"), (42.4, "42 s"), (60, "1 min"), (200, "3 min 20 s"), (7500, "2 h 5 min")],
)
def test_durations_in_words(seconds, words):
    assert duration(seconds) == words
