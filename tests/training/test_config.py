"""Configurations: what is wrong is found before anything runs, and the message says where, which value, what else."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from flowsearch import models, objectives
from flowsearch.errors import SpaceError
from flowsearch.training import config, decay, optimizers
from flowsearch.training.component import knobs_of

Tree = Callable[..., dict[str, Any]]

CATALOGUES = {
    "data.batching": config.BATCHINGS,
    "model.encoder": models.ENCODERS,
    "model.posterior": models.POSTERIORS,
    "model.prior": models.PRIORS,
    "model.decoder": models.DECODERS,
    "objective.loss": objectives.LOSSES,
    "objective.annealing": objectives.ANNEALINGS,
    "objective.free_bits": objectives.FREE_BITS,
    "objective.lagging_stop": objectives.LAGGING_STOPS,
    "training.optimizer": optimizers.OPTIMIZERS,
    "training.decay": decay.DECAYS,
}
EXAMPLES = {
    "embedding_size": 4,
    "hidden_size": 5,
    "nats": 0.5,
    "layers": 1,
    "heads": 2,
    "head_size": 3,
    "code_size": 4,
    "width": 4,
}
"""Values for knobs without a default."""
BESIDE: dict[tuple[str, str], dict[str, Any]] = {
    ("model.encoder", "NoEncoder"): {"model.latent_size": 0},
    ("model.posterior", "Implicit"): {"objective.loss": "Implicit"},
    ("objective.loss", "Implicit"): {"model.posterior": "Implicit"},
}
"""What some components cannot be without."""
MEMBERS = [(path, name) for path, catalogue in CATALOGUES.items() for name in catalogue]


def knobs(path: str, name: str) -> dict[str, Any]:
    fields = knobs_of(CATALOGUES[path][name]).model_fields
    return {knob: EXAMPLES[knob] for knob, field in fields.items() if field.is_required()}


@pytest.mark.parametrize(("path", "name"), MEMBERS)
def test_every_member_of_every_room_is_known_by_name(tree: Tree, path: str, name: str) -> None:
    settings = config.parse(tree({path: {name: knobs(path, name)}, **BESIDE.get((path, name), {})}))
    section, key = path.split(".")
    component = getattr(getattr(settings, section), key)
    assert component.name == name
    assert set(component.knobs) == set(knobs_of(CATALOGUES[path][name]).model_fields)  # defaults filled in
    assert config.parse(config.plain(settings)) == settings
    assert config.plain(config.parse(config.plain(settings))) == config.plain(settings)


def test_the_defaults_parse(defaults: dict[str, Any]) -> None:
    settings = config.parse(defaults)
    assert settings.model.latent_size == 32
    assert settings.training.optimizer.knobs == {"lr": 1.0, "momentum": 0.0}


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"model.latent_sise": 3}, "model.latent_sise: 3; unknown key; did you mean 'latent_size'?"),
        ({"objective.xyzzy": 3}, "objective.xyzzy: 3; unknown key; expected one of annealing, beta,"),
        ({"model.latent_size": "big"}, "model.latent_size: 'big'; input should be a valid integer"),
        ({"model.latent_size": -1}, "model.latent_size: -1; input should be greater than or equal to 0"),
        ({"model.latent_size": 2.5}, "model.latent_size: 2.5; input should be a valid integer"),
        ({"model.latent_size": True}, "model.latent_size: True; input should be a valid integer"),
        ({"objective.beta": float("nan")}, "objective.beta: nan; input should be a finite number"),
        ({"objective.beta": -1.0}, "objective.beta: -1.0; input should be greater than or equal to 0"),
        ({"training.clip": "both"}, "training.clip: 'both'; input should be 'joint' or 'per_module'"),
        ({"model.posterior": "Planer"}, "model.posterior: 'Planer'; unknown name; did you mean 'Planar'?"),
        ({"model.posterior": {"Planer": {"k": 1}}}, "model.posterior: 'Planer'; unknown name; did you mean 'Planar'?"),
        ({"model.posterior": 3}, "model.posterior: 3; expected a name or {Name: {knob: value}}"),
        ({"model.posterior": {"IAF": {}, "Planar": {}}}, "expected a name or {Name: {knob: value}}"),
        ({"model.posterior": {"IAF": 4}}, "model.posterior: 4; expected {IAF: {knob: value}}"),
        ({"model.posterior": {"IAF": {"kk": 2}}}, "model.posterior.kk: 2; unknown key; did you mean 'k'?"),
        ({"model.posterior": {"Gaussian": {"k": 2}}}, "model.posterior.k: 2; unknown key"),
        ({"model.posterior": {"IAF": {"hidden": "x"}}}, "model.posterior.hidden: 'x'; input should be a valid integer"),
        ({"model.posterior": {"IAF": {"k": 0}}}, "model.posterior.k: 0; input should be greater than 0"),
        ({"objective.free_bits": "PerDocument"}, "objective.free_bits.nats: "),
        ({"model.encoder": {"LSTMEncoder": {"embedding_size": 4}}}, "model.encoder.hidden_size: "),
        ({"training.decay": {"Plateau": {"factor": 1.0}}}, "training.decay.factor: 1.0; input should be less than 1"),
        ({"objective.warmup_epochs": 3}, "objective.warmup_epochs: 3; expected fewer than training.epochs, 3"),
    ],
    ids=str,
)  # fmt: skip
def test_what_is_wrong_is_said_in_one_line(tree: Tree, changes: dict[str, Any], message: str) -> None:
    with pytest.raises(SpaceError) as raised:
        config.parse(tree(changes))
    assert message in str(raised.value)
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize("path", ["seed", "model", "model.latent_size", "training.optimizer"])
def test_what_is_missing_is_named(tree: Tree, path: str) -> None:
    whole = tree()
    *sections, key = path.split(".")
    inner = whole
    for section in sections:
        inner = inner[section]
    del inner[key]
    with pytest.raises(SpaceError, match=f"{path}: missing; it has no default"):
        config.parse(whole)


def test_a_missing_knob_is_named_as_missing(tree: Tree) -> None:
    with pytest.raises(SpaceError, match=r"objective\.free_bits\.nats: .*missing; it has no default"):
        config.parse(tree({"objective.free_bits": "PerDocument"}))


def test_a_section_that_is_no_mapping_is_refused(tree: Tree) -> None:
    whole = tree()
    whole["model"] = 3
    with pytest.raises(SpaceError, match="model: 3; "):
        config.parse(whole)


def test_null_knobs_are_no_knobs_and_a_bare_name_takes_defaults(tree: Tree) -> None:
    spelled = [config.parse(tree({"model.posterior": value})) for value in ("IAF", {"IAF": None}, {"IAF": {}})]
    assert spelled[0] == spelled[1] == spelled[2]
    assert spelled[0].model.posterior.knobs == {"k": 1, "conditioned": True, "hidden": 320}


def test_an_unknown_corpus_is_a_folder(tree: Tree) -> None:
    settings = config.parse(tree({"data.corpus": "yahoo"}))
    assert config.plain(settings)["data"]["corpus"] == {"folder": {"name": "yahoo"}}


def test_settings_do_not_change(tree: Tree) -> None:
    settings = config.parse(tree())
    with pytest.raises(ValueError, match="frozen"):
        settings.seed = 3
