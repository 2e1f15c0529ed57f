"""What the measures of a network's maps cost."""

from tqdm.auto import tqdm

from attention import explain
from attention.benchmark.timing import device_here, seconds
from attention.blocks import SPATIAL, Gate
from attention.checks import at_least_one
from attention.data import Dataset, normalise
from attention.training import compared, evaluate, predict


def explanation(data: Dataset, count: int = 1000, progress: bool = True) -> dict[str, float]:
    """Seconds for every measure of one network's maps, over `count` test images, by measure.

    The network is that of the comparison, with CBAM and weights as they are before training: the
    time does not depend on them. Measured are its deepest spatial gate, Grad-CAM and the baselines:
    localisation, deletion, insertion and ROAD, the agreement of each map with Grad-CAM, and the
    accuracy without each of the network's gates. data: with masks.
    """
    if data.test.masks is None:
        raise ValueError(f"data must have masks of its objects, {data.name} has none")
    device = device_here()
    network = compared("cbam").build(len(data.classes)).eval().to(device)
    test = data.test.spread(at_least_one("count", count))
    images = normalise(test.images, data.mean, data.std).to(device)
    gates = [n for n, m in network.named_modules() if isinstance(m, Gate) and m.kind == SPATIAL]
    names = (gates[-1], "Grad-CAM", "gradient", "centre", "random")
    maps = {}

    def make() -> None:
        every = explain.every_map(network, images)
        maps.update({name: every[name].maps for name in names})

    def behave() -> None:
        with explain.capture(network) as captured:
            predict(network, test, data)
        explain.behaviour(captured, test.labels)

    measures = {
        "all maps": make,
        "localisation": lambda: [explain.localisation(maps[n], test.masks) for n in names],
        "agreement": lambda: [explain.rank_correlation(maps[n], maps["Grad-CAM"]) for n in names],
        "behaviour": behave,
        "knocked out": lambda: explain.knocked_out(
            network, images, lambda changed: evaluate(changed, test, data)[1]
        ),
    } | {
        f"removal, {name}": lambda n=name: explain.areas(network, images, {n: maps[n]})
        for name in names
    }
    bar = tqdm(measures.items(), unit="measure", disable=not progress)
    return {name: seconds(function) for name, function in bar}
