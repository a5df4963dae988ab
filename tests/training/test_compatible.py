"""What is right alone and wrong together: one line, with the key, its value, and what was expected."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from flowsearch.errors import SpaceError
from flowsearch.training import config
from flowsearch.training.compatible import RULES

Tree = Callable[..., dict[str, Any]]
LANGUAGE_MODEL = {"model.latent_size": 0, "model.encoder": "NoEncoder"}
IMPLICIT = {"model.posterior": "Implicit", "objective.loss": "Implicit"}
PER_DIMENSION = {"objective.free_bits": {"PerDimension": {"nats": 0.5}}}

CLASHES: dict[str, tuple[dict[str, Any], str]] = {
    "warm-up": (
        {"objective.warmup_epochs": 2, "training.epochs": 2},
        "objective.warmup_epochs: 2; expected fewer than",
    ),
    "z, no encoder": ({"model.encoder": "NoEncoder"}, "model.encoder: 'NoEncoder'; expected one that reads"),
    "encoder, no z": ({"model.latent_size": 0}, "model.encoder: 'LSTMEncoder'; expected NoEncoder"),
    "flow, no z": (
        {**LANGUAGE_MODEL, "model.posterior": "IAF"},
        "model.posterior: 'IAF'; expected Gaussian, as there is no z",
    ),
    "prior, no z": ({**LANGUAGE_MODEL, "model.prior": "RealNVP"}, "model.prior: 'RealNVP'; expected StandardNormal"),
    "refining, no z": (
        {**LANGUAGE_MODEL, "objective.loss": "SemiAmortized"},
        "objective.loss: 'SemiAmortized'; expected ELBO",
    ),
    "lagging, no z": ({**LANGUAGE_MODEL, "objective.lagging_updates": 3}, "objective.lagging_updates: 3; expected 0"),
    "free bits, no z": (
        {**LANGUAGE_MODEL, "objective.free_bits": {"PerDocument": {"nats": 0.5}}},
        "objective.free_bits: 'PerDocument'; expected null",
    ),
    "no density": ({"model.posterior": "Implicit"}, "objective.loss: 'ELBO'; expected Implicit, as an implicit"),
    "no critic": ({"objective.loss": "Implicit"}, "model.posterior: 'Gaussian'; expected Implicit"),
    "refining what cannot be": (
        {"model.posterior": "Implicit", "objective.loss": "SemiAmortized"},
        "model.posterior: 'Implicit'; expected one that can be refined",
    ),
    "weights without a density": (
        {**IMPLICIT, "metrics.importance_samples": 5},
        "metrics.importance_samples: 5; expected 0, as an implicit posterior has no density",
    ),
    "dimensions of a flow": (
        {**PER_DIMENSION, "model.posterior": "IAF"},
        "objective.free_bits: 'PerDimension'; expected",
    ),
    "dimensions of a prior": (
        {**PER_DIMENSION, "model.prior": "RealNVP"},
        "objective.free_bits: 'PerDimension'; expected one that needs no KL per dimension, which RealNVP",
    ),
    "no words to drop": (
        {
            "objective.word_dropout": 0.3,
            "model.decoder": {"SequenceFlow": {"code_size": 2, "heads": 1, "head_size": 2}},
        },
        "objective.word_dropout: 0.3; expected 0, as SequenceFlow reads no words",
    ),
    "half precision": (
        {"training.precision": "bf16", "objective.loss": "SemiAmortized"},
        "training.precision: 'bf16'; expected fp32",
    ),
}


@pytest.mark.parametrize(("changes", "message"), CLASHES.values(), ids=CLASHES)
def test_a_clash_is_one_line(tree: Tree, changes: dict[str, Any], message: str) -> None:
    with pytest.raises(SpaceError) as caught:
        config.parse(tree(changes))
    assert str(caught.value).startswith(message)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "changes",
    [
        {},
        LANGUAGE_MODEL,
        IMPLICIT,
        {**IMPLICIT, "metrics.importance_samples": 5, "metrics.importance_proposal": "fitted"},
        {"objective.loss": "SemiAmortized", "model.posterior": "Planar", "objective.lagging_updates": 3},
        PER_DIMENSION,
        {"objective.free_bits": {"PerDocument": {"nats": 1.0}}, "model.posterior": "IAF", "model.prior": "RealNVP"},
    ],
)
def test_what_does_combine_passes(tree: Tree, changes: dict[str, Any]) -> None:
    settings = config.parse(tree(changes))
    assert config.parse(config.plain(settings)) == settings


def test_every_rule_refuses_something(tree: Tree) -> None:
    found = set()
    for changes, _ in CLASHES.values():
        settings = object.__new__(config.TrialConfig)
        whole = tree(changes)
        sections = {
            name: item.annotation.model_validate(whole[name])
            for name, item in config.TrialConfig.model_fields.items()
            if name != "seed"
        }
        settings.__dict__.update(sections)
        found |= {rule for rule in RULES if rule(settings) is not None}
    assert found == set(RULES)
