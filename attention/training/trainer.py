"""The training loop: one step, one epoch, and what a checkpoint holds."""

import math
import time

import psutil
import torch
from torch import nn
from torch.nn import functional as F

from attention.cost import evaluating
from attention.data import in_order
from attention.files import save_tensors
from attention.training import machine


class Trainer:
    """The network, its optimiser, and where they stand in the schedule: what a checkpoint holds."""

    def __init__(self, run, classes, steps, device, precision):
        self.run, self.steps, self.device = run, steps, device
        self.network = run.build(classes).to(device)
        # the norms of the network; a fast bias in a gate's own norm would shut the gate
        gates = tuple(f"{placement.path}." for placement in getattr(self.network, "placements", ()))
        norms = (m for path, m in self.network.named_modules() if not path.startswith(gates))
        shifts = {m.bias for m in norms if isinstance(m, nn.BatchNorm2d)}
        trainable = [p for p in self.network.parameters() if p.requires_grad]
        weights = [p for p in trainable if p.ndim > 1]
        others = [p for p in trainable if p.ndim == 1 and p not in shifts]
        shifts = [p for p in trainable if p in shifts]  # in the order of the network
        groups = [
            {"params": weights, "weight_decay": run.weight_decay, "rate": 1},
            {"params": others, "weight_decay": 0, "rate": 1},
            {"params": shifts, "weight_decay": 0, "rate": run.norm_bias_rate},
        ]
        if run.optimizer == "sgd":
            self.optimizer = torch.optim.SGD(groups, momentum=run.momentum, nesterov=True)
        else:
            self.optimizer = torch.optim.AdamW(groups, betas=(run.momentum, 0.999))
        if device.type == "cpu":
            machine.keep_memory()
        else:
            torch.cuda.reset_peak_memory_stats(device)
        self.autocast = machine.autocast(device, precision)
        # float16 has few small numbers: the loss is scaled up, the gradients down again
        self.scaler = torch.amp.GradScaler(device.type, enabled=precision == "float16")
        self.step, self.history, self.seconds = 0, [], []
        self.peak_memory, self.sessions = 0, []

    def learning_rate(self):
        """Linear from a fifth of the peak to the peak, and from there linear to 0."""
        done, warmup = self.step / self.steps, self.run.warmup
        share = 0.2 + 0.8 * done / warmup if done < warmup else (1 - done) / (1 - warmup)
        return self.run.learning_rate * share

    def train_step(self, images, labels):
        """One step of the optimiser; gives the loss and how many answers were right."""
        for group in self.optimizer.param_groups:
            group["lr"] = group["rate"] * self.learning_rate()
        with self.autocast:
            logits = self.network(images)
        loss = F.cross_entropy(logits.float(), labels, label_smoothing=self.run.label_smoothing)
        self.optimizer.zero_grad()
        self.scaler.scale(loss).backward()
        self.scaler.step(self.optimizer)
        self.scaler.update()
        self.step += 1
        return loss.detach(), (logits.detach().argmax(1) == labels).sum()

    def epoch(self, batches, count, bar):
        """One pass over `batches`; adds its loss, accuracy and seconds to the history."""
        start = time.perf_counter()
        self.network.train()
        losses, correct, images_seen = 0.0, 0, 0
        with torch.random.fork_rng():  # dropout and the like follow from the seed and the epoch
            torch.manual_seed((self.run.seed << 20) + len(self.history))
            for number, (images, labels) in enumerate(batches, 1):
                loss, right = self.train_step(images, labels)
                losses, correct = losses + loss * len(labels), correct + right
                images_seen += len(labels)
                # to look at the loss makes a GPU wait, so it is done at every eighth step
                if number % 8 == 0 or number == count:
                    self.check(float(losses))
                    self.watch_memory()
                    seen = {
                        "loss": float(losses) / images_seen,
                        "accuracy": int(correct) / images_seen,
                    }
                    bar.set_postfix_str(
                        "loss {loss:.3f}, accuracy {accuracy:.1%}".format(**seen), refresh=False
                    )
                bar.update()
        self.history.append({
            "epoch": len(self.history) + 1,
            "train_loss": float(losses) / images_seen,
            "train_accuracy": 100 * int(correct) / images_seen,
        })  # fmt: skip
        self.seconds.append(time.perf_counter() - start)

    def check(self, loss):
        """Stop at a loss that is not a number: all that follows would be worthless."""
        if not math.isfinite(loss):
            raise FloatingPointError(
                f"the loss of {self.run.name} is {loss} in epoch {len(self.history) + 1}, at or "
                f"shortly before step {self.step} of {self.steps}: try a learning_rate below "
                f"{self.run.learning_rate}, and look for values in the block that are not finite. "
                "The last finished epoch is kept."
            )

    def watch_memory(self):
        """Peak memory in bytes: of the GPU's tensors, or of this process on a CPU."""
        if self.device.type == "cuda":
            now = torch.cuda.max_memory_allocated(self.device)
        else:
            now = psutil.Process().memory_info().rss
        self.peak_memory = max(self.peak_memory, now)

    def save(self, path):
        state = {
            "network": self.network.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "scaler": self.scaler.state_dict(),
            "step": self.step,
            "history": self.history,
            "seconds": self.seconds,
            "peak_memory": self.peak_memory,
            "sessions": self.sessions,
        }
        save_tensors(state, path)

    def resume(self, path):
        """Go on from the checkpoint at `path`, if there is one."""
        if not path.exists():
            return
        state = torch.load(path, map_location=self.device, weights_only=True)
        self.network.load_state_dict(state["network"])
        self.optimizer.load_state_dict(state["optimizer"])
        self.scaler.load_state_dict(state["scaler"])
        self.step, self.history = state["step"], state["history"]
        self.seconds, self.sessions = state["seconds"], state["sessions"]
        self.peak_memory = state["peak_memory"]


@torch.no_grad()
def predict(network, split, data, device=None, precision="float32", batch_size=500):
    """Logits (N, classes), float32 on the CPU, for the images of a split, in eval mode.

    data: the `Dataset` whose mean and standard deviation the network was trained with.
    """
    device = torch.device(device or next(network.parameters()).device)
    logits = []
    with evaluating(network):
        for images, _ in in_order(split, batch_size, data.mean, data.std, device):
            with machine.autocast(device, precision):
                logits.append(network(images).float().cpu())
    return torch.cat(logits)


def evaluate(network, split, data, device=None, precision="float32", batch_size=500):
    """Mean cross-entropy and accuracy in percent on the images of a split."""
    logits = predict(network, split, data, device, precision, batch_size)
    right = (logits.argmax(1) == split.labels).sum()
    return float(F.cross_entropy(logits, split.labels)), 100 * int(right) / len(split)
