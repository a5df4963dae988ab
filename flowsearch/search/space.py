"""A space: every configuration that a study may try, read from a small YAML file.

    space = load(Path("search_spaces/iaf.yaml"), ["search.trials=8"])
    config = draw(space, trial)                 # with an Optuna trial, on the driver
    config == rebuild(space, trial.params)      # from what was written down, anywhere

A range (`{choice: [...]}`, `{int: [low, high]}`, `{uniform: [low, high]}`, `{log: [low, high]}`) may stand in place of
any value of the five sections that make a trial. Where `search.rows` names rows, each row is the tree with some values
of its own put in place, and the first parameter, `row`, says which one is taken. `load` refuses, in one line, whatever
could fail later: it parses configurations in which every candidate of every range appears. Ranges are drawn
define-by-run (Akiba et al., KDD 2019).
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from inspect import isclass
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar, get_args

from optuna.trial import BaseTrial
from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    Field,
    NonNegativeFloat,
    NonNegativeInt,
    PositiveFloat,
    PositiveInt,
    ValidationError,
    model_validator,
)

from flowsearch.errors import SpaceError
from flowsearch.search import bounded
from flowsearch.search.compose import NAME, compose
from flowsearch.search.constraints import Require, metrics
from flowsearch.search.overrides import override, placed
from flowsearch.search.pruning import PRUNERS
from flowsearch.search.ranges import NULL, Choice, Given, Node, Parameters, Scalar, consistent, nodes
from flowsearch.search.samplers import SAMPLERS, SINGLE
from flowsearch.training.component import Component, In, Section, explain, fault
from flowsearch.training.config import TrialConfig, parse, plain

S = TypeVar("S", bound=BaseModel)
CORNERS, POINTS = 2_000, 100_000
Label = Annotated[Scalar, BeforeValidator(lambda value: NULL if value is None else value)]
RowName = Annotated[str, Field(pattern=r"^\S.*$", max_length=80)]
ROW = "row"
"""The parameter that says which of `search.rows` is taken; the row's name is its label in every table."""


class Confirm(Section):
    """The best configurations of a finished search, trained again to their end with seeds that it has not used."""

    best: PositiveInt
    seeds: PositiveInt


class Budget(Section):
    """The most that a study may take: hours of wall clock while it is driven, or hours of all its trials together."""

    hours: PositiveFloat | None = None
    trial_hours: PositiveFloat | None = None

    @model_validator(mode="after")
    def limits(self) -> Budget:
        """A budget that limits nothing is a mistake."""
        if self.hours is None and self.trial_hours is None:
            raise fault("expected {hours: H}, {trial_hours: H} or both")
        return self


def with_elbo(value: dict[str, str]) -> dict[str, str]:
    """Whatever else is sought, the best epoch of a trial is the one with the highest ELBO."""
    if value.get("elbo") != "maximize":
        raise fault("expected `elbo: maximize` among them, which chooses the epoch", value=value)
    return value


Direction = Literal["maximize", "minimize"]
Objectives = Annotated[dict[str, Direction], BeforeValidator(metrics), AfterValidator(with_elbo)]
ELBO_ALONE: dict[str, Direction] = {"elbo": "maximize"}


class Search(Section):
    """How configurations are chosen, and how many."""

    trials: PositiveInt
    seeds: PositiveInt
    sampler: Annotated[Component, In(SAMPLERS)]
    pruner: Annotated[Component, In(PRUNERS)] | None
    first: Annotated[list[dict[str, Label]], Field(max_length=1000)]
    confirm: Confirm | None = None
    budget: Budget | None = None
    rows: Annotated[dict[RowName, dict[str, Any]], Field(max_length=1000)] = Field(default_factory=dict)
    require: Require = Field(default_factory=dict)
    objectives: Objectives = Field(default_factory=ELBO_ALONE.copy)

    @model_validator(mode="after")
    def combines(self) -> Search:
        """What several objectives do not go with."""
        if len(self.objectives) > 1:
            if self.pruner:
                expected = "expected null: a search of several objectives stops no trial for its ELBO"
                raise fault(expected, path=("pruner",), value=self.pruner.name)
            if self.sampler.name in SINGLE:
                expected = "expected a sampler of several objectives, such as TPE"
                raise fault(expected, path=("sampler",), value=self.sampler.name)
        return self


