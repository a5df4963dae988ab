"""Resources: what the rungs of a pruner count, so that trials meet where as much has been spent on each.

An annealed trial, a plain one and one with lagging inference spend differently, so "as far as each other" can mean
three things: as many epochs at the full KL weight, as many epochs in all, or as many seconds. Each is a function from
where a trial stands to a **step**, the integer that Optuna calls resource.

1. A trial has no step inside its warm-up: it does not descend yet what it is measured on.
2. Steps of a trial rise: two epochs that end within the same second are a second apart.
3. With `seconds` the warm-up is paid for like any other epoch, and so are the encoder steps of lagging inference.
   Seconds are those of the trial's own readings, from the journal: a resumed search decides as before, while another
   machine, or a busy one, may decide otherwise.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Literal, NamedTuple


class Standing(NamedTuple):
    """Where a trial stands after an epoch.

    Args:
        epoch: epochs trained, from 1.
        seconds: wall time of them.
        warmup_epochs: of the trial; in them the KL weight grows.
    """

    epoch: int
    seconds: float
    warmup_epochs: int


class Resource(NamedTuple):
    """What rungs count.

    Args:
        first: the step of the first rung.
        step: the step of a standing; None where the trial cannot be judged yet.
    """

    first: int
    step: Callable[[Standing], int | None]

    def after(self, earlier: int, standing: Standing) -> int | None:
        """The step of a standing, later than an earlier one of the same trial.

        >>> seconds(1).after(7, Standing(3, 6.5, 0)), seconds(1).after(7, Standing(3, 9.5, 3))
        (8, None)
        """
        step = self.step(standing)
        return None if step is None else max(step, earlier + 1)


def epochs_after_warmup(min_epochs: int) -> Resource:
    """As many epochs at the full KL weight: an annealed trial has had its warm-up besides.

    >>> [epochs_after_warmup(1).step(Standing(epoch, 0.0, 2)) for epoch in (1, 2, 3, 4)]
    [None, None, 1, 2]
    """
    return Resource(min_epochs, lambda at: step_of(at.epoch, at.warmup_epochs))


def epochs(min_epochs: int) -> Resource:
    """As many epochs in all: an annealed trial has had fewer of them at the full KL weight.

    >>> [epochs(1).step(Standing(epoch, 0.0, 2)) for epoch in (1, 2, 3, 4)]
    [None, None, 3, 4]
    """
    return Resource(min_epochs, lambda at: at.epoch if at.epoch > at.warmup_epochs else None)


def seconds(min_epochs: int) -> Resource:
    """As many seconds, begun ones counted; rungs from one second on, but nobody is judged before `min_epochs` epochs.

    >>> [seconds(2).step(Standing(epoch, 40.5 * epoch, 0)) for epoch in (1, 2, 3)]
    [None, 81, 122]
    """
    return Resource(
        1, lambda at: math.ceil(at.seconds) if at.epoch > at.warmup_epochs and at.epoch >= min_epochs else None
    )


Name = Literal["epochs_after_warmup", "epochs", "seconds"]
RESOURCES: dict[Name, Callable[[int], Resource]] = {
    "epochs_after_warmup": epochs_after_warmup,
    "epochs": epochs,
    "seconds": seconds,
}
"""What `resource` of a pruner may name: a function of the epochs that every trial gets."""


def step_of(epoch: int, warmup_epochs: int) -> int | None:
    """Epochs after the warm-up, or None inside it.

    >>> [step_of(epoch, warmup_epochs=2) for epoch in (1, 2, 3, 4)]
    [None, None, 1, 2]
    """
    return epoch - warmup_epochs if epoch > warmup_epochs else None
