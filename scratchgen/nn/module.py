"""Module: a tree of parameters, buffers and sub-modules with a forward computation, as torch.nn.Module."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable, Iterator, Mapping
from types import NoneType
from typing import Any, NamedTuple, Self

import numpy as np

from ..autograd import mark_changed, no_grad
from ..device import Device
from ..tensor import Tensor, as_tensor, wrap
from .parameter import Parameter


class RemovableHandle:
    """What registering a hook returns: ``remove()`` takes the hook away again."""

    _numbers = itertools.count()

    def __init__(self, hooks: dict[int, Callable], hook: Callable) -> None:
        self._hooks = hooks
        self._number = next(self._numbers)
        hooks[self._number] = hook

    def remove(self) -> None:
        self._hooks.pop(self._number, None)


class IncompatibleKeys(NamedTuple):
    """What ``load_state_dict(strict=False)`` had to leave out."""

    missing_keys: list[str]
    unexpected_keys: list[str]


class Module:
    """Base class of all layers and models: assign parameters and sub-modules in ``__init__``, compute in ``forward``.

    Parameters, buffers and sub-modules are ordinary attributes; their order is that of their first assignment.
    """

    training: bool

    def __init__(self) -> None:
        self._persistent: dict[str, bool] = {}  # name of each buffer -> whether state_dict holds it
        self._pre_hooks: dict[int, Callable] = {}
        self._hooks: dict[int, Callable] = {}
        self.training = True

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        """What the module computes; call the module itself, which also runs the hooks."""
        raise NotImplementedError(f"{self._get_name()} does not define forward()")

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        if not (self._pre_hooks or self._hooks):
            return self.forward(*args, **kwargs)
        for pre_hook in tuple(self._pre_hooks.values()):
            changed = pre_hook(self, args)
            if changed is not None:
                args = changed if isinstance(changed, tuple) else (changed,)
        result = self.forward(*args, **kwargs)
        for hook in tuple(self._hooks.values()):
            changed = hook(self, args, result)
            if changed is not None:
                result = changed
        return result

    def __setattr__(self, name: str, value: Any) -> None:
        old = self.__dict__.get(name)
        if isinstance(value, (Parameter, Module)):
            if "_persistent" not in self.__dict__:
                raise AttributeError(
                    f"{self._get_name()}.__init__ must call super().__init__() before it assigns {name!r}"
                )
            self._persistent.pop(name, None)
        elif isinstance(old, (Parameter, Module)) and value is not None:
            kind = "Parameter" if isinstance(old, Parameter) else "Module"
            raise TypeError(
                f"{self._get_name()}.{name} is a {kind}: it can be replaced by another one or by None, not by "
                f"{type(value).__name__}; to change its values use load_state_dict, nn.init or .data"
            )
        elif isinstance(old, Tensor) and not isinstance(value, (Tensor, NoneType)) and name in self._persistent:
            raise TypeError(f"{self._get_name()}.{name} is a buffer: it takes a Tensor, got {type(value).__name__}")
        super().__setattr__(name, value)

    def __delattr__(self, name: str) -> None:
        super().__delattr__(name)
        self._persistent.pop(name, None)

    # --------------------------------------------------------------------------------------- what it is made of

    def register_parameter(self, name: str, param: Parameter | None) -> None:
        """Assign ``param``, or None to say that this parameter is switched off."""
        self._check_name("parameter", name)
        if not isinstance(param, (Parameter, NoneType)):
            raise TypeError(f"parameter {name!r} must be a Parameter or None, got {type(param).__name__}")
        setattr(self, name, param)

    def register_buffer(self, name: str, tensor: Tensor | None, persistent: bool = True) -> None:
        """Assign a Tensor that is part of the module's state and moves with it, but is not learnt.

        ``persistent``: whether ``state_dict`` holds it.
        """
        self._check_name("buffer", name)
        if not isinstance(tensor, (Tensor, NoneType)) or isinstance(tensor, Parameter):
            raise TypeError(f"buffer {name!r} must be a plain Tensor or None, got {type(tensor).__name__}")
        setattr(self, name, tensor)
        self._persistent[name] = persistent

    def add_module(self, name: str, module: Module | None) -> None:
        """Assign a sub-module under a name that need not be an identifier."""
        self._check_name("module", name)
        if not isinstance(module, (Module, NoneType)):
            raise TypeError(f"module {name!r} must be a Module or None, got {type(module).__name__}")
        setattr(self, name, module)

    register_module = add_module

    def _check_name(self, kind: str, name: str) -> None:
        if not isinstance(name, str) or not name or "." in name:
            raise KeyError(f"the name of a {kind} must be a non-empty string without dots, got {name!r}")
        existing = self.__dict__.get(name, getattr(type(self), name, None))
        if not isinstance(existing, (Tensor, Module, NoneType)):
            raise KeyError(f"{self._get_name()} already has an attribute {name!r}, so no {kind} can have that name")

    def named_children(self) -> Iterator[tuple[str, Module]]:
        """The direct sub-modules with their names, each once."""
        seen: set[int] = set()
        for name, value in tuple(vars(self).items()):
            if isinstance(value, Module) and id(value) not in seen:
                seen.add(id(value))
                yield name, value

    def children(self) -> Iterator[Module]:
        """The direct sub-modules."""
        return (module for _, module in self.named_children())

    def named_modules(self, prefix: str = "", remove_duplicate: bool = True) -> Iterator[tuple[str, Module]]:
        """This module and all below it, with dotted names; a shared one once unless ``remove_duplicate`` is False."""
        return _walk(self, prefix, set() if remove_duplicate else None)

    def modules(self) -> Iterator[Module]:
        """This module and all below it, each once."""
        return (module for _, module in self.named_modules())

    def _own_parameters(self) -> list[tuple[str, Parameter]]:
        return [(name, value) for name, value in vars(self).items() if isinstance(value, Parameter)]

    def _own_buffers(self) -> list[tuple[str, Tensor]]:
        return [(name, vars(self)[name]) for name in self._persistent if vars(self)[name] is not None]

    def _named(self, own: Callable, prefix: str, recurse: bool, remove_duplicate: bool) -> Iterator[tuple[str, Any]]:
        seen: set[int] = set()
        for path, module in self.named_modules(prefix, remove_duplicate) if recurse else [(prefix, self)]:
            for name, value in own(module):
                if not remove_duplicate or id(value) not in seen:
                    seen.add(id(value))
                    yield f"{path}.{name}" if path else name, value

    def named_parameters(
        self, prefix: str = "", recurse: bool = True, remove_duplicate: bool = True
    ) -> Iterator[tuple[str, Parameter]]:
        """All parameters with dotted names; a shared one once unless ``remove_duplicate`` is False."""
        return self._named(Module._own_parameters, prefix, recurse, remove_duplicate)

    def parameters(self, recurse: bool = True) -> Iterator[Parameter]:
        """All parameters, each once: what an optimizer takes."""
        return (param for _, param in self.named_parameters(recurse=recurse))

    def named_buffers(
        self, prefix: str = "", recurse: bool = True, remove_duplicate: bool = True
    ) -> Iterator[tuple[str, Tensor]]:
        """All buffers with dotted names."""
        return self._named(Module._own_buffers, prefix, recurse, remove_duplicate)

    def buffers(self, recurse: bool = True) -> Iterator[Tensor]:
        """All buffers, each once."""
        return (buffer for _, buffer in self.named_buffers(recurse=recurse))

    def get_submodule(self, target: str) -> Module:
        """The sub-module with the dotted name ``target``; this module for the empty name."""
        module: Module = self
        for name in target.split(".") if target else ():
            module = _pick(name, module, "sub-module", Module.named_children)
        return module

    def get_parameter(self, target: str) -> Parameter:
        """The parameter with the dotted name ``target``."""
        path, _, name = target.rpartition(".")
        return _pick(name, self.get_submodule(path), "parameter", Module._own_parameters)

    def get_buffer(self, target: str) -> Tensor:
        """The buffer with the dotted name ``target``."""
        path, _, name = target.rpartition(".")
        return _pick(name, self.get_submodule(path), "buffer", Module._own_buffers)

    # ---------------------------------------------------------------------------------------- changing all of it

    def apply(self, fn: Callable[[Module], Any]) -> Self:
        """Call ``fn`` on every sub-module, then on this one."""
        for child in self.children():
            child.apply(fn)
        fn(self)
        return self

    def train(self, mode: bool = True) -> Self:
        """Training mode: dropout drops, batch norm uses and tracks the batch's statistics."""
        for module in self.modules():
            module.training = mode
        return self

    def eval(self) -> Self:
        """Evaluation mode."""
        return self.train(False)

    def requires_grad_(self, requires_grad: bool = True) -> Self:
        """Let all parameters be learnt, or freeze them."""
        for param in self.parameters():
            param.requires_grad_(requires_grad)
        return self

    def zero_grad(self, set_to_none: bool = True) -> None:
        """Forget all gradients, or fill them with zeros."""
        for param in self.parameters():
            if param.grad is not None:
                param.grad = None if set_to_none else wrap(param.device.xp.zeros_like(param.grad.array), param.device)

    def to(self, *args: Any, dtype: Any = None, device: Device | str | None = None) -> Self:
        """Move and cast in place: ``to(device)``, ``to(dtype)``, ``to(device, dtype)`` or ``to(tensor)``.

        Only floating-point parameters and buffers change their dtype. Make the optimizer afterwards.
        """
        for arg in args:
            if isinstance(arg, Tensor):
                dtype, device = arg.dtype, arg.device
            elif isinstance(arg, (Device, str)) and str(arg).partition(":")[0] in ("cpu", "cuda", "emu"):
                device = arg
            else:
                dtype = arg
        if dtype is not None and np.dtype(dtype).kind not in "fc":
            raise TypeError(f"{self._get_name()}.to: a module's dtype must be floating-point, got {np.dtype(dtype)}")
        with no_grad():
            for t in itertools.chain(self.parameters(), self.buffers()):
                _convert(t, dtype if t.is_floating_point() else None, device)
                if t.grad is not None:
                    _convert(t.grad, dtype, device)
        return self

    def cpu(self) -> Self:
        """Move to the CPU."""
        return self.to(device="cpu")

    def cuda(self, index: int = 0) -> Self:
        """Move to GPU ``index``."""
        return self.to(device=Device("cuda", index))

    def float(self) -> Self:
        """Cast to float32."""
        return self.to(dtype=np.float32)

    def double(self) -> Self:
        """Cast to float64."""
        return self.to(dtype=np.float64)

    def half(self) -> Self:
        """Cast to float16."""
        return self.to(dtype=np.float16)

    # ------------------------------------------------------------------------------------------- saving and loading

    def state_dict(self, *, prefix: str = "", keep_vars: bool = False) -> dict[str, Tensor]:
        """All parameters and persistent buffers by dotted name, in torch's order, keys and shapes.

        The values share memory with the module (as in torch); ``keep_vars`` gives the very parameters.
        """
        state: dict[str, Tensor] = {}
        for path, module in self.named_modules(remove_duplicate=False):
            place = f"{prefix}{path}." if path else prefix
            kept = [(name, t) for name, t in module._own_buffers() if module._persistent[name]]
            for name, t in [*module._own_parameters(), *kept]:
                state[place + name] = t if keep_vars else t.detach()
        return state

    def load_state_dict(self, state_dict: Mapping[str, Any], strict: bool = True) -> IncompatibleKeys:
        """Copy the values of ``state_dict`` (Tensors, NumPy arrays, or whatever exports DLPack) into this module.

        All that does not fit is listed in one error, and then nothing is changed. ``strict=False`` accepts missing and
        unexpected keys, and returns them; wrong shapes are always an error.
        """
        return copy_state(self._get_name(), self.state_dict(keep_vars=True), state_dict, strict)

    # --------------------------------------------------------------------------------------------- hooks and printing

    def register_forward_pre_hook(self, hook: Callable[[Module, tuple], Any]) -> RemovableHandle:
        """Call ``hook(module, args)`` before each forward; what it returns, if anything, replaces ``args``."""
        return RemovableHandle(self._pre_hooks, hook)

    def register_forward_hook(self, hook: Callable[[Module, tuple, Any], Any]) -> RemovableHandle:
        """Call ``hook(module, args, output)`` after each forward; what it returns, if anything, replaces the output."""
        return RemovableHandle(self._hooks, hook)

    def _get_name(self) -> str:
        return type(self).__name__

    def extra_repr(self) -> str:
        """What stands between the brackets when the module is printed."""
        return ""

    def _repr_children(self) -> list[str]:
        return [f"({name}): {module!r}" for name, module in vars(self).items() if isinstance(module, Module)]

    def __repr__(self) -> str:
        extra, children = self.extra_repr(), self._repr_children()
        if not children:
            return f"{self._get_name()}({extra})"
        lines = "\n".join([*extra.splitlines(), *children]).replace("\n", "\n  ")
        return f"{self._get_name()}(\n  {lines}\n)"


