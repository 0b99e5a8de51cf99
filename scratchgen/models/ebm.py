"""Deep energy-based models: a network's output is an energy, and low energy is high probability.

    p(x) = exp(-E(x)) / Z                                                                                        (1)
    -d log p(x) / d theta = dE(x) / d theta - E_p[dE(x') / d theta]                                              (2)

Z is never known, and (2) does not need it: training lowers the energy of data and raises that of the model's own
samples, which come from Langevin dynamics (Du and Mordatch 2019, "Implicit Generation and Modeling with Energy-Based
Models"; Nijkamp et al. 2019). A buffer keeps the chains from one step to the next (Tieleman 2008).

    x' = x - step grad E(x) + noise xi,       xi ~ N(0, I)                                                        (3)

Only with noise^2 = 2 step does (3) sample (1), as step goes to 0, and with a Metropolis test exactly at any step. Less
noise samples p(x)^(1/T) of temperature T = noise^2 / (2 step): image models are commonly trained at a T far below 1,
and their energies are those of a tempered density. That is a choice that ``Langevin`` makes one state.

Denoising score matching (Vincent 2011) needs no samples: it fits grad E to noisy data, at one level of noise.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import count, pairwise
from typing import Any

import numpy as np

import scratchgen as sg
from scratchgen import Generator, Tensor, nn
from scratchgen.nn import functional as F

from .blocks import halved

Energy = Callable[[Tensor], Tensor]  # (N, ...) -> (N,)


# --- networks


def dense_energy(
    shape: Sequence[int], widths: Sequence[int], spectral: bool = False, frequency: float = 0.0
) -> nn.Module:
    """Fully connected layers with SiLU from samples of ``shape`` to an energy, (N, ...) -> (N,).

    SiLU, because samples follow the energy's slope, which of ReLU networks is constant in pieces. ``spectral``: every
    weight divided by its largest singular value (Miyato et al. 2018), which bounds the slope. ``frequency``: show the
    first layer waves of about that many radians a unit beside the sample (``Waves``); 0: none.
    """
    inputs = math.prod(shape)
    layers: list[nn.Module] = [nn.Flatten()]
    if frequency:
        layers.append(Waves(inputs, widths[0] // 2, frequency))
        inputs += 2 * (widths[0] // 2)
    sizes = (inputs, *widths)
    layers += [_Dense(fan_in, width) for fan_in, width in pairwise(sizes)]
    return _finished([*layers, nn.Linear(sizes[-1], 1)], spectral)


class Waves(nn.Module):
    """x, sin(2 pi Bx) and cos(2 pi Bx) of a fixed random B: (N, D) -> (N, D + 2 count).

    Layers on plain coordinates learn smooth functions long before sharp ones; on these they learn both (Tancik et al.
    2020, "Fourier Features Let Networks Learn High Frequency Functions in Low Dimensional Domains"). ``frequency``
    is the standard deviation of 2 pi B, in radians a unit of x.
    """

    directions: Tensor

    def __init__(self, inputs: int, count: int, frequency: float) -> None:
        super().__init__()
        self.register_buffer("directions", frequency * sg.randn(inputs, count))

    def forward(self, x: Tensor) -> Tensor:
        phases = x @ self.directions
        return sg.cat([x, sg.sin(phases), sg.cos(phases)], 1)


class _Dense(nn.Linear):
    """A fully connected layer and its SiLU in one op."""

    def forward(self, x: Tensor) -> Tensor:
        return F.linear_activation(x, self.weight, self.bias, activation="silu")


def convolutional_energy(shape: Sequence[int], width: int, spectral: bool = False) -> nn.Module:
    """Convolutions with SiLU and without any norm from images (C, H, W) to an energy, (N, C, H, W) -> (N,).

    3x3, then twice 4x4 of stride 2 and a residual block, ``width`` to ``4 width`` channels, and a dense layer. A norm
    over the batch would let a sample's energy depend on the others.
    """
    inner = halved(shape, 2, "convolutional_energy")
    layers: list[nn.Module] = [nn.Conv2d(shape[0], width, 3, padding=1), nn.SiLU()]
    for channels in (width, 2 * width):
        layers += [nn.Conv2d(channels, 2 * channels, 4, stride=2, padding=1), nn.SiLU(), _Residual(2 * channels)]
    layers += [nn.Flatten(), nn.Linear(4 * width * math.prod(inner), 1)]
    return _finished(layers, spectral)


class _Residual(nn.Module):
    """x + conv(silu(conv(x))), and a SiLU after it."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.first = nn.Conv2d(channels, channels, 3, padding=1)
        self.second = nn.Conv2d(channels, channels, 3, padding=1)
        self.activation = nn.SiLU()

    def forward(self, x: Tensor) -> Tensor:
        return self.activation(x + self.second(self.activation(self.first(x))))


