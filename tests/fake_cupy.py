"""A stand-in for CuPy made of NumPy, as strict as CuPy is where it differs from NumPy. For tests without a GPU.

It knows the functions, methods and arguments of CuPy 14.2 (the lists below are data taken from that release) and
refuses all others. As in CuPy, its arrays never turn into NumPy arrays by themselves, do not mix with them, stay arrays
when they are 0-d, hold numbers only, cannot be an index or a dictionary's key, and raise no floating-point warnings.

It is stricter in one point: NumPy arrays as indices and assigned values, which CuPy now and then copies silently.

What passes here calls nothing that CuPy lacks and mixes no arrays of host and device. This project's CUDA kernels run
in the emulator (``RawModule``). It says nothing of CUDA beyond them: no kernel of CuPy runs, no rounding, no order of
additions, no stream or memory of a GPU is in play; and where LAPACK refuses a matrix, CuPy returns NaN.
"""

from __future__ import annotations

import ctypes
import operator
import shutil
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from importlib.machinery import ModuleSpec
from types import ModuleType, SimpleNamespace
from typing import Any
from weakref import WeakValueDictionary

import numpy as np
import pytest
from scipy import linalg as scipy_linalg
from scipy import special

from scratchgen.kernels import emulate, tensor_map
from scratchgen.kernels.launch import HOPPER, all_modules


def _words(text: str) -> list[str]:
    return text.split()


# --- what CuPy 14.2 has

