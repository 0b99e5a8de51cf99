"""Tensor: an array, the device it is on, and its place in the graph. Its methods are bound by the files of ``ops``."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

import numpy as np

from . import dtypes
from .device import Device, array_device, cpu, move


class Tensor:
    """An n-dimensional array that records what is computed from it.

    ``array`` is the NumPy or CuPy array itself. Make tensors with ``sg.tensor`` (copies) or ``sg.as_tensor`` (shares);
    ``Tensor(array)`` shares too. All operations follow ``torch.Tensor`` in name, argument order and meaning.
    """

    __slots__ = ("__weakref__", "array", "device", "grad", "hooks", "node", "requires_grad")
    __array_priority__ = 1000  # NumPy arrays leave `array * tensor` to us

    array: Any
    device: Device
    requires_grad: bool
    node: Any
    grad: Tensor | None
    hooks: list | None

    def __init__(self, data: Any, dtype: Any = None, device: Device | str | None = None, requires_grad: bool = False):
        made = as_tensor(data, dtype, device)
        self.array, self.device = made.array, made.device
        self.node = self.grad = self.hooks = None
        self.requires_grad = False
        if requires_grad:
            self.requires_grad_()

    # --- what it is

    @property
    def shape(self) -> tuple[int, ...]:
        return self.array.shape

    @property
    def dtype(self) -> np.dtype:
        return self.array.dtype

    @property
    def ndim(self) -> int:
        return self.array.ndim

    def dim(self) -> int:
        return self.array.ndim

    def size(self, dim: int | None = None) -> Any:
        """The shape, or the length of one dimension."""
        return self.array.shape if dim is None else self.array.shape[dim]

    def numel(self) -> int:
        return self.array.size

    def element_size(self) -> int:
        return self.array.itemsize

    def is_floating_point(self) -> bool:
        return self.array.dtype.kind == "f"

    @property
    def is_leaf(self) -> bool:
        return self.node is None

    @property
    def grad_fn(self) -> Any:
        """The node that made this tensor, or None for a leaf."""
        return self.node

    def __len__(self) -> int:
        if self.array.ndim == 0:
            raise TypeError("len() of a 0-d tensor")
        return self.array.shape[0]

    def __iter__(self) -> Iterator[Tensor]:
        if self.array.ndim == 0:
            raise TypeError("iteration over a 0-d tensor")
        return (self[i] for i in range(self.array.shape[0]))

    def __bool__(self) -> bool:
        if self.array.size != 1:
            raise ValueError(
                f"the truth of a tensor of shape {list(self.shape)} is ambiguous; use .any() or .all()"
            )
        return bool(self.array.item())

    def __float__(self) -> float:
        return float(self.item())

    def __int__(self) -> int:
        return int(self.item())

    def __index__(self) -> int:
        if self.array.dtype.kind not in "iub":
            raise TypeError(f"only integer tensors can be an index, this one is {self.dtype}")
        return int(self.item())

    __hash__ = object.__hash__

    def __repr__(self) -> str:
        values = np.array2string(np.asarray(self.numpy(force=True)), separator=", ", prefix="tensor(", precision=4)
        notes = ""
        if self.array.dtype not in (dtypes.get_default_dtype(), dtypes.int64, dtypes.bool_):
            notes += f", dtype={self.array.dtype}"
        if self.device is not cpu:
            notes += f", device='{self.device}'"
        if self.node is not None:
            node = self.node if hasattr(self.node, "op") else self.node.node
            notes += f", grad_fn=<{node.op.name}>"
        elif self.requires_grad:
            notes += ", requires_grad=True"
        return f"tensor({values}{notes})"

    # --- its place in the graph

    def requires_grad_(self, requires_grad: bool = True) -> Tensor:
        """Mark a leaf as a variable to differentiate by. Floating-point tensors only."""
        if requires_grad and self.array.dtype.kind not in "fc":
            raise RuntimeError(f"only floating-point tensors can require grad, this one is {self.dtype}")
        if not requires_grad and self.node is not None:
            raise RuntimeError("only leaf tensors can stop requiring grad; use .detach()")
        self.requires_grad = requires_grad
        return self

    def detach(self) -> Tensor:
        """The same values (shared memory) without history."""
        return wrap(self.array, self.device)

    @property
    def data(self) -> Tensor:
        """As ``detach()``; assigning replaces the values of a leaf without recording."""
        return self.detach()

    @data.setter
    def data(self, value: Tensor) -> None:
        self.array, self.device = value.array, value.device

    def backward(
        self, gradient: Tensor | None = None, retain_graph: bool | None = None, create_graph: bool = False
    ) -> None:
        """Add the gradients of this tensor to ``.grad`` of all leaves it depends on."""
        from . import autograd  # the engine stands on this file; only this call looks back up

        autograd.backward(self, gradient, retain_graph, create_graph)

    def register_hook(self, hook: Callable[[Tensor], Tensor | None]) -> Callable[[], None]:
        """Call ``hook(grad)`` when this tensor's gradient is known; what it returns, if anything, replaces it.

        Returns a function that removes the hook.
        """
        if not self.requires_grad:
            raise RuntimeError("register_hook: this tensor does not require grad")
        if self.node is None:
            if self.hooks is None:
                self.hooks = []
            hooks = self.hooks
        else:
            node, index = (self.node, 0) if hasattr(self.node, "op") else self.node
            if node.hooks is None:
                node.hooks = {}
            hooks = node.hooks.setdefault(index, [])
        hooks.append(hook)
        return lambda: hooks.remove(hook)

    # --- to and from arrays

    def numpy(self, *, force: bool = False) -> np.ndarray:
        """The values as a NumPy array that shares memory on the CPU; ``force`` also detaches and copies from a GPU."""
        if self.requires_grad and not force:
            raise RuntimeError("this tensor requires grad: use x.detach().numpy(), or x.numpy(force=True)")
        if self.device.type == "cuda" and not force:
            raise RuntimeError(f"this tensor is on {self.device}: use x.cpu().numpy(), or x.numpy(force=True)")
        return move(self.array, self.device, cpu)

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> np.ndarray:
        return np.array(self.numpy(), dtype=dtype, copy=copy)

    def __dlpack__(self, **options: Any) -> Any:
        if self.requires_grad:
            raise BufferError("this tensor requires grad: export x.detach()")
        return self.array.__dlpack__(**options)

    def __dlpack_device__(self) -> tuple[int, int]:
        return self.array.__dlpack_device__()

    def item(self) -> Any:
        """The value of a one-element tensor as a Python number."""
        if self.array.size != 1:
            raise ValueError(f"item() needs a tensor of one element, this one has shape {list(self.shape)}")
        return self.array.item()

    def tolist(self) -> Any:
        return self.array.tolist()

    def __deepcopy__(self, memo: dict) -> Tensor:
        if self.node is not None:
            raise RuntimeError("only leaf tensors can be deep-copied; use x.detach().clone()")
        copy = wrap(self.array.copy(), self.device)
        copy.__class__ = self.__class__
        copy.requires_grad = self.requires_grad
        return memo.setdefault(id(self), copy)

    def __reduce__(self) -> tuple:
        if self.node is not None:
            raise RuntimeError("only leaf tensors can be pickled; use x.detach()")
        return _rebuild, (self.__class__, self.numpy(force=True), str(self.device), self.requires_grad)

    if TYPE_CHECKING:  # bound by the files of ops/

        def __getattr__(self, name: str) -> Any: ...
        def __add__(self, other: Any) -> Tensor: ...
        def __radd__(self, other: Any) -> Tensor: ...
        def __sub__(self, other: Any) -> Tensor: ...
        def __rsub__(self, other: Any) -> Tensor: ...
        def __mul__(self, other: Any) -> Tensor: ...
        def __rmul__(self, other: Any) -> Tensor: ...
        def __truediv__(self, other: Any) -> Tensor: ...
        def __rtruediv__(self, other: Any) -> Tensor: ...
        def __floordiv__(self, other: Any) -> Tensor: ...
        def __mod__(self, other: Any) -> Tensor: ...
        def __pow__(self, other: Any) -> Tensor: ...
        def __rpow__(self, other: Any) -> Tensor: ...
        def __matmul__(self, other: Any) -> Tensor: ...
        def __rmatmul__(self, other: Any) -> Tensor: ...
        def __neg__(self) -> Tensor: ...
        def __abs__(self) -> Tensor: ...
        def __invert__(self) -> Tensor: ...
        def __and__(self, other: Any) -> Tensor: ...
        def __or__(self, other: Any) -> Tensor: ...
        def __lt__(self, other: Any) -> Tensor: ...
        def __le__(self, other: Any) -> Tensor: ...
        def __gt__(self, other: Any) -> Tensor: ...
        def __ge__(self, other: Any) -> Tensor: ...
        def __eq__(self, other: Any) -> Tensor: ...  # type: ignore[override]
        def __ne__(self, other: Any) -> Tensor: ...  # type: ignore[override]
        def __getitem__(self, index: Any) -> Tensor: ...
        def __setitem__(self, index: Any, value: Any) -> None: ...


def _rebuild(kind: type, array: np.ndarray, device: str, requires_grad: bool) -> Tensor:
    t = as_tensor(array, device=device)
    t.__class__ = kind
    t.requires_grad = requires_grad
    return t


_new = object.__new__


def wrap(array: Any, device: Device, node: Any = None) -> Tensor:
    """A Tensor around ``array``, made by ``node`` (None: a leaf that needs no gradient). The hot path's constructor."""
    t = _new(Tensor)
    t.array = array
    t.device = device
    t.node = node
    t.requires_grad = node is not None
    t.grad = None
    t.hooks = None
    return t


