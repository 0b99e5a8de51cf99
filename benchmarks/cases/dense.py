"""Products of matrices: linear layers of the models, plain and batched products, attention."""

from __future__ import annotations

from .table import BOTH, FORWARD, Bar, Group, case, fan_in, normal

LINEAR = Group("linear", {BOTH: Bar(1.0, 1.15)})
MATMUL = Group("matmul")
ATTENTION = Group("attention", {FORWARD: Bar(1.15), BOTH: Bar(1.3)})
ATTENTION_GPT = Group("attention of small GPTs")


def linear(rows: int, before: int, after: int) -> None:
    """Bias on, as in the models."""
    case(
        f"linear ({rows}, {before})->{after}",
        LINEAR,
        lambda L, x, w, b: L.F.linear(x, w, b),
        normal(rows, before),
        normal(after, before, scale=fan_in(after, before)),
        normal(after),
        flops=2.0 * rows * before * after,
    )


def matmul(a: tuple[int, ...], b: tuple[int, ...]) -> None:
    """With and without gradients."""
    flops = 2.0 * b[-1]
    for n in a:
        flops *= n
    case(
        f"matmul {a} x {b}",
        MATMUL,
        lambda L, x, y: L.matmul(x, y),
        normal(*a),
        normal(*b, scale=fan_in(1, b[-2])),
        flops=flops,
        directions=(FORWARD, BOTH),
    )


def attention(group: Group, batch: int, heads: int, length: int, width: int, causal: bool) -> None:
    """Self-attention; the backward pass counts as 2.5 forward ones (FlashAttention-2's convention)."""
    shape = (batch, heads, length, width)
    case(
        f"attention {shape}" + (" causal" if causal else ""),
        group,
        lambda L, q, k, v: L.F.scaled_dot_product_attention(q, k, v, is_causal=causal),
        normal(*shape),
        normal(*shape),
        normal(*shape),
        flops=4.0 * batch * heads * length**2 * width / (2 if causal else 1),
        backward_flops=3.5,
        directions=(FORWARD, BOTH),
    )


for rows, before, after in (
    (128, 784, 400), (128, 400, 784), (768, 128, 512), (768, 512, 128), (8192, 192, 768), (8192, 768, 192),
):  # fmt: skip
    linear(rows, before, after)

for n in 256, 512, 1024, 2048:
    matmul((n, n), (n, n))
matmul((96, 64, 32), (96, 32, 64))
matmul((8, 8, 256, 64), (8, 8, 64, 256))

for shape in (8, 8, 256, 64), (2, 8, 1024, 64), (1, 8, 4096, 64):
    for causal in False, True:
        attention(ATTENTION, *shape, causal)
attention(ATTENTION_GPT, 12, 4, 64, 32, causal=True)
attention(ATTENTION_GPT, 32, 6, 256, 32, causal=True)
