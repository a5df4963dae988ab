"""Ray Tune's searcher, as a thin adaptor: what to run next comes from the recorder.

Ray's own `OptunaSearch` forces a pruner that never prunes, calls stopped trials COMPLETE and loses the value at which a
trial was stopped; so Optuna is asked and told by `AskTell`, and Ray only carries tasks to actors and results back.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from ray.tune.search import Searcher

from flowsearch.search.asktell import Verdict
from flowsearch.search.recorder import Recorder


class StudySearcher(Searcher):  # type: ignore[misc]  # Ray's class has no types
    """Hands the recorder's tasks to Ray and takes in how they end.

    Args:
        recorder: of the study.
    """

    def __init__(self, recorder: Recorder) -> None:
        super().__init__()
        self._recorder = recorder
        self._numbers: dict[str, int] = {}

    def suggest(self, trial_id: str) -> dict[str, Any] | str | None:
        """The next task; None while trials are running that may yet be handed out again."""
        task = None if self._recorder.draining else self._recorder.next()
        if task is None:
            waits = self._recorder.running and not self._recorder.draining
            return None if waits else Searcher.FINISHED
        self._numbers[trial_id] = task.trial
        return {"task": task}

    def on_trial_complete(self, trial_id: str, result: dict[str, Any] | None = None, error: bool = False) -> None:
        """The last result of a trial carries its end; a crash has been recorded by the scheduler, which sees the
        cause."""
        number = self._numbers.pop(trial_id)
        if not error and result and "state" in result:
            self._recorder.finish(number, Verdict(result["state"], result["reason"]), result["trace"])

    def save(self, checkpoint_path: str) -> None:
        """Nothing: the journal is the truth."""
        Path(checkpoint_path).touch()

    def restore(self, checkpoint_path: str) -> None:
        """Nothing: `flowsearch.search.resume` reads the journal."""
