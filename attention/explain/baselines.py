"""Maps that know little or nothing: what any explanation has to beat."""

import torch

from attention.explain.checks import expect_eval, targets


def random_maps(images, seed=0):
    """(N, H, W) uniform noise in [0, 1): knows nothing."""
    generator = torch.Generator().manual_seed(seed)
    return torch.rand(len(images), *images.shape[2:], generator=generator)


def centred_gaussian(images, width=0.25):
    """(N, H, W): a bell in the middle of every image; knows only that photographers aim.

    width: its standard deviation, as a share of the image's sides.
    """
    sides = (torch.linspace(-0.5, 0.5, length) / width for length in images.shape[2:])
    y, x = (torch.exp(-0.5 * side**2) for side in sides)
    return (y[:, None] * x).expand(len(images), -1, -1).clone()


def gradient_magnitude(network, images, target=None):
    """(N, H, W): the largest |∂y_target / ∂pixel| over the three colours.

    Simonyan, Vedaldi, Zisserman, "Deep Inside Convolutional Networks", 2014, section 3.1.
    network, images, target: as in `grad_cam`.
    """
    expect_eval(network)
    with torch.enable_grad():
        images = images.detach().requires_grad_()
        logits = network(images)
        scores = logits.gather(1, targets(target, logits)[:, None])
        [gradient] = torch.autograd.grad(scores.sum(), images)
    return gradient.abs().amax(1).float().cpu()
