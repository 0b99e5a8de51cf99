"""The RBM against machines so small that everything about them can be summed up."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
from scipy.special import expit, logsumexp
from scipy.stats import chisquare

import scratchgen as sg
from scratchgen import Generator, Tensor
from scratchgen.models import rbm_likelihood as likelihood
from scratchgen.models.rbm import RBM, Chains, objective, sparsity


def states(units: int) -> np.ndarray:
    return ((np.arange(1 << units)[:, None] >> np.arange(units)) & 1).astype(np.float32)


def machine(
    visible: int = 4, hidden: int = 3, *, scale: float = 1.0, centred: bool = False, gaussian: bool = False
) -> RBM:
    """A machine with random parameters, in a centred one with random offsets."""
    sg.manual_seed(0)
    made, rng = RBM(visible, hidden, gaussian=gaussian), np.random.default_rng(1)
    with sg.no_grad():
        for p in made.parameters():
            p.copy_(sg.tensor(scale * rng.standard_normal(p.shape).astype(np.float32)))
        if centred:
            for offset in (made.visible_offset, made.hidden_offset):
                offset.copy_(sg.tensor(rng.random(offset.shape).astype(np.float32)))
    return made


def joint(rbm: RBM, v: np.ndarray, h: np.ndarray) -> np.ndarray:
    """-E(v, h), (N, M), straight from equation (1)."""
    weight, b, c, mu, offset = (
        t.numpy(force=True).astype(np.float64)
        for t in (rbm.weight, rbm.visible_bias, rbm.hidden_bias, rbm.visible_offset, rbm.hidden_offset)
    )
    v, h = v - mu, h - offset
    return (v @ b)[:, None] + h @ c + v @ weight.T @ h.T


def probabilities(rbm: RBM) -> np.ndarray:
    """p(v) of all visible states."""
    log_p = logsumexp(joint(rbm, states(rbm.visible), states(rbm.hidden)), axis=1)
    return np.exp(log_p - logsumexp(log_p))


# --- energy and likelihood


@pytest.mark.parametrize("centred", [False, True])
def test_free_energy_sums_out_the_hidden_units(centred: bool) -> None:
    rbm, v = machine(centred=centred), states(4)
    expected = -logsumexp(joint(rbm, v, states(3)), axis=1)
    np.testing.assert_allclose(rbm.free_energy(sg.tensor(v)).numpy(force=True), expected, rtol=1e-5, atol=1e-5)
    conditional = np.exp(joint(rbm, v, states(3)) + expected[:, None]) @ states(3)
    np.testing.assert_allclose(rbm.hidden_mean(sg.tensor(v)).numpy(force=True), conditional, rtol=1e-5)


@pytest.mark.parametrize("shape", [(4, 3), (3, 6)])
def test_log_z_is_the_sum_over_all_states(shape: tuple[int, int]) -> None:
    """Whichever layer is the smaller one."""
    rbm = machine(*shape, centred=True)
    plain = RBM(*shape)
    with sg.no_grad():
        for p, value in zip((plain.weight, plain.visible_bias, plain.hidden_bias), rbm.plain()):
            p.copy_(value)
    expected = logsumexp(joint(plain, states(shape[0]), states(shape[1])))
    assert likelihood.exact_log_z(rbm) == pytest.approx(expected, abs=1e-6)
    log_p = likelihood.log_likelihood(rbm, sg.tensor(states(shape[0])), likelihood.exact_log_z(rbm))
    np.testing.assert_allclose(np.exp(log_p), probabilities(rbm), rtol=1e-5)


def test_gaussian_log_z_is_the_integral() -> None:
    rbm = machine(1, 3, gaussian=True)
    x = np.linspace(-30, 30, 60_001)
    log_p = likelihood.log_likelihood(rbm, sg.tensor(x[:, None]), likelihood.exact_log_z(rbm))
    assert np.exp(log_p).sum() * (x[1] - x[0]) == pytest.approx(1, abs=1e-6)


def test_a_layer_too_large_is_named() -> None:
    with pytest.raises(ValueError, match=r"2\^30 states are too many"):
        likelihood.exact_log_z(RBM(40, 30))


def test_pseudo_likelihood_is_the_sum_of_conditionals() -> None:
    rbm, v = machine(centred=True), states(4)
    p = probabilities(rbm)
    expected = np.zeros(16)
    for i in range(4):
        flipped = (1 << i) ^ np.arange(16)
        expected += np.log(p / (p + p[flipped]))
    np.testing.assert_allclose(rbm.pseudo_likelihood(sg.tensor(v)).numpy(), expected, rtol=1e-4, atol=1e-5)
    with pytest.raises(ValueError, match="for binary visible units"):
        machine(gaussian=True).pseudo_likelihood(sg.zeros(1, 4))


def test_centring_changes_no_probability_and_makes_activities_zero_mean() -> None:
    rbm = machine(centred=True)
    before = probabilities(rbm)
    data = sg.tensor(states(4)[[1, 5, 5, 7, 15]])
    rbm.centre(data, rate=0.3)
    np.testing.assert_allclose(probabilities(rbm), before, rtol=1e-5)
    rbm.centre(data)
    np.testing.assert_allclose(probabilities(rbm), before, rtol=1e-5)
    np.testing.assert_allclose(rbm.visible_offset.numpy(force=True), data.mean(0).numpy(force=True), atol=1e-6)


# --- gradients


def gradient(rbm: RBM, loss: Tensor) -> np.ndarray:
    return np.concatenate([g.numpy(force=True).reshape(-1) for g in sg.grad(loss, list(rbm.parameters()))])


def weighted(rbm: RBM, p: np.ndarray) -> Tensor:
    """The mean free energy of visible states that have these probabilities."""
    return (rbm.free_energy(sg.tensor(states(rbm.visible))) * sg.tensor(p.astype(np.float32))).sum()


@pytest.mark.parametrize("centred", [False, True])
def test_the_objective_has_the_gradient_of_the_likelihood(centred: bool) -> None:
    """Equation (3), with the model's expectation summed over all states, beside differences of -log p."""
    rbm = machine(centred=centred)
    rows = np.array([3, 6, 9])
    data = np.bincount(rows, minlength=16) / 3
    found = gradient(rbm, weighted(rbm, data) - weighted(rbm, probabilities(rbm)))
    expected, step = [], 1e-2
    for p in rbm.parameters():
        for index in np.ndindex(*p.shape):
            sides = []
            for sign in (1, -1):
                with sg.no_grad():
                    p.array[index] += sign * step
                    sides.append(-np.log(probabilities(rbm)[rows]).mean())
                    p.array[index] -= sign * step
            expected.append((sides[0] - sides[1]) / (2 * step))
    np.testing.assert_allclose(found, expected, atol=3e-4)


