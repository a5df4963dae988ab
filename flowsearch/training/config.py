"""What a trial is made from: five sections whose annotations are the schema of the space file.

A **component** is the name of something its room exports, or `{Name: {knob: value}}`. Its knobs are the keyword-only
parameters of its constructor, checked by their own annotations (what stands before the `*` the program gives). So
`parse(tree)` finds unknown keys, unknown names, wrong types and missing knobs before anything runs, and a room's new
class is known here from the moment that the room exports it.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cache
from typing import Annotated, Any, Literal, get_type_hints

from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    GetCoreSchemaHandler,
    NonNegativeInt,
    PositiveFloat,
    PositiveInt,
    ValidationError,
    create_model,
    model_validator,
)
from pydantic_core import CoreSchema, PydanticCustomError, core_schema

from flowsearch import models, objectives, text
from flowsearch.errors import SpaceError, nearest
from flowsearch.text.batches import BucketAndPad, EqualLength
from flowsearch.training import decay, optimizers
from flowsearch.training.compatible import clashes

STRICT = ConfigDict(extra="forbid", frozen=True, strict=True, allow_inf_nan=False)
Catalogue = Mapping[str, Callable[..., Any]]
Share = Annotated[float, Field(ge=0, le=1)]

CORPORA: Catalogue = {name: getattr(text, name) for name in text.CORPORA}
BATCHINGS: Catalogue = {kind.__name__: kind for kind in (BucketAndPad, EqualLength)}


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

    >>> sorted(knobs_of(optimizers.SGD).model_fields)
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
    """A part of the configuration: closed, strict, immutable.

    1. A key that was added later has a default here too, so that the space of an older study can still be read.
    """

    model_config = STRICT


def corpus_choice(value: Any) -> Any:
    """A name that is no component is a folder's."""
    return {"folder": {"name": value}} if isinstance(value, str) and value not in CORPORA else value


class Data(Section):
    """Which text, and how it is cut into batches."""

    corpus: Annotated[Component, In(CORPORA), BeforeValidator(corpus_choice)]
    root: str | None
    vocabulary_size: Annotated[int, Field(ge=5)] | None
    min_count: PositiveInt
    max_words: PositiveInt | None
    batching: Annotated[Component, In(BATCHINGS)]
    batch_size: PositiveInt


class Model(Section):
    """The VAE: four modules and the size of z."""

    latent_size: NonNegativeInt
    encoder: Annotated[Component, In(models.ENCODERS)]
    posterior: Annotated[Component, In(models.POSTERIORS)]
    prior: Annotated[Component, In(models.PRIORS)]
    decoder: Annotated[Component, In(models.DECODERS)]


class Objective(Section):
    """What descends, and in which order."""

    loss: Annotated[Component, In(objectives.LOSSES)]
    beta: Annotated[float, Field(ge=0)]
    annealing: Annotated[Component, In(objectives.ANNEALINGS)]
    warmup_epochs: NonNegativeInt
    free_bits: Annotated[Component, In(objectives.FREE_BITS)] | None
    word_dropout: Share
    lagging_updates: NonNegativeInt
    lagging_stop: Annotated[Component, In(objectives.LAGGING_STOPS)]


class Training(Section):
    """How it descends."""

    epochs: PositiveInt
    optimizer: Annotated[Component, In(optimizers.OPTIMIZERS)]
    critic_optimizer: Annotated[Component, In(optimizers.OPTIMIZERS)] = In(optimizers.OPTIMIZERS).parse(
        {"Adam": {"lr": 1e-5}}
    )
    decay: Annotated[Component, In(decay.DECAYS)]
    clip: Literal["joint", "per_module"]
    clip_norm: PositiveFloat
    precision: Literal["fp32", "bf16"]
    device: Literal["auto", "cpu", "cuda"]


class Metrics(Section):
    """What is measured beyond ELBO, reconstruction, KL, PPL, active units and mutual information."""

    mutual_information: Literal["full", "reference"]
    importance_samples: NonNegativeInt
    importance_proposal: Literal["posterior", "fitted"] = "posterior"


class TrialConfig(Section):
    """Everything that determines a trial: (config, seed) gives the same numbers on a CPU, bit for bit."""

    seed: NonNegativeInt
    data: Data
    model: Model
    objective: Objective
    training: Training
    metrics: Metrics

    @model_validator(mode="after")
    def combines(self) -> TrialConfig:
        """What is right alone may be wrong together."""
        clash = next(clashes(self), None)
        if clash is not None:
            raise fault(f"expected {clash.expected}", path=tuple(clash.path.split(".")), value=clash.value)
        return self


def parse(tree: Mapping[str, Any]) -> TrialConfig:
    """The configuration that a plain tree spells.

    Raises:
        SpaceError: the first thing wrong, as `dotted.path: value; what was expected`.
    """
    try:
        return TrialConfig.model_validate(tree)
    except ValidationError as error:
        raise SpaceError(describe(error.errors()[0])) from error


def describe(error: Any) -> str:
    """One line for one validation error: where, which value, what was expected."""
    context = error.get("ctx", {})
    path = [str(part) for part in (*error["loc"], *context.get("path", ()))]
    value = context.get("value", error["input"])
    shown = "" if error["type"] == "missing" or ("path" in context and "value" not in context) else f" {value!r:.80};"
    return f"{'.'.join(path)}:{shown} {explain(error, section_at(error['loc'][:-1]))}"


def section_at(location: tuple[str | int, ...]) -> type[BaseModel]:
    """The section at a location, to name its keys."""
    section: type[BaseModel] = TrialConfig
    for part in location:
        inner: Any = section.model_fields[str(part)].annotation
        assert issubclass(inner, BaseModel)
        section = inner
    return section


def plain(value: Any) -> Any:
    """The tree that `parse` would read back: sections and components as mappings.

    >>> plain(Component(name="Planar", knobs={"k": 4}))
    {'Planar': {'k': 4}}
    """
    if isinstance(value, Component):
        return {value.name: plain(value.knobs)}
    if isinstance(value, BaseModel):
        return {key: plain(item) for key, item in value}
    if isinstance(value, Mapping):
        return {key: plain(item) for key, item in value.items()}
    return [plain(item) for item in value] if isinstance(value, list | tuple) else value
