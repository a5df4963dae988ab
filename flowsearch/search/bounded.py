"""Plain data from YAML that nobody vouches for: bounded in size, depth and aliases, and nothing but data.

Scalars follow the core schema of YAML 1.2 (https://yaml.org/spec/1.2.2/#103-core-schema): `1e-3` is a number, `no` and
`1:30` are text. Tags, duplicate keys, interpolations (`${...}`), infinities and the keys with which Hydra calls
code (`_target_`, `_partial_`, ...) are refused, each with its line and column.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import yaml

from flowsearch.errors import SpaceError

BYTES, DEPTH, ALIASES, NODES = 1_000_000, 20, 100, 20_000
LETTERS = 1_000
LARGEST = 2**53  # the integers that JSON, Parquet and a double all keep exactly

CORE = {
    "null": r"~|null|Null|NULL|",
    "bool": r"true|True|TRUE|false|False|FALSE",
    "int": r"[-+]?[0-9]+",
    "float": r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?|[-+]?\.(inf|Inf|INF)|\.(nan|NaN|NAN)",
}
TAG = "tag:yaml.org,2002:"
RESOLVERS = {None: [(TAG + name, re.compile(rf"(?:{pattern})\Z")) for name, pattern in CORE.items()]}


class Loader(getattr(yaml, "CSafeLoader", yaml.SafeLoader)):  # type: ignore[misc]  # a base chosen when imported
    """PyYAML's safe loader with the scalars of YAML 1.2."""

    yaml_implicit_resolvers = RESOLVERS


class Dumper(yaml.SafeDumper):
    """Quotes whatever the loader above, or a YAML 1.1 loader, would not read back as text."""

    yaml_implicit_resolvers = {
        first: RESOLVERS[None] + found for first, found in yaml.SafeDumper.yaml_implicit_resolvers.items()
    } | RESOLVERS

    def ignore_aliases(self, data: Any) -> bool:
        """Whole values everywhere: a reader of the file should not have to look up."""
        return True

    def represent_str(self, data: str) -> yaml.ScalarNode:
        """Escape what does not print; line breaks beyond ASCII would otherwise be read back as spaces."""
        return self.represent_scalar(TAG + "str", data, style=None if data.isprintable() else '"')


Dumper.add_representer(str, Dumper.represent_str)


def read(file: Path) -> Any:
    """The data of a YAML file.

    Raises:
        SpaceError: `file:line:column: what is wrong` (or `file: ...` if it cannot be read at all).
    """
    try:
        if file.exists() and not file.is_file():
            raise SpaceError(f"{file}: not a file; expected a YAML file")
        if file.stat().st_size > BYTES:
            raise SpaceError(f"{file}: {file.stat().st_size} bytes; expected at most {BYTES}")
        raw = file.read_bytes()
    except (OSError, ValueError) as error:
        raise SpaceError(f"{file}: cannot be read: {getattr(error, 'strerror', None) or error}") from error
    try:
        text = raw.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise SpaceError(f"{file}:{position(raw, error.start)}: expected UTF-8") from error
    return parse(text, str(file))


def parse(text: str, source: str) -> Any:
    r"""The data of a YAML document.

    >>> parse("a: [1, 1e-3, no]", "example")
    {'a': [1, 0.001, 'no']}
    >>> parse("a: 1\na: 2", "example")
    Traceback (most recent call last):
    flowsearch.errors.SpaceError: example:2:1: 'a' is given twice
    """
    try:
        scan(text, source)
        root = Loader(text).get_single_node()
    except yaml.MarkedYAMLError as error:
        problem = f"{error.context}: {error.problem}" if error.context else error.problem
        raise SpaceError(f"{at(source, error.problem_mark or error.context_mark)}: {problem}") from error
    except yaml.reader.ReaderError as error:
        raise SpaceError(f"{source}:{position(text, error.position)}: {error.reason}") from error
    except yaml.YAMLError as error:
        raise SpaceError(f"{source}: {error}") from error
    if root is None:
        raise SpaceError(f"{source}: empty; expected a mapping")
    measure(root, source)
    return construct(root, source)


