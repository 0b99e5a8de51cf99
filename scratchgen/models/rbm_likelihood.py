"""log Z of restricted Boltzmann machines: exactly by enumeration, and between two estimates by annealing.

Salakhutdinov and Murray 2008, "On the Quantitative Analysis of Deep Belief Networks". Annealed importance sampling
leads chains from independent units, whose Z is known, to the machine through a sequence of densities in between. The
mean of its weights is Z_1 / Z_0 on average, so that the logarithm *under*estimates log Z and *over*estimates the
likelihood: a machine looks better than it is. The same way backwards, from samples of the machine, errs to the other
side (Grosse et al. 2015, "Sandwiching the marginal likelihood using bidirectional Monte Carlo"). Where the two meet,
they are right; reverse chains must start from samples of the machine, and are as good as those.

Everything is added up in float64, in NumPy; the chains themselves run wherever the machine lives.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.special import logsumexp

import scratchgen as sg
from scratchgen import Generator, Tensor

from .rbm import RBM

Array = NDArray[np.float64]

ENUMERABLE = 24  # units of the smaller layer up to which all states are gone through
ROWS = 1 << 12  # states at a time
LOG_2PI = math.log(2 * math.pi)


class Machine:
    """A machine's parameters without offsets, in float64 on the host; ``base``: biases of the units at beta 0."""

    def __init__(self, rbm: RBM, base: Tensor | None = None) -> None:
        self.weight, self.b, self.c = (t.numpy(force=True).astype(np.float64) for t in rbm.plain())
        self.gaussian = rbm.gaussian
        self.base = np.zeros_like(self.b) if base is None else base.numpy(force=True).astype(np.float64)

    def tempered(self, v: Array, betas: Sequence[float]) -> list[Array]:
        """-F(v) at each of ``betas``, (N,): see ``RBM.tempered``. The product with the weights is taken once."""
        logits, own, base = v @ self.weight.T + self.c, v @ self.b, v @ self.base
        quadratic = 0.5 * (v**2).sum(1) if self.gaussian else 0.0
        return [t * own + (1 - t) * base + softplus(t * logits).sum(1) - quadratic for t in betas]

    def log_visible_sum(self, bias: Array) -> Array:
        """log of the sum (or integral) over v of exp(v'bias), minus v'v / 2 for Gaussian units; over the last axis."""
        terms = 0.5 * (LOG_2PI + bias**2) if self.gaussian else softplus(bias)
        return terms.sum(-1)

    @property
    def log_z0(self) -> float:
        """log Z at beta 0: independent visible units, and hidden ones that are fair coins."""
        return float(self.log_visible_sum(self.base)) + len(self.c) * math.log(2)


def softplus(x: Array) -> Array:
    """log(1 + e^x)."""
    return np.maximum(x, 0) + np.log1p(np.exp(-abs(x)))


def log_likelihood(rbm: RBM, v: Tensor, log_z: float) -> Array:
    """log p(v) = -F(v) - log Z of each row, (N,)."""
    machine = Machine(rbm)
    return machine.tempered(v.numpy(force=True).astype(np.float64), [1.0])[0] - log_z


def exact_log_z(rbm: RBM) -> float:
    """log Z by going through all states of the smaller layer (of Gaussian machines: the hidden one).

    Raises ValueError if that has more than 24 units.
    """
    machine = Machine(rbm)
    over_hidden = machine.gaussian or rbm.hidden <= rbm.visible
    units = rbm.hidden if over_hidden else rbm.visible
    if units > ENUMERABLE:
        raise ValueError(f"exact_log_z: 2^{units} states are too many to enumerate; estimate it by annealing")
    parts = []
    for start in range(0, 1 << units, ROWS):
        states = _states(start, min(start + ROWS, 1 << units), units)
        if over_hidden:
            parts.append(logsumexp(states @ machine.c + machine.log_visible_sum(machine.b + states @ machine.weight)))
        else:
            parts.append(logsumexp(machine.tempered(states, [1.0])[0]))
    return float(logsumexp(parts))


def _states(first: int, last: int, units: int) -> Array:
    """The binary digits of first ... last - 1, (last - first, units)."""
    return ((np.arange(first, last)[:, None] >> np.arange(units)) & 1).astype(np.float64)


class Annealed(NamedTuple):
    """An estimate of log Z, its standard error, the chains' log-weights, and where the chains ended."""

    log_z: float
    se: float
    log_weights: Array  # (chains,)
    visible: Tensor  # (chains, visible)


