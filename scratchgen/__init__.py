"""scratchgen: generative AI from the silicon up.

An eager autograd engine on NumPy and CuPy, hand-written kernels, and on them every model of a survey of generative
AI. Names, arguments and defaults follow torch: ``import scratchgen as sg`` where you would ``import torch``.
"""

from typing import TYPE_CHECKING

from . import kernels, linalg, nn, ops, optim
from .autograd import backward, enable_grad, grad, is_grad_enabled, no_grad, set_grad_enabled
from .debug import Observer, Timer, Trace, debug
from .device import Device, cpu, cuda_is_available, device, emu, synchronize
from .dtypes import (
    bool_,
    complex64,
    complex128,
    dtype,
    float16,
    float32,
    float64,
    get_default_dtype,
    int8,
    int16,
    int32,
    int64,
    promote,
    result_type,
    set_default_dtype,
    uint8,
)
from .kernels.precision import get_matmul_precision, set_matmul_precision
from .ops import *
from .recompute import checkpoint
from .rng import Generator, default_generator, manual_seed, seed
from .tensor import Tensor, as_tensor, tensor

__version__ = "0.1.0"

__all__ = [
    "Device", "Generator", "Observer", "Tensor", "Timer", "Trace", "as_tensor", "backward", "bool_", "checkpoint",
    "complex64", "complex128", "cpu", "cuda_is_available", "debug", "default_generator", "device", "dtype", "emu",
    "enable_grad", "float16", "float32", "float64", "get_default_dtype", "get_matmul_precision", "grad", "int8",
    "int16", "int32", "int64", "is_grad_enabled", "kernels", "linalg", "manual_seed", "nn", "no_grad", "ops", "optim",
    "promote", "result_type", "seed", "set_default_dtype", "set_grad_enabled", "set_matmul_precision",
    "synchronize", "tensor", "uint8",
]  # fmt: skip
if not TYPE_CHECKING:  # see ops/__init__.py
    __all__ += ops.__all__
