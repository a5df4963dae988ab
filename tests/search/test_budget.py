"""A study stays inside its budget: decided by numbers and a clock that is turned by hand."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterator
from io import StringIO
from pathlib import Path
from typing import Any

import fake_trials
import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console
from toy_spaces import MakeSpace

from flowsearch.errors import SpaceError
from flowsearch.results import Journal, fold, read
from flowsearch.search.asktell import AskTell, Trial, Verdict
from flowsearch.search.budget import HOUR, Meter, Spending, driven, expected, longest_epoch
from flowsearch.search.recorder import Recorder, Watcher
from flowsearch.search.resume import replay, unfinished
from flowsearch.search.space import Space
from flowsearch.search.study import run_space

EPOCHS, BEATS = 9, 12


class Clock:
    """Seconds, turned by hand."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


def trial(number: int, seconds: float, epochs: int, state: str = "RUNNING") -> Trial:
    config = {"training": {"epochs": EPOCHS}}
    one = Trial(number, {}, config, 0, "VAE", state=state, seconds=seconds)
    one.elbo = dict.fromkeys(range(1, epochs + 1), -9.0)
    return one


def test_a_trial_is_expected_to_take_what_others_took() -> None:
    assert expected([]) == expected([trial(0, 0.0, 0)]) == 0
    assert expected([trial(0, 4.0, 2), trial(1, 3.0, 1)]) == 3.0 * EPOCHS
    ended = [trial(0, 90.0, 9, "COMPLETE"), trial(1, 10.0, 1, "PRUNED")]
    assert expected(ended) == 50.0
    assert expected([*ended, trial(2, 80.0, 8)]) == 90.0
    assert longest_epoch([*ended, trial(2, 24.0, 2)]) == 12.0


def spending(**given: float) -> Spending:
    return Spending("hours", **{"limit": 1000.0, "spent": 0.0, "promised": 0.0, "unreported": 0.0} | given)


def test_what_fits_ends_before_the_margin() -> None:
    assert spending().usable == 950.0
    assert spending(limit=1e6).usable == 1e6 - 300
    assert spending(spent=500.0, promised=400.0).fits(50.0)
    assert not spending(spent=500.0, promised=400.0).fits(51.0)


def test_closing_comes_before_over() -> None:
    assert not spending(spent=900.0, unreported=40.0).is_closing
    assert spending(spent=900.0, unreported=50.0).is_closing
    assert not spending(spent=949.0, unreported=50.0).is_over
    assert spending(spent=950.0).is_over


@given(st.floats(1, 1e6), st.floats(0, 2e6), st.floats(0, 1e5), st.floats(0, 1e5), st.floats(0, 1e5))
def test_what_is_over_is_closing_and_takes_no_trial(
    limit: float, spent: float, promised: float, unreported: float, length: float
) -> None:
    one = Spending("hours", limit, spent, promised, unreported)
    assert one.is_closing or not one.is_over
    assert not (one.is_over and length and one.fits(length))


def test_only_time_with_a_driver_counts() -> None:
    def at(event: str, time: float) -> dict[str, Any]:
        return {"event": event, "time": time}

    session = [at("study", 0), at("start", 5), at("report", 60), at("compacted", 70), at("report", 100)]
    assert driven(session) == 100
    assert driven([*session, at("compacted", 9000), at("study", 10_000), at("finish", 10_030)]) == 130
    assert driven([at("study", 100), at("report", 50), at("report", 60)]) == 10
    assert driven([]) == driven([at("report", 5)]) == 0


@pytest.mark.parametrize("given", [{}, {"hours": 0}, {"hours": -1.0}, {"minutes": 3}, {"hours": "x"}, 20])
def test_a_budget_that_limits_nothing_is_refused(make_space: MakeSpace, given: Any) -> None:
    with pytest.raises(SpaceError, match=r"search\.budget"):
        make_space(search={"trials": 2, "budget": given})


def drive(space: Space, folder: Path, clock: Clock, *, workers: int, epoch: float) -> tuple[AskTell, Meter]:
    """What a driver does: `workers` trials at a time, each epoch taking `epoch` seconds on each worker."""
    folder.mkdir(exist_ok=True)
    path = folder / "journal.jsonl"
    events = read(path).events if path.exists() else []
    search, _ = replay(space, events)
    meter = Meter(search, events, clock)
    with Journal(path) as journal:
        journal.append({"event": "study", "time": clock.now})
        recorder = Recorder(search, Timed(journal, clock), folder, Watcher(), unfinished(search))  # type: ignore[arg-type]
        recorder.may_begin = meter.fits
        running: list[tuple[int, Iterator[Any]]] = []
        while True:
            while len(running) < workers and not recorder.draining and (task := recorder.next()):
                running.append((task.trial, fake_trials.curve(task.config, directory=Path(task.directory))))
            if not running:
                return search, meter
            for _ in range(BEATS):
                clock.now += epoch / BEATS
                recorder.draining = recorder.draining or not meter.is_open()
            running = [(number, epochs) for number, epochs in running if goes_on(recorder, number, epochs, epoch)]


