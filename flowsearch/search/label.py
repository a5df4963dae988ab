"""A configuration's name in a table, as the thesis' tables write it: `VAE + IAF(k=4) + Annealing`.

A label says what differs from the packaged base in the dimensions that tables compare: size of z, beta, posterior,
prior, networks, loss, annealing, lagging inference, free bits, word dropout. Optimisers, sizes of layers and corpora
are a study's, not a row's.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from functools import cache
from typing import Any

from flowsearch.flows import FLOWS
from flowsearch.objectives import FREE_BITS
from flowsearch.objectives.free_bits import Target
from flowsearch.search import bounded
from flowsearch.search.compose import BASE
from flowsearch.training.component import Component
from flowsearch.training.config import TrialConfig, parse

PER_DOCUMENT = "PerDocument"
"""The kind of free bits that a bare number means."""


def label(config_tree: Mapping[str, Any]) -> str:
    """The name of a configuration.

    Args:
        config_tree: plain data, as `draw` gives it.

    Raises:
        SpaceError: it is no configuration.

    >>> tree = {key: value for key, value in bounded.read(BASE).items() if key in TrialConfig.model_fields}
    >>> label(tree)
    'VAE'
    >>> model = tree["model"] | {"latent_size": 64, "posterior": {"Planar": {"k": 4}}}
    >>> label(tree | {"model": model, "objective": tree["objective"] | {"beta": 0.4, "warmup_epochs": 10}})
    'β-VAE(64) (β=0.4) + PF(k=4) + Annealing'
    """
    return " + ".join(parts(parse(config_tree)))


@cache
def thesis() -> TrialConfig:
    """What goes without saying: the packaged base."""
    tree = bounded.read(BASE)
    return parse({key: tree[key] for key in TrialConfig.model_fields})


def parts(config: TrialConfig) -> Iterator[str]:
    """The model, then what is added to it, in the thesis' order."""
    model, objective, usual = config.model, config.objective, thesis()
    if not model.latent_size:
        yield "LSTM-LM" if model.decoder.name == "LSTMDecoder" else f"{model.decoder.name} LM"
        return
    size = "" if model.latent_size == usual.model.latent_size else f"({model.latent_size})"
    plain_vae = objective.beta == usual.objective.beta
    yield f"VAE{size}" if plain_vae else f"β-VAE{size} (β={objective.beta:.3g})"
    if model.posterior != usual.model.posterior:
        yield posterior(model.posterior)
    if model.prior != usual.model.prior:
        yield f"{posterior(model.prior)} Prior"
    for network, usually in ((model.encoder, usual.model.encoder), (model.decoder, usual.model.decoder)):
        if network.name != usually.name:
            yield network.name
    if objective.loss.name != usual.objective.loss.name:
        yield objective.loss.name
    if objective.warmup_epochs:
        kind = objective.annealing.name
        yield "Annealing" if kind == usual.objective.annealing.name else f"{kind} Annealing"
    if objective.lagging_updates:
        yield "Lagging Inference"
    if objective.free_bits:
        yield free_bits(objective.free_bits)
    if objective.word_dropout:
        yield f"Word Dropout {100 * objective.word_dropout:.3g}%"


def posterior(component: Component) -> str:
    """`PF(k=4)`: a flow's abbreviation and its steps; another family by its name."""
    flow = FLOWS.get(component.name)
    name = flow.abbreviation if flow else component.name
    return f"{name}(k={component.knobs['k']})" if "k" in component.knobs else name


def free_bits(component: Component) -> str:
    """`Free Bits(5)`, `KL Target(5)`: nats per document; another kind is said."""
    is_target = issubclass(FREE_BITS[component.name], Target)
    name, over = ("KL Target", component.name.removeprefix("Target")) if is_target else ("Free Bits", component.name)
    kind = "" if over == PER_DOCUMENT else f" {over}"
    return f"{name}({component.knobs['nats']:.3g}{kind})"
