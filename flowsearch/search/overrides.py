"""`key=value` from a command line, in Hydra's grammar (https://hydra.cc/docs/advanced/override_grammar/basic/).

1. A key is a path through the tree; the names of components may be left out, as in the names of parameters:
   `model.encoder.hidden_size=256` is `model.encoder.LSTMEncoder.hidden_size=256`.
2. Below a `choice`, a key goes into every candidate that has it: `model.posterior.k=2` fixes k of Planar and of IAF.
3. The value replaces what was there whole, be it a value, a range or a component.
4. A list in place of a value is a choice: `model.posterior.k=[1,2]` is `model.posterior.k={choice: [1, 2]}`.
5. A key also leads into what is null or empty so far: `search.budget.hours=20`, `search.require.active_units.min=1`,
   `search.pruner.ASHA.resource=seconds`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from inspect import isclass
from typing import Any, get_args, get_origin

from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Glob, Override, OverrideType, Sweep
from hydra.errors import HydraException
from pydantic import BaseModel
from pydantic.fields import FieldInfo

from flowsearch.errors import SpaceError, nearest
from flowsearch.search import bounded
from flowsearch.search.ranges import is_component, is_range
from flowsearch.training.component import Catalogue, In, knobs_of

LETTERS = 4_000  # Python reads no integer of more than 4300 digits
Schema = Mapping[str, type[BaseModel] | None]
"""What each top-level key holds: a section, or None for a value."""


class UnknownKeyError(Exception):
    """A path leads nowhere: the key at which it ends, and those that there are."""

    def __init__(self, key: str, known: Sequence[str]) -> None:
        super().__init__(key)
        self.key, self.known = key, known


def override(tree: dict[str, Any], text: str, schema: Schema) -> dict[str, Any]:
    """The tree with one override applied.

    Raises:
        SpaceError: text that is not `key=value`, an unknown key, or a value that is not bounded plain data.
    """
    parsed = parse(text)
    key, value = parsed.key_or_group, parsed.value()
    bounded.refuse(value, key)
    return placed(tree, key, value, schema)


def placed(tree: dict[str, Any], key: str, value: Any, schema: Schema) -> dict[str, Any]:
    """The tree with a value at a dotted path.

    Raises:
        SpaceError: a path that leads nowhere.
    """
    try:
        return put_top(tree, key.split("."), value, schema)
    except UnknownKeyError as error:
        what = "unknown key" if error.known else f"'{error.key}' is below a value"
        raise SpaceError(f"{key}: {value!r:.80}; {what}{nearest(error.key, error.known)}") from error


def parse(text: str) -> Override:
    """One override, and only of the kind `key=value`."""
    shown = f"override {text!r:.80}"
    if "${" in text:
        raise SpaceError(f"{shown}: interpolation is not allowed")
    if len(text) > LETTERS or depth(text) > bounded.DEPTH or not text.isprintable():
        raise SpaceError(f"{shown}: expected key=value, short and shallow")
    try:
        parsed = OverridesParser.create().parse_override(text)
    except HydraException as error:
        problem = str(error).splitlines()[0].split(" expecting ")[0]  # what may follow is a list of its tokens
        raise SpaceError(f"{shown}: {problem:.200}; expected key=value") from error
    key = parsed.key_or_group
    if parsed.type is not OverrideType.CHANGE or parsed.package is not None or not key or "/" in key:
        raise SpaceError(f"{shown}: expected key=value, the key a dotted path")
    if isinstance(parsed.value(), Sweep | Glob):
        raise SpaceError(f"{shown}: expected one value; a range is {{choice: [...]}}, {{int: [low, high]}}, ...")
    return parsed


def depth(text: str) -> int:
    """How deep brackets are nested, at most."""
    deepest = level = 0
    for letter in text:
        level += (letter in "([{") - (letter in ")]}")
        deepest = max(deepest, level)
    return deepest


def put_top(tree: dict[str, Any], path: list[str], new: Any, schema: Schema) -> dict[str, Any]:
    """The tree with `new` at a path."""
    top, *rest = path
    if top not in schema:
        raise UnknownKeyError(top, [*schema])
    section = schema[top]
    if section is None and rest:
        raise UnknownKeyError(rest[0], [])
    if section is not None and not rest:
        raise SpaceError(f"{top}: {new!r:.80}; expected {top}.KEY=value")
    return tree | {top: new if section is None else put(tree.get(top, {}), rest, new, section)}


def put(holder: Mapping[str, Any], path: list[str], new: Any, schema: type[BaseModel]) -> dict[str, Any]:
    """A section, or a component's knobs, with `new` at a path below."""
    key, *rest = path
    field = schema.model_fields.get(key)
    if field is None and key not in holder:
        raise UnknownKeyError(key, [*{*schema.model_fields, *holder}])
    if rest:
        return {**holder, key: put_field(holder.get(key), rest, new, field)}
    wants_list = field is not None and get_origin(field.annotation) is list
    return {**holder, key: {"choice": new} if isinstance(new, list) and not wants_list else new}


