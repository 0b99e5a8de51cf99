"""The diffusion process, its samplers and its bound against closed forms."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
from scipy.stats import norm

import scratchgen as sg
from scratchgen import Generator, Tensor, nn
from scratchgen.models import samplers
from scratchgen.models.diffusion import (
    Diffusion,
    Prediction,
    Process,
    abar_of,
    beyond,
    log_discretised_gaussian,
    posterior,
)
from scratchgen.models.unet import SurveyUNet
from scratchgen.recipes.ddpm import DDPMRecipe

SCHEDULES = ("linear", "cosine", "offset-cosine", "sigmoid")


def array(x: Tensor) -> np.ndarray:
    return x.numpy(force=True)


# --- the forward process


@pytest.mark.parametrize("schedule", SCHEDULES)
def test_schedules_lose_all_of_the_signal_and_gain_none(schedule: str) -> None:
    for steps in (10, 200, 1000):
        abar = abar_of(schedule, steps)
        assert abar.shape == (steps,)
        assert (np.diff(abar) < 0).all()
        assert 0 < abar[-1] < 3e-3
        assert abar[0] < 1


def test_the_linear_schedule_is_the_published_one() -> None:
    abar = abar_of("linear", 1000)
    assert abar[-1] == pytest.approx(4.036e-5, rel=1e-3)
    np.testing.assert_allclose(Process(abar).betas[[0, -1]], [1e-4, 0.02], rtol=1e-10)


def test_the_cosine_schedule_begins_below_the_distance_of_two_grey_levels() -> None:
    """As its authors chose their offset for 256 levels and 1000 steps, the digits' preset does for 17 and 200."""
    first = math.sqrt(Process.of("cosine", 1000).betas[0])
    assert 0.75 < first / (2 / 255) < 1
    config = DDPMRecipe.configure("tiny", "digits")
    assert 0.4 < math.sqrt(Process.of("cosine", 200, config.offset).betas[0]) / (2 / 16) < 1
    assert Process.of("cosine", 200, config.offset).abar[-1] < 1e-6


def test_single_steps_make_up_the_jump() -> None:
    """Their signal factors multiply to sqrt(abar), and the variances that they add to 1 - abar."""
    process = Process.of("cosine", 300)
    signal, variance = sg.tensor([1.0], dtype=sg.float64), 0.0
    one, zero = sg.ones(1, dtype=sg.float64), sg.zeros(1, dtype=sg.float64)
    for t in range(process.steps):
        signal = process.single_step(signal, t, zero)
        variance = (1 - process.betas[t]) * variance + array(process.single_step(zero, t, one)).item() ** 2
        assert array(signal).item() == pytest.approx(math.sqrt(process.abar[t]), rel=1e-10)
        assert variance == pytest.approx(1 - process.abar[t], rel=1e-10)
    jumped = process.jump(sg.ones(2, 3, dtype=sg.float64), np.array([5, 200]), sg.zeros(2, 3, dtype=sg.float64))
    np.testing.assert_allclose(array(jumped)[:, 0], np.sqrt(process.abar[[5, 200]]), rtol=1e-12)


def test_the_right_rule_keeps_unit_variance_and_the_surveys_misprint_does_not() -> None:
    """Printed: x_t = (1 - sqrt(1 - beta)) x_{t-1} + sqrt(beta) eps. Right: eq. 2 of the paper."""
    process = Process.of("linear", 1000)
    rng = np.random.default_rng(0)
    right = printed = rng.standard_normal(100_000)
    for t in range(3):
        beta, eps = process.betas[t], rng.standard_normal(100_000)
        right = array(process.single_step(sg.tensor(right), t, sg.tensor(eps)))
        printed = (1 - math.sqrt(1 - beta)) * printed + math.sqrt(beta) * eps
        assert right.var() == pytest.approx(1, abs=0.02)
        assert printed.var() < 2 * beta  # one step has erased the image


def test_the_posterior_is_bayes_rule() -> None:
    """Mean and variance of x_s given x_t and x_0, from the joint Gaussian of (x_s, x_t)."""
    process = Process.of("cosine", 50)
    t, s = 30, 17
    abar, abar_s = process.abar[t], process.abar[s]
    x0, x = 0.7, -0.4
    keep = math.sqrt(abar / abar_s)
    covariance = keep * (1 - abar_s)
    mean = math.sqrt(abar_s) * x0 + covariance / (1 - abar) * (x - math.sqrt(abar) * x0)
    variance = (1 - abar_s) - covariance**2 / (1 - abar)
    like = sg.tensor([x], dtype=sg.float64)
    found, log_small, log_large = posterior(
        process, like, sg.tensor([x0], dtype=sg.float64), np.array([t]), np.array([s])
    )
    assert found.item() == pytest.approx(mean, rel=1e-10)
    assert math.exp(log_small.item()) == pytest.approx(variance, rel=1e-10)
    assert math.exp(log_large.item()) == pytest.approx(1 - abar / abar_s, rel=1e-10)


