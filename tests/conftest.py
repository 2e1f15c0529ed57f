"""What all tests share."""

import os

import pytest
import torch

from attention.blocks import table

# The networks of the tests are tiny: one thread is faster than two that wait for each other.
torch.set_num_threads(1)
# What the shell of whoever runs the tests has set does not count.
for name in ("DATA", "HOME", "PROFILE", "MINUTES", "OFFLINE", "RETRAIN", "COMPILED"):
    os.environ.pop(f"ATTENTION_{name}", None)


@pytest.fixture(autouse=True)
def reproducible():
    torch.manual_seed(0)


@pytest.fixture
def own_home(tmp_path, monkeypatch):
    """A home without files, and the smallest profile."""
    monkeypatch.setenv("ATTENTION_HOME", str(tmp_path))
    monkeypatch.setenv("ATTENTION_PROFILE", "smoke")
    return tmp_path


@pytest.fixture(autouse=True)
def own_blocks():
    """The blocks that a test registers are gone after it."""
    tables = (table._rows, table._blocks, table._poolings)
    before = [dict(rows) for rows in tables]
    yield
    for rows, old in zip(tables, before, strict=True):
        rows.clear()
        rows.update(old)
