"""What the tests of the blocks compare with, and how."""

import copy
import random

import torch
from torch import nn

from attention.blocks import Gate
from attention.networks import fast_resnet, insert

EXACT = dict(rtol=1e-9, atol=1e-9)

# options with which a block, made small, still has something to say
SMALL_OPTIONS = {
    **{name: {"reduction": 2} for name in ("se", "cbam", "bam", "qkv", "context")},
    "coordinate": {"reduction": 2},
    "ela": {"kernel_size": 3, "norm_groups": 2},
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


def gate_maps(block, x):
    """The output of the block and the maps of its gates, by hooks of the test's own."""
    maps = []
    handles = [
        module.register_forward_hook(lambda module, inputs, output: maps.append(output))
        for module in block.modules()
        if isinstance(module, Gate)
    ]
    output = block(x)
    for handle in handles:
        handle.remove()
    return output, maps


def assert_same_as_module(block, reference, shape, views):
    """`views`: for each parameter of the block, how the reference's parameter is seen as it."""
    theirs = [p for p in reference.parameters() if p.requires_grad]
    ours = list(block.parameters())
    assert len(ours) == len(theirs) == len(views)
    with torch.no_grad():
        for mine, other, view in zip(ours, theirs, views, strict=True):
            mine.copy_(view(other))
    x = torch.randn(shape, dtype=torch.float64, requires_grad=True)
    output, expected = block(x), reference(x)
    torch.testing.assert_close(output, expected, **EXACT)
    grads, wanted = gradients(output, [x, *ours]), gradients(expected, [x, *theirs])
    torch.testing.assert_close(grads[0], wanted[0], **EXACT)
    for mine, other, view in zip(grads[1:], wanted[1:], views, strict=True):
        torch.testing.assert_close(mine, view(other), **EXACT)


def same(tensor):
    return tensor


def linear(tensor):
    """A 1×1 convolution's weight as a linear layer's; a bias as it is."""
    return tensor.flatten(1) if tensor.ndim == 4 else tensor


def convolve(x, weight, bias=None, dilation=1):
    """A convolution with zero padding that keeps the size, one kernel position at a time."""
    (n, _, height, width), size = x.shape, weight.shape[-1]
    reach = size // 2 * dilation
    padded = x.new_zeros(n, x.shape[1], height + 2 * reach, width + 2 * reach)
    padded[:, :, reach : reach + height, reach : reach + width] = x
    total = 0
    for i in range(size):
        for j in range(size):
            row, column = i * dilation, j * dilation
            window = padded[:, :, row : row + height, column : column + width]
            total = total + torch.einsum("oc,nchw->nohw", weight[:, :, i, j], window)
    return total if bias is None else total + bias.view(1, -1, 1, 1)


def normalise(x, weight, bias, mean, var, training):
    """BatchNorm over all dimensions but the channels'."""
    shape = (1, -1) + (1,) * (x.ndim - 2)
    dims = (0, *range(2, x.ndim))
    if training:
        mean = x.mean(dims)
        var = ((x - mean.view(shape)) ** 2).mean(dims)
    x = (x - mean.view(shape)) / (var.view(shape) + 1e-5).sqrt()
    return x * weight.view(shape) + bias.view(shape)


def sigmoid(x):
    return 1 / (1 + torch.exp(-x))


def relu(x):
    return x.clamp(min=0)


def average(x, dims):
    return x.sum(dims) / (x.numel() / x.sum(dims).numel())


def maximum(x):
    """The largest value over the last dimension, by comparing one after another."""
    largest = x[..., 0]
    for value in x.unbind(-1)[1:]:
        largest = torch.where(value > largest, value, largest)
    return largest


def norm_entries(name, width):
    return [
        *((f"{name}.{key}", (width,)) for key in ("weight", "bias", "running_mean", "running_var")),
        (f"{name}.num_batches_tracked", ()),
    ]


def assert_holds_published(block, published):
    """The block's tensors have the published shapes, in the published order."""
    ours = [tuple(tensor.shape) for tensor in block.state_dict().values()]
    assert ours == [shape for _, shape in published]


def assert_takes_published(block, published, release):
    """Random tensors under the published names, loaded by order, give the release's output."""
    tensors = []
    for key, shape in published:
        tensor = 0.3 + torch.randn(shape, dtype=torch.float64)
        if key.endswith("running_var"):
            tensor = tensor.abs() + 0.5
        tensors.append(torch.tensor(7) if key.endswith("tracked") else tensor)
    block = block.double().eval()
    block.load_state_dict(dict(zip(block.state_dict(), tensors, strict=True)))
    x = torch.randn(2, 64, 6, 5, dtype=torch.float64)
    output = block(x)
    torch.testing.assert_close(output, release(x, tensors, False), **EXACT)
    assert not torch.allclose(output, x, atol=0.1)


def assert_trains_as(block, reference, shape, training, statistics):
    """Output and gradients are those of the reference, of a list of the block's tensors.

    statistics: the reference updates the running statistics that it is given; they are compared.
    """
    block = randomise(block).double().train(training)
    tensors = [tensor.clone() for tensor in block.state_dict().values()]
    learned = dict(block.named_parameters())
    theirs = [
        tensor.requires_grad_()
        for tensor, key in zip(tensors, block.state_dict(), strict=True)
        if key in learned
    ]
    x = leaf(*shape)
    output, expected = block(x), reference(x, tensors, training)
    torch.testing.assert_close(output, expected, **EXACT)
    grads = gradients(output, [x, *block.parameters()])
    assert any(grad.abs().max() > 1e-3 for grad in grads[1:])
    for mine, wanted in zip(grads, gradients(expected, [x, *theirs]), strict=True):
        torch.testing.assert_close(mine, wanted, **EXACT)
    if statistics:
        for (key, mine), wanted in zip(block.state_dict().items(), tensors, strict=True):
            if "running" in key:
                torch.testing.assert_close(mine, wanted, **EXACT)


def assert_close_in(dtype, block, x):
    """A block in another precision gives that precision, and about the same numbers."""
    output = copy.deepcopy(block).to(dtype)(x.to(dtype))
    assert output.dtype == dtype
    torch.testing.assert_close(output.float(), block(x), rtol=0.05, atol=0.05)
