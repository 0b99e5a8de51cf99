"""Losses. ``reduction`` is ``"mean"`` of all elements, their ``"sum"``, or ``"none"``, as in torch."""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable
from typing import Any

import numpy as np

from ..declare import Fused, fused, primitive
from ..dtypes import int64
from ..tensor import Tensor
from .activation import logsigmoid
from .compare import where
from .elementwise import cast, floating, operands, quiet, square
from .gather import gather
from .math import abs, exp, log, log1p
from .precision import widened
from .reduce import mean, sum
from .softmax import log_softmax

__all__ = [
    "binary_cross_entropy", "binary_cross_entropy_with_logits", "cross_entropy", "gaussian_nll_loss", "huber_loss",
    "kl_div", "l1_loss", "mse_loss", "nll_loss", "poisson_nll_loss", "smooth_l1_loss",
]  # fmt: skip


def _check_reduction(op: str, reduction: str, *more: str) -> None:
    allowed = ("mean", "sum", "none", *more)
    if reduction not in allowed:
        raise ValueError(f"{op}: reduction must be one of {', '.join(map(repr, allowed))}, got {reduction!r}")


def _reduced(losses: Tensor, reduction: str) -> Tensor:
    return mean(losses) if reduction == "mean" else sum(losses) if reduction == "sum" else losses


# --- differences


def _difference(op: str, input: Tensor, target: Tensor, reduction: str) -> Tensor:
    _check_reduction(op, reduction)
    if input.shape != target.shape:
        warnings.warn(
            f"{op}: input {list(input.shape)} and target {list(target.shape)} differ in shape and are broadcast, "
            "which is rarely meant; reshape one of them",
            stacklevel=3,
        )
    return floating(input) - target


def mse_loss(input: Tensor, target: Tensor, reduction: str = "mean") -> Tensor:
    """``(input - target)^2``."""
    return _reduced(square(_difference("mse_loss", input, target, reduction)), reduction)


def l1_loss(input: Tensor, target: Tensor, reduction: str = "mean") -> Tensor:
    """``|input - target|``."""
    return _reduced(abs(_difference("l1_loss", input, target, reduction)), reduction)


def smooth_l1_loss(input: Tensor, target: Tensor, reduction: str = "mean", beta: float = 1.0) -> Tensor:
    """``d^2 / (2 beta)`` where ``d = |input - target|`` is below ``beta``, else ``d - beta / 2``."""
    if beta < 0:
        raise ValueError(f"smooth_l1_loss: beta must not be negative, got {beta}")
    if beta == 0:
        return l1_loss(input, target, reduction)
    d = _difference("smooth_l1_loss", input, target, reduction)
    distance = abs(d)
    return _reduced(where(distance < beta, square(d) * (0.5 / beta), distance - 0.5 * beta), reduction)


def huber_loss(input: Tensor, target: Tensor, reduction: str = "mean", delta: float = 1.0) -> Tensor:
    """``d^2 / 2`` where ``d = |input - target|`` is below ``delta``, else ``delta (d - delta / 2)``."""
    if delta <= 0:
        raise ValueError(f"huber_loss: delta must be positive, got {delta}")
    d = _difference("huber_loss", input, target, reduction)
    distance = abs(d)
    return _reduced(where(distance < delta, 0.5 * square(d), delta * (distance - 0.5 * delta)), reduction)


# --- binary cross entropy


def _same_shape(op: str, input: Tensor, target: Tensor) -> None:
    if input.shape != target.shape:
        raise ValueError(
            f"{op}: target of shape {list(target.shape)} for an input of shape {list(input.shape)}; they must be equal"
        )


LEAST_LOG = -100.0  # a wrong certainty costs 100, not inf, as in torch


@quiet
def _bce_forward(p: np.ndarray, t: np.ndarray) -> np.ndarray:
    return -(t * np.maximum(np.log(p), LEAST_LOG) + (1 - t) * np.maximum(np.log1p(-p), LEAST_LOG))