class Tilted(nn.Module):
    """``energy`` and a bowl, E(x) + pull / 2 |x - centre|^2: a Gaussian's density times what the network makes of it.

    Xie et al. 2016, "A Theory of Generative ConvNet", which calls the Gaussian a reference. A network's slope vanishes
    far from the data, where its energies all become as high as their weight lets them, and chains that start there
    never leave. The bowl's does not.
    """

    centre: Tensor

    def __init__(self, energy: nn.Module, centre: Tensor, pull: float) -> None:
        super().__init__()
        self.energy, self.pull = energy, pull
        self.register_buffer("centre", centre)

    def forward(self, x: Tensor) -> Tensor:
        return self.energy(x) + 0.5 * self.pull * ((x - self.centre) ** 2).flatten(1).sum(1)


def _finished(layers: Sequence[nn.Module], spectral: bool) -> nn.Module:
    model = nn.Sequential(*layers, nn.Flatten(0))
    for layer in model.modules():
        if isinstance(layer, (nn.Linear, nn.Conv2d)):
            fan_in = math.prod(layer.weight.shape[1:])
            nn.init.normal_(layer.weight, 0.0, fan_in**-0.5)
            if layer.bias is not None:
                nn.init.zeros_(layer.bias)
            if spectral:
                nn.utils.spectral_norm(layer)
    return model


# --- sampling


def slope(energy: Energy, x: Tensor) -> tuple[Tensor, Tensor]:
    """E(x), (N,), and its gradient in x, also where graphs are switched off.

    The gradient is asked for x alone: nothing is added to the parameters' ``grad``, where it would end up in the next
    update.
    """
    with sg.enable_grad():
        x = x.detach().requires_grad_()
        value = energy(x)
        (gradient,) = sg.grad(value.sum(), x)
    return value.detach(), gradient.detach()


