"""Gauges on Ray's own Prometheus endpoint: what a search measures, beside what Ray measures of its machines.

Each node serves its metrics on the port that `ray.nodes()` names, and Ray keeps a list of all of them for Prometheus,
where a gauge has the prefix `ray_`. `cluster/grafana/flowsearch.json` draws them.

1. A trial that has ended keeps its last values for as long as the driver runs.
2. A value that is not a number is shown as it is: Prometheus knows NaN.
"""

from __future__ import annotations

from collections import Counter
from functools import cached_property
from typing import Any

from flowsearch.results.journal import STATES
from flowsearch.search.asktell import AskTell, Trial
from flowsearch.search.recorder import Watcher

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

GAUGES: dict[str, tuple[str, ...]] = {
    **dict.fromkeys(OF_TRIALS, ("study", "trial")),
    TRIALS[0]: ("study", "state"),
    GPU_SECONDS[0]: ("study",),
}
"""Every gauge, and its tags."""


class Gauges(Watcher):
    """Sets the gauges; Ray must be running when it is first told something.

    Args:
        search: what is measured.
    """

    def __init__(self, search: AskTell) -> None:
        self._search = search

    @cached_property
    def _gauges(self) -> dict[str, Any]:
        from ray.util.metrics import Gauge

        about = {name: text for name, (_, text) in OF_TRIALS.items()} | dict([TRIALS, GPU_SECONDS])
        return {name: Gauge(name, description=about[name], tag_keys=tags) for name, tags in GAUGES.items()}

    def started(self, trial: Trial) -> None:
        self._count()

    def reported(self, trial: Trial, epoch: int) -> None:
        tags = {"study": self._search.space.study, "trial": str(trial.number)}
        for name, (metric, _) in OF_TRIALS.items():
            if metric in trial.latest:
                self._gauges[name].set(trial.latest[metric], tags=tags)
        seconds = sum(one.seconds for one in self._search.trials)
        gpus = float(self._search.space.resources.gpus_per_trial)
        self._gauges[GPU_SECONDS[0]].set(seconds * gpus, tags={"study": self._search.space.study})

    def finished(self, trial: Trial) -> None:
        self._count()

    def _count(self) -> None:
        counts = Counter(one.state for one in self._search.trials)
        for state in STATES:
            tags = {"study": self._search.space.study, "state": state}
            self._gauges[TRIALS[0]].set(counts[state], tags=tags)