def as_tensor(data: Any, dtype: Any = None, device: Device | str | None = None) -> Tensor:
    """``data`` (number, nested list, array, DLPack object, Tensor) as a Tensor; shares memory where it can.

    Python floats get the default dtype, Python ints int64, bools bool; arrays keep theirs.
    """
    target = None if device is None else Device(device)
    if isinstance(data, Tensor):
        t = data if target is None else data.to(target)
        return t if dtype is None else t.to(np.dtype(dtype))
    if isinstance(data, np.ndarray) or type(data).__module__.partition(".")[0] == "cupy":
        array, where = data, array_device(data)
    elif isinstance(data, np.generic):
        array, where = np.asarray(data), cpu
    elif hasattr(data, "__dlpack__"):
        array, where = np.from_dlpack(data), cpu
    else:
        array, where = _from_python(data, dtype), cpu
    if array.dtype.kind not in "fiubc":
        raise TypeError(f"cannot make a tensor of {type(data).__name__} with dtype {array.dtype}: only numbers can be")
    if dtype is not None:
        array = array.astype(np.dtype(dtype), copy=False)
    # Ops compare dtypes by identity, but unpickled arrays and C's long long come with equal ones of their own.
    unique = np.dtype(f"{array.dtype.kind}{array.dtype.itemsize}")
    if array.dtype is not unique:
        array = array.view(unique) if array.dtype == unique else array.astype(unique)
    target = target or where
    return wrap(move(array, where, target), target)


