"""Train one network: `Run` says what, `fit` does it, and a record holds what came out.

A record is a JSON file in data/runs/<dataset>/. A run that has one is not trained again. A run that
was stopped goes on from its last finished epoch, and on a CPU ends with the same weights, bit for
bit. The weights lie in data/weights/<dataset>/.
"""

import dataclasses
import datetime
import hashlib
import inspect
import json
import math
import time

import torch
from tqdm.auto import tqdm

from attention.checks import at_least, at_least_one, one_of
from attention.cost import flops, parameters
from attention.data import Batches, load, normalise
from attention.files import replacing, save_tensors
from attention.networks import NETWORKS, insert, whiten
from attention.networks.insert import mechanisms
from attention.results.tables import read_record
from attention.settings import PROFILES, home, profile, recipe
from attention.training import machine
from attention.training.trainer import Trainer, evaluate

RATES = (
    "learning_rate", "norm_bias_rate", "warmup", "momentum", "weight_decay", "label_smoothing",
)  # fmt: skip

LAYERS = {}  # what `Run.key` has built before


@dataclasses.dataclass(frozen=True, kw_only=True)
class Run:
    """What to train. Two equal runs on the same dataset give the same record.

    network: a name from `NETWORKS`; width: its width, None for its own.
    block, at, stages, options: as in `insert`; block None is the plain network.
    seed: of the initial weights, the order of the images and their augmentation.
    epochs, train_images, test_images: None takes the profile's, `PROFILES[profile()]`; a number of
        images is an upper bound, and where the profile sets none, all are taken.

    The rest is the recipe; None takes the network's, from `settings.RECIPES`:
    optimizer: "sgd" (with Nesterov's momentum) or "adamw" (Loshchilov & Hutter 2019).
    learning_rate: the peak, reached after the fraction `warmup` of all steps, then linearly to 0.
    norm_bias_rate: by how much the biases of norms are faster (arXiv 2404.00498, section 3.4).
    momentum: Nesterov's, or AdamW's β₁. label_smoothing: the share spread evenly over all classes.
    weight_decay: on weights of two and more dimensions; not on norms, not on biases.
    crop: pixels by which an image is shifted at most; cutout: side of the square taken out.
    """

    network: str = "fast"
    width: int | None = None
    block: str | None = None
    at: str | None = None
    stages: tuple[int, ...] | None = None
    options: dict = dataclasses.field(default_factory=dict)
    seed: int = 0
    epochs: int | None = None
    train_images: int | None = None
    test_images: int | None = None
    batch_size: int | None = None
    optimizer: str | None = None
    learning_rate: float | None = None
    norm_bias_rate: float | None = None
    warmup: float | None = None
    momentum: float | None = None
    weight_decay: float | None = None
    label_smoothing: float | None = None
    crop: int | None = None
    cutout: int = 0

    def __post_init__(self):
        one_of("network", self.network, NETWORKS)
        if self.block is not None:
            one_of("block", self.block, mechanisms())
        for name, value in (recipe(self.network) | PROFILES[profile()]).items():
            if getattr(self, name) is None:
                object.__setattr__(self, name, value)
        one_of("optimizer", self.optimizer, ("sgd", "adamw"))
        for name in ("epochs", "batch_size"):
            at_least_one(name, getattr(self, name))
        for name in ("seed", "crop", "cutout"):
            at_least(0, name, getattr(self, name))
        for name in RATES:
            value = getattr(self, name)
            if not (isinstance(value, int | float) and 0 <= value < math.inf):
                raise ValueError(f"{name} must be a number of at least 0, got {value!r}")
        if not 0 < self.warmup < 1:
            raise ValueError(f"warmup must be a fraction between 0 and 1, got {self.warmup}")

    @property
    def name(self):
        """The network, the block and its options: "fast (plain)", "fast-16 + cbam (official)"."""
        network = self.network if self.width is None else f"{self.network}-{self.width}"
        if self.block is None:
            return f"{network} (plain)"
        words = [f"{key} {value}" for key, value in self.options.items() if key != "variant"]
        words += [self.options["variant"]] if "variant" in self.options else []
        words += [f"at {self.at}"] if self.at else []
        words += [f"stages {', '.join(map(str, self.stages))}"] if self.stages else []
        return f"{network} + {self.block}" + (f" ({'; '.join(words)})" if words else "")

    def build(self, classes):
        """The network with its initial weights, which follow from the seed alone.

        Runs of the same seed share the initial weights of all layers that they have in common.
        """
        with torch.random.fork_rng():
            torch.manual_seed(self.seed)
            width = {} if self.width is None else {"width": self.width}
            network = NETWORKS[self.network].make(classes=classes, **width)
            if self.block:
                insert(network, self.block, self.at, self.stages, **self.options)
        return network.to(memory_format=torch.channels_last)

    def _layers(self, classes, fixed):
        """{name: shape} of the state."""
        # The same for all seeds, and to build hundreds of networks takes a while.
        same = repr(dataclasses.replace(self, seed=0)), classes
        if not fixed or same not in LAYERS:
            state = self.build(classes).state_dict()
            LAYERS[same] = {name: tuple(value.shape) for name, value in state.items()}
        return LAYERS[same]

    def key(self, data):
        """A name for files: readable words, and a digest of the run, the data and the layers."""
        source = None
        block = mechanisms().get(self.block)
        if block and not block.__module__.startswith("attention."):
            source = _source(block)  # a block from a notebook cell
        layers = self._layers(len(data.classes), fixed=source is None)
        run = dataclasses.asdict(self)
        if self.optimizer == "sgd":  # was the only one once, and is in no key
            del run["optimizer"]
        whole = [run, data.name, data.checksum, layers, source]
        digest = hashlib.sha256(json.dumps(whole, sort_keys=True).encode()).hexdigest()[:10]
        return f"{self.network}-{self.block or 'plain'}-seed{self.seed}-{digest}"


