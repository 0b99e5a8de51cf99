"""The adversarial models against what is known of them exactly."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import pytest
from scipy.stats import spearmanr

import scratchgen as sg
from scratchgen import Generator, Tensor, nn
from scratchgen.models import wgan
from scratchgen.models.cgan import ConditionalBatchNorm2d, ConditionalDiscriminator, ConditionalGenerator
from scratchgen.models.gan import (
    ImageDiscriminator,
    ImageGenerator,
    dcgan_weights,
    discriminator_loss,
    generator_loss,
    mlp,
    noise,
    pack,
)


def normal(rng: np.random.Generator, count: int, mean: float) -> Tensor:
    return sg.tensor((mean + rng.standard_normal((count, 1))).astype(np.float32))


# --- the game


def test_the_best_discriminator_is_the_ratio_of_densities() -> None:
    """Proposition 1: D = p / (p + q), here of N(-1, 1) and N(1, 1), where the logit is -2 x."""
    sg.manual_seed(0)
    rng = np.random.default_rng(0)
    discriminator = mlp((1, 32, 32, 1))
    steps = 600
    optimizer = sg.optim.Adam(discriminator.parameters(), 5e-3)
    schedule = sg.optim.lr_scheduler.CosineAnnealingLR(optimizer, T_max=steps)
    for _ in range(steps):
        real, fake = normal(rng, 1000, -1), normal(rng, 1000, 1)
        optimizer.zero_grad()
        discriminator_loss("non-saturating", discriminator(real), discriminator(fake)).backward()
        optimizer.step()
        schedule.step()
    x = np.linspace(-3, 3, 61)
    found = sg.sigmoid(discriminator(sg.tensor(x[:, None].astype(np.float32)))).numpy(force=True)
    assert np.abs(found - 1 / (1 + np.exp(2 * x))).mean() <= 0.02


def test_losses_are_their_formulas() -> None:
    rng = np.random.default_rng(0)
    real, fake = rng.standard_normal(9), rng.standard_normal(9)
    d_real, d_fake = (1 / (1 + np.exp(-t)) for t in (real, fake))
    on_real, on_fake = sg.tensor(real), sg.tensor(fake)
    expected = {
        "non-saturating": (-np.log(d_real).mean() - np.log(1 - d_fake).mean(), -np.log(d_fake).mean()),
        "minimax": (-np.log(d_real).mean() - np.log(1 - d_fake).mean(), np.log(1 - d_fake).mean()),
        "least-squares": (((real - 1) ** 2).mean() / 2 + (fake**2).mean() / 2, ((fake - 1) ** 2).mean() / 2),
        "hinge": (np.maximum(1 - real, 0).mean() + np.maximum(1 + fake, 0).mean(), -fake.mean()),
    }
    for kind, (d_loss, g_loss) in expected.items():
        assert discriminator_loss(kind, on_real, on_fake).item() == pytest.approx(d_loss, rel=1e-12)
        assert generator_loss(kind, on_fake).item() == pytest.approx(g_loss, rel=1e-12)


def test_smoothing_is_one_sided() -> None:
    """The best logit on real samples becomes log(0.9 / 0.1); on generated ones there is still none."""
    real, fake = sg.tensor([math.log(9.0)]).requires_grad_(), sg.tensor([0.3]).requires_grad_()
    smooth = sg.grad(discriminator_loss("non-saturating", real, fake, smooth=0.1), (real, fake))
    sharp = sg.grad(discriminator_loss("non-saturating", real, fake), (real, fake))
    assert abs(smooth[0].item()) < 1e-6
    assert abs(sharp[0].item()) > 0.05
    assert smooth[1].item() == sharp[1].item()


def test_packing_joins_channels() -> None:
    x = sg.arange(24).reshape(4, 2, 3)
    np.testing.assert_array_equal(pack(x, 2).numpy(), x.numpy().reshape(2, 4, 3))
    assert pack(x, 1) is x
    with pytest.raises(ValueError, match="4 samples do not make groups of 3"):
        pack(x, 3)


# --- networks


def test_dcgan_has_its_shapes_weights_and_range() -> None:
    sg.manual_seed(0)
    generator, discriminator = ImageGenerator((1, 28, 28), 16, 24), ImageDiscriminator((1, 28, 28), 24)
    for network in (generator, discriminator):
        dcgan_weights(network)
    weights = generator.layers[4].weight.numpy(force=True)
    assert weights.std() == pytest.approx(0.02, rel=0.05)
    images = generator(sg.randn(8, 16))
    assert images.shape == (8, 1, 28, 28)
    assert images.abs().max().item() <= 1
    assert discriminator(images).shape == (8,)


def test_without_a_dense_layer_distant_windows_of_an_image_are_judged_apart() -> None:
    """Changes in opposite corners then add up in the logit; hidden units see them together."""
    sg.manual_seed(0)
    generator = Generator(1)
    x = sg.rand(1, 1, 28, 28, generator=generator)
    here, there = sg.zeros(1, 1, 28, 28), sg.zeros(1, 1, 28, 28)
    here[..., :6, :6] = 1
    there[..., -6:, -6:] = 1
    for hidden, together in ((0, False), (32, True)):
        judge = ImageDiscriminator((1, 28, 28), 8, "none", hidden=hidden)
        both, first, second, none = (judge(x + change) for change in (here + there, here, there, 0 * here))
        change = abs((first - none).item())
        assert change > 1e-4
        assert (abs((both - first - second + none).item()) > 1e-3 * change) == together
        images = ImageGenerator((1, 28, 28), 16, 8, hidden)(sg.randn(4, 16))
        assert images.shape == (4, 1, 28, 28)


@pytest.mark.parametrize("hidden", [0, 6])
@pytest.mark.parametrize("norm", ["none", "layer", "instance", "spectral"])
def test_critics_without_batch_norm_judge_samples_one_by_one(norm: str, hidden: int) -> None:
    sg.manual_seed(0)
    critic = ImageDiscriminator((1, 8, 8), 4, norm, hidden=hidden).eval()
    x = sg.rand(5, 1, 8, 8)
    alone = sg.cat([critic(x[i : i + 1]) for i in range(5)])
    np.testing.assert_allclose(critic(x).numpy(force=True), alone.numpy(force=True), rtol=1e-5, atol=1e-6)


def test_spectral_norm_is_torchs() -> None:
    torch = pytest.importorskip("torch", reason="torch is the oracle of spectral_norm")
    sg.manual_seed(0)
    for ours, theirs, shape in (
        (nn.Linear(5, 7), torch.nn.Linear(5, 7), (3, 5)),
        (nn.Conv2d(3, 4, 3), torch.nn.Conv2d(3, 4, 3), (2, 3, 5, 5)),
        (nn.ConvTranspose2d(4, 6, 3), torch.nn.ConvTranspose2d(4, 6, 3), (2, 4, 5, 5)),
    ):
        nn.utils.spectral_norm(ours)
        torch.nn.utils.spectral_norm(theirs)
        theirs.load_state_dict({key: torch.tensor(value.numpy(force=True)) for key, value in ours.state_dict().items()})
        x = np.random.default_rng(0).standard_normal(shape).astype(np.float32)
        for _ in range(3):
            y, other = ours(sg.tensor(x)), theirs(torch.tensor(x))
            np.testing.assert_allclose(y.numpy(force=True), other.detach().numpy(), atol=1e-5)
            for module, output in ((ours, y), (theirs, other)):
                module.zero_grad()
                (output**2).sum().backward()
            gradient = theirs.weight_orig.grad.numpy()
            np.testing.assert_allclose(ours.weight_orig.grad.numpy(), gradient, atol=1e-5 * abs(gradient).max())


def test_spectral_norm_divides_by_the_largest_singular_value() -> None:
    sg.manual_seed(0)
    layer = nn.utils.spectral_norm(nn.Linear(6, 4), n_power_iterations=50)
    layer(sg.zeros(1, 6))
    assert np.linalg.norm(layer.weight.numpy(force=True), 2) == pytest.approx(1, rel=1e-5)
    with pytest.raises(ValueError, match="Linear has no parameter 'weight'"):
        nn.utils.spectral_norm(layer)


# --- the Wasserstein distance


@pytest.mark.parametrize(("distance", "weight"), [(1.0, 0.5), (3.0, 2.0)])
def test_the_penalised_critic_between_two_points_has_the_known_slope(distance: float, weight: float) -> None:
    """Maximising s d - lambda (s - 1)^2 gives the slope 1 + d / (2 lambda): the penalty's bias, exactly."""
    sg.manual_seed(0)
    critic = nn.Sequential(nn.Linear(1, 1), nn.Flatten(0))
    critic[0].weight.data = sg.tensor([[0.1]])  # uphill from fake to real; downhill there is a second optimum
    real, fake = sg.full((64, 1), distance), sg.zeros(64, 1)
    optimizer = sg.optim.SGD(critic.parameters(), 0.1)
    for _ in range(200):
        optimizer.zero_grad()
        penalty = wgan.gradient_penalty(critic, real, fake, Generator(0))
        (wgan.critic_loss(critic(real), critic(fake)) + weight * penalty).backward()
        optimizer.step()
    slope = 1 + distance / (2 * weight)
    assert critic[0].weight.item() == pytest.approx(slope, rel=0.02)
    gap = (critic(real).mean() - critic(fake).mean()).item()
    assert gap == pytest.approx(distance * slope, rel=0.02)


