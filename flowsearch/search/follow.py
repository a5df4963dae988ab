"""A study's journal as an Optuna study, in any Optuna storage, which grows as the journal does.

    follower = Follower(find(results, "iaf"))
    follower.follow()                        # takes in what the journal has gained
    follower.storage                         # for optuna-dashboard, or Optuna's own plots

The journal is read, never written: whatever happens to the storage changes nothing that was measured.

1. The journal is looked at when `follow` is called, at most once in `FRESH` seconds.
2. Curves are intermediate values, an epoch each, those of the warm-up included: what was measured, not what the pruner
   saw. NaN is kept.
3. A trial has the number of its Optuna trial, also where the journal has lost a start. A trial that confirms has the
   user attribute `phase`.
4. Recorded parameters that the space no longer has leave a trial without parameters; so do those whose range is not
   the one that the storage has them from.
5. A COMPLETE trial has the values of its epoch with the best ELBO; a PRUNED one has that of its last, as in Optuna.
6. A storage that has part of the study already, from a follower that ended, gets the rest.
"""

from __future__ import annotations

import math
import threading
import time
import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime
from pathlib import Path
from typing import Any

import optuna
from optuna.distributions import BaseDistribution
from optuna.exceptions import ExperimentalWarning
from optuna.storages import BaseStorage, InMemoryStorage
from optuna.study import StudyDirection
from optuna.trial import FixedTrial, FrozenTrial, TrialState

from flowsearch.errors import SpaceError, StudyError
from flowsearch.results import read
from flowsearch.results.store import JOURNAL
from flowsearch.search.space import Space, draw, load, rebuild

FRESH = 1.0
"""Seconds for which what was read of the journal is taken to be all of it."""

SHOWN = ("kl", "active_units", "ppl", "mutual_information")
"""Metrics of the latest validation reading that a trial has as user attributes."""

ORIGIN = "flowsearch:began"
"""Attribute of a study in a storage: the time of its journal's first event, which no other study has."""


@dataclass
class Told:
    """A trial as far as the journal tells.

    Args:
        params: as recorded, if the space has them.
        distributions: where they come from.
        attributes: the user attributes.
        began: when it was first handed out.
        curve: epoch to validation ELBO, nats per document.
        best: the validation reading of its best epoch.
        state: as Optuna has them.
        ended: when.
    """

    params: Mapping[str, Any] = field(default_factory=dict)
    distributions: Mapping[str, BaseDistribution] = field(default_factory=dict)
    attributes: dict[str, Any] = field(default_factory=dict)
    began: float | None = None
    curve: dict[int, float] = field(default_factory=dict)
    best: Mapping[str, float] = field(default_factory=dict)
    state: TrialState = TrialState.RUNNING
    ended: float | None = None

    def outcome(self, objectives: Mapping[str, str]) -> tuple[TrialState, list[float] | None]:
        """State and values in Optuna's terms: COMPLETE only with every value."""
        if self.state is TrialState.PRUNED and len(objectives) == 1 and self.curve:
            last = list(self.curve.values())[-1]
            return self.state, None if math.isnan(last) else [last]
        if self.state is not TrialState.COMPLETE:
            return self.state, None
        values = [self.best.get(name, math.nan) for name in objectives]
        return (self.state, values) if all(map(math.isfinite, values)) else (TrialState.FAIL, None)

    def frozen(self, objectives: Mapping[str, str]) -> FrozenTrial:
        """The whole trial, for a storage that does not have it."""
        state, values = self.outcome(objectives)
        return FrozenTrial(
            number=-1,
            trial_id=-1,
            state=state,
            value=None,
            values=values,
            datetime_start=moment(self.began),
            datetime_complete=moment(self.ended) if state.is_finished() else None,
            params=dict(self.params),
            distributions=dict(self.distributions),
            user_attrs=dict(self.attributes),
            system_attrs={},
            intermediate_values=dict(self.curve),
        )