def test_the_bias_of_contrastive_divergence_shrinks_with_k() -> None:
    """CD-k in expectation, with the exact distribution of chains k steps away from the data."""
    rbm = machine(scale=1.5)
    weight, b, c = (t.numpy(force=True).astype(np.float64) for t in rbm.plain())
    v, h = states(4), states(3)

    def conditional(mean: np.ndarray, rows: np.ndarray) -> np.ndarray:
        return np.where(rows == 1, mean[:, None], 1 - mean[:, None]).prod(-1)

    transition = conditional(expit(v @ weight.T + c), h) @ conditional(expit(h @ weight + b), v)
    data = np.bincount([3, 6, 9], minlength=16) / 3
    exact = gradient(rbm, weighted(rbm, data) - weighted(rbm, probabilities(rbm)))
    biases = []
    for k in (1, 2, 3, 5, 10):
        chains = data @ np.linalg.matrix_power(transition, k)
        biases.append(np.linalg.norm(gradient(rbm, weighted(rbm, data) - weighted(rbm, chains)) - exact))
    assert all(later < earlier for earlier, later in pairwise(biases))
    assert biases[0] > 0.1
    assert biases[-1] < 1e-2 * biases[0]


def test_samples_are_held_fixed() -> None:
    rbm = machine()
    v = sg.tensor(states(4)).requires_grad_()
    objective(rbm, sg.tensor(states(4)), v).backward()
    assert v.grad is None