_bce = primitive(
    "binary_cross_entropy",
    _bce_forward,
    (
        lambda g, y, p, t: g * (p - t) / (p * (1 - p)).clamp(min=1e-12),
        lambda g, y, p, t: g * (log1p(-p).clamp(min=LEAST_LOG) - log(p).clamp(min=LEAST_LOG)),
    ),
    save="p t",
)


def binary_cross_entropy(
    input: Tensor, target: Tensor, weight: Tensor | None = None, reduction: str = "mean"
) -> Tensor:
    """``-(t log p + (1 - t) log(1 - p))`` of probabilities ``input``, logarithms limited to -100; times ``weight``.

    ``binary_cross_entropy_with_logits`` of what went into the sigmoid is more exact and quicker.
    """
    _check_reduction("binary_cross_entropy", reduction)
    _same_shape("binary_cross_entropy", input, target)
    p, t = operands(floating(input), target)
    if isinstance(p.array, np.ndarray) and not ((p.array >= 0) & (p.array <= 1)).all():  # a GPU would be waited for
        raise ValueError(
            "binary_cross_entropy: input must be probabilities, from 0 to 1; for logits use ..._with_logits"
        )
    losses = _bce(p, t)
    return _reduced(losses if weight is None else losses * weight, reduction)


@fused()
@widened
def _binary_cross_entropy_with_logits(
    x: Tensor, target: Tensor, weight: Tensor | None, pos_weight: Tensor | None, *, reduction: str
) -> Tensor:
    positive = target if pos_weight is None else pos_weight * target
    losses = (target - 1) * logsigmoid(-x) - positive * logsigmoid(x)
    return _reduced(losses if weight is None else losses * weight, reduction)


def binary_cross_entropy_with_logits(
    input: Tensor,
    target: Tensor,
    weight: Tensor | None = None,
    reduction: str = "mean",
    pos_weight: Tensor | None = None,
) -> Tensor:
    """``binary_cross_entropy(sigmoid(input), target)``, exact for any logit.

    ``weight`` multiplies the losses, ``pos_weight`` their part of positive targets; both broadcast to the input.
    """
    _check_reduction("binary_cross_entropy_with_logits", reduction)
    _same_shape("binary_cross_entropy_with_logits", input, target)
    x, t = operands(floating(input), target)
    op = _unless_variable(_binary_cross_entropy_with_logits, weight, pos_weight)
    return op(x, t, weight, pos_weight, reduction=reduction)


def _unless_variable(op: Fused, *weights: Tensor | None) -> Callable[..., Tensor]:
    """The fused op, whose kernels take weights for constants; its composite if one of them is a variable."""
    return op.composite if any(w is not None and w.requires_grad for w in weights) else op


# --- cross entropy


def _negative_log_likelihood(
    logp: Tensor, target: Tensor, weight: Tensor | None, ignore_index: int, reduction: str, label_smoothing: float
) -> Tensor:
    """The loss of log-probabilities with the classes in dimension 1 (0 without batch), as ``kernels.cross_entropy``."""
    classes = 1 if target.ndim else 0
    counts = target != ignore_index
    found = where(counts, target, 0)
    w = cast(counts, logp.dtype) if weight is None else where(counts, weight[found], 0)
    picked = gather(logp, classes, found.unsqueeze(classes)).squeeze(classes)
    losses = -w * where(counts, picked, 0)
    if label_smoothing:
        spread = logp if weight is None else logp * weight.reshape((-1,) + (1,) * (logp.ndim - 1 - classes))
        share = label_smoothing / logp.shape[classes]
        losses = (1 - label_smoothing) * losses - share * where(counts, sum(spread, classes), 0)
    if reduction == "none":
        return losses
    return sum(losses) / sum(w) if reduction == "mean" else sum(losses)


