"""Is A faster than B? Both take turns in one run, and the ratio is taken within each turn.

A machine that others use is fast in one second and slow in the next, so two runs one after the other compare the
machine with itself. Turn by turn both see the same machine; the median over turns says how much faster, the 10 and 90
per cent quantiles how sure that is. The order within a turn alternates, so neither always runs on a warmer cache.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Spread:
    """Median and 10 to 90 per cent quantiles of what was seen.

    >>> print(Spread.of([1.0, 2.0, 3.0]))
    2.00 (1.20 to 2.80)
    """

    median: float
    low: float
    high: float

    @classmethod
    def of(cls, values: Sequence[float]) -> Spread:
        """Quantiles interpolated between the values."""
        tenths = statistics.quantiles(values, n=10, method="inclusive") if len(values) > 1 else [values[0]] * 9
        return cls(statistics.median(values), tenths[0], tenths[-1])

    def __str__(self) -> str:
        return f"{self.median:.2f} ({self.low:.2f} to {self.high:.2f})"


def interleaved(variants: Mapping[str, Callable[[], float]], rounds: int, *, warmup: int = 1) -> dict[str, list[float]]:
    """What each variant returns in each of `rounds` turns, after `warmup` turns that do not count."""
    seen: dict[str, list[float]] = {name: [] for name in variants}
    for turn in range(-warmup, rounds):
        for name in list(variants)[:: -1 if turn % 2 else 1]:
            value = variants[name]()
            if turn >= 0:
                seen[name].append(value)
    return seen


def seconds(work: Callable[[], object], clock: Callable[[], float] = time.process_time) -> Callable[[], float]:
    """A variant that does `work` once and returns what the clock says it took; by default the process' own CPU time."""

    def timed() -> float:
        start = clock()
        work()
        return clock() - start

    return timed


def ratio(above: Sequence[float], below: Sequence[float]) -> Spread:
    """The spread over turns of above / below."""
    return Spread.of([a / b for a, b in zip(above, below, strict=True)])
