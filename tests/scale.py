"""What ten thousand runs cost where a study is started: `python tests/scale.py [RUNS] [--ray]`.

The runs themselves take no time: a machine answers with the record and the weights of one tiny
training, as those of the run it was asked for. All else is what a study does: runs are looked for,
locked, handed over, waited for, checked and written. Without --ray the machines are a stand-in in
this process; with it they are Ray's, on this machine. What is found goes to
data/benchmarks/scale.json, from which RESULTS.md tells it.

Seconds are this process's own (`time.process_time`): a machine that is busy does not change them.
"""

import argparse
import json
import os
import resource
import tempfile
import time

import torch
from ray_stand_in import standing

from attention import data
from attention.files import write_record
from attention.settings import home
from attention.study import Cluster, remote
from attention.training import Files, Run, machine

TINY = {
    "network": "fast", "width": 4, "batch_size": 40, "epochs": 1, "train_images": 80,
    "test_images": 60,
}  # fmt: skip
EPOCHS = 30  # of the history that every record has


class Answers:
    """{job: what a machine would send}: the one training of `record`, under another seed."""

    def __init__(self, images):
        text, self.weights = remote.train(remote.job(Run(**TINY), images, 1), remote.packed(images))
        self.told = json.loads(text)
        result, cost = self.told["record"]["result"], self.told["record"]["cost"]
        result["history"] = [result["history"][0] | {"epoch": e + 1} for e in range(EPOCHS)]
        cost["epoch_seconds"] *= EPOCHS

    def __call__(self, job, images):
        record = self.told["record"] | {"run": json.loads(job)["run"]}
        return json.dumps(self.told | {"record": record}), self.weights


def measured(function):
    """(what it gives, its seconds of this process, its seconds)"""
    own, whole = time.process_time(), time.perf_counter()
    found = function()
    return found, time.process_time() - own, time.perf_counter() - whole


def simulate(number, with_ray):
    """One list of runs, gathered, and then found to be there."""
    images = data.shapes10(train=120, test=60)
    answer, runs = Answers(images), [Run(**TINY, seed=seed) for seed in range(number)]
    if with_ray:
        with Cluster("local", gpus=0) as ours:
            ours.function = ours.ray.remote(lambda job, images: answer(job, images))
            found = stages(ours, runs, images)
    else:
        found = stages(standing(answer, [{"CPU": 400.0}]), runs, images)
    paths = list(Files(runs[0], images).record.parent.iterdir())
    assert len(paths) == 2 * number
    return found | {"runs": number, "bytes_of_weights": len(answer.weights),
                    "bytes": sum(path.stat().st_size for path in paths)}  # fmt: skip


def stages(ours, runs, images):
    count, own, whole = measured(lambda: len(ours.work(runs, images)))
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    again, own_again, whole_again = measured(lambda: len(ours.work(runs, images, progress=False)))
    assert count == again == len(runs)
    return {
        "gather_seconds": own, "gather_wall_seconds": whole,
        "again_seconds": own_again, "again_wall_seconds": whole_again,
        "peak_memory_mib": peak,
    }  # fmt: skip


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("runs", nargs="?", type=int, default=10_000)
    parser.add_argument("--ray", action="store_true", help="Ray's own machines")
    chosen = parser.parse_args()
    torch.set_num_threads(1)
    path = home() / "data" / "benchmarks" / "scale.json"
    with tempfile.TemporaryDirectory() as folder:
        os.environ |= {"ATTENTION_HOME": folder, "ATTENTION_PROFILE": "smoke"}
        found = simulate(chosen.runs, chosen.ray)
    told = json.loads(path.read_text()) if path.exists() else {}
    told |= {"machine": machine.describe("cpu"), "ray" if chosen.ray else "stand_in": found}
    write_record(path, told)
    print(json.dumps(found, indent=1))


if __name__ == "__main__":
    main()