@fused(auxiliary=1)
@widened
def _cross_entropy(
    x: Tensor, target: Tensor, weight: Tensor | None, *, ignore_index: int, reduction: str, label_smoothing: float
) -> Tensor:
    logp = log_softmax(x, 1 if target.ndim else 0)
    return _negative_log_likelihood(logp, target, weight, ignore_index, reduction, label_smoothing)


def _check_classes(op: str, input: Tensor, target: Tensor, weight: Tensor | None, ignore_index: int) -> Tensor:
    """The target as int64, checked to name classes; on a GPU not by its values, since to read them is to wait."""
    if input.ndim == 0 or target.shape != input.shape[:1] * (input.ndim > 1) + input.shape[2:]:
        raise ValueError(
            f"{op}: target of shape {list(target.shape)} for an input of shape {list(input.shape)}: expected class "
            "indices (N, ...) for (N, C, ...), or () for (C)"
        )
    if target.dtype.kind not in "iu":
        raise TypeError(f"{op}: expected class indices of an integer dtype, got {target.dtype}")
    count = input.shape[1 if input.ndim > 1 else 0]
    _check_class_weights(op, weight, count)
    target = cast(target, int64)
    t = target.array
    if isinstance(t, np.ndarray) and t.size and not (t.min() >= 0 and t.max() < count):
        wrong = t[((t < 0) | (t >= count)) & (t != ignore_index)]
        if wrong.size:
            raise IndexError(f"{op}: target {wrong[0]} is not a class: there are {count}, from 0 to {count - 1}")
    return target


def _check_class_weights(op: str, weight: Tensor | None, count: int) -> None:
    if weight is not None and weight.shape != (count,):
        raise ValueError(f"{op}: weight of shape {list(weight.shape)}, expected one for each of {count} classes")


def nll_loss(
    input: Tensor, target: Tensor, weight: Tensor | None = None, ignore_index: int = -100, reduction: str = "mean"
) -> Tensor:
    """``-input[target]`` of log-probabilities (C), (N, C) or (N, C, ...) at class indices (), (N) or (N, ...).

    ``weight`` (C) multiplies the losses; ``"mean"`` divides by the weights of the targets. Targets equal to
    ``ignore_index`` do not count.
    """
    _check_reduction("nll_loss", reduction)
    target = _check_classes("nll_loss", input, target, weight, ignore_index)
    return _negative_log_likelihood(input, target, weight, ignore_index, reduction, 0.0)


def cross_entropy(
    input: Tensor,
    target: Tensor,
    weight: Tensor | None = None,
    ignore_index: int = -100,
    reduction: str = "mean",
    label_smoothing: float = 0.0,
) -> Tensor:
    """``-log softmax(input)`` of logits (C), (N, C) or (N, C, ...) at the target.

    ``target``: class indices (), (N) or (N, ...), as for ``nll_loss``; or probabilities of the input's shape.
    ``label_smoothing``: this part of a target's probability is spread evenly over all classes (Szegedy et al. 2016).
    """
    _check_reduction("cross_entropy", reduction)
    if not 0 <= label_smoothing <= 1:
        raise ValueError(f"cross_entropy: label_smoothing must be from 0 to 1, got {label_smoothing}")
    x = floating(input)
    if target.dtype.kind == "f":
        return _soft_cross_entropy(x, target, weight, reduction, label_smoothing)
    target = _check_classes("cross_entropy", x, target, weight, ignore_index)
    op = _unless_variable(_cross_entropy, weight)
    return op(x, target, weight, ignore_index=ignore_index, reduction=reduction, label_smoothing=label_smoothing)


