"""What matmul and linear are compared on: BLAS-friendly and awkward layouts, batches, vectors, nothing."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from ..compare import Case, cases


@cases("matmul")
def matmul_cases(rng: np.random.Generator) -> Iterator[Case]:
    draw = rng.standard_normal
    yield Case("square", (draw((256, 256)), draw((256, 256))))
    yield Case("transposed", (draw((70, 50)).T, draw((90, 70)).T))
    yield Case("matrix and column", (draw((300, 200)), draw((200, 1))))
    yield Case("row and column", (draw((1, 500)), draw((500, 1))))
    yield Case("batch and matrix", (draw((16, 20, 64)), draw((64, 48))))
    yield Case("matrix and batch", (draw((20, 64)), draw((16, 64, 8))))
    yield Case("heads", (draw((2, 60, 4, 32)).transpose(0, 2, 1, 3), draw((2, 60, 4, 32)).transpose(0, 2, 3, 1)))
    yield Case("broadcast batches", (draw((3, 1, 20, 30)), draw((2, 30, 10))))
    yield Case("reversed, with gaps", (draw((60, 80))[::-1, ::2], draw((80, 50))[::-2]))
    yield Case("one row for all", (np.broadcast_to(draw((1, 40)), (30, 40)), draw((40, 20))))
    yield Case("deep", (draw((30, 700)), draw((70, 700)).T))
    yield Case("rows a page apart", (draw((40, 1024))[:, :300], draw((300, 200))))
    yield Case("large", (draw((300, 200)), draw((200, 310))))
    yield Case("large and transposed", (draw((200, 300)).T, draw((310, 200)).T))
    yield Case("few rows", (draw((3, 300)), draw((300, 3000))))
    yield Case("five dimensions", (draw((2, 3, 2, 5, 7)), draw((3, 1, 7, 4))))
    yield Case("nothing to sum", (draw((3, 0)), draw((0, 4))))
    yield Case("nothing", (draw((2, 0, 3)), draw((3, 4))))


@cases("linear_activation")
def linear_activation_cases(rng: np.random.Generator) -> Iterator[Case]:
    draw = rng.standard_normal
    for activation in ("none", "relu", "silu", "gelu", "gelu_tanh"):
        layer = (draw((70, 50)), draw((90, 50)), draw(90))
        yield Case(activation, (*layer, None), {"activation": activation})
        yield Case(f"{activation}, residual", (*layer, draw((70, 90))), {"activation": activation})
    residual = draw((8, 40, 30)).transpose(2, 1, 0)
    yield Case("batch", (draw((30, 40, 20)), draw((8, 20)), None, residual), {"activation": "gelu"})
    yield Case("residual by columns", (draw((70, 50)), draw((90, 50)), None, draw((90, 70)).T), {"activation": "silu"})
    yield Case("large", (draw((500, 200)), draw((300, 200)), draw(300), draw((500, 300))), {"activation": "silu"})
    yield Case("nothing", (draw((0, 20)), draw((8, 20)), draw(8), None), {"activation": "gelu"})


@cases("linear_activation_vjp")
def linear_activation_vjp_cases(rng: np.random.Generator) -> Iterator[Case]:
    draw = rng.standard_normal
    for activation in ("none", "relu", "silu", "gelu", "gelu_tanh"):
        for add in (False, True):
            x, w, b, r = draw((2, 35, 50)), draw((90, 50)), draw(90), draw((2, 35, 90)) if add else None
            attrs = {"activation": activation, "needs": (True, True, True, add)}
            yield Case(f"{activation}{', residual' * add}", (draw((2, 35, 90)), None, x, w, b, r, x @ w.T + b), attrs)
        x, w, b = draw((2, 1501, 33)), draw((50, 33)), draw(50)  # narrow, and many rows
        g = draw((50, 1501, 2)).transpose(2, 1, 0)
        attrs = {"activation": activation, "needs": (True, True, True, False)}
        yield Case(f"{activation}, narrow", (g, None, x, w, b, None, x @ w.T + b), attrs)


def _layers(rng: np.random.Generator) -> Iterator[tuple[str, np.ndarray, np.ndarray, np.ndarray | None]]:
    draw = rng.standard_normal
    yield "MLP", draw((128, 784)), draw((400, 784)), draw(400)
    yield "transformer", draw((4, 64, 96)), draw((384, 96)), draw(384)
    yield "without bias", draw((4, 64, 96)), draw((96, 96)), None
    yield "one row", draw(50), draw((7, 50)), draw(7)
    yield "channels", draw((2, 30, 8, 9)).transpose(0, 2, 3, 1), draw((5, 30)), draw(5)
    yield "many rows", draw((1500, 40)), draw((70, 40)), draw(70)
    yield "no inputs", draw((5, 0)), draw((4, 0)), draw(4)
    yield "nothing", draw((2, 0, 3)), draw((4, 3)), draw(4)


@cases("linear")
def linear_cases(rng: np.random.Generator) -> Iterator[Case]:
    for name, input, weight, bias in _layers(rng):
        yield Case(name, (input, weight, bias))


@cases("linear_vjp")
def linear_vjp_cases(rng: np.random.Generator) -> Iterator[Case]:
    for name, input, weight, bias in _layers(rng):
        g = rng.standard_normal((*input.shape[:-1], len(weight)))
        yield Case(name, (g, None, input, weight, bias), {"needs": (True, True, bias is not None)})
