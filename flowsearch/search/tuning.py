"""The two hooks by which Ray Tune's loop reaches the rest of the program."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Protocol

from ray.tune import Callback, Stopper


class Received(Protocol):
    """Something that knows whether a signal has come."""

    received: int | None


class Stop(Stopper):  # type: ignore[misc]  # Ray's class has no types
    """Stops the search once a signal has come; trials that were running stay unfinished."""

    def __init__(self, signals: Received) -> None:
        self._signals = signals

    def __reduce__(self) -> tuple[type, tuple[()]]:
        """Not for Ray's snapshots."""
        return object, ()

    def __call__(self, trial_id: str, result: dict[str, Any]) -> bool:
        """No trial is stopped for its own sake."""
        return False

    def stop_all(self) -> bool:
        """Whether to stop now."""
        return self._signals.received is not None


class Heartbeat(Callback):  # type: ignore[misc]  # Ray's class has no types
    """Calls functions several times a second, on the loop's own thread."""

    def __init__(self, beats: Sequence[Callable[[], None]]) -> None:
        self._beats = beats

    def __reduce__(self) -> tuple[type, tuple[()]]:
        """Not for Ray's snapshots."""
        return object, ()

    def on_step_end(self, iteration: int, trials: list[Any], **info: Any) -> None:
        """Beat."""
        for beat in self._beats:
            beat()
