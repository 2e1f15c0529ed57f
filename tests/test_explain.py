"""`capture`: every map of every block arrives, is the right one, and nothing is left behind."""

import contextlib
import copy
import pickle

import pytest
import torch
import torchvision
from parity import SMALL_OPTIONS, hooks
from torch import nn

from attention.blocks import (
    BAM,
    BLOCKS,
    BOTH,
    CBAM,
    CHANNEL,
    POSITIONS,
    SE,
    SPATIAL,
    Gate,
    Rescale,
    Sum,
    Weights,
)  # fmt: skip
from attention.explain import Captured, capture, rollout
from attention.networks import insert, resnet


def network_with(block, **options):
    network = insert(resnet(8, 4), block, **SMALL_OPTIONS.get(block, {}) | options)
    placed = tuple(f"{placement.path}." for placement in network.placements)
    for key, parameter in network.named_parameters():
        if key.startswith(placed):  # gates that say something
            nn.init.normal_(parameter, 0.1, 0.6)
    return network.eval()


GATES = ("se", "eca", "cbam", "bam")  # every block and pooling: test_maps.py
IMAGES = torch.linspace(-2, 2, 2 * 3 * 12 * 8).sin().mul(7).frac().view(2, 3, 12, 8)
RESIDUAL = [f"stages.{stage}.0.attention" for stage in range(3)]
STAGE = ["stages.0.1", "stages.1.1"]
SIZES = {0: (12, 8), 1: (6, 4), 2: (3, 2)}  # of the maps after each stage


@contextlib.contextmanager
def inputs_of(network, paths):
    """What goes into the modules at `paths`, by hooks of the test's own."""
    seen, handles = {}, []
    for path in paths:

        def keep(module, inputs, path=path):
            seen[path] = inputs[0].detach()

        handles.append(network.get_submodule(path).register_forward_pre_hook(keep))
    yield seen
    for handle in handles:
        handle.remove()


def sigmoid(x):
    return 1 / (1 + torch.exp(-x))


# ------------------------------------------------------------------ the maps: which, where and what


def gates_and_shapes(block):
    """{path: (kind, shape)} that this block gives in the small ResNet, written out."""
    expected = {}
    for stage, channels in enumerate((4, 8, 16)):
        height, width = SIZES[stage]
        if block in ("se", "eca"):
            expected[f"stages.{stage}.0.attention.gate"] = (CHANNEL, (2, channels, 1, 1))
        elif block == "cbam":
            path = f"stages.{stage}.0.attention"
            expected[f"{path}.channel_gate"] = (CHANNEL, (2, channels, 1, 1))
            expected[f"{path}.spatial_gate"] = (SPATIAL, (2, 1, height, width))
        elif stage < 2:
            expected[f"stages.{stage}.1.gate"] = (BOTH, (2, channels, height, width))
    return expected


@pytest.mark.parametrize(
    "block, options",
    [*((b, {}) for b in GATES), *((b, {"variant": "official"}) for b in ("cbam", "bam"))],
)
def test_every_gate_gives_one_map_of_its_kind_under_its_path(block, options):
    network = network_with(block, **options)
    expected = gates_and_shapes(block)
    with torch.no_grad(), capture(network) as maps:
        network(IMAGES)
    found = {path: (one.kind, *(tuple(m.shape) for m in one.maps)) for path, one in maps.items()}
    assert found == expected
    for one in maps.values():
        assert one.maps[0].min() > 0 and one.maps[0].max() < 1 and one.maps[0].std() > 0


def test_se_maps_equal_the_equation_on_the_blocks_input():
    network = network_with("se")
    with torch.no_grad(), inputs_of(network, RESIDUAL) as seen, capture(network) as maps:
        network(IMAGES)
    for path in RESIDUAL:
        w1, b1, w2, b2 = network.get_submodule(path).parameters()
        x = seen[path]
        hidden = (x.sum((2, 3)) / (x.shape[2] * x.shape[3]) @ w1.T + b1).clamp(min=0)
        expected = sigmoid(hidden @ w2.T + b2)[:, :, None, None]
        torch.testing.assert_close(maps[f"{path}.gate"].maps[0], expected)


