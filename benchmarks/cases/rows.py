"""What reads rows or channels more than it computes: softmax, losses, norms, and their fusions."""

from __future__ import annotations

from typing import Any

from .table import BOTH, Bar, Group, case, constant, integers, normal

ROWS = Group("softmax, cross-entropy, norms", {BOTH: Bar(1.0, 1.4)})
FUSED = Group("fused", {BOTH: Bar(1.5)})


def cross_entropy(group: Group, rows: int, columns: int) -> None:
    """From logits and labels, the mean over rows."""
    case(
        f"cross_entropy ({rows}, {columns})",
        group,
        lambda L, x, labels: L.F.cross_entropy(x, labels),
        normal(rows, columns),
        integers(columns, rows),
    )


def group_norm(n: int, channels: int, size: int, groups: int) -> None:
    """Of images, with weight and bias."""
    case(
        f"group_norm N{n} {channels}ch {size}x{size} {groups} groups",
        ROWS,
        lambda L, x, w, b: L.F.group_norm(x, groups, w, b),
        normal(n, channels, size, size),
        normal(channels),
        normal(channels),
        images=True,
    )


def batch_norm(n: int, channels: int, size: int) -> None:
    """In training: statistics of the batch, running ones updated."""

    def function(L: Any, x: Any, mean: Any, variance: Any, w: Any, b: Any) -> Any:
        return L.F.batch_norm(x, mean, variance, w, b, training=True)

    case(
        f"batch_norm N{n} {channels}ch {size}x{size}",
        ROWS,
        function,
        normal(n, channels, size, size),
        constant(0, channels),
        constant(1, channels),
        normal(channels),
        normal(channels),
        images=True,
    )


def group_norm_silu(n: int, channels: int, size: int, groups: int) -> None:
    """What every block of a diffusion U-Net does, twice."""
    case(
        f"group_norm + silu N{n} {channels}ch {size}x{size} {groups} groups",
        FUSED,
        lambda L, x, w, b: L.group_norm_silu(x, groups, w, b),
        normal(n, channels, size, size),
        normal(channels),
        normal(channels),
        images=True,
    )


def layer_norm_residual(rows: int, columns: int) -> None:
    """What every block of a pre-norm Transformer does, twice."""
    case(
        f"layer_norm + residual ({rows}, {columns})",
        FUSED,
        lambda L, x, r, w, b: L.layer_norm_residual(x, r, w, b),
        normal(rows, columns),
        normal(rows, columns),
        normal(columns),
        normal(columns),
    )


for rows, columns in (4096, 256), (4096, 1024), (1024, 32768):
    case(f"softmax ({rows}, {columns})", ROWS, lambda L, x: L.softmax(x, -1), normal(rows, columns))
    case(f"log_softmax ({rows}, {columns})", ROWS, lambda L, x: L.log_softmax(x, -1), normal(rows, columns))
    cross_entropy(ROWS, rows, columns)
    case(
        f"layer_norm ({rows}, {columns})",
        ROWS,
        lambda L, x, w, b: L.F.layer_norm(x, w.shape, w, b),
        normal(rows, columns),
        normal(columns),
        normal(columns),
    )
group_norm(64, 64, 32, 8)
group_norm(64, 64, 32, 32)
group_norm(64, 128, 16, 32)
batch_norm(64, 96, 14)
batch_norm(64, 64, 32)

group_norm_silu(64, 64, 32, 8)
group_norm_silu(64, 128, 16, 8)
layer_norm_residual(8192, 192)
layer_norm_residual(4096, 1024)
cross_entropy(FUSED, 2048, 8192)  # softmax and cross-entropy in one: a language model's