def put_field(value: Any, path: list[str], new: Any, field: FieldInfo | None) -> Any:
    """A field's value with `new` at a path into it: a section of its own, names that each hold something, or a
    component."""
    rooms = catalogue(field)
    if field is None or rooms:
        held = path[0] if value is None and path[0] in rooms else value
        return put_below(held, path, new, rooms)
    section = next((kind for kind in kinds(field) if isclass(kind) and issubclass(kind, BaseModel)), None)
    if isinstance(value, Mapping | None):
        if get_origin(field.annotation) is dict:
            name, *rest = path
            held = value or {}
            return {**held, name: put_named(held.get(name), rest, new, section)}
        if section is not None:
            return put(value or {}, path, new, section)
    return put_below(value, path, new, rooms)


def put_named(value: Any, path: list[str], new: Any, section: type[BaseModel] | None) -> Any:
    """What a name holds, with `new` in its place or at a path into it."""
    if not path:
        return new
    if section is None or not isinstance(value, Mapping | None):
        raise UnknownKeyError(path[0], [])
    return put(value or {}, path, new, section)


def put_below(value: Any, path: list[str], new: Any, rooms: Catalogue) -> Any:
    """A key's value with `new` at a path into it: through a range's word, a component's name, or its knobs."""
    if is_range(value) and path == [next(iter(value))]:
        return {path[0]: new}
    if is_range(value) and isinstance(value.get("choice"), list):
        return {"choice": put_candidates(value["choice"], path, new, rooms)}
    name = next(iter(value)) if is_component(value) else value
    if not isinstance(name, str) or name not in rooms:
        raise UnknownKeyError(path[0], [*value] if isinstance(value, Mapping) else [])
    rest = path[1:] if path[0] == name else path
    if not rest:
        return {name: new}
    knobs = value[name] if is_component(value) else {}
    return {name: put(knobs if isinstance(knobs, Mapping) else {}, rest, new, knobs_of(rooms[name]))}


def put_candidates(candidates: list[Any], path: list[str], new: Any, rooms: Catalogue) -> list[Any]:
    """The candidates with `new` in each that the path leads into; there must be one."""
    results, unknown = [], list[UnknownKeyError]()
    for candidate in candidates:
        try:
            results.append(put_below(candidate, path, new, rooms))
        except UnknownKeyError as error:
            results.append(candidate)
            unknown.append(error)
    if len(unknown) == len(candidates):
        raise UnknownKeyError(path[-1], [key for error in unknown for key in error.known])
    return results


def catalogue(field: FieldInfo | None) -> Catalogue:
    """What a key's value may name; nothing if it names no component."""
    if field is None:
        return {}
    marks = [mark for part in (field, *kinds(field)) for mark in getattr(part, "__metadata__", ())]
    return next((mark.catalogue for mark in [*field.metadata, *marks] if isinstance(mark, In)), {})


def kinds(field: FieldInfo) -> tuple[Any, ...]:
    """A field's type and, where it has any, the types that it is made of."""
    return (field.annotation, *get_args(field.annotation))
