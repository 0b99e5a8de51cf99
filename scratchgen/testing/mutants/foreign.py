"""Functions of Tensors for JAX and for HIPS autograd: values and derivatives of every order are ours.

With these the checkers of those libraries judge our derivatives. Each level of derivative is a function of arrays that
calls back into scratchgen, so nothing is differentiated by the foreign library itself.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from ...autograd import no_grad
from ...tensor import Tensor, as_tensor
from ..subject import floating, to_numpy, vjp


def values(f: Callable[..., Any], arrays: Sequence[Any]) -> tuple[np.ndarray, ...]:
    """The outputs of ``f`` at arrays."""
    with no_grad():
        return tuple(np.array(to_numpy(y)) for y in floating(f(*[as_tensor(np.asarray(a)) for a in arrays])))


def gradient(f: Callable[..., Any], count: int) -> Callable[..., tuple[Tensor, ...]]:
    """The function (x, u) -> J(x)'u of ``count`` inputs x and the cotangents that follow them."""

    def of(*at: Tensor) -> tuple[Tensor, ...]:
        recorded = any(isinstance(x, Tensor) and x.requires_grad for x in at)
        return tuple(vjp(f, at[:count], [True] * count, at[count:], recorded))

    return of


def as_jax_function(f: Callable[..., Any]) -> Callable[..., Any]:
    """``f`` of floating arrays as a function for ``jax.vjp``; with 64 bits, jax must be told to have them."""
    import jax

    def host(*xs: Any) -> tuple[np.ndarray, ...]:
        return values(f, xs)

    @jax.custom_vjp
    def call(*xs: Any) -> Any:
        shapes = [jax.ShapeDtypeStruct(y.shape, y.dtype) for y in values(f, [np.ones(x.shape, x.dtype) for x in xs])]
        made = jax.pure_callback(host, tuple(shapes), *xs)
        return made if len(made) > 1 else made[0]

    def forward(*xs: Any) -> Any:
        return call(*xs), xs

    def backward(xs: Any, us: Any) -> Any:
        found = as_jax_function(gradient(f, len(xs)))(*xs, *(us if isinstance(us, tuple) else (us,)))
        return found if isinstance(found, tuple) else (found,)

    call.defvjp(forward, backward)
    return call


def as_hips_function(f: Callable[..., Any], only: int | None = None) -> Callable[..., Any]:
    """``f`` of floating arrays as a primitive of HIPS autograd; of several outputs it has number ``only``."""
    from autograd.extend import defvjp, primitive

    @primitive
    def call(*xs: Any) -> Any:
        return values(f, xs)[only or 0]

    def rule(argnum: int) -> Callable[..., Any]:
        def back(y: Any, *xs: Any) -> Callable[[Any], Any]:
            rest = as_hips_function(gradient(_one(f, only or 0), len(xs)), argnum)
            return lambda u: rest(*xs, u)

        return back

    defvjp(call, *[rule(i) for i in range(16)])
    return call


def _one(f: Callable[..., Any], number: int) -> Callable[..., Any]:
    """One output of a function."""
    return lambda *xs: floating(f(*xs))[number]
