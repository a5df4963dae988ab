"""What two steps say of a trial: right in its order of magnitude, and nothing is written."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from flowsearch.text import Corpus
from flowsearch.training import probe as room
from flowsearch.training.config import parse
from flowsearch.training.probe import probe, second_time, typical
from flowsearch.training.trial import Trial, readings

Tree = Callable[..., dict[str, Any]]


def test_a_probe_forecasts_the_epoch_and_the_checkpoint(tree: Tree, corpus: Corpus, tmp_path: Path) -> None:
    """Times within a factor of five, for the machine is shared; bytes of files to a tenth and a header."""
    wanted = tree()
    found = probe(wanted, corpus)
    epochs = readings(wanted, directory=tmp_path, corpus=corpus)
    spent = [sum(one.values["seconds"] for one in epoch) for epoch in epochs]
    assert 1 / 5 < found.seconds_per_epoch / min(spent) < 5
    assert found.epochs == wanted["training"]["epochs"]
    assert found.seconds == found.seconds_per_epoch * found.epochs
    files = sum((tmp_path / name).stat().st_size for name in ("last.pt", "best.safetensors"))
    assert files == pytest.approx(found.checkpoint_bytes, rel=0.1, abs=40_000)
    assert 50e6 < found.memory < 100e9
    assert found.device == "cpu"


@pytest.mark.parametrize("updates", [0, 3, 4, 5, 40, 100])
def test_lagging_inference_costs_what_its_steps_cost(
    tree: Tree, corpus: Corpus, monkeypatch: pytest.MonkeyPatch, updates: int
) -> None:
    """A clock that counts steps: a second for each encoder update, ten for the decoder's; a probe that makes
    few updates finds what all of them cost."""
    made: list[int] = []

    def training(trial: Trial) -> float:
        made.append(trial.settings.objective.lagging_updates)
        return 10.0 + made[-1]

    monkeypatch.setattr(room, "training", training)
    monkeypatch.setattr(room, "measuring", lambda trial, split: 0.5)
    assert probe(tree({"objective.lagging_updates": updates}), corpus).seconds_per_epoch == 11.0 + updates
    assert max(made) <= room.FEW


def test_an_epoch_costs_a_step_for_each_batch(tree: Tree, corpus: Corpus, monkeypatch: pytest.MonkeyPatch) -> None:
    def timed(step: Callable[[], object], device: torch.device) -> float:
        step()
        return 0.25

    monkeypatch.setattr(room, "second_time", timed)
    trial = Trial.start(parse(tree()), corpus)
    assert room.training(trial) == 0.25 * len(trial.batches["train"])
    assert room.measuring(trial, "test") == 0.25 * len(trial.batches["test"])


def test_a_probe_writes_nothing(tree: Tree, corpus: Corpus, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    probe(tree(), corpus)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("batching", ["EqualLength", "BucketAndPad"])
def test_the_batch_of_a_probe_is_an_ordinary_one(tree: Tree, corpus: Corpus, batching: str) -> None:
    batches = Trial.start(parse(tree({"data.batching": batching})), corpus).batches["train"]
    tokens = [int(batch.lengths.sum()) for batch in batches.epoch()]
    chosen = int(typical(batches).lengths.sum())
    assert abs(chosen - np.mean(tokens)) == min(abs(one - np.mean(tokens)) for one in tokens)


def test_the_first_step_is_not_timed(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = [0.0]
    monkeypatch.setattr(room, "now", lambda device: clock[0])
    costs = iter([100.0, 3.0])

    def step() -> None:
        clock[0] += next(costs)

    assert second_time(step, torch.device("cpu")) == 3.0
