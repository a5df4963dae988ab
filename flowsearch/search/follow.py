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
6. A storage that has part of the study already, from a follower that ended, gets the rest; so does one that a follower
   was killed in before it had said whose study it is. What it has must be what the journal says.
7. One follower at a time writes a study: what another one, or a person in the browser, has put there is left alone,
   and no row is written under a number that is taken.
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
from optuna.exceptions import DuplicatedStudyError, ExperimentalWarning, UpdateFinishedTrialError
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

GIVEN = ("label", "seed", "phase")
"""What a trial is told when it starts, as user attributes: by them a trial is known again."""

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

    def explains(self, held: FrozenTrial, objectives: Mapping[str, str]) -> bool:
        """Whether a storage's trial can come from this one; its curve may end earlier."""
        if held.user_attrs and any(held.user_attrs.get(name) != self.attributes.get(name) for name in GIVEN):
            return False
        if held.params and self.params and held.params != self.params:
            return False
        return not held.state.is_finished() or (held.state, held.values) == self.outcome(objectives)

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
        StudyError: the storage has another study of that name, or what the journal does not say; or it is to have a
            study that has not begun.
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
        self._study_id = self._joined(is_kept=storage is not None)
        self._held = {one.number: one for one in self.storage.get_all_trials(self._study_id)}
        self._is_compared = False
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
        """Take in what the journal has gained since the last time.

        Raises:
            StudyError: somebody else has changed the study in the storage, or deleted it.
        """
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
            self._compare()
            try:
                for number in sorted(changed):
                    self._write(number)
            except KeyError as error:
                raise StudyError(
                    f"{self._folder.name}: the study was deleted from the storage; the same command makes it anew"
                ) from error
            self._offset = found.end

    def start(self, number: int, event: Mapping[str, Any]) -> bool:
        """A trial begins, or begins again."""
        if number in self._told:
            return False
        attributes = {name: event[name] for name in GIVEN if event.get(name) is not None}
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

    def _joined(self, *, is_kept: bool) -> int:
        """The study in the storage, which is made if it is not there; one that is kept must have begun, or nothing
        would tell it from others."""
        name, events = self._folder.name, read(self._folder / JOURNAL).events
        if is_kept and not events:
            raise StudyError(f"{name}: the study has not begun yet; try again when its first trial runs")
        origin = events[0].get("time") if events else None
        directions = [StudyDirection[direction.upper()] for direction in self._objectives.values()]
        study_id = self._named(name, directions)
        held = self.storage.get_study_user_attrs(study_id)
        is_ours = held[ORIGIN] == origin if ORIGIN in held else not self.storage.get_all_trials(study_id)
        if not is_ours:
            raise self._refusal("the storage has another study of that name")
        if self.storage.get_study_directions(study_id) != directions:
            raise self._refusal("the study in the storage has other objectives than the study's space")
        if ORIGIN not in held:
            self._claim(study_id, origin)
        return study_id

    def _named(self, name: str, directions: list[StudyDirection]) -> int:
        """The study of that name, whoever makes it."""
        try:
            return self.storage.get_study_id_from_name(name)
        except KeyError:
            pass
        try:
            return self.storage.create_new_study(directions, name)
        except DuplicatedStudyError:
            return self.storage.get_study_id_from_name(name)

    def _claim(self, study_id: int, origin: float | None) -> None:
        """Say whose study it is, last of all: until then it may be claimed again."""
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ExperimentalWarning)
            self.study.set_metric_names([f"validation {objective}" for objective in self._objectives])
        self.storage.set_study_user_attr(study_id, ORIGIN, origin)

    def _compare(self) -> None:
        """Once, when the journal is known: nothing is added to what it does not explain."""
        if self._is_compared:
            return
        self._is_compared = True
        for number, held in self._held.items():
            told = self._told.get(number)
            is_lost = told is None and number < max(self._told, default=0)
            if not is_lost and (told is None or not told.explains(held, self._objectives)):
                raise self._refusal(f"trial {number} in the storage is not the journal's")

    def _refusal(self, why: str) -> StudyError:
        """An error with the way out."""
        name = self._folder.name
        return StudyError(
            f"{name}: {why}, and only a study's own follower changes it; "
            f"optuna delete-study --study-name {name} --storage URL makes room, then start again"
        )

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
        try:
            self._update(held, told)
        except UpdateFinishedTrialError as error:
            if not told.explains(self.storage.get_trial(held._trial_id), self._objectives):
                raise self._refusal(f"somebody else has ended trial {number} in the storage") from error
        self._held[number] = self.storage.get_trial(held._trial_id)

    def _update(self, held: FrozenTrial, told: Told) -> None:
        """Write what a trial of the storage lacks."""
        for epoch in told.curve.keys() - held.intermediate_values.keys():
            self.storage.set_trial_intermediate_value(held._trial_id, epoch, told.curve[epoch])
        for name, value in told.attributes.items():
            if held.user_attrs.get(name) != value:
                self.storage.set_trial_user_attr(held._trial_id, name, value)
        state, values = told.outcome(self._objectives)
        if state.is_finished():
            self.storage.set_trial_state_values(held._trial_id, state, values)

    def _add(self, told: Told) -> None:
        number = len(self._held)
        if self._is_taken(number):
            raise self._refusal(f"somebody else writes this study, too: trial {number} is there")
        try:
            trial_id = self.storage.create_new_trial(self._study_id, told.frozen(self._objectives))
        except ValueError:
            bare = replace(told, params={}, distributions={})
            trial_id = self.storage.create_new_trial(self._study_id, bare.frozen(self._objectives))
        trial = self.storage.get_trial(trial_id)
        if trial.number != number:
            raise self._refusal(f"somebody else writes this study, too: trial {number} is there")
        self._held[number] = trial

    def _is_taken(self, number: int) -> bool:
        try:
            self.storage.get_trial_id_from_study_id_trial_number(self._study_id, number)
        except KeyError:
            return False
        return True


STEPS: Mapping[str, Callable[[Follower, int, Mapping[str, Any]], bool]] = {
    "start": Follower.start,
    "report": Follower.report,
    "finish": Follower.finish,
}
"""What follows from an event; whether it changes the trial."""


def moment(time_: float | None) -> datetime | None:
    """A time of the journal as Optuna has it: local, without a zone."""
    return None if time_ is None else datetime.fromtimestamp(time_)
