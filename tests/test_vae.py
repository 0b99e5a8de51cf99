"""The variational autoencoder against closed forms, Monte Carlo and torch."""

from __future__ import annotations

import copy
import math

import numpy as np
import pytest
import scipy.stats

import scratchgen as sg
from scratchgen import Generator, Tensor, metrics
from scratchgen.models.latents import attribute_vector, linear_path, spherical_path
from scratchgen.models.vae import (
    LOG_VARIANCES,
    VAE,
    Bernoulli,
    Bound,
    Gaussian,
    GaussianHead,
    active_units,
    convolutional,
    dense,
    latent_grid,
)
from scratchgen.testing import check_grad


def array(x: Tensor) -> np.ndarray:
    return x.numpy(force=True)


def images(count: int = 4, shape: tuple[int, ...] = (1, 4, 4), dtype: str = "float32") -> Tensor:
    """Random binary images."""
    return sg.tensor((np.random.default_rng(0).random((count, *shape)) < 0.4).astype(dtype))


def ppca_vae(latent: int = 2, pixels: int = 6, sd: float = 0.5) -> tuple[VAE, np.ndarray]:
    """A linear VAE whose encoder is the exact posterior of its decoder, and the covariance of its p(x).

    x = b + W z + sd * noise with orthogonal columns of W has the posterior N(M^-1 W'(x - b), sd^2 M^-1),
    M = W'W + sd^2 I diagonal (Tipping and Bishop 1999), which a linear encoder with a constant log-variance head can
    express.
    """
    rng = np.random.default_rng(1)
    w = np.linalg.qr(rng.standard_normal((pixels, latent)))[0] * rng.uniform(0.5, 2, latent)
    b = rng.standard_normal(pixels)
    m = (w**2).sum(0) + sd**2
    model = dense((1, 1, pixels), (), latent, GaussianHead("fixed", sd)).double()
    state = {
        "decoder.0.weight": w,
        "decoder.0.bias": b,
        "mean.weight": (w / m).T,
        "mean.bias": -(w / m).T @ b,
        "log_variance.weight": np.zeros((latent, pixels)),
        "log_variance.bias": np.log(sd**2 / m),
        "observe.log_variance": np.array(2 * math.log(sd)),
    }
    model.load_state_dict({**model.state_dict(), **{name: sg.tensor(value) for name, value in state.items()}})
    return model, w @ w.T + sd**2 * np.eye(pixels)


# --- exact anchors


def test_kl_is_what_monte_carlo_says() -> None:
    q = Gaussian(sg.tensor(np.array([0.0, 1.3, -0.4, 3.0])), sg.tensor(np.array([0.0, -1.0, 1.5, -6.0])))
    z = q.sample(Generator(0), 1_000_000)
    prior = Gaussian(sg.zeros(4, dtype=sg.float64), sg.zeros(4, dtype=sg.float64))
    log_ratio = array(q.log_prob(z) - prior.log_prob(z))
    kl, error = array(q.kl()), log_ratio.std(0) / 1000
    assert (np.abs(log_ratio.mean(0) - kl) <= 3 * error + 1e-12).all()
    assert kl[0] == 0
    assert (kl[1:] > 0.3).all()


def test_kl_is_zero_only_for_the_prior() -> None:
    mean, log_variance = np.meshgrid(np.linspace(-1, 1, 21), np.linspace(-1, 1, 21))
    kl = array(Gaussian(sg.tensor(mean), sg.tensor(log_variance)).kl())
    assert kl[10, 10] == 0
    assert (np.delete(kl, 10 * 21 + 10) > 1e-3).all()
    variance = np.exp(log_variance)
    np.testing.assert_allclose(kl, 0.5 * (mean**2 + variance - 1 - log_variance), atol=1e-15)


def test_with_the_exact_posterior_every_bound_is_the_likelihood() -> None:
    """All importance weights are then p(x): any K, any draw, gives log p(x) itself."""
    model, covariance = ppca_vae()
    b = array(model.decoder[0].bias)
    x = np.random.default_rng(2).multivariate_normal(b, covariance, 50)
    exact = scipy.stats.multivariate_normal(b, covariance).logpdf(x)
    batch = sg.tensor(x.reshape(50, 1, 1, 6))
    for count in (1, 2, 7):
        np.testing.assert_allclose(array(model.importance_bound(batch, count, Generator(count))), exact, rtol=1e-10)
    draws = [array(model.elbo(batch, Generator(seed)).elbo) for seed in range(400)]
    error = np.std(draws, axis=0) / 20
    assert (np.abs(np.mean(draws, axis=0) - exact) <= 4 * error).all()


