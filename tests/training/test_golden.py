"""Losses of a few tiny trials, at full precision: a refactoring that changes them has to say why.

Trained in float64, where rounding differs between machines by far less than the tolerance. To write them anew, after a
change that was meant to change them: FLOWSEARCH_GOLDEN=write python -m pytest tests/training/test_golden.py
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from flowsearch.text import Corpus
from flowsearch.training.trial import readings

pytestmark = pytest.mark.usefixtures("in_float64")

FILE = Path(__file__).with_name("golden.json")
KEPT = ("elbo", "reconstruction", "kl", "loss", "kl_weight", "mutual_information", "active_units", "iw_nll", "lr")
TRIALS: dict[str, dict[str, Any]] = {
    "plain": {},
    "beta, annealed as the reference": {
        "objective.beta": 0.4, "objective.warmup_epochs": 2, "objective.annealing": "He2019",
    },
    "lagging as the reference": {
        "objective.lagging_updates": 20, "objective.lagging_stop": "He2019", "training.decay": "He2019",
        "metrics.mutual_information": "reference",
    },
    "IAF, free bits, padded": {
        "model.posterior": {"IAF": {"k": 2, "hidden": 8}}, "objective.free_bits": {"PerDocument": {"nats": 1.0}},
        "data.batching": "BucketAndPad", "training.optimizer": {"Adam": {"lr": 0.01}}, "training.clip": "per_module",
        "metrics.importance_samples": 5,
    },
    "planar, word dropout": {
        "model.posterior": {"Planar": {"k": 3}}, "objective.word_dropout": 0.3, "training.clip_norm": 1.0,
    },
}  # fmt: skip


def losses(whole: dict[str, Any], directory: Path, corpus: Corpus) -> list[dict[str, Any]]:
    return [
        {f"{reading.split} {name}": reading.values[name] for name in KEPT if name in reading.values}
        for measured in readings(whole, directory=directory, corpus=corpus)
        for reading in measured
    ]


@pytest.mark.parametrize("name", TRIALS)
def test_losses_are_what_they_were(
    name: str, tree: Callable[..., dict[str, Any]], tmp_path: Path, corpus: Corpus
) -> None:
    ours = losses(tree(TRIALS[name]), tmp_path, corpus)
    golden = json.loads(FILE.read_text()) if FILE.exists() else {}
    if os.environ.get("FLOWSEARCH_GOLDEN") == "write":
        FILE.write_text(json.dumps({**golden, name: ours}, indent=1) + "\n")
        return
    assert len(ours) == len(golden[name])
    for now, then in zip(ours, golden[name], strict=True):
        assert now == pytest.approx(then, rel=1e-6, abs=1e-9)
