"""What a gate's values vary with: against the analysis of variance, written out."""

import pytest
import torch
from torch import nn

import attention
from attention.blocks import Gate
from attention.explain import behaviour, constancy
from attention.networks import resnet


class Says(nn.Module):
    """A gate whose map is what the input says, as it is."""

    def __init__(self, values):
        super().__init__()
        self.gate = Gate("both")
        self.values = values.logit()

    def forward(self, x):
        return x * self.gate(self.values[x[:, 0, 0, 0].long()])


def row_of(values):
    """The table's row for a gate that gives these values (N, C, H, W), image by image."""
    count = torch.arange(len(values), dtype=values.dtype)
    images = count[:, None, None, None].expand(values.shape).contiguous()
    table = constancy(Says(values).eval(), images, batch_size=3)
    assert len(table) == 1
    return table.iloc[0]


def test_shares_of_the_variance():
    values = torch.rand(7, 5, 4, 3).double() * 0.8 + 0.1
    values = values + 0.1 * torch.rand(5, 1, 1) - 0.1 * torch.rand(4, 3)
    values = values.clamp(0.01, 0.99)
    row = row_of(values)
    channels, places = values.mean((0, 2, 3), keepdim=True), values.mean(0, keepdim=True)
    total = values.var(correction=0)
    wanted = {
        "mean": values.mean(),
        "std": total.sqrt(),
        "over_images": values.var(0, correction=0).mean().sqrt(),
        "moved": (values - channels).square().mean().sqrt() / values.mean(),
        "channels": (channels - values.mean()).square().mean() / total,
        "positions": (places - channels).square().mean() / total,
        "images": (values - places).square().mean() / total,
    }
    for name, expected in wanted.items():
        assert row[name] == pytest.approx(float(expected), rel=1e-4), name
    assert row[["channels", "positions", "images"]].sum() == pytest.approx(1)


@pytest.mark.parametrize("of", ["channels", "positions", "images"])
def test_one_source_of_variance_has_all_of_it(of):
    shape = {"channels": (1, 5, 1, 1), "positions": (1, 1, 4, 3), "images": (7, 1, 1, 1)}[of]
    row = row_of((torch.rand(shape).double() * 0.8 + 0.1).expand(7, 5, 4, 3))
    assert row[of] == pytest.approx(1)
    assert (row["moved"] < 1e-3) == (of == "channels")
    assert (row["over_images"] < 1e-3) == (of != "images")


def test_a_gate_of_one_value_keeps_all_of_it():
    row = row_of(torch.full((7, 5, 4, 3), 0.5).double())
    assert row["mean"] == 0.5 and row["moved"] == 0
    assert list(row[["channels", "positions", "images"]]) == [1, 0, 0]


def test_a_row_for_each_gate_and_the_same_as_behaviour_says():
    network = attention.insert(attention.insert(resnet(8, 4), "cbam"), "nonlocal").eval()
    images = torch.randn(10, 3, 16, 16)
    table = constancy(network, images.split(4)).set_index("gate")
    with torch.no_grad(), attention.capture(network) as maps:
        network(images)
    gates = {path: one for path, one in maps.items() if one.kind != "positions"}
    assert list(table.index) == list(gates) and len(gates) == 6
    known = behaviour(gates, torch.zeros(10))
    assert list(table["kind"]) == list(known["kind"])
    fixed = table["channels"] + table["positions"]
    assert fixed.to_numpy() == pytest.approx(known["fixed"].to_numpy(), abs=1e-3)
    assert table["mean"].to_numpy() == pytest.approx(known["mean"].to_numpy(), rel=1e-5)
