"""Ray Tune's scheduler, as a thin adaptor: first come, first served, and every report goes through the recorder.

Ray asks its scheduler about a result before its searcher hears of it, and a result marked done reaches the searcher
alone. So a worker's last result carries no readings: every epoch passes here once, every end passes the searcher
once.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from ray import cloudpickle
from ray.exceptions import ActorUnavailableError, RayActorError, RayTaskError
from ray.exceptions import OutOfMemoryError as RayOutOfMemory
from ray.tune.experiment import Trial
from ray.tune.schedulers import FIFOScheduler, TrialScheduler

from flowsearch.search.asktell import Verdict
from flowsearch.search.recorder import Recorder
from flowsearch.search.task import Crash, DiskRefused, OutOfMemory, as_readings


class RecordingScheduler(FIFOScheduler):  # type: ignore[misc]  # Ray's class has no types
    """Records what workers report and stops the trials that the pruner gives up.

    Args:
        recorder: of the study.
    """

    def __init__(self, recorder: Recorder) -> None:
        super().__init__()
        self._recorder = recorder

    @property
    def supports_buffered_results(self) -> bool:
        """A report counts when it is recorded, so none may wait in a worker."""
        return False

    def on_trial_result(self, tune_controller: Any, trial: Trial, result: dict[str, Any]) -> str:
        """Record an epoch; stop the trial if that was its last, or its last for now."""
        epoch = result["epoch"]
        readings = as_readings(result["readings"], epoch)
        stops = self._recorder.report(trial.config["task"].trial, epoch, readings, result["seconds"])
        return TrialScheduler.STOP if stops or self._recorder.draining else TrialScheduler.CONTINUE

    def on_trial_error(self, tune_controller: Any, trial: Trial) -> None:
        """A trial that raised FAILs with its reason; one that was hit by something else is handed out again."""
        number, error = trial.config["task"].trial, _error(trial)
        cause = error.cause if isinstance(error, RayTaskError) else error
        if isinstance(cause, DiskRefused):
            self._recorder.refuse(OSError(cause.number, cause.reason))
        elif isinstance(cause, OutOfMemory):
            self._recorder.out_of_memory(number, cause.trace)
        elif isinstance(cause, RayOutOfMemory):
            self._recorder.out_of_memory(number, str(cause))
        elif isinstance(cause, Crash):
            self._recorder.finish(number, Verdict("FAIL", cause.reason), cause.trace)
        elif isinstance(cause, RayActorError):
            if is_of_node(cause):
                self._recorder.lost(number, "its node was lost", counts=False)
            else:
                self._recorder.lost(number, f"its worker died: {_first_line(cause)}")
        else:
            self._recorder.finish(number, Verdict("FAIL", _first_line(cause)), str(error))


def is_of_node(error: RayActorError) -> bool:
    """Whether a worker is gone because its whole node is: preempted, drained or dead.

    1. Ray marks a preemption; any other death of a node it tells in words alone.
    2. It takes Ray some seconds to find a node dead. Until then its workers cannot be reached, which those that died
       alone are not said to be.
    """
    unreachable = isinstance(error, ActorUnavailableError)
    return unreachable or bool(error.preempted) or "its node has died" in str(error)


def _error(trial: Trial) -> Any:
    """What Ray wrote down about a failure a moment ago."""
    return cloudpickle.loads(Path(trial.pickled_error_file).read_bytes()) if trial.pickled_error_file else None


def _first_line(error: Any) -> str:
    return str(error).strip().partition("\n")[0] or type(error).__name__
