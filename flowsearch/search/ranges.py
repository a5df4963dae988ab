"""Ranges: what may stand in place of a value, and what a tree that holds them can become.

A tree of plain data is read once into nodes, and every question about a space is one method of the nodes:

    draw     the tree with every range replaced by what a trial suggests (Optuna's define-by-run: Akiba et al., 2019)
    corners  trees in which every candidate of every range appears at least once: as many as candidates, no product
    points   every parameter set, once, in file order
    size     how many points there are
    ranges   the ranges themselves

A parameter is named by its dotted path without the names of components: the `k` of
`model: {posterior: {IAF: {k: ...}}}` is `model.posterior.k`. A range inside a candidate of a `choice` exists only where
that candidate is taken.
"""

from __future__ import annotations

import copy
import itertools
import math
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Protocol, TypeVar

from flowsearch.errors import SpaceError, nearest

Scalar = str | int | float | bool
Parameters = dict[str, Scalar]
CANDIDATES = 1000
NULL = "none"
"""How a parameter says null; a missing parameter means that its branch was not taken."""


class Suggests(Protocol):
    """The part of `optuna.trial.BaseTrial` that a draw needs."""

    def suggest_categorical(self, name: str, choices: Sequence[Any]) -> Any:
        """One of the choices."""

    def suggest_int(self, name: str, low: int, high: int) -> int:
        """An integer from low to high, both included."""

    def suggest_float(self, name: str, low: float, high: float, *, log: bool = False) -> float:
        """A number from low to high, uniform or uniform in its logarithm."""


class Node(ABC):
    """A part of a space."""

    @abstractmethod
    def draw(self, trial: Suggests) -> Any:
        """Plain data, every range replaced by what the trial suggests."""

    @abstractmethod
    def corners(self) -> list[Any]:
        """Plain data in which every candidate appears; the first is the background that the others vary."""

    @abstractmethod
    def points(self) -> Iterator[Parameters]:
        """Every parameter set; of a continuous range, SpaceError."""

    @abstractmethod
    def size(self) -> int | None:
        """The number of points; None where a range is continuous."""

    @abstractmethod
    def ranges(self) -> Iterator[Range]:
        """The ranges, outer before inner, in file order."""


@dataclass(frozen=True)
class Constant(Node):
    """A value that does not vary."""

    value: Any

    def draw(self, trial: Suggests) -> Any:
        return copy.deepcopy(self.value)

    def corners(self) -> list[Any]:
        return [self.value]

    def points(self) -> Iterator[Parameters]:
        yield {}

    def size(self) -> int:
        return 1

    def ranges(self) -> Iterator[Range]:
        yield from ()


@dataclass(frozen=True)
class Group(Node):
    """Independent parts under one roof: a section, a component, a component's knobs."""

    members: Mapping[str, Node]

    def draw(self, trial: Suggests) -> Any:
        return {key: node.draw(trial) for key, node in self.members.items()}

    def corners(self) -> list[Any]:
        variants = {key: node.corners() for key, node in self.members.items()}
        background = {key: values[0] for key, values in variants.items()}
        return [background] + [background | {key: value} for key in variants for value in variants[key][1:]]

    def points(self) -> Iterator[Parameters]:
        each = [list(node.points()) for node in self.members.values()]
        for parts in itertools.product(*each):
            yield {name: value for part in parts for name, value in part.items()}

    def size(self) -> int | None:
        sizes = [node.size() for node in self.members.values()]
        return None if None in sizes else math.prod(size for size in sizes if size is not None)

    def ranges(self) -> Iterator[Range]:
        for node in self.members.values():
            yield from node.ranges()


@dataclass(frozen=True)
class Range(Node):
    """Stands in place of a value: a mapping with one key, `word`.

    Two ranges of one name (in two branches) must have equal `kind`s, or one column could not hold both.
    """

    word: ClassVar[str]
    name: str

    @property
    def kind(self) -> Any:
        """What Optuna needs to be the same wherever the name appears."""
        return self.word

    @classmethod
    @abstractmethod
    def read(cls, value: Any, name: str) -> Range:
        """The range whose word carries `value`; SpaceError if that makes none."""


@dataclass(frozen=True)
class Interval(Range):
    """`{word: [low, high]}`, both ends included."""

    low: Any
    high: Any
    expected: ClassVar[str] = "expected [low, high], two numbers with low <= high"

    @classmethod
    def read(cls, value: Any, name: str) -> Range:
        try:
            low, high = (cls.number(end) for end in value)
        except (TypeError, ValueError):
            raise SpaceError(f"{name}: {{{cls.word}: {value!r:.60}}}; {cls.expected}") from None
        if low > high:
            raise SpaceError(f"{name}: {{{cls.word}: {value!r:.60}}}; {cls.expected}")
        return cls(name, low, high)

    @staticmethod
    def number(end: Any) -> int | float:
        """An end of the interval; ValueError if it cannot be one."""
        if isinstance(end, bool) or not isinstance(end, int | float):
            raise ValueError
        return float(end)

    def corners(self) -> list[Any]:
        return [self.low, self.high] if self.low != self.high else [self.low]

    def points(self) -> Iterator[Parameters]:
        shown = f"{{{self.word}: [{self.low:g}, {self.high:g}]}}"
        raise SpaceError(f"{self.name}: {shown}; a continuous range has no grid: expected choice or int")

    def size(self) -> int | None:
        return None

    def ranges(self) -> Iterator[Range]:
        yield self