def _walk(module: Module, name: str, seen: set[int] | None) -> Iterator[tuple[str, Module]]:
    """``module`` and all below it that were not ``seen``. A closure that calls itself would be a reference cycle."""
    if seen is not None:
        if id(module) in seen:
            return
        seen.add(id(module))
    yield name, module
    for key, value in tuple(vars(module).items()):
        if isinstance(value, Module):
            yield from _walk(value, f"{name}.{key}" if name else key, seen)


def _pick(name: str, module: Module, kind: str, list_all: Callable[[Module], Iterable[tuple[str, Any]]]) -> Any:
    found = dict(list_all(module))
    if name not in found:
        raise AttributeError(f"{module._get_name()} has no {kind} {name!r}; it has: {', '.join(found) or 'none'}")
    return found[name]


def copy_state(owner: str, own: dict[str, Tensor], state: Mapping[str, Any], strict: bool) -> IncompatibleKeys:
    """Copy the values of ``state`` into the tensors of ``own``, or list in one error all that does not fit."""
    given = {key: _as_value(key, value) for key, value in state.items()}
    missing = [key for key in own if key not in given]
    unexpected = [key for key in given if key not in own]
    problems = [f"missing: {key} {list(own[key].shape)}" for key in missing if strict]
    problems += [f"unexpected: {key} {list(given[key].shape)}" for key in unexpected if strict]
    problems += [
        f"wrong shape: {key} is {list(given[key].shape)}, expected {list(t.shape)}"
        for key, t in own.items()
        if key in given and given[key].shape != t.shape
    ]
    if problems:
        raise RuntimeError("\n    ".join([f"{owner}.load_state_dict: nothing was loaded", *problems]))
    for key, t in own.items():
        if key in given:
            t.array[...] = given[key].to(t.device).array
            mark_changed(t.array)
    return IncompatibleKeys(missing, unexpected)


def _as_value(key: str, value: Any) -> Tensor:
    try:
        return as_tensor(value)
    except (TypeError, ValueError, BufferError) as error:
        error.add_note(f"while loading {key!r}")
        raise


def _convert(t: Tensor, dtype: Any, device: Device | str | None) -> None:
    """Give ``t`` other memory; a graph that saved it must not take the new values for those it saw."""
    converted = t.detach().to(device=device, dtype=dtype)
    if converted.array is not t.array or converted.device is not t.device:
        t.data = converted
        mark_changed(t.array)
