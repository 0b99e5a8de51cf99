"""Wasserstein GANs: the critic, kept Lipschitz by clipping or by a gradient penalty.

Arjovsky et al. 2017, "Wasserstein GAN" (arXiv:1701.07875). The earth mover's distance between the data p and the
generator's q is, by Kantorovich and Rubinstein,

    W(p, q) = sup over 1-Lipschitz f of  E_p [f(x)] - E_q [f(x)]                                             (2)

A critic f stands for the supremum: no sigmoid, no logarithm. ``clip_`` bounds its weights, which makes it K-Lipschitz
for some K that nobody knows, so its loss is W only up to a factor. The gradient penalty (Gulrajani et al. 2017,
"Improved Training of Wasserstein GANs", eq. 3) asks for slope 1 where a transport plan might pass, and replaces the
clipping. It is differentiated by the critic's weights, so it takes derivatives of second order.

Samples are (N, ...), critics' values (N,).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable

import scratchgen as sg
from scratchgen import Generator, Tensor
from scratchgen.changes import mark_changed
from scratchgen.nn import functional as F

Critic = Callable[[Tensor], Tensor]


def critic_loss(real: Tensor, fake: Tensor) -> Tensor:
    """Minus the estimate of W(p, q): what the critic minimises (algorithm 1, line 5)."""
    return fake.mean() - real.mean()


def generator_loss(fake: Tensor) -> Tensor:
    """What the generator minimises (algorithm 1, line 10)."""
    return -fake.mean()


def clip_(parameters: Iterable[Tensor], bound: float) -> None:
    """Clamp every number of every parameter to [-bound, bound], in place; right after each step of the critic."""
    for p in parameters:
        p.device.xp.clip(p.array, -bound, bound, out=p.array)
        mark_changed(p.array)


def critic_steps(step: int, usual: int = 5) -> int:
    """How many steps the critic takes before the generator's step ``step`` (from 0): the authors' own schedule.

    100 for each of the first 25 and for every 500th, so that the critic is near its optimum when it matters.
    """
    return 100 if step < 25 or step % 500 == 0 else usual


def mixed(real: Tensor, fake: Tensor, generator: Generator) -> Tensor:
    """A random point on the line between each real and generated sample: one uniform number for each pair."""
    shape = (len(real), *[1] * (real.ndim - 1))
    t = sg.rand(shape, generator=generator, dtype=real.dtype, device=real.device)
    return t * real + (1 - t) * fake


def slopes(critic: Critic, x: Tensor) -> Tensor:
    """||df/dx|| of every sample (N,), differentiable by the critic's weights.

    The critic must treat samples one by one (no batch norm): then the gradient of the sum is each sample's own.
    """
    x = x.detach().requires_grad_()
    (g,) = sg.grad(critic(x).sum(), x, create_graph=True)
    return (g.flatten(1) ** 2).sum(1).clamp(min=1e-24).sqrt()  # the root has no slope at 0


def gradient_penalty(
    critic: Critic, real: Tensor, fake: Tensor, generator: Generator, one_sided: bool = False
) -> Tensor:
    """E (||df/dx|| - 1)^2 on random points between real and generated samples, a scalar (eq. 3, without lambda).

    ``one_sided``: only slopes above 1 are punished (section 4 of the paper: works about as well).
    """
    excess = slopes(critic, mixed(real.detach(), fake.detach(), generator)) - 1
    return ((F.relu(excess) if one_sided else excess) ** 2).mean()


def r1_penalty(critic: Critic, real: Tensor) -> Tensor:
    """E ||df/dx||^2 / 2 on real samples, a scalar: the alternative of Mescheder et al. 2018, eq. 9."""
    return 0.5 * (slopes(critic, real) ** 2).mean()