UFUNCS = _words("""
abs absolute acos acosh add arccos arccosh arcsin arcsinh arctan arctan2 arctanh asin asinh atan atan2 atanh
bitwise_and bitwise_count bitwise_invert bitwise_left_shift bitwise_not bitwise_or bitwise_right_shift
bitwise_xor cbrt ceil conj conjugate copysign cos cosh deg2rad degrees divide divmod equal exp exp2 expm1 fabs
float_power floor floor_divide fmax fmin fmod frexp gcd greater greater_equal heaviside hypot invert isfinite
isinf isnan lcm ldexp left_shift less less_equal log log10 log1p log2 logaddexp logaddexp2 logical_and
logical_not logical_or logical_xor matmul maximum minimum mod modf multiply negative nextafter not_equal
positive pow power rad2deg radians reciprocal remainder right_shift rint sign signbit sin sinh sqrt square
subtract tan tanh true_divide trunc
""")
FUNCTIONS = _words("""
all allclose amax amin angle any append arange argmax argmin argpartition argsort argwhere around array
array_equal array_equiv array_split asanyarray asarray ascontiguousarray asfortranarray astype atleast_1d
atleast_2d atleast_3d average bartlett bincount blackman broadcast_arrays broadcast_shapes broadcast_to can_cast
choose clip column_stack common_type compress concat concatenate convolve copy copyto corrcoef correlate
count_nonzero cov cross cumprod cumsum cumulative_prod cumulative_sum delete diag diag_indices diag_indices_from
diagflat diagonal diff digitize dot dsplit dstack ediff1d einsum empty empty_like expand_dims extract eye
fill_diagonal fix flatnonzero flip fliplr flipud full full_like gradient hamming hanning histogram histogram2d
histogramdd hsplit hstack i0 identity imag indices inner interp intersect1d isclose iscomplex iscomplexobj
isdtype isfortran isin isneginf isposinf isreal isrealobj ix_ kaiser kron lexsort linspace logspace mask_indices
matrix_transpose max may_share_memory mean median meshgrid min moveaxis nan_to_num nanargmax nanargmin
nancumprod nancumsum nanmax nanmean nanmedian nanmin nanprod nanstd nansum nanvar ndim nonzero ones ones_like
outer packbits pad partition percentile permute_dims place poly polyadd polyfit polymul polysub polyval prod
promote_types ptp put put_along_axis putmask quantile ravel ravel_multi_index real real_if_close repeat require
reshape resize result_type roll rollaxis roots rot90 round row_stack searchsorted select setdiff1d setxor1d
shape shares_memory sinc size sort sort_complex split squeeze stack std sum swapaxes take take_along_axis
tensordot tile trace transpose trapezoid tri tril tril_indices tril_indices_from trim_zeros triu triu_indices
triu_indices_from union1d unique unique_all unique_counts unique_inverse unique_values unpackbits unravel_index
unwrap vander var vdot vsplit vstack where zeros zeros_like
""")
LINALG = _words("""
cholesky cond cross det eigh eigvalsh inv lstsq matmul matrix_power matrix_rank matrix_transpose norm pinv qr slogdet
solve svd tensorinv tensorsolve
""")
# Arguments of NumPy's functions that CuPy's do not take.
LACKING: dict[str, str] = {
    "all": "where", "any": "where", "amax": "initial where", "amin": "initial where", "max": "initial where",
    "min": "initial where", "mean": "where", "sum": "initial where", "prod": "initial where", "nansum": "initial where",
    "std": "where mean correction", "var": "where mean correction", "arange": "device like",
    "argpartition": "kind order", "argsort": "order stable", "sort": "order stable", "partition": "kind order",
    "array": "ndmax like", "asarray": "device like", "asanyarray": "device like", "ascontiguousarray": "like",
    "astype": "device", "broadcast_to": "subok", "broadcast_arrays": "subok", "clip": "min max", "copy": "subok",
    "count_nonzero": "keepdims", "empty": "device like", "zeros": "device like", "ones": "device like",
    "full": "device like", "eye": "device like", "empty_like": "device", "zeros_like": "device", "ones_like": "device",
    "full_like": "device", "isin": "kind", "lexsort": "axis", "linspace": "device", "percentile": "weights",
    "quantile": "weights", "reshape": "shape", "take": "mode", "unique": "sorted", "pinv": "rtol hermitian",
    "svd": "hermitian", "cholesky": "upper", "matrix_rank": "hermitian rtol",
}  # fmt: skip
METHODS: dict[str, str] = {  # with all their arguments
    "all": "axis out keepdims", "any": "axis out keepdims", "argmax": "axis out dtype keepdims",
    "argmin": "axis out dtype keepdims", "argpartition": "kth axis", "argsort": "axis kind",
    "astype": "dtype order casting subok copy", "clip": "min max out", "compress": "condition axis out", "conj": "",
    "conjugate": "", "copy": "order", "cumprod": "axis dtype out", "cumsum": "axis dtype out",
    "diagonal": "offset axis1 axis2", "dot": "b out", "fill": "value", "flatten": "order", "max": "axis out keepdims",
    "mean": "axis dtype out keepdims", "min": "axis out keepdims", "nonzero": "", "partition": "kth axis",
    "prod": "axis dtype out keepdims", "put": "indices values mode", "ravel": "order", "repeat": "repeats axis",
    "reshape": "* order copy", "round": "decimals out", "searchsorted": "v side sorter", "sort": "axis kind",
    "squeeze": "axis", "std": "axis dtype out ddof keepdims", "sum": "axis dtype out keepdims",
    "swapaxes": "axis1 axis2", "take": "indices axis out", "trace": "offset axis1 axis2 dtype out", "transpose": "*",
    "var": "axis dtype out ddof keepdims", "view": "dtype",
}  # fmt: skip
ATOMIC_ADD = _words("int32 float16 float32 float64 uint32 uint64 complex64 complex128")  # add.at takes no other dtype
SPECIAL = _words("erf erfc erfinv gammaln digamma polygamma gamma expit ndtr zeta")

# --- arrays


def _inside(value: Any) -> Any:
    """The NumPy arrays inside an argument; one that came from outside is refused."""
    if isinstance(value, ndarray):
        return value._inside
    if isinstance(value, np.ndarray):
        raise TypeError(f"Unsupported type {np.ndarray}: a NumPy array where CuPy expects one of its own")
    if isinstance(value, tuple) and type(value) is tuple:
        return tuple(_inside(v) for v in value)
    if isinstance(value, list):
        return [_inside(v) for v in value]
    if isinstance(value, dict):
        return {k: _inside(v) for k, v in value.items()}
    return value


