"""Training in rounds: every network with one seed before any has the next."""

import torch
from tqdm.auto import tqdm

from attention.compare.plan import Plan
from attention.study import Budget, Times, work
from attention.training import Run


class Rounds:
    """The records of a comparison, a complete round after the other.

    complete: [{block: record}], a dict a seed; the plain network is the block None. failed: blocks
    that gave no record where the plain network did (a loss that is not finite, too little memory):
    they are left out of all rounds.
    """

    def __init__(self) -> None:
        self.complete: list[dict[str | None, dict]] = []
        self.failed: list[str] = []

    def add(self, plan: Plan, seed: int, records: list[dict]) -> bool:
        """Take over the records of a round; False if the plain network has none."""
        found = {record["run"]["block"]: record for record in records}
        if None not in found:
            return False
        missing = [block for block in plan.blocks if block not in found]
        self.failed += [block for block in missing if block not in self.failed]
        for block in self.failed:
            for one in (*self.complete, found):
                one.pop(block, None)
        self.complete.append(found)
        return True


def train(
    plan: Plan, estimate: dict[str, float], minutes: float, device: torch.device,
    progress: bool = True,
) -> Rounds:  # fmt: skip
    """Train rounds until `plan.seeds` are complete, or the next does not fit into the minutes.

    estimate: seconds a run, by its name. A round that is begun is finished. Where not even the
    first fits, those of its runs are trained that do, so that the same call brings it to its end
    later. What has a record is not trained again, whatever the minutes.
    """
    budget, rounds = Budget(minutes), Rounds()
    for seed in range(plan.seeds):
        runs = [run for run in plan.round(seed) if run.block not in rounds.failed]
        records = work(runs, plan.data, minutes=0, device=device, progress=False)
        missing = len(runs) - len(records)
        if missing:
            fits = budget.holds(_needed(plan, runs, records, estimate, device))
            if not fits and rounds.complete:
                break
            if progress:
                tqdm.write(f"round {seed + 1}: seed {seed}, {missing} of {len(runs)} to train")
            limit = None if fits else budget.left()
            records = work(runs, plan.data, limit, device, progress)
            if not fits and len(records) < len(runs):
                break
        if not rounds.add(plan, seed, records):
            break
    return rounds


def _needed(plan: Plan, runs: list[Run], records: list[dict], estimate: dict, device) -> float:
    """Seconds for those of the runs that have no record, as its kind took or is estimated."""
    done, times = {record["run"]["block"] for record in records}, Times(device)
    total = 0.0
    for run in runs:
        if run.block not in done:
            known = times.rates.get((run.name, *plan.data.size))
            total += times.estimate(run, plan.data) if known else estimate[run.name]
    return total
