"""What a trial is made from: five sections whose annotations are the schema of the space file.

Each part is a component that its room exports (see `flowsearch.training.component`), or a plain value. So `parse(tree)`
finds unknown keys, unknown names, wrong types and missing knobs before anything runs, and a room's new class is known
here from the moment that the room exports it.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import (
    BaseModel,
    BeforeValidator,
    Field,
    NonNegativeInt,
    PositiveFloat,
    PositiveInt,
    ValidationError,
    model_validator,
)

from flowsearch import models, objectives, text
from flowsearch.errors import SpaceError
from flowsearch.text.batches import BucketAndPad, EqualLength
from flowsearch.training import decay, optimizers
from flowsearch.training.compatible import clashes
from flowsearch.training.component import Catalogue, Component, In, Section, explain, fault

Share = Annotated[float, Field(ge=0, le=1)]

CORPORA: Catalogue = {name: getattr(text, name) for name in text.CORPORA}
BATCHINGS: Catalogue = {kind.__name__: kind for kind in (BucketAndPad, EqualLength)}


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
    accumulate: PositiveInt = 1
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
