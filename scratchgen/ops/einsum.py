"""Einstein summation, planned once for an equation and shapes, then run as ops: it needs no derivative of its own."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from math import prod
from typing import Any, NamedTuple

import numpy as np

from ..tensor import Tensor
from .diagonal import diagonal
from .matmul import matmul
from .shape import permute, reshape

__all__ = ["einsum"]

Label = str | int  # a letter, or a dimension of "..." counted from its end: -1, -2 ...
Shape = tuple[int, ...]


class Reading(NamedTuple):
    """How an operand comes to have each label once, and none along which it is only broadcast."""

    diagonals: tuple[tuple[int, int], ...]
    shape: Shape


class Product(NamedTuple):
    """How operands number ``i`` and ``j`` become one: sum what only one of them has, lay both out, multiply."""

    i: int
    j: int
    sums: tuple[Shape, Shape]
    orders: tuple[Shape, Shape]
    shapes: tuple[Shape, Shape]
    contracts: bool  # by matmul; else elementwise
    result: Shape


class Plan(NamedTuple):
    """Everything about one equation on operands of given shapes."""

    readings: tuple[Reading, ...]
    products: tuple[Product, ...]
    sums: Shape
    order: Shape


def einsum(*args: Any) -> Tensor:
    """``einsum("ij,jk->ik", a, b)``: products of elements, summed over the labels that the output does not have.

    ``...`` stands for any further dimensions, which broadcast; without ``->`` the output has these and the labels
    that occur once, in alphabetical order. A label that an operand has twice takes its diagonal. Operands may also
    come as one list, or each followed by a list of numbers as its labels: ``einsum(a, [0, 1], b, [1, 2], [0, 2])``.
    """
    equation, operands = _arguments(args)
    plan = _plan(equation, tuple([x.shape for x in operands]))
    values = [_read(x, reading) for x, reading in zip(operands, plan.readings)]
    for product in plan.products:
        b, a = values.pop(product.j), values.pop(product.i)  # i < j
        values.append(_multiply(a, b, product))
    return _permuted(_summed(values[0], plan.sums), plan.order)


# --- running a plan


def _read(x: Tensor, reading: Reading) -> Tensor:
    for dim1, dim2 in reading.diagonals:
        x = diagonal(x, 0, dim1, dim2)
    return _shaped(x, reading.shape)


def _multiply(a: Tensor, b: Tensor, product: Product) -> Tensor:
    left, right = (
        _shaped(_permuted(_summed(x, dims), order), shape)
        for x, dims, order, shape in zip((a, b), product.sums, product.orders, product.shapes)
    )
    return _shaped(matmul(left, right) if product.contracts else left * right, product.result)


def _summed(x: Tensor, dims: Shape) -> Tensor:
    return x.sum(dims) if dims else x


def _permuted(x: Tensor, order: Shape) -> Tensor:
    return x if all(i == dim for i, dim in enumerate(order)) else permute(x, order)


def _shaped(x: Tensor, shape: Shape) -> Tensor:
    return x if x.shape == shape else reshape(x, shape)


# --- making a plan


@lru_cache(maxsize=1024)
def _plan(equation: str, shapes: tuple[Shape, ...]) -> Plan:
    terms, output = _parse(equation, shapes)
    sizes = _sizes(equation, terms, shapes)
    readings = []
    for labels, shape in zip(terms, shapes):
        diagonals = []
        while len(set(labels)) < len(labels):
            twice = next(x for x in labels if labels.count(x) > 1)
            dim1 = labels.index(twice)
            dim2 = labels.index(twice, dim1 + 1)
            if shape[dim1] != shape[dim2]:
                raise ValueError(
                    f"einsum: {twice!r} in {equation!r} takes a diagonal of lengths {shape[dim1]} and {shape[dim2]}"
                )
            diagonals.append((dim1, dim2))
            labels[:] = [x for d, x in enumerate(labels) if d not in (dim1, dim2)] + [twice]
            shape = tuple([n for d, n in enumerate(shape) if d not in (dim1, dim2)]) + (shape[dim1],)
        whole = [n == sizes[label] for label, n in zip(labels, shape)]
        readings.append(Reading(tuple(diagonals), tuple([n for n, w in zip(shape, whole) if w])))
        labels[:] = [label for label, w in zip(labels, whole) if w]

    products = []
    for group in _path(terms, output, sizes):
        for _ in group[1:]:  # a path may join more than two at once; then the result, always last, meets the next
            i, j = sorted(group[:2])
            rest = [labels for k, labels in enumerate(terms) if k not in (i, j)]
            needed = set(output).union(*rest)
            product, labels = _product(i, j, terms[i], terms[j], needed, sizes)
            products.append(product)
            terms = [*rest, labels]
            group = [len(terms) - 1] + [k - (k > i) - (k > j) for k in group[2:]]
    last = terms[0]
    sums = tuple([d for d, label in enumerate(last) if label not in output])
    left = [label for label in last if label in output]
    return Plan(tuple(readings), tuple(products), sums, tuple([left.index(label) for label in output]))


def _product(
    i: int, j: int, a: list[Label], b: list[Label], needed: set[Label], sizes: dict[Label, int]
) -> tuple[Product, list[Label]]:
    """The product of two operands, and its labels. Those that neither the output nor another operand needs go."""
    sums_a = tuple([d for d, x in enumerate(a) if x not in b and x not in needed])
    sums_b = tuple([d for d, x in enumerate(b) if x not in a and x not in needed])
    a, b = [x for d, x in enumerate(a) if d not in sums_a], [x for d, x in enumerate(b) if d not in sums_b]
    batch = [x for x in a if x in b and x in needed]
    contracted = [x for x in a if x in b and x not in needed]
    only_a, only_b = [x for x in a if x not in b], [x for x in b if x not in a]

    def lengths(labels: Sequence[Label]) -> Shape:
        return tuple([sizes[x] for x in labels])

    order_a, order_b = (*batch, *only_a, *contracted), (*batch, *contracted, *only_b)
    if contracted:
        m, k, n = (prod(lengths(labels)) for labels in (only_a, contracted, only_b))
        shapes = (*lengths(batch), m, k), (*lengths(batch), k, n)
    else:
        shapes = lengths(order_a) + (1,) * len(only_b), lengths(batch) + (1,) * len(only_a) + lengths(only_b)
    result = [*batch, *only_a, *only_b]
    orders = tuple([a.index(x) for x in order_a]), tuple([b.index(x) for x in order_b])
    return Product(i, j, (sums_a, sums_b), orders, shapes, bool(contracted), lengths(result)), result


def _path(terms: list[list[Label]], output: list[Label], sizes: dict[Label, int]) -> list[list[int]]:
    """Which operands to multiply first: NumPy's greedy path, from shapes alone."""
    if len(terms) < 3:
        return [list(range(len(terms)))]
    number = {label: k for k, label in enumerate(sizes)}
    sublists: list[Any] = []
    for labels in terms:
        sublists += [np.broadcast_to(0.0, [sizes[x] for x in labels]), [number[x] for x in labels]]
    path, _ = np.einsum_path(*sublists, [number[x] for x in output], optimize="greedy")
    return [list(group) for group in path[1:]]


