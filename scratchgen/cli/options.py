"""``--set key=value``: a recipe's Config fields as typed options."""

from __future__ import annotations

import dataclasses
import types
import typing
from collections.abc import Sequence
from typing import Any

from .errors import UserError, unknown


def field_types(config: type) -> dict[str, Any]:
    """The fields of a Config class and their types."""
    hints = typing.get_type_hints(config)
    return {field.name: hints[field.name] for field in dataclasses.fields(config)}


def parse_settings(kinds: dict[str, Any], settings: Sequence[str], what: str = "setting") -> dict[str, Any]:
    """``["steps=100", "dropout=0.1"]`` as ``{"steps": 100, "dropout": 0.1}``, by the types of ``kinds``.

    Raises UserError for a name that does not exist (with the closest one that does) or a value of another type.
    """
    parsed: dict[str, Any] = {}
    for setting in settings:
        key, separator, text = setting.partition("=")
        if not separator:
            raise UserError(f"--set {setting}: expected key=value")
        if key not in kinds:
            raise unknown(what, key, kinds)
        parsed[key] = parse_value(key, text, kinds[key])
    return parsed


def parse_value(key: str, text: str, kind: Any) -> Any:
    """The text of an option as a value of its type. Raises UserError that names the option and the type."""
    origin = typing.get_origin(kind)
    if origin is typing.Literal:
        allowed = typing.get_args(kind)
        for value in allowed:
            if str(value) == text:
                return value
        raise UserError(f"--set {key}={text}: expected one of {', '.join(map(str, allowed))}")
    if origin in (typing.Union, types.UnionType):
        if text.lower() == "none" and type(None) in typing.get_args(kind):
            return None
        (kind,) = (k for k in typing.get_args(kind) if k is not type(None))
        return parse_value(key, text, kind)
    if origin is tuple:
        (element, *_) = typing.get_args(kind)
        return tuple(parse_value(key, part.strip(), element) for part in text.split(",") if part.strip())
    if kind is bool:
        if text.lower() not in ("true", "false", "yes", "no", "1", "0"):
            raise UserError(f"--set {key}={text}: expected true or false")
        return text.lower() in ("true", "yes", "1")
    try:
        return kind(text)
    except ValueError:
        raise UserError(f"--set {key}={text}: expected {_kind_name(kind)}") from None


def _kind_name(kind: Any) -> str:
    origin, parts = typing.get_origin(kind), typing.get_args(kind)
    if origin is typing.Literal:
        return " or ".join(map(str, parts))
    if origin is tuple:
        plural = {int: "integers", float: "numbers", str: "texts"}
        return f"{plural[parts[0]]} with commas between"
    if origin is not None:
        return " or ".join("none" if part is type(None) else _kind_name(part) for part in parts)
    return {int: "an integer", float: "a number", str: "a text", bool: "true or false"}.get(kind, kind.__name__)


def _as_typed(value: Any) -> str:
    """A value as ``--set`` takes it."""
    if isinstance(value, tuple):
        return ",".join(map(str, value))
    return str(value).lower() if value is None or isinstance(value, bool) else str(value)


def describe_settings(config: Any) -> str:
    """A table of a Config's fields for ``--help``: name, type, the preset's value, meaning."""
    kinds = field_types(type(config))
    rows = [
        (f.name, _kind_name(kinds[f.name]), _as_typed(getattr(config, f.name)), f.metadata.get("help", ""))
        for f in dataclasses.fields(config)
    ]
    widths = [max(len(row[i]) for row in rows) for i in range(3)]
    return "\n".join(
        f"  {name:<{widths[0]}}  {kind:<{widths[1]}}  {value:<{widths[2]}}  {text}".rstrip()
        for name, kind, value, text in rows
    )
