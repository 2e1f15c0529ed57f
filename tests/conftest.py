"""What all tests share."""

import pytest
import torch

# The networks of the tests are tiny: one thread is faster than two that wait for each other.
torch.set_num_threads(1)


@pytest.fixture(autouse=True)
def reproducible():
    torch.manual_seed(0)