def _source(block):
    """The text of a class's own methods, or of a function; a notebook keeps no text of classes."""
    methods = [f for f in vars(block).values() if inspect.isfunction(f)]
    return [inspect.getsource(f) for f in ([block] if inspect.isfunction(block) else methods)]


def fit(run, data=None, device=None, precision=None, progress=True):
    """Train `run`, or go on where it was stopped, or read its record if it is finished.

    run: a `Run`. data: a `Dataset`; None: `load()`.
    device: "cuda" or "cpu"; None: the GPU if there is one.
    precision: "bfloat16", "float16" or "float32"; None: what the device is fast in.
    progress: show a bar; "passing": one that goes when the run is finished.

    Returns the record, a dict: "run", "dataset", "result" (these three are the same each time it
    is trained on the same machine), "cost" and "machine". Accuracies are in percent.

    Raises FloatingPointError when the loss is not finite, with the epoch and step; OSError when a
    file cannot be written. In both cases the last finished epoch is kept, and a call goes on from
    there.
    """
    data = data or load()
    place = Files(run, data)
    if place.record.exists():
        return read_record(place.record)
    return _train(run, data, place, device, precision, progress)


def trained(run, data=None, device=None, precision=None, progress=True):
    """The network of `run` with its final weights, in eval mode; trained first where need be.

    A record without weights (records travel with the repository, weights do not) stays as it is:
    the weights are trained again beside it.
    """
    data = data or load()
    place = Files(run, data)
    if not place.weights.exists():
        _train(run, data, place, device, precision, progress)
    network = run.build(len(data.classes))
    network.load_state_dict(torch.load(place.weights, map_location="cpu", weights_only=True))
    return network.to(device or machine.default_device()).eval()


class Files:
    """Where a run's files lie."""

    def __init__(self, run, data):
        key, folder = run.key(data), home() / "data"
        self.record = folder / "runs" / data.name / f"{key}.json"
        self.weights = folder / "weights" / data.name / f"{key}.pt"
        self.checkpoint = folder / "checkpoints" / data.name / f"{key}.pt"
        self.lock = folder / "locks" / data.name / f"{key}.lock"


def _train(run, data, place, device, precision, progress):
    device = torch.device(device or machine.default_device())
    precision = machine.precision(device, precision)
    train = data.train.spread(min(run.train_images or len(data.train), len(data.train)))
    test = data.test.spread(min(run.test_images or len(data.test), len(data.test)))
    batches = Batches(
        train, run.batch_size, run.seed, device, data.mean, data.std, crop=run.crop,
    )  # fmt: skip
    trainer = Trainer(run, len(data.classes), run.epochs * len(batches), device, precision)
    patches = train.spread(min(len(train), 5000)).images
    whiten(trainer.network, normalise(patches.to(device), data.mean, data.std))
    trainer.resume(place.checkpoint)
    here = machine.describe(device)
    trainer.sessions.append({"from_epoch": len(trainer.history) + 1, "hardware": here["hardware"]})
    bar = tqdm(
        total=trainer.steps, initial=trainer.step, desc=f"{run.name}, seed {run.seed}",
        unit="batch", disable=not progress, leave=progress is True,
    )  # fmt: skip
    with bar:
        for epoch in range(len(trainer.history), run.epochs):
            trainer.epoch(batches.epoch(epoch), len(batches), bar)
            trainer.save(place.checkpoint)
    start = time.perf_counter()
    test_loss, test_accuracy = evaluate(trainer.network, test, data, device, precision)
    record = {
        "run": dataclasses.asdict(run),
        "name": run.name,
        "dataset": {
            "name": data.name, "checksum": data.checksum, "classes": len(data.classes),
            "train_images": len(train), "test_images": len(test), "size": list(data.size),
        },
        "result": {
            "test_accuracy": test_accuracy,
            "test_loss": test_loss,
            "history": trainer.history,
            "parameters": parameters(trainer.network),
            "flops": flops(trainer.network, (1, 3, *data.size)),
        },
        "cost": {
            "seconds": sum(trainer.seconds),
            "epoch_seconds": trainer.seconds,
            "images_per_second": run.epochs * len(train) / sum(trainer.seconds),
            "test_seconds": time.perf_counter() - start,
            "peak_memory_mib": trainer.peak_memory / 2**20,
            "sessions": trainer.sessions,
        },
        "machine": {
            **here,
            "precision": precision,
            "finished": datetime.datetime.now(datetime.timezone.utc).isoformat(timespec="seconds"),
        },
    }  # fmt: skip
    save_tensors(trainer.network.state_dict(), place.weights)
    if not place.record.exists():
        with replacing(place.record) as path:
            path.write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")
    place.checkpoint.unlink(missing_ok=True)
    return record
