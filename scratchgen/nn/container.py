"""Modules and parameters in lists and dicts."""

from __future__ import annotations

import operator
from collections.abc import Iterable, Iterator, Mapping
from itertools import groupby
from typing import Any, Self

from .module import Module
from .parameter import Parameter


class _List(Module):
    """A list of modules (or parameters) under the names "0", "1", ..."""

    kind: type = Module

    def __init__(self, items: Iterable[Any] = ()) -> None:
        super().__init__()
        self.extend(items)

    def _items(self) -> list[Any]:
        return [value for value in vars(self).values() if isinstance(value, self.kind)]

    def _replace(self, items: Iterable[Any]) -> None:
        """Hold ``items``, numbered anew."""
        items = list(items)
        for name, value in tuple(vars(self).items()):
            if isinstance(value, self.kind):
                delattr(self, name)
        for index, item in enumerate(items):
            self._assign(str(index), item)

    def _assign(self, name: str, item: Any) -> None:
        self.add_module(name, item)

    def _at(self, index: int) -> int:
        count = len(self)
        if not -count <= index < count:
            raise IndexError(f"{self._get_name()}: index {index} is out of range for {count} entries")
        return index % count

    def __len__(self) -> int:
        return len(self._items())

    def __iter__(self) -> Iterator[Any]:
        return iter(self._items())

    def __getitem__(self, index: int | slice) -> Any:
        if isinstance(index, slice):
            return type(self)(self._items()[index])
        found = vars(self).get(str(operator.index(index)))  # forward methods do this often: no list of all is made
        return self._items()[self._at(index)] if found is None else found

    def __setitem__(self, index: int, item: Any) -> None:
        names = [name for name, value in vars(self).items() if isinstance(value, self.kind)]
        self._assign(names[self._at(index)], item)

    def __delitem__(self, index: int | slice) -> None:
        items = self._items()
        del items[index]
        self._replace(items)

    def append(self, item: Any) -> Self:
        """Add at the end."""
        self._assign(str(len(self)), item)
        return self

    def extend(self, items: Iterable[Any]) -> Self:
        """Add several at the end."""
        for item in list(items):
            self.append(item)
        return self

    def insert(self, index: int, item: Any) -> Self:
        """Add before ``index``."""
        items = self._items()
        items.insert(index, item)
        self._replace(items)
        return self


class Sequential(_List):
    """Modules run one after another: ``Sequential(a, b)``, or ``Sequential({"name": a, ...})`` with names."""

    def __init__(self, *modules: Module | Mapping[str, Module]) -> None:
        super().__init__()
        named: Mapping[str, Any]
        if len(modules) == 1 and isinstance(modules[0], Mapping):
            named = modules[0]
        else:
            named = {str(index): module for index, module in enumerate(modules)}
        for name, module in named.items():
            self.add_module(name, module)

    def __getitem__(self, index: int | slice) -> Any:
        if isinstance(index, slice):
            named = [(name, value) for name, value in vars(self).items() if isinstance(value, Module)]
            return type(self)(dict(named[index]))
        return super().__getitem__(index)

    def forward(self, input: Any) -> Any:
        for module in self._items():
            input = module(input)
        return input


class ModuleList(_List):
    """Modules in a list; it has no forward of its own."""

    def _repr_children(self) -> list[str]:
        """Equal neighbours in one line, as ``(0-5): 6 x Linear(...)``."""
        lines, start = [], 0
        for text, run in groupby(repr(module) for module in self):
            count = len(list(run))
            lines.append(f"({start}): {text}" if count == 1 else f"({start}-{start + count - 1}): {count} x {text}")
            start += count
        return lines


class ParameterList(_List):
    """Parameters in a list; Tensors become parameters."""

    kind = Parameter

    def _assign(self, name: str, item: Any) -> None:
        self.register_parameter(name, item if isinstance(item, Parameter) else Parameter(item))

    def _repr_children(self) -> list[str]:
        return [f"({i}): Parameter of {p.dtype}{list(p.shape)}" for i, p in enumerate(self)]


class ModuleDict(Module):
    """Modules by name, in the order they were added."""

    def __init__(self, modules: Mapping[str, Module] | Iterable[tuple[str, Module]] = ()) -> None:
        super().__init__()
        self.update(modules)

    def __getitem__(self, key: str) -> Module:
        found = vars(self).get(key)
        if not isinstance(found, Module):
            raise KeyError(f"ModuleDict has no {key!r}; it has: {', '.join(self.keys()) or 'nothing'}")
        return found

    def __setitem__(self, key: str, module: Module) -> None:
        self.add_module(key, module)

    def __delitem__(self, key: str) -> None:
        self[key]
        delattr(self, key)

    def __len__(self) -> int:
        return len(self.keys())

    def __iter__(self) -> Iterator[str]:
        return iter(self.keys())

    def __contains__(self, key: str) -> bool:
        return isinstance(vars(self).get(key), Module)

    def keys(self) -> list[str]:
        """The names."""
        return [name for name, value in vars(self).items() if isinstance(value, Module)]

    def values(self) -> list[Module]:
        """The modules."""
        return [value for value in vars(self).values() if isinstance(value, Module)]

    def items(self) -> list[tuple[str, Module]]:
        """Pairs of name and module."""
        return [(name, value) for name, value in vars(self).items() if isinstance(value, Module)]

    def update(self, modules: Mapping[str, Module] | Iterable[tuple[str, Module]]) -> None:
        """Add or replace several."""
        for key, module in modules.items() if isinstance(modules, Mapping) else modules:
            self[key] = module

    def pop(self, key: str) -> Module:
        """Take one out and return it."""
        module = self[key]
        del self[key]
        return module

    def clear(self) -> None:
        """Take all out."""
        for key in self.keys():
            del self[key]