def _outside(result: Any, *given: Any) -> Any:
    """What NumPy returned as CuPy would: its views know whose memory they are of, and 0-d results are arrays."""
    if isinstance(result, (tuple, list)) and any(isinstance(r, np.ndarray) for r in result):
        return tuple(_outside(r, *given) for r in result)
    if isinstance(result, (np.ndarray, np.generic)) and not isinstance(result, np.dtype):
        arrays = [a for a in _flat(given) if isinstance(a, ndarray)]
        for a in arrays:
            if result is a._inside:
                return a
        array = np.asarray(result)
        owner = next((a for a in arrays if array.size and np.may_share_memory(array, a._inside)), None)
        return ndarray._of(array, None if owner is None else owner if owner.base is None else owner.base)
    return result


def _flat(values: Any) -> Iterator[Any]:
    for v in values:
        if isinstance(v, (tuple, list)):
            yield from _flat(v)
        else:
            yield v


def _run(function: Callable[..., Any], args: tuple, kwargs: dict[str, Any]) -> Any:
    with np.errstate(all="ignore"):
        return _outside(function(*_inside(args), **_inside(kwargs)), *args, *kwargs.values())


CAPABILITY = "80"  # of the GPU, if there were one
_AT: WeakValueDictionary[int, ndarray] = WeakValueDictionary()  # arrays by the addresses that were asked for


class ndarray:
    """``cupy.ndarray``."""

    __slots__ = ("__weakref__", "_inside", "base")
    __array_priority__ = 100
    __hash__ = None  # type: ignore[assignment]

    _inside: np.ndarray
    base: ndarray | None

    @classmethod
    def _of(cls, array: np.ndarray, base: ndarray | None = None) -> ndarray:
        if array.dtype.kind not in "biufc":
            raise ValueError(f"Unsupported dtype {array.dtype}")
        made = object.__new__(cls)
        made._inside, made.base = array, base
        return made

    def get(self) -> np.ndarray:
        """A copy on the host."""
        return self._inside.copy()

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> np.ndarray:
        raise TypeError("Implicit conversion to a NumPy array is not allowed. Please use `.get()`")

    def __array_function__(self, func: Any, types: Any, args: tuple, kwargs: dict[str, Any]) -> Any:
        module: Any = sys.modules["cupy"]
        for part in func.__module__.split(".")[1:]:
            module = getattr(module, part, None)
        ours = getattr(module, func.__name__, None)
        return NotImplemented if ours is None else ours(*args, **kwargs)

    def __array_ufunc__(self, ufunc: np.ufunc, method: str, *inputs: Any, **kwargs: Any) -> Any:
        ours = getattr(sys.modules["cupy"], ufunc.__name__, None)
        if ours is None or (method != "__call__" and not hasattr(ours, method)):
            return NotImplemented
        if isinstance(kwargs.get("out"), tuple):
            kwargs["out"] = kwargs["out"][0]
        return ours(*inputs, **kwargs) if method == "__call__" else getattr(ours, method)(*inputs, **kwargs)

    # --- what it is

    dtype = property(lambda self: self._inside.dtype)
    shape = property(lambda self: self._inside.shape)
    strides = property(lambda self: self._inside.strides)
    ndim = property(lambda self: self._inside.ndim)
    size = property(lambda self: self._inside.size)
    itemsize = property(lambda self: self._inside.itemsize)
    nbytes = property(lambda self: self._inside.nbytes)
    device = property(lambda self: SimpleNamespace(id=0, compute_capability=CAPABILITY))

    @property
    def data(self) -> SimpleNamespace:
        """Where it lies: an address that no other array has, and as far from a multiple of 256 bytes as on a device."""
        address = (self._inside.ctypes.data << 8) + emulate.misplaced(self._inside)
        _AT[address] = self
        return SimpleNamespace(ptr=address)

    T = property(lambda self: self.transpose())
    mT = property(lambda self: self.swapaxes(-1, -2))
    real = property(lambda self: _outside(self._inside.real, self))
    imag = property(lambda self: _outside(self._inside.imag, self))

    @property
    def flags(self) -> SimpleNamespace:
        c, f = self._inside.flags.c_contiguous, self._inside.flags.f_contiguous
        return SimpleNamespace(c_contiguous=c, f_contiguous=f, owndata=self.base is None, forc=f or c, fnc=f and not c)

    def item(self) -> Any:
        return self._inside.item()

    def tolist(self) -> Any:
        return self._inside.tolist()

    def __bool__(self) -> bool:
        return bool(self._inside)

    def __int__(self) -> int:
        return int(self._inside)

    def __float__(self) -> float:
        return float(self._inside)

    def __len__(self) -> int:
        return len(self._inside)

    def __iter__(self) -> Iterator[ndarray]:
        return (self[i] for i in range(len(self)))

    def __repr__(self) -> str:
        return repr(self._inside)

    def __reduce__(self) -> tuple:
        return _from_host, (self._inside.copy(),)

    def __getitem__(self, index: Any) -> ndarray:
        return _outside(np.asarray(self._inside[_inside(index)]), self)

    def __setitem__(self, index: Any, value: Any) -> None:
        self._inside[_inside(index)] = _inside(value)


