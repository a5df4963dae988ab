"""Studies made of random numbers, as a search would leave them."""

from __future__ import annotations

import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from flowsearch.results import SPLITS, Journal

Event = dict[str, Any]


def events_of(seed: int, trials: int = 8, epochs: int = 5) -> list[Event]:
    chance = random.Random(seed)
    events: list[Event] = [
        {"event": "study", "corpus": "synthetic", "entropy": 35.5, "tokens_per_document": {"test": 13.0}}
    ]
    for number in range(trials):
        kind = chance.choice(["Gaussian", "IAF"])
        params: dict[str, Any] = {"model.posterior": kind, "objective.beta": chance.choice([1, 0.4]), "seed": number}
        if kind == "IAF":
            params |= {"model.posterior.k": chance.randint(1, 3), "model.posterior.flag": chance.random() < 0.5}
        if chance.random() < 0.5:
            params["objective.free_bits"] = chance.choice([None, 3, "PerDocument", {"BatchMean": {"nats": 5}}])
        events.append(
            {"event": "start", "trial": number, "params": params, "seed": number, "label": kind, "attempt": 1}
        )
        for epoch in range(1, chance.randint(1, epochs) + 1):
            readings = [
                {"split": split, "values": _values(chance)}
                for split in SPLITS
                if split != "test" or chance.random() < 0.5
            ]
            events.append({"event": "report", "trial": number, "epoch": epoch, "readings": readings})
        if chance.random() < 0.8:
            state = chance.choice(["COMPLETE", "PRUNED", "FAIL"])
            events.append(
                {"event": "finish", "trial": number, "state": state, "reason": None, "seconds": chance.random()}
            )
    return events


def _values(chance: random.Random) -> dict[str, float]:
    values = {"elbo": -36 - chance.random(), "kl": chance.random(), "active_units": float(chance.randint(0, 32))}
    if chance.random() < 0.3:
        values["iw_nll"] = chance.choice([float("nan"), float("inf"), 36.0])
    return values


@pytest.fixture
def events() -> Callable[..., list[Event]]:
    return events_of


@pytest.fixture
def study(tmp_path: Path) -> Callable[..., Path]:
    """Writes a study and returns its folder."""

    def write(events: list[Event], name: str = "demo") -> Path:
        folder = tmp_path / name
        folder.mkdir(exist_ok=True)
        with Journal(folder / "journal.jsonl") as journal:
            for event in events:
                journal.append(event)
        return folder

    return write
