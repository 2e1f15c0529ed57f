"""The training loop: all epochs, one epoch, one step, and what a checkpoint holds."""

import math
import textwrap
import time
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import psutil
import torch
from torch import nn
from torch.nn import functional as F
from tqdm.auto import tqdm

from attention import checks, settings
from attention.cost import evaluating
from attention.data import Batches, Dataset, Split, in_order
from attention.files import rounded, save_checkpoint
from attention.networks import fuse, unfuse
from attention.training import machine
from attention.training.graphs import Replayed, can_be_recorded
from attention.training.run import Run

# What a checkpoint holds of a trainer.
STATES = ("network", "optimizer", "scaler")
COUNTS = ("step", "history", "seconds", "peak_memory", "sessions")
Batch = tuple[torch.Tensor, torch.Tensor]  # images (B, 3, H, W), labels (B,)
LOOK = {"cpu": 8, "cuda": 64}  # steps after which the loss is looked at: a GPU has to wait for it


class Trainer:
    """The network, its optimiser, and where they stand in the schedule: what a checkpoint holds.

    run: a `Run`. steps: of the whole training, which the schedule is made for.
    device, precision: as in `fit`, but not None.
    compiled: where it is set before `train`, the network is fused for it.
    """

    def __init__(
        self, run: Run, classes: int, steps: int, device: torch.device, precision: str
    ) -> None:
        self.run, self.steps = run.resolved(), steps
        self.device, self.precision, self.compiled = device, precision, False
        self.network = run.build(classes).to(device)
        self.optimizer = make_optimizer(self.network, self.run)
        self.autocast = machine.autocast(device, precision)
        # float16 has few small numbers: the loss is scaled up, the gradients down again
        self.scaler = torch.amp.GradScaler(device.type, enabled=precision == "float16")
        self.gradients = self.compute
        self.step, self.history, self.seconds = 0, [], []
        self.peak_memory, self.sessions = 0, []

    def train(self, batches: Batches, checkpoint: Path, progress: bool | str = True) -> None:
        """All epochs that are left, with a checkpoint after each; see `fit` for `progress`."""
        here, session = machine.describe(self.device), {"from_epoch": len(self.history) + 1}
        session |= {name: here[name] for name in ("hardware", "threads", "torch")}
        recorded = settings.cuda_graphs() and can_be_recorded(self.network, self.device)
        how = {"precision": self.precision, "compiled": self.compiled, "cuda_graphs": recorded}
        self.sessions.append(session | how)
        if self.compiled:
            fuse(self.network)
        if recorded:
            learned = [p for p in self.network.parameters() if p.requires_grad]
            self.gradients = Replayed(self.compute, learned)
        if self.device.type == "cuda":
            torch.cuda.reset_peak_memory_stats(self.device)
        # a hybrid's name tells all its parts: whole, it would leave no room for the bar
        name = textwrap.shorten(self.run.name, 45, placeholder=" …")
        with tqdm(
            total=self.steps, initial=self.step, desc=f"{name}, seed {self.run.seed}",
            unit="batch", disable=not progress, leave=progress is True,
        ) as bar:  # fmt: skip
            for epoch in range(len(self.history), self.run.epochs):
                self.epoch(batches.epoch(epoch), len(batches), bar)
                self.save(checkpoint)

    def epoch(self, batches: Iterable[Batch], count: int, bar: tqdm) -> None:
        """One pass over `batches`, `count` of them; adds to the history."""
        start = time.perf_counter()
        self.network.train()
        losses, correct, seen = 0.0, 0, 0
        with torch.random.fork_rng():  # dropout and the like follow from the seed and the epoch
            torch.manual_seed((self.run.seed << 20) + len(self.history))
            for number, (images, labels) in enumerate(batches, 1):
                loss, right = self.train_step(images, labels)
                losses, correct = losses + loss * len(labels), correct + right
                seen += len(labels)
                if self.compiled and "compile_seconds" not in self.sessions[-1]:
                    self.sessions[-1]["compile_seconds"] = time.perf_counter() - start
                if number % LOOK[self.device.type] == 0 or number == count:
                    self.check(float(losses))
                    self.watch_memory()
                    means = f"loss {float(losses) / seen:.3f}, accuracy {int(correct) / seen:.1%}"
                    bar.set_postfix_str(means, refresh=False)
                bar.update()
        self.history.append({
            "epoch": len(self.history) + 1,
            "train_loss": float(losses) / seen,
            "train_accuracy": 100 * int(correct) / seen,
        })  # fmt: skip
        self.seconds.append(time.perf_counter() - start)

    def train_step(self, images: torch.Tensor, labels: torch.Tensor) -> tuple[torch.Tensor, ...]:
        """One step of the optimiser; gives the loss and how many answers were right."""
        for group in self.optimizer.param_groups:
            group["lr"] = group["rate"] * self.learning_rate()
        loss, right = self.gradients(images, labels)
        self.scaler.step(self.optimizer)
        self.scaler.update()
        self.step += 1
        return loss, right

    def compute(self, images: torch.Tensor, labels: torch.Tensor) -> tuple[torch.Tensor, ...]:
        """The gradients of one batch, anew; gives the loss and how many answers were right."""
        with self.autocast:
            logits = self.network(images)
        loss = F.cross_entropy(logits.float(), labels, label_smoothing=self.run.label_smoothing)
        self.optimizer.zero_grad()
        self.scaler.scale(loss).backward()
        return loss.detach(), (logits.detach().argmax(1) == labels).sum()

    def learning_rate(self) -> float:
        """Linear from a fifth of the peak to the peak, and from there linear to 0."""
        done, warmup = self.step / self.steps, self.run.warmup
        share = 0.2 + 0.8 * done / warmup if done < warmup else (1 - done) / (1 - warmup)
        return self.run.learning_rate * share

    def check(self, loss: float, name: str = "the loss") -> None:
        """Stop at a loss that is not a number: all that follows would be worthless."""
        if not math.isfinite(loss):
            raise FloatingPointError(
                f"{name} of {self.run.name} is {loss} in epoch {len(self.history) + 1}, at or "
                f"shortly before step {self.step} of {self.steps}: try a learning_rate below "
                f"{self.run.learning_rate}, and look for values in the block that are not finite. "
                "The last finished epoch is kept."
            )

    def watch_memory(self) -> None:
        """Peak memory in bytes: of the GPU's tensors, or of this process on a CPU."""
        if self.device.type == "cuda":
            now = torch.cuda.max_memory_allocated(self.device)
        else:
            now = psutil.Process().memory_info().rss
        self.peak_memory = max(self.peak_memory, now)

    @torch.no_grad()
    def finish(self) -> None:
        """Round the weights to float16, in which they are kept: what is tested is what is kept.

        It is tested as it is written: to compile it for one pass would not pay.
        """
        unfuse(self.network)
        for tensor in self.network.state_dict().values():
            if tensor.is_floating_point():
                tensor.copy_(rounded(tensor))

    def cost(self, images: int) -> dict[str, Any]:
        """What the training of so many images an epoch has cost, as a record tells it."""
        seconds = sum(self.seconds)
        return {
            "seconds": seconds, "epoch_seconds": self.seconds, "sessions": self.sessions,
            "images_per_second": len(self.seconds) * images / seconds,
            "peak_memory_mib": self.peak_memory / 2**20,
        }  # fmt: skip

    def save(self, path: Path) -> None:
        """Write a checkpoint, from which `go_on` goes on bit for bit."""
        states = {name: getattr(self, name).state_dict() for name in STATES}
        save_checkpoint(path, states | {name: getattr(self, name) for name in COUNTS})

    def go_on(self, state: dict[str, Any]) -> None:
        """Take over the state of a checkpoint."""
        for name in STATES:
            getattr(self, name).load_state_dict(state[name])
        for name in COUNTS:
            setattr(self, name, state[name])
        for session in self.sessions:  # begun before there was a choice
            session.setdefault("compiled", False)