# --- reading an equation


def _arguments(args: tuple) -> tuple[str, Sequence[Tensor]]:
    """The equation and the operands, from any of the three ways to give them."""
    if args and isinstance(args[0], str):
        operands = args[1] if len(args) == 2 and isinstance(args[1], (tuple, list)) else args[1:]
        return args[0], operands
    terms = [_letters(labels) for labels in args[1::2]]
    equation = ",".join(terms) + ("->" + _letters(args[-1]) if len(args) % 2 else "")
    return equation, args[: len(args) - len(args) % 2 : 2]


def _letters(labels: Sequence[Any]) -> str:
    """A list of numbers below 52, and ``...``, as subscripts."""
    return "".join(["..." if x is ... else chr(ord("A" if x < 26 else "a") + x % 26) for x in labels])


def _parse(equation: str, shapes: tuple[Shape, ...]) -> tuple[list[list[Label]], list[Label]]:
    """The labels of each operand and of the output."""
    left, arrow, right = equation.replace(" ", "").partition("->")
    terms = left.split(",")
    if len(terms) != len(shapes):
        raise ValueError(f"einsum: {equation!r} has {len(terms)} operands, got {len(shapes)}")
    labels = [
        _labels(equation, term, len(shape), f"operand {i} of shape {list(shape)}")
        for i, (term, shape) in enumerate(zip(terms, shapes))
    ]
    every = [x for term in labels for x in term]
    dots = sorted({x for x in every if isinstance(x, int)})
    if not arrow:
        return labels, dots + sorted({x for x in every if every.count(x) == 1 and isinstance(x, str)})
    output = _labels(equation, right, len(right.replace("...", "")) + len(dots) * ("..." in right), "the output")
    for x in output:
        if x not in every or output.count(x) > 1:
            raise ValueError(f"einsum: in {equation!r} the output's {x!r} must be in an operand, and only once")
    return labels, output


def _labels(equation: str, term: str, ndim: int, what: str) -> list[Label]:
    head, dots, tail = term.partition("...")
    more = ndim - len(head) - len(tail)
    if not (head + tail).isalpha() and head + tail:
        raise ValueError(f"einsum: {term!r} in {equation!r} may hold letters and one '...'")
    if more < 0 or (more and not dots):
        raise ValueError(f"einsum: {term!r} in {equation!r} does not fit {what}")
    return [*head, *range(-more, 0), *tail]


def _sizes(equation: str, terms: list[list[Label]], shapes: tuple[Shape, ...]) -> dict[Label, int]:
    """The length of each label; operands of length 1 broadcast."""
    sizes: dict[Label, int] = {}
    for labels, shape in zip(terms, shapes):
        for label, n in zip(labels, shape):
            if sizes.setdefault(label, n) == 1:
                sizes[label] = n
            elif n not in (1, sizes[label]):
                name = "..." if isinstance(label, int) else label
                raise ValueError(
                    f"einsum: {name!r} in {equation!r} is {sizes[label]} long in one operand and {n} in another, "
                    f"of shapes {', '.join(str(list(s)) for s in shapes)}"
                )
    return sizes