def _soft_cross_entropy(
    x: Tensor, target: Tensor, weight: Tensor | None, reduction: str, label_smoothing: float
) -> Tensor:
    """Of probabilities: ``-sum_c weight_c target_c log softmax(x)_c``; the mean is over all rows alike."""
    if x.shape != target.shape or x.ndim == 0:
        raise ValueError(
            f"cross_entropy: target of shape {list(target.shape)} for an input of shape {list(x.shape)}: probabilities "
            "must have the input's shape; class indices must be integers"
        )
    classes = 1 if x.ndim > 1 else 0
    count = x.shape[classes]
    _check_class_weights("cross_entropy", weight, count)
    if label_smoothing:
        target = target * (1 - label_smoothing) + label_smoothing / count
    if weight is not None:
        target = target * weight.reshape((-1,) + (1,) * (x.ndim - 1 - classes))
    losses = -sum(target * log_softmax(x, classes), classes)
    return _reduced(losses, reduction)


# --- divergences and densities


def kl_div(input: Tensor, target: Tensor, reduction: str = "mean", log_target: bool = False) -> Tensor:
    """``target (log target - input)``: the Kullback-Leibler divergence of log-probabilities ``input`` from ``target``.

    ``target`` are probabilities, or their logarithms if ``log_target``. The divergence itself is a sum:
    ``"batchmean"`` divides that by the length of the first dimension, ``"mean"`` by the number of all elements.
    """
    _check_reduction("kl_div", reduction, "batchmean")
    if log_target:
        losses = exp(target) * (target - input)
    else:
        positive = target > 0  # t log t is 0 at 0
        losses = where(positive, target * log(where(positive, target, 1)), 0) - target * input
    if reduction != "batchmean":
        return _reduced(losses, reduction)
    return sum(losses) / (input.shape[0] if input.ndim else 1)


def gaussian_nll_loss(
    input: Tensor, target: Tensor, var: Any, full: bool = False, eps: float = 1e-6, reduction: str = "mean"
) -> Tensor:
    """``(log var + (input - target)^2 / var) / 2``: minus the log-density of ``target`` under N(``input``, ``var``).

    ``var``: a number, or a tensor of the input's shape, with a last dimension of 1, or without it. Variances below
    ``eps`` count as ``eps`` but keep their gradient, as in torch, so that they can grow again. ``full`` adds the
    constant ``log(2 pi) / 2``. (Nix and Weigend 1994.)
    """
    _check_reduction("gaussian_nll_loss", reduction)
    var = _variances(input, var)
    limited = var + (var.clamp(min=eps) - var).detach()
    losses = 0.5 * (log(limited) + square(input - target) / limited)
    return _reduced(losses + 0.5 * math.log(2 * math.pi) if full else losses, reduction)


def _variances(input: Tensor, var: Any) -> Tensor:
    if not isinstance(var, Tensor):
        var = Tensor(np.full(input.shape, var), input.dtype, input.device)
    if isinstance(var.array, np.ndarray) and (var.array < 0).any():  # a GPU would be waited for
        raise ValueError("gaussian_nll_loss: var must not be negative; pass the variance, not its logarithm")
    if var.shape in (input.shape, input.shape[:-1] + (1,)):
        return var
    if var.shape == input.shape[:-1]:
        return var.unsqueeze(-1)
    raise ValueError(
        f"gaussian_nll_loss: var of shape {list(var.shape)} for an input of shape {list(input.shape)}: expected the "
        "same, or 1 for the last dimension, or all but the last"
    )


def poisson_nll_loss(
    input: Tensor,
    target: Tensor,
    log_input: bool = True,
    full: bool = False,
    eps: float = 1e-8,
    reduction: str = "mean",
) -> Tensor:
    """Minus the log-probability of counts ``target`` under Poisson distributions, without the constant log target!.

    ``input``: the logarithms of their means, or the means if not ``log_input`` (``eps`` is added to them in
    ``log(mean + eps)``). ``full`` adds the constant by Stirling's formula, for targets above 1.
    """
    _check_reduction("poisson_nll_loss", reduction)
    losses = exp(input) - target * input if log_input else input - target * log(input + eps)
    if full:
        t = where(target > 1, target, 1)
        stirling = t * log(t) - t + 0.5 * log(2 * math.pi * t)
        losses = losses + where(target > 1, stirling, 0)
    return _reduced(losses, reduction)
