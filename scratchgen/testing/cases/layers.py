"""Cases of norms, attention and losses, with all their options."""

from __future__ import annotations

from typing import Any

import numpy as np
from hypothesis import strategies as st

from ...kernels import Case
from .arrays import arrays, shapes


@st.composite
def norm(draw: st.DrawFn, /, kind: str = "layer", affine: bool | None = None, **how: Any) -> Case:
    """Inputs of a norm in the order its function takes them: ``layer``, ``rms``, ``group``, ``batch`` or ``instance``.

    Statistics are over two elements at least. Weight and bias are there or not, together.
    """
    given = draw(st.booleans()) if affine is None else affine
    eps = draw(st.sampled_from([1e-5, 1e-3]))

    def parameters(shape: tuple[int, ...], count: int = 2) -> tuple[Any, ...]:
        return tuple(draw(arrays(shape, **how)) for _ in range(count)) if given else (None,) * count

    if kind in ("layer", "rms"):
        inner = draw(shapes(1, 2, 4, empty=False).filter(lambda s: np.prod(s) > 1))
        x = draw(arrays((*draw(shapes(0, 2, 3, empty=False)), *inner), **how))
        return Case(kind, (x, inner, *parameters(inner, 2 if kind == "layer" else 1)), {"eps": eps})
    channels = draw(st.integers(1, 4))
    sides = draw(shapes(0 if kind == "batch" else 1, 2, 3, empty=False))
    least = 2 if kind == "batch" or np.prod(sides) < 2 else 1
    if kind in ("instance", "group") and np.prod(sides) < 2:
        sides = (*sides[:-1], 2)
    x = draw(arrays((draw(st.integers(least, 3)), channels, *sides), layout=_WHOLE, **how))
    if kind == "group":
        groups = draw(st.sampled_from([g for g in range(1, channels + 1) if channels % g == 0]))
        return Case(kind, (x, groups, *parameters((channels,))), {"eps": eps})
    attrs = {"training": True, "eps": eps} if kind == "batch" else {"eps": eps}
    return Case(kind, (x, None, None, *parameters((channels,))), attrs)


_WHOLE = ("c", "fortran", "transposed", "sliced", "reversed", "offset")  # repeated numbers have no variance


@st.composite
def attention(draw: st.DrawFn, /, **how: Any) -> Case:
    """Query, key, value with a mask (none, causal, of bools, of numbers), grouped heads, and a scale of one's own.

    No row is masked altogether: that has no softmax.
    """
    batch, heads, shared = draw(st.integers(1, 2)), draw(st.integers(1, 2)), draw(st.integers(1, 2))
    length, keys, width, out = (draw(st.integers(1, 4)) for _ in range(4))
    q = draw(arrays((batch, heads * shared, length, width), **how))
    k = draw(arrays((batch, heads, keys, width), **how))
    v = draw(arrays((batch, heads, keys, out), **how))
    attrs: dict[str, Any] = {}
    if shared > 1:
        attrs["enable_gqa"] = True
    if draw(st.booleans()):
        attrs["scale"] = draw(st.sampled_from([0.3, 1.0, 2.0]))
    masked = draw(st.sampled_from(["none", "causal", "bools", "numbers"]))
    if masked == "causal":
        attrs["is_causal"] = True
    shape = draw(st.sampled_from([(length, keys), (batch, 1, length, keys), (1, heads * shared, length, keys)]))
    if masked == "bools":
        rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
        mask = rng.random(shape) < 0.6
        np.put_along_axis(mask, rng.integers(keys, size=(*shape[:-1], 1)), True, -1)
        return Case("attention", (q, k, v, mask), attrs)
    if masked == "numbers":
        return Case("attention", (q, k, v, draw(arrays(shape, **how))), attrs)
    return Case("attention", (q, k, v), attrs)


LOSSES: dict[str, tuple[str, str, dict[str, list[Any]]]] = {  # name -> kinds of input and target, and options
    "mse_loss": ("normal", "normal", {}),
    "l1_loss": ("spaced", "spaced", {}),
    "smooth_l1_loss": ("spaced", "spaced", {"beta": [1.0, 0.33]}),
    "huber_loss": ("spaced", "spaced", {"delta": [1.0, 0.33]}),
    "binary_cross_entropy": ("unit", "unit", {}),
    "binary_cross_entropy_with_logits": ("normal", "unit", {}),
    "kl_div": ("normal", "positive", {"log_target": [False, True]}),
    "poisson_nll_loss": ("positive", "positive", {"log_input": [True, False], "full": [False]}),
    "gaussian_nll_loss": ("normal", "normal", {"full": [False, True]}),
    "cross_entropy": ("normal", "class", {"label_smoothing": [0.0, 0.1]}),
    "nll_loss": ("normal", "class", {}),
}


@st.composite
def loss(draw: st.DrawFn, /, name: str, **how: Any) -> Case:
    """Input and target of the loss called ``name`` (one of LOSSES), with its ``reduction`` and other options.

    Where it has a kink, input and target stay away from it: they are multiples of 0.1, shifted against each other.
    """
    kind, target_kind, options = LOSSES[name]
    attrs: dict[str, Any] = {"reduction": draw(st.sampled_from(["none", "mean", "sum"]))}
    attrs |= {option: draw(st.sampled_from(values)) for option, values in options.items()}
    shape = draw(shapes(1, 3, 4, empty=False))
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    if target_kind == "class":
        classes, batch = draw(st.integers(2, 4)), draw(st.integers(1, 4))
        rest = draw(shapes(0, 1, 3, empty=False))
        target = np.asarray(rng.integers(classes, size=(batch, *rest)))
        if draw(st.booleans()) and target.size > 1:
            attrs["ignore_index"] = int(target.reshape(-1)[0])
            target.reshape(-1)[-1] = (attrs["ignore_index"] + 1) % classes  # not all are ignored
        if draw(st.booleans()):
            attrs["weight"] = rng.uniform(0.5, 2, classes)
        return Case(name, (draw(arrays((batch, classes, *rest), values=kind, **how)), target), attrs)
    x = draw(arrays(shape, values=kind, **how))
    if target_kind == "spaced":
        target = np.round(x + rng.choice([-2.3, -0.7, -0.2, 0.2, 0.7, 2.3], x.shape), 2) + 0.013
    else:
        target = draw(arrays(shape, values=target_kind, **how))
    if name == "gaussian_nll_loss":
        return Case(name, (x, target, draw(arrays(shape, values="positive", **how))), attrs)
    return Case(name, (x, target), attrs)
