"""A library under torch's names, so that a benchmark is written once and runs on scratchgen and on PyTorch.

What the two do not share has a method here: arrays in and out, weights, layouts, and the operations that scratchgen
has in one piece and PyTorch in two.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import numpy as np

Arrays = Mapping[str, np.ndarray]


class Library:
    """``L.exp`` is the library's ``exp``, ``L.nn.Linear`` its ``nn.Linear``, ``L.F.gelu`` its ``nn.functional.gelu``.

    ``channels_last``: images and filters lie in memory with their channels side by side.
    """

    def __init__(self, module: Any, channels_last: bool) -> None:
        self.module = module
        self.nn = module.nn
        self.F = module.nn.functional
        self.channels_last = channels_last

    def __getattr__(self, name: str) -> Any:
        return getattr(self.module, name)

    def tensor(self, array: np.ndarray, image: bool = False) -> Any:
        """A tensor with the values of ``array`` and memory of its own.

        ``image``: in the library's layout of images, if it has four dimensions; else as it lies in ``array``.
        """
        laid = channels_last(array) if image and self.channels_last and array.ndim == 4 else np.array(array)
        return self.module.from_numpy(laid)

    def numpy(self, tensor: Any) -> np.ndarray:
        """The values of a tensor."""
        return np.asarray(tensor.detach().numpy())

    def weights(self, module: Any) -> dict[str, np.ndarray]:
        """Copies of a module's parameters and buffers."""
        return {name: self.numpy(t).copy() for name, t in module.state_dict().items()}

    def load(self, module: Any, weights: Arrays) -> None:
        """Give a module the weights of its twin in another library."""
        module.load_state_dict({name: self.tensor(a) for name, a in weights.items()})

    def prepared(self, module: Any) -> Any:
        """A new module as the library runs it, its weights in their layout."""
        return module

    def compiled(self, function: Callable[..., Any]) -> Callable[..., Any]:
        """``function(L, *tensors)`` as the library runs it."""
        return function

    def finish(self, result: Any) -> None:
        """Wait until ``result`` is there, in libraries that return earlier."""

    def adam(self, parameters: Iterable[Any], lr: float, betas: tuple[float, float] = (0.9, 0.999)) -> Any:
        """Adam."""
        return self.module.optim.Adam(parameters, lr=lr, betas=betas)

    def adamw(self, parameters: Iterable[Any], lr: float, fused: bool | None = None) -> Any:
        """AdamW; ``fused`` is about PyTorch's."""
        return self.module.optim.AdamW(parameters, lr=lr)

    def sgd(self, parameters: Iterable[Any], lr: float, weight_decay: float) -> Any:
        """Plain SGD."""
        return self.module.optim.SGD(parameters, lr=lr, weight_decay=weight_decay)

    def backward(self, outputs: Sequence[Any], cotangents: Sequence[Any]) -> None:
        """Add the gradients of ``outputs`` to the leaves' ``.grad``."""
        raise NotImplementedError

    def average(self, module: Any, decay: float) -> Any:
        """A function to call after each step: it moves an exponential average of the weights of ``module``."""
        raise NotImplementedError

    # What one library has in one piece. Here are the two pieces.

    def group_norm_silu(self, x: Any, groups: int, weight: Any, bias: Any, shift: Any = None) -> Any:
        """silu(group_norm(x)); a ``shift`` (N, C) is added to the images x first."""
        x = x if shift is None else x + shift[:, :, None, None]
        return self.F.silu(self.F.group_norm(x, groups, weight, bias))

    def conv2d_residual(self, x: Any, conv: Any, residual: Any) -> Any:
        """conv(x) + residual; ``conv`` is a module."""
        return conv(x) + residual

    def layer_norm_residual(self, x: Any, residual: Any, weight: Any, bias: Any) -> tuple[Any, Any]:
        """layer_norm(x + residual), and x + residual."""
        total = x + residual
        return self.F.layer_norm(total, weight.shape, weight, bias), total

    def linear_gelu(self, x: Any, weight: Any, bias: Any) -> Any:
        """gelu(linear(x))."""
        return self.F.gelu(self.F.linear(x, weight, bias))

    def linear_relu(self, x: Any, weight: Any, bias: Any) -> Any:
        """relu(linear(x))."""
        return self.F.relu(self.F.linear(x, weight, bias))

    def linear_residual(self, x: Any, weight: Any, bias: Any, residual: Any) -> Any:
        """linear(x) + residual."""
        return self.F.linear(x, weight, bias) + residual

    def scaled_filters(self, weight: Any, bias: Any, log_scale: Any, gain: float = 1.0) -> tuple[Any, Any]:
        """``weight`` (outputs, ...) and ``bias`` times exp(gain log_scale), a number for each output."""
        scale = self.module.exp(gain * log_scale)
        return weight * scale.reshape(-1, *[1] * (weight.ndim - 1)), bias * scale

    def mixing_filters(
        self, permutation: Any, lower: Any, upper: Any, sign: Any, log_s: Any, log_scale: Any, bias: Any
    ) -> tuple[Any, Any, Any]:
        """Glow's 1x1 convolution P L (U + diag s) after actnorm: weight, bias, and the logarithm of its determinant."""
        one = self.module.eye(len(log_s))
        low, up = lower.tril(-1) + one, upper.triu(1) + one * (sign * self.module.exp(log_s))
        weight = permutation @ (low @ up) * self.module.exp(log_scale)
        return weight, weight @ bias, log_s.sum() + log_scale.sum()

    def pixelwise_relu(self, x: Any, weight: Any, bias: Any) -> Any:
        """relu of a 1x1 convolution with ``weight`` (outputs, inputs)."""
        return self.F.relu(self.F.conv2d(x, weight[:, :, None, None], bias))

    def affine_coupling(self, a: Any, b: Any, h: Any) -> tuple[Any, Any]:
        """(a + shift) * sigmoid(raw + 2) before b, and the sum of the scales' logarithms; ``h``: shift before raw."""
        shift, raw = h.chunk(2, 1)
        raw = raw + 2
        log_det = self.F.logsigmoid(raw).flatten(1).sum(1)
        return self.module.cat([(a + shift) * self.module.sigmoid(raw), b], 1), log_det

    def batch_norm_relu(self, norm: Any, x: Any, slope: float = 0.0) -> Any:
        """leaky_relu(norm(x)) in training, relu without a ``slope``; ``norm`` is a module."""
        return self.F.leaky_relu(norm(x), slope) if slope else self.F.relu(norm(x))

    def free_energy(self, v: Any, weight: Any, visible: Any, hidden: Any) -> Any:
        """Free energies of the visible units ``v`` of a restricted Boltzmann machine, a number for each row."""
        return -(v @ visible) - self.F.softplus(self.F.linear(v, weight, hidden)).sum(1)

    def blocks_step(self, x: Any, cache: Any, start: int, weights: Sequence[Any]) -> Any:
        """Transformer blocks on the token ``x`` (N, 1, width) after ``start`` others, in one call that fills ``cache``.

        None where the library has no such call for these sizes: then op by op.
        """
        return None

    def gibbs(
        self, v: Any, weight: Any, visible: Any, hidden: Any, steps: int, key: Any, uniforms: Sequence[Any]
    ) -> Any:
        """``steps`` Gibbs steps of a restricted Boltzmann machine from visible units ``v``, without a graph.

        Ours takes the random numbers of stream ``key``; here they are the library's own, or ``uniforms``, which hold
        those of the stream for hidden and for visible units. ``torch.bernoulli`` would take three times as long.
        """
        sigmoid, linear = self.module.sigmoid, self.F.linear
        with self.module.no_grad():
            for k in range(steps):
                for i, (w, bias) in enumerate(((weight, hidden), (weight.mT, visible))):
                    mean = sigmoid(linear(v, w, bias))
                    v = ((uniforms[i][k] if uniforms else self.module.rand_like(mean)) < mean).to(mean.dtype)
        return v


