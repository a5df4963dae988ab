"""Trial-hours: used, saved by pruning, and of the whole grid; closed forms by hand."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from flowsearch.report.effort import Effort, effort, sentence
from flowsearch.report.status import Status, running
from flowsearch.report.study import study_table
from flowsearch.results import Study, Trial

Make = Callable[..., Study]


def curve(number: int, epochs: int, **values: float) -> dict[tuple[int, int, str], dict[str, float]]:
    return {
        (number, epoch, split): {"elbo": -9.0, **values}
        for epoch in range(1, epochs + 1)
        for split in ("train", "valid", "test")
    }


def trial(number: int, state: str, seconds: float | None, **params: Any) -> Trial:
    return Trial(number, state, None, "VAE", 0, seconds, None, params)


def test_used_saved_and_the_grid_by_hand(study: Make) -> None:
    """Ten epochs of 1 s; pruned after 2 epochs of 3 s, so 8 of them are saved; one fails, which saves nothing."""
    trials = [trial(0, "COMPLETE", 10.0), trial(1, "PRUNED", 6.0), trial(2, "FAIL", 5.0)]
    readings = {**curve(0, 10), **curve(1, 2), **curve(2, 5)}
    assert effort(study(trials, readings)) == Effort(21.0, 24.0, None, None)
    whole = effort(study(trials, readings, grid_trials=100))
    assert whole == Effort(21.0, 24.0, 100 * (10.0 + 30.0) / 2, 100)


def test_a_trial_with_its_own_epochs_is_spared_its_own(study: Make) -> None:
    trials = [trial(0, "COMPLETE", 10.0), trial(1, "PRUNED", 6.0, **{"training.epochs": 4})]
    assert effort(study(trials, {**curve(0, 10), **curve(1, 2)})).saved == 6.0


def test_trials_that_end_early_by_themselves_say_how_long_a_trial_is(study: Make) -> None:
    trials = [trial(0, "COMPLETE", 4.0), trial(1, "COMPLETE", 8.0), trial(2, "PRUNED", 1.0)]
    assert effort(study(trials, {**curve(0, 4), **curve(1, 8), **curve(2, 1)})).saved == 5.0


def test_before_any_trial_is_complete_nobody_knows_what_was_saved(study: Make) -> None:
    trials = [trial(0, "RUNNING", None), trial(1, "PRUNED", 6.0)]
    readings = {**curve(0, 2, seconds=1.5), **curve(1, 2)}
    found = effort(study(trials, readings, grid_trials=5))
    assert found == Effort(6.0 + 6 * 1.5, None, None, 5)
    assert sentence(study(trials, readings)) == f"Cost: {15 / 3600:.3g} trial-hours used."


def test_without_any_time_nothing_is_said(study: Make) -> None:
    assert sentence(study([trial(0, "RUNNING", None)], curve(0, 1))) == ""
    assert effort(study([], {})) == Effort(0.0)


@pytest.mark.parametrize("points", ["81", None, 2.5])
def test_a_fact_that_is_no_count_is_no_grid(study: Make, points: Any) -> None:
    assert effort(study([trial(0, "COMPLETE", 1.0)], curve(0, 1), grid_trials=points)).grid is None


def test_reports_and_status_say_it(study: Make) -> None:
    trials = [trial(0, "COMPLETE", 36_000.0), trial(1, "PRUNED", 7_200.0)]
    found = study(trials, {**curve(0, 10), **curve(1, 2)}, grid_trials=81, budget={"hours": 20.0, "trial_hours": None})
    said = "Cost: 12 trial-hours used; about 8 saved by pruning; the full grid of 81 trials: about 810."
    assert said in study_table(found).caption
    assert said in running(Status(found, None), 0.0).caption
    assert "Budget: 20 hours." in running(Status(found, None), 0.0).caption
