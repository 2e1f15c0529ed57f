"""CUDA graphs without a GPU: a stand-in does what torch documents of them, and no more."""

import random
import sys

import pytest
import torch
from torch import nn
from torch.nn import functional as F

import attention
from attention import settings
from attention.blocks import BLOCKS, POOLINGS
from attention.data import Batches, shapes10
from attention.training import Run, Trainer
from attention.training.graphs import WARM_UP, Replayed, can_be_recorded

training = sys.modules["attention.training.trainer"]
RUN = Run(network="resnet20", width=4, batch_size=16, epochs=2, block="cbam", train_images=80)
GPU = torch.device("cuda")


@pytest.fixture(scope="module")
def images():
    return shapes10(train=80, test=20, size=16)


class StandIn:
    """To record does nothing but to say where results will lie; a replay fills these places."""

    def __init__(self, network):
        self.network, self.warmed, self.recorded, self.replayed = network, 0, 0, 0

    def warm_up(self, call):
        self.warmed += 1
        return call()

    def record(self, call):
        self.recorded += 1
        before = {name: tensor.clone() for name, tensor in self.network.state_dict().items()}
        found = call()
        self.network.load_state_dict(before)
        parameters = list(self.network.parameters())
        places = [*found, *(parameter.grad for parameter in parameters)]
        for place in places:
            place.zero_()

        def replay():
            self.replayed += 1
            there = [parameter.grad for parameter in parameters]
            results = [*call(), *(parameter.grad for parameter in parameters)]
            for place, result in zip(places, results, strict=True):
                place.copy_(result)
            for parameter, gradient in zip(parameters, there, strict=True):
                parameter.grad = gradient  # Python's names are not the graph's matter

        return replay, found


def make(images, precision="float32", gpu=True):
    torch.manual_seed(0)
    trainer = Trainer(RUN, len(images.classes), 2 * 5, torch.device("cpu"), precision)
    stand_in = StandIn(trainer.network)
    if gpu:
        trainer.gradients = Replayed(trainer.compute, trainer.network.parameters(), stand_in)
    return trainer, stand_in


def train(trainer, images, epochs=2):
    batches = Batches(images.train.spread(77), 16, 0, "cpu", images.mean, images.std, crop=1)
    sizes = [len(labels) for _, labels in batches.epoch(0)]
    assert sizes == [16, 16, 15, 15, 15]
    with training.tqdm(disable=True) as bar:
        for epoch in range(len(trainer.history), epochs):
            trainer.epoch(batches.epoch(epoch), len(batches), bar)
    return trainer


def assert_same(trainer, other):
    assert trainer.history == other.history
    states = trainer.network.state_dict(), other.network.state_dict()
    assert all(torch.equal(states[0][name], states[1][name]) for name in states[0])
    one, two = (t.optimizer.state_dict()["state"] for t in (trainer, other))
    assert all(torch.equal(one[i]["momentum_buffer"], two[i]["momentum_buffer"]) for i in one)


@pytest.mark.parametrize("precision", ["float32", "bfloat16", "float16"])
def test_a_replayed_training_is_the_same_bit_for_bit(images, precision):
    usual, _ = make(images, precision, gpu=False)
    replayed, gpu = make(images, precision)
    assert_same(train(usual, images), train(replayed, images))
    # two epochs of 2 batches of 16 and 3 of 15: each size has its graph
    assert (gpu.warmed, gpu.recorded, gpu.replayed) == (2 * WARM_UP, 2, 10 - 2 * WARM_UP)


def test_stopped_and_gone_on_it_is_the_same_bit_for_bit(images, tmp_path):
    whole, _ = make(images)
    train(whole, images)
    begun, _ = make(images)
    train(begun, images, epochs=1).save(tmp_path / "checkpoint.pt")
    gone_on, _ = make(images)
    gone_on.go_on(attention.files.load_checkpoint(tmp_path / "checkpoint.pt"))
    assert_same(whole, train(gone_on, images))


