"""Gauges on Ray's own Prometheus endpoint: what a search measures, beside what Ray measures of its machines.

Each node serves its metrics on the port that `ray.nodes()` names, and Ray keeps a list of all of them for Prometheus,
where a gauge has the prefix `ray_`. `cluster/grafana/flowsearch.json` draws them.

1. Ray forgets a value that was not set for two of its reporting intervals, 20 s, and an epoch may take hours: those of
   running trials and of the study are set again every `REFRESH` seconds. A trial that has ended is gone soon after;
   Prometheus has its history.
2. A value that is not a number is shown as it is: Prometheus knows NaN.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable
from functools import cached_property
from typing import Any

from flowsearch.results.journal import STATES
from flowsearch.search.asktell import AskTell, Trial
from flowsearch.search.recorder import Watcher

REFRESH = 5.0
"""Seconds between two times at which everything is set again."""

PREFIX = "ray_"
"""What Ray puts before the name of every gauge."""

OF_TRIALS = {
    "flowsearch_validation_elbo": ("elbo", "Validation ELBO of a trial's last epoch, nats per document."),
    "flowsearch_validation_kl": ("kl", "Validation KL of a trial's last epoch, nats per document."),
    "flowsearch_active_units": ("active_units", "Active units of a trial's last epoch, latent dimensions."),
}
"""Gauges with a value for each trial: which metric, and what it is."""

TRIALS = "flowsearch_trials", "Trials of the study in each state."
GPU_SECONDS = "flowsearch_gpu_seconds", "Seconds of recorded epochs of all trials, times GPUs per trial."

BEST = "flowsearch_best_validation_elbo", "Best validation ELBO of any trial so far, nats per document."

GAUGES: dict[str, tuple[str, ...]] = {
    **dict.fromkeys(OF_TRIALS, ("study", "trial")),
    TRIALS[0]: ("study", "state"),
    GPU_SECONDS[0]: ("study",),
    BEST[0]: ("study",),
}
"""Every gauge, and its tags."""


class Gauges(Watcher):
    """Sets the gauges; Ray must be running when it is first told something.

    Args:
        search: what is measured.
        clock: seconds, from any origin.
    """

    def __init__(self, search: AskTell, clock: Callable[[], float] = time.monotonic) -> None:
        self._search, self._clock = search, clock
        self._due = clock() + REFRESH

    @cached_property
    def _gauges(self) -> dict[str, Any]:
        from ray.util.metrics import Gauge

        about = {name: text for name, (_, text) in OF_TRIALS.items()} | dict([TRIALS, GPU_SECONDS, BEST])
        return {name: Gauge(name, description=about[name], tag_keys=tags) for name, tags in GAUGES.items()}

    def started(self, trial: Trial) -> None:
        self._study()

    def reported(self, trial: Trial, epoch: int) -> None:
        self._trial(trial)
        self._study()

    def finished(self, trial: Trial) -> None:
        self._study()

    def tick(self) -> None:
        """Set everything again, if it is time; called several times a second."""
        if self._clock() >= self._due:
            for trial in self._search.trials:
                if trial.state == "RUNNING":
                    self._trial(trial)
            self._study()
            self._due = self._clock() + REFRESH

    def _trial(self, trial: Trial) -> None:
        for name, (metric, _) in OF_TRIALS.items():
            if metric in trial.latest:
                self._set(name, trial.latest[metric], trial=str(trial.number))

    def _study(self) -> None:
        trials = self._search.trials
        counts = Counter(one.state for one in trials)
        for state in STATES:
            self._set(TRIALS[0], counts[state], state=state)
        seconds = sum(one.seconds for one in trials)
        self._set(GPU_SECONDS[0], seconds * float(self._search.space.resources.gpus_per_trial))
        known = [one for one in trials if one.value is not None]
        bounds = [one for one in known if one.is_bound] or known
        if bounds:
            self._set(BEST[0], max(one.value for one in bounds if one.value is not None))

    def _set(self, name: str, value: float, **tags: str) -> None:
        self._gauges[name].set(value, tags={"study": self._search.space.study, **tags})
