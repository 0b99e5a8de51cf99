"""What addition is compared on: one order in memory and two, rows spread over matrices, shapes that fit no kernel."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from ..compare import Case, cases


def _channels_last(rng: np.random.Generator, *shape: int) -> np.ndarray:
    n, c, h, w = shape
    return rng.standard_normal((n, h, w, c)).transpose(0, 3, 1, 2)


@cases("add")
def add_cases(rng: np.random.Generator) -> Iterator[Case]:
    image = _channels_last(rng, 4, 40, 21, 23)
    yield Case("small", (rng.standard_normal((3, 5)), rng.standard_normal(5)))
    yield Case("one order", (image, _channels_last(rng, *image.shape)))
    yield Case("two orders", (image, rng.standard_normal(image.shape)))
    wide = _channels_last(rng, 4, 90, 21, 23)
    yield Case("some of the channels", (wide[:, 7:47], image))
    yield Case("some of the channels, second", (image, wide[:, 50:]))
    yield Case("some of the channels, both", (wide[:, :40], wide[:, 50:]))
    yield Case("some of the rows, second", (image, wide[:, :40, ::-1]))
    yield Case("one for each channel", (image, rng.standard_normal((40, 1, 1))))
    yield Case("one for each image and channel", (image, rng.standard_normal((4, 40, 1, 1))))
    yield Case("rows, the smaller first", (rng.standard_normal(130), rng.standard_normal((700, 130))))
    yield Case("tables", (rng.standard_normal((5, 90, 170)), rng.standard_normal((90, 170))))
    yield Case("one number a row", (rng.standard_normal((300, 250)), rng.standard_normal((300, 1))))
    yield Case("rows apart", (rng.standard_normal((30, 8, 5, 64)), rng.standard_normal((8, 1, 64))))
    yield Case("both spread", (rng.standard_normal((300, 1, 32)), rng.standard_normal((1, 20, 32))))
    yield Case("with gaps", (rng.standard_normal((600, 400))[::-2, 7:], rng.standard_normal(393)))
    row = np.broadcast_to(rng.standard_normal(128), (900, 128))
    yield Case("one row for all", (row, rng.standard_normal((900, 128))))
