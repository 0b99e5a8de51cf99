"""Hand-written kernels: arrays in, arrays out. Nothing here knows of Tensors or of gradients' bookkeeping."""

from .compare import Case, Comparison, cases, comparable, compare
from .registry import Cost, Kernel, has, implementations, kernel, ops, overrides, provide, select, use

from . import (  # isort: skip  # each folder registers its op's kernels
    activation as activation,
    adam as adam,
    add as add,
    affine_coupling as affine_coupling,
    attention as attention,
    batch_norm as batch_norm,
    batch_norm_eval as batch_norm_eval,
    batch_norm_relu as batch_norm_relu,
    bce as bce,
    blocks_step as blocks_step,
    cat as cat,
    clip as clip,
    conv2d as conv2d,
    cross_entropy as cross_entropy,
    dropout as dropout,
    ema as ema,
    flow_filters as flow_filters,
    free_energy as free_energy,
    gibbs as gibbs,
    group_norm as group_norm,
    group_norm_silu as group_norm_silu,
    heap as heap,
    layer_norm as layer_norm,
    layer_norm_residual as layer_norm_residual,
    matmul as matmul,
    philox as philox,
    pool2d as pool2d,
    recurrent as recurrent,
    resample as resample,
    rms_norm as rms_norm,
    scatter_add as scatter_add,
    sgd as sgd,
    softmax as softmax,
    sum as sum,
)

__all__ = [
    "Case", "Comparison", "Cost", "Kernel", "cases", "comparable", "compare", "has", "implementations", "kernel", "ops",
    "overrides", "provide", "select", "use",
]  # fmt: skip
