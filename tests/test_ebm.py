"""Energy-based models against densities that are known, and that a grid can sum up."""

from __future__ import annotations

import math
from itertools import islice

import numpy as np
import pytest

import scratchgen as sg
from scratchgen import Generator, Tensor, nn
from scratchgen.models.ebm import (
    Langevin,
    ReplayBuffer,
    Tilted,
    Waves,
    contrastive_loss,
    convolutional_energy,
    denoising_loss,
    dense_energy,
    grid_density,
    slope,
    total_variation,
)


def double_well(x: Tensor) -> Tensor:
    """One dimension: wells of unequal depth around -1 and 1."""
    return (2 * (x**2 - 1) ** 2 + 0.5 * x).flatten(0)


def ring(x: Tensor) -> Tensor:
    """Two dimensions: a ring of radius 1, tilted."""
    return 4 * ((x**2).sum(1).sqrt() - 1) ** 2 + 0.5 * x[:, 0]


def histogram(x: np.ndarray, reach: float, cells: int) -> np.ndarray:
    """Shares of points (N, D) in the cells of ``grid_density``."""
    counts, _ = np.histogramdd(x, bins=[cells] * x.shape[1], range=[(-reach, reach)] * x.shape[1])
    return counts / len(x)


def coarse(p: np.ndarray, cells: int) -> np.ndarray:
    """Probabilities of a fine grid summed over the cells of a coarser one."""
    factor = len(p) // cells
    for axis in range(p.ndim):
        p = np.add.reduceat(p, np.arange(0, factor * cells, factor), axis=axis)
    return p


# --- sampling


@pytest.mark.parametrize(("energy", "dims", "reach", "cells"), [(double_well, 1, 2.5, 50), (ring, 2, 2.0, 10)])
def test_metropolis_langevin_samples_the_density(energy, dims: int, reach: float, cells: int) -> None:
    generator = Generator(0)
    sampler = Langevin(0.05, metropolis=True, bounds=(-reach, reach))
    x = reach * (2 * sg.rand((6000, dims), generator=generator) - 1)
    states = sampler.states(energy, x, generator)
    last = np.concatenate([state.numpy() for k, state in enumerate(islice(states, 200)) if k >= 150 and k % 10 == 9])
    exact = coarse(grid_density(energy, [-reach] * dims, [reach] * dims, 20 * cells)[0], cells)
    assert total_variation(histogram(last, reach, cells), exact) <= 0.05


@pytest.mark.parametrize("settings", [{"widest": 0.5}, {"jumps": 0.5}, {"widest": 0.5, "jumps": 1.0}])
def test_steps_of_all_sizes_and_jumps_sample_the_density(settings: dict) -> None:
    """From a start that the density is at rest in nothing but shares: more in the shallow well than in the deep one."""
    generator = Generator(0)
    sampler = Langevin(0.02, metropolis=True, bounds=(-2.5, 2.5), **settings)
    x = sampler.run(double_well, 0.5 + 2 * sg.rand((20_000, 1), generator=generator), 250, generator)
    exact = coarse(grid_density(double_well, [-2.5], [2.5], 1000)[0], 50)
    assert total_variation(histogram(x.numpy(), 2.5, 50), exact) <= 0.05


