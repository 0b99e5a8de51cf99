"""Samplers of diffusion models: from noise to data, in as many steps as one likes.

A sampler is a generator of the states x it passes through, the last one the sample, so that progress can be shown and
film strips kept. It is given ``denoise(x, t)``, which says what x_0 and eps are (``models.diffusion.Prediction``), and
``times``, falling indices of the process; the step after the last of them leads to the data.

    ancestral        Ho et al. 2020, algorithm 2, respaced as in Nichol and Dhariwal 2021
    ddim             Song et al. 2021, "Denoising Diffusion Implicit Models", eq. 12 and 16
    dpm_solver       Lu et al. 2022, "DPM-Solver++", algorithm 2 (2M): second order, one evaluation a step
    heun             as in Karras et al. 2022, algorithm 1 without churn: second order, two evaluations a step
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import pairwise
from typing import Literal

import numpy as np

import scratchgen as sg
from scratchgen import Generator, Tensor

from .diffusion import Denoiser, Prediction, Process, Times, posterior

Variance = Literal["small", "large", "learned"]
DATA = -1  # the index of the data themselves


def spaced(process: Process, steps: int, start: int | None = None) -> list[int]:
    """``steps`` falling indices, evenly spaced, from ``start`` (by default the last) down to 0."""
    start = process.steps - 1 if start is None else start
    if not 1 <= steps <= start + 1:
        raise ValueError(f"spaced: between 1 and {start + 1} steps lead down from index {start}, got {steps}")
    return [int(t) for t in np.linspace(start, 0, steps).round()]


def _all(x: Tensor, t: int) -> Times:
    return np.full(len(x), t)


def _abar(process: Process, t: int) -> float:
    return 1.0 if t == DATA else float(process.abar[t])


def ancestral(
    process: Process,
    denoise: Denoiser,
    x: Tensor,
    times: list[int],
    generator: Generator,
    variance: Variance = "small",
) -> Iterator[Tensor]:
    """x_s ~ p(x_s | x_t) at each step; no noise at the last one.

    ``small``: the variance (7), exact if the data are one point; ``large``: beta, exact if they are N(0, I);
    ``learned``: between the two, as the network says.
    """
    for t, s in pairwise([*times, DATA]):
        x = _ancestral_step(process, denoise, x, t, s, generator, variance)
        yield x


def _ancestral_step(
    process: Process, denoise: Denoiser, x: Tensor, t: int, s: int, generator: Generator, variance: Variance
) -> Tensor:
    now, before = _all(x, t), _all(x, s)
    prediction = denoise(x, now)
    mean, log_small, log_large = posterior(process, x, prediction.x0, now, before)
    if s == DATA:
        return mean
    if variance == "learned":
        if prediction.share is None:
            raise ValueError("ancestral: variance='learned' needs a network with learned_variance")
        log_variance = prediction.share * log_large + (1 - prediction.share) * log_small
    else:
        log_variance = log_large if variance == "large" else log_small
    eps = sg.randn(x.shape, generator=generator, dtype=x.dtype, device=x.device)
    return mean + sg.exp(0.5 * log_variance) * eps


def ddim(
    process: Process, denoise: Denoiser, x: Tensor, times: list[int], generator: Generator, eta: float = 0.0
) -> Iterator[Tensor]:
    """Steps along the estimated noise; ``eta`` 0 draws none anew, 1 is ``ancestral`` with the small variance."""
    for t, s in pairwise([*times, DATA]):
        prediction = denoise(x, _all(x, t))
        abar, abar_s = _abar(process, t), _abar(process, s)
        sd = eta * np.sqrt((1 - abar_s) / (1 - abar) * (1 - abar / abar_s))
        along = np.sqrt(max(1 - abar_s - sd**2, 0.0))
        x = float(np.sqrt(abar_s)) * prediction.x0 + float(along) * prediction.eps
        if sd:
            x = x + float(sd) * sg.randn(x.shape, generator=generator, dtype=x.dtype, device=x.device)
        yield x


def ddim_inverse(process: Process, denoise: Denoiser, x: Tensor, times: list[int]) -> Iterator[Tensor]:
    """The way back of ``ddim`` with eta 0: from data to the noise that would give them; ``times`` fall here too."""
    for s, t in pairwise([DATA, *reversed(times)]):
        prediction = denoise(x, _all(x, max(s, 0)))  # the noise at t is not known yet: that at s stands for it
        abar = _abar(process, t)
        x = float(np.sqrt(abar)) * prediction.x0 + float(np.sqrt(1 - abar)) * prediction.eps
        yield x


def dpm_solver(process: Process, denoise: Denoiser, x: Tensor, times: list[int]) -> Iterator[Tensor]:
    """The second-order multistep solver of the probability flow in x_0; first order at both ends."""
    before: tuple[Tensor, float] | None = None  # x_0 of the step before, and that step's length
    for t, s in pairwise([*times, DATA]):
        x0 = denoise(x, _all(x, t)).x0
        abar, abar_s = _abar(process, t), _abar(process, s)
        if s == DATA:
            x = x0
        else:
            # lambda = log(signal / noise); h is its growth in this step
            h = 0.5 * float(np.log(abar_s / (1 - abar_s)) - np.log(abar / (1 - abar)))
            blend = x0
            if before is not None:
                ratio = before[1] / h
                blend = (1 + 0.5 / ratio) * x0 - (0.5 / ratio) * before[0]
            keep = float(np.sqrt((1 - abar_s) / (1 - abar)))
            x = keep * x - float(np.sqrt(abar_s) * np.expm1(-h)) * blend
            before = x0, h
        yield x


def heun(
    process: Process, denoise: Denoiser, x: Tensor, times: list[int], variable: Literal["angle", "sigma"] = "angle"
) -> Iterator[Tensor]:
    """Heun's method on the probability flow as a rotation: dx / d phi = v, with cos(phi) = sqrt(abar).

    In the angle (Salimans and Ho 2022, appendix D) both ends are tame, whatever the schedule. ``sigma`` is Karras'
    variable, d(x / sqrt(abar)) / d sigma = eps: a schedule that ends in pure noise begins at infinity there. The last
    step is one of DDIM.
    """
    for t, s in pairwise([*times, DATA]):
        now = denoise(x, _all(x, t))
        phi, phi_s = (float(np.arccos(np.sqrt(_abar(process, i)))) for i in (t, s))
        ahead = float(np.cos(phi_s)) * now.x0 + float(np.sin(phi_s)) * now.eps
        if s == DATA:
            x = ahead
        else:
            then = denoise(ahead, _all(x, s))
            if variable == "angle":
                x = x + 0.5 * (phi_s - phi) * (_velocity(now, phi) + _velocity(then, phi_s))
            else:
                shrunk = float(np.cos(phi_s) / np.cos(phi)) * x  # sigma is tan(phi)
                x = shrunk + float(0.5 * np.cos(phi_s) * (np.tan(phi_s) - np.tan(phi))) * (now.eps + then.eps)
        yield x


def _velocity(prediction: Prediction, phi: float) -> Tensor:
    return float(np.cos(phi)) * prediction.eps - float(np.sin(phi)) * prediction.x0


def inpaint(
    process: Process,
    denoise: Denoiser,
    x: Tensor,
    times: list[int],
    generator: Generator,
    known: Tensor,
    mask: Tensor,
    repeats: int = 5,
) -> Iterator[Tensor]:
    """``ancestral`` where ``mask`` is 0, and ``known`` where it is 1 (RePaint, Lugmayr et al. 2022, algorithm 1).

    Each step is taken ``repeats`` times, with a step forward in between, so that both regions come to agree.
    """
    for t, s in pairwise([*times, DATA]):
        for again in range(repeats if s != DATA else 1):
            guess = _ancestral_step(process, denoise, x, t, s, generator, "small")
            x = mask * _noised(process, known, s, generator) + (1 - mask) * guess
            if again < repeats - 1 and s != DATA:  # forward again, from s to t
                keep = _abar(process, t) / _abar(process, s)
                eps = sg.randn(x.shape, generator=generator, dtype=x.dtype, device=x.device)
                x = float(np.sqrt(keep)) * x + float(np.sqrt(1 - keep)) * eps
        yield x


def _noised(process: Process, x0: Tensor, s: int, generator: Generator) -> Tensor:
    """The data at index s of the process."""
    if s == DATA:
        return x0
    eps = sg.randn(x0.shape, generator=generator, dtype=x0.dtype, device=x0.device)
    return process.jump(x0, _all(x0, s), eps)


def last(states: Iterator[Tensor]) -> Tensor:
    """Run a sampler to its end; returns the sample."""
    x = None
    for x in states:  # noqa: B007 - only the last one is wanted
        pass
    if x is None:
        raise ValueError("last: the sampler had no steps")
    return x
