"""Which choices cannot be combined: rules on a whole configuration, each with the key to change and what it expects.

They are asked when a space is checked, on the driver, so that no trial starts that could not end.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any, NamedTuple

from flowsearch import models

if TYPE_CHECKING:
    from flowsearch.training.config import TrialConfig


class Clash(NamedTuple):
    """What is wrong.

    Args:
        path: the dotted key.
        value: that it has.
        expected: instead.
    """

    path: str
    value: Any
    expected: str


Rule = Callable[["TrialConfig"], Clash | None]


def clashes(config: TrialConfig) -> Iterator[Clash]:
    """Everything wrong with a configuration."""
    return (clash for rule in RULES if (clash := rule(config)) is not None)


def is_implicit(config: TrialConfig) -> bool:
    """Whether q(z|x) has no density."""
    return config.model.posterior.name == models.Implicit.__name__


def warmup_ends(config: TrialConfig) -> Clash | None:
    """A trial whose weight never reaches beta would be measured on an objective it never had."""
    epochs, warmup = config.training.epochs, config.objective.warmup_epochs
    expected = f"fewer than training.epochs, {epochs}"
    return Clash("objective.warmup_epochs", warmup, expected) if warmup >= epochs else None


def no_latent_no_encoder(config: TrialConfig) -> Clash | None:
    """Without z there is nothing to encode, and the reverse."""
    size, encoder = config.model.latent_size, config.model.encoder.name
    if (size == 0) == (encoder == models.NoEncoder.__name__):
        return None
    if size:
        return Clash("model.encoder", encoder, "one that reads, or model.latent_size 0: a language model")
    return Clash("model.encoder", encoder, f"{models.NoEncoder.__name__}, as model.latent_size is 0")


def no_latent_no_inference(config: TrialConfig) -> Clash | None:
    """A language model has a plain posterior, prior and objective."""
    if config.model.latent_size:
        return None
    kind = config.objective.free_bits
    given = (
        ("model.posterior", config.model.posterior.name, "Gaussian"),
        ("model.prior", config.model.prior.name, "StandardNormal"),
        ("objective.loss", config.objective.loss.name, "ELBO"),
        ("objective.lagging_updates", config.objective.lagging_updates, 0),
        ("objective.free_bits", kind and kind.name, None),
    )
    wrong = ((path, value, usual) for path, value, usual in given if value != usual)
    return next((Clash(path, value, f"{plainly(usual)}, as there is no z") for path, value, usual in wrong), None)


def plainly(value: Any) -> str:
    """A value as YAML has it."""
    return "null" if value is None else str(value)


def implicit_with_its_critic(config: TrialConfig) -> Clash | None:
    """A posterior without density needs the objective that trains its critic; that one needs the critic."""
    posterior, loss = config.model.posterior.name, config.objective.loss.name
    if is_implicit(config) == (loss == "Implicit"):
        return None
    if is_implicit(config):
        return Clash("objective.loss", loss, f"Implicit, as an implicit posterior has no density, which {loss} needs")
    return Clash("model.posterior", posterior, "Implicit, as objective.loss is")


def refinable(config: TrialConfig) -> Clash | None:
    """Semi-amortised inference refines variational parameters."""
    if config.objective.loss.name != "SemiAmortized" or not is_implicit(config):
        return None
    return Clash("model.posterior", config.model.posterior.name, "one that can be refined: Gaussian or a flow")


def weights_need_a_density(config: TrialConfig) -> Clash | None:
    """An importance weight divides by the density that its sample was drawn with."""
    wanted = config.metrics.importance_samples
    if wanted and is_implicit(config) and config.metrics.importance_proposal == "posterior":
        return Clash(
            "metrics.importance_samples",
            wanted,
            "0, as an implicit posterior has no density to weight by; or metrics.importance_proposal=fitted",
        )
    return None


def dimensions_of_a_gaussian(config: TrialConfig) -> Clash | None:
    """A KL per dimension exists between two factorised Gaussians only."""
    kind, posterior, prior = config.objective.free_bits, config.model.posterior.name, config.model.prior.name
    if kind is None or not kind.name.endswith("PerDimension"):
        return None
    other = next((name for name in (posterior, prior) if name not in {"Gaussian", "StandardNormal"}), None)
    expected = f"one that needs no KL per dimension, which {other} does not have"
    return Clash("objective.free_bits", kind.name, expected) if other else None


def half_precision_once(config: TrialConfig) -> Clash | None:
    """Second derivatives and their finite differences drown in bfloat16's eight bits."""
    if config.training.precision == "bf16" and config.objective.loss.name == "SemiAmortized":
        return Clash("training.precision", "bf16", "fp32, as objective.loss is SemiAmortized")
    return None


def words_to_drop(config: TrialConfig) -> Clash | None:
    """Word dropout hides input words, which a non-autoregressive decoder does not read."""
    share, decoder = config.objective.word_dropout, config.model.decoder.name
    if share and decoder == models.SequenceFlow.__name__:
        return Clash("objective.word_dropout", share, f"0, as {decoder} reads no words")
    return None


RULES: tuple[Rule, ...] = (
    warmup_ends,
    no_latent_no_encoder,
    no_latent_no_inference,
    refinable,
    implicit_with_its_critic,
    weights_need_a_density,
    dimensions_of_a_gaussian,
    half_precision_once,
    words_to_drop,
)