class Resources(Section):
    """What a trial may use, and how many run at once."""

    cpus_per_trial: PositiveFloat
    gpus_per_trial: NonNegativeFloat
    concurrent: PositiveInt | None
    max_failures: NonNegativeInt = 3


TRIAL: dict[str, Any] = {
    name: item.annotation if name != "seed" else None for name, item in TrialConfig.model_fields.items()
}
SCHEMA: dict[str, Any] = {"study": None, **TRIAL, "search": Search, "resources": Resources}
"""What each top-level key holds, in order: a section, or None for a value."""


@dataclass(frozen=True)
class Space:
    """A study's space, resolved and checked.

    Args:
        study: its name, which names its folder.
        tree: `seed` and the five sections of a trial, ranges in place.
        search: sampler, pruner and numbers of trials.
        resources: what a trial may use.
        file: where it was read from; it does not matter to equality.
    """

    study: str
    tree: Mapping[str, Any]
    search: Search
    resources: Resources
    file: str = field(compare=False)

    @property
    def resolved(self) -> dict[str, Any]:
        """Everything but the name, as plain data."""
        return {**self.tree, "search": plain(self.search), "resources": plain(self.resources)}

    @cached_property
    def root(self) -> Node:
        """The ranges of the five sections, and what is between them; with rows, a choice among as many trees."""
        if not self.search.rows:
            return nodes(sections(self.tree))
        trees = {name: row_tree(self.tree, name, row) for name, row in self.search.rows.items()}
        return consistent(Choice(ROW, {name: nodes(sections(tree)) for name, tree in trees.items()}))

    @cached_property
    def longest_warmup(self) -> int:
        """The longest warm-up that a trial can have, in epochs."""
        corners = (corner for _, root in branches(self) for corner in root.corners())
        return max(int(corner["objective"]["warmup_epochs"]) for corner in corners)

    @property
    def names(self) -> list[str]:
        """The names of all parameters, those of branches included, in file order."""
        return list(dict.fromkeys(item.name for item in self.root.ranges()))

    @property
    def hash(self) -> str:
        """SHA-256 of everything but the study's name; the order of keys does not matter."""
        return hashlib.sha256(bounded.canonical(self.resolved).encode()).hexdigest()

    def text(self) -> str:
        """YAML that `load` reads back to an equal space."""
        return bounded.dump({"study": self.study} | self.resolved)


def load(file: Path, overrides: Sequence[str] = ()) -> Space:
    """Read a space file, apply overrides, and check every branch.

    Args:
        file: YAML, composed with the files that its `defaults` name.
        overrides: `key=value`, in Hydra's grammar (see `flowsearch.search.overrides`).

    Raises:
        SpaceError: `file: dotted.path: value; what was expected`, or `file:line:column: ...` where it is no YAML.
    """
    sections = [key for key, section in SCHEMA.items() if section]
    try:
        tree = compose(file, sections, [key for key in SCHEMA if key not in sections])
    except SpaceError as error:
        raise SpaceError(one_line(str(error))) from error
    try:
        for text in overrides:
            tree = override(tree, text, SCHEMA)
        space = resolve(tree, file)
        check(space)
    except SpaceError as error:
        raise SpaceError(one_line(f"{file}: {error}")) from error
    return space


def resolve(tree: Mapping[str, Any], file: Path) -> Space:
    """The space that a composed tree spells, its branches not yet checked."""
    missing = [key for key in SCHEMA if key not in tree and key != "study"]
    if missing:
        raise SpaceError(f"{missing[0]}: missing; expected it, or `defaults: [base, _self_]` at the top of the file")
    return Space(
        study=study_name(tree.get("study"), file),
        tree={key: tree[key] for key in TRIAL},
        search=section(Search, "search", tree),
        resources=section(Resources, "resources", tree),
        file=str(file),
    )


def sections(tree: Mapping[str, Any]) -> dict[str, Any]:
    """The five sections of a trial."""
    return {key: value for key, value in tree.items() if key != "seed"}


