"""The two hooks by which Ray Tune's loop reaches the rest of the program."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from ray.tune import Callback, Stopper


class Stop(Stopper):  # type: ignore[misc]  # Ray's class has no types
    """Stops the search, whatever still runs.

    Args:
        over: says when; trials that are running then stay unfinished.
    """

    def __init__(self, over: Callable[[], bool]) -> None:
        self._over = over

    def __reduce__(self) -> tuple[type, tuple[()]]:
        """Not for Ray's snapshots."""
        return object, ()

    def __call__(self, trial_id: str, result: dict[str, Any]) -> bool:
        """No trial is stopped for its own sake."""
        return False

    def stop_all(self) -> bool:
        """Whether to stop now."""
        return self._over()


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