def test_cbam_maps_equal_the_equations_on_the_blocks_input():
    network = network_with("cbam", kernel_size=3)
    with torch.no_grad(), inputs_of(network, RESIDUAL) as seen, capture(network) as maps:
        network(IMAGES)
    for path in RESIDUAL:
        w1, w2, f = network.get_submodule(path).parameters()
        x = seen[path]
        logits = 0
        for pooled in (x.mean((2, 3)), x.flatten(2).max(2).values):
            logits = logits + (pooled @ w1.T).clamp(min=0) @ w2.T
        channel = sigmoid(logits)[:, :, None, None]
        torch.testing.assert_close(maps[f"{path}.channel_gate"].maps[0], channel)
        x = x * channel
        pooled = torch.stack([x.mean(1), x.max(1).values], 1)
        columns = nn.functional.unfold(pooled, 3, padding=1)
        spatial = sigmoid(f.flatten(1) @ columns).view(len(x), 1, *x.shape[2:])
        torch.testing.assert_close(maps[f"{path}.spatial_gate"].maps[0], spatial)


@pytest.mark.parametrize(
    "block, paths, apply",
    [("se", RESIDUAL, lambda x, m: x * m), ("bam", STAGE, lambda x, m: x + x * m)],
)
def test_maps_are_what_the_blocks_multiplied_by(block, paths, apply):
    network, outputs = network_with(block), {}
    for path in paths:
        network.get_submodule(path).register_forward_hook(
            lambda module, inputs, output, path=path: outputs.update({path: output})
        )
    with torch.no_grad(), inputs_of(network, paths) as seen, capture(network) as maps:
        network(IMAGES)
    for path in paths:
        torch.testing.assert_close(outputs[path], apply(seen[path], maps[f"{path}.gate"].maps[0]))


class Twice(nn.Module):
    """One block, used two times in a pass."""

    def __init__(self):
        super().__init__()
        self.block = SE(4, reduction=2)

    def forward(self, x):
        return self.block(self.block(x))


def test_a_shared_gate_gives_both_maps_in_order():
    network = Twice()
    x = torch.randn(2, 4, 5, 3)
    with torch.no_grad(), capture(network) as maps:
        output = network(x)
    first, second = maps["block.gate"].maps
    torch.testing.assert_close(first, network.block.gate(network.block.score(x)))
    torch.testing.assert_close(second, network.block.gate(network.block.score(x * first)))
    torch.testing.assert_close(output, x * first * second)
    assert not torch.equal(first, second)


def test_two_passes_give_two_maps_in_order():
    network = network_with("se")
    with torch.no_grad(), capture(network) as maps:
        network(IMAGES)
        network(IMAGES[:1] + 1)
    first, second = maps["stages.0.0.attention.gate"].maps
    assert len(first) == 2 and len(second) == 1
    with torch.no_grad(), capture(network) as again:
        network(IMAGES[:1] + 1)
    assert torch.equal(again["stages.0.0.attention.gate"].maps[0], second)


@pytest.mark.parametrize("variant", ["paper", "official"])
def test_bams_scores_make_up_its_map(variant):
    network = network_with("bam", variant=variant)
    with torch.no_grad(), capture(network, scores=True) as maps:
        network(IMAGES)
    branches = [f"{path}.{name}" for path in STAGE for name in ("channel", "spatial")]
    assert sorted(maps) == sorted([*branches, *(f"{path}.gate" for path in STAGE)])
    for path in STAGE:
        channel, spatial = maps[f"{path}.channel"], maps[f"{path}.spatial"]
        assert (channel.kind, spatial.kind) == (CHANNEL, SPATIAL)
        a, b = channel.maps[0], spatial.maps[0]
        assert a.shape[2:] == (1, 1) and b.shape[1] == 1 and a.std() > 0 and b.std() > 0
        expected = sigmoid(a + b if variant == "paper" else a * b)
        torch.testing.assert_close(maps[f"{path}.gate"].maps[0], expected)