def _from_python(data: Any, dtype: Any) -> np.ndarray:
    """``data`` as an array: floats in the default dtype, or whole if they are to become another ``dtype`` anyway."""
    if isinstance(data, (list, tuple)) and any(isinstance(x, Tensor) for x in data):
        data = [x.numpy(force=True) if isinstance(x, Tensor) else x for x in data]
        return np.asarray(data)
    try:
        array = np.asarray(data)
    except ValueError as error:
        raise ValueError(f"cannot make a tensor of nested lists of unequal lengths ({error})") from None
    if dtype is None and array.dtype.kind in "fc" and not _holds_arrays(data):
        default = dtypes.get_default_dtype()
        if array.dtype.kind == "c":
            default = dtypes.complex64 if default is dtypes.float32 else dtypes.complex128
        array = array.astype(default)
    return array


def _holds_arrays(data: Any) -> bool:
    """Whether a nested list's numbers come with a dtype of their own."""
    while isinstance(data, (list, tuple)) and data:
        data = data[0]
    return isinstance(data, (np.ndarray, np.generic))


def tensor(
    data: Any, dtype: Any = None, device: Device | str | None = None, requires_grad: bool = False
) -> Tensor:
    """A new tensor that owns a copy of ``data``."""
    t = as_tensor(data, dtype, device)
    shared = data.array if isinstance(data, Tensor) else data
    t = wrap(t.array.copy() if t.array is shared or t.array.base is not None else t.array, t.device)
    return t.requires_grad_() if requires_grad else t