def test_importance_bound_grows_with_its_samples_from_the_elbo_to_the_likelihood() -> None:
    model, covariance = ppca_vae()
    model.log_variance.bias.data = model.log_variance.bias.data + 1.0  # now q is too wide, and the ELBO loose
    b = array(model.decoder[0].bias)
    x = np.random.default_rng(2).multivariate_normal(b, covariance, 2000)
    exact = scipy.stats.multivariate_normal(b, covariance).logpdf(x)
    batch, generator = sg.tensor(x.reshape(-1, 1, 1, 6)), Generator(5)
    gaps = {}
    with sg.no_grad():
        elbo = np.mean([array(model.elbo(batch, generator).elbo) for _ in range(30)], axis=0)
        for count in (1, 2, 8, 64, 512):
            repeats = 30 if count < 8 else 1
            gaps[count] = exact - np.mean(
                [array(model.importance_bound(batch, count, generator)) for _ in range(repeats)], axis=0
            )
    one, se = metrics.mean_se(exact - elbo - gaps[1])
    assert abs(one) <= 3 * se, "one sample is an ELBO"
    means = {count: metrics.mean_se(gap) for count, gap in gaps.items()}
    for fewer, more in [(1, 2), (2, 8), (8, 64)]:
        assert means[fewer].value - means[more].value > 3 * math.hypot(means[fewer].se, means[more].se)
    assert -3 * means[512].se <= means[512].value < 0.01


def test_linear_vae_reaches_probabilistic_pca() -> None:
    rng = np.random.default_rng(3)
    basis = np.linalg.qr(rng.standard_normal((8, 8)))[0]
    x = (rng.standard_normal((2000, 8)) * [3, 2, 1, 0.5, 0.5, 0.4, 0.4, 0.3]) @ basis.T + rng.standard_normal(8)
    exact = metrics.ProbabilisticPCA.fit(x, 2).log_prob(x).mean()
    model = dense((1, 1, 8), (), 2, GaussianHead("shared", 1.0))
    batch, generator = sg.tensor(x.astype(np.float32).reshape(-1, 1, 1, 8)), Generator(0)
    optimizer = sg.optim.Adam(model.parameters(), lr=0.03)
    schedule = sg.optim.lr_scheduler.CosineAnnealingLR(optimizer, 1200)
    for _ in range(1200):
        loss = -model.elbo(batch, generator).objective()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
    with sg.no_grad():
        elbo = np.mean([model.elbo(batch, generator).elbo.mean().item() for _ in range(100)])
    assert exact - 0.1 < elbo < exact + 0.01


# --- distributions and objective


def test_gaussian_log_density_is_scipys() -> None:
    rng = np.random.default_rng(0)
    x, mean, log_variance = rng.standard_normal((3, 5, 2))
    found = array(Gaussian(sg.tensor(mean), sg.tensor(log_variance)).log_prob(sg.tensor(x)))
    np.testing.assert_allclose(found, scipy.stats.norm(mean, np.exp(log_variance / 2)).logpdf(x), rtol=1e-12)


def test_bernoulli_log_probability_is_a_sum_over_pixels_in_nats() -> None:
    model = dense((1, 4, 4), (5,), 3)
    for p in model.parameters():
        p.data = p.data * 0
    x = images()
    bound = model.elbo(x, Generator(0))
    np.testing.assert_allclose(array(bound.log_likelihood), -16 * math.log(2), rtol=1e-6)  # every pixel a fair coin
    np.testing.assert_array_equal(array(bound.kl), 0)
    np.testing.assert_allclose(array(bound.elbo), -16 * math.log(2), rtol=1e-6)


def test_bernoulli_draws_have_their_mean() -> None:
    p = Bernoulli(sg.tensor([-2.0, 0.0, 3.0]).expand(100_000, 3))
    draws = array(p.sample(Generator(0)))
    assert set(np.unique(draws)) == {0, 1}
    mean = array(p.mean)[0]
    np.testing.assert_allclose(mean, 1 / (1 + np.exp([2.0, 0.0, -3.0])), rtol=1e-6)
    assert (np.abs(draws.mean(0) - mean) <= 4 * np.sqrt(mean * (1 - mean) / 100_000)).all()


