"""The laws of invertible layers, for every layer and whole flow at once; the density, and what bounds it."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import pytest
import scipy.stats

import scratchgen as sg
from scratchgen import Generator, Tensor, data, nn
from scratchgen.models import glow, realnvp, spline
from scratchgen.models.dequantisation import Dequantised, UniformNoise, VariationalNoise, reduced_levels
from scratchgen.models.flow import (
    ActNorm,
    Centre,
    Chain,
    Flatten,
    Flow,
    FlowDensity,
    Logit,
    MultiScale,
    Squeeze,
    no_change,
    reverse_kl,
    standard_log_prob,
)


def array(x: Tensor) -> np.ndarray:
    return x.numpy(force=True)


def stirred(flow: nn.Module, amount: float = 0.3) -> nn.Module:
    """Every weight off its start, where last layers are zero and a flow does nothing."""
    rng = np.random.default_rng(5)
    with sg.no_grad():
        for p in flow.parameters():
            p.copy_(p + sg.tensor((amount * rng.standard_normal(p.shape)).astype(np.float32)))
    return flow


IMAGE, POINT = (1, 4, 4), (5,)
LAYERS: dict[str, tuple[Callable[[], Flow], tuple[int, ...], int]] = {  # name -> (layer, shape of x, condition)
    "actnorm, points": (lambda: ActNorm(5), POINT, 0),
    "actnorm, images": (lambda: ActNorm(3), (3, 2, 2), 0),
    "logit": (lambda: Logit(17, 1e-3), IMAGE, 0),
    "logit of shares": (lambda: Logit(), POINT, 0),
    "centre": (lambda: Centre(17), IMAGE, 0),
    "squeeze": (lambda: Squeeze(), (2, 2, 4), 0),
    "flatten": (lambda: Flatten(IMAGE), IMAGE, 0),
    "nothing": (lambda: Chain(), POINT, 0),
    "multi-scale of nothing": (
        lambda: MultiScale([Chain(Squeeze()), Chain()], [(4, 2, 2), (2, 2, 2)]), IMAGE, 0,
    ),
    "masked coupling, points": (
        lambda: realnvp.MaskedCoupling(realnvp.checkerboard((5,)), realnvp.DenseNetwork(5, 10, (8, 8))), POINT, 0,
    ),
    "masked coupling, condition": (
        lambda: realnvp.MaskedCoupling(realnvp.checkerboard((5,), True), realnvp.DenseNetwork(8, 10, (8,))), POINT, 3,
    ),
    "masked coupling, images": (
        lambda: realnvp.MaskedCoupling(realnvp.checkerboard(IMAGE), realnvp.ResidualNetwork(1, 2, 4, 1)), IMAGE, 0,
    ),
    "spline coupling": (
        lambda: spline.SplineCoupling(realnvp.checkerboard((5,)), realnvp.DenseNetwork(8, 70, (8,)), 5), POINT, 3,
    ),
    "spline flow": (lambda: spline.spline_flow(POINT, 3, (8,), 6), POINT, 0),
    "reverse": (lambda: glow.Permute(4, "reverse"), (4, 2, 2), 0),
    "shuffle": (lambda: glow.Permute(4, "shuffle"), (4, 2, 2), 0),
    "1x1 convolution": (lambda: glow.InvertibleConv(4), (4, 2, 2), 0),
    "1x1 convolution, factored": (lambda: glow.FactoredConv(4), (4, 2, 2), 0),
    "actnorm and 1x1 convolution": (lambda: glow.NormalisedConv(ActNorm(4), glow.InvertibleConv(4)), (4, 2, 2), 0),
    "affine coupling": (lambda: glow.ChannelCoupling(glow.CouplingNetwork(2, 4, 6)), (4, 2, 2), 0),
    "affine coupling, condition": (lambda: glow.ChannelCoupling(glow.CouplingNetwork(5, 4, 6)), (4, 2, 2), 3),
    "additive coupling": (lambda: glow.ChannelCoupling(glow.CouplingNetwork(2, 2, 6), "additive"), (4, 2, 2), 0),
    "prior": (lambda: glow.GaussianPrior(2, 0), (2, 2, 2), 0),
    "prior, condition": (lambda: glow.GaussianPrior(2, 3), (2, 2, 2), 3),
    "realnvp, dense": (lambda: realnvp.dense(POINT, 3, (8,)), POINT, 0),
    "realnvp, dense images": (lambda: realnvp.dense(IMAGE, 4, (8,), condition=2), IMAGE, 2),
    "realnvp, multi-scale": (lambda: realnvp.multi_scale(IMAGE, 2, 4, 1, condition=2), IMAGE, 2),
    "glow": (lambda: glow.glow(IMAGE, 2, 2, 6, condition=2), IMAGE, 2),
    "glow, additive, plain": (
        lambda: glow.glow(IMAGE, 2, 1, 6, coupling="additive", permute="plain-conv"), IMAGE, 0,
    ),
    "glow, one squeeze": (lambda: glow.glow(IMAGE, 1, 2, 6, factor=4, permute="shuffle"), IMAGE, 0),
}  # fmt: skip


def made(name: str, dtype: str, count: int = 6) -> tuple[Flow, Tensor, Tensor | None]:
    """A layer in evaluation mode with arbitrary weights, samples that it takes, and a condition."""
    build, shape, condition = LAYERS[name]
    sg.manual_seed(3)
    flow = stirred(build(), 0.1).eval()
    rng = np.random.default_rng(1)
    x = rng.standard_normal((count, *shape))
    if name.startswith(("logit", "centre")):
        x = rng.uniform(0.02, 0.98, x.shape) * (17 if shape == IMAGE else 1)
    told = rng.standard_normal((count, condition)) if condition else None
    flow = flow.double() if dtype == "float64" else flow
    return flow, sg.tensor(x.astype(dtype)), None if told is None else sg.tensor(told.astype(dtype))


@pytest.mark.parametrize(("dtype", "tolerance"), [("float32", 1e-5), ("float64", 1e-10)])
@pytest.mark.parametrize("name", LAYERS)
def test_the_inverse_gives_back_what_went_in(name: str, dtype: str, tolerance: float) -> None:
    flow, x, condition = made(name, dtype, 50)
    with sg.no_grad():
        z, log_det = flow(x, condition)
        back = flow.inverse(z, condition)
    assert log_det.shape == (50,)
    assert z.dtype == log_det.dtype == x.dtype
    scale = max(1.0, float(np.abs(array(x)).max()))
    assert np.abs(array(back) - array(x)).max() <= tolerance * scale


@pytest.mark.parametrize("name", LAYERS)
def test_the_log_determinant_is_the_jacobians(name: str) -> None:
    """Against every derivative by autograd, sample by sample."""
    flow, x, condition = made(name, "float64", 3)
    dims = math.prod(x.shape[1:])
    assert dims <= 16
    x = x.requires_grad_()
    z, log_det = flow(x, condition)
    flat = z.flatten(1)
    assert flat.shape == (3, dims)
    rows = [array(sg.grad(flat[:, i].sum(), x, retain_graph=True)[0]).reshape(3, dims) for i in range(dims)]
    np.testing.assert_allclose(array(log_det), np.linalg.slogdet(np.stack(rows, 1))[1], rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("name", [name for name in LAYERS if LAYERS[name][2]])
def test_the_condition_matters(name: str) -> None:
    flow, x, condition = made(name, "float64")
    assert condition is not None
    assert np.abs(array(flow(x, condition)[0]) - array(flow(x, condition + 1)[0])).max() > 1e-3


def test_couplings_and_whole_flows_start_without_a_change_of_the_batch() -> None:
    """Zeros in the last layers: only what standardises and turns the channels acts."""
    x = sg.randn(8, 5)
    coupling = realnvp.MaskedCoupling(realnvp.checkerboard((5,)), realnvp.DenseNetwork(5, 10, (8,)))
    z, log_det = coupling(x)
    np.testing.assert_array_equal(array(z), array(x))
    np.testing.assert_array_equal(array(log_det), 0)


# --- actnorm


@pytest.mark.parametrize("shape", [(256, 5), (64, 3, 4, 4)])
def test_actnorm_standardises_the_first_batch_and_no_other(shape: tuple[int, ...]) -> None:
    layer = ActNorm(shape[1])
    axes = (0, *range(2, len(shape)))
    first = sg.randn(shape) * 3 + 7
    z, _ = layer(first)
    np.testing.assert_allclose(array(z).mean(axes), 0, atol=1e-3)
    np.testing.assert_allclose(array(z).std(axes), 1, atol=1e-3)
    z, _ = layer(first * 2)
    assert (array(z).std(axes) > 1.9).all()


def test_actnorm_within_the_filters_is_that_after_the_convolution() -> None:
    """The coupling network, and actnorm before the 1x1 convolution, beside the layers one after the other."""
    sg.manual_seed(0)
    network, x = glow.CouplingNetwork(2, 4, 6), 3 + sg.randn(16, 2, 5, 5)
    network(x)  # the first batch sets both actnorms
    first = array(network.norm1(network.first(x))[0]).swapaxes(0, 1).reshape(6, -1)
    np.testing.assert_allclose(first.mean(1), 0, atol=1e-5)
    np.testing.assert_allclose(first.std(1), 1, atol=1e-4)
    with sg.no_grad():
        for parameter in network.parameters():
            parameter.add_(0.3 * sg.randn(parameter.shape))
    apart = 2 * x
    for conv, norm in ((network.first, network.norm1), (network.second, network.norm2)):
        apart = sg.relu(norm(conv(apart))[0])
    expected = array(network.last(apart))
    np.testing.assert_allclose(array(network(2 * x)), expected, atol=1e-5 * abs(expected).max())
    norm, conv = ActNorm(4), glow.FactoredConv(4)
    both, x = glow.NormalisedConv(norm, conv), 3 + sg.randn(16, 4, 5, 5)
    both(x)
    assert norm.initialised.item()
    y, log_det = norm(2 * x)
    y, own = conv(y)
    for one, other in zip(both(2 * x), (y, log_det + own), strict=True):
        np.testing.assert_allclose(array(one), array(other), rtol=1e-4, atol=1e-5)


def test_actnorm_remembers_that_it_has_started() -> None:
    layer, again = ActNorm(3), ActNorm(3)
    layer(sg.randn(100, 3) * 5 + 1)
    again.load_state_dict(layer.state_dict())
    other = sg.randn(100, 3) * 0.1
    np.testing.assert_array_equal(array(again(other)[0]), array(layer(other)[0]))
    untouched = ActNorm(3).eval()
    np.testing.assert_array_equal(array(untouched(other)[0]), array(other))


def test_actnorm_starts_inside_a_whole_flow() -> None:
    sg.manual_seed(0)
    flow = glow.glow((1, 8, 8), 2, 2, 8)
    flow(sg.randn(500, 1, 8, 8) * 4 + 2)
    assert all(bool(value) for name, value in flow.named_buffers() if name.endswith("initialised"))


def test_recomputing_changes_no_gradient() -> None:
    x, gradients = sg.randn(7, 1, 4, 4), []
    for recompute in (False, True):
        sg.manual_seed(1)
        flow = glow.glow((1, 4, 4), 2, 2, 6, recompute=recompute)
        flow(x)  # starts the actnorms
        stirred(flow, 0.1)
        z, log_det = flow(x)
        (standard_log_prob(z) + log_det).mean().backward()
        gradients.append([array(p.grad) for p in flow.parameters()])
    for kept, again in zip(*gradients, strict=True):
        np.testing.assert_allclose(again, kept, rtol=1e-5, atol=1e-6)


# --- the density


class Affine(Flow):
    """x = A z + b, whose density is known."""

    def __init__(self, a: np.ndarray, b: np.ndarray) -> None:
        super().__init__()
        self.a, self.b = nn.Parameter(sg.tensor(a)), nn.Parameter(sg.tensor(b))

    def forward(self, x: Tensor, condition: Tensor | None = None) -> tuple[Tensor, Tensor]:
        return (x - self.b) @ sg.linalg.inv(self.a).mT, no_change(x, -sg.linalg.slogdet(self.a).logabsdet)

    def inverse(self, z: Tensor, condition: Tensor | None = None) -> Tensor:
        return z @ self.a.mT + self.b


def test_an_affine_flow_is_a_gaussian() -> None:
    rng = np.random.default_rng(0)
    a, b = rng.standard_normal((3, 3)), rng.standard_normal(3)
    density, exact = FlowDensity(Affine(a, b), 3), scipy.stats.multivariate_normal(b, a @ a.T)
    x = rng.standard_normal((20, 3))
    np.testing.assert_allclose(array(density.log_prob(sg.tensor(x))), exact.logpdf(x), rtol=1e-9)
    for temperature in (1.0, 0.5):
        drawn = array(density.sample(100_000, Generator(0), temperature=temperature))
        np.testing.assert_allclose(drawn.mean(0), b, atol=0.05)
        np.testing.assert_allclose(np.cov(drawn.T), temperature**2 * a @ a.T, rtol=0.05, atol=0.05)


def test_a_density_integrates_to_one() -> None:
    sg.manual_seed(0)
    density = FlowDensity(stirred(realnvp.dense((2,), 4, (8,)), 0.2).eval().double(), 2)
    side = np.linspace(-12, 12, 301)
    grid = np.stack(np.meshgrid(side, side), -1).reshape(-1, 2)
    with sg.no_grad():
        mass = sum(np.exp(array(density.log_prob(sg.tensor(part)))).sum() for part in np.array_split(grid, 20))
    assert mass * (side[1] - side[0]) ** 2 == pytest.approx(1, abs=0.01)


def test_reverse_kl_fits_a_target_that_has_no_samples() -> None:
    """Of an affine flow and a Gaussian target the optimum is the target itself."""
    covariance, mean = np.array([[2.0, 0.9], [0.9, 1.0]]), np.array([1.0, -2.0])
    precision = sg.tensor(np.linalg.inv(covariance))

    def log_target(x: Tensor) -> Tensor:
        off = x - sg.tensor(mean)
        return -0.5 * ((off @ precision) * off).sum(1) + 5.0  # not normalised

    density, generator = FlowDensity(Affine(np.eye(2), np.zeros(2)), 2), Generator(0)
    optimizer = sg.optim.Adam(density.parameters(), 0.05)
    schedule = sg.optim.lr_scheduler.CosineAnnealingLR(optimizer, 300)
    for _ in range(300):
        optimizer.zero_grad()
        loss = reverse_kl(density, log_target, 128, generator)
        loss.backward()
        optimizer.step()
        schedule.step()
    log_z = 5.0 + math.log(2 * math.pi) + 0.5 * math.log(np.linalg.det(covariance))
    assert loss.item() == pytest.approx(-log_z, abs=0.01)
    a = array(density.flow.a)
    np.testing.assert_allclose(a @ a.T, covariance, atol=0.1)
    np.testing.assert_allclose(array(density.flow.b), mean, atol=0.05)


def test_a_short_fit_to_moons_beats_a_gaussian_by_far() -> None:
    sg.manual_seed(0)
    moons, rng = data.load("moons").density, np.random.default_rng(0)
    density = FlowDensity(realnvp.dense((2,), 8, (32,)), 2)
    optimizer = sg.optim.Adam(density.parameters(), 5e-3)
    for _ in range(300):
        optimizer.zero_grad()
        loss = -density.log_prob(sg.tensor(moons.sample(256, rng))).mean()
        loss.backward()
        optimizer.step()
    x = moons.sample(4000, rng)
    with sg.no_grad():
        gap = (moons.log_density(x) - array(density.log_prob(sg.tensor(x)))).mean()
    gaussian = scipy.stats.multivariate_normal(x.mean(0), np.cov(x.T))
    assert gap < 0.5 * (moons.log_density(x) - gaussian.logpdf(x)).mean()


def test_labels_are_asked_for_and_refused() -> None:
    density = FlowDensity(realnvp.dense((2,), 2, (8,), condition=3), 2, classes=3)
    assert density.log_prob(sg.zeros(4, 2), sg.tensor([0, 1, 2, 0])).shape == (4,)
    with pytest.raises(ValueError, match="conditional on 3 classes: give label"):
        density.log_prob(sg.zeros(4, 2))
    with pytest.raises(ValueError, match="label given to a flow that was built without classes"):
        FlowDensity(realnvp.dense((2,), 2, (8,)), 2).log_prob(sg.zeros(4, 2), sg.tensor([0, 1, 2, 0]))


# --- whole numbers


def whole_images(count: int, levels: int = 3) -> Tensor:
    return sg.tensor(np.random.default_rng(0).integers(0, levels, (count, 1, 1, 2)).astype(np.float64))


def quantised(noise: nn.Module) -> Dequantised:
    sg.manual_seed(0)
    flow = Chain(Flatten((1, 1, 2)), Logit(3, 0.01), *realnvp.dense((2,), 2, (8,)).layers)
    return Dequantised(FlowDensity(stirred(flow, 0.2), 2), noise).eval().double()


def exact_log_probability(model: Dequantised, k: np.ndarray, nodes: int = 60) -> np.ndarray:
    """log of the integral of p(k + u) over u in the unit square, by Gauss-Legendre quadrature."""
    t, w = np.polynomial.legendre.leggauss(nodes)
    u = np.stack(np.meshgrid((t + 1) / 2, (t + 1) / 2), -1).reshape(-1, 2)
    weight = (np.outer(w, w) / 4).ravel()
    with sg.no_grad():
        log_p = [model.density.log_prob(sg.tensor((row + u).reshape(-1, 1, 1, 2))) for row in k.reshape(-1, 2)]
    return np.log(np.exp(np.stack([array(row) for row in log_p])) @ weight)


def variational() -> VariationalNoise:
    sg.manual_seed(2)
    return VariationalNoise(stirred(realnvp.dense((1, 1, 2), 2, (8,), condition=2), 0.15), 3)


@pytest.mark.parametrize("noise", [UniformNoise, variational])
def test_the_bounds_tighten_to_the_exact_probability(noise: Callable[[], nn.Module]) -> None:
    model, k = quantised(noise()), whole_images(9)
    exact = exact_log_probability(model, array(k))
    assert np.exp(exact_log_probability(model, np.array([(i, j) for i in range(3) for j in range(3)]))).sum() < 1
    many = sg.cat([k] * 2000)
    with sg.no_grad():
        draws = array(model.bound(many, Generator(1))).reshape(2000, 9)
        eight = array(model.importance_bound(many, 8, Generator(2))).reshape(2000, 9)
    se = np.exp(draws).std(0) / np.sqrt(2000)
    assert (np.abs(np.exp(draws).mean(0) - np.exp(exact)) <= 4 * se).all(), "the weights are unbiased"
    assert (draws.mean(0) < eight.mean(0)).all()
    assert (eight.mean(0) < exact + 4 * eight.std(0) / np.sqrt(2000)).all()


def test_variational_noise_starts_uniform() -> None:
    noise = VariationalNoise(Chain(realnvp.dense((1, 1, 2), 2, (8,), condition=2)), 3).eval()
    u, log_q = noise(sg.zeros(5000, 1, 1, 2), Generator(0))
    np.testing.assert_allclose(array(log_q), 0, atol=1e-5)
    assert scipy.stats.kstest(array(u).ravel(), "uniform").pvalue > 0.01


def test_variational_noise_knows_its_density() -> None:
    """q(u|k) integrates to one over the unit square: 1/q averages to its area."""
    noise = variational().eval().double()
    k = sg.tensor(np.tile([[[[1.0, 2.0]]]], (200_000, 1, 1, 1)))
    with sg.no_grad():
        u, log_q = noise(k, Generator(0))
    assert 0 < array(u).min() < array(u).max() < 1
    found, density = np.histogramdd(array(u).reshape(-1, 2), 10, [(0, 1)] * 2)[0] / 200_000, np.exp(array(log_q))
    cells = np.minimum((array(u).reshape(-1, 2) * 10).astype(int), 9) @ [10, 1]
    area = np.bincount(cells, 1 / density, 100) / 200_000  # of each cell: 0.01
    often = found.ravel() > 2e-3
    assert often.sum() > 20
    np.testing.assert_allclose(area[often], 0.01, rtol=0.15)


def test_fewer_bits() -> None:
    assert [reduced_levels(256, bits) for bits in (0, 1, 5, 8)] == [256, 2, 32, 256]
    assert reduced_levels(17, 5) == 17
    with pytest.raises(ValueError, match="bits=9: pixels have 1 to 8 bits"):
        reduced_levels(256, 9)


# --- networks and masks


def test_masks() -> None:
    np.testing.assert_array_equal(array(realnvp.checkerboard((1, 2, 3)))[0], [[1, 0, 1], [0, 1, 0]])
    np.testing.assert_array_equal(array(realnvp.checkerboard((4,), True)), [0, 1, 0, 1])
    np.testing.assert_array_equal(array(realnvp.halves((4, 1, 1), True)).ravel(), [0, 0, 1, 1])
    np.testing.assert_array_equal(array(realnvp.halves((1, 1, 4), axis=2)).ravel(), [1, 1, 0, 0])


def test_a_coupling_leaves_what_its_mask_keeps() -> None:
    flow, x, _ = made("masked coupling, images", "float64")
    kept = array(flow.mask).astype(bool)
    z = array(flow(x)[0])
    np.testing.assert_array_equal(z[:, kept], array(x)[:, kept])
    assert np.abs(z - array(x))[:, ~kept].max() > 1e-2


def test_log_scales_are_bounded() -> None:
    network = realnvp.DenseNetwork(2, 4, (4,))
    coupling = realnvp.MaskedCoupling(realnvp.checkerboard((2,)), network, bound=2.0)
    with sg.no_grad():
        network.last.bias.copy_(sg.full((4,), 1e6))
    _, log_det = coupling(sg.zeros(1, 2))
    assert array(log_det)[0] == pytest.approx(2.0)


def test_splines_start_as_the_identity_and_are_it_outside_their_bounds() -> None:
    sg.manual_seed(0)
    network = realnvp.DenseNetwork(2, 2 * 14, (4,))
    layer = spline.SplineCoupling(realnvp.checkerboard((2,)), network, 5, bound=4.0).double()
    x = sg.tensor(np.random.default_rng(0).uniform(-6, 6, (200, 2)))
    z, log_det = layer(x)
    np.testing.assert_allclose(array(z), array(x), atol=1e-3)
    stirred(layer, 1.0)
    (z, log_det), inside = layer(x), np.abs(array(x)[:, 1]) < 4
    np.testing.assert_array_equal(array(z)[~inside], array(x)[~inside])
    np.testing.assert_array_equal(array(log_det)[~inside], 0)
    assert np.abs(array(z) - array(x))[inside, 1].max() > 0.1
    assert (np.abs(array(z)[inside, 1]) <= 4).all()


def test_images_that_do_not_divide_are_named() -> None:
    with pytest.raises(ValueError, match=r"3 scales need images divisible by 4"):
        realnvp.multi_scale((1, 6, 6), 3, 4, 1)
    with pytest.raises(ValueError, match=r"3 levels, the first by 2, do not divide images of \(1, 4, 4\)"):
        glow.glow((1, 4, 4), 3, 1, 4)
