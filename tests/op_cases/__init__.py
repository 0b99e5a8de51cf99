"""Every differentiable op, with every option that changes its mathematics: one table for all tests that go op by op."""

from . import algebra, elementwise, images, inside, layers, shape
from .table import CASES, Case, Library

__all__ = ["CASES", "Case", "Library", "algebra", "elementwise", "images", "inside", "layers", "shape"]
