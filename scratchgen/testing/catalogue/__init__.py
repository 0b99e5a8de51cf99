"""Every differentiable op, with every option that changes its mathematics: one table for all tests that go op by op."""

from . import algebra, elementwise, images, internals, layers, shape
from .orders import two_orders
from .table import CASES, Case, Library

# Public functions that are not in the table, because they make constants, integers or bools.
WITHOUT_DERIVATIVE = """
    all allclose any arange argmax argmin argsort bernoulli bitwise_and bitwise_not bitwise_or bitwise_xor
    broadcast_shapes bucketize cast count_nonzero empty empty_like eq equal exponential eye from_numpy full
    full_like ge gt gumbel isclose isfinite isinf isnan le linspace logical_and logical_not logical_or logical_xor
    logspace lt matrix_rank multinomial ne nonzero normal one_hot ones ones_like rand rand_like randint randint_like
    randn randn_like randperm searchsorted tril_indices triu_indices unique zeros zeros_like
""".split()  # noqa: SIM905 - forty names read better in five lines

__all__ = [
    "CASES", "WITHOUT_DERIVATIVE", "Case", "Library", "algebra", "elementwise", "images", "internals", "layers",
    "shape", "two_orders",
]  # fmt: skip