def _from_host(array: np.ndarray) -> ndarray:
    return ndarray._of(array)


def _method(name: str, arguments: str) -> Callable[..., Any]:
    allowed = arguments.split()

    def method(self: ndarray, *args: Any, **kwargs: Any) -> Any:
        if unknown := set(kwargs) - set(allowed):
            raise TypeError(f"ndarray.{name}() got an unexpected keyword argument {sorted(unknown)}")
        if "*" not in allowed and len(args) > len(allowed):
            raise TypeError(f"ndarray.{name}() takes at most {len(allowed)} arguments, got {len(args)}")
        return _run(getattr(np.ndarray, name), (self, *args), kwargs)

    return method


for _name, _arguments in METHODS.items():
    setattr(ndarray, _name, _method(_name, _arguments))


def _defers(other: Any) -> bool:
    """Whether an operator leaves the matter to the other operand, by CuPy's rule."""
    if hasattr(other, "__array_ufunc__"):
        return other.__array_ufunc__ is None
    return getattr(other, "__array_priority__", 0) > ndarray.__array_priority__


def _operator(function: Callable[..., Any], reflected: bool = False) -> Callable[..., Any]:
    def operate(self: ndarray, other: Any) -> Any:
        if _defers(other):
            return NotImplemented
        return _run(function, (other, self) if reflected else (self, other), {})

    return operate


def _in_place(function: Callable[..., Any]) -> Callable[..., Any]:
    def operate(self: ndarray, other: Any) -> ndarray:
        with np.errstate(all="ignore"):
            function(self._inside, _inside(other))
        return self

    return operate


for _name in _words("add sub mul truediv floordiv mod pow matmul and or xor lshift rshift"):
    _function = getattr(operator, f"{_name}_" if _name in ("and", "or") else _name)
    setattr(ndarray, f"__{_name}__", _operator(_function))
    setattr(ndarray, f"__r{_name}__", _operator(_function, reflected=True))
    if _name != "matmul":
        setattr(ndarray, f"__i{_name}__", _in_place(getattr(operator, f"i{_name}")))
for _name in _words("lt le eq ne gt ge"):
    setattr(ndarray, f"__{_name}__", _operator(getattr(operator, _name)))
for _name in _words("neg pos abs invert"):
    _function = getattr(operator, _name)
    setattr(ndarray, f"__{_name}__", lambda self, function=_function: _run(function, (self,), {}))

# --- functions


class Ufunc:
    """``cupy.ufunc``: a call, and additions at positions for the dtypes that have an atomic one."""

    def __init__(self, ufunc: np.ufunc) -> None:
        self._ufunc = ufunc

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        if unknown := set(kwargs) - {"out", "casting", "dtype", "where"}:
            raise TypeError(f"{self._ufunc.__name__}() got unexpected keyword arguments {sorted(unknown)}")
        return _run(self._ufunc, args, kwargs)

    def at(self, a: ndarray, indices: Any, b: Any = None) -> None:
        if self._ufunc is np.add and a.dtype.name not in ATOMIC_ADD:
            raise TypeError(f"cupy.add.at only supports {', '.join(ATOMIC_ADD)} as data type, got {a.dtype}")
        if self._ufunc not in (np.add, np.subtract, np.maximum, np.minimum):
            raise NotImplementedError(f"cupy.{self._ufunc.__name__}.at")
        self._ufunc.at(a._inside, _inside(indices), _inside(b))