@dataclass(frozen=True)
class Langevin:
    """Langevin dynamics (3). Raises ValueError for settings that contradict one another.

    step        of the gradient
    noise       standard deviation; None: sqrt(2 step), with which the model itself is sampled
    clip        largest gradient of a number, or None; with it (3) holds only where it does not bite
    bounds      lowest and highest value of a number, at which chains are stopped (with ``metropolis``: turned back)
    metropolis  accept or refuse each proposal, so that (1) is sampled exactly (Roberts and Tweedie 1996)
    widest      with ``metropolis``: every step of every chain has a size of its own, log-uniform from ``step`` to this
    jumps       with ``metropolis``: share of the steps that propose the difference of two other chains in place of (3)
    """

    step: float
    noise: float | None = None
    clip: float | None = None
    bounds: tuple[float, float] | None = None
    metropolis: bool = False
    widest: float | None = None
    jumps: float = 0.0

    def __post_init__(self) -> None:
        if self.step <= 0 or (self.noise is not None and self.noise < 0):
            raise ValueError(f"Langevin: step must be positive and noise not negative, got {self.step}, {self.noise}")
        if self.metropolis and (self.noise is not None or self.clip is not None):
            raise ValueError("Langevin: metropolis goes with noise=None, which is sqrt(2 step), and without a clip")
        if self.widest is not None and not (self.metropolis and self.widest >= self.step):
            raise ValueError(f"Langevin: widest={self.widest} goes with metropolis and is at least step={self.step}")
        if not (0 <= self.jumps <= 1 and (self.metropolis or not self.jumps)):
            raise ValueError(f"Langevin: jumps={self.jumps} is a share from 0 to 1, and goes with metropolis")

    @property
    def deviation(self) -> float:
        """Standard deviation of the noise."""
        return math.sqrt(2 * self.step) if self.noise is None else self.noise

    @property
    def temperature(self) -> float:
        """T of the density p(x)^(1/T) that small steps sample; 1 is the model's own."""
        return self.deviation**2 / (2 * self.step)

    def states(self, energy: Energy, x: Tensor, generator: Generator) -> Iterator[Tensor]:
        """The states after each step, without end; no graph reaches from one to the next."""
        moves = self._exact(energy, x, generator) if self.metropolis else self._plain(energy, x, generator)
        while True:
            with sg.no_grad():
                state = next(moves)
            yield state

    def run(self, energy: Energy, x: Tensor, steps: int, generator: Generator) -> Tensor:
        """The state after ``steps`` steps from ``x``."""
        states = self.states(energy, x, generator)
        for _ in range(steps):
            x = next(states)
        return x

    def _plain(self, energy: Energy, x: Tensor, generator: Generator) -> Iterator[Tensor]:
        while True:
            _, gradient = slope(energy, x)
            if self.clip is not None:
                gradient = gradient.clamp(-self.clip, self.clip)
            x = x - self.step * gradient + self.deviation * _normal(x, generator)
            if self.bounds is not None:
                x = x.clamp(*self.bounds)
            yield x

    def _exact(self, energy: Energy, x: Tensor, generator: Generator) -> Iterator[Tensor]:
        """Accept x' with probability min(1, p(x') q(x | x') / p(x) q(x' | x)), q the density of the proposal.

        The drift may be any function of the state. This one is no longer than the noise's standard deviation, or a
        chain on a steep slope would only ever propose to leap across the valley, and stay ("MALTA" in the paper).
        """
        value, gradient = slope(energy, x)
        for turn in count():
            steps = self._steps(x, generator)
            deviation = sg.sqrt(2 * steps)
            noise = _normal(x, generator)
            move = _drift(gradient, steps, deviation) + deviation * noise
            if self.jumps and len(x) > 1:
                jumping, jump = self._jump(x, turn % 2, generator)
                move = sg.where(jumping, jump, move)
            there = x + move
            value_there, gradient_there = slope(energy, there)
            noise_back = (move + _drift(gradient_there, steps, deviation)) / deviation  # that would lead back
            change = noise**2 - noise_back**2
            if self.jumps and len(x) > 1:  # of which each is as likely as its reverse
                change = sg.where(jumping, 0.0, change)
            change = value - value_there + 0.5 * change.flatten(1).sum(1)
            accepted = sg.log(1 - sg.rand((len(x),), generator=generator, device=x.device)) < change  # of a NaN: no
            if self.bounds is not None:
                inside = (there >= self.bounds[0]) & (there <= self.bounds[1])
                accepted = accepted & inside.flatten(1).all(1)
            rows = accepted.reshape(steps.shape)
            x, gradient = sg.where(rows, there, x), sg.where(rows, gradient_there, gradient)
            value = sg.where(accepted, value_there, value)
            yield x

    def _jump(self, x: Tensor, half: int, generator: Generator) -> tuple[Tensor, Tensor]:
        """Which chains jump, and x_i - x_j by which each would: a way from mode to mode that no slope shows.

        Only every other chain may jump, by the difference of two of those that do not, so that the proposal does not
        depend on what it moves (ter Braak 2006, "A Markov Chain Monte Carlo version of the genetic algorithm
        Differential Evolution", with gamma = 1; in halves as Foreman-Mackey et al. 2013 do it).
        """
        shape, others = (len(x), *[1] * (x.ndim - 1)), x[half::2]
        drawn = sg.randint(0, len(others), (2, len(x)), generator=generator, device=x.device)
        chosen = sg.rand(shape, generator=generator, device=x.device) < self.jumps
        mine = sg.arange(len(x), device=x.device).reshape(shape) % 2 != half
        return chosen & mine, others[drawn[0]] - others[drawn[1]]

    def _steps(self, x: Tensor, generator: Generator) -> Tensor:
        """The size of each chain's next step, in a shape that broadcasts over ``x``."""
        shape = (len(x), *[1] * (x.ndim - 1))
        if self.widest is None:
            return sg.full(shape, self.step, dtype=x.dtype, device=x.device)
        uniform = sg.rand(shape, generator=generator, dtype=x.dtype, device=x.device)
        return self.step * sg.exp(math.log(self.widest / self.step) * uniform)


def _normal(x: Tensor, generator: Generator) -> Tensor:
    return sg.randn(x.shape, generator=generator, dtype=x.dtype, device=x.device)


