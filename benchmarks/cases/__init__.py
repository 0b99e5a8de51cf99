"""The table of ops: each file a part of it."""

from . import convolution, dense, images, rows, updates
from .table import BOTH, CASES, FLOOR, FORWARD, Bar, Case, Draw, Group, case, constant, integers, normal

__all__ = [
    "BOTH", "CASES", "FLOOR", "FORWARD", "Bar", "Case", "Draw", "Group", "case", "constant", "convolution", "dense",
    "images", "integers", "normal", "rows", "updates",
]  # fmt: skip