SCORES = {
    "se": {"score": "gate"},
    "eca": {"score": "gate"},
    "encoding": {"score": "gate"},
    "sse": {"score": "gate"},
    "spatial": {"score": "gate"},
    "qkv": {"score": "gate"},
    "cbam": {"channel": "channel_gate", "spatial": "spatial_gate"},
    "simam": {"score": "gate"},
}


@pytest.mark.parametrize("block", SCORES)
def test_every_score_is_what_its_gate_makes_a_map_of(block):
    network = network_with(block)
    with torch.no_grad(), capture(network, scores=True) as maps:
        network(IMAGES)
    for path in RESIDUAL:
        for score, gate in SCORES[block].items():
            logits, gates = maps[f"{path}.{score}"], maps[f"{path}.{gate}"]
            assert logits.kind == gates.kind and len(logits.maps) == 1
            torch.testing.assert_close(sigmoid(logits.maps[0]), gates.maps[0])


@pytest.mark.parametrize("block", ["coordinate", "ela"])
def test_the_scores_of_rows_and_columns_make_up_the_map(block):
    network = network_with(block)
    with torch.no_grad(), capture(network, scores=True) as maps:
        network(IMAGES)
    for path in RESIDUAL:
        if block == "ela":  # one score for both: it is called twice
            rows, columns = maps[f"{path}.score"].maps
            rows, columns = rows[..., None], columns[:, :, None]
        else:
            [rows], [columns] = maps[f"{path}.rows"].maps, maps[f"{path}.columns"].maps
        expected = sigmoid(rows) * sigmoid(columns)
        torch.testing.assert_close(maps[f"{path}.gate"].maps[0], expected)


def test_the_gate_of_a_block_from_a_cell_is_seen():
    class Brightness(nn.Module):
        kind = SPATIAL

        def forward(self, x):
            return x.mean(1, keepdim=True)

    network = insert(resnet(8, 4).eval(), lambda channels: Rescale(Brightness()))
    with torch.no_grad(), inputs_of(network, RESIDUAL) as seen, capture(network) as maps:
        network(IMAGES)
    for path in RESIDUAL:
        one = maps[f"{path}.gate"]
        assert one.kind == SPATIAL
        torch.testing.assert_close(one.maps[0], sigmoid(seen[path].mean(1, keepdim=True)))


def test_capture_works_on_a_torchvision_network_with_inserted_blocks():
    network = torchvision.models.resnet18(weights=None).eval()
    insert(insert(network, "cbam", stages=(3, 4)), "bam")
    with torch.no_grad(), capture(network) as maps:
        network(torch.randn(2, 3, 64, 48))
    expected = {}
    for layer, channels, height, width in ((3, 256, 4, 3), (4, 512, 2, 2)):
        for i in (0, 1):
            path = f"layer{layer}.{i}.bn2.attention"
            expected[f"{path}.channel_gate"] = (CHANNEL, (2, channels, 1, 1))
            expected[f"{path}.spatial_gate"] = (SPATIAL, (2, 1, height, width))
    for layer, channels, height, width in ((1, 64, 16, 12), (2, 128, 8, 6), (3, 256, 4, 3)):
        expected[f"layer{layer}.2.gate"] = (BOTH, (2, channels, height, width))
    found = {path: (one.kind, *(tuple(m.shape) for m in one.maps)) for path, one in maps.items()}
    assert found == expected


# -------------------------------------------------------------------------- nothing else is changed


# with these torch's fused kernel works while nobody looks: not bit for bit, see the next test
FUSED = ("qkv", "nonlocal", "selfattention", "local")