def test_a_clipped_critic_ranks_shifts_as_the_distance_does() -> None:
    """W1 of N(0, 1) and N(s, 1) is s; the critic's value is that up to an unknown factor."""
    rng = np.random.default_rng(0)
    values = []
    for shift in np.linspace(0.2, 2.0, 10):
        sg.manual_seed(0)
        critic = mlp((1, 16, 1))
        optimizer = sg.optim.RMSprop(critic.parameters(), 1e-2)
        wgan.clip_(critic.parameters(), 0.1)
        for _ in range(60):
            optimizer.zero_grad()
            loss = wgan.critic_loss(critic(normal(rng, 400, shift)), critic(normal(rng, 400, 0)))
            loss.backward()
            optimizer.step()
            wgan.clip_(critic.parameters(), 0.1)
        values.append(-loss.item())
        assert max(abs(p.numpy(force=True)).max() for p in critic.parameters()) <= np.float32(0.1)
    assert spearmanr(values, np.linspace(0.2, 2.0, 10)).statistic >= 0.9


def test_the_authors_schedule_of_critic_steps() -> None:
    assert [wgan.critic_steps(step) for step in (0, 24, 25, 499, 500, 501)] == [100, 100, 5, 5, 100, 5]


# --- the gradient penalty


def test_of_a_linear_critic_the_penalty_is_the_weights_own() -> None:
    critic = nn.Sequential(nn.Linear(6, 1), nn.Flatten(0))
    w = critic[0].weight.numpy(force=True)
    x = sg.rand(9, 6)
    expected = (np.linalg.norm(w) - 1) ** 2
    assert wgan.gradient_penalty(critic, x, x + 1, Generator(0)).item() == pytest.approx(expected, rel=1e-5)
    assert wgan.r1_penalty(critic, x).item() == pytest.approx((w**2).sum() / 2, rel=1e-5)
    below = np.linalg.norm(w) < 1
    one_sided = wgan.gradient_penalty(critic, x, x + 1, Generator(0), one_sided=True).item()
    assert one_sided == (0 if below else pytest.approx(expected, rel=1e-5))


