"""Convolution of images, its gradient in the input and its gradient in the weight; signals are images of height 1."""

from ..registry import provide
from . import cases, depthwise, reference, residual

_DERIVATIVES = ("conv2d_input", "conv2d_weight", "conv2d_weight_bias")

provide("scratchgen.kernels.conv2d.winograd", "cpu", "conv2d", "conv2d_residual", *_DERIVATIVES)
provide("scratchgen.kernels.conv2d.direct", "cpu", "conv2d", *_DERIVATIVES)
provide("scratchgen.kernels.conv2d.gemm", "cpu", "conv2d", *_DERIVATIVES)
provide("scratchgen.kernels.conv2d.pixels", "cpu", "conv2d_weight", "conv2d_weight_bias")
provide("scratchgen.kernels.conv2d.few", "cpu", "conv2d", *_DERIVATIVES)
provide("scratchgen.kernels.conv2d.whole", "cpu", "conv2d", "conv2d_input", "conv2d_weight")
provide("scratchgen.kernels.conv2d.ladder", "cpu", "conv2d")
for _device in ("cuda", "emu"):
    provide("scratchgen.kernels.conv2d.cuda", _device, "conv2d", "conv2d_residual", *_DERIVATIVES)
provide("scratchgen.kernels.conv2d.numba_cuda", "cuda", "conv2d", "conv2d_input", "conv2d_weight")

__all__ = ["cases", "depthwise", "reference", "residual"]