# --- samplers, with the best predictor there is


class Best:
    """E[x_0 | x_t] of data N(mean, variance), which is linear in x_t: no network can do better."""

    def __init__(self, process: Process, mean: float, variance: float) -> None:
        self.process, self.mean, self.variance = process, mean, variance

    def __call__(self, x: Tensor, t: np.ndarray) -> Prediction:
        abar = float(self.process.abar[t[0]])
        spread = abar * self.variance + 1 - abar
        away = x - math.sqrt(abar) * self.mean
        return Prediction(
            x0=self.mean + math.sqrt(abar) * self.variance / spread * away, eps=math.sqrt(1 - abar) / spread * away
        )


def gain(sampler: str, steps: int, variance: float, mean: float = 0.0) -> tuple[float, float]:
    """The samplers without noise are linear here: sample = a x_T + b; returns a and b."""
    process = Process.of("linear", 1000)
    best, times = Best(process, mean, variance), samplers.spaced(process, steps)
    x = sg.tensor([[1.0], [-1.0]], dtype=sg.float64)
    run = {
        "ddim": lambda: samplers.ddim(process, best, x, times, Generator(0)),
        "dpm-solver": lambda: samplers.dpm_solver(process, best, x, times),
        "heun": lambda: samplers.heun(process, best, x, times),
    }[sampler]
    plus, minus = array(samplers.last(run())).ravel()
    return (plus - minus) / 2, (plus + minus) / 2


@pytest.mark.parametrize("sampler", ["ddim", "dpm-solver", "heun"])
@pytest.mark.parametrize("variance", [0.04, 0.25, 2.0])
def test_deterministic_samplers_tend_to_the_datas_mean_and_variance(sampler: str, variance: float) -> None:
    errors = []
    for steps in (40, 160):
        a, b = gain(sampler, steps, variance, mean=1.5)
        errors.append(abs(a - math.sqrt(variance)))
        assert b == pytest.approx(1.5, abs=0.02)
    # Four times the steps: a quarter of the error at first order, a sixteenth at second, where that is reached.
    better = errors[0] / errors[1]
    assert 3 < better < 5 if sampler == "ddim" else better > 8
    assert errors[1] < (0.015 if sampler == "ddim" else 0.005)


def moments(variance_of_data: float, variance: str) -> tuple[float, float]:
    process = Process.of("linear", 100)
    generator = Generator(1)
    x = sg.randn((100_000, 1), generator=generator)
    times = samplers.spaced(process, process.steps)
    best = Best(process, 0.5 if variance == "small" else 0.0, variance_of_data)
    drawn = array(samplers.last(samplers.ancestral(process, best, x, times, generator, variance)))
    return float(drawn.mean()), float(drawn.var())


def test_ancestral_sampling_is_exact_where_the_paper_says_so() -> None:
    """Section 3.2: the large variance for N(0, I), the small one for a single point; 1e5 samples, 3 standard errors."""
    mean, variance = moments(1.0, "large")
    assert abs(mean) < 3 / math.sqrt(1e5)
    assert abs(variance - 1) < 3 * math.sqrt(2 / 1e5)
    mean, variance = moments(0.0, "small")
    assert mean == pytest.approx(0.5, abs=1e-5)
    assert variance < 1e-10


def test_in_between_the_two_variances_bracket_the_truth() -> None:
    assert moments(0.25, "small")[1] < 0.25 < moments(0.25, "large")[1]


def test_ddim_with_all_of_the_noise_is_ancestral_sampling() -> None:
    process = Process.of("cosine", 100)
    best, times = Best(process, 0.3, 0.5), samplers.spaced(process, 12)
    x = sg.randn((50, 2), generator=Generator(0), dtype=sg.float64)
    first = samplers.ddim(process, best, x, times, Generator(3), eta=1.0)
    second = samplers.ancestral(process, best, x, times, Generator(3), "small")
    for a, b in zip(first, second, strict=True):
        np.testing.assert_allclose(array(a), array(b), atol=1e-10)