def test_objective_is_the_mean_elbo_with_beta_and_free_bits() -> None:
    rng = np.random.default_rng(0)
    log_likelihood, kl = rng.standard_normal(6), rng.uniform(0, 2, (6, 3)) * [1, 0.1, 1]
    bound = Bound(sg.tensor(log_likelihood), sg.tensor(kl))
    np.testing.assert_allclose(array(bound.elbo), log_likelihood - kl.sum(1), rtol=1e-12)
    assert bound.objective().item() == pytest.approx(array(bound.elbo).mean(), rel=1e-12)
    assert bound.objective(beta=4.0).item() == pytest.approx(log_likelihood.mean() - 4 * kl.sum(1).mean(), rel=1e-12)
    pressed = np.maximum(kl.mean(0), 0.5)
    assert pressed[1] == 0.5 < pressed[0]
    assert bound.objective(free_bits=0.5).item() == pytest.approx(log_likelihood.mean() - pressed.sum(), rel=1e-12)


def test_free_bits_leave_a_cheap_unit_alone() -> None:
    mean = sg.tensor([[0.1, 2.0], [0.1, 1.0]], requires_grad=True)
    bound = Bound(sg.zeros(2), Gaussian(mean, sg.zeros(2, 2)).kl())
    bound.objective(free_bits=0.2).backward()
    np.testing.assert_array_equal(array(mean.grad)[:, 0], 0)
    np.testing.assert_allclose(array(mean.grad)[:, 1], [-1.0, -0.5])


@pytest.mark.parametrize("variance", ["fixed", "shared", "pixel"])
def test_gaussian_decoders(variance: str) -> None:
    model = dense((3, 4, 4), (8,), 2, GaussianHead(variance, 0.2))
    x = sg.randn(5, 3, 4, 4)
    p = model.decode(model.prior(5, Generator(0)))
    assert p.mean.shape == (5, 3, 4, 4)
    if variance != "pixel":
        np.testing.assert_allclose(array(p.log_variance), math.log(0.04), rtol=1e-6)
    expected = scipy.stats.norm(array(p.mean), np.exp(array(p.log_variance) / 2)).logpdf(array(x))
    np.testing.assert_allclose(array(p.log_prob(x)), expected, rtol=1e-4)
    (-model.elbo(x, Generator(0)).objective()).backward()
    learned = [name for name, p in model.named_parameters() if p.grad is not None and "observe" in name]
    assert learned == (["observe.log_variance"] if variance == "shared" else [])


def test_heads_are_clamped_before_they_overflow() -> None:
    model = dense((1, 4, 4), (8,), 2)
    model.log_variance.bias.data = sg.tensor([1e4, -1e4])
    q = model.encode(images())
    np.testing.assert_array_equal(array(q.log_variance), [[LOG_VARIANCES[1], LOG_VARIANCES[0]]] * 4)
    loss = -model.elbo(images(), Generator(0)).objective()
    loss.backward()
    assert math.isfinite(loss.item())
    assert all(np.isfinite(array(p.grad)).all() for p in model.parameters())


# --- gradients


def test_gradients_of_the_distributions() -> None:
    rng = np.random.default_rng(0)
    x, eps = images(2, (1, 2, 3), "float64"), sg.tensor(rng.standard_normal((2, 3)))

    def loss(mean: Tensor, log_variance: Tensor, logits: Tensor, real: Tensor) -> tuple[Tensor, ...]:
        q = Gaussian(mean, log_variance)
        return q.kl(), q.log_prob(eps), q.sample(Generator(0)), Bernoulli(logits).log_prob(x), q.log_prob(real)

    check_grad(loss, *(rng.standard_normal(shape) for shape in [(2, 3), (2, 3), (2, 1, 2, 3), (2, 3)]), order=2)


@pytest.mark.parametrize("bound", ["elbo", "importance"])
def test_gradients_of_the_bounds_reach_every_weight(bound: str) -> None:
    """Every weight of a small network is replaced by the variable to differentiate by."""
    model = dense((1, 2, 3), (5,), 2, activation=sg.nn.SiLU).double()
    x = images(3, (1, 2, 3), "float64")
    owners = dict(model.named_parameters())

    def loss(*weights: Tensor) -> Tensor:
        for name, weight in zip(owners, weights, strict=True):
            owner, _, attribute = name.rpartition(".")
            vars(model.get_submodule(owner))[attribute] = weight
        if bound == "elbo":
            return model.elbo(x, Generator(0)).elbo
        return model.importance_bound(x, 4, Generator(0))

    check_grad(loss, *(array(p) for p in owners.values()), order=1)