@dataclass(frozen=True)
class Int(Interval):
    """`{int: [low, high]}`: the integers from low to high."""

    word: ClassVar[str] = "int"
    expected: ClassVar[str] = "expected [low, high], two integers with low <= high"

    @staticmethod
    def number(end: Any) -> int:
        if isinstance(end, bool) or not isinstance(end, int):
            raise ValueError
        return end

    def draw(self, trial: Suggests) -> int:
        return trial.suggest_int(self.name, self.low, self.high)

    def points(self) -> Iterator[Parameters]:
        return ({self.name: value} for value in range(self.low, self.high + 1))

    def size(self) -> int:
        return int(self.high - self.low + 1)


@dataclass(frozen=True)
class Uniform(Interval):
    """`{uniform: [low, high]}`: numbers, all equally likely."""

    word: ClassVar[str] = "uniform"

    def draw(self, trial: Suggests) -> float:
        return trial.suggest_float(self.name, self.low, self.high)


@dataclass(frozen=True)
class Log(Interval):
    """`{log: [low, high]}`: positive numbers whose logarithms are equally likely."""

    word: ClassVar[str] = "log"
    expected: ClassVar[str] = "expected [low, high], two numbers with 0 < low <= high"

    @staticmethod
    def number(end: Any) -> int | float:
        if Interval.number(end) <= 0:
            raise ValueError
        return float(end)

    def draw(self, trial: Suggests) -> float:
        return trial.suggest_float(self.name, self.low, self.high, log=True)


@dataclass(frozen=True)
class Choice(Range):
    """`{choice: [a, b, {Component: {knob: ...}}]}`: one of several; a component may hold ranges of its own.

    1. A parameter says which by a label: a scalar itself, a component's name, `none` for null.
    2. Labels differ: two candidates of one component are one candidate with a range inside.
    3. A candidate is a scalar, null or one component; no list, no range.
    """

    word: ClassVar[str] = "choice"
    candidates: Mapping[Scalar, Node]

    @property
    def kind(self) -> Any:
        return self.word, tuple(self.candidates)

    @classmethod
    def read(cls, value: Any, name: str) -> Range:
        if not isinstance(value, list) or not value:
            raise SpaceError(f"{name}: {{choice: {value!r:.60}}}; expected a list of at least one candidate")
        if len(value) > CANDIDATES:
            raise SpaceError(f"{name}: a choice of {len(value)} candidates; expected at most {CANDIDATES}")
        candidates: dict[Scalar, Node] = {}
        for candidate in value:
            label = labelled(candidate, name)
            if label in candidates:
                advice = f"; put a range inside one {label}" if isinstance(candidate, Mapping) else ""
                raise SpaceError(f"{name}: {label!r:.80} is a candidate twice; expected different candidates{advice}")
            candidates[label] = value_node(candidate, name)
        return cls(name, candidates)

    def draw(self, trial: Suggests) -> Any:
        return self.candidates[trial.suggest_categorical(self.name, tuple(self.candidates))].draw(trial)

    def corners(self) -> list[Any]:
        """The smallest candidate is the background where all are numbers, so that two ranges meet at their extremes."""
        variants = [variant for node in self.candidates.values() for variant in node.corners()]
        numbers = all(isinstance(variant, int | float) for variant in variants)
        return sorted(variants) if numbers else variants

    def points(self) -> Iterator[Parameters]:
        for label, node in self.candidates.items():
            for point in node.points():
                yield {self.name: label} | point

    def size(self) -> int | None:
        sizes = [node.size() for node in self.candidates.values()]
        return None if None in sizes else sum(size for size in sizes if size is not None)

    def ranges(self) -> Iterator[Range]:
        yield self
        for node in self.candidates.values():
            yield from node.ranges()


RANGES: dict[str, type[Range]] = {kind.word: kind for kind in (Choice, Int, Uniform, Log)}


def is_range(value: Any) -> bool:
    """Whether a value is meant as a range: a mapping with a key that only ranges have."""
    return isinstance(value, Mapping) and not RANGES.keys().isdisjoint(value)


def is_component(value: Any) -> bool:
    """Whether a value is `{Name: {knob: value}}` (or `{Name: null}`)."""
    return isinstance(value, Mapping) and len(value) == 1 and not is_range(value)


def labelled(candidate: Any, name: str) -> Scalar:
    """The legible name of a candidate.

    >>> labelled({"IAF": {"k": 2}}, "model.posterior"), labelled(None, "objective.free_bits"), labelled(32, "x")
    ('IAF', 'none', 32)
    """
    if candidate is None:
        return NULL
    if is_component(candidate):
        return str(next(iter(candidate)))
    if isinstance(candidate, list | Mapping):
        expected = "expected scalars, null, names or {Name: {knob: value}} as candidates"
        raise SpaceError(f"{name}: {candidate!r:.80}; {expected}")
    scalar: Scalar = candidate
    return scalar