def test_inversion_goes_back_to_the_noise_that_ddim_came_from() -> None:
    process = Process.of("cosine", 1000)
    best, times = Best(process, 0.5, 0.3), samplers.spaced(process, 500)
    x = sg.randn((20, 3), generator=Generator(0), dtype=sg.float64)
    data = samplers.last(samplers.ddim(process, best, x, times, Generator(0)))
    noise = samplers.last(samplers.ddim_inverse(process, best, data, times))
    np.testing.assert_allclose(array(noise), array(x), atol=0.02)


def test_inpainting_keeps_what_is_known_and_fits_the_rest_to_it() -> None:
    """Two equal numbers: where one is known, the other follows it, though the sampler is never told that they agree."""
    process = Process.of("cosine", 100)

    def twins(x: Tensor, t: np.ndarray) -> Prediction:
        abar = float(process.abar[t[0]])
        both = x.mean(1, keepdim=True)  # the best guess of a common N(0, 1) number from both noisy copies
        x0 = (math.sqrt(abar) / (abar + (1 - abar) / 2) * both).expand(x.shape)
        return Prediction(x0, (x - math.sqrt(abar) * x0) / math.sqrt(1 - abar))

    known = sg.tensor([[1.5, 0.0]] * 400, dtype=sg.float64)
    mask = sg.tensor([1.0, 0.0], dtype=sg.float64)
    generator = Generator(0)
    x = sg.randn(known.shape, generator=generator, dtype=sg.float64)
    times = samplers.spaced(process, 100)
    drawn = array(samplers.last(samplers.inpaint(process, twins, x, times, generator, known, mask, repeats=10)))
    np.testing.assert_array_equal(drawn[:, 0], 1.5)
    assert drawn[:, 1].mean() == pytest.approx(1.5, abs=0.15)


def test_times_are_evenly_spaced_and_end_at_0() -> None:
    process = Process.of("linear", 1000)
    assert samplers.spaced(process, 5) == [999, 749, 500, 250, 0]
    assert samplers.spaced(process, 3, start=10) == [10, 5, 0]
    with pytest.raises(ValueError, match="between 1 and 11 steps lead down from index 10, got 12"):
        samplers.spaced(process, 12, start=10)


def test_every_sampler_agrees_on_a_single_point() -> None:
    """With all of the data at one place the first guess is right, and nothing may move it."""
    process = Process.of("linear", 50)
    best, times = Best(process, 0.25, 0.0), samplers.spaced(process, 10)
    x = sg.randn(4, 2, dtype=sg.float64)
    runs = {
        "ancestral": samplers.ancestral(process, best, x, times, Generator(0)),
        "ddim": samplers.ddim(process, best, x, times, Generator(0), eta=0.5),
        "dpm": samplers.dpm_solver(process, best, x, times),
        "heun": samplers.heun(process, best, x, times),
    }
    for states in runs.values():
        np.testing.assert_allclose(array(samplers.last(states)), 0.25, atol=1e-9)
    assert list(itertools.islice(runs["ddim"], 1)) == []


# --- what networks say


class Gaussians(nn.Module):
    """The best answer for classes N(-1, 0.1) and N(1, 0.1), or for their equal mixture under the null label."""

    def __init__(self, process: Process, target: str) -> None:
        super().__init__()
        self.process, self.target = process, target

    def forward(self, x: Tensor, t: Tensor, label: Tensor) -> Tensor:
        abar = float(self.process.abar[int(array(t)[0])])
        spread, signal, noise = abar * 0.1 + 1 - abar, math.sqrt(abar), math.sqrt(1 - abar)
        each = [noise / spread * (x - signal * m) for m in (-1.0, 1.0)]
        right = sg.sigmoid(2 * signal * x / spread)
        both = (1 - right) * each[0] + right * each[1]
        eps = sg.where(label[:, None] == 2, both, sg.where(label[:, None] == 0, each[0], each[1]))
        x0 = (x - noise * eps) / signal
        return {"eps": eps, "x0": x0, "v": signal * eps - noise * x0}[self.target]


@pytest.mark.parametrize("target", ["eps", "x0", "v"])
def test_all_targets_say_the_same(target: str) -> None:
    process = Process.of("cosine", 40)
    model = Diffusion(Gaussians(process, target), process, target, classes=2)
    reference = Diffusion(Gaussians(process, "eps"), process, "eps", classes=2)
    x, t = sg.randn(9, 1, dtype=sg.float64), np.full(9, 20)
    label = sg.tensor([0, 1, 0, 1, 0, 1, 0, 1, 0])
    for name in ("x0", "eps"):
        own, other = (getattr(m.predict(x, t, label), name) for m in (model, reference))
        np.testing.assert_allclose(array(own), array(other), atol=1e-10)
    x0, eps = sg.randn(9, 1, dtype=sg.float64), sg.randn(9, 1, dtype=sg.float64)
    noisy = process.jump(x0, t, eps)
    pair = model._pair(noisy, t, model.target_of(x0, eps, t), None, clip=False)
    np.testing.assert_allclose(array(pair.x0), array(x0), atol=1e-10)
    np.testing.assert_allclose(array(pair.eps), array(eps), atol=1e-10)


