"""Ray Tune's scheduler, as a thin adaptor: first come, first served, and every report goes through the recorder.

Ray asks its scheduler about a result before its searcher hears of it, and a result marked done reaches the searcher
alone. So a worker's last result carries no readings: every epoch passes here once, every end passes the searcher
once.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from ray import cloudpickle
from ray.exceptions import RayActorError, RayTaskError
from ray.tune.experiment import Trial
from ray.tune.schedulers import FIFOScheduler, TrialScheduler

from flowsearch.search.asktell import Verdict
from flowsearch.search.recorder import Recorder
from flowsearch.search.task import Crash, as_readings


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
        """Record an epoch; stop the trial if that was its last."""
        epoch = result["epoch"]
        readings = as_readings(result["readings"], epoch)
        stops = self._recorder.report(trial.config["task"].trial, epoch, readings, result["seconds"])
        return TrialScheduler.STOP if stops else TrialScheduler.CONTINUE

    def on_trial_error(self, tune_controller: Any, trial: Trial) -> None:
        """A trial that raised FAILs with its reason; one whose worker died is handed out again."""
        number, error = trial.config["task"].trial, _error(trial)
        cause = error.cause if isinstance(error, RayTaskError) else error
        if isinstance(cause, Crash):
            self._recorder.finish(number, Verdict("FAIL", cause.reason), cause.trace)
        elif isinstance(cause, RayActorError):
            self._recorder.lost(number, f"its worker died: {_first_line(cause)}")
        else:
            self._recorder.finish(number, Verdict("FAIL", _first_line(cause)), str(error))


def _error(trial: Trial) -> Any:
    """What Ray wrote down about a failure a moment ago."""
    return cloudpickle.loads(Path(trial.pickled_error_file).read_bytes()) if trial.pickled_error_file else None


def _first_line(error: Any) -> str:
    return str(error).strip().partition("\n")[0] or type(error).__name__