def test_elbo_and_gradients_are_torchs() -> None:
    torch = pytest.importorskip("torch")
    model = dense((1, 8, 8), (32, 16), 4, activation=sg.nn.SiLU)
    x, eps = images(16, (1, 8, 8)), array(sg.randn(16, 4, generator=Generator(7)))
    bound = model.elbo(x, Generator(7))
    (-bound.objective(beta=0.5)).backward()

    weights = {name: torch.tensor(array(p), requires_grad=True) for name, p in model.named_parameters()}
    linear = lambda name, h: torch.nn.functional.linear(h, weights[f"{name}.weight"], weights[f"{name}.bias"])  # noqa: E731
    silu, target = torch.nn.functional.silu, torch.tensor(array(x)).flatten(1)
    h = silu(linear("encoder.layers.2", silu(linear("encoder.layers.0", target))))
    mean, log_variance = linear("mean", h), linear("log_variance", h)
    z = torch.distributions.Normal(mean, (0.5 * log_variance).exp())
    latent = mean + z.stddev * torch.tensor(eps)
    logits = linear("decoder.4", silu(linear("decoder.2", silu(linear("decoder.0", latent)))))
    log_likelihood = torch.distributions.Bernoulli(logits=logits).log_prob(target).sum(1)
    kl = torch.distributions.kl_divergence(z, torch.distributions.Normal(0.0, 1.0)).sum(1)
    np.testing.assert_allclose(array(bound.elbo), (log_likelihood - kl).detach(), rtol=1e-5)
    (-(log_likelihood - 0.5 * kl).mean()).backward()
    for name, p in model.named_parameters():
        np.testing.assert_allclose(array(p.grad), weights[name].grad, rtol=1e-4, atol=1e-5, err_msg=name)


# --- networks


@pytest.mark.parametrize("classes", [0, 3])
@pytest.mark.parametrize("kind", ["dense", "conv", "linear"])
def test_shapes(kind: str, classes: int) -> None:
    shape = (3, 8, 8)
    if kind == "conv":
        model = convolutional(shape, (4, 6), 16, 5, classes=classes, dropout=0.1)
    else:
        model = dense(shape, (16, 12) if kind == "dense" else (), 5, classes=classes, dropout=0.1)
    x, label = images(7, shape), sg.tensor(np.arange(7) % 3) if classes else None
    q = model.encode(x, label)
    assert q.mean.shape == q.log_variance.shape == (7, 5)
    assert model.decode(q.mean, label).mean.shape == (7, *shape)
    assert model.decode(q.sample(Generator(0), 2), label).mean.shape == (2, 7, *shape)
    assert model.elbo(x, Generator(0), label).elbo.shape == (7,)
    bound = model.importance_bound(x, 3, Generator(0), label)
    assert bound.shape == (7,)
    bound.sum().backward()
    assert all(p.grad is not None and np.abs(array(p.grad)).max() > 0 for p in model.parameters())


def test_a_label_changes_both_sides_of_a_conditional_vae() -> None:
    for model in (dense((1, 8, 8), (16,), 4, classes=3), convolutional((1, 8, 8), (4,), 16, 4, classes=3)):
        x, zero, one = images(2, (1, 8, 8)), sg.tensor([0, 0]), sg.tensor([1, 1])
        assert np.abs(array(model.encode(x, zero).mean - model.encode(x, one).mean)).max() > 1e-3
        z = model.prior(2, Generator(0))
        assert np.abs(array(model.decode(z, zero).mean - model.decode(z, one).mean)).max() > 1e-3
        with pytest.raises(ValueError, match="conditional on 3 classes: give label"):
            model.encode(x)


def test_wrong_arguments_say_what_to_do() -> None:
    with pytest.raises(ValueError, match="label given to a VAE that was built without classes"):
        dense((1, 4, 4), (8,), 2).decode(sg.zeros(1, 2), sg.tensor([0]))
    with pytest.raises(
        ValueError, match=r"2 layers of stride 2 need height and width divisible by 4, the images are \(1, 6, 8\)"
    ):
        convolutional((1, 6, 8), (4, 8), 16, 2)
    with pytest.raises(ValueError, match="variance must be 'fixed', 'shared' or 'pixel', got 'learned'"):
        GaussianHead("learned")


