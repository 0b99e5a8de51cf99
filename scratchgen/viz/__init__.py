"""Pictures as PNG files, from NumPy arrays.

Every function takes the path first, writes the file whole or not at all, and returns the path. matplotlib is
used through its object interface, so nothing global is changed and no window opens. The names below are
loaded on first use, because matplotlib and Pillow are slow to import.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .curves import lines as lines
    from .curves import loss_curves as loss_curves
    from .curves import trade_off as trade_off
    from .images import film_strip as film_strip
    from .images import image_grid as image_grid
    from .images import interpolation_grid as interpolation_grid
    from .images import latent_manifold as latent_manifold
    from .images import reconstructions as reconstructions
    from .plots import attention_map as attention_map
    from .plots import density_2d as density_2d
    from .plots import histogram as histogram
    from .plots import samples_2d as samples_2d
    from .plots import scatter as scatter

_NAMES = {
    "curves": ("lines", "loss_curves", "trade_off"),
    "images": ("film_strip", "image_grid", "interpolation_grid", "latent_manifold", "reconstructions"),
    "plots": ("attention_map", "density_2d", "histogram", "samples_2d", "scatter"),
}
_MODULE_OF = {name: module for module, names in _NAMES.items() for name in names}
__all__ = sorted(_MODULE_OF)


def __getattr__(name: str) -> Any:
    if name not in _MODULE_OF:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}; it has {', '.join(__all__)}")
    return getattr(import_module(f".{_MODULE_OF[name]}", __name__), name)


def __dir__() -> list[str]:
    return __all__