@pytest.mark.parametrize("block", [name for name in BLOCKS if name not in FUSED])
@pytest.mark.parametrize("scores", [False, True])
def test_capturing_changes_no_bit_of_the_output_or_of_the_gradients(block, scores):
    network = network_with(block)
    expected = network(IMAGES)
    wanted = torch.autograd.grad(expected.square().sum(), list(network.parameters()))
    with capture(network, scores=scores):
        output = network(IMAGES)
        grads = torch.autograd.grad(output.square().sum(), list(network.parameters()))
    assert torch.equal(output, expected)
    assert all(torch.equal(mine, other) for mine, other in zip(grads, wanted, strict=True))


@pytest.mark.parametrize("block", FUSED)
def test_capturing_changes_neither_output_nor_gradients_of_fused_attention(block):
    network, images = network_with(block).double(), IMAGES.double()
    expected = network(images)
    wanted = torch.autograd.grad(expected.square().sum(), list(network.parameters()))
    with capture(network):
        output = network(images)
        grads = torch.autograd.grad(output.square().sum(), list(network.parameters()))
    torch.testing.assert_close(output, expected, rtol=1e-9, atol=1e-9)
    for mine, other in zip(grads, wanted, strict=True):
        torch.testing.assert_close(mine, other, rtol=1e-9, atol=1e-9)


def test_maps_are_detached_copies_in_float32():
    for dtype in (torch.float32, torch.float64):
        network = network_with("cbam").to(dtype)
        kept = []  # the gate's own output tensors
        network.stages[0][0].attention.channel_gate.register_forward_hook(
            lambda module, inputs, output, kept=kept: kept.append(output)
        )
        with capture(network) as maps:
            network(IMAGES.to(dtype))
        for one in maps.values():
            assert one.maps[0].dtype == torch.float32 and not one.maps[0].requires_grad
        mine = maps["stages.0.0.attention.channel_gate"].maps[0]
        assert mine.data_ptr() != kept[0].data_ptr() and kept[0].requires_grad
        torch.testing.assert_close(mine, kept[0].detach().float())


def test_maps_are_float32_under_bfloat16_autocast_and_close_to_the_exact_ones():
    network = network_with("cbam")
    given = []
    network.stages[0][0].attention.channel_gate.register_forward_hook(
        lambda module, inputs, output: given.append(output.dtype)
    )
    with torch.no_grad(), capture(network) as exact:
        network(IMAGES)
    with torch.no_grad(), torch.autocast("cpu", torch.bfloat16), capture(network) as maps:
        network(IMAGES)
    assert given == [torch.float32, torch.bfloat16], "autocast had nothing to do"
    for path, one in maps.items():
        assert one.maps[0].dtype == torch.float32
        torch.testing.assert_close(one.maps[0], exact[path].maps[0], rtol=0, atol=0.05)


def test_nested_captures_both_get_the_maps():
    network = network_with("bam")
    with torch.no_grad(), capture(network) as outer, capture(network, scores=True) as inner:
        network(IMAGES)
    assert set(outer) < set(inner)
    for path, one in outer.items():
        assert len(one.maps) == len(inner[path].maps) == 1
        assert torch.equal(one.maps[0], inner[path].maps[0])
    assert hooks(network) == 0


def test_the_inner_capture_ends_alone():
    network = network_with("se")
    with torch.no_grad(), capture(network) as outer:
        with capture(network) as inner:
            network(IMAGES)
        network(IMAGES)
    assert {len(one.maps) for one in inner.values()} == {1}
    assert {len(one.maps) for one in outer.values()} == {2}


# --------------------------------------------------------------------------------- hooks and errors


def test_hooks_stand_only_within_the_block():
    network = network_with("bam")
    with capture(network, scores=True) as maps:
        assert hooks(network) == 1
        network(IMAGES)
    assert hooks(network) == 0
    network(IMAGES)
    assert len(maps) >= 6 and {len(one.maps) for one in maps.values()} == {1}


