"""What the tests of the blocks compare with, and how."""

import random

import torch
from torch import nn

from attention.networks import fast_resnet, insert

EXACT = dict(rtol=1e-9, atol=1e-9)

# options with which a block, made small, still has something to say
SMALL_OPTIONS = {
    **{name: {"reduction": 2} for name in ("se", "cbam", "bam", "qkv", "context")},
    "encoding": {"codewords": 3},
    "selfattention": {"heads": 2, "reach": 2},
    "local": {"kernel_size": 3, "heads": 2},
    "hybrid": {"channel": "conv", "spatial": "conv", "combine": "sum", "pool": None},
}


def randomise(module):
    """Every parameter and every running statistic gets a value that matters."""
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.normal_(0.2, 0.7)
        for key, buffer in module.named_buffers():
            if key.endswith("running_mean"):
                buffer.normal_()
            elif key.endswith("running_var"):
                buffer.uniform_(0.5, 2)
    return module


def network_with(block=None, **options):
    """A small network whose blocks say something, in eval mode."""
    network = fast_resnet(8)
    nn.init.normal_(network.stem[0].weight, 0, 0.3)
    return with_block(network, block, **options)


def with_block(network, block=None, **options):
    """The network in eval mode, with this block, made small, whose maps say something."""
    if block is not None:
        insert(network, block, **SMALL_OPTIONS.get(block, {}) | options)
        for placement in network.placements:
            for parameter in network.get_submodule(placement.path).parameters():
                nn.init.normal_(parameter, 0.1, 0.5)
    return network.eval()


def killed(start, times, seconds, begin_again):
    """Kill processes at random moments, `times` in all; yields after every one, killed or not.

    start: () → a running process that takes about `seconds`. begin_again: called when one was
    finished between two kills.
    """
    kills = 0
    for _ in range(20 * times):
        child = start()
        child.join(timeout=random.uniform(0.1, 0.6) * seconds)
        if child.is_alive():
            child.kill()
            child.join()
            kills += 1
        else:
            assert child.exitcode == 0
            begin_again()
        yield
        if kills == times:
            return
    raise AssertionError(f"only {kills} of {times} processes could be killed")


def hooks(network):
    """How many hooks are on the network's modules, or on all."""
    modules = list(network.modules())
    own = sum(len(m._forward_hooks) + len(m._forward_pre_hooks) for m in modules)
    return own + len(torch.nn.modules.module._global_forward_hooks)


def gradients(output, inputs):
    """Gradients of a fixed weighted sum of the output."""
    weights = torch.linspace(-1, 2, output.numel(), dtype=output.dtype).view(output.shape)
    return torch.autograd.grad((output * weights).sum(), inputs)


def assert_equal_to(reference, function, module, *inputs):
    """`function` and `reference`, both of `inputs`, give the same, and so do their gradients.

    The reference reads the parameters of `module` itself: gradients are of the same tensors.
    """
    leaves = [*inputs, *module.parameters()]
    output, expected = function(*inputs), reference(*inputs)
    torch.testing.assert_close(output, expected, **EXACT)
    grads, wanted = gradients(output, leaves), gradients(expected, leaves)
    for mine, other in zip(grads, wanted, strict=True):
        torch.testing.assert_close(mine, other, **EXACT)
    assert max(grad.abs().max() for grad in grads) > 1e-3
    return output


def leaf(*shape):
    """Random numbers in float64 that want a gradient."""
    return torch.randn(shape, dtype=torch.float64, requires_grad=True)


def fixed(record):
    """The part of a record that does not depend on the clock."""
    return {key: record[key] for key in ("name", "run", "dataset", "result")}
