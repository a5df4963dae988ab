"""Labels are those of the thesis' tables."""

import pytest

from flowsearch.errors import SpaceError
from flowsearch.flows import FLOWS
from flowsearch.search import bounded
from flowsearch.search.compose import BASE
from flowsearch.search.label import label

TRANSFORMER = {"layers": 1, "heads": 2, "head_size": 4}
BITS = {"PerDocument": {"nats": 5}}


def tree(**changes):
    """The base with some values of its model and its objective changed."""
    base = {key: value for key, value in bounded.read(BASE).items() if key not in {"study", "search", "resources"}}
    for key, value in changes.items():
        section = next(name for name in ("model", "objective") if key in base[name])
        base[section] = base[section] | {key: value}
    return base


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({}, "VAE"),
        ({"posterior": {"Gaussian": {}}}, "VAE"),
        ({"warmup_epochs": 10}, "VAE + Annealing"),
        ({"lagging_updates": 100}, "VAE + Lagging Inference"),
        ({"warmup_epochs": 10, "lagging_updates": 100}, "VAE + Annealing + Lagging Inference"),
        ({"posterior": {"Planar": {"k": 4}}}, "VAE + PF(k=4)"),
        ({"posterior": {"IAF": {"k": 2, "hidden": 64}}}, "VAE + IAF(k=2)"),
        ({"posterior": {"Radial": {"k": 2}}}, "VAE + RF(k=2)"),
        ({"posterior": "IAF"}, "VAE + IAF(k=1)"),
        ({"posterior": {"IAF": {"k": 4}}, "warmup_epochs": 10}, "VAE + IAF(k=4) + Annealing"),
        ({"latent_size": 64}, "VAE(64)"),
        ({"latent_size": 64, "posterior": {"Planar": {"k": 4}}}, "VAE(64) + PF(k=4)"),
        ({"beta": 0.4}, "β-VAE (β=0.4)"),
        ({"beta": 1}, "VAE"),
        ({"beta": 0.4, "posterior": {"IAF": {"k": 2}}}, "β-VAE (β=0.4) + IAF(k=2)"),
        ({"beta": 0.43217, "latent_size": 8}, "β-VAE(8) (β=0.432)"),
        ({"free_bits": BITS}, "VAE + Free Bits(5)"),
        ({"free_bits": {"PerDimension": {"nats": 0.1}}}, "VAE + Free Bits(0.1 PerDimension)"),
        ({"free_bits": {"TargetPerDocument": {"nats": 5}}}, "VAE + KL Target(5)"),
        ({"free_bits": {"TargetPerDimension": {"nats": 0.1}}}, "VAE + KL Target(0.1 PerDimension)"),
        ({"word_dropout": 0.25}, "VAE + Word Dropout 25%"),
        ({"prior": {"RealNVP": {"k": 4}}}, "VAE + RealNVP(k=4) Prior"),
        ({"prior": "Mixture"}, "VAE + Mixture Prior"),
        ({"annealing": "Cyclical", "warmup_epochs": 8}, "VAE + Cyclical Annealing"),
        ({"annealing": "Cyclical"}, "VAE"),
        ({"latent_size": 0, "encoder": "NoEncoder"}, "LSTM-LM"),
        ({"loss": {"SemiAmortized": {"steps": 10}}}, "VAE + SemiAmortized"),
        ({"decoder": {"TransformerDecoder": TRANSFORMER}}, "VAE + TransformerDecoder"),
        ({"encoder": {"TransformerEncoder": TRANSFORMER}}, "VAE + TransformerEncoder"),
        (
            {
                "posterior": {"IAF": {"k": 2}},
                "warmup_epochs": 1,
                "lagging_updates": 1,
                "free_bits": BITS,
                "word_dropout": 0.5,
            },
            "VAE + IAF(k=2) + Annealing + Lagging Inference + Free Bits(5) + Word Dropout 50%",
        ),
    ],
)
def test_labels(changes, expected):
    assert label(tree(**changes)) == expected


def test_every_flow_has_a_label_of_its_own():
    labels = {label(tree(posterior={name: {"k": 2}})) for name in FLOWS}
    assert len(labels) == len(FLOWS)


def test_what_is_no_configuration_has_no_label():
    with pytest.raises(SpaceError, match=r"model\.posterior: 'Planer'"):
        label(tree(posterior="Planer"))