def row_tree(tree: Mapping[str, Any], name: str, row: Mapping[str, Any]) -> dict[str, Any]:
    """The tree with a row's values in place.

    Raises:
        SpaceError: a path that leads nowhere.
    """
    found = dict(tree)
    for key, value in row.items():
        try:
            found = placed(found, key, value, {key: TRIAL[key] for key in TRIAL if key != "seed"})
        except SpaceError as error:
            raise SpaceError(f"search.rows.{name}.{error}") from error
    return found


def study_name(given: Any, file: Path) -> str:
    """The study's name: the file's own stem unless one is given."""
    name = file.stem if given in (None, "???") else given
    if not isinstance(name, str) or not NAME.fullmatch(name):
        expected = "expected up to 64 letters, digits, '.', '_' or '-', a letter or digit first"
        raise SpaceError(f"study: {name!r:.80}; {expected}")
    return name


def section(schema: type[S], name: str, tree: Mapping[str, Any]) -> S:
    """A section that is not a trial's."""
    try:
        return schema.model_validate(tree[name])
    except ValidationError as error:
        first: Any = error.errors()[0]
        context = first.get("ctx", {})
        path = ".".join(map(str, (name, *first["loc"], *context.get("path", ()))))
        shown = "" if first["type"] == "missing" else f" {context.get('value', first['input'])!r:.80};"
        raise SpaceError(f"{path}:{shown} {explain(first, inner(schema, first['loc'][:-1]))}") from error


def inner(schema: type[BaseModel], location: Sequence[Any]) -> type[BaseModel]:
    """The section at a location below a section, to name its keys."""
    for part in location:
        annotation = schema.model_fields[part].annotation if part in schema.model_fields else None
        found = [kind for kind in (annotation, *get_args(annotation)) if isclass(kind) and issubclass(kind, BaseModel)]
        schema = found[0] if found else schema
    return schema


def check(space: Space) -> None:
    """Check every branch, and the configurations that are to be tried first.

    Raises:
        SpaceError: the first thing wrong.
    """
    count = 0
    for where, root in branches(space):
        corners = root.corners()
        count += len(corners)
        if count > CORNERS:
            raise SpaceError(f"more than {CORNERS} candidates in all; expected at most that many")
        for corner in corners:
            try:
                parse({"seed": space.tree["seed"], **corner})
            except SpaceError as error:
                raise SpaceError(f"{where}{error}") from error
    for number, params in enumerate(space.search.first):
        try:
            rebuild(space, params)
        except SpaceError as error:
            raise SpaceError(f"search.first.{number}.{error}") from error


def branches(space: Space) -> Iterator[tuple[str, Node]]:
    """The whole space, or its rows one by one, each with where it stands."""
    if isinstance(space.root, Choice):
        yield from ((f"search.rows.{name}: ", node) for name, node in space.root.candidates.items())
    else:
        yield "", space.root


def draw(space: Space, trial: BaseTrial) -> dict[str, Any]:
    """The configuration that a trial's suggestions make: plain data, the seed not yet shifted for a replicate."""
    return {"seed": space.tree["seed"], **space.root.draw(trial)}


def rebuild(space: Space, params: Mapping[str, Any]) -> dict[str, Any]:
    """The configuration that parameters make; `draw` with Optuna's `FixedTrial`, and strict.

    Raises:
        SpaceError: a parameter that is missing, out of its range, or of no range.
    """
    given = Given(params)
    tree = {"seed": space.tree["seed"], **space.root.draw(given)}
    given.refuse_unused(space.names)
    return tree


def grid(space: Space) -> list[Parameters]:
    """Every parameter set of the space, once, in file order; the last range varies fastest.

    Raises:
        SpaceError: a continuous range, or more points than a list should hold.
    """
    points = size(space)
    if points is not None and points > POINTS:
        raise SpaceError(f"{space.file}: a grid of {points} points; expected at most {POINTS}")
    try:
        return list(space.root.points())
    except SpaceError as error:
        raise SpaceError(f"{space.file}: {error}") from error


def size(space: Space) -> int | None:
    """The number of points in the grid; None if a range is continuous."""
    return space.root.size()


def one_line(message: str) -> str:
    """A message whose control characters (line breaks, escapes) are spelled out."""
    return "".join(letter if letter.isprintable() else letter.encode("unicode_escape").decode() for letter in message)