def annealed(rbm: RBM, base: Tensor, generator: Generator, *, chains: int = 500, temperatures: int = 2000) -> Annealed:
    """Annealed importance sampling from independent units with biases ``base`` up to the machine.

    log w = sum_k f_k+1(v_k) - f_k(v_k), with f the log-density at the k-th temperature, v_k a sample for it.
    """
    machine, betas = Machine(rbm, base), np.linspace(0, 1, temperatures + 1)
    v = rbm.independent(chains, base, generator)
    v, log_weights = _along(rbm, machine, v, betas, generator)
    mean = float(logsumexp(log_weights)) - math.log(chains)
    return Annealed(machine.log_z0 + mean, _log_mean_se(log_weights), log_weights, v)


def reverse_annealed(
    rbm: RBM, base: Tensor, generator: Generator, samples: Tensor, *, temperatures: int = 2000
) -> Annealed:
    """The way back from ``samples`` of the machine: E[w] = Z_0 / Z, so this log Z errs upwards."""
    machine, betas = Machine(rbm, base), np.linspace(1, 0, temperatures + 1)
    v, log_weights = _along(rbm, machine, samples, betas, generator)
    mean = float(logsumexp(log_weights)) - math.log(len(samples))
    return Annealed(machine.log_z0 - mean, _log_mean_se(log_weights), log_weights, v)


def _along(rbm: RBM, machine: Machine, v: Tensor, betas: Array, generator: Generator) -> tuple[Tensor, Array]:
    """Lead chains through the temperatures; returns where they end and their log-weights."""
    log_weights = np.zeros(len(v))
    base = sg.as_tensor(machine.base.astype(np.float32), device=v.device)
    for k in range(len(betas) - 1):
        here, there = machine.tempered(v.numpy(force=True).astype(np.float64), betas[k : k + 2].tolist())
        log_weights += there - here
        if k < len(betas) - 2:
            beta = sg.full((len(v),), float(betas[k + 1]), device=v.device)
            v = rbm.gibbs(v, 1, generator, beta=beta, base=base).visible
    return v, log_weights


def _log_mean_se(log_weights: Array) -> float:
    """Standard error of the logarithm of the mean weight, by the delta method."""
    weights = np.exp(log_weights - log_weights.max())
    return float(weights.std(ddof=1) / math.sqrt(len(weights)) / weights.mean())


def samples_of(rbm: RBM, forward: Annealed, generator: Generator, steps: int = 1000) -> Tensor:
    """Samples of the machine: the ends of annealed chains drawn by their weights, and ``steps`` of Gibbs sampling.

    Where the hidden states can be enumerated, they are exact instead: h from p(h), then v from p(v|h).
    """
    if rbm.hidden <= 16:
        return exact_samples(rbm, len(forward.log_weights), generator)
    weights = np.exp(forward.log_weights - forward.log_weights.max()).cumsum()
    uniform = np.asarray(generator.uniform((len(weights),), np.float64))
    rows = np.searchsorted(weights, uniform * weights[-1], side="right").clip(0, len(weights) - 1)
    start = forward.visible[sg.as_tensor(rows, device=forward.visible.device)]
    return rbm.gibbs(start, steps, generator).visible


def exact_samples(rbm: RBM, count: int, generator: Generator) -> Tensor:
    """``count`` exact draws of v, by enumerating the hidden states."""
    if rbm.hidden > ENUMERABLE:
        raise ValueError(f"exact_samples: 2^{rbm.hidden} hidden states are too many to enumerate")
    machine, log_p = Machine(rbm), []
    for start in range(0, 1 << rbm.hidden, ROWS):
        h = _states(start, min(start + ROWS, 1 << rbm.hidden), rbm.hidden)
        log_p.append(h @ machine.c + machine.log_visible_sum(machine.b + h @ machine.weight))
    cumulative = np.exp(np.concatenate(log_p) - logsumexp(np.concatenate(log_p))).cumsum()
    uniform = np.asarray(generator.uniform((count,), np.float64))
    states = np.searchsorted(cumulative, uniform * cumulative[-1], side="right").clip(0, len(cumulative) - 1)
    h = (states[:, None] >> np.arange(rbm.hidden)) & 1
    bias = sg.as_tensor((machine.b + h @ machine.weight).astype(np.float32), device=rbm.weight.device)
    return rbm.independent(count, bias, generator)
