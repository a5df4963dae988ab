"""A batch in parts is the whole batch with less memory: the same gradient, the same loss, the same training."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from flowsearch.text import Corpus
from flowsearch.training import config
from flowsearch.training.loop import backward
from flowsearch.training.trial import Trial, readings

Tree = Callable[..., dict[str, Any]]

QUIET = {"model.decoder": {"LSTMDecoder": {"embedding_size": 8, "hidden_size": 12, "dropout": 0.0}}}
"""A model without noise, once z is its mean."""
CASES: dict[str, dict[str, Any]] = {
    "ELBO": {},
    "padded": {"data.batching": "BucketAndPad"},
    "flow": {"model.posterior": {"IAF": {"k": 2, "hidden": 8}}},
    "free bits": {"objective.free_bits": {"PerDocument": {"nats": 0.2}}},
    "language model": {"model.latent_size": 0, "model.encoder": "NoEncoder"},
}


@pytest.fixture(autouse=True)
def _means(in_float64: None, monkeypatch: pytest.MonkeyPatch) -> None:
    real = torch.randn

    def silent(*shape: int, generator: torch.Generator | None = None, **options: Any) -> torch.Tensor:
        return torch.zeros(*shape, **options) if generator is None else real(*shape, generator=generator, **options)

    monkeypatch.setattr(torch, "randn", silent)


@pytest.mark.parametrize("parts", [2, 3, 1000])
@pytest.mark.parametrize("changes", CASES.values(), ids=CASES)
def test_the_gradient_of_the_parts_is_that_of_the_batch(
    tree: Tree, corpus: Corpus, changes: Mapping[str, Any], parts: int
) -> None:
    trial = Trial.start(config.parse(tree({**QUIET, **changes})), corpus)
    batch = max(trial.batches["train"].epoch(np.random.default_rng(0)), key=len)
    (phase,) = trial.objective.phases(3)

    def descent(count: int) -> dict[str, torch.Tensor]:
        trial.vae.zero_grad()
        terms = backward(trial.vae, phase, batch, 3, count)
        found = {name: p.grad.clone() for name, p in trial.vae.named_parameters() if p.grad is not None}
        return {**found, **terms.parts, "loss": terms.loss}

    whole, cut = descent(1), descent(parts)
    assert len(batch) > 3
    assert len(batch.parts(parts)) == min(parts, len(batch))
    assert whole.keys() == cut.keys()
    assert sum(value.abs().sum() for name, value in whole.items() if "." in name) > 1e-3
    for name, value in whole.items():
        torch.testing.assert_close(cut[name], value, rtol=1e-9, atol=1e-12)


def test_training_in_parts_measures_what_training_whole_does(tree: Tree, tmp_path: Path, corpus: Corpus) -> None:
    def elbos(parts: int) -> list[float]:
        whole = tree({**QUIET, "training.accumulate": parts, "training.epochs": 2, "objective.lagging_updates": 2})
        measured = readings(whole, directory=tmp_path / str(parts), corpus=corpus)
        return [reading.values["elbo"] for epoch in measured for reading in epoch]

    assert elbos(4) == pytest.approx(elbos(1), rel=1e-6)