def scan(text: str, source: str) -> None:
    """Refuse, before any tree is built, what is too deep, too long or too aliased."""
    depth = aliases = nodes = 0
    for event in yaml.parse(text, Loader=Loader):
        depth += isinstance(event, yaml.CollectionStartEvent) - isinstance(event, yaml.CollectionEndEvent)
        aliases += isinstance(event, yaml.AliasEvent)
        nodes += isinstance(event, yaml.NodeEvent)
        for name, count, limit in (("levels", depth, DEPTH), ("aliases", aliases, ALIASES), ("values", nodes, NODES)):
            if count > limit:
                raise SpaceError(f"{at(source, event.start_mark)}: expected at most {limit} {name}")


def measure(root: yaml.Node, source: str) -> None:
    """Refuse a tree that is small as written and large (or endless) once its aliases are followed."""
    sizes: dict[int, tuple[int, int]] = {}

    def size(node: yaml.Node) -> tuple[int, int]:
        if id(node) not in sizes:
            sizes[id(node)] = (NODES + 1, 0)  # stands while its own children are measured: endless is too many
            below = [size(child) for child in children(node)]
            own = 1 + len(node.value) // 64 if isinstance(node, yaml.ScalarNode) else 1
            sizes[id(node)] = own + sum(count for count, _ in below), 1 + max((depth for _, depth in below), default=0)
            for name, value, limit in zip(("values", "levels"), sizes[id(node)], (NODES, DEPTH + 1), strict=True):
                if value > limit:
                    raise SpaceError(f"{at(source, node.start_mark)}: too many {name} once its aliases are followed")
        return sizes[id(node)]

    size(root)


def children(node: yaml.Node) -> Iterator[yaml.Node]:
    """The nodes directly below one, keys included."""
    if isinstance(node, yaml.MappingNode):
        for pair in node.value:
            yield from pair
    elif isinstance(node, yaml.SequenceNode):
        yield from node.value


def construct(node: yaml.Node, source: str) -> Any:
    """Plain data from a node."""
    kind = node.tag.removeprefix(TAG)
    if isinstance(node, yaml.MappingNode) and kind == "map":
        return mapping(node, source)
    if isinstance(node, yaml.SequenceNode) and kind == "seq":
        return [construct(child, source) for child in node.value]
    if isinstance(node, yaml.ScalarNode) and kind in {"str", *CORE}:
        value = scalar(kind, node.value)
        problem = fault(value)
        if problem:
            raise SpaceError(f"{at(source, node.start_mark)}: {node.value:.80}; {problem}")
        return value
    raise SpaceError(f"{at(source, node.start_mark)}: tag {node.tag:.80}; expected plain data, without tags")


def mapping(node: yaml.MappingNode, source: str) -> dict[str, Any]:
    """A mapping whose keys are texts, each given once."""
    result: dict[str, Any] = {}
    for key_node, value_node in node.value:
        key = construct(key_node, source)
        problem = "is given twice" if isinstance(key, str) and key in result else key_fault(key)
        if problem:
            raise SpaceError(f"{at(source, key_node.start_mark)}: {key!r:.80} {problem}")
        result[key] = construct(value_node, source)
    return result


def scalar(kind: str, text: str) -> Any:
    """The value of a scalar; a number that its tag does not fit stays text."""
    if not re.fullmatch(CORE.get(kind, ".*"), text, re.DOTALL):
        return text
    if kind == "null":
        return None
    if kind == "bool":
        return text.lower() == "true"
    if kind == "int":
        return int(text) if len(text) < 20 else LARGEST + 1
    return float(re.sub(r"\.(?=[in])", "", text.lower())) if kind == "float" else text


