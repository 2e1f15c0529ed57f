"""The numbers of the answers: from the records in data/, or counted now. None where there are none.

Nothing here is typed in. Tables are Markdown.
"""

import warnings
from collections.abc import Sequence
from pathlib import Path

import pandas as pd
import torch
import torchvision

import attention
from attention import files, results, survey
from attention.blocks import BLOCKS
from attention.networks import NETWORK
from attention.results import answer, findings, plan, power, statistics
from attention.results.tables import as_markdown
from attention.settings import home
from attention.training import compared

# Networks of another library that blocks are put into, to see where they go.
OTHERS = ("resnet50", "resnext50_32x4d", "mobilenet_v3_small", "efficientnet_b0", "convnext_tiny",
          "densenet121", "vgg16")  # fmt: skip
PHOTOGRAPHS = (1, 3, 224, 224)


def data() -> Path:
    return home() / "data"


def table_of(shown: pd.DataFrame) -> str:
    """A table of words as Markdown; a percent sign stays with its number."""
    return as_markdown(shown).replace(" %", "\u00a0%")


def runs() -> pd.DataFrame:
    """One row a record, of training on a whole dataset by the network's own recipe."""
    table = results.frame(results.read(data() / "runs"))
    if not len(table):
        return table
    return table[~table.dataset.str.endswith("-random-labels") & (table.recipe == "")]


def comparison() -> list[str]:
    """The verdict of the plan, a paragraph for each dataset that it has runs on."""
    table, found = runs(), []
    for dataset, rows in table.groupby("dataset", sort=False) if len(table) else ():
        planned = answer.planned(rows)
        if len(planned) and not dataset.endswith("-validation"):
            found.append(f"**{dataset}**: " + " ".join(answer.sentences(planned)))
    return found


def spread() -> list[str]:
    """How much the network without a block varies between seeds, and what that hides."""
    table, found = runs(), []
    for dataset, rows in table.groupby("dataset", sort=False) if len(table) else ():
        plain = rows[(rows.network == NETWORK) & rows.block.isna() & rows.width.isna()]
        for epochs, same in plain.groupby("epochs"):
            if same.seed.nunique() < 2:
                continue
            values = same.groupby("seed").test_accuracy.first()
            of_difference = float(values.std()) * 2**0.5
            needed = power.seeds_needed(plan.MARGIN, of_difference)
            found.append(
                f"On {dataset} ({epochs} epochs) {len(values)} trainings of the network without a "
                f"block that differ in nothing but the seed lie between {values.min():.2f} and "
                f"{values.max():.2f} %. If a block's runs scatter as much, independently of these, "
                f"a true difference of {plan.MARGIN} points is found in four cases of five with "
                f"{needed} seeds of each."
            )
    return found


def counted() -> str:
    """What each block of the plan adds to ResNet-20, counted: parameters and FLOPs."""
    shape, rows = (1, 3, 32, 32), []
    plain = compared().build(classes=10)
    whole, work = attention.parameters(plain), attention.flops(plain, shape)
    rows.append({"network": "without a block", "parameters": f"{whole:,}", "more": "–",
                 "MFLOPs": f"{work / 1e6:.2f}", "more ": "–"})  # fmt: skip
    for block in plan.PAPERS:
        network = compared(block).build(classes=10)
        p, f = attention.parameters(network), attention.flops(network, shape)
        more = [f"+{100 * (new / old - 1):.2f} %" for new, old in ((p, whole), (f, work))]
        rows.append({"network": f"with {block}", "parameters": f"{p:,}", "more": more[0],
                     "MFLOPs": f"{f / 1e6:.2f}", "more ": more[1]})  # fmt: skip
    return table_of(pd.DataFrame(rows))


def measured() -> tuple[str, str] | None:
    """What blocks cost in time, as multiples of the plain network, and where that was measured."""
    path = data() / "benchmarks" / "mechanisms.json"
    if not path.exists():
        return None
    costs, where = results.read_costs(path)
    plain = [name for name in costs.index if name.endswith("(plain)")][:1]
    if not plain:
        return None
    network = plain[0].removesuffix(" (plain)")
    rows = []
    for name, row in costs.iterrows():
        if name.startswith(f"{network} + "):
            words = {"network": name}
            for column, heading in (("step_ms", "training step"), ("latency_ms", "one answer"),
                                    ("memory_mib", "memory")):  # fmt: skip
                base = costs.get(column, pd.Series(dtype=float)).get(plain[0])
                value = row.get(column)
                known = base is not None and pd.notna(base) and pd.notna(value)
                words[heading] = f"× {value / base:.2f}" if known else "–"
            rows.append(words)
    return (table_of(pd.DataFrame(rows)), f"{plain[0]} is 1; {where}") if rows else None