def _drift(gradient: Tensor, steps: Tensor, longest: Tensor) -> Tensor:
    """``-steps * gradient``, in no number longer than ``longest``."""
    return sg.maximum(sg.minimum(-steps * gradient, longest), -longest)


class ReplayBuffer:
    """The ends of past chains, from which the next ones start.

    ``states`` (size, ...); ``fresh(count, generator)`` draws new starts. A share of chains starts anew each time, so
    that the energy is also shaped on the way from there to the data, which samples from scratch have to go.
    """

    def __init__(self, size: int, fresh: Callable[[int, Generator], Tensor], generator: Generator) -> None:
        self.fresh = fresh
        self.states = fresh(size, generator)

    def take(self, count: int, restarts: float, generator: Generator) -> tuple[Tensor, Tensor]:
        """``count`` rows and the states to start from, of which each is a fresh one with probability ``restarts``."""
        device = self.states.device
        rows = sg.randint(0, len(self.states), (count,), generator=generator, device=device)
        again = sg.rand((count,), generator=generator, device=device) < restarts
        mask = again.reshape(-1, *[1] * (self.states.ndim - 1))
        return rows, sg.where(mask, self.fresh(count, generator), self.states[rows])

    def put(self, rows: Tensor, states: Tensor) -> None:
        """Keep where the chains of ``rows`` have come to."""
        with sg.no_grad():
            self.states[rows] = states

    def state_dict(self) -> dict[str, Any]:
        return {"states": self.states.clone()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        saved = state["states"]
        if tuple(saved.shape) != self.states.shape:
            raise ValueError(f"ReplayBuffer: expected states {list(self.states.shape)}, got {list(saved.shape)}")
        with sg.no_grad():
            self.states.copy_(saved if isinstance(saved, Tensor) else sg.as_tensor(saved, device=self.states.device))


# --- objectives


def contrastive_loss(real: Tensor, fake: Tensor, l2: float = 0.0) -> Tensor:
    """Mean energy of data less that of samples: a scalar with the gradient (2). Its own value says nothing.

    ``l2`` weighs the mean squares of both, which keep the energies, otherwise known only up to a constant, near zero
    (Du and Mordatch 2019, section 3.3).
    """
    loss = real.mean() - fake.mean()
    return loss + l2 * ((real**2).mean() + (fake**2).mean()) if l2 else loss


def denoising_loss(energy: Energy, x: Tensor, sigma: float, generator: Generator) -> Tensor:
    """1/2 E |sigma grad E(x + sigma eps) - eps|^2 for each number, a scalar; differentiable in the parameters.

    At its optimum exp(-E) is the density of data with noise of standard deviation ``sigma`` (Vincent 2011, eq. 11).
    """
    eps = sg.randn(x.shape, generator=generator, dtype=x.dtype, device=x.device)
    noisy = (x + sigma * eps).detach().requires_grad_()
    (gradient,) = sg.grad(energy(noisy).sum(), noisy, create_graph=True)
    return 0.5 * ((sigma * gradient - eps) ** 2).mean()


# --- what can be known


def grid_density(
    energy: Energy, low: Sequence[float], high: Sequence[float], cells: int, device: sg.Device = sg.cpu
) -> tuple[np.ndarray, float]:
    """Probabilities (cells, cells) of the cells of a grid under the model of points in a box, and log Z of the box.

    By the midpoint rule; axis 0 is the first coordinate. Everything outside the box is left out.
    """
    axes = [lo + (np.arange(cells) + 0.5) * (hi - lo) / cells for lo, hi in zip(low, high)]
    points = np.stack(np.meshgrid(*axes, indexing="ij"), -1).reshape(-1, len(axes)).astype(np.float32)
    with sg.no_grad():
        rows = [energy(sg.as_tensor(part, device=device)).numpy(force=True) for part in np.array_split(points, 32)]
    log_p = -np.concatenate(rows).astype(np.float64)
    top = log_p.max()
    mass = np.exp(log_p - top)
    cell = math.prod((hi - lo) / cells for lo, hi in zip(low, high))
    return (mass / mass.sum()).reshape([cells] * len(axes)), float(top + math.log(mass.sum() * cell))


def total_variation(p: np.ndarray, q: np.ndarray) -> float:
    """1/2 sum |p - q| of two tables of probabilities: the largest difference in the probability of any event."""
    return float(0.5 * np.abs(p - q).sum())