CRITICS: dict[str, Callable[[], nn.Module]] = {
    "dense": lambda: nn.Sequential(nn.Flatten(), *mlp((64, 12, 12, 1), lambda: nn.LeakyReLU(0.2))),
    "convolution": lambda: ImageDiscriminator((1, 8, 8), 3, "none"),
    "layer norm": lambda: ImageDiscriminator((1, 8, 8), 3, "layer"),
    "instance norm": lambda: ImageDiscriminator((1, 8, 8), 3, "instance"),
    "conditional": lambda: _WithLabel(ConditionalDiscriminator((1, 8, 8), 3, 4, "projection")),
}


class _WithLabel(nn.Module):
    def __init__(self, critic: ConditionalDiscriminator) -> None:
        super().__init__()
        self.critic = critic

    def forward(self, x: Tensor) -> Tensor:
        return self.critic(x, sg.arange(len(x)) % 4)


@pytest.mark.parametrize("name", CRITICS)
def test_the_gradient_of_the_penalty_against_differences(name: str) -> None:
    """Second order through convolution, LeakyReLU, dense layers and norms, in float64, along random directions."""
    sg.manual_seed(1)
    critic = CRITICS[name]().to(dtype=sg.float64)
    rng = np.random.default_rng(0)
    real, fake = (sg.tensor(rng.standard_normal((6, 1, 8, 8))) for _ in range(2))

    def penalty() -> Tensor:
        return wgan.gradient_penalty(critic, real, fake, Generator(7))

    weights = [p for key, p in critic.named_parameters() if key.endswith("weight")]
    gradients = sg.grad(penalty(), weights, allow_unused=True)
    checked = 0
    for p, g in zip(weights, gradients, strict=True):
        if g is None:
            continue
        direction = rng.standard_normal(p.shape)
        start, values, h = p.array.copy(), [], 1e-6
        for sign in (1, -1):
            p.data = sg.tensor(start + sign * h * direction)
            values.append(penalty().item())
        p.data = sg.tensor(start)
        slope = (values[0] - values[1]) / (2 * h)
        assert float((g.numpy() * direction).sum()) == pytest.approx(slope, rel=1e-6, abs=1e-8)
        checked += 1
    assert checked >= 2


