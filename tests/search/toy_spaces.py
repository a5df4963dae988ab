"""A space that is quick to run, with real trials or with those of `fake_trials`."""

from __future__ import annotations

from collections.abc import Callable

from flowsearch.search.space import Space

TINY = {
    "data": {"corpus": {"synthetic": {"train": 200, "valid": 50, "test": 50}}},
    "model": {
        "latent_size": {"int": [10, 32]},
        "encoder": {"LSTMEncoder": {"embedding_size": 8, "hidden_size": 8}},
        "decoder": {"LSTMDecoder": {"embedding_size": 8, "hidden_size": 8, "dropout": 0.5}},
    },
    "objective": {"beta": {"uniform": [0.2, 1.0]}},
    "training": {"epochs": 9},
}

MakeSpace = Callable[..., Space]