class Scratchgen(Library):
    """This library. Its images lie channels-last."""

    def __init__(self) -> None:
        import scratchgen

        super().__init__(scratchgen, channels_last=True)

    def backward(self, outputs: Sequence[Any], cotangents: Sequence[Any]) -> None:
        self.module.backward(outputs, cotangents)

    def group_norm_silu(self, x: Any, groups: int, weight: Any, bias: Any, shift: Any = None) -> Any:
        return self.F.group_norm_silu(x, groups, weight, bias, shift=shift)

    def conv2d_residual(self, x: Any, conv: Any, residual: Any) -> Any:
        return self.F.conv2d_residual(x, conv.weight, conv.bias, residual, padding=conv.padding)

    def linear_gelu(self, x: Any, weight: Any, bias: Any) -> Any:
        return self.F.linear_activation(x, weight, bias, activation="gelu")

    def linear_relu(self, x: Any, weight: Any, bias: Any) -> Any:
        return self.F.linear_activation(x, weight, bias, activation="relu")

    def linear_residual(self, x: Any, weight: Any, bias: Any, residual: Any) -> Any:
        return self.F.linear_activation(x, weight, bias, residual)

    def scaled_filters(self, weight: Any, bias: Any, log_scale: Any, gain: float = 1.0) -> tuple[Any, Any]:
        return self.F.scaled_filters(weight, bias, log_scale, gain)

    def mixing_filters(
        self, permutation: Any, lower: Any, upper: Any, sign: Any, log_s: Any, log_scale: Any, bias: Any
    ) -> tuple[Any, Any, Any]:
        return self.F.mixing_filters(permutation, lower, upper, sign, log_s, log_scale, bias)

    def pixelwise_relu(self, x: Any, weight: Any, bias: Any) -> Any:
        pixels = x.permute(0, 2, 3, 1)
        return self.F.linear_activation(pixels, weight, bias, activation="relu").permute(0, 3, 1, 2)

    def affine_coupling(self, a: Any, b: Any, h: Any) -> tuple[Any, Any]:
        return self.F.affine_coupling(a, b, h)

    def batch_norm_relu(self, norm: Any, x: Any, slope: float = 0.0) -> Any:
        norm.num_batches_tracked.add_(1)
        state = (norm.running_mean, norm.running_var, norm.weight, norm.bias, True)
        return self.F.batch_norm_relu(x, *state, norm.momentum, norm.eps, slope)

    def layer_norm_residual(self, x: Any, residual: Any, weight: Any, bias: Any) -> tuple[Any, Any]:
        normal, total = self.F.layer_norm_residual(x, residual, weight.shape, weight, bias)
        return normal, total

    def free_energy(self, v: Any, weight: Any, visible: Any, hidden: Any) -> Any:
        return self.F.free_energy(v, weight, visible, hidden, self.module.zeros_like(hidden))

    def gibbs(
        self, v: Any, weight: Any, visible: Any, hidden: Any, steps: int, key: Any, uniforms: Sequence[Any]
    ) -> Any:
        arrays = [t.detach().numpy() for t in (v, weight, visible, hidden)]
        attrs = {"key": key.numpy().astype(np.uint64), "counter": 0, "steps": steps}
        chosen = self.module.kernels.select("gibbs", "cpu", (*arrays, None, None, None), attrs)
        return self.module.from_numpy(chosen.fn(*arrays, None, None, None, **attrs)[0])

    def blocks_step(self, x: Any, cache: Any, start: int, weights: Sequence[Any]) -> Any:
        stores = [pair[i].array for i in (0, 1) for pair in cache]
        arrays = (x.array[:, 0], *stores, *[w.array for w in weights])
        attrs = {"blocks": len(cache), "length": start, "eps": 1e-5, "activation": "gelu"}
        chosen = self.module.kernels.select("blocks_step", "cpu", arrays, attrs)
        if chosen.impl == "reference":
            return None
        y, keys, values = chosen.fn(*arrays, **attrs)
        for store, new in zip(stores, (*keys, *values)):
            store[:, :, start] = new
        return self.module.from_numpy(y[:, None])

    def average(self, module: Any, decay: float) -> Any:
        return self.module.optim.EMA(module, decay, warmup=False).update