def test_sparsity_is_least_at_its_target() -> None:
    rbm = machine()
    with sg.no_grad():
        rbm.weight.zero_()
        rbm.hidden_bias.fill_(float(np.log(0.1 / 0.9)))
    found = gradient(rbm, sparsity(rbm, sg.tensor(states(4)), 0.1) + 0 * rbm.visible_bias.sum())
    assert np.abs(found).max() < 1e-6
    with sg.no_grad():
        rbm.hidden_bias.fill_(0.0)
    (g,) = sg.grad(sparsity(rbm, sg.tensor(states(4)), 0.1), [rbm.hidden_bias])
    np.testing.assert_allclose(g.numpy(force=True), 0.4, rtol=1e-5)  # mean activity less target


# --- sampling


@pytest.mark.parametrize("temperatures", [1, 4])
def test_long_chains_sample_the_model(temperatures: int) -> None:
    rbm, generator = machine(centred=True), Generator(0)
    chains = Chains(rbm, 20_000, sg.zeros(4), generator, temperatures)
    for _ in range(12):
        v = chains.advance(rbm, 3, generator).numpy(force=True)
    counts = np.bincount((v @ [1, 2, 4, 8]).astype(int), minlength=16)
    assert chisquare(counts, probabilities(rbm) * len(v)).pvalue > 1e-3
    assert (chains.swap_share > 0) == (temperatures > 1)


def test_tempered_chains_leave_the_mode_that_others_stay_in() -> None:
    """Two modes, all off and all on, that single Gibbs chains hardly ever leave."""
    rbm = RBM(8, 8)
    with sg.no_grad():
        rbm.weight.fill_(1.5)
        rbm.visible_bias.fill_(-6.0)
        rbm.hidden_bias.fill_(-6.0)
    shares = []
    for temperatures in (1, 10):
        generator = Generator(0)
        chains = Chains(rbm, 300, sg.zeros(8), generator, temperatures)
        chains.visible = sg.zeros_like(chains.visible)
        for _ in range(60):
            v = chains.advance(rbm, 1, generator)
        shares.append(float(v.numpy(force=True).mean()))
    assert shares[0] < 0.1
    assert shares[1] == pytest.approx(0.5, abs=0.1)  # by symmetry both modes have the same probability


def test_gaussian_chains_have_the_models_moments() -> None:
    rbm, generator = machine(2, 2, gaussian=True), Generator(0)
    v = rbm.gibbs(sg.zeros(50_000, 2), 30, generator).visible.numpy(force=True)
    exact = likelihood.exact_samples(rbm, 50_000, generator).numpy(force=True)
    for moment in (lambda x: x.mean(0), lambda x: np.cov(x.T)):
        np.testing.assert_allclose(moment(v), moment(exact), atol=0.05)


def test_clamped_units_stay_and_the_others_follow_their_conditional() -> None:
    rbm = machine(centred=True)
    v = sg.tensor(np.tile(states(4)[1], (30_000, 1)))
    known = sg.tensor(np.tile([True, True, False, False], (30_000, 1)))
    found = rbm.gibbs(v, 20, Generator(0), clamped=known).visible.numpy(force=True)
    np.testing.assert_array_equal(found[:, :2], v.numpy()[:, :2])
    possible = np.array([1, 5, 9, 13])  # the states whose first two units are 1 and 0
    p = probabilities(rbm)[possible]
    counts = np.bincount((found @ [1, 2, 4, 8]).astype(int), minlength=16)[possible]
    assert chisquare(counts, p / p.sum() * len(found)).pvalue > 1e-3