class Follower:
    """Keeps an Optuna study as a journal has it.

    Args:
        folder: of the study.
        storage: where the Optuna study is, or is to be; a new one in memory if None.
        clock: seconds, from any origin.

    Raises:
        SpaceError: the study's own space cannot be read.
        StudyError: the storage has another study of that name.
    """

    def __init__(
        self, folder: Path, storage: BaseStorage | None = None, clock: Callable[[], float] = time.monotonic
    ) -> None:
        optuna.logging.set_verbosity(optuna.logging.WARNING)
        self._folder, self._clock = folder, clock
        self._space: Space = load(folder / "space.yaml")
        self._objectives = self._space.search.objectives
        self._lock = threading.Lock()
        self._offset, self._read = 0, -FRESH
        self._told: dict[int, Told] = {}
        self.storage = storage or InMemoryStorage()
        self._study_id = self._joined()
        self._held = {one.number: one for one in self.storage.get_all_trials(self._study_id)}
        self.follow()

    @property
    def study(self) -> optuna.Study:
        """The study in the storage."""
        return optuna.load_study(
            study_name=self._folder.name, storage=self.storage, sampler=optuna.samplers.RandomSampler(seed=0)
        )

    def count(self) -> int:
        """Trials that the storage has."""
        return len(self._held)

    def follow(self) -> None:
        """Take in what the journal has gained since the last time."""
        with self._lock:
            if self._clock() - self._read < FRESH:
                return
            self._read = self._clock()
            found = read(self._folder / JOURNAL, self._offset)
            changed = set()
            for event in found.events:
                step = STEPS.get(event["event"])
                if step is not None and step(self, int(event["trial"]), event):
                    changed.add(int(event["trial"]))
            for number in sorted(changed):
                self._write(number)
            self._offset = found.end

    def start(self, number: int, event: Mapping[str, Any]) -> bool:
        """A trial begins, or begins again."""
        if number in self._told:
            return False
        names = ("label", "seed", "phase")
        attributes = {name: event[name] for name in names if event.get(name) is not None}
        params, distributions = self._placed(event["params"])
        self._told[number] = Told(params, distributions, attributes, event.get("time"))
        return True

    def report(self, number: int, event: Mapping[str, Any]) -> bool:
        """An epoch was measured."""
        told = self._told.get(number)
        valid = next((one["values"] for one in event["readings"] if one["split"] == "valid"), None)
        if told is None or told.state.is_finished() or valid is None or "elbo" not in valid:
            return False
        elbo = float(valid["elbo"])
        told.curve[int(event["epoch"])] = elbo
        if elbo > told.best.get("elbo", -math.inf):
            told.best = valid
        told.attributes |= {name: valid[name] for name in SHOWN if name in valid}
        return True

    def finish(self, number: int, event: Mapping[str, Any]) -> bool:
        """A trial ends."""
        told = self._told.get(number)
        if told is None or told.state.is_finished():
            return False
        names = ("reason", "seconds", "best_epoch")
        told.attributes |= {name: event[name] for name in names if event.get(name) is not None}
        told.state, told.ended = TrialState[event["state"]], event.get("time")
        return True

    def _joined(self) -> int:
        """The study in the storage, which is made if it is not there."""
        name, origin = self._folder.name, self._origin()
        try:
            study_id = self.storage.get_study_id_from_name(name)
        except KeyError:
            directions = [StudyDirection[direction.upper()] for direction in self._objectives.values()]
            study_id = self.storage.create_new_study(directions, name)
            self.storage.set_study_user_attr(study_id, ORIGIN, origin)
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", ExperimentalWarning)
                self.study.set_metric_names([f"validation {objective}" for objective in self._objectives])
        if self.storage.get_study_user_attrs(study_id).get(ORIGIN) != origin:
            raise StudyError(
                f"{name}: the storage has another study of that name, and only a study's own follower changes it; "
                f"optuna delete-study --study-name {name} --storage URL makes room"
            )
        return study_id

    def _origin(self) -> float | None:
        events = read(self._folder / JOURNAL).events
        return events[0].get("time") if events else None

    def _placed(self, params: Mapping[str, Any]) -> tuple[Mapping[str, Any], Mapping[str, BaseDistribution]]:
        """Parameters and their ranges, if the space has them."""
        try:
            rebuild(self._space, params)
        except SpaceError:
            return {}, {}
        asked = FixedTrial(dict(params))
        draw(self._space, asked)
        return asked.params, asked.distributions

    def _write(self, number: int) -> None:
        """Bring one trial of the storage up to date."""
        while len(self._held) < number:
            self._add(Told())  # whose start the journal has lost
        if number not in self._held:
            self._add(self._told[number])
            return
        told, held = self._told[number], self._held[number]
        if held.state.is_finished():
            return
        for epoch in told.curve.keys() - held.intermediate_values.keys():
            self.storage.set_trial_intermediate_value(held._trial_id, epoch, told.curve[epoch])
        for name, value in told.attributes.items():
            if held.user_attrs.get(name) != value:
                self.storage.set_trial_user_attr(held._trial_id, name, value)
        state, values = told.outcome(self._objectives)
        if state.is_finished():
            self.storage.set_trial_state_values(held._trial_id, state, values)
        self._held[number] = self.storage.get_trial(held._trial_id)

    def _add(self, told: Told) -> None:
        number = len(self._held)
        try:
            trial_id = self.storage.create_new_trial(self._study_id, told.frozen(self._objectives))
        except ValueError:
            bare = replace(told, params={}, distributions={})
            trial_id = self.storage.create_new_trial(self._study_id, bare.frozen(self._objectives))
        trial = self.storage.get_trial(trial_id)
        if trial.number != number:
            raise StudyError(f"{self._folder.name}: somebody else writes this study into the storage")
        self._held[number] = trial


STEPS: Mapping[str, Callable[[Follower, int, Mapping[str, Any]], bool]] = {
    "start": Follower.start,
    "report": Follower.report,
    "finish": Follower.finish,
}
"""What follows from an event; whether it changes the trial."""


def moment(time_: float | None) -> datetime | None:
    """A time of the journal as Optuna has it: local, without a zone."""
    return None if time_ is None else datetime.fromtimestamp(time_)
