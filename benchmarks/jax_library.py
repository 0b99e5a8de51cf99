"""JAX under torch's names, as far as the table of ops needs them: a further column, each row under ``jax.jit``."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from .cases import BOTH, Case
from .library import Library
from .running import Bench, _several, cotangents


class Functional:
    """``torch.nn.functional`` on arrays of JAX; images stay NCHW."""

    silu = staticmethod(jax.nn.silu)
    relu = staticmethod(jax.nn.relu)

    def gelu(self, x: Any) -> Any:
        return jax.nn.gelu(x, approximate=False)

    def linear(self, x: Any, w: Any, b: Any) -> Any:
        return x @ w.T + b

    def conv2d(self, x: Any, w: Any, b: Any, stride: int = 1, padding: int = 0) -> Any:
        y = jax.lax.conv_general_dilated(x, w, (stride, stride), [(padding, padding)] * 2)
        return y + b[:, None, None]

    def conv_transpose2d(self, x: Any, w: Any, b: Any, stride: int = 1, padding: int = 0) -> Any:
        around = w.shape[-1] - 1 - padding
        turned = jnp.flip(w, (2, 3)).swapaxes(0, 1)
        y = jax.lax.conv_general_dilated(x, turned, (1, 1), [(around, around)] * 2, lhs_dilation=(stride, stride))
        return y + b[:, None, None]

    def scaled_dot_product_attention(self, q: Any, k: Any, v: Any, is_causal: bool = False) -> Any:
        q, k, v = (t.swapaxes(1, 2) for t in (q, k, v))
        return jax.nn.dot_product_attention(q, k, v, is_causal=is_causal).swapaxes(1, 2)

    def cross_entropy(self, x: Any, labels: Any) -> Any:
        return -jnp.take_along_axis(jax.nn.log_softmax(x), labels[:, None], 1).mean()

    def layer_norm(self, x: Any, shape: Any, w: Any, b: Any) -> Any:
        return _normal(x, (-1,)) * w + b

    def group_norm(self, x: Any, groups: int, w: Any, b: Any) -> Any:
        y = _normal(x.reshape(x.shape[0], groups, -1), (-1,)).reshape(x.shape)
        return y * w[:, None, None] + b[:, None, None]

    def batch_norm(self, x: Any, mean: Any, variance: Any, w: Any, b: Any, training: bool) -> Any:
        return _normal(x, (0, 2, 3)) * w[:, None, None] + b[:, None, None]

    def max_pool2d(self, x: Any, size: int) -> Any:
        window = (1, 1, size, size)
        return jax.lax.reduce_window(x, -jnp.inf, jax.lax.max, window, window, "VALID")

    def avg_pool2d(self, x: Any, size: int) -> Any:
        n, c, h, w = x.shape
        return x.reshape(n, c, h // size, size, w // size, size).mean((3, 5))

    def interpolate(self, x: Any, scale_factor: int, mode: str) -> Any:
        shape = (*x.shape[:2], *(scale_factor * n for n in x.shape[2:]))
        return jax.image.resize(x, shape, mode)

    def embedding(self, indices: Any, w: Any) -> Any:
        return w[indices]


def _normal(x: Any, axes: tuple[int, ...]) -> Any:
    mean = x.mean(axes, keepdims=True)
    return (x - mean) * jax.lax.rsqrt(x.var(axes, keepdims=True) + 1e-5)


class _Names:
    """What ``Library`` takes for torch."""

    __version__ = jax.__version__
    matmul = staticmethod(jnp.matmul)
    softmax = staticmethod(jax.nn.softmax)
    log_softmax = staticmethod(jax.nn.log_softmax)

    class nn:
        """``torch.nn``."""

        functional = Functional()


class Jax(Library):
    """JAX on the CPU."""

    def __init__(self) -> None:
        super().__init__(_Names, channels_last=False)

    def tensor(self, array: np.ndarray, image: bool = False) -> Any:
        return jnp.asarray(array)

    def numpy(self, tensor: Any) -> np.ndarray:
        return np.asarray(tensor)

    def finish(self, result: Any) -> None:
        jax.block_until_ready(result)


class JaxBench(Bench):
    """The same rows; a forward and backward pass is one compiled function."""

    def _prepare(self, case: Case, direction: str, precision: str, number: int) -> tuple[Callable, Callable]:
        L = self.library
        if case.stateful or case.same:
            raise NotImplementedError(f"{case.name}: not written for JAX")
        tensors = [L.tensor(a) for a in case.draw(number)]
        places = [i for i, draw in enumerate(case.inputs) if draw.differentiate]

        @jax.jit
        def forward(*xs: Any) -> list[Any]:
            return _several(case.function(L, *xs))

        if direction != BOTH:
            return lambda: forward(*tensors), lambda: [L.numpy(y) for y in forward(*tensors)]

        self.cotangents = cotangents([y.shape for y in forward(*tensors)], precision)
        seeds = [L.tensor(a) for a in self.cotangents]

        @jax.jit
        def both(xs: list[Any], gs: list[Any]) -> list[Any]:
            def of(*variables: Any) -> list[Any]:
                given = list(xs)
                for i, x in zip(places, variables):
                    given[i] = x
                return forward(*given)

            ys, pull = jax.vjp(of, *(xs[i] for i in places))
            return [*ys, *pull(gs)]

        return lambda: both(tensors, seeds), lambda: [L.numpy(y) for y in both(tensors, seeds)]
