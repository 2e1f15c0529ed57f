"""What `fit` makes of a machine: beside its own bare step, and beside an ordinary pipeline."""

import statistics

import torch
from torch.nn import functional as F
from torch.utils.data import DataLoader
from torch.utils.data import Dataset as Images
from tqdm.auto import tqdm

from attention.benchmark.timing import device_here, in_turns
from attention.checks import at_least_one
from attention.data import Batches, Dataset
from attention.training import Replayed, Run, Trainer, machine

STEPS = 50  # of a GPU, timed together


def trainer_overhead(data: Dataset, rounds: int = 5, progress: bool = True) -> dict[str, float]:
    """Images per second of `fit`'s loop and of the bare step, on the default network.

    The loop makes its batches from the images; the bare step has one batch in memory.
    """
    run = Run().resolved()
    device = device_here()
    precision = machine.precision(device)
    part = data.train.spread(min(len(data.train), 8 * run.batch_size))
    batches = Batches(part, run.batch_size, run.seed, device, data.mean, data.std, crop=run.crop)
    trainer = Trainer(run, len(data.classes), 10**6, device, precision)
    images, labels = next(iter(batches.epoch(0)))

    def loop() -> None:
        with tqdm(total=len(batches), leave=False, disable=not progress) as bar:
            trainer.epoch(batches.epoch(len(trainer.history)), len(batches), bar)

    def bare() -> None:
        for _ in range(len(batches)):
            trainer.train_step(images, labels)

    times = in_turns({"fit": loop, "bare step": bare}, rounds, progress)
    rates = {
        "fit": len(part) / statistics.median(times["fit"]),
        "bare step": len(batches) * len(images) / statistics.median(times["bare step"]),
    }
    return {**rates, "share": rates["fit"] / rates["bare step"]}


def replayed(data: Dataset, rounds: int = 5, progress: bool = True) -> dict[str, float]:
    """Images per second of a step on a GPU, as it is written and with its CUDA graph.

    On the default network, with one batch in memory.
    """
    run, device = Run().resolved(), device_here()
    part = data.train.spread(min(len(data.train), run.batch_size))
    batches = Batches(part, run.batch_size, run.seed, device, data.mean, data.std, crop=run.crop)
    images, labels = next(iter(batches.epoch(0)))
    steps = {}
    for name in ("as written", "replayed"):
        trainer = Trainer(run, len(data.classes), 10**6, device, machine.precision(device))
        if name == "replayed":
            trainer.gradients = Replayed(trainer.compute, trainer.network.parameters())

        def several(trainer: Trainer = trainer) -> None:
            for _ in range(STEPS):
                trainer.train_step(images, labels)

        steps[name] = several
    times = in_turns(steps, rounds, progress)
    rates = {n: STEPS * len(images) / statistics.median(spent) for n, spent in times.items()}
    return {**rates, "times": rates["replayed"] / rates["as written"]}


class Ordinary(Images):
    """Pictures one by one, as most tutorials read them: cut out, mirrored, normalised."""

    def __init__(self, data: Dataset, count: int) -> None:
        from torchvision.transforms import v2

        self.part = data.train.spread(count)
        self.change = v2.Compose([
            v2.ToImage(),
            v2.RandomCrop(data.size, padding=4),
            v2.RandomHorizontalFlip(),
            v2.ToDtype(torch.float32, scale=True),
            v2.Normalize(data.mean.tolist(), data.std.tolist()),
        ])  # fmt: skip
        self.pictures = [v2.functional.to_pil_image(image) for image in self.part.images]

    def __len__(self) -> int:
        return len(self.part)

    def __getitem__(self, number: int) -> tuple[torch.Tensor, int]:
        return self.change(self.pictures[number]), int(self.part.labels[number])


def pipeline(
    data: Dataset, batches: int = 24, rounds: int = 5, workers: int = 2, progress: bool = True
) -> dict[str, float]:
    """Images per second of `fit`'s loop and of an ordinary pipeline, on the default network.

    Ordinary is: a Dataset of pictures, torchvision's transforms, a DataLoader with `workers`
    processes, float32, maps as torch lays them out. Both train on so many batches of one size.
    "times": the median over the rounds of fit's rate over the ordinary one's.
    """
    run, device = Run().resolved(), device_here()
    count = min(len(data.train), at_least_one("batches", batches) * run.batch_size)
    part = data.train.spread(count)
    own = Batches(part, run.batch_size, run.seed, device, data.mean, data.std, crop=run.crop)
    trainer = Trainer(run, len(data.classes), 10**6, device, machine.precision(device))
    loader = DataLoader(
        Ordinary(data, count), run.batch_size, shuffle=True, num_workers=workers,
        persistent_workers=workers > 0,
    )  # fmt: skip
    network = run.build(len(data.classes)).to(device, memory_format=torch.contiguous_format)
    optimizer = torch.optim.SGD(
        network.parameters(), 0.1, momentum=run.momentum, weight_decay=run.weight_decay
    )

    def fit_loop() -> None:
        with tqdm(total=len(own), leave=False, disable=True) as bar:
            trainer.epoch(own.epoch(len(trainer.history)), len(own), bar)

    def ordinary() -> None:
        network.train()
        for images, labels in loader:
            loss = F.cross_entropy(network(images.to(device)), labels.to(device))
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()

    times = in_turns({"fit": fit_loop, "ordinary": ordinary}, rounds, progress)
    ratios = [slow / fast for fast, slow in zip(times["fit"], times["ordinary"], strict=True)]
    rates = {name: count / statistics.median(spent) for name, spent in times.items()}
    return {**rates, "times": statistics.median(ratios)}
