"""Before something long begins: what will be trained, and for about how long."""

import math
import time

import torch

from attention.data import Dataset
from attention.training import machine
from attention.training.run import Run
from attention.training.trainer import Trainer

LONG = 60  # seconds; what takes less begins without a word
FEW = 100  # steps; so few are over before it is known how long they take


def announcement(
    run: Run, data: Dataset, device: torch.device, epochs: int | None = None
) -> str | None:
    """The line for a run of which so many epochs are left (None: all); None if it is soon over."""
    run = run.resolved()
    epochs = run.epochs if epochs is None else epochs
    if steps(run, data) / run.epochs * epochs < FEW:
        return None
    seconds = epochs * images(run, data) * seconds_an_image(run, data, device)
    if seconds < LONG:
        return None
    return (
        f"{run.name}, seed {run.seed}: {epochs} epochs of {images(run, data):,} images, about "
        f"{duration(seconds)}"
    )


def images(run: Run, data: Dataset) -> int:
    """Training images of an epoch."""
    return min(run.resolved().train_images or len(data.train), len(data.train))


def steps(run: Run, data: Dataset) -> int:
    """Steps of the optimiser in the whole training, about."""
    run = run.resolved()
    return run.epochs * math.ceil(images(run, data) / run.batch_size)


def seconds_an_image(run: Run, data: Dataset, device: torch.device, steps: int = 2) -> float:
    """Seconds that a training image takes: from so many timed steps on noise, after a first one.

    The random numbers of the process stay as they are.
    """
    run = run.resolved()
    with torch.random.fork_rng():
        trainer = Trainer(run, len(data.classes), 10**6, device, machine.precision(device))
        batch = min(run.batch_size, len(data.train))
        noise = torch.randn(batch, 3, *data.size, device=device)
        noise = noise.contiguous(memory_format=torch.channels_last)
        labels = torch.zeros(batch, dtype=torch.long, device=device)
        if device.type == "cpu":
            machine.keep_memory()
        for number in range(1 + steps):
            if number == 1:
                start = time.perf_counter()
            trainer.network.train()
            loss, _ = trainer.train_step(noise, labels)
            float(loss)  # waits for a GPU
    return (time.perf_counter() - start) / (steps * batch)


def duration(seconds: float) -> str:
    """8.3 s, 42 s, 3 min 20 s, 2 h 5 min."""
    if seconds < 10:
        return f"{seconds:.1f} s"
    seconds = round(seconds)
    if seconds < 60:
        return f"{seconds} s"
    minutes, seconds = divmod(seconds, 60)
    if minutes < 60:
        return f"{minutes} min {seconds} s" if seconds else f"{minutes} min"
    return f"{minutes // 60} h {minutes % 60} min"
