"""How the learning rate changes, judged after every epoch by the validation loss (-ELBO, KL weight 1)."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import Annotated, Any

from pydantic import Field, NonNegativeInt, PositiveInt

from flowsearch.catalogue import members

__all__ = ["Constant", "Cosine", "He2019", "Plateau"]

Factor = Annotated[float, Field(gt=0, lt=1)]


@dataclass(frozen=True)
class Verdict:
    """What follows from an epoch.

    Args:
        factor: what the learning rate is multiplied by.
        reload: whether training goes on from the best weights, with fresh optimisers.
        stop: whether training ends.
    """

    factor: float = 1.0
    reload: bool = False
    stop: bool = False


class Decay(ABC):
    """A rule for the learning rate.

    Args:
        warmup_epochs: the trial's KL warm-up.
        epochs: of the trial, at most.
    """

    first = 1.0
    """What the optimiser's own learning rate is multiplied by for the first epoch."""

    def __init__(self, warmup_epochs: int, epochs: int) -> None:
        self.warmup_epochs, self.epochs = warmup_epochs, epochs

    @abstractmethod
    def judge(self, epoch: int, loss: float) -> Verdict:
        """Hear the validation loss of an epoch (1, 2, ...)."""

    def state_dict(self) -> dict[str, Any]:
        """What the rule remembers."""
        return {}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Remember it again."""
        vars(self).update(state)


class Constant(Decay):
    """The learning rate stays."""

    def judge(self, epoch: int, loss: float) -> Verdict:
        return Verdict()


class Cosine(Decay):
    """Half a cosine from the optimiser's learning rate down to a share of it, after a linear rise.

    SGDR: Stochastic Gradient Descent with Warm Restarts (Loshchilov & Hutter, 2017), without restarts; the rate is one
    per epoch. The loss plays no part.

    1. In epoch e <= rise the rate is e / (rise + 1) of the optimiser's, so that epoch rise + 1 is the first with all of
       it.
    2. The last epoch still trains: the floor would be reached by the one after it.

    Args:
        rise: epochs before the full rate.
        floor: the share of the full rate that the cosine ends at.

    >>> rule = Cosine(0, 4)
    >>> [round(rule.share(epoch), 3) for epoch in (1, 2, 3, 4)]
    [1.0, 0.854, 0.5, 0.146]
    """

    def __init__(
        self,
        warmup_epochs: int,
        epochs: int,
        *,
        rise: NonNegativeInt = 0,
        floor: Annotated[float, Field(ge=0, le=1)] = 0.0,
    ) -> None:
        super().__init__(warmup_epochs, epochs)
        self.rise, self.floor = rise, floor
        self.first = self.share(1)

    def share(self, epoch: int) -> float:
        """The share of the full rate in an epoch of training (1, 2, ... `epochs`)."""
        if epoch <= self.rise:
            return epoch / (self.rise + 1)
        done = (epoch - self.rise - 1) / (self.epochs - self.rise)
        return self.floor + (1 - self.floor) * 0.5 * (1 + math.cos(math.pi * done))

    def judge(self, epoch: int, loss: float) -> Verdict:
        return Verdict() if epoch >= self.epochs else Verdict(self.share(epoch + 1) / self.share(epoch))


class Plateau(Decay):
    """Multiply by `factor` and go on from the best weights after `patience` epochs without a new best loss.

    1. Nothing decays during the warm-up or before `grace_epochs`, but epochs without improvement are counted.
    2. Training stops with the `decays`-th decay (He et al., 2019: the fifth).

    >>> rule = Plateau(0, 40, patience=2)
    >>> [rule.judge(epoch, loss).factor for epoch, loss in enumerate([3.0, 2.0, 2.5, 2.1], start=1)]
    [1.0, 1.0, 1.0, 0.5]
    """

    def __init__(
        self,
        warmup_epochs: int,
        epochs: int,
        *,
        factor: Factor = 0.5,
        patience: PositiveInt = 2,
        grace_epochs: NonNegativeInt = 0,
        decays: PositiveInt = 5,
    ) -> None:
        super().__init__(warmup_epochs, epochs)
        self.factor, self.patience, self.grace_epochs, self.decays = factor, patience, grace_epochs, decays
        self.bar, self.without, self.done = math.inf, 0, 0

    def judge(self, epoch: int, loss: float) -> Verdict:
        if loss <= self.bar:
            self.bar, self.without = loss, 0
            return Verdict()
        self.without += 1
        if self.without < self.patience or epoch <= max(self.grace_epochs, self.warmup_epochs):
            return Verdict()
        self.without, self.done = 0, self.done + 1
        self.bar = self.bar_after(loss)
        return Verdict(self.factor, reload=True, stop=self.done >= self.decays)

    def bar_after(self, loss: float) -> float:
        """The loss to beat after a decay: still the best."""
        return self.bar

    def state_dict(self) -> dict[str, Any]:
        return {"bar": self.bar, "without": self.without, "done": self.done}


class He2019(Plateau):
    """The rule of the reference code: no decay in the first 15 epochs, and after one the loss to beat is the current
    one, not the best."""

    def __init__(self, warmup_epochs: int, epochs: int) -> None:
        super().__init__(0, epochs, factor=0.5, patience=2, grace_epochs=15, decays=5)

    def bar_after(self, loss: float) -> float:
        return loss


DECAYS = members(globals(), Decay)