def test_draws_repeat_with_the_generator() -> None:
    model = dense((1, 4, 4), (8,), 2)
    x = images()
    first, again, other = (array(model.elbo(x, Generator(seed)).elbo) for seed in (1, 1, 2))
    np.testing.assert_array_equal(first, again)
    assert (first != other).all()
    np.testing.assert_array_equal(array(model.prior(3, Generator(1))), array(model.prior(3, Generator(1))))


def test_dropout_only_in_training() -> None:
    model = dense((1, 4, 4), (64,), 2, dropout=0.5)
    x = images()
    assert (array(model.encode(x).mean) != array(model.encode(x).mean)).any()
    model.eval()
    np.testing.assert_array_equal(array(model.encode(x).mean), array(copy.deepcopy(model).encode(x).mean))


# --- latent space


def test_paths_end_where_they_should_and_go_as_they_should() -> None:
    rng = np.random.default_rng(0)
    a, b = (sg.tensor(x) for x in rng.standard_normal((2, 6, 10)))
    for path in (linear_path(a, b, 5), spherical_path(a, b, 5)):
        assert path.shape == (5, 6, 10)
        np.testing.assert_allclose(array(path[0]), array(a), atol=1e-12)
        np.testing.assert_allclose(array(path[-1]), array(b), atol=1e-12)
    np.testing.assert_allclose(array(linear_path(a, b, 5)[2]), array(a + b) / 2, atol=1e-12)


def test_the_great_circle_keeps_the_length_and_the_speed() -> None:
    rng = np.random.default_rng(0)
    a, b = rng.standard_normal((2, 10))
    b *= np.linalg.norm(a) / np.linalg.norm(b)
    path = array(spherical_path(sg.tensor(a), sg.tensor(b), 9))
    np.testing.assert_allclose(np.linalg.norm(path, axis=1), np.linalg.norm(a), rtol=1e-12)
    np.testing.assert_allclose(
        np.linalg.norm(np.diff(path, axis=0), axis=1), np.linalg.norm(path[1] - path[0]), rtol=1e-9
    )
    straight = array(linear_path(sg.tensor(a), sg.tensor(b), 9))
    assert np.linalg.norm(straight[4]) < 0.9 * np.linalg.norm(a)


def test_the_great_circle_between_parallel_latents_is_the_line() -> None:
    a = sg.tensor([1.0, 2.0])
    np.testing.assert_allclose(array(spherical_path(a, 3 * a, 3)), [[1, 2], [2, 4], [3, 6]], rtol=1e-6)
    np.testing.assert_allclose(array(spherical_path(a, a, 3)), [[1, 2]] * 3, rtol=1e-6)
    np.testing.assert_allclose(array(spherical_path(a, -a, 3)), [[1, 2], [0, 0], [-1, -2]], atol=1e-6)
    np.testing.assert_allclose(array(spherical_path(a, 0 * a, 3))[[0, 2]], [[1, 2], [0, 0]], atol=1e-6)


def test_attribute_vector_is_the_difference_of_means() -> None:
    z = sg.tensor([[1.0, 0.0], [3.0, 0.0], [0.0, 5.0]])
    np.testing.assert_allclose(array(attribute_vector(z, sg.tensor([True, True, False]))), [2, -5])
    with pytest.raises(ValueError, match="with the attribute and images without it"):
        attribute_vector(z, sg.tensor([True, True, True]))


def test_active_units_are_those_whose_mean_moves() -> None:
    means = np.random.default_rng(0).standard_normal((10_000, 4)) * [1.0, 0.2, 0.05, 0.0]  # variances 1, .04, .0025, 0
    assert active_units(sg.tensor(means)) == 2


def test_latent_grid_is_even_in_probability() -> None:
    grid = array(latent_grid(4)).reshape(4, 4, 2)
    quantiles = scipy.stats.norm.ppf([0.125, 0.375, 0.625, 0.875])
    np.testing.assert_allclose(grid[0, :, 0], quantiles, rtol=1e-5)  # to the right
    np.testing.assert_allclose(grid[:, 0, 1], quantiles[::-1], rtol=1e-5)  # upwards
