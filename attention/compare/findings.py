"""What a comparison has found, as its page tells it."""

import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from torch import nn

from attention.blocks import BLOCKS
from attention.compare import evidence, page
from attention.compare.plan import Plan, counts
from attention.compare.rounds import Rounds
from attention.compare.verdict import PLAIN, differences, judge
from attention.data import Split
from attention.deploy import save_network
from attention.results import confusion
from attention.settings import home, profile
from attention.training import Files, duration, trained

PICTURES = 6  # with maps
LEAST_LEARNED = 0.2  # of what guessing leaves
READING = (
    "Points are percentage points of accuracy. The interval counts that other seeds would train "
    "other networks and that other pictures would be answered otherwise; it holds for all blocks "
    "of the table at once. A block is shown to be better or worse where it excludes zero; who adds "
    "rounds until one is, will find one by chance: decide on their number before. Training "
    "times are those of the trainings; the time of one picture was measured at the end, on the "
    "same machine, at batch size 1."
)

CLASSIFY = """\
import attention, torch
from PIL import Image
from torchvision.transforms.functional import pil_to_tensor

network = attention.load_network({path!r})
picture = pil_to_tensor(Image.open("picture.jpg").convert("RGB"))
with torch.no_grad():
    shares = network(network.card.prepare(picture)).softmax(1)[0]
print(network.card.classes[shares.argmax()], f"{{shares.max():.0%}}")"""


def findings(
    plan: Plan, rounds: Rounds, device: torch.device, resized: str = "", command: str = ""
) -> dict[str, Any]:
    """All that `page.render` takes, of the complete rounds.

    resized: a sentence on the size of the pictures. command: what to type to go on.
    """
    data, names = plan.data, {b: n for b, n in plan.names.items() if b not in rounds.failed}
    blocks, plain = list(names), names[None]
    test, validation = tested(plan), data.validation
    shares = {block: answers(plan, rounds, block, test, device) for block in blocks}
    right = {names[b]: (shares[b].argmax(2) == test.labels).numpy() for b in blocks}
    enough = min(len(rounds.complete), len(blocks), len(test)) > 1
    pairs = differences(right, plain) if enough else None
    chosen_by = None
    if validation is not None:
        chosen_by = {
            names[b]: accuracy(answers(plan, rounds, b, validation, device), validation)
            for b in blocks
        }
    others = chosen_by and {name: x for name, x in chosen_by.items() if name != plain}
    verdict = judge(pairs, len(test), {name: block for block, name in names.items()}, others)
    shown = verdict.best or blocks[-1]
    networks = {block: network_of(plan, block, device) for block in blocks}
    costs = pd.DataFrame.from_dict({
        names[block]: {
            "label": called(block), "accuracy": accuracy(shares[block], test),
            "parameters": rounds.complete[0][block]["result"]["parameters"],
            "seconds": np.mean([found[block]["cost"]["seconds"] for found in rounds.complete]),
            "milliseconds": evidence.milliseconds(networks[block], data.size),
            "validation": chosen_by and chosen_by[names[block]],
        }
        for block in blocks
    }, orient="index")  # fmt: skip
    mistakes = evidence.worst(shares[verdict.take][0], test.labels)
    return {
        "name": data.name, "about": about(plan), "verdict": verdict,
        "warnings": [*hardly_learned(costs.accuracy[plain], test), *warnings(rounds)],
        "seeds": list(range(len(rounds.complete))),
        "classes": data.classes, "compared": pairs is not None, "validated": bool(chosen_by),
        "rows": page.results(costs, pairs, None if pairs is None else names[verdict.take]),
        "reading": READING,
        "caption": caption(rounds, test, data.classes),
        "matrices": [
            page.matrix(
                called(block),
                confusion(shares[block].argmax(2), test.labels, len(data.classes)),
                data.classes,
            )
            for block in dict.fromkeys((shown, None))
        ],
        "mistaken": in_words(verdict.take), "shown": in_words(shown),
        "mistakes": page.shown_mistakes(mistakes, test.images, data.classes),
        "steps": steps(saved(networks[verdict.take], plan, verdict.take), verdict.take)
        + more(verdict.kind, len(rounds.complete), command),
        "provenance": provenance(plan, rounds, resized, command),
    } | looked_at(networks[shown], networks[None], test, plan)  # fmt: skip