def fault(value: Any) -> str | None:
    """What is wrong with a scalar, if anything.

    >>> fault("${oc.env:HOME}"), fault(float("nan")), fault(0.5)
    ('interpolation is not allowed', 'expected a finite number', None)
    """
    if isinstance(value, str) and len(value) > LETTERS:
        return f"expected at most {LETTERS} characters"
    if isinstance(value, str) and "${" in value:
        return "interpolation is not allowed"
    if isinstance(value, float) and not math.isfinite(value):
        return "expected a finite number"
    if isinstance(value, int) and abs(value) > LARGEST:
        return f"expected an integer of at most {LARGEST}"
    return None


def refuse(value: Any, where: str) -> None:
    """Refuse data that came another way but may hold no more than a file may.

    >>> refuse({"IAF": {"_target_": "os.system"}}, "model.posterior")
    Traceback (most recent call last):
    flowsearch.errors.SpaceError: model.posterior.IAF: '_target_' is not allowed: a space is data and calls nothing
    """
    if isinstance(value, Mapping):
        for key, item in value.items():
            problem = key_fault(key)
            if problem:
                raise SpaceError(f"{where}: {key!r:.80} {problem}")
            refuse(item, f"{where}.{key}")
    elif isinstance(value, list):
        for item in value:
            refuse(item, where)
    else:
        problem = fault(value)
        if problem:
            raise SpaceError(f"{where}: {value!r:.80}; {problem}")


def key_fault(key: Any) -> str | None:
    """What is wrong with a key, if anything.

    >>> key_fault("_target_"), key_fault(3), key_fault("model")
    ('is not allowed: a space is data and calls nothing', 'is not a text; expected a key', None)
    """
    if not isinstance(key, str):
        return "is not a text; expected a key"
    problem = fault(key)
    if problem:
        return f"is not a key: {problem}"
    return "is not allowed: a space is data and calls nothing" if re.fullmatch(r"_\w*_", key) else None


def dump(data: Mapping[str, Any]) -> str:
    """YAML that `parse` reads back to equal data: a mapping of values and of sections, every value on one line.

    >>> data = {"seed": 0, "model": {"posterior": {"IAF": {"k": {"int": [1, 4]}}}, "prior": "no"}, "rest": {}}
    >>> print(dump(data), end="")
    seed: 0
    model:
      posterior: {IAF: {k: {int: [1, 4]}}}
      prior: 'no'
    rest: {}
    """
    lines = []
    for key, value in data.items():
        if isinstance(value, Mapping) and value:
            lines += [f"{inline(key)}:", *(f"  {pair(name, item)}" for name, item in value.items())]
        else:
            lines.append(pair(key, value))
    return "\n".join([*lines, ""])


def pair(key: str, value: Any) -> str:
    """`key: value` on one line."""
    return f"{inline(key)}: {inline(value)}"


def inline(value: Any) -> str:
    """A value on one line, in brackets to keep the emitter from ending it with a mark of its own."""
    text: str = yaml.dump(
        [value], Dumper=Dumper, default_flow_style=True, sort_keys=False, allow_unicode=True, width=math.inf
    )
    return text.strip()[1:-1]


def canonical(data: Any) -> str:
    """One text for equal data, whatever the order of its keys."""
    return json.dumps(data, sort_keys=True, ensure_ascii=False, allow_nan=False)


def at(source: str, mark: Any) -> str:
    """`source:line:column` of a mark of PyYAML's or libyaml's, counted from 1; `source` where there is none."""
    return f"{source}:{mark.line + 1}:{mark.column + 1}" if mark else source


def position(text: str | bytes, offset: int) -> str:
    """`line:column` of an offset."""
    before = text[:offset]
    newline = "\n" if isinstance(before, str) else b"\n"
    line = before.count(newline)  # type: ignore[arg-type]  # both are of one kind
    return f"{line + 1}:{len(before) - (before.rfind(newline) + 1) + 1}"  # type: ignore[arg-type]
