"""Softmax, norms and attention, to the third order; dropout; losses."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from ...declare import OPS
from .table import (
    NOT_IN_TORCH,
    OWN_NUMBERS,
    Library,
    apart,
    case,
    distribution,
    normal,
    positive,
    probability,
    small,
    tiny,
    uniform,
)  # fmt: skip

# --------------------------------------------------------------------------------------------------------- softmax

case("softmax", lambda L, x: L.softmax(x, 1), normal(3, 4), order=3)
case("softmax across memory", lambda L, x: L.softmax(x, 0), normal(3, 2, 2), order=3)
case("softmax of a 0-d tensor", lambda L, x: L.softmax(x, 0), normal(), order=3)
case("softmax of nothing", lambda L, x: L.softmax(x, 1), normal(0, 3), order=3)
case("softmin", lambda L, x: L.F.softmin(x, 1), normal(3, 4), order=3)
case("log_softmax", lambda L, x: L.log_softmax(x, -1), normal(3, 4), order=3)
case("log_softmax across memory", lambda L, x: L.log_softmax(x, 1), normal(2, 3, 2), order=3)
case("log_softmax of a 0-d tensor", lambda L, x: L.log_softmax(x, 0), normal(), order=3)
case("log_softmax of nothing", lambda L, x: L.log_softmax(x, 1), normal(0, 3), order=3)
case("gumbel_softmax", lambda L, x: L.F.gumbel_softmax(x, tau=0.7, dim=0, generator=L.Generator(3)), normal(3, 2),
     order=3, unlike_torch=OWN_NUMBERS)  # fmt: skip
case("gumbel_softmax, hard", lambda L, x: L.F.gumbel_softmax(x, hard=True, generator=L.Generator(3)), normal(3, 2),
     order=0, unlike_torch=OWN_NUMBERS)  # fmt: skip

# ----------------------------------------------------------------------------------------------------------- norms


def norm(name: str, function: Callable[..., Any], *inputs: Any, unlike_torch: str = "") -> None:
    """A norm, to the third order."""
    case(name, function, *inputs, order=3, unlike_torch=unlike_torch)


def running(L: Library, x: Any) -> tuple[Any, Any]:
    """A running mean and variance of two channels."""
    return L.like(x, [0.5, -1]), L.like(x, [2, 0.7])


norm("layer_norm", lambda L, *xs: L.F.layer_norm(xs[0], (4,), *xs[1:]), normal(3, 4), normal(4), normal(4))
norm("layer_norm over two dims", lambda L, x, w, b: L.F.layer_norm(x, (2, 3), w, b, eps=1e-2), normal(2, 2, 3),
     normal(2, 3), normal(2, 3))  # fmt: skip
norm("layer_norm without parameters", lambda L, x: L.F.layer_norm(x, (4,)), normal(2, 4))
norm("layer_norm without bias", lambda L, x, w: L.F.layer_norm(x, (4,), w), normal(2, 4), normal(4))
norm("layer_norm of nothing", lambda L, x, w, b: L.F.layer_norm(x, (4,), w, b), normal(0, 4), normal(4), normal(4))
norm("rms_norm", lambda L, x, w: L.F.rms_norm(x, (4,), w), normal(3, 4), normal(4))
norm("rms_norm over two dims", lambda L, x: L.F.rms_norm(x, (2, 3), eps=1e-2), normal(2, 2, 3))
norm("group_norm", lambda L, x, w, b: L.F.group_norm(x, 2, w, b), normal(2, 4, 3), normal(4), normal(4))
norm("group_norm without parameters", lambda L, x: L.F.group_norm(x, 1, eps=1e-2), normal(2, 2, 2, 2))
norm("group_norm_silu", lambda L, x, w, b: L.F.group_norm_silu(x, 2, w, b, eps=1e-2), normal(2, 4, 3), normal(4),
     normal(4), unlike_torch=NOT_IN_TORCH)  # fmt: skip
norm("group_norm_silu of a shifted input", lambda L, x, w, s: L.F.group_norm_silu(x, 2, w, eps=1e-2, shift=s),
     normal(2, 4, 3), normal(4), normal(2, 4), unlike_torch=NOT_IN_TORCH)  # fmt: skip
norm("layer_norm_residual", lambda L, *xs: L.F.layer_norm_residual(*xs[:2], (4,), *xs[2:]), normal(3, 4), normal(3, 4),
     normal(4), normal(4), unlike_torch=NOT_IN_TORCH)  # fmt: skip
norm("layer_norm_residual without parameters", lambda L, *xs: L.F.layer_norm_residual(*xs, (4,), eps=1e-2),
     normal(3, 4), normal(3, 4), unlike_torch=NOT_IN_TORCH)  # fmt: skip
norm("affine_coupling", lambda L, *xs: L.F.affine_coupling(*xs), normal(2, 2, 3), normal(2, 2, 3), normal(2, 4, 3),
     unlike_torch=NOT_IN_TORCH)  # fmt: skip
norm("affine_coupling of rows", lambda L, *xs: L.F.affine_coupling(*xs), normal(3, 2), normal(3, 2), normal(3, 4),
     unlike_torch=NOT_IN_TORCH)  # fmt: skip
norm("affine_coupling of nothing", lambda L, *xs: L.F.affine_coupling(*xs), normal(0, 1, 2), normal(0, 1, 2),
     normal(0, 2, 2), unlike_torch=NOT_IN_TORCH)  # fmt: skip
norm("scaled_filters", lambda L, *xs: L.F.scaled_filters(*xs, gain=1.5), normal(3, 2, 2), normal(3), normal(3),
     unlike_torch=NOT_IN_TORCH)  # fmt: skip
norm("mixing_filters", lambda L, *xs: L.F.mixing_filters(*xs), normal(3, 3), normal(3, 3), normal(3, 3), normal(3),
     normal(3), normal(3), normal(3), unlike_torch=NOT_IN_TORCH)  # fmt: skip
norm("free_energy", lambda L, *xs: L.F.free_energy(*xs), normal(3, 4), normal(2, 4), normal(4), normal(2), normal(2),
     unlike_torch=NOT_IN_TORCH)  # fmt: skip
norm("free_energy of nothing", lambda L, *xs: L.F.free_energy(*xs), normal(0, 3), normal(2, 3), normal(3), normal(2),
     normal(2), unlike_torch=NOT_IN_TORCH)  # fmt: skip
norm("instance_norm", lambda L, x, w, b: L.F.instance_norm(x, weight=w, bias=b), normal(2, 3, 4), normal(3), normal(3))
norm("instance_norm of running statistics",
     lambda L, x: L.F.instance_norm(x, *running(L, x), use_input_stats=False, eps=1e-2), normal(2, 2, 3))  # fmt: skip
norm("instance_norm that tracks", lambda L, x: L.F.instance_norm(x, *running(L, x), momentum=0.3), normal(2, 2, 3))
norm("batch_norm", lambda L, x, w, b: L.F.batch_norm(x, None, None, w, b, training=True), normal(3, 2, 2), normal(2),
     normal(2))  # fmt: skip
norm("batch_norm of rows", lambda L, x: L.F.batch_norm(x, None, None, training=True, eps=1e-2), normal(4, 3))
norm("batch_norm of images that tracks",
     lambda L, x, w: L.F.batch_norm(x, *running(L, x), w, training=True, momentum=0.3),
     normal(2, 2, 2, 2), normal(2))  # fmt: skip
norm("batch_norm_relu", lambda L, x, w, b: L.F.batch_norm_relu(x, None, None, w, b, True), normal(3, 2, 2), normal(2),
     normal(2), unlike_torch=NOT_IN_TORCH)  # fmt: skip
norm("batch_norm_relu, leaky, that tracks",
     lambda L, x, w: L.F.batch_norm_relu(
         x, *running(L, x), w, training=True, momentum=0.3, eps=1e-2, negative_slope=0.2),
     normal(2, 2, 2, 2), normal(2), unlike_torch=NOT_IN_TORCH)  # fmt: skip
norm("batch_norm_relu in evaluation", lambda L, x: L.F.batch_norm_relu(x, *running(L, x)), normal(3, 2, 2),
     unlike_torch=NOT_IN_TORCH)  # fmt: skip
norm("batch_norm by variable statistics", lambda L, x, *ps: OPS["batch_norm_eval"](x, *ps, eps=1e-2), normal(3, 2, 2),
     normal(2), positive(2), normal(2), normal(2), unlike_torch=NOT_IN_TORCH)  # fmt: skip
norm("batch_norm in evaluation", lambda L, x, w, b: L.F.batch_norm(x, *running(L, x), w, b), normal(3, 2, 2), normal(2),
     normal(2))  # fmt: skip
norm("batch_norm's statistics", lambda L, x: OPS["batch_norm"](x, None, None, eps=1e-2), normal(4, 3),
     unlike_torch=NOT_IN_TORCH)  # fmt: skip
case("normalize", lambda L, x: L.F.normalize(x), apart(3, 4))
case("normalize of order 3", lambda L, x: L.F.normalize(x, p=3.0, dim=0), apart(3, 4))
case("normalize below eps", lambda L, x: L.F.normalize(x, eps=100.0), apart(3, 4))
case("cosine_similarity", lambda L, x, y: L.F.cosine_similarity(x, y, dim=0), apart(3, 4), apart(3, 1))
case("cosine_similarity below eps", lambda L, x, y: L.F.cosine_similarity(x, y, eps=100.0), apart(3, 4), apart(3, 4),
     unlike_torch="its gradient takes the norms as if they were not limited")  # fmt: skip
case("pairwise_distance", lambda L, x, y: L.F.pairwise_distance(x, y), apart(3, 4), small(3, 4))
case("pairwise_distance of order 3", lambda L, x, y: L.F.pairwise_distance(x, y, p=3.0, eps=1e-2, keepdim=True),
     apart(3, 4), small(4))  # fmt: skip

# ------------------------------------------------------------------------------------------------------- attention


def attention(name: str, *inputs: Any, unlike_torch: str = "", **options: Any) -> None:
    """Attention with ``options``, to the third order."""
    def function(L: Library, *xs: Any) -> Any:
        return L.F.scaled_dot_product_attention(*xs, **options)

    case(f"attention{name}", function, *inputs, order=3, unlike_torch=unlike_torch)


ALLOWED = np.array([[True, False, True], [True, True, True]])
NOWHERE = np.array([[True, False, True], [False, False, False]])
GROUPED = (normal(1, 4, 2, 2), normal(1, 2, 3, 2), normal(1, 2, 3, 2))
attention("", normal(2, 2, 3), normal(2, 3, 3), normal(2, 3, 2))
attention(" without batch", normal(2, 3), normal(3, 3), normal(3, 2), scale=0.3)
attention(", causal", normal(1, 3, 2), normal(1, 3, 2), normal(1, 3, 2), is_causal=True)
attention(", masked by bools", normal(2, 2, 2), normal(2, 3, 2), normal(2, 3, 2), ALLOWED)
attention(", masked by numbers", normal(2, 2, 2), normal(2, 3, 2), normal(2, 3, 2), normal(2, 3))
attention(" of grouped heads", *GROUPED, enable_gqa=True)
attention(" of grouped heads, masked", *GROUPED, normal(4, 2, 3), enable_gqa=True)
attention(" to nothing", normal(1, 2, 2), normal(1, 3, 2), normal(1, 3, 2), NOWHERE,
          unlike_torch="torch gives NaN or zeros, as its back end pleases")  # fmt: skip
case("attention with dropout",
     lambda L, *xs: L.F.scaled_dot_product_attention(*xs, dropout_p=0.3, generator=L.Generator(3)),
     normal(2, 2, 2), normal(2, 3, 2), normal(2, 3, 2), order=3, unlike_torch=OWN_NUMBERS)  # fmt: skip

# ------------------------------------------------------------------------------------------------------- recurrent

THERE = np.array([[True, True], [True, False], [False, True]])
SEQUENCES: dict[str, tuple[int, int]] = {"rnn": (1, 1), "gru": (3, 1), "lstm": (4, 2)}  # op -> gates, states
for name, (gates, states) in SEQUENCES.items():
    given = (normal(3, 2, 2 * gates), *[normal(2, 2)] * states, normal(2 * gates, 2), normal(2 * gates))
    case(name, lambda L, *xs, name=name: getattr(L.F, name)(*xs), *given, order=3, unlike_torch=NOT_IN_TORCH)
    case(f"{name}, backwards, absent steps", lambda L, *xs, name=name: getattr(L.F, name)(*xs, reverse=True), *given,
         THERE, order=3, unlike_torch=NOT_IN_TORCH)  # fmt: skip
    case(f"{name} without bias", lambda L, *xs, name=name: getattr(L.F, name)(*xs), *given[:-1], order=3,
         unlike_torch=NOT_IN_TORCH)  # fmt: skip
case("rnn with relu", lambda L, *xs: L.F.rnn(*xs, activation="relu"), apart(1, 2, 3), apart(2, 3), tiny(3, 3), order=3,
     unlike_torch=NOT_IN_TORCH)  # fmt: skip

# --------------------------------------------------------------------------------------------------------- dropout

SHAPES: dict[str, tuple[int, ...]] = {
    "dropout": (3, 4), "dropout1d": (2, 3, 2), "dropout2d": (2, 3, 2, 2), "dropout3d": (2, 2, 1, 2, 2),
}  # fmt: skip
for name, shape in SHAPES.items():
    case(name, lambda L, x, name=name: getattr(L.F, name)(x, p=0.4, generator=L.Generator(3)), normal(*shape),
         unlike_torch=OWN_NUMBERS)  # fmt: skip
    case(f"{name} in evaluation", lambda L, x, name=name: getattr(L.F, name)(x, training=False) * 2, normal(*shape))
case("alpha_dropout", lambda L, x: L.F.alpha_dropout(x, p=0.4, training=True, generator=L.Generator(3)), normal(3, 4),
     unlike_torch=OWN_NUMBERS)  # fmt: skip

# ---------------------------------------------------------------------------------------------------------- losses


def loss(name: str, function: Callable[..., Any], *inputs: Any, order: int = 2, unlike_torch: str = "") -> None:
    """``function(L, *tensors, reduction=...)`` with each reduction."""
    for reduction in ("none", "mean", "sum"):
        case(f"{name}, {reduction}", lambda L, *xs, r=reduction: function(L, *xs, reduction=r), *inputs, order=order,
             unlike_torch=unlike_torch)  # fmt: skip


def named(name: str, **options: Any) -> Callable[..., Any]:
    """The loss of that name with ``options``."""
    return lambda L, *xs, reduction: getattr(L.F, name)(*xs, reduction=reduction, **options)


for name in ("mse_loss", "l1_loss", "smooth_l1_loss", "huber_loss"):
    loss(name, named(name), apart(3, 4), tiny(3, 4))
loss("smooth_l1_loss with beta", named("smooth_l1_loss", beta=0.6), apart(6), tiny(6))
loss("smooth_l1_loss with beta 0", named("smooth_l1_loss", beta=0.0), apart(6), tiny(6))
loss("huber_loss with delta", named("huber_loss", delta=0.6), apart(6), tiny(6))

PAIR = (probability(3, 4), probability(3, 4))
LOGITS = (normal(3, 4), probability(3, 4))
loss("binary_cross_entropy", named("binary_cross_entropy"), *PAIR)
loss("binary_cross_entropy weighted",
     lambda L, p, t, **r: L.F.binary_cross_entropy(p, t, weight=L.like(p, [1, 2, 0.5, 3]), **r), *PAIR)  # fmt: skip
loss("binary_cross_entropy_with_logits", named("binary_cross_entropy_with_logits"), *LOGITS)
loss("binary_cross_entropy_with_logits weighted",
     lambda L, x, t, **r: L.F.binary_cross_entropy_with_logits(
         x, t, weight=L.like(x, [[1], [2], [0.5]]), pos_weight=L.like(x, [1, 2, 0.5, 3]), **r),
     *LOGITS)  # fmt: skip
loss("binary_cross_entropy_with_logits with variable weights",
     lambda L, x, t, w, p, **r: L.F.binary_cross_entropy_with_logits(x, t, w, pos_weight=p, **r),
     *LOGITS, positive(3, 1), positive(4), unlike_torch="its weights have no derivative")  # fmt: skip


def weighted(name: str, **options: Any) -> Callable[..., Any]:
    """With constant weights for three classes."""
    return lambda L, x, t, reduction: getattr(L.F, name)(
        x, t, weight=L.like(x, [1, 2, 0.5]), reduction=reduction, **options
    )


CLASSES = np.array([2, 0, 2, 1])
PIXELS = np.array([[2, 0], [1, 1]])
for name in ("cross_entropy", "nll_loss"):
    loss(name, named(name), normal(4, 3), CLASSES)
    loss(f"{name} of one sample", named(name), normal(3), np.array(1))
    loss(f"{name} of images", named(name), normal(2, 3, 2), PIXELS)
    loss(f"{name} weighted", weighted(name), normal(4, 3), CLASSES)
    loss(f"{name} with some ignored", weighted(name, ignore_index=2), normal(4, 3), CLASSES)
    loss(f"{name} with a variable weight", named(name), normal(4, 3), CLASSES, positive(3),
         unlike_torch="its weights have no derivative")  # fmt: skip
loss("cross_entropy smoothed", named("cross_entropy", label_smoothing=0.2), normal(4, 3), CLASSES)
loss("cross_entropy of images, everything", weighted("cross_entropy", ignore_index=2, label_smoothing=0.2),
     normal(2, 3, 2), PIXELS)  # fmt: skip
loss("cross_entropy of probabilities", named("cross_entropy"), normal(4, 3), distribution(4, 3))
loss("cross_entropy of probabilities, everything", weighted("cross_entropy", label_smoothing=0.2), normal(4, 3),
     distribution(4, 3))  # fmt: skip
loss("kl_div", named("kl_div"), normal(3, 4), distribution(3, 4))
loss("kl_div of logarithms", named("kl_div", log_target=True), normal(3, 4), normal(3, 4))
case("kl_div, batchmean", lambda L, x, t: L.F.kl_div(x, t, reduction="batchmean"), normal(3, 4), distribution(3, 4))
loss("gaussian_nll_loss", named("gaussian_nll_loss"), normal(3, 4), normal(3, 4), positive(3, 4))
loss("gaussian_nll_loss, full", named("gaussian_nll_loss", full=True), normal(3, 4), normal(3, 4), positive(3, 1))
# Variances below eps count as eps but keep their gradient.
loss("gaussian_nll_loss below eps", named("gaussian_nll_loss", eps=3.0), normal(6), normal(6), positive(6), order=0)
loss("poisson_nll_loss", named("poisson_nll_loss"), normal(3, 4), positive(3, 4))
loss("poisson_nll_loss of means, full", named("poisson_nll_loss", log_input=False, full=True, eps=1e-2),
     positive(6), uniform(1.2, 3, 6))  # fmt: skip