def test_jumps_reach_modes_that_steps_do_not() -> None:
    """Four narrow modes a hundred of their widths apart, each with the same share; all chains but few start in one."""
    centres = np.array([[-1.0, -1.0], [-1.0, 1.0], [1.0, -1.0], [1.0, 1.0]])
    modes = sg.tensor(centres.astype(np.float32))

    def energy(x: Tensor) -> Tensor:
        return -sg.logsumexp(-((x[:, None] - modes) ** 2).sum(2) / (2 * 0.02**2), 1)

    shares = {}
    for jumps in (0.0, 0.5):
        generator = Generator(0)
        start = modes[sg.tensor(np.arange(4000) // 1300)]  # 1300, 1300, 1300 and 100
        x = Langevin(2e-4, metropolis=True, jumps=jumps).run(energy, start, 60, generator).numpy()
        nearest = ((x[:, None] - centres) ** 2).sum(2).argmin(1)
        shares[jumps] = np.bincount(nearest, minlength=4) / 4000
        inside = x[nearest == 0] - centres[0]
        assert inside.std() == pytest.approx(0.02, rel=0.05)
    np.testing.assert_array_equal(shares[0.0], [0.325, 0.325, 0.325, 0.025])
    np.testing.assert_allclose(shares[0.5], 0.25, atol=0.03)


def test_on_a_steep_slope_a_drift_is_no_longer_than_the_noise() -> None:
    """Steps of 0.05 in a well of curvature 1e4: an untruncated drift leaps across it, and is refused for ever."""
    x = Langevin(0.01, metropolis=True, widest=1.0).run(
        lambda x: 5000 * (x**2).sum(1), sg.full((2000, 1), 3.0), 300, Generator(0)
    )
    assert x.abs().max().item() < 0.5


def test_one_chain_has_none_to_jump_by() -> None:
    sampler = Langevin(0.01, metropolis=True, jumps=1.0)
    x = sampler.run(lambda x: (x**2).sum(1), sg.ones(1, 2), 3, Generator(0))
    assert (x.numpy() != 1).all()


def test_without_the_metropolis_test_large_steps_sample_something_else() -> None:
    """The same step: exact with the test, off by several percent without; and little noise is a low temperature."""
    exact = coarse(grid_density(double_well, [-2.5], [2.5], 1000)[0], 50)
    found = {}
    for name, sampler in {
        "exact": Langevin(0.05, metropolis=True, bounds=(-2.5, 2.5)),
        "plain": Langevin(0.05, bounds=(-2.5, 2.5)),
        "tempered": Langevin(0.01, noise=0.05, bounds=(-2.5, 2.5)),
    }.items():
        generator = Generator(0)
        x = 1.25 * (2 * sg.rand((20_000, 1), generator=generator) - 1)
        found[name] = sampler.run(double_well, x, 300, generator).numpy()
    distance = {name: total_variation(histogram(x, 2.5, 50), exact) for name, x in found.items()}
    assert distance["exact"] < 0.05 < distance["plain"]
    # At T = 0.05^2 / 0.02 = 1/8 a well of curvature E'' = 16 is as wide as sqrt(T / 16).
    right = found["tempered"][found["tempered"] > 0]
    assert Langevin(0.01, noise=0.05).temperature == pytest.approx(1 / 8)
    assert right.std() == pytest.approx(math.sqrt(1 / 8 / 16), rel=0.15)


def test_plain_steps_on_a_gaussian_have_their_known_variance() -> None:
    """x' = (1 - step) x + sqrt(2 step) xi leads to the variance 1 / (1 - step / 2), which is 1 only for step -> 0."""
    step, generator = 0.2, Generator(0)
    x = Langevin(step).run(lambda x: 0.5 * (x**2).sum(1), sg.zeros(100_000, 1), 60, generator)
    assert x.var().item() == pytest.approx(1 / (1 - step / 2), rel=0.02)


def test_sampling_leaves_no_gradient_in_the_parameters_and_no_graph() -> None:
    sg.manual_seed(0)
    model = dense_energy((2,), (8, 8))
    for metropolis in (False, True):
        sampler = Langevin(0.01, metropolis=metropolis)
        x = sampler.run(model, sg.randn(5, 2), 4, Generator(0))
        assert not x.requires_grad
    value, gradient = slope(model, x)
    assert not value.requires_grad
    assert not gradient.requires_grad
    assert all(p.grad is None for p in model.parameters())
    with sg.no_grad():  # also where graphs are switched off
        np.testing.assert_array_equal(slope(model, x)[1].numpy(), gradient.numpy())
    assert sg.is_grad_enabled()


def test_a_run_takes_as_many_steps_as_it_is_told_and_keeps_to_its_bounds() -> None:
    calls = []

    def energy(x: Tensor) -> Tensor:
        calls.append(len(x))
        return -100 * x.sum(1)

    x = Langevin(0.1, noise=0.0, clip=1.0, bounds=(-0.25, 0.25)).run(energy, sg.zeros(3, 2), 2, Generator(0))
    assert calls == [3, 3]
    np.testing.assert_allclose(x.numpy(), 0.2, rtol=1e-6)  # the gradient of 100 is cut to 1
    x = Langevin(0.1, noise=0.0, bounds=(-0.25, 0.25)).run(energy, x, 1, Generator(0))
    np.testing.assert_array_equal(x.numpy(), 0.25)


def test_samplers_that_contradict_themselves_are_named() -> None:
    with pytest.raises(ValueError, match="metropolis goes with noise=None"):
        Langevin(0.1, noise=0.1, metropolis=True)
    with pytest.raises(ValueError, match="metropolis goes with noise=None"):
        Langevin(0.1, clip=1.0, metropolis=True)
    with pytest.raises(ValueError, match=r"widest=0\.2 goes with metropolis and is at least step=0\.1"):
        Langevin(0.1, widest=0.2)
    with pytest.raises(ValueError, match=r"widest=0\.05 goes with metropolis"):
        Langevin(0.1, metropolis=True, widest=0.05)
    with pytest.raises(ValueError, match=r"jumps=0\.5 is a share from 0 to 1, and goes with metropolis"):
        Langevin(0.1, jumps=0.5)
    with pytest.raises(ValueError, match="step must be positive"):
        Langevin(0.0)


# --- networks and objectives


@pytest.mark.parametrize("spectral", [False, True])
def test_energies_judge_samples_one_by_one(spectral: bool) -> None:
    sg.manual_seed(0)
    for model in (dense_energy((1, 8, 8), (16,), spectral), convolutional_energy((1, 8, 8), 4, spectral)):
        model.eval()
        x = sg.rand(5, 1, 8, 8)
        together, alone = model(x), sg.cat([model(x[i : i + 1]) for i in range(5)])
        assert together.shape == (5,)
        np.testing.assert_allclose(together.numpy(force=True), alone.numpy(force=True), rtol=1e-4, atol=1e-5)


def test_a_bowl_around_nothing_is_a_gaussian_and_has_a_slope_everywhere() -> None:
    """With a network of zeros plain steps find the Gaussian of the bowl; with any, the bowl's slope is added to its."""
    sg.manual_seed(0)
    centre = sg.tensor(np.array([[1.0, -2.0]], np.float32))
    network = dense_energy((1, 2), (8,))
    model = Tilted(network, centre, 4.0)
    x = 5 * sg.randn(50, 1, 2)
    value, gradient = slope(model, x)
    alone, own = slope(network, x)
    away = x.numpy() - centre.numpy()
    np.testing.assert_allclose((value - alone).numpy(), 2 * (away**2).sum((1, 2)), rtol=1e-4)
    np.testing.assert_allclose((gradient - own).numpy(), 4 * away, rtol=1e-4, atol=1e-4)
    with sg.no_grad():
        for parameter in network.parameters():
            parameter.zero_()
    ends = Langevin(0.02).run(model, sg.zeros(4000, 1, 2), 200, Generator(0)).numpy()[:, 0]
    np.testing.assert_allclose(ends.mean(0), centre.numpy()[0], atol=0.03)
    np.testing.assert_allclose(ends.var(0), 0.25 / (1 - 0.02 * 4 / 2), rtol=0.08)
    assert "centre" in model.state_dict()


def test_waves_are_sines_and_cosines_of_about_the_frequency_asked_for() -> None:
    sg.manual_seed(0)
    waves = Waves(2, 500, 12.0)
    x = sg.randn(5, 2)
    y, phases = waves(x).numpy(), (x @ waves.directions).numpy()
    assert y.shape == (5, 1002)
    np.testing.assert_allclose(y, np.concatenate([x.numpy(), np.sin(phases), np.cos(phases)], 1), atol=1e-5)
    assert waves.directions.std().item() == pytest.approx(12, rel=0.1)
    assert "1.directions" in dense_energy((2,), (8,), frequency=3.0).state_dict()  # fixed, but kept


def test_spectral_norm_bounds_the_slope() -> None:
    """Three layers of norm 1, and a SiLU is nowhere steeper than 1.1."""
    sg.manual_seed(0)
    model, free = dense_energy((4,), (32, 32), spectral=True), dense_energy((4,), (32, 32))
    for _ in range(50):
        model(sg.zeros(1, 4))  # each pass in training is one power iteration
    steepest = [slope(m.eval(), sg.randn(500, 4))[1].norm(dim=1).max().item() for m in (model, free)]
    assert steepest[0] <= 1.1**2
    assert steepest[0] < steepest[1]


def test_the_loss_is_the_gradient_of_the_likelihood() -> None:
    """E(x) = x'x / (2 s) on data of variance v: the gradient in log s vanishes where s = v."""
    generator = Generator(0)
    data = 1.5 * sg.randn((100_000, 1), generator=generator)
    for s, sign in ((1.0, -1), (2.25, 0), (4.0, 1)):
        log_s = sg.tensor(math.log(s)).requires_grad_()

        def energy(x: Tensor, log_s: Tensor = log_s) -> Tensor:
            return 0.5 * (x**2).sum(1) * sg.exp(-log_s)

        samples = math.sqrt(s) * sg.randn((100_000, 1), generator=generator)
        (g,) = sg.grad(contrastive_loss(energy(data), energy(samples)), [log_s])
        expected = -0.5 * (2.25 / s - 1)  # d/dlog s of -log p, on average
        assert g.item() == pytest.approx(expected, abs=0.02)
        assert sign == 0 or g.item() * sign > 0


def test_l2_weighs_both_sides() -> None:
    real, fake = sg.tensor([1.0, 3.0]), sg.tensor([-2.0, 0.0])
    assert contrastive_loss(real, fake).item() == pytest.approx(2 + 1)
    assert contrastive_loss(real, fake, 0.1).item() == pytest.approx(3 + 0.1 * (5 + 2))


def test_denoising_is_least_for_the_density_of_the_noisy_data() -> None:
    """Data N(0, 1) with noise of sd s: E = x^2 / (2 (1 + s^2)) is the optimum, where the loss is s^2... known too."""
    sigma, x = 0.5, sg.randn((200_000, 1), generator=Generator(0))
    log_a = sg.tensor(0.0).requires_grad_()

    def energy(z: Tensor) -> Tensor:
        return 0.5 * sg.exp(log_a) * (z**2).sum(1)

    for a in (0.5, 1 / (1 + sigma**2), 1.5):
        with sg.no_grad():
            log_a.fill_(math.log(a))
        loss = denoising_loss(energy, x, sigma, Generator(1))
        expected = 0.5 * (sigma**2 * a**2 * (1 + sigma**2) - 2 * a * sigma**2 + 1)
        assert loss.item() == pytest.approx(expected, rel=0.01)
        (g,) = sg.grad(loss, [log_a])
        assert g.item() == pytest.approx(a * sigma**2 * (a * (1 + sigma**2) - 1), abs=2e-3)


def test_training_by_score_matching_finds_the_density() -> None:
    """A network on two Gaussians in one dimension, beside the true density with the noise added."""
    sg.manual_seed(0)
    generator, sigma = Generator(0), 0.4
    model = dense_energy((1,), (32, 32))
    steps = 400
    optimizer = sg.optim.Adam(model.parameters(), 5e-3)
    schedule = sg.optim.lr_scheduler.CosineAnnealingLR(optimizer, T_max=steps)
    for _ in range(steps):
        side = 2 * sg.randint(0, 2, (1000, 1), generator=generator).float() - 1
        x = side + 0.2 * sg.randn((1000, 1), generator=generator)
        optimizer.zero_grad()
        denoising_loss(model, x, sigma, generator).backward()
        optimizer.step()
        schedule.step()
    found, _ = grid_density(model, [-2.5], [2.5], 200)
    x = -2.5 + 5 * (np.arange(200) + 0.5) / 200
    variance = 0.2**2 + sigma**2
    truth = np.exp(-((x - 1) ** 2) / (2 * variance)) + np.exp(-((x + 1) ** 2) / (2 * variance))
    assert total_variation(found, truth / truth.sum()) < 0.04


# --- the buffer, the grid


def test_the_buffer_keeps_ends_and_restarts_a_share() -> None:
    generator = Generator(0)
    buffer = ReplayBuffer(500, lambda n, g: sg.zeros(n, 3), generator)
    buffer.put(sg.arange(500), sg.arange(1, 501).float()[:, None].expand(500, 3))
    rows, start = buffer.take(4000, 0.05, generator)
    again = (start.numpy() == 0).all(1)
    assert again.mean() == pytest.approx(0.05, abs=0.015)
    np.testing.assert_array_equal(start.numpy()[~again, 0], rows.numpy()[~again] + 1)
    assert not buffer.take(100, 0.0, generator)[1].eq(0).any()
    assert buffer.take(100, 1.0, generator)[1].eq(0).all()
    saved = buffer.state_dict()
    buffer.put(sg.tensor([7]), sg.full((1, 3), -1.0))
    assert saved["states"][7, 0].item() == 8
    buffer.load_state_dict(saved)
    assert buffer.states[7, 0].item() == 8
    with pytest.raises(ValueError, match=r"expected states \[500, 3\], got \[4, 3\]"):
        buffer.load_state_dict({"states": np.zeros((4, 3))})


def test_the_grid_integrates() -> None:
    p, log_z = grid_density(lambda x: (x**2).sum(1) / 2, [-8, -8], [8, 8], 200)
    assert log_z == pytest.approx(math.log(2 * math.pi), abs=1e-5)
    assert p.sum() == pytest.approx(1)
    side = -8 + 16 * (np.arange(200) + 0.5) / 200
    assert p.sum(1) @ side**2 == pytest.approx(1, abs=1e-5)
    assert total_variation(p, p.T) < 1e-6
    assert total_variation(np.array([1.0, 0.0]), np.array([0.0, 1.0])) == 1


def test_modules_have_no_norm_over_the_batch() -> None:
    for module in convolutional_energy((1, 8, 8), 4).modules():
        assert not isinstance(module, nn.BatchNorm2d)