def test_guidance_on_two_gaussian_classes() -> None:
    process = Process.of("cosine", 40)
    model = Diffusion(Gaussians(process, "eps"), process, "eps", classes=2)
    x, t = sg.tensor(np.linspace(-3, 3, 25)[:, None]), np.full(25, 15)
    label, w = sg.full((25,), 1, dtype=sg.int64), 1.7
    abar = process.abar[15]
    spread = abar * 0.1 + 1 - abar
    grid = np.linspace(-3, 3, 25)
    # Scores are -eps / sqrt(1 - abar): of the class, and of the mixture by the derivative of its log-density.
    h = 1e-5

    def log_mixture(z: np.ndarray) -> np.ndarray:
        return np.logaddexp(*(norm.logpdf(z, m * math.sqrt(abar), math.sqrt(spread)) for m in (-1, 1)))

    of_class = -(grid - math.sqrt(abar)) / spread
    of_any = (log_mixture(grid + h) - log_mixture(grid - h)) / (2 * h)
    expected = -math.sqrt(1 - abar) * ((1 + w) * of_class - w * of_any)
    found = model.guided(x, t, label, w)
    np.testing.assert_allclose(array(found.eps).ravel(), expected, atol=1e-6)
    plain = model.guided(x, t, label, 0.0)
    np.testing.assert_allclose(array(plain.eps), array(model.predict(x, t, label).eps), atol=1e-12)
    # Rescaled fully, the answer has the spread (over a sample's numbers) that it had without guidance.
    images = sg.randn(4, 16, dtype=sg.float64)
    rescaled = model.guided(images, np.full(4, 15), sg.zeros(4, dtype=sg.int64), w, rescale=1.0)
    own = model.predict(images, np.full(4, 15), sg.zeros(4, dtype=sg.int64))
    np.testing.assert_allclose(array(rescaled.eps.std(1)), array(own.eps.std(1)), rtol=1e-10)


def test_clipping_keeps_the_pair_consistent() -> None:
    process = Process.of("cosine", 40)
    model = Diffusion(Gaussians(process, "eps"), process, "eps", classes=2)
    x, t = 3 * sg.randn(50, 1, dtype=sg.float64), np.full(50, 30)
    pair = model.predict(x, t, sg.zeros(50, dtype=sg.int64), clip=True)
    assert pair.x0.abs().max().item() <= 1
    np.testing.assert_allclose(array(process.jump(pair.x0, t, pair.eps)), array(x), atol=1e-10)


@pytest.mark.parametrize("target", ["eps", "x0", "v"])
def test_a_guess_beyond_the_end_where_the_pixel_is_costs_nothing(target: str) -> None:
    """And every other one costs what it did: beyond the other end, and inside, and of a grey pixel."""

    class Says(nn.Module):
        def forward(self, x: Tensor, t: Tensor, label: Tensor | None = None) -> Tensor:
            signal, noise = (sg.tensor(r, dtype=sg.float64)[:, None] for r in (np.sqrt(abar), np.sqrt(1 - abar)))
            eps = (x - signal * guess) / noise
            return {"eps": eps, "x0": guess.expand(x.shape), "v": signal * eps - noise * guess}[target]

    t = np.array([10, 150])
    process = Process.of("cosine", 200)
    abar = process.abar[t]
    x0 = sg.tensor([[-1.0, -1.0, -1.0, 1.0, 1.0, 1.0, 0.2]] * 2, dtype=sg.float64)
    guess = sg.tensor([-1.5, -0.9, 1.5, 1.5, 0.9, -1.5, 1.5], dtype=sg.float64)
    model = Diffusion(Says(), process, target)
    losses = array(model.losses(x0, t, Generator(0), censored=True)[0])
    counted = array((guess - x0) ** 2) * [0, 1, 1, 0, 1, 1, 1]
    weight = {"eps": process.snr[t], "x0": np.ones(2), "v": process.snr[t] + 1}[target]
    np.testing.assert_allclose(losses, weight * counted.mean(1), rtol=1e-9)


