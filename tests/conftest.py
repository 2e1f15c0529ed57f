"""What all tests share."""

import pytest
import torch

# The networks of the tests are tiny: one thread is faster than two that wait for each other.
torch.set_num_threads(1)


@pytest.fixture(autouse=True)
def reproducible():
    torch.manual_seed(0)


@pytest.fixture
def own_home(tmp_path, monkeypatch):
    """A home without files, and the smallest profile."""
    monkeypatch.setenv("ATTENTION_HOME", str(tmp_path))
    monkeypatch.setenv("ATTENTION_PROFILE", "smoke")
    return tmp_path