@pytest.mark.parametrize("block", ["se", "nonlocal"])
def test_a_copy_made_inside_has_no_hooks_and_is_not_watched(block):
    network = network_with(block)
    with torch.no_grad(), capture(network) as maps, capture(network):
        twin = copy.deepcopy(network)
        other = pickle.loads(pickle.dumps(network))
        twin(IMAGES), other(IMAGES)
        assert not any(one.maps for one in maps.values())
        network(IMAGES)
    for made in (twin, other):
        assert hooks(made) == 0 and not any(
            m.wanted for m in made.modules() if hasattr(m, "wanted")
        )
        made(IMAGES)
    assert {len(one.maps) for one in maps.values()} == {1}
    with torch.no_grad(), capture(twin) as again:  # and can be watched itself
        twin(IMAGES)
    for path, one in maps.items():
        torch.testing.assert_close(again[path].maps, one.maps)
    assert {len(one.maps) for one in maps.values()} == {1}


class ByKeyword(nn.Module):
    """Positions that look at each other; the size goes by its name."""

    def __init__(self):
        super().__init__()
        self.weights = Weights()

    def forward(self, x):
        rows = x.flatten(2).mT
        weights = self.weights(logits=(rows @ rows.mT)[:, None], size=x.shape[2:])
        return (weights[:, 0] @ rows).mT.unflatten(2, x.shape[2:])


def test_the_size_is_known_also_when_it_is_given_by_its_name():
    network = ByKeyword()
    with torch.no_grad(), capture(network) as maps:
        network(IMAGES)
    assert maps["weights"].size == (12, 8)
    assert maps["weights"].over_image().shape == (2, 1, 96, 12, 8)


def test_what_is_no_network_is_named():
    with pytest.raises(TypeError, match="network must be a Module, got str"), capture("se"):
        raise AssertionError("never reached")


def test_hooks_of_others_stay():
    network = network_with("se")
    network.stages[0][0].attention.gate.register_forward_hook(lambda *_: None)
    with capture(network):
        network(IMAGES)
    assert hooks(network) == 1


@pytest.mark.parametrize("called", [False, True])
def test_an_exception_inside_surfaces_and_the_hooks_are_off(called):
    network = network_with("cbam")
    with pytest.raises(KeyError, match="mine"), capture(network):
        if called:
            network(IMAGES)
        raise KeyError("mine")
    assert hooks(network) == 0


def test_an_exception_in_the_network_surfaces_and_the_hooks_are_off():
    network = network_with("cbam")
    with (
        pytest.raises(ValueError, match=r"\(N, 4, H, W\)"),
        capture(network.stages[0][0].attention),
    ):
        network.stages[0][0].attention(torch.randn(2, 5, 4, 4))
    assert hooks(network) == 0


def test_a_network_that_was_not_called_is_an_error_and_the_hooks_are_off():
    network = network_with("cbam")
    with pytest.raises(RuntimeError, match="no map came"), capture(network):
        pass
    assert hooks(network) == 0


@pytest.mark.parametrize("scores", [False, True])
def test_a_network_without_gates_is_an_error_that_names_it(scores):
    network = resnet(8, 4)
    with (
        pytest.raises(ValueError, match="Network holds no attention"),
        capture(network, scores=scores),
    ):
        raise AssertionError("never reached")


def test_a_gate_called_as_a_function_is_an_error_not_an_empty_dict():
    class Unhooked(nn.Module):
        def __init__(self):
            super().__init__()
            self.gate = Gate(CHANNEL)

        def forward(self, x):
            return x * x.mean((2, 3), keepdim=True).sigmoid()

    network = Unhooked()
    with pytest.raises(RuntimeError, match="no map came"), capture(network):
        network(IMAGES)