def test_the_penalty_alone_moves_the_critic() -> None:
    """It would not, were its graph lost between the two derivatives."""
    sg.manual_seed(0)
    critic = ImageDiscriminator((1, 8, 8), 4, "none")
    before = critic.body.layers[0].weight.numpy(force=True).copy()
    optimizer = sg.optim.SGD(critic.parameters(), 0.1)
    wgan.gradient_penalty(critic, sg.rand(4, 1, 8, 8), sg.rand(4, 1, 8, 8), Generator(0)).backward()
    optimizer.step()
    assert abs(critic.body.layers[0].weight.numpy(force=True) - before).max() > 1e-4


def test_mixing_takes_one_number_for_each_pair() -> None:
    real, fake = sg.ones(500, 2, 3, 3), sg.zeros(500, 2, 3, 3)
    t = wgan.mixed(real, fake, Generator(0)).numpy().reshape(500, -1)
    np.testing.assert_array_equal(t, t[:, :1].repeat(18, 1))
    assert 0 <= t.min() < 0.02
    assert 0.98 < t.max() <= 1


def test_a_slope_of_zero_has_a_finite_gradient() -> None:
    critic = nn.Sequential(nn.Linear(3, 1), nn.Flatten(0))
    critic[0].weight.data = sg.zeros(1, 3)
    wgan.gradient_penalty(critic, sg.rand(4, 3), sg.rand(4, 3), Generator(0)).backward()
    assert np.isfinite(critic[0].weight.grad.numpy()).all()


# --- classes


def test_conditional_batch_norm_has_a_gain_and_a_shift_for_each_class() -> None:
    layer = ConditionalBatchNorm2d(3, 2)
    layer.gain.weight.data = sg.tensor([[1.0, 1, 1], [2, 2, 2]])
    layer.shift.weight.data = sg.tensor([[0.0, 0, 0], [5, 5, 5]])
    x, label = sg.randn(6, 3, 4, 4), sg.tensor([0, 1, 0, 1, 0, 1])
    plain = nn.BatchNorm2d(3)(x).numpy(force=True)
    found = layer(x, label).numpy(force=True)
    np.testing.assert_allclose(found[0::2], plain[0::2], atol=1e-6)
    np.testing.assert_allclose(found[1::2], 2 * plain[1::2] + 5, atol=1e-5)


@pytest.mark.parametrize("condition", ["concat", "embedding", "projection", "auxiliary"])
def test_discriminators_listen_to_the_label_and_learn_it(condition: str) -> None:
    sg.manual_seed(0)
    network = ConditionalDiscriminator((1, 8, 8), 4, 5, condition)
    x, label = sg.rand(10, 1, 8, 8), sg.arange(10) % 5
    logits, classes = network.judge(x, label)
    assert logits.shape == (10,)
    assert (classes is not None) == (condition == "auxiliary")
    changed = abs((network(x, (label + 1) % 5) - logits).numpy(force=True)).min()
    assert changed > 0 if condition != "auxiliary" else changed == 0
    (logits.sum() if classes is None else classes.sum()).backward()
    key = "classifier" if condition == "auxiliary" else "body"
    assert any(p.grad is not None for name, p in network.named_parameters() if name.startswith(key))


def test_generators_make_the_class_asked_for_a_part_of_the_image() -> None:
    sg.manual_seed(0)
    for class_norm in (True, False):
        network = ConditionalGenerator((1, 8, 8), 6, 4, 3, class_norm=class_norm).eval()
        z = noise(4, 6, Generator(0), network.first.weight)
        first, second = (network(z, sg.full((4,), k, dtype=sg.int64)).numpy(force=True) for k in (0, 1))
        assert first.shape == (4, 1, 8, 8)
        assert abs(first - second).max() > 1e-4