_FROM_HOST = {"array", "asarray", "asanyarray", "ascontiguousarray"}


def _named(function: Callable[..., Any], name: str) -> Callable[..., Any]:
    lacking = set(LACKING.get(name, "").split())

    def call(*args: Any, **kwargs: Any) -> Any:
        if refused := lacking & set(kwargs):
            raise TypeError(f"cupy.{name}() got unexpected keyword arguments {sorted(refused)}")
        if name in _FROM_HOST and args and isinstance(args[0], np.ndarray):
            return ndarray._of(function(args[0].copy(order="K"), *args[1:], **kwargs))
        if name == "where" and not hasattr(args[0], "astype"):
            raise AttributeError(f"{type(args[0]).__name__!r} object has no attribute 'astype'")
        return _run(function, args, kwargs)

    return call


class _Device:
    """``cupy.cuda.Device``."""

    def __init__(self, number: int = 0) -> None:
        if number:
            raise RuntimeError("cudaErrorInvalidDevice: invalid device ordinal")
        self.id = number

    compute_capability = property(lambda self: CAPABILITY)

    def __enter__(self) -> _Device:
        return self

    def __exit__(self, *_: Any) -> None:
        pass

    def synchronize(self) -> None:
        pass


class _RawModule:
    """``cupy.RawModule`` of a .cu file of this project: its kernels run in the emulator."""

    def __init__(self, *, code: str, options: tuple[str, ...], name_expressions: list[str]) -> None:
        if shutil.which("g++") is None:
            pytest.skip("the emulator compiles with g++")
        (module,) = (m for m in all_modules().values() if m.path.read_text() == code)
        assert options[0].startswith("-std=")
        assert ("-arch=sm_90a" in options) == (module.architectures == HOPPER)
        assert name_expressions == list(module.kernels)
        self._library = module._library

    def get_function(self, name: str) -> Callable[..., None]:
        def launch(grid: tuple, block: tuple, args: tuple, *, shared_mem: int = 0) -> None:
            kinds = self._library.kinds(name)
            passed = list(map(_argument, args, kinds))
            held = [found for value, _ in passed if isinstance(value, np.ndarray) for found in _held(value)]
            self._library.launch(name, grid, block, passed, shared_mem, held)

        return launch


def _argument(value: Any, kind: str) -> tuple[Any, int]:
    """A kernel's argument for the emulator. 0 is a null pointer; all that is not const may be written."""
    if kind not in "pc":
        assert isinstance(value, np.generic), "CuPy passes a Python number as 64 bits, whatever the parameter is"
        return np.array(value) if kind == "s" else value, emulate.VALUE
    if isinstance(value, ndarray):
        return value._inside, emulate.CHANGED if kind == "p" else emulate.INPUT
    assert value.__class__ is int
    assert value == 0
    return None, emulate.CHANGED if kind == "p" else emulate.INPUT


def _held(value: np.ndarray) -> Iterator[tuple[np.ndarray, np.ndarray, int]]:
    """The places of addresses in a struct, and the arrays that lie there."""
    if value.dtype == f"V{tensor_map.MAP_BYTES}":  # what _encode has made
        place = value.reshape(1).view(tensor_map.RECORD)["array"]
        yield place, _AT[int(place[0])]._inside, emulate.INPUT
    for row in value["address"] if "address" in (value.dtype.names or ()) else ():
        for i in np.flatnonzero(row):
            yield row[i : i + 1], _AT[int(row[i])]._inside, emulate.CHANGED


