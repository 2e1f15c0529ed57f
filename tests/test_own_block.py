"""A block of one's own: from a notebook cell into networks, records, tables and figures."""

import os
from pathlib import Path

import nbclient
import nbformat
import pytest

import attention
from attention.data import shapes10

CELLS = {
    "begin": """
import torch
from torch import nn
import attention
from attention import figures
from attention.data import shapes10
from attention.results import frame, histories
from attention.training import Files

torch.set_num_threads(1)
figures.style()
data = shapes10(train=120, test=60)
tiny = dict(network="fast", width=8, batch_size=40, epochs=1, train_images=80, test_images=60)
""",
    "a class": """
strength = 2.0

class Mine(nn.Module):
    def __init__(self, channels, hidden=4):
        super().__init__()
        self.score = nn.Sequential(nn.Conv2d(channels, hidden, 1), nn.ReLU(),
                                   nn.Conv2d(hidden, 1, 1))
        self.gate = attention.Gate("spatial")

    def forward(self, x):
        return strength * x * self.gate(self.score(x))
""",
    "inserted": """
network = attention.insert(attention.fast_resnet(width=8), Mine, stages=(1, 2), hidden=3)
assert [p.parameters for p in network.placements] == [8 * 3 + 3 + 3 + 1, 32 * 3 + 3 + 3 + 1]
assert "Mine" in attention.report(network)
""",
    "trained beside SE": """
runs = [attention.Run(block=block, options=options, **tiny)
        for block, options in (("se", {}), (Mine, {"hidden": 3}))]
records = [attention.fit(run, data, progress=False) for run in runs]
assert attention.fit(runs[1], data) == records[1]
assert records[1]["block"]["name"] == "Mine" and records[1]["family"] == "own"
""",
    "captured": """
network = attention.trained(runs[1], data, progress=False)
with attention.capture(network) as maps:
    attention.predict(network, data.test, data)
assert [one.kind for one in maps.values()] == ["spatial"] * 3
assert all(one.cat().shape[:2] == (60, 1) for one in maps.values())
assert attention.grad_cam(network, torch.randn(2, 3, 32, 32)).shape == (2, 32, 32)
""",
    "tabulated": """
table = frame(records)
assert list(table.block) == ["se", "Mine"] and list(table.family) == ["channel", "own"]
assert table.name[1] == "fast-8 + Mine (hidden 3)" and table.options[1] == {"hidden": 3}
""",
    "drawn": """
figures.save(figures.curves(histories(records)), "curves", data.name)
drawn = figures.against(table, "parameters")
assert any("Mine" in text.get_text() for text in drawn.axes[0].texts)
""",
    "a closure changed": """
first = Files(runs[1], data).record
strength = 3.0
other = attention.fit(runs[1], data, progress=False)
assert Files(runs[1], data).record != first
assert other["result"]["test_loss"] != records[1]["result"]["test_loss"]
strength = 2.0
assert attention.fit(runs[1], data) == records[1]
""",
    "registered": """
attention.register("mine", Mine, family="spatial")
record = attention.fit(attention.Run(block="mine", **tiny), data, progress=False)
assert (record["block"]["name"], record["family"]) == ("mine", "spatial")
""",
}


@pytest.fixture(scope="module")
def executed(tmp_path_factory):
    """The cells above, run one after the other by a kernel of their own."""
    cells = [nbformat.v4.new_code_cell(source) for source in CELLS.values()]
    notebook = nbformat.v4.new_notebook(cells=cells)
    root = Path(attention.__file__).parent.parent
    environment = os.environ | {
        "ATTENTION_HOME": str(tmp_path_factory.mktemp("home")), "ATTENTION_PROFILE": "smoke",
        "PYTHONPATH": os.pathsep.join([str(root), os.environ.get("PYTHONPATH", "")]),
        "CUDA_VISIBLE_DEVICES": "",
    }  # fmt: skip
    client = nbclient.NotebookClient(notebook, timeout=300, allow_errors=True)
    client.execute(env=environment)
    return dict(zip(CELLS, cells, strict=True))


@pytest.mark.parametrize("step", CELLS)
def test_a_class_from_a_notebook_is_a_block_like_any_other(step, executed):
    errors = [output for output in executed[step].outputs if output.output_type == "error"]
    assert not errors, f"{errors[0].ename}: {errors[0].evalue}"


def test_a_block_whose_insides_are_renamed_keeps_its_record(own_home, monkeypatch):
    small = {"network": "fast", "width": 8, "batch_size": 40, "epochs": 1, "train_images": 80}
    run = attention.Run(block="se", **small)
    data = shapes10(train=80, test=20)
    record = attention.fit(run, data, progress=False)

    def renamed(self, channels, reduction=16, bias=True):
        published(self, channels, reduction, bias)
        self.squeeze_and_excite, self.sigmoid = self.score, self.gate
        del self.score, self.gate

    published = attention.SE.__init__
    monkeypatch.setattr(attention.SE, "__init__", renamed)
    forward = lambda self, x: x * self.sigmoid(self.squeeze_and_excite(x))  # noqa: E731
    monkeypatch.setattr(attention.SE, "forward", forward)
    assert any("squeeze_and_excite" in name for name in run.build(10).state_dict())
    assert attention.fit(run, data, progress=False) == record
    assert len(list(own_home.glob("data/runs/**/*.json"))) == 1
