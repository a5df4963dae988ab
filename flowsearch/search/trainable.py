"""A trial inside a Ray actor: an iterator over epochs, one epoch per call.

The actor knows nothing of the search. It is given a task, steps through `readings(config, directory=...,
corpus=...)`, and says how that ended. An actor outlives its trial (starting one costs seconds, most of it importing
torch), and the next trial builds everything anew, so it cannot tell a used actor from a fresh one.
"""

from __future__ import annotations

import importlib
import sys
import time
import traceback
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import ray
from ray.tune import Trainable

from flowsearch.errors import Diverged
from flowsearch.results import Reading
from flowsearch.results.mirror import place
from flowsearch.search.disk import refuses
from flowsearch.search.task import LAST, READINGS, Crash, DiskRefused, OutOfMemory, Task, as_rows
from flowsearch.search.trialcopy import TrialCopy

Readings = Callable[..., Iterator[list[Reading]]]


class TrialActor(Trainable):  # type: ignore[misc]  # Ray's class has no types
    """Trains one trial after another.

    1. A trial that diverges ends as FAIL; the actor goes on with the next.
    2. Any other exception ends the actor too, because it may have left the process or its device in any state.
    3. A checkpoint from a mirror may be ahead of the journal from the same mirror, and epochs between the two would be
       in no table: such a trial begins again, and its numbers are the same.
    4. Running out of memory and a disk that refuses have exceptions of their own: the driver does not blame the trial.
    """

    def setup(
        self,
        config: dict[str, Any],
        *,
        readings: str = READINGS,
        threads: int = 1,
        corpus: Any = None,
        mirror: tuple[str, str] | None = None,
    ) -> None:
        """What is the same for all trials: where they come from, threads, corpus, the place of their copies."""
        self._place = mirror
        self._copy: TrialCopy | None = None
        self._source, self._threads, self._table = readings, threads, corpus
        self._readings: Readings | None = None
        self._corpus: Any = None
        self._epochs: Iterator[list[Reading]] | None = None
        self.reset_config(config)

    def reset_config(self, new_config: dict[str, Any]) -> bool:
        """Take a new task and let go of everything that the last one held.

        1. Its name goes to the actor's log, where Ray's dashboard shows what the actor is and was doing.
        """
        self.cleanup()
        self._task: Task = new_config["task"]
        sys.stdout.write(f"{self._task.name}\n")
        sys.stdout.flush()
        return True

    def __repr__(self) -> str:
        """What Ray's dashboard calls an actor, for as long as it lives: the trial that it began with."""
        return f"{self._task.name}..."

    def step(self) -> dict[str, Any]:
        """Train one epoch; the result is its readings, or how the trial ended."""
        title(self._task.name)
        began = time.perf_counter()
        try:
            readings = self._next()
        except StopIteration:
            if self._copy is not None:
                self._copy.push(at_once=True)  # nobody asks for the trial again
            return ended("COMPLETE")
        except Diverged as error:
            return ended("FAIL", str(error))
        except Exception as error:
            raise crash(error, traceback.format_exc()) from None
        seconds = time.perf_counter() - began
        if self._copy is not None:
            self._copy.push()
        return {"epoch": readings[0].epoch, "readings": as_rows(readings), "seconds": seconds}

    def cleanup(self) -> None:
        """Close the iterator, which frees the model."""
        close = getattr(self._epochs, "close", None)
        if close is not None:
            close()
            if self._copy is not None:
                self._copy.push(at_once=True)
        self._epochs = self._copy = None

    def save_checkpoint(self, checkpoint_dir: str) -> dict[str, Any]:
        """Nothing for Ray to keep: a trial's checkpoint lies in its own folder."""
        return {}

    def load_checkpoint(self, checkpoint: dict[str, Any] | None) -> None:
        """Nothing to load: see `save_checkpoint`."""

    def _next(self) -> list[Reading]:
        if self._epochs is not None:
            return next(self._epochs)
        self._prepare()
        directory = Path(self._task.directory)
        directory.mkdir(parents=True, exist_ok=True)
        if self._place is not None:
            uri, folder = self._place
            self._copy = TrialCopy(directory, place(uri) / folder / self._task.trial)
            self._copy.pull()
        first = next(self._begin(directory))
        if first[0].epoch > self._task.epoch + 1:
            (directory / LAST).unlink(missing_ok=True)
            first = next(self._begin(directory))
        return first

    def _begin(self, directory: Path) -> Iterator[list[Reading]]:
        assert self._readings is not None
        self._epochs = iter(self._readings(self._task.config, directory=directory, corpus=self._corpus))
        return self._epochs

    def _prepare(self) -> None:
        """Import torch and map the corpus, once per actor and not before there is something to train."""
        if self._readings is not None:
            return
        import torch

        torch.set_num_threads(self._threads)
        module, _, name = self._source.partition(":")
        if self._table is not None:
            from flowsearch.text import from_arrow

            self._corpus = from_arrow(self._table)
        self._readings = getattr(importlib.import_module(module), name)


def title(name: str) -> None:
    """What `ps`, and the list of a node's workers in Ray's dashboard, call this process while it trains."""
    setproctitle = getattr(ray._raylet, "setproctitle", None)  # Ray's own copy; after a call Ray puts its title back
    if setproctitle is not None and ray.is_initialized():
        setproctitle(f"ray::{name}")


def crash(error: Exception, trace: str) -> Crash:
    """What the driver is told of an exception."""
    summary = f"{type(error).__name__}: {error}".strip().partition("\n")[0]
    if refuses(error):
        assert isinstance(error, OSError)
        return DiskRefused(summary, trace, int(error.errno or 0))
    return (OutOfMemory if is_out_of_memory(error) else Crash)(summary, trace)


def is_out_of_memory(error: Exception) -> bool:
    """Whether Python, a GPU or torch's allocator on a CPU had no more memory to give.

    >>> is_out_of_memory(MemoryError()), is_out_of_memory(RuntimeError("[enforce fail at alloc_cpu.cpp:124] ..."))
    (True, True)
    """
    import torch

    return isinstance(error, MemoryError | torch.OutOfMemoryError) or "alloc_cpu.cpp" in str(error)


def ended(state: str, reason: str | None = None, trace: str | None = None) -> dict[str, Any]:
    """The last result of a trial: it carries no readings, because Ray hands it to the searcher alone."""
    return {"done": True, "state": state, "reason": reason, "trace": trace}
