"""scratchgen: generative AI from the silicon up."""

from . import kernels
from . import ops as _ops
from .autograd import backward, checkpoint, enable_grad, grad, is_grad_enabled, no_grad, set_grad_enabled
from .device import Device, cpu, device, synchronize
from .rng import Generator, default_generator, manual_seed
from .tensor import Tensor, as_tensor, tensor

__version__ = "0.1.0"