def tested(plan: Plan) -> Split:
    """The test pictures of the runs: all, or as many as the profile takes."""
    number = counts(plan.round(0)[0], plan.data)[1]
    test = plan.data.test
    return test if number == len(test) else test.spread(number)


def answers(
    plan: Plan, rounds: Rounds, block: str | None, split: Split, device: torch.device
) -> torch.Tensor:  # fmt: skip
    """Probabilities (seeds, pictures, classes) of the network with this block."""
    return torch.stack([
        evidence.probabilities(plan.run(block, seed), split, plan.data, found[block], device)
        for seed, found in enumerate(rounds.complete)
    ])  # fmt: skip


def accuracy(shares: torch.Tensor, split: Split) -> float:
    """In percent, over seeds and pictures."""
    return 100 * float((shares.argmax(2) == split.labels).double().mean())


def network_of(plan: Plan, block: str | None, device: torch.device) -> nn.Module:
    """The trained network of the first seed, which is not the best one."""
    return trained(plan.run(block), plan.data, device, progress=False)


def called(block: str | None) -> str:
    """A network in a table."""
    return "plain" if block is None else block


def in_words(block: str | None) -> str:
    """A network in a sentence."""
    return PLAIN if block is None else f"the network with {block}"


def about(plan: Plan) -> str:
    """What was compared on what."""
    (train, test), data = counts(plan.round(0)[0], plan.data), plan.data
    return (
        f"{', '.join(plan.blocks)}, each against {PLAIN} (plain), in {plan.why}. "
        f"{train:,} training and {test:,} test pictures of {data.size[1]}×{data.size[0]} pixels, "
        f"{len(data.classes)} classes."
    )


def caption(rounds: Rounds, test: Split, classes: tuple[str, ...]) -> str:
    """What the table is a mean of, and what one gets without looking."""
    commonest = test.labels.bincount(minlength=len(classes))
    share = 100 * float(commonest.max()) / len(test)
    return (
        f"Mean over {page.number(len(rounds.complete), 'seed')}, on {len(test):,} test pictures. "
        f"Who always says {classes[commonest.argmax()]} is right in {share:.1f} %."
    )


def hardly_learned(plain: float, test: Split) -> list[str]:
    """A sentence if the plain network is hardly better than one that always says the same."""
    guess = 100 * float(test.labels.bincount().max()) / len(test)
    if plain > guess + LEAST_LEARNED * (100 - guess):
        return []
    return [
        f"{PLAIN.capitalize()} is right in {plain:.1f} %, and who always says the same in "
        f"{guess:.1f} %: networks that have learned so little do not tell which block is better. "
        "It takes more pictures or more --epochs."
    ]


def warnings(rounds: Rounds) -> list[str]:
    """What a reader has to know before the numbers."""
    said = []
    if profile() == "smoke":
        said.append(
            "This is the smoke profile: networks that have hardly learned anything, to try the "
            "command. Nothing here says which block to take."
        )
    if rounds.failed:
        said.append(
            f"Left out, since a training of it has no record: {', '.join(rounds.failed)}. What was "
            "said while it was trained tells why."
        )
    for seed, found in enumerate(rounds.complete):
        machines = {where(record) for record in found.values()}
        if len(machines) > 1:
            said.append(
                f"The networks of seed {seed} were trained on several machines or precisions "
                f"({'; '.join(sorted(machines))}): their differences may be those of the machines."
            )
    return said


def where(record: dict) -> str:
    """The machine and precision of a record."""
    machine = record["machine"]
    threads = page.number(machine["threads"], "thread")
    return f"{machine['hardware']}, {threads}, {machine['precision']}"


def looked_at(network: nn.Module, plain: nn.Module, test: Split, plan: Plan) -> dict[str, Any]:
    """The part of the page with maps."""
    sample, data = test.spread(min(PICTURES, len(test))), plan.data
    columns, rows = page.shown_maps(
        evidence.maps(network, plain, sample.images, data), sample.images,
        [data.classes[label] for label in sample.labels],
    )  # fmt: skip
    notes = list(dict.fromkeys(f"{column['heading']}: {column['note']}" for column in columns))
    small = max(data.size) <= page.SMALL
    return {"columns": columns, "maps": rows, "notes": notes, "small": small}


