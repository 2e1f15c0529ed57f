"""What ten thousand runs cost: the simulation runs, and RESULTS.md says what it has found."""

import json

import pytest
import scale as simulation

from attention.results import scale

FOUND = {"runs": 10_000, "gather_seconds": 60.0, "gather_wall_seconds": 240.0,
         "again_seconds": 30.0, "again_wall_seconds": 40.0, "peak_memory_mib": 900.0,
         "bytes": 2**30, "bytes_of_weights": 20_000}  # fmt: skip


@pytest.mark.usefixtures("own_home")
def test_the_simulation_goes_through_the_studys_own_code():
    found = simulation.simulate(12, False)
    assert found["runs"] == 12 and found["bytes"] > 12 * found["bytes_of_weights"] > 0
    assert 0 < found["gather_seconds"] and 0 < found["again_seconds"]
    assert found["peak_memory_mib"] < 4096


@pytest.mark.parametrize("ray", [None, FOUND | {"runs": 500, "gather_seconds": 3.0}])
def test_the_report_says_what_was_found(ray, tmp_path):
    path = tmp_path / "scale.json"
    machine = {"hardware": "Abacus", "commit": None}
    path.write_text(json.dumps({"machine": machine, "stand_in": FOUND, "ray": ray}))
    said = scale.text(path)
    # 60 s for 10,000 are 6 ms each, 0.02 % of 30 s
    for words in ("10,000 runs", "on Abacus", "6.0 ms", "0.02% of a run", "4.0 minutes", "900 MiB"):
        assert words in said
    assert ("500 such runs" in said) == (ray is not None)
    [row] = [line for line in said.splitlines() if line.startswith("| CIFAR-10")]
    # 50,000 images, 30 epochs, 50,000 a second: 30 s a run; a thousand on a hundred GPUs: 300 s
    cells = [cell.strip() for cell in row.split("|")]
    assert cells[3:6] == ["0.0083", "8.3", "0.083"]
    assert cells[6] == "7 s (2.18%)"  # 6 s, and half a MB of weights each