@pytest.mark.parametrize("black", [1.0, 0.9, 0.3, 0.0])
def test_the_best_clipped_guess_is_the_mean_with_the_censored_loss_too(black: float) -> None:
    """Of a pixel that is black, white or grey; one that is surely black may be guessed any distance below."""
    values, shares = np.array([-1.0, 1.0, 0.2]), np.array([black, 0.7 * (1 - black), 0.3 * (1 - black)])
    guesses = np.linspace(-2, 2, 4001)
    x0, guess = (sg.tensor(a) for a in np.broadcast_arrays(values[:, None], guesses))
    error = np.where(array(beyond(guess, x0)), 0, (array(guess) - array(x0)) ** 2)
    expected = shares @ error
    best = guesses[expected <= expected.min() + 1e-12].clip(-1, 1)
    np.testing.assert_allclose(best, shares @ values, atol=1e-3)
    assert (len(best) > 1) == (black == 1)


def test_min_snr_weighs_all_targets_alike() -> None:
    process = Process.of("cosine", 100)
    t = np.arange(100)
    abar = process.abar
    # One error in eps is this many times that in x_0, and in v.
    of_eps = Diffusion(nn.Identity(), process, "eps").min_snr_weight(t)
    of_x0 = Diffusion(nn.Identity(), process, "x0").min_snr_weight(t)
    of_v = Diffusion(nn.Identity(), process, "v").min_snr_weight(t)
    np.testing.assert_allclose(of_eps, of_x0 * (1 - abar) / abar, rtol=1e-9)
    np.testing.assert_allclose(of_eps, of_v / abar, rtol=1e-9)
    assert of_x0.max() == 5


# --- the bound


def test_pixels_of_all_levels_have_mass_1() -> None:
    levels = sg.tensor(np.linspace(-1, 1, 17))
    for mean, sd in ((0.1, 0.3), (-0.9, 0.05), (2.0, 1.0)):
        log_mass = log_discretised_gaussian(
            levels, sg.full_like(levels, mean), sg.full_like(levels, 2 * math.log(sd)), 17
        )
        assert np.exp(array(log_mass)).sum() == pytest.approx(1, abs=1e-9)


def test_terms_of_the_bound() -> None:
    """With the truth for x_0 and the small variance every KL is 0; with another, it is that of two Gaussians."""
    process = Process.of("cosine", 50)
    model = Diffusion(nn.Identity(), process)
    x0, eps = sg.rand(3, 1, 2, 2, dtype=sg.float64) * 2 - 1, sg.randn(3, 1, 2, 2, dtype=sg.float64)
    t = np.array([10, 20, 49])
    x = process.jump(x0, t, eps)
    truth = Prediction(x0, eps)
    np.testing.assert_allclose(array(model.bound_terms(x0, x, t, truth, 256)), 0, atol=1e-9)
    share = sg.full_like(x0, 0.3)
    wrong = Prediction(x0 + 0.1, eps, share)
    mean, log_variance = (array(a) for a in model.reverse(x, t, wrong))
    true_mean, log_small, _ = (array(a) for a in posterior(process, x, x0, t))
    variance, small = np.exp(log_variance), np.exp(np.broadcast_to(log_small, mean.shape))
    kl = np.log(np.sqrt(variance / small)) + (small + (mean - true_mean) ** 2) / (2 * variance) - 0.5
    np.testing.assert_allclose(array(model.bound_terms(x0, x, t, wrong, 256)), kl.sum((1, 2, 3)), rtol=1e-9)


def test_the_prior_term() -> None:
    process = Process.of("linear", 100)
    x0 = sg.rand(2, 5, dtype=sg.float64)
    abar = process.abar[-1]
    mean, variance = np.sqrt(abar) * array(x0), 1 - abar
    kl = 0.5 * (variance + mean**2 - 1 - np.log(variance))
    np.testing.assert_allclose(array(Diffusion(nn.Identity(), process).prior_term(x0)), kl.sum(1), rtol=1e-9)


def test_the_bound_trains_the_variance_only() -> None:
    process = Process.of("cosine", 20)
    network = SurveyUNet(1, (4,), blocks=1, outputs=2, embedding=4)
    nn.init.normal_(network.last.weight, 0, 0.1)
    model = Diffusion(network, process, learned_variance=True)
    _, terms = model.losses(sg.rand(4, 1, 4, 4) * 2 - 1, np.array([0, 5, 10, 19]), Generator(0))
    assert terms.shape == (4,)
    terms.sum().backward()
    of_mean, of_variance = array(network.last.bias.grad)
    assert of_mean == 0
    assert of_variance != 0