def test_misuse_is_named() -> None:
    rbm = machine()
    with pytest.raises(ValueError, match="steps must be at least 1"):
        rbm.gibbs(sg.zeros(1, 4), 0, Generator(0))
    with pytest.raises(ValueError, match="beta and base go together"):
        rbm.gibbs(sg.zeros(1, 4), 1, Generator(0), beta=sg.ones(1))
    with pytest.raises(ValueError, match="expected states of shape"):
        Chains(rbm, 3, sg.zeros(4), Generator(0)).load_state_dict({"visible": np.zeros((2, 4)), "swaps": 0, "tries": 0})


# --- annealing


def test_the_annealed_estimates_enclose_the_exact_log_z() -> None:
    rbm, generator = machine(20, 10, centred=True), Generator(0)
    base, exact = sg.zeros(20), likelihood.exact_log_z(rbm)
    forward = likelihood.annealed(rbm, base, generator, chains=300, temperatures=500)
    start = likelihood.samples_of(rbm, forward, generator)
    backward = likelihood.reverse_annealed(rbm, base, generator, start, temperatures=500)
    assert forward.log_z == pytest.approx(exact, abs=0.05)
    assert backward.log_z == pytest.approx(exact, abs=0.05)
    assert 0 < forward.se < 0.05
    # Too few temperatures: the mean log-weight errs to one side on the way up, to the other on the way down.
    log_z0 = likelihood.Machine(rbm, base).log_z0
    rough = likelihood.annealed(rbm, base, generator, chains=200, temperatures=3)
    back = likelihood.reverse_annealed(rbm, base, generator, start[:200], temperatures=3)
    assert log_z0 + rough.log_weights.mean() < exact - 0.3
    assert log_z0 - back.log_weights.mean() > exact + 0.3


def test_gaussian_annealing() -> None:
    rbm, generator = machine(6, 5, scale=0.5, gaussian=True), Generator(0)
    forward = likelihood.annealed(rbm, sg.zeros(6), generator, chains=300, temperatures=300)
    assert forward.log_z == pytest.approx(likelihood.exact_log_z(rbm), abs=0.05)


def test_the_tempered_density_is_the_models_and_that_of_independent_units_at_its_ends() -> None:
    rbm, v = machine(centred=True), sg.tensor(states(4))
    base = sg.tensor([0.3, -0.5, 1.0, 0.0])
    cold = np.exp(rbm.tempered(v, 1.0, base).numpy(force=True))
    np.testing.assert_allclose(cold / cold.sum(), probabilities(rbm), rtol=1e-5)
    hot = np.exp(rbm.tempered(v, sg.zeros(16), base).numpy(force=True))
    p = expit(base.numpy())
    np.testing.assert_allclose(hot / hot.sum(), np.where(states(4) == 1, p, 1 - p).prod(1), rtol=1e-5)


def test_samples_of_a_large_machine_have_the_models_moments() -> None:
    """Ends of annealed chains, drawn by their weights, where the machine is too large to be enumerated."""
    rbm, generator = machine(12, 17, scale=0.4), Generator(0)
    forward = likelihood.annealed(rbm, sg.zeros(12), generator, chains=3000, temperatures=30)
    v = likelihood.samples_of(rbm, forward, generator, steps=50).numpy(force=True)
    exact = likelihood.exact_samples(rbm, 20_000, generator).numpy(force=True)
    np.testing.assert_allclose(v.mean(0), exact.mean(0), atol=0.04)


def test_weights_start_as_widely_as_asked() -> None:
    sg.manual_seed(0)
    for spread in (0.01, 0.2):
        weight = RBM(200, 50, spread=spread).weight.numpy(force=True)
        assert weight.std() == pytest.approx(spread, rel=0.03)
        assert abs(weight.mean()) < 0.05 * spread
