"""When a phase has done enough: functions of the losses it has seen, which `|` combines.

>>> stop = plateau(2) | after(5)
>>> [stop([(loss, 1)] * n) for n, loss in ((1, 3.0), (4, 3.0), (5, 3.0))]
[False, False, True]
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

History = Sequence[tuple[Any, int]]
"""(summed loss in nats, a float or a scalar tensor; tokens) of every repetition of a phase so far."""


@dataclass(frozen=True)
class Stop:
    """Says after every repetition whether the phase is over."""

    enough: Callable[[History], bool]

    def __call__(self, history: History) -> bool:
        return self.enough(history)

    def __or__(self, other: Stop) -> Stop:
        return Stop(lambda history: self(history) or other(history))


def after(repetitions: int) -> Stop:
    """Over after so many repetitions."""
    return Stop(lambda history: len(history) >= repetitions)


def plateau(window: int) -> Stop:
    """Over when the loss per token of a window of repetitions is above that of the window before (He et al., 2019).

    1. It is asked at whole windows only, so the phase lasts two windows at least.
    """

    def per_token(history: History) -> Any:
        return sum(loss for loss, _ in history) / sum(tokens for _, tokens in history)

    def enough(history: History) -> bool:
        if len(history) % window or len(history) < 2 * window:
            return False
        return bool(per_token(history[-window:]) > per_token(history[-2 * window : -window]))

    return Stop(enough)