def _encode(place: Any, kind: int, rank: int, address: Any, extent: Any, pitch: Any, box: Any, steps: Any,
            interleaved: int, swizzle: int, promotion: int, fill: int) -> int:  # fmt: skip
    """``cuTensorMapEncodeTiled``: the emulator's record in place of the driver's secret."""
    item = {6: 2, 7: 4, 9: 2, 11: 4}[kind]
    assert (rank, list(steps), interleaved, fill) == (3, [1, 1, 1], 0, 0)
    assert all(p % 16 == 0 for p in pitch)
    assert address.value % 16 == 0
    assert place.value % 64 == 0
    record = np.zeros(1, tensor_map.RECORD)
    record[0] = address.value, list(pitch), list(extent), list(box), item, swizzle == 3, kind == 11
    ctypes.memmove(place, record.ctypes.data, record.nbytes)
    return 0


def _polygamma(n: Any, x: ndarray) -> ndarray:
    """SciPy's is no ufunc either."""
    return _run(special.polygamma, (n, x), {})


def _module(name: str, **contents: Any) -> ModuleType:
    module = ModuleType(name)
    module.__spec__ = ModuleSpec(name, loader=None)
    module.__dict__.update(contents)
    return module


def modules() -> dict[str, ModuleType]:
    """A fresh ``cupy`` and the parts of ``cupyx`` that go with it, by their names in ``sys.modules``."""

    class CUDARuntimeError(RuntimeError):
        """``cupy.cuda.runtime.CUDARuntimeError``."""

    runtime = _module("cupy.cuda.runtime", getDeviceCount=lambda: 1, CUDARuntimeError=CUDARuntimeError)
    tricks = {name: _named(getattr(np.lib.stride_tricks, name), name) for name in ("as_strided", "sliding_window_view")}
    stride_tricks = _module("cupy.lib.stride_tricks", **tricks)
    cupy = _module(
        "cupy",
        ndarray=ndarray,
        RawModule=_RawModule,
        asnumpy=lambda a: a.get() if isinstance(a, ndarray) else np.asarray(a),
        cuda=_module("cupy.cuda", Device=_Device, runtime=runtime),
        lib=_module("cupy.lib", stride_tricks=stride_tricks),
        linalg=_module("cupy.linalg", **{n: _named(getattr(np.linalg, n), n) for n in LINALG}),
        **{name: Ufunc(getattr(np, name)) for name in UFUNCS},
        **{name: _named(getattr(np, name), name) for name in FUNCTIONS},
        **{name: getattr(np, name) for name in _words("inf nan pi e newaxis finfo iinfo dtype bool_ uint8 int8 int16")},
        **{name: getattr(np, name) for name in _words("int32 int64 uint32 uint64 float16 float32 float64 generic")},
    )
    functions = {name: Ufunc(getattr(special, name)) for name in SPECIAL if name != "polygamma"}
    cupyx_special = _module("cupyx.scipy.special", polygamma=_polygamma, **functions)
    solve_triangular = _named(scipy_linalg.solve_triangular, "solve_triangular")
    cupyx_linalg = _module("cupyx.scipy.linalg", solve_triangular=solve_triangular)
    scipy = _module("cupyx.scipy", special=cupyx_special, linalg=cupyx_linalg)
    made = [cupy, cupy.cuda, cupy.lib, cupy.linalg, stride_tricks, scipy, cupyx_special, cupyx_linalg]
    return {m.__name__: m for m in [*made, _module("cupyx", scipy=scipy)]}


@contextmanager
def installed() -> Iterator[ModuleType]:
    """``import cupy`` gives the stand-in inside, whether or not there is a real one."""
    fresh = modules()
    before = {name: sys.modules.get(name) for name in fresh}
    sys.modules.update(fresh)
    driver = tensor_map._driver
    tensor_map._driver = lambda: SimpleNamespace(cuTensorMapEncodeTiled=_encode)
    try:
        yield fresh["cupy"]
    finally:
        tensor_map._driver = driver
        for name, module in before.items():
            if module is None:
                del sys.modules[name]
            else:
                sys.modules[name] = module


ndarray.__module__ = "cupy"