def test_blocks_themselves_can_be_captured():
    for block, paths in (
        (SE(4, 2), {"gate", "score"}),
        (CBAM(4, 2), {"channel", "channel_gate", "spatial", "spatial_gate"}),
        (BAM(4, 2), {"gate", "channel", "spatial"}),
        (Gate(SPATIAL), {""}),
    ):
        with capture(block, scores=True) as maps:
            block(torch.randn(2, 4, 5, 3))
        assert set(maps) == paths


def test_scores_of_a_sum_in_a_chain_of_ones_own_are_under_their_path():
    score = Sum(one=SE(4, 2).score, other=CBAM(4, 2).spatial)
    network = nn.Sequential(nn.Identity(), Rescale(score))
    with capture(network, scores=True) as maps:
        network(torch.randn(2, 4, 5, 3))
    kinds = {path: one.kind for path, one in maps.items()}
    assert kinds == {
        "1.score": BOTH, "1.score.one": CHANNEL, "1.score.other": SPATIAL, "1.gate": BOTH,
    }  # fmt: skip


@pytest.mark.parametrize("called_before", [False, True])
def test_a_network_compiled_in_place_gives_its_maps_or_an_error_never_an_empty_dict(called_before):
    torch.compiler.reset()
    network = network_with("se")
    with torch.no_grad(), capture(network) as expected:
        network(IMAGES)
    network.compile(backend="eager")
    with torch.no_grad():
        if called_before:
            network(IMAGES)
        try:
            with capture(network) as maps:
                network(IMAGES)
        except RuntimeError as error:
            assert "compiled" in str(error)
        else:
            assert set(maps) == set(expected)
            for path, one in maps.items():
                torch.testing.assert_close(one.maps, expected[path].maps)
    assert hooks(network) == 0
    torch.compiler.reset()


def test_the_original_of_a_compiled_copy_still_gives_its_maps():
    torch.compiler.reset()
    network = network_with("se")
    with torch.no_grad(), capture(network) as expected:
        network(IMAGES)
    compiled = torch.compile(network, backend="eager")
    with torch.no_grad():
        compiled(IMAGES)
        with capture(network) as maps:
            network(IMAGES)
    assert set(maps) == set(expected)
    for path, one in maps.items():
        assert torch.equal(one.maps[0], expected[path].maps[0])
    torch.compiler.reset()


# ------------------------------------------------------------------------------ what a map is not


@pytest.mark.parametrize(
    "layers, message",
    [
        ([], "of one shape; got"),
        ([torch.eye(3)], r"\(N, heads, T, T\)"),
        ([torch.full((1, 1, 2, 3), 1 / 3)], "must be the weights of self-attention"),
        ([torch.ones(1, 1, 3, 3)], "each row adding up to 1"),
        ([torch.eye(3)[None, None] * 2 - 1 / 3], "at least 0"),
        ([torch.full((1, 1, 3, 3), float("nan"))], "each row adding up to 1"),
    ],
)
def test_layers_that_are_no_weights_have_no_rollout(layers, message):
    with pytest.raises(ValueError, match=message):
        rollout(layers)


def test_a_module_that_was_not_called_has_no_maps_to_join():
    with pytest.raises(ValueError, match="this part of the network was not called"):
        Captured(CHANNEL).cat()
    with pytest.raises(ValueError, match="size is not known"):
        Captured(POSITIONS, [torch.eye(4)[None, None]]).over_image()


def test_a_pass_compiled_inside_leaves_nothing_that_goes_on_watching():
    torch.compiler.reset()
    network = network_with("se")
    network.compile(backend="eager")
    with torch.no_grad():
        try:
            with capture(network) as maps:
                network(IMAGES)
        except RuntimeError:
            pass
        before = {path: len(one.maps) for path, one in maps.items()}
        network(IMAGES)
    assert {path: len(one.maps) for path, one in maps.items()} == before
    torch.compiler.reset()