def value_node(value: Any, name: str) -> Node:
    """The node of a key's value: a range, a component or a constant."""
    if is_range(value):
        if len(value) > 1:
            raise SpaceError(f"{name}: {value!r:.80}; expected exactly one of {', '.join(RANGES)}")
        word, content = next(iter(value.items()))
        return RANGES[word].read(content, name)
    if isinstance(value, Mapping):
        return Group({title: component_node(title, knobs, name) for title, knobs in value.items()})
    return Constant(value)


def component_node(title: str, knobs: Any, name: str) -> Node:
    """The node of what stands below a component's name; a list there was meant as a range."""
    if isinstance(knobs, list):
        expected = f"expected a range or {{Name: {{knob: value}}}}{nearest(title, RANGES)}"
        raise SpaceError(f"{name}: {{{title!r:.80}: {knobs!r:.80}}}; {expected}")
    return knobs_node(knobs, name)


def knobs_node(knobs: Any, name: str) -> Node:
    """The node of a section, or of a component's knobs: every key holds a value."""
    if is_range(knobs):
        raise SpaceError(f"{name}: {knobs!r:.80}; a range stands in place of a value, not of a section or of knobs")
    if not isinstance(knobs, Mapping):
        return Constant(knobs)
    return Group({key: value_node(value, f"{name}.{key}") for key, value in knobs.items()})


def nodes(sections: Mapping[str, Any]) -> Group:
    """The nodes of a tree of sections, its ranges checked one by one and name by name.

    >>> tree = nodes({"model": {"posterior": {"choice": ["Gaussian", {"IAF": {"k": {"int": [1, 3]}}}]}}})
    >>> tree.size(), list(tree.points())[-1]
    (4, {'model.posterior': 'IAF', 'model.posterior.k': 3})

    Raises:
        SpaceError: a range that is none, or two of one name and different kinds.
    """
    return consistent(Group({section: knobs_node(tree, section) for section, tree in sections.items()}))


N = TypeVar("N", bound=Node)


def consistent(root: N) -> N:
    """The node itself, all its ranges of one name of one kind.

    Raises:
        SpaceError: they are not.
    """
    kinds: dict[str, Any] = {}
    for item in root.ranges():
        if kinds.setdefault(item.name, item.kind) != item.kind:
            here, there = (kind if isinstance(kind, str) else kind[0] for kind in (item.kind, kinds[item.name]))
            what = f"{there} and {here}" if here != there else "choices of different candidates"
            raise SpaceError(f"{item.name}: {what} in two branches; expected ranges of one kind under one name")
    return root


class Given:
    """A trial that suggests what a mapping says, and lets nothing else pass.

    >>> Given({"k": 3}).suggest_int("k", 1, 4)
    3
    >>> Given({"k": 5}).suggest_int("k", 1, 4)
    Traceback (most recent call last):
    flowsearch.errors.SpaceError: k: 5; expected an integer from 1 to 4
    """

    def __init__(self, params: Mapping[str, Any]) -> None:
        self.params, self.used = params, set[str]()

    def take(self, name: str, expected: str) -> Any:
        """The value of a parameter that must be there."""
        if name not in self.params:
            raise SpaceError(f"{name}: missing; {expected}")
        self.used.add(name)
        return self.params[name]

    def suggest_categorical(self, name: str, choices: Sequence[Any]) -> Any:
        """The value itself: one of the choices."""
        expected = f"expected one of {', '.join(map(str, choices)):.200}"
        value = self.take(name, expected)
        for choice in choices:
            if choice == value and isinstance(choice, bool) == isinstance(value, bool):
                return choice
        advice = nearest(value, map(str, choices)) if isinstance(value, str) else f"; {expected}"
        raise SpaceError(f"{name}: {value!r:.80}{advice}")

    def suggest_int(self, name: str, low: int, high: int) -> int:
        """The value itself: an integer within the bounds."""
        value: Any = self.take(name, f"expected an integer from {low} to {high}")
        if isinstance(value, bool) or not isinstance(value, int) or not low <= value <= high:
            raise SpaceError(f"{name}: {value!r:.80}; expected an integer from {low} to {high}")
        return value

    def suggest_float(self, name: str, low: float, high: float, *, log: bool = False) -> float:
        """The value itself: a number within the bounds."""
        value = self.take(name, f"expected a number from {low:g} to {high:g}")
        if isinstance(value, bool) or not isinstance(value, int | float) or not low <= value <= high:
            raise SpaceError(f"{name}: {value!r:.80}; expected a number from {low:g} to {high:g}")
        return float(value)

    def refuse_unused(self, names: Sequence[str]) -> None:
        """Refuse a parameter that no range asked for; `names` are those of the whole space."""
        for name in self.params:
            if name not in self.used:
                why = "; its branch is not taken" if name in names else f"; no such parameter{nearest(name, names)}"
                raise SpaceError(f"{name}: {self.params[name]!r:.80}{why}")
