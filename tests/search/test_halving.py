"""Halving is Optuna's rule where trials report at every step, and fair where they do not."""

from __future__ import annotations

import math

import optuna
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from optuna.pruners import SuccessiveHalvingPruner

from flowsearch.search.halving import Halving, goes_on, standing
from flowsearch.search.pruning import Curve, Rule, stops
from flowsearch.search.resources import RESOURCES, Standing

VALUES = st.one_of(st.integers(-6, 0).map(float), st.floats(-50, 0), st.just(math.nan))
CURVES = st.lists(st.lists(VALUES, min_size=1, max_size=12).map(Curve), min_size=1, max_size=14)


@given(curves=CURVES, first=st.integers(1, 3), factor=st.integers(2, 4), workers=st.integers(1, 5))
@settings(max_examples=150, deadline=None)
def test_it_is_optunas_rule_where_every_step_is_reported(
    curves: list[Curve], first: int, factor: int, workers: int
) -> None:
    counted = RESOURCES["epochs_after_warmup"](first)
    ours = stops(Rule(Halving(first, factor), counted), curves, workers=workers)
    theirs = stops(Rule(SuccessiveHalvingPruner(first, factor), counted), curves, workers=workers)
    assert ours == theirs


def run(pruner: Halving, trials: list[dict[int, float]]) -> list[int | None]:
    """The step at which each of these trials, one after another, is stopped."""
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    study = optuna.create_study(direction="maximize", pruner=pruner)
    found: list[int | None] = []
    for values in trials:
        trial, stopped = study.ask(), None
        for step, value in values.items():
            trial.report(value, step)
            if trial.should_prune():
                stopped = step
                break
        found.append(stopped)
        study.tell(trial, state=optuna.trial.TrialState.PRUNED)
    return found


def test_a_value_counts_at_a_rung_only_if_it_was_there_by_then() -> None:
    early = {step: -50.0 + step for step in range(1, 28)}
    assert run(Halving(1, 3), [early, {20: -40.0, 27: -24.0}]) == [None, 27]
    assert run(Halving(1, 3), [early, {20: -40.0, 26: -22.0, 28: -99.0}]) == [None, None]  # at 27 it stood at -22
    assert run(Halving(1, 3), [early, {20: -40.0, 28: -10.0}]) == [None, 28]  # at 27 it stood at -40


def test_who_had_no_value_by_a_rung_is_not_judged_there_and_judges_nobody() -> None:
    late = {5: -1.0}
    assert run(Halving(1, 3), [{1: -9.0, 3: -8.0}, late]) == [None, None]
    assert run(Halving(1, 3), [late, {1: -9.0, 3: -8.0}]) == [None, None]


def test_a_jump_over_several_rungs_is_judged_at_each() -> None:
    rival = {1: -9.0, 2: -9.0, 3: -1.0, 9: -9.0}
    assert run(Halving(1, 3), [rival, {1: -8.0, 10: -8.0}]) == [None, 10]  # behind at 3, ahead at 9


@given(st.floats(-9, 0), st.lists(st.floats(-9, 0), max_size=20), st.integers(2, 5))
def test_at_least_the_best_and_at_most_its_share_go_on(value: float, others: list[float], factor: int) -> None:
    everyone = [value, *others]
    left = [one for place, one in enumerate(everyone) if goes_on(one, everyone[:place] + everyone[place + 1 :], factor)]
    assert max(everyone) in left
    assert len(set(left)) <= max(1, len(everyone) // factor)


@pytest.mark.parametrize("name", RESOURCES)
def test_steps_rise_and_there_is_none_inside_the_warm_up(name: str) -> None:
    resource, earlier, found = RESOURCES[name](1), 0, []
    for epoch in range(1, 9):
        step = resource.after(earlier, Standing(epoch, 0.1 * epoch, 3))
        found.append(step)
        earlier = step or earlier
    assert found[:3] == [None] * 3
    assert found[3:] == sorted(set(found[3:]))


def test_standing_is_the_last_value_by_a_rung() -> None:
    values = {2: -9.0, 5: -8.0, 7: -7.0}
    assert [standing(values, rung) for rung in range(1, 9)] == [None, -9.0, -9.0, -9.0, -8.0, -8.0, -7.0, None]
