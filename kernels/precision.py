"""How products of float32 matrices are multiplied on a GPU: as they are, or rounded for its tensor cores.

Tensor cores do not take float32. In TF32 they take its 8 bits of exponent and 10 of its 23 bits of fraction, and add
up in float32: results are right to about 3 digits, and come several times faster. Nothing does that silently here.
"""

from __future__ import annotations

PRECISIONS = {
    "float32": "float32 throughout: the default",
    "tf32": "operands rounded to TF32, sums in float32: matmul, linear, convolution and attention on `cuda` and `emu`",
}
_chosen = "float32"


def set_matmul_precision(precision: str) -> None:
    """Choose how float32 matrices are multiplied from here on: ``"float32"`` (the default) or ``"tf32"``.

    ``"tf32"`` lets matrix products, convolutions and attention of float32 arrays on ``cuda`` (and ``emu``) use tensor
    cores, with errors of about 1e-3 relative to the largest result. It changes nothing on ``cpu``, and nothing for
    float16, whose products run on tensor cores always. Raises ValueError for other names.
    """
    global _chosen
    if precision not in PRECISIONS:
        raise ValueError(f"unknown precision {precision!r}; known: {', '.join(PRECISIONS)}")
    _chosen = precision


def get_matmul_precision() -> str:
    """What ``set_matmul_precision`` has chosen."""
    return _chosen
