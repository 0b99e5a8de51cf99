"""Linear algebra under the names of ``torch.linalg``."""

from .ops.diagonal import diagonal
from .ops.linalg import cholesky, det, matrix_power, qr, slogdet, solve, solve_triangular
from .ops.linalg import inverse as inv
from .ops.matmul import matmul
from .ops.reduce import vector_norm
from .ops.spectral import eigh, eigvalsh, matrix_norm, matrix_rank, svd, svdvals
from .ops.spectral import pinverse as pinv

__all__ = [
    "cholesky", "det", "diagonal", "eigh", "eigvalsh", "inv", "matmul", "matrix_norm", "matrix_power", "matrix_rank",
    "pinv", "qr", "slogdet", "solve", "solve_triangular", "svd", "svdvals", "vector_norm",
]  # fmt: skip