def test_each_graph_hands_its_own_gradients_to_the_optimiser():
    weight = nn.Parameter(torch.ones(()))

    def step(images, labels):
        weight.grad = images.sum() * 1  # the gradient of weight · sum
        return (images.sum(),)

    replayed = Replayed(step, [weight], StandIn(nn.Module()))
    replayed.gpu.network.weight = weight
    values = (1.0, 2.0, 3.0, 4.0, 5.0)
    given = [torch.full((count, 1), value) for value in values for count in (2, 3)]
    sums = [float(images.sum()) for images in given]
    for images, total in zip(given, sums, strict=True):
        [found] = replayed(images, torch.zeros(len(images)))
        assert float(weight.grad) == float(found) == total
    assert [float(images.sum()) for images in given] == sums  # nobody's batch is written over


def test_a_step_that_cannot_be_recorded_says_what_to_do(images):
    trainer, gpu = make(images)
    gpu.record = lambda call: (_ for _ in ()).throw(RuntimeError("operation not permitted"))
    with pytest.raises(RuntimeError, match="operation not permitted.*ATTENTION_CUDA_GRAPHS"):
        train(trainer, images)


class Own(attention.SE):
    """From a notebook cell: nobody knows what it does in Python."""


@pytest.mark.usefixtures("own_home")
def test_what_is_recorded_is_known_code_on_a_gpu():
    assert can_be_recorded(RUN.build(10), GPU)
    assert not can_be_recorded(RUN.build(10), torch.device("cpu"))
    assert not can_be_recorded(attention.insert(attention.resnet(8), Own), GPU)


@pytest.mark.usefixtures("own_home")
def test_fit_records_where_it_can_and_is_told_to(images, monkeypatch):
    def session(seed):
        run = Run(**vars(RUN) | {"seed": seed, "epochs": 1})
        record = attention.fit(run, images, "cpu", precision="float32", progress=False)
        return record["cost"]["sessions"][0]["cuda_graphs"]

    made = []
    monkeypatch.setattr(training, "Replayed", lambda *given: made.append(given) or given[0])
    monkeypatch.setenv("ATTENTION_CUDA_GRAPHS", "1")
    assert session(0) is False and not made  # this is a CPU
    monkeypatch.setattr(training, "can_be_recorded", lambda network, device: True)
    assert session(1) is True and len(made) == 1
    monkeypatch.setenv("ATTENTION_CUDA_GRAPHS", "")
    assert session(2) is False and len(made) == 1


def test_the_setting_is_one_of_two(monkeypatch):
    for word, meant in (("0", False), ("1", True), ("", False)):
        monkeypatch.setenv("ATTENTION_CUDA_GRAPHS", word)
        assert settings.cuda_graphs() is meant
    monkeypatch.setenv("ATTENTION_CUDA_GRAPHS", "yes")
    with pytest.raises(ValueError, match="ATTENTION_CUDA_GRAPHS must be one of 0, 1; got 'yes'"):
        settings.cuda_graphs()


@pytest.mark.usefixtures("own_home")
@pytest.mark.parametrize("name", [None, *BLOCKS, *POOLINGS])
def test_no_mechanism_asks_the_gpu_for_a_number_or_draws_one_in_python(name):
    """What would be wrong in a recording: on tensors without values the first raises an error."""
    with torch.device("meta"):
        network = attention.compared(name).build(10).train()
        images, labels = torch.empty(4, 3, 32, 32), torch.empty(4, dtype=torch.long)
    drawn = random.getstate()
    F.cross_entropy(network(images), labels).backward()
    assert random.getstate() == drawn
    assert all(p.grad is not None for p in network.parameters())


def test_a_mechanism_that_asks_would_be_found():
    with torch.device("meta"), pytest.raises(RuntimeError):
        bool(torch.empty(2).sum() > 0)
