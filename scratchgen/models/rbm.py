"""The restricted Boltzmann machine: its energy, the gradient of its likelihood, and the chains that estimate it.

Smolensky 1986; Hinton 2002, "Training Products of Experts by Minimizing Contrastive Divergence"; Hinton 2012, "A
Practical Guide to Training Restricted Boltzmann Machines". Centring: Melchior et al. 2016, "How to Center Deep
Boltzmann Machines" (JMLR 17). Visible units v, hidden units h in {0, 1}:

    E(v, h) = -(v - mu)'b - (h - lambda)'c - (h - lambda)'W (v - mu)        p(v, h) = exp(-E(v, h)) / Z          (1)

The offsets mu and lambda are zero in the plain machine, and the mean activities in a centred one; either can be
written as the other. Gaussian visible units of unit variance add v'v / 2. The hidden units sum out:

    F(v) = -log sum_h exp(-E(v, h))         log p(v) = -F(v) - log Z                                             (2)
    -d log p(v) / d theta = dF(v) / d theta - E_model[dF(v') / d theta]                                          (3)

So training minimises F of data minus F of samples of the model, with the samples held fixed; automatic differentiation
does the rest. Contrastive divergence takes samples that are k steps of Gibbs sampling away from the data, persistent
ones go on from where they were (Tieleman 2008), tempered ones also trade places with chains of hotter machines
(Desjardins et al. 2010). Only persistent and tempered chains sample what (3) asks for; CD-k is biased.

``v`` is (N, visible), all log-probabilities are in nats. ``rbm_likelihood`` has log Z.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

import scratchgen as sg
from scratchgen import Generator, Tensor, kernels, nn
from scratchgen.kernels.gibbs.reference import words
from scratchgen.nn import functional as F


class Sampled(NamedTuple):
    """Where a Gibbs chain has come to: visible units, the mean they were drawn from, the hidden units given there."""

    visible: Tensor
    mean: Tensor
    hidden: Tensor


class RBM(nn.Module):
    """``gaussian``: real visible units of unit variance in place of binary ones.

    Weights start as N(0, ``spread``^2), by default small (Hinton 2012, section 8), hidden biases at ``hidden_bias``.
    """

    visible_offset: Tensor
    hidden_offset: Tensor

    def __init__(
        self, visible: int, hidden: int, *, gaussian: bool = False, hidden_bias: float = 0.0, spread: float = 0.01
    ) -> None:
        super().__init__()
        self.visible, self.hidden, self.gaussian = visible, hidden, gaussian
        self.weight = nn.Parameter(spread * sg.randn(hidden, visible))
        self.visible_bias = nn.Parameter(sg.zeros(visible))
        self.hidden_bias = nn.Parameter(sg.full((hidden,), hidden_bias))
        self.register_buffer("visible_offset", sg.zeros(visible))
        self.register_buffer("hidden_offset", sg.zeros(hidden))

    def start_at(self, data_mean: Tensor) -> None:
        """Visible biases with which the machine without its weights has the mean of the data: for binary units
        log p / (1 - p) (Hinton 2012, section 8.1). ``data_mean`` must lie strictly between 0 and 1 there."""
        with sg.no_grad():
            self.visible_bias.copy_(data_mean if self.gaussian else sg.logit(data_mean))

    # --- the model

    def hidden_logits(self, v: Tensor) -> Tensor:
        """(N, hidden): the log-odds of p(h = 1 | v), c + W (v - mu)."""
        return F.linear(v - self.visible_offset, self.weight, self.hidden_bias)

    def hidden_mean(self, v: Tensor) -> Tensor:
        """p(h = 1 | v): what a classifier takes for features."""
        return sg.sigmoid(self.hidden_logits(v))

    def free_energy(self, v: Tensor) -> Tensor:
        """F(v) of each row (2), shape (N,)."""
        parameters = (self.weight, self.visible_bias, self.hidden_bias, self.hidden_offset)
        energy = F.free_energy(v - self.visible_offset, *parameters)
        return energy + 0.5 * (v**2).sum(1) if self.gaussian else energy

    def plain(self) -> tuple[Tensor, Tensor, Tensor]:
        """Weight, visible and hidden biases of the same distribution written without offsets; no gradient."""
        with sg.no_grad():
            b = self.visible_bias - self.hidden_offset @ self.weight
            c = self.hidden_bias - self.weight @ self.visible_offset
            return self.weight.detach(), b, c

    def centre(self, data: Tensor, rate: float = 1.0) -> None:
        """Move the offsets towards the mean activities for visible units ``data``, and the biases so that the
        distribution stays what it is (Melchior et al. 2016, algorithm 1). ``rate``: of the moving average."""
        with sg.no_grad():
            d_visible = rate * (data.mean(0) - self.visible_offset)
            d_hidden = rate * (self.hidden_mean(data).mean(0) - self.hidden_offset)
            # (1) with the new offsets has the same slopes in v and in h: W (h - lambda) + b, W (v - mu) + c.
            self.visible_bias.add_(d_hidden @ self.weight)
            self.hidden_bias.add_(self.weight @ d_visible)
            self.visible_offset.add_(d_visible)
            self.hidden_offset.add_(d_hidden)

    # --- sampling

    def gibbs(
        self,
        v: Tensor,
        steps: int,
        generator: Generator,
        *,
        beta: Tensor | None = None,
        base: Tensor | None = None,
        clamped: Tensor | None = None,
    ) -> Sampled:
        """``steps`` of block Gibbs sampling from the visible units ``v``, in one kernel; no gradient.

        ``beta`` (N,) are inverse temperatures: chain n samples the machine of energy beta E(v, h) - (1 - beta) v'base,
        so beta = 0 are independent visible units with biases ``base`` (visible,). ``clamped``, bools (N, visible):
        units that stay as they are.
        """
        if steps < 1:
            raise ValueError(f"gibbs: steps must be at least 1, got {steps}")
        if (beta is None) != (base is None):
            raise ValueError("gibbs: beta and base go together")
        device = self.weight.device
        inputs = [None if t is None else t.array for t in (v, *self.plain(), beta, base, clamped)]
        key, counter = generator.reserve(words(len(v), self.visible, self.hidden, steps), device)
        attrs: dict[str, Any] = {"key": key, "counter": counter, "steps": steps, "gaussian": self.gaussian}
        chosen = kernels.select("gibbs", device.type, tuple(inputs), attrs)
        return Sampled(*(sg.as_tensor(array, device=device) for array in chosen.fn(*inputs, **attrs)))

    def independent(self, count: int, base: Tensor, generator: Generator) -> Tensor:
        """``count`` draws (count, visible) of independent visible units with biases ``base``: the model at beta 0."""
        shape = (count, self.visible)
        if self.gaussian:
            return base + sg.randn(shape, generator=generator, dtype=base.dtype, device=base.device)
        return (sg.rand(shape, generator=generator, device=base.device) < sg.sigmoid(base)).to(base.dtype)

    def tempered(self, v: Tensor, beta: Tensor | float, base: Tensor) -> Tensor:
        """-F(v) of the machine at inverse temperatures ``beta``, (N,) or one for all: its log-density without log Z.

        Like (2): (1 - beta) v'base + beta v'b + sum softplus(beta (c + W v)), in terms of ``plain``.
        """
        weight, b, c = self.plain()
        per_unit = beta[:, None] if isinstance(beta, Tensor) else beta
        value = beta * (v @ b) + (1 - beta) * (v @ base) + F.softplus(per_unit * F.linear(v, weight, c)).sum(1)
        return value - 0.5 * (v**2).sum(1) if self.gaussian else value

    # --- scores

    def pseudo_likelihood(self, v: Tensor) -> Tensor:
        """sum_i log p(v_i | all other v), (N,): a stand-in for log p(v) that needs no log Z (Besag 1975).

        For binary units only. Each of them is flipped in turn, from which the hidden logits move by one column of W.
        """
        if self.gaussian:
            raise ValueError("pseudo_likelihood: for binary visible units; these are Gaussian")
        weight, b, c = self.plain()
        with sg.no_grad():
            logits = F.linear(v, weight, c)  # (N, hidden)
            change = 1 - 2 * v  # (N, visible): what a flip adds to a unit
            total, before = sg.zeros_like(logits[:, 0]), F.softplus(logits).sum(1)
            for i in range(self.visible):
                flipped = F.softplus(logits + change[:, i, None] * weight[:, i]).sum(1)
                total = total - F.softplus(change[:, i] * b[i] + flipped - before)
            return total


# --- the gradient's samples


class Chains:
    """Persistent chains, and tempered ones beside them.

    ``temperatures`` > 1: for each of ``count`` chains there are so many, at inverse temperatures evenly spaced from 1
    down to 0, the last one being independent units with biases ``base``. Neighbours trade places by the rule of
    Metropolis after each sweep of Gibbs steps, so what the hottest finds can come down to the machine itself.
    """

    def __init__(self, rbm: RBM, count: int, base: Tensor, generator: Generator, temperatures: int = 1) -> None:
        self.count, self.temperatures, self.base = count, temperatures, base
        self.visible = rbm.independent(count * temperatures, base, generator)
        self.swaps, self.tries = 0, 0

    def advance(self, rbm: RBM, steps: int, generator: Generator) -> Tensor:
        """Run the chains on; returns the visible units of those at the machine's own temperature."""
        if self.temperatures == 1:
            self.visible = rbm.gibbs(self.visible, steps, generator).visible
            return self.visible
        levels = np.linspace(1, 0, self.temperatures, dtype=np.float32)
        beta = sg.as_tensor(levels.repeat(self.count), device=self.base.device)
        moved = rbm.gibbs(self.visible, steps, generator, beta=beta, base=self.base).visible
        self.visible = self._traded(rbm, moved, levels, generator)
        return self.visible[: self.count]

    def _traded(self, rbm: RBM, v: Tensor, levels: np.ndarray, generator: Generator) -> Tensor:
        """Chains (levels x count, visible) after each pair of neighbouring levels was offered to trade places.

        With log-densities f the probability is min(1, exp(f_r(v_s) + f_s(v_r) - f_r(v_r) - f_s(v_s))).
        """
        order = np.arange(len(v)).reshape(self.temperatures, self.count)

        def at(rows: np.ndarray) -> Tensor:
            return v[sg.as_tensor(rows.copy(), device=v.device)]

        with sg.no_grad():
            for level in range(self.temperatures - 1):
                ours, theirs = at(order[level]), at(order[level + 1])
                here, there = float(levels[level]), float(levels[level + 1])
                gain = rbm.tempered(theirs, here, self.base) + rbm.tempered(ours, there, self.base)
                gain = gain - rbm.tempered(ours, here, self.base) - rbm.tempered(theirs, there, self.base)
                uniform = sg.rand((self.count,), generator=generator, device=v.device)
                traded = (sg.log(1 - uniform) < gain).numpy(force=True)  # 1 - uniform is never 0
                order[level : level + 2, traded] = order[level : level + 2][::-1, traded]
                self.swaps, self.tries = self.swaps + int(traded.sum()), self.tries + self.count
            return at(order.reshape(-1))

    @property
    def swap_share(self) -> float:
        """The share of trades that were accepted so far."""
        return self.swaps / max(self.tries, 1)

    def state_dict(self) -> dict[str, Any]:
        return {"visible": self.visible, "swaps": self.swaps, "tries": self.tries}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        if tuple(state["visible"].shape) != self.visible.shape:
            raise ValueError(f"Chains: expected states of shape {list(self.visible.shape)}")
        self.visible = sg.as_tensor(np.asarray(state["visible"]), device=self.visible.device)
        self.swaps, self.tries = state["swaps"], state["tries"]


def objective(rbm: RBM, data: Tensor, samples: Tensor) -> Tensor:
    """F of data minus F of the model's samples, a scalar whose gradient is the estimate of (3).

    Its value says nothing: it is near zero for a machine that fits as for one that has learnt nothing.
    """
    energy = rbm.free_energy(sg.cat([data, samples.detach()]))  # one product for both, and one for its gradient
    of_data, of_samples = sg.split(energy, [len(data), len(samples)])
    return of_data.mean() - of_samples.mean()


def sparsity(rbm: RBM, data: Tensor, target: float) -> Tensor:
    """Cross-entropy between ``target`` and the mean activity of each hidden unit over a batch, summed over the units.

    Hinton 2012, section 11: its gradient in a unit's total input is the mean activity minus the target.
    """
    q = rbm.hidden_mean(data).mean(0).clamp(1e-6, 1 - 1e-6)
    return -(target * sg.log(q) + (1 - target) * sg.log(1 - q)).sum()