def goes_on(recorder: Recorder, number: int, epochs: Iterator[Any], seconds: float) -> bool:
    measured = next(epochs, None)
    if measured is None:
        recorder.finish(number, Verdict("COMPLETE"))
        return False
    return not recorder.report(number, measured[0].epoch, measured, seconds) and not recorder.draining


class Timed:
    """A journal whose events have the time of a clock."""

    def __init__(self, journal: Journal, clock: Clock) -> None:
        self._journal, self._clock = journal, clock

    def append(self, event: Any) -> None:
        self._journal.append({"time": self._clock.now, **event})


@pytest.mark.parametrize("kind", ["hours", "trial_hours"])
@pytest.mark.parametrize("workers", [1, 3])
def test_a_study_ends_inside_its_budget_and_a_larger_one_goes_on(
    make_space: MakeSpace, tmp_path: Path, kind: str, workers: int
) -> None:
    """Epochs of 36 s, trials of 9 (and a tenth step that says COMPLETE): the first budget is too small for all."""

    def space(hours: float) -> Space:
        return make_space(search={"trials": 12, "budget": {kind: hours}})

    def spent(search: AskTell, meter: Meter) -> float:
        return (meter.wall if kind == "hours" else sum(one.seconds for one in search.trials)) / HOUR

    clock, folder = Clock(), tmp_path / "toy"
    search, meter = drive(space(0.35), folder, clock, workers=workers, epoch=36.0)
    assert 0.25 < spent(search, meter) <= 0.35
    assert 1 <= len(search.trials) < 12
    assert meter.refused is not None
    assert f"of 0.35 {kind} spent" in meter.refused
    clock.now += 1e6
    search, meter = drive(space(0.35), folder, clock, workers=workers, epoch=36.0)
    assert spent(search, meter) <= 0.35
    search, meter = drive(space(50.0), folder, clock, workers=workers, epoch=36.0)
    assert {one.state for one in search.trials} == {"COMPLETE"}
    assert len(search.trials) == 12
    assert meter.refused is None
    reported = [(e["trial"], e["epoch"]) for e in read(folder / "journal.jsonl").events if e["event"] == "report"]
    assert sorted(reported) == [(number, epoch) for number in range(12) for epoch in range(1, EPOCHS + 1)]


def test_trials_stop_at_the_end_of_an_epoch_when_there_is_no_time_for_another(
    make_space: MakeSpace, tmp_path: Path
) -> None:
    """A budget of half a trial: nothing was known when it began, so it drains, and is not pruned or failed."""
    clock = Clock()
    space = make_space(search={"trials": 3, "budget": {"hours": 0.1}})
    search, meter = drive(space, tmp_path / "toy", clock, workers=1, epoch=72.0)
    assert [one.state for one in search.trials] == ["RUNNING"]
    assert 0 < search.trials[0].last_epoch < EPOCHS
    assert meter.wall <= 0.095 * HOUR
    assert not meter.is_over()
    clock.now += 72.0
    assert meter.is_over()


@pytest.mark.slow
@pytest.mark.ray
@pytest.mark.usefixtures("ray_here")
def test_a_study_on_ray_ends_inside_its_budget_and_goes_on_with_a_larger_one(
    make_space: MakeSpace, tmp_path: Path
) -> None:
    """Trials of two seconds, of which sixty would take a minute; the budget is half of that."""

    def run(budget: float, trials: int, *, resume: bool) -> tuple[int, str, float]:
        out, began = StringIO(), time.monotonic()
        space = make_space(search={"trials": trials, "budget": {"hours": budget / HOUR}})
        console = Console(file=out, width=200)
        folder = tmp_path / "toy"
        code = run_space(space, folder=folder, readings="fake_trials:slow", console=console, resume=resume)
        return code, out.getvalue(), time.monotonic() - began

    def states() -> Counter[str]:
        return Counter(one.state for one in fold(read(tmp_path / "toy" / "journal.jsonl").events).trials.values())

    code, said, took = run(30.0, 60, resume=False)
    assert code == 0
    assert took <= 30.0
    assert "hours spent, a trial takes about" in said
    assert "a larger search.budget and --resume go on" in said
    done = states()
    assert 0 < done["COMPLETE"] < 59
    assert done["FAIL"] == done["PRUNED"] == 0
    code, said, took = run(30.0, 60, resume=True)
    assert states() == done
    code, said, _ = run(300.0, sum(done.values()) + 1, resume=True)
    assert code == 0
    assert states() == {"COMPLETE": sum(done.values()) + 1}
    assert "budget" not in said


def test_without_a_budget_everything_fits(make_space: MakeSpace) -> None:
    meter = Meter(AskTell(make_space(search={"trials": 3}), 0), [], Clock())
    assert meter.fits()
    assert meter.is_open()
    assert not meter.is_over()
    assert meter.refused is None
