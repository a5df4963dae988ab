"""A room's catalogue: what user YAML may name in it, which is what the room exports."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from typing import Any, TypeVar

T = TypeVar("T")


def members(namespace: Mapping[str, Any], base: type[T]) -> dict[str, type[T]]:
    """The concrete classes of a family among a module's exports, by name.

    Args:
        namespace: the module's `globals()`, with `__all__`.
        base: the family.
    """
    exported = {name: namespace[name] for name in namespace["__all__"]}
    return {
        name: item
        for name, item in exported.items()
        if inspect.isclass(item) and issubclass(item, base) and not inspect.isabstract(item)
    }
