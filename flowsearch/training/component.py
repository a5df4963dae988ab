"""Components: something that a room exports, by name, with its knobs; its signature is the schema.

A **component** is a name, or `{Name: {knob: value}}`. Its knobs are the keyword-only parameters of what it names,
checked by their own annotations (what stands before the `*` the program gives). Nothing here knows which rooms there
are, so a command that needs no model reads components without loading one.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cache
from typing import Any, get_type_hints

from pydantic import BaseModel, ConfigDict, GetCoreSchemaHandler, ValidationError, create_model
from pydantic_core import CoreSchema, PydanticCustomError, core_schema

from flowsearch.errors import nearest

STRICT = ConfigDict(extra="forbid", frozen=True, strict=True, allow_inf_nan=False)
Catalogue = Mapping[str, Callable[..., Any]]


class Component(BaseModel):
    """Something that a room exports, by name, with all its knobs."""

    model_config = ConfigDict(frozen=True)
    name: str
    knobs: dict[str, Any]

    def build(self, catalogue: Catalogue, *given: Any) -> Any:
        """Call what this names with what the program gives, and its knobs."""
        return catalogue[self.name](*given, **self.knobs)


@cache
def knobs_of(builder: Callable[..., Any]) -> type[BaseModel]:
    """The schema of a builder: its keyword-only parameters, with their annotations and defaults.

    >>> def SGD(parameters, *, lr: float, momentum: float = 0.0): ...
    >>> sorted(knobs_of(SGD).model_fields)
    ['lr', 'momentum']
    """
    target = getattr(builder, "func", builder)
    hints = get_type_hints(target.__init__ if inspect.isclass(target) else target, include_extras=True)
    hints |= getattr(builder, "hints", {})
    fields: dict[str, Any] = {
        name: (hints[name], ... if parameter.default is parameter.empty else parameter.default)
        for name, parameter in inspect.signature(builder).parameters.items()
        if parameter.kind is parameter.KEYWORD_ONLY
    }
    return create_model("knobs", __config__=STRICT, **fields)


@dataclass(frozen=True, eq=False)
class In:
    """Annotates a key whose value is one of `catalogue`, by name or as `{Name: {knob: value}}`."""

    catalogue: Catalogue

    def __get_pydantic_core_schema__(self, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        return core_schema.no_info_before_validator_function(self.parse, handler(source))

    def parse(self, value: Any) -> Component:
        """The component that a value names, its knobs checked and their defaults filled in."""
        if isinstance(value, Component):
            return value
        name, knobs = named(value, self.catalogue)
        schema = knobs_of(self.catalogue[name])
        try:
            return Component(name=name, knobs=dict(schema.model_validate(knobs)))
        except ValidationError as error:
            first = error.errors()[0]
            found = {} if first["type"] == "missing" else {"value": first["input"]}
            raise fault(explain(first, schema), path=first["loc"], **found) from error


def fault(problem: str, **context: Any) -> PydanticCustomError:
    """A validation error with our own words; `path` (below the key) and `value` say where if not at the key itself."""
    return PydanticCustomError("component", "{problem}", {"problem": problem, **context})


def named(value: Any, catalogue: Catalogue) -> tuple[str, Mapping[str, Any]]:
    """Split `Name` or `{Name: {knob: value}}`; the name must be in the catalogue."""
    knobs: Any = {}
    if isinstance(value, str):
        name = value
    elif isinstance(value, Mapping) and len(value) == 1:
        name, knobs = next(iter(value.items()))
        knobs = {} if knobs is None else knobs
    else:
        raise fault(f"expected a name or {{Name: {{knob: value}}}}{nearest('', catalogue)}")
    if name not in catalogue:
        raise fault(f"unknown name{nearest(str(name), catalogue)}", value=name)
    if not isinstance(knobs, Mapping):
        raise fault(f"expected {{{name}: {{knob: value}}}}", value=knobs)
    return name, knobs


def explain(error: Any, schema: type[BaseModel]) -> str:
    """What is wrong, and for an unknown key the nearest known one."""
    if error["type"] == "extra_forbidden":
        return f"unknown key{nearest(str(error['loc'][-1]), schema.model_fields)}"
    if error["type"] == "missing":
        return "missing; it has no default"
    message: str = error["msg"]
    return message[:1].lower() + message[1:]


class Section(BaseModel):
    """A part of a configuration: closed, strict, immutable."""

    model_config = STRICT
