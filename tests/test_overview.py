"""The one table of a study: what stands in it is what its parts say, for the right network."""

import matplotlib

matplotlib.use("Agg")

import pandas as pd
import pytest
from invented import study

from attention import figures
from attention.explain import every
from attention.results import findings, frame, labels, overview, ranking, statistics

SEEDS = {"plain": (70.0, 71.0, 72.0), "wide": (71.0, 73.0, 72.0), "block": (72.0, 73.5, 74.0),
         "large": (60.0, 62.0, 61.0)}  # fmt: skip
SIZES = {"plain": 100, "wide": 120, "block": 110, "large": 500}


def table(missing=()):
    return pd.DataFrame([
        {"name": name, "seed": seed, "test_accuracy": value, "parameters": SIZES[name]}
        for name, values in SEEDS.items()
        for seed, value in enumerate(values)
        if (name, seed) not in missing
    ])  # fmt: skip


def test_overview_pairs_every_network_with_plain_and_with_plain_of_its_size():
    whole = table(missing=[("block", 2)])
    found = overview.overview(whole, "plain", ["wide", "not trained"])
    assert list(found.index) == ["block", "wide", "plain", "large"]  # 72.75, 72, 71, 61
    assert found.n.to_dict() == {"block": 2, "wide": 3, "plain": 3, "large": 3}
    assert found.plain_difference["block"] == pytest.approx((2.0 + 2.5) / 2)
    assert found.size_difference["block"] == pytest.approx((1.0 + 0.5) / 2)
    assert found.size_baseline["block"] == "wide" and found.size_outgrown["large"]
    assert found.plain_difference.isna()["plain"] and found.size_difference.isna()["wide"]


def test_complete_leaves_out_networks_with_fewer_seeds():
    rows = ranking.complete(table(missing=[("block", 2)]))
    assert set(rows.name) == {"plain", "wide", "large"}
    ranking.ranks(rows)


def test_styled_says_what_is_there_and_a_dash_for_what_is_not():
    found = overview.overview(table(missing=[("block", 1), ("block", 2)]), "plain", ["wide"])
    found["mflops"] = found["step_ms"] = found["latency_ms"] = 1.0
    found["memory_mib"], found["pointing"] = float("nan"), 50.4
    styler = overview.styled(found, {"pointing": ("own map", "{:.0f} %")})
    shown = styler.data
    assert shown.loc["block", ("accuracy (%)", "interval")] == "–"  # one seed
    assert shown.loc["block", ("minus", "plain")] == "+2.00"
    assert shown.loc["large", ("minus", "plain")] == "−10.00"
    assert shown.loc["plain", ("cost", "memory (MiB)")] == "–"
    assert shown.loc["plain", ("maps", "own map")] == "50 %"


def test_names_are_text_and_not_html():
    found = overview.overview(table(), "plain", ["wide"]).rename({"block": "<img src=x>&"})
    html = overview.styled(found, {"parameters": ("<s>", "<i>{:.0f}")}).to_html()
    assert not any(tag in html for tag in ("<img", "<s>", "<i>"))
    assert "&lt;img src=x&gt;&amp;" in html


def test_one_test_for_one_claim():
    """What is filled in a figure is what the table calls significant, by whichever test."""
    base = [80.0, 81.0, 82.5]
    rivals = {f"fast-16 + b{n}": [v + d * (n + 1) for v, d in zip(base, (1, -1, 0.2), strict=True)]
              for n in range(5)}  # fmt: skip
    rivals["fast-16 + near"] = [v + d for v, d in zip(base, (1.0, 1.6, 1.1), strict=True)]
    rivals["fast-16 + sure"] = [v + d for v, d in zip(base, (1.0, 1.001, 1.002), strict=True)]
    runs = frame(study({"fast-16 (plain)": base} | rivals))
    pairs = statistics.paired(runs, "fast-16 (plain)")
    together = statistics.pooled(runs, "fast-16 (plain)")
    for chosen in (pairs, together):
        expected = statistics.significant(chosen)
        order = chosen.sort_values("difference").index
        marks = figures.differences(chosen).axes[0].lines[1:]
        filled = [line.get_markerfacecolor() != "white" for line in marks]
        assert filled == expected[order].to_list()
    sure, near = statistics.significant(pairs), "fast-16 + near"
    assert sure["fast-16 + sure"] and not statistics.significant(together).any()
    assert pairs.p[near] < 0.05 and not sure[near]


def survey_record(name, seed, maps):
    """A record as `survey` keeps it, with the same number for every measure."""
    families = {"Grad-CAM": "Grad-CAM", "random": "baseline"}
    return {
        "name": name, "run": {"seed": seed, "network": "fast", "block": "se", "options": {}},
        "dataset": {"name": "pictures"}, "accuracy": 50.0,
        "maps": {
            path: {"family": families.get(path, "own"), "choice": value,
                   "pointing": (value,) * 3, "road": (value,) * 3}
            for path, value in maps.items()
        },
    }  # fmt: skip


def test_maps_are_those_of_each_network_on_both_kinds_of_images():
    others = {"Grad-CAM": 0.5, "random": 0.4}
    located = [
        survey_record("plain", 0, others),
        survey_record("block", 0, {"stage1": 0.2, "stage2": 0.6, **others}),
        survey_record("block", 1, {"stage1": 0.1, "stage2": 0.8, **others}),
    ]
    removed = [survey_record("block", 0, {"stage1": 0.0, "stage2": 0.3, **others})]
    found = findings.worth(located, removed)
    assert found.pointing["block"] == pytest.approx(70) and found.pointing.isna()["plain"]
    assert found.pointing_gradcam["plain"] == pytest.approx(50)
    # under ROAD the second map brings the answer further down than noise, Grad-CAM less far
    assert found.faithful["block"] == pytest.approx(10)
    assert found.faithful_gradcam["block"] == pytest.approx(-10)
    assert found.faithful.isna()["plain"]
    assert labels(findings.measures(removed)) == {"block": "se"}
    assert findings.worth([], []).shape == (0, 4)
    assert findings.worth(located, []).faithful.isna().all()
    assert (findings.BASELINE, findings.GRAD_CAM) == (every.BASELINE, every.GRAD_CAM)
