"""What joining is compared on: every dimension, images by their channels, pieces of larger arrays, two orders."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from ..compare import Case, cases


@cases("cat")
def cat_cases(rng: np.random.Generator) -> Iterator[Case]:
    draw = rng.standard_normal

    def image(channels: int) -> np.ndarray:
        return draw((4, 21, 23, channels)).transpose(0, 3, 1, 2)

    yield Case("small", (draw((3, 5)), draw((2, 5))), {"dim": 0})
    yield Case("channels of images", (image(24), image(40)), {"dim": 1})
    yield Case("few channels", (image(3), image(40)), {"dim": 1})
    yield Case("some of the channels", (image(90)[:, 7:47], image(33)), {"dim": 1})
    yield Case("in another order in memory", (image(40), draw((4, 40, 21, 23))), {"dim": 1})
    yield Case("three", tuple(draw((7, 1, 64, 128)) for _ in range(3)), {"dim": 3})
    yield Case("rows", (draw((300, 130)), draw((400, 130))), {"dim": 0})
    yield Case("numbers", (draw(70000), draw(12345), draw(0)), {"dim": 0})
    yield Case("tables", (draw((5, 90, 170)), draw((5, 30, 170))), {"dim": 1})
    yield Case("by columns", (draw((170, 300)).T, draw((170, 200)).T), {"dim": 0})
    yield Case("backwards", (draw((300, 200))[::-1], draw((300, 200))[:, ::-1]), {"dim": 1})
