"""Couplings by monotonic splines, for densities with many modes.

Durkan et al. 2019, "Neural Spline Flows" (arXiv:1906.04032); the equation numbers are theirs. An affine coupling can
only stretch and shift: to tear one Gaussian into many modes takes a long chain of them. Here each free number goes
through a monotonic function of its own instead, made of rational-quadratic pieces whose inverse is the root of a
quadratic. Everything else is as in ``realnvp``.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

import scratchgen as sg
from scratchgen import Tensor, nn
from scratchgen.nn import functional as F

from .flow import ActNorm, Chain, Flow, joined, sum_samples
from .realnvp import DenseNetwork, checkerboard

LEAST = 1e-4  # width and height of a bin, as shares of all; and the slope at a knot


class Bins(NamedTuple):
    """The bin that each number falls into, all of the shape of the numbers: corner, size, slopes at both ends."""

    x: Tensor
    y: Tensor
    width: Tensor
    height: Tensor
    left: Tensor
    right: Tensor


class SplineCoupling(Flow):
    """Numbers (N, D) that the mask keeps choose the splines that all others go through.

    ``network``: to D (3 ``bins`` - 1) numbers. The splines map [-bound, bound] to itself; outside they are the
    identity.
    """

    mask: Tensor

    def __init__(self, mask: Tensor, network: nn.Module, bins: int, bound: float = 4.0) -> None:
        super().__init__()
        self.register_buffer("mask", mask, persistent=False)
        self.network = network
        self.bins = bins
        self.bound = bound

    def forward(self, x: Tensor, condition: Tensor | None = None) -> tuple[Tensor, Tensor]:
        acts = self._acts(x)
        b = self._bins(x, condition, inverse=False)
        xi = sg.where(acts, (x - b.x) / b.width, 0.5)
        slope = b.height / b.width
        both = xi * (1 - xi)
        below = slope + (b.left + b.right - 2 * slope) * both
        y = b.y + b.height * (slope * xi**2 + b.left * both) / below  # (4)
        above = b.right * xi**2 + 2 * slope * both + b.left * (1 - xi) ** 2
        log_slope = 2 * sg.log(slope / below) + sg.log(above)  # of (5)
        return sg.where(acts, y, x), sum_samples(sg.where(acts, log_slope, 0.0))

    def inverse(self, z: Tensor, condition: Tensor | None = None) -> Tensor:
        acts = self._acts(z)
        b = self._bins(z, condition, inverse=True)
        up = sg.where(acts, z - b.y, 0.0)
        slope = b.height / b.width
        bend = b.left + b.right - 2 * slope
        p = b.height * (slope - b.left) + up * bend  # (6-8)
        q = b.height * b.left - up * bend
        r = -slope * up
        root = sg.sqrt((q**2 - 4 * p * r).clamp(min=0.0))
        return sg.where(acts, b.x + b.width * (2 * r / (-q - root)), z)

    def _acts(self, x: Tensor) -> Tensor:
        return (self.mask == 0) & (x.abs() < self.bound)

    def _bins(self, x: Tensor, condition: Tensor | None, inverse: bool) -> Bins:
        """The bins that ``x`` falls into, by its own axis or, for the inverse, by the other one."""
        k = self.bins
        raw = self.network(joined(self.mask * x, condition)).reshape(*x.shape, 3 * k - 1)
        xs, ys = self._knots(raw[..., :k]), self._knots(raw[..., k : 2 * k])
        # softplus(0.5413) = 1: a network of zeros gives slopes of 1, and with equal bins the identity.
        slopes = F.pad(LEAST + F.softplus(raw[..., 2 * k :] + 0.5413248546), (1, 1), value=1.0)
        inner = (ys if inverse else xs)[..., 1:-1]
        at = (x.unsqueeze(-1) >= inner).to(sg.int64).sum(-1, keepdim=True)

        def pick(values: Tensor, index: Tensor) -> Tensor:
            return values.gather(-1, index).squeeze(-1)

        x0, y0 = pick(xs, at), pick(ys, at)
        width, height = pick(xs, at + 1) - x0, pick(ys, at + 1) - y0
        return Bins(x0, y0, width, height, pick(slopes, at), pick(slopes, at + 1))

    def _knots(self, raw: Tensor) -> Tensor:
        """Bounds of the bins, ``bins`` + 1 rising numbers from -bound to bound."""
        shares = LEAST + (1 - LEAST * self.bins) * F.softmax(raw, dim=-1)
        inner = shares[..., :-1].cumsum(-1) * (2 * self.bound) - self.bound
        return F.pad(F.pad(inner, (1, 0), value=-self.bound), (0, 1), value=self.bound)


def spline_flow(shape: Sequence[int], couplings: int, widths: Sequence[int], bins: int, bound: float = 4.0) -> Chain:
    """Couplings for points (D,), an ``ActNorm`` before the first; masks keep every other coordinate in turn."""
    dims = int(np.prod(shape))
    layers: list[Flow] = [ActNorm(dims)]
    for i in range(couplings):
        network = DenseNetwork(dims, dims * (3 * bins - 1), widths)
        layers.append(SplineCoupling(checkerboard(shape, i % 2 == 1), network, bins, bound))
    return Chain(*layers)