def places() -> str | None:
    """Accuracy of one block in several places, where there are such runs."""
    table = runs()
    if not len(table):
        return None
    rows = []
    table = table[table.block.notna()]
    table = table.assign(words=table.options.map(str))
    keys = ["dataset", "network", "block", "words", "epochs"]
    for (dataset, _, _, _, epochs), same in table.groupby(keys, sort=False):
        if same.place.nunique() > 1:
            for name, found in statistics.means(same).iterrows():
                words = {"network": name, "dataset": dataset, "epochs": epochs}
                rows.append(words | {"seeds": found.n, "accuracy (%)": f"{found['mean']:.2f}"})
    return table_of(pd.DataFrame(rows)) if rows else None


def variants() -> str:
    """Parameters of the blocks whose release differs from the paper, at 64 channels."""
    rows = []
    for name in ("cbam", "bam"):
        row = {"block, 64 channels": name}
        for variant in ("paper", "official"):
            block = BLOCKS[name](64, variant=variant)
            row[f"parameters, {variant}"] = f"{attention.parameters(block):,}"
        rows.append(row)
    return table_of(pd.DataFrame(rows))


def other_networks() -> str:
    """Where SE goes in networks of torchvision: nothing is computed, on the meta device."""
    rows = []
    for name in OTHERS:
        with torch.device("meta"), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            network = torchvision.models.get_model(name, weights=None)
            before = attention.parameters(network)
            at = None
            try:
                attention.insert(network, "se", example=PHOTOGRAPHS)
            except ValueError:  # no residual branches: after the stages
                at = "stage"
                attention.insert(network, "se", at, example=PHOTOGRAPHS)
        more = attention.parameters(network) / before - 1
        rows.append({"network": f"torchvision's {name}",
                     "SE goes": "after stages" if at else "on branches",
                     "blocks": str(len(network.placements)),
                     "parameters more": f"{100 * more:.1f} %"})  # fmt: skip
    return table_of(pd.DataFrame(rows))


def replaced(shown: Sequence[dict]) -> str | None:
    """What the map explorer has found: answers that change when maps are replaced."""
    rows = []
    for dataset in shown:
        for network in dataset["networks"]:
            for place in network["places"]:
                row = {"network": network["name"], "trained on": dataset["name"],
                       "maps of": place["name"]}  # fmt: skip
                for way, heading in (("mean", "their mean"), ("noise", "noise"),
                                     ("other", "another picture's")):  # fmt: skip
                    row[heading] = f"{place['ways'][way]['changed']:.1f} %"
                rows.append(row)
    return table_of(pd.DataFrame(rows)) if rows else None


def folded(shown: Sequence[dict]) -> str | None:
    """Which maps of the explorer's networks fold, and what that changes on test pictures."""
    rows = [
        {"network": network["name"], "trained on": dataset["name"],
         "maps folded": f"{network['folded']['folded']} of {network['folded']['maps']}",
         "test answers that change": f"{network['folded']['changed']:.1f} %"}
        for dataset in shown for network in dataset["networks"] if network["folded"]
    ]  # fmt: skip
    return table_of(pd.DataFrame(rows)) if rows else None


def worth() -> str | None:
    """Whether maps point at the object, and whether the answer depends on what they point at."""
    records = {
        what: [files.read_record(path, survey.RECORD)
               for path in sorted((data() / "explanations" / what).glob("**/*.json"))]
        for what in survey.MEASURES
    }  # fmt: skip
    if not records["localisation"]:
        return None
    table = findings.worth(records["localisation"], records["faithfulness"])
    shown = pd.DataFrame({"network": table.index})
    for column, heading in zip(findings.WORTH, (
        "own map points at the object", "Grad-CAM does", "answer falls faster than at random, own",
        "Grad-CAM",
    ), strict=True):  # fmt: skip
        unit = "{:.0f} %" if "pointing" in column else "{:+.1f} points"
        shown[heading] = results.overview.numbers(table[column], unit).to_numpy()
    return table_of(shown)