def saved(network: nn.Module, plan: Plan, block: str | None) -> Path:
    """The folder at home that `load_network` builds the network from."""
    data = plan.data
    path = home() / "data" / "compare" / data.name / plan.network / called(block)
    shutil.rmtree(path, ignore_errors=True)  # ours, perhaps of an earlier version of its form
    return save_network(
        network, path, classes=data.classes, mean=data.mean, std=data.std, size=data.size
    )


def steps(path: Path, take: str | None) -> list[dict[str, str]]:
    """What to type to use the network that was saved at `path`, and to train another."""
    path = path.relative_to(Path.cwd()) if path.is_relative_to(Path.cwd()) else path
    found = [{
        "text": "What a new picture shows, answered by the network of seed 0 (which was not chosen "
        "for its accuracy; it knows the size and the classes):",
        "code": CLASSIFY.format(path=str(path)),
    }]  # fmt: skip
    if take is not None:
        start = ', start="identity"' if take in BLOCKS else ""
        found.append({
            "text": "The block in a network of your own, to be trained on:",
            "code": "import attention, torchvision\n\n"
            'network = torchvision.models.resnet50(weights="DEFAULT")\n'
            f'attention.insert(network, "{take}"{start})\nprint(attention.report(network))',
        })  # fmt: skip
    return found


def more(kind: str, seeds: int, command: str) -> list[dict[str, str]]:
    """What to type where the answer is open."""
    if kind == "better":
        return []
    code = f"{command} --seeds {max(5, 2 * seeds)}"
    return [{"text": "More rounds, and what is finished is not repeated:", "code": code}]


def provenance(
    plan: Plan, rounds: Rounds, resized: str, command: str
) -> list[tuple[str, str]]:  # fmt: skip
    """Where every number comes from: terms and words."""
    data, records = plan.data, [r for found in rounds.complete for r in found.values()]
    run, machine = plan.round(0)[0].resolved(), records[-1]["machine"]
    counted = {part: split.labels.bincount(minlength=len(data.classes)).tolist()
               for part, split in (("training", data.train), ("test", data.test))}  # fmt: skip
    classes = "; ".join(
        f"{name}: {counted['training'][n]} and {counted['test'][n]}"
        for n, name in enumerate(data.classes[: page.MOST_CLASSES])
    )
    more = len(data.classes) - page.MOST_CLASSES
    seeds = range(len(rounds.complete))
    return [
        ("dataset", f"{data!r}; SHA-256 {data.checksum}"),
        ("split", " ".join([*data.notes, resized]).strip()
         or "as the folder has it: train and test"),
        ("pictures a class, training and test", classes + f"; and {more} more" * (more > 0)),
        ("network", f"{plan.network}: {plan.why}"),
        ("training", f"{page.number(run.epochs, 'epoch')}, batches of {run.batch_size}, "
         f"{run.optimizer}, learning rate {run.learning_rate:g}; the final epoch counts, never the "
         "best"),
        ("seeds", f"{', '.join(map(str, seeds))}; the same initial weights, order and augmentation "
         "for all networks of a seed, as far as they have layers in common"),
        ("hardware", "; ".join(dict.fromkeys(where(record) for record in records))),
        ("time", f"{duration(sum(r['cost']['seconds'] for r in records))} of training"),
        ("versions", f"Python {machine['python']}, torch {machine['torch']}, torchvision "
         f"{machine['torchvision']}, this package at commit {machine['commit'] or 'unknown'}"),
        ("test", "differences over seeds by two-way least squares, over pictures with one more won "
         "and one more lost (Bonett & Price 2012); both errors added, t by Satterthwaite, "
         "Bonferroni for the blocks"),
        ("records", f"data/runs/{data.name}/, a JSON file and the weights of each: "
         + ", ".join(Files(plan.run(block), data).record.name for block in rounds.complete[0])),
        ("to go on", command),
    ]  # fmt: skip
