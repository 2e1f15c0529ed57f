"""`fit` with compiled networks: only where it is wanted, said in the record, stopped, gone on."""

import os
import sys

import pytest
import stopped
import torch
import torch.utils.checkpoint
from parity import fixed
from torch._dynamo.testing import CompileCounter

import attention
from attention import files, settings
from attention.data import shapes10
from attention.networks import lacking
from attention.training import Files, Run, trained
from attention.training.compiled import worth_compiling

fusing = sys.modules["attention.networks.fuse"]
RUN = Run(network="resnet20", width=4, batch_size=16, epochs=2, block="se", train_images=40)
CPU = torch.device("cpu")

pytestmark = [
    pytest.mark.usefixtures("own_home"),
    pytest.mark.skipif(
        not hasattr(torch.utils.checkpoint, "CheckpointPolicy"), reason="fuse needs torch 2.5"
    ),
]


@pytest.fixture(scope="module")
def images():
    return shapes10(train=40, test=20, size=16)


@pytest.fixture
def counter(monkeypatch):
    """One region is compiled, by a compiler that counts; nothing is left that was."""
    counter, found = CompileCounter(), fusing.regions
    last = lambda network: dict(list(found(network).items())[-1:])  # noqa: E731
    monkeypatch.setattr(fusing, "BACKEND", counter)
    monkeypatch.setattr(fusing, "regions", last)
    monkeypatch.delenv("TORCHINDUCTOR_CACHE_DIR", raising=False)
    begin_again()
    yield counter
    begin_again()
    os.environ.pop("TORCHINDUCTOR_CACHE_DIR", None)


def begin_again():
    """As in a new process."""
    fusing._compiled.cache_clear()
    torch.compiler.reset()


def fit(run, images, **options):
    return attention.fit(run, images, device="cpu", precision="float32", progress=False, **options)


def stop_after_an_epoch(run, images, monkeypatch, **options):
    stopped.stop_after_an_epoch(lambda: fit(run, images, **options), monkeypatch)


def compiled_of(record):
    return [session["compiled"] for session in record["cost"]["sessions"]]


def test_nothing_is_compiled_unless_it_is_wanted(images, counter, monkeypatch):
    assert compiled_of(fit(RUN, images)) == [False]
    monkeypatch.setenv("ATTENTION_COMPILED", "auto")  # a training of seconds
    assert compiled_of(fit(Run(**vars(RUN) | {"seed": 1}), images)) == [False]
    assert counter.frame_count == 0 and "TORCHINDUCTOR_CACHE_DIR" not in os.environ


def test_a_compiled_run_says_so_and_is_tested_as_it_is_written(images, own_home, counter):
    record = fit(RUN, images, compiled=True)
    [session] = record["cost"]["sessions"]
    assert session["compiled"] is True and counter.frame_count == 1
    assert 0 < session["compile_seconds"] < record["cost"]["seconds"]
    assert os.environ["TORCHINDUCTOR_CACHE_DIR"] == str(own_home / "data/cache/compiled")
    files.read_record(Files(RUN, images).record)
    network = trained(RUN, images, device="cpu", progress=False)
    assert not any(module._compiled_call_impl for module in network.modules())


@pytest.mark.parametrize("begun", [True, False])
def test_a_run_goes_on_as_it_was_begun(begun, images, counter, monkeypatch):
    stop_after_an_epoch(RUN, images, monkeypatch, compiled=begun)
    with pytest.raises(ValueError, match=f"compiled must be {begun}, as .* begun, got {not begun}"):
        fit(RUN, images, compiled=not begun)
    monkeypatch.setenv("ATTENTION_COMPILED", "0" if begun else "1")
    assert compiled_of(fit(RUN, images)) == [begun, begun]
    assert counter.frame_count == int(begun)


def test_a_checkpoint_from_before_there_was_a_choice_goes_on(images, counter, monkeypatch):
    stop_after_an_epoch(RUN, images, monkeypatch)
    path = Files(RUN, images).checkpoint
    state = files.load_checkpoint(path)
    for session in state["sessions"]:
        del session["compiled"]
    files.save_checkpoint(path, state)
    monkeypatch.setenv("ATTENTION_COMPILED", "1")
    assert compiled_of(fit(RUN, images)) == [False, False] and counter.frame_count == 0


@pytest.mark.skipif(lacking("cpu") is not None, reason="no C++ compiler")
def test_stopped_and_gone_on_it_ends_the_same_bit_for_bit(images, own_home, counter, monkeypatch):
    monkeypatch.setattr(fusing, "BACKEND", "inductor")
    monkeypatch.setenv("TORCHINDUCTOR_CACHE_DIR", str(own_home / "cache"))

    def outcome():
        record = fit(RUN, images, compiled=True)
        return fixed(record), trained(RUN, images, device="cpu", progress=False).state_dict()

    begin_again()
    whole = outcome()
    monkeypatch.setenv("ATTENTION_HOME", str(own_home / "again"))
    for _ in range(RUN.epochs):
        begin_again()
        stop_after_an_epoch(RUN, images, monkeypatch, compiled=True)
    stopped = outcome()
    assert stopped[0] == whole[0]
    assert all(torch.equal(stopped[1][name], tensor) for name, tensor in whole[1].items())
    monkeypatch.setenv("ATTENTION_HOME", str(own_home / "eager"))
    plain = fit(RUN, images, compiled=False)
    # another rounding, and no more
    losses = [r["result"]["history"][0]["train_loss"] for r in (plain, whole[0])]
    assert losses[0] == pytest.approx(losses[1], rel=1e-3)


def test_it_is_refused_without_a_compiler(images, counter, monkeypatch):
    monkeypatch.setenv("CXX", "no-such-compiler")
    with pytest.raises(RuntimeError, match="no-such-compiler is not on this machine"):
        fit(RUN, images, compiled=True)
    with pytest.raises(ValueError, match="compiled must be one of True, False, None; got 'yes'"):
        fit(RUN, images, compiled="yes")


def test_what_pays_is_a_long_training_with_attention_on_a_cpu_with_a_compiler(monkeypatch):
    def pays(block, epochs, device=CPU, precision="bfloat16"):
        network = Run(network="resnet20", block=block).build(10)
        return worth_compiling(network, epochs * 50_000, (32, 32), device, precision)

    monkeypatch.setattr(torch, "get_num_threads", lambda: 1)
    assert pays("cbam", 10) and pays("cbam", 10, precision="float32")
    assert not pays("cbam", 0.005)  # the smoke profile's 256 images
    assert not pays(None, 10) and not pays("cbam", 10, torch.device("cuda"))
    monkeypatch.setenv("CXX", "no-such-compiler")
    assert not pays("cbam", 10)


def test_the_setting_is_one_of_three(monkeypatch):
    for word, meant in (("0", False), ("1", True), ("auto", None), ("", False)):
        monkeypatch.setenv("ATTENTION_COMPILED", word)
        assert settings.compiled() is meant
    monkeypatch.setenv("ATTENTION_COMPILED", "yes")
    with pytest.raises(ValueError, match="ATTENTION_COMPILED must be one of 0, 1, auto; got 'yes'"):
        settings.compiled()
