"""Studies in memory, given by what their trials measured."""

from __future__ import annotations

import dataclasses
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest

from flowsearch.results import Metrics, Study, Trial

sys.path.insert(0, str(Path(__file__).parent))


def study_of(
    trials: Sequence[Trial], readings: Mapping[tuple[int, int, str], Mapping[str, float]], **facts: Any
) -> Study:
    metrics = Metrics.of(readings)
    best = metrics.best_epochs()
    numbered = {trial.number: dataclasses.replace(trial, best_epoch=best.get(trial.number)) for trial in trials}
    return Study("demo", facts, numbered, metrics)


@pytest.fixture
def study() -> Callable[..., Study]:
    return study_of


@pytest.fixture
def simple() -> Callable[..., Study]:
    """A study whose trials have one epoch; each is (label, params, seed, elbo, state)."""

    def make(*rows: tuple[str, dict[str, Any], int, float, str], split: str = "test", **values: float) -> Study:
        trials = [
            Trial(number, state, None, label, seed, 10.0, None, params)
            for number, (label, params, seed, _, state) in enumerate(rows)
        ]
        readings = {
            (number, 1, name): {"elbo": row[3], "kl": 5.0, "ppl": 20.0, "active_units": 4.0, **values}
            for number, row in enumerate(rows)
            for name in ("valid", split)
        }
        return study_of(trials, readings)

    return make


@pytest.fixture
def rows() -> Callable[..., Study]:
    """A study of named rows: each name with a reading per seed, the same on valid and test; all COMPLETE, one epoch."""

    def make(given: Mapping[str, Sequence[Mapping[str, float]]], phase: str = "search", **facts: Any) -> Study:
        each = [(name, seed, values) for name, seeds in given.items() for seed, values in enumerate(seeds)]
        trials = [
            Trial(number, "COMPLETE", None, name, seed, 10.0, None, {"row": name}, phase)
            for number, (name, seed, _) in enumerate(each)
        ]
        readings = {
            (number, 1, split): dict(values)
            for number, (_, _, values) in enumerate(each)
            for split in ("valid", "test")
        }
        return study_of(trials, readings, **facts)

    return make
