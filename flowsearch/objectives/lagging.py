"""Lagging inference: while the encoder lags behind, move it many times for each step of the decoder.

Lagging Inference Networks and Posterior Collapse in Variational Autoencoders (He, Spokoyny, Neubig &
Berg-Kirkpatrick, 2019), algorithm 1.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from pydantic import NonNegativeFloat, PositiveInt

from flowsearch.models import VAE
from flowsearch.objectives._base import Objective, Phase, Terms
from flowsearch.objectives.stops import Stop, after, plateau
from flowsearch.text.batches import Batch

__all__ = ["He2019", "Lagging", "Tolerant"]

INFERENCE = ("encoder", "posterior")
WINDOW = 15


class LaggingStop(ABC):
    """The two stop rules of lagging inference: of an inner loop, and of being aggressive at all."""

    checks_per_epoch: int
    """How often within an epoch the mutual information on the validation set is asked for."""

    @abstractmethod
    def inner(self, updates: int) -> Stop:
        """When the encoder has moved enough for one step of the decoder; `updates` is the most it may move."""

    @abstractmethod
    def over(self, history: Sequence[float]) -> bool:
        """Whether to train plainly from now on, given every mutual information so far, in nats."""


class He2019(LaggingStop):
    """The rules of the reference code: at most updates - 1 steps, and aggressive until the first epoch whose mutual
    information on the validation set is below the one before, however slightly."""

    checks_per_epoch = 0

    def inner(self, updates: int) -> Stop:
        return plateau(WINDOW) | after(updates - 1)

    def over(self, history: Sequence[float]) -> bool:
        return history[-1] < (history[-2] if len(history) > 1 else 0.0)


class Tolerant(LaggingStop):
    """Aggressive until the mutual information has not grown for a while, asked several times an epoch.

    The estimate is noisy: a strict comparison stops on noise, and one look an epoch overshoots by up to an epoch of the
    costliest kind.

    Args:
        checks: looks per epoch.
        patience: looks without growth that end it.
        tolerance: growth that counts, in nats.
    """

    def __init__(
        self, *, checks: PositiveInt = 4, patience: PositiveInt = 4, tolerance: NonNegativeFloat = 0.05
    ) -> None:
        self.checks_per_epoch, self.patience, self.tolerance = checks, patience, tolerance

    def inner(self, updates: int) -> Stop:
        return plateau(WINDOW) | after(updates)

    def over(self, history: Sequence[float]) -> bool:
        recent, before = history[-self.patience :], history[: -self.patience]
        return bool(before) and max(recent) < max(before) + self.tolerance


class Lagging(Objective):
    """Wraps any objective: first the inference side moves until `stop.inner`, then the generative side moves once.

    Args:
        objective: what both descend.
        updates: encoder steps at most per decoder step.
        stop: the rules.
    """

    def __init__(self, objective: Objective, updates: int, stop: LaggingStop) -> None:
        super().__init__()
        self.objective, self.updates, self.stop = objective, updates, stop
        self.aggressive = True
        self.history: list[float] = []

    def forward(self, vae: VAE, batch: Batch, step: int) -> Terms:
        terms: Terms = self.objective(vae, batch, step)
        return terms

    def phases(self, step: int) -> Sequence[Phase]:
        """1. A phase that moves one side alone, as an implicit posterior's critic, stays as it is."""
        phases = self.objective.phases(step)
        return [part for phase in phases for part in self.split(phase)] if self.aggressive else phases

    def split(self, phase: Phase) -> Sequence[Phase]:
        """The inference side until `stop.inner`, then the others."""
        inference = tuple(name for name in phase.moves if name in INFERENCE)
        others = tuple(name for name in phase.moves if name not in INFERENCE)
        if not inference or not others:
            return (phase,)
        return (Phase(inference, phase.loss, self.stop.inner(self.updates)), Phase(others, phase.loss, phase.until))

    def observe(self, values: Mapping[str, float]) -> None:
        """1. Where the mutual information has no estimate, its upper bound, the KL, stands in."""
        self.objective.observe(values)
        known = "mutual_information" if "mutual_information" in values else "kl"
        self.history.append(values[known])
        self.aggressive = self.aggressive and not self.stop.over(self.history)

    def views(self, vae: VAE) -> Mapping[str, VAE]:
        return self.objective.views(vae)

    def checks_per_epoch(self) -> int:
        return self.stop.checks_per_epoch if self.aggressive else self.objective.checks_per_epoch()

    def describe(self, step: int) -> Mapping[str, float]:
        return {**self.objective.describe(step), "aggressive": float(self.aggressive)}

    def get_extra_state(self) -> dict[str, Any]:
        return {"aggressive": self.aggressive, "history": torch.tensor(self.history, dtype=torch.float64)}

    def set_extra_state(self, state: dict[str, Any]) -> None:
        self.aggressive, self.history = state["aggressive"], state["history"].tolist()