class Torch(Library):
    """PyTorch. ``fused``: its optimizers update all parameters in one call, which is not its default."""

    def __init__(self, channels_last: bool = False, fused: bool = True, threads: int | None = None) -> None:
        import torch

        if threads:
            torch.set_num_threads(threads)
        super().__init__(torch, channels_last)
        self.fused = fused

    def prepared(self, module: Any) -> Any:
        return module.to(memory_format=self.module.channels_last) if self.channels_last else module

    def adam(self, parameters: Iterable[Any], lr: float, betas: tuple[float, float] = (0.9, 0.999)) -> Any:
        return self.module.optim.Adam(parameters, lr=lr, betas=betas, fused=self.fused or None)

    def adamw(self, parameters: Iterable[Any], lr: float, fused: bool | None = None) -> Any:
        fused = self.fused if fused is None else fused
        return self.module.optim.AdamW(parameters, lr=lr, fused=fused or None)

    def sgd(self, parameters: Iterable[Any], lr: float, weight_decay: float) -> Any:
        return self.module.optim.SGD(parameters, lr=lr, weight_decay=weight_decay, fused=self.fused or None)

    def backward(self, outputs: Sequence[Any], cotangents: Sequence[Any]) -> None:
        self.module.autograd.backward(outputs, cotangents)

    def average(self, module: Any, decay: float) -> Any:
        from torch.optim import swa_utils

        rule = swa_utils.get_ema_multi_avg_fn(decay)
        averaged = swa_utils.AveragedModel(module, multi_avg_fn=rule)
        averaged.n_averaged += 1  # the first update moves the average, as all others do
        return lambda: averaged.update_parameters(module)


class CompiledTorch(Torch):
    """PyTorch with ``torch.compile``, which writes C++ and so needs a compiler; eager where an op has state."""

    def prepared(self, module: Any) -> Any:
        module = super().prepared(module)
        module.compile()
        return module

    def compiled(self, function: Callable[..., Any]) -> Callable[..., Any]:
        self.module.compiler.reset()
        compiled = self.module.compile(lambda *tensors: function(self, *tensors))
        return lambda _, *tensors: compiled(*tensors)


def channels_last(array: np.ndarray) -> np.ndarray:
    """A copy of (N, C, H, W) numbers with the channels of a pixel side by side in memory."""
    return np.array(array.transpose(0, 2, 3, 1), order="C").transpose(0, 3, 1, 2)