def make_optimizer(network: nn.Module, run: Run) -> torch.optim.Optimizer:
    """The optimiser of a resolved run; each group's "rate" is a factor of the learning rate.

    Weight decay is on weights alone. The biases of norms are faster, but not in a block: a fast
    bias in a gate's own norm would shut the gate.
    """
    gates = tuple(f"{placement.path}." for placement in getattr(network, "placements", ()))
    norms = (m for path, m in network.named_modules() if not path.startswith(gates))
    fast = {m.bias for m in norms if isinstance(m, nn.BatchNorm2d)}
    trainable = [p for p in network.parameters() if p.requires_grad]
    weights = [p for p in trainable if p.ndim > 1]
    others = [p for p in trainable if p.ndim <= 1 and p not in fast]
    groups = [
        {"params": weights, "weight_decay": run.weight_decay, "rate": 1},
        {"params": others, "weight_decay": 0, "rate": 1},
        {"params": [p for p in trainable if p in fast], "weight_decay": 0,
         "rate": run.norm_bias_rate},
    ]  # fmt: skip
    if run.optimizer == "sgd":
        return torch.optim.SGD(groups, momentum=run.momentum, nesterov=run.momentum > 0)
    return torch.optim.AdamW(groups, betas=(run.momentum, 0.999))


@torch.no_grad()
def predict(
    network: nn.Module, split: Split, data: Dataset, device: str | torch.device | None = None,
    precision: str = "float32", batch_size: int = 500,
) -> torch.Tensor:  # fmt: skip
    """Logits (N, classes), float32 on the CPU, for the images of a split, in eval mode.

    data: the `Dataset` whose mean and standard deviation the network was trained with.
    """
    checks.instance(nn.Module, "network", network)
    checks.instance(Split, "split", split)
    checks.instance(Dataset, "data", data)
    like = next(network.parameters(), torch.empty(0))
    device = checks.device("device", like.device if device is None else device)
    precision = machine.precision(device, precision)
    logits = []
    with evaluating(network):
        for images, _ in in_order(split, batch_size, data.mean, data.std, device):
            with machine.autocast(device, precision):
                logits.append(network(images).float().cpu())
    return torch.cat(logits)


def evaluate(
    network: nn.Module, split: Split, data: Dataset, device: str | torch.device | None = None,
    precision: str = "float32", batch_size: int = 500,
) -> tuple[float, float]:  # fmt: skip
    """Mean cross-entropy and accuracy in percent on the images of a split."""
    logits = predict(network, split, data, device, precision, batch_size)
    right = (logits.argmax(1) == split.labels).sum()
    return float(F.cross_entropy(logits, split.labels)), 100 * int(right) / len(split)
