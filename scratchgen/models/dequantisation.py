"""Densities of images whose pixels are whole grey levels, by flows, whose densities are of real numbers.

A density can be made to grow without bound on the whole numbers themselves, so noise u in [0, 1) is added to the levels
k in 0 ... levels - 1, and the density of k + u bounds the probability of k (Theis et al. 2016; Ho et al. 2019,
"Flow++", arXiv:1902.00275, eq. 5-6):

    log P(k) = log int p(k + u) du >= E_q(u|k)[log p(k + u) - log q(u|k)].

With uniform noise q is 1; a learned q (variational dequantisation) makes the bound tighter, and so do more draws
(``importance_bound``). Densities are in units of a grey level, so that the bound is a log-probability, in nats.
"""

from __future__ import annotations

import math

import scratchgen as sg
from scratchgen import Generator, Tensor, nn

from .flow import Flow, FlowDensity, standard_log_prob


class UniformNoise(nn.Module):
    """q(u|k) = 1. Called with levels k and a generator; returns u, of the shape of k, and log q(u|k), (N,)."""

    def forward(self, k: Tensor, generator: Generator) -> tuple[Tensor, Tensor]:
        u = sg.rand(k.shape, generator=generator, dtype=k.dtype, device=k.device)
        return u, sg.zeros(len(k), dtype=k.dtype, device=k.device)


class VariationalNoise(nn.Module):
    """q(u|k) by a flow of its own: eps ~ N(0, I) through ``flow``, told the image, and squashed to (0, 1).

    By the normal distribution function where Flow++ (section 3.1) has a sigmoid: a flow that does nothing yet then
    gives uniform noise, and learning starts from there. ``flow`` maps (N, C, H, W) to as many numbers.
    """

    def __init__(self, flow: Flow, levels: int) -> None:
        super().__init__()
        self.flow = flow
        self.levels = levels

    def forward(self, k: Tensor, generator: Generator) -> tuple[Tensor, Tensor]:
        eps = sg.randn(k.shape, generator=generator, dtype=k.dtype, device=k.device)
        h, log_det = self.flow(eps, (k + 0.5) * (2 / self.levels) - 1)
        u = (0.5 + 0.5 * sg.erf(h * math.sqrt(0.5))).reshape(k.shape)
        return u, standard_log_prob(eps) - log_det - standard_log_prob(h)  # the last is the squashing's slope


class Dequantised(nn.Module):
    """The model of whole images: a density of k + u, (N, C, H, W) in [0, levels], and the noise."""

    def __init__(self, density: FlowDensity, noise: UniformNoise | VariationalNoise) -> None:
        super().__init__()
        self.density = density
        self.noise = noise

    def bound(self, k: Tensor, generator: Generator, label: Tensor | None = None) -> Tensor:
        """A bound of log P(k) of each image, (N,), by one draw of the noise. ``k``: the levels, as floats."""
        u, log_q = self.noise(k, generator)
        return self.density.log_prob(k + u, label) - log_q

    def importance_bound(self, k: Tensor, count: int, generator: Generator, label: Tensor | None = None) -> Tensor:
        """log 1/K sum_i p(k + u_i) / q(u_i|k) with K = ``count`` draws (Burda et al. 2016): (N,).

        Grows with K towards log P(k); for K = 1 it is ``bound``.
        """
        draws = [self.bound(k, generator, label) for _ in range(count)]
        return sg.stack(draws).logsumexp(0) - math.log(count)


def reduced_levels(levels: int, bits: int) -> int:
    """How many levels are left when pixels are cut to ``bits`` (Glow trains on 5 of 8): all of them for 0."""
    if not 0 <= bits <= 8:
        raise ValueError(f"bits={bits}: pixels have 1 to 8 bits; 0 keeps them as they are")
    return min(levels, 1 << bits) if bits else levels
