"""Laws of the rows: which trials, which epoch, which mean, which rank."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from flowsearch.report.rows import clear_best, configurations, estimate, groups
from flowsearch.results import Trial

finite = st.floats(-1e6, 1e6)


@settings(deadline=None)
@given(st.lists(finite, min_size=2, max_size=9), st.lists(st.sampled_from([math.nan, math.inf, -math.inf])))
def test_an_estimate_is_numpys_mean_and_standard_error_of_what_is_finite(values: list[float], bad: list[float]) -> None:
    found = estimate([*bad, *values])
    assert found is not None
    assert found.mean == pytest.approx(np.mean(values), rel=1e-9, abs=1e-6)
    assert found.error == pytest.approx(np.std(values, ddof=1) / np.sqrt(len(values)), rel=1e-6, abs=1e-6)
    assert found.count == len(values)


def test_one_value_has_no_error_and_none_no_estimate() -> None:
    found = estimate([1.0])
    assert found is not None
    assert found.error is None
    assert estimate([math.nan]) is None


def test_values_are_those_of_the_asked_split_at_the_epoch_that_validation_chose(study: Any) -> None:
    readings = {(0, 1, "valid"): {"elbo": -9.0}, (0, 2, "valid"): {"elbo": -8.0}, (0, 3, "valid"): {"elbo": -8.5}}
    readings |= {(0, 2, "test"): {"elbo": -7.0}, (0, 3, "test"): {"elbo": -1.0}}
    made = study([Trial(0, "COMPLETE")], readings)
    assert configurations(made, "test")[0].values["elbo"].mean == -7.0
    assert configurations(made, "valid")[0].values["elbo"].mean == -8.0


def test_a_replicate_without_a_reading_on_the_split_is_left_out_and_counted(study: Any) -> None:
    readings = {(n, 1, "valid"): {"elbo": -8.0 - n} for n in range(3)} | {(1, 1, "test"): {"elbo": -5.0}}
    row = configurations(study([Trial(n, "COMPLETE") for n in range(3)], readings), "test")[0]
    assert (row.values["elbo"].mean, row.values["elbo"].count, row.absent) == (-5.0, 1, 2)
    assert row.validation == -9.0


def test_replicates_share_their_parameters_and_only_complete_ones_are_averaged(simple: Any) -> None:
    made = simple(
        ("VAE", {"b": 1.0}, 0, -9.0, "COMPLETE"),
        ("VAE", {"b": 1.0}, 1, -7.0, "COMPLETE"),
        ("VAE", {"b": 1.0}, 2, -1.0, "PRUNED"),
        ("VAE", {"b": 2.0}, 0, -5.0, "FAIL"),
    )
    first, second = configurations(made, "test")
    assert [trial.number for trial in first.trials] == [0, 1, 2]
    assert (first.complete, first.values["elbo"].mean, first.values["elbo"].error) == (2, -8.0, 1.0)
    assert first.seconds == 30.0
    assert (second.complete, second.values, second.outcome) == (0, {}, "FAIL")


def test_configurations_are_ranked_by_validation_not_by_test(study: Any) -> None:
    readings = {(0, 1, "valid"): {"elbo": -9.0}, (1, 1, "valid"): {"elbo": -8.0}, (2, 1, "valid"): {"elbo": math.nan}}
    readings |= {(0, 1, "test"): {"elbo": -1.0}, (1, 1, "test"): {"elbo": -2.0}, (3, 1, "valid"): {"elbo": 0.0}}
    states = ("COMPLETE", "COMPLETE", "COMPLETE", "PRUNED")
    trials = [Trial(n, state, label=str(n), params={"n": n}) for n, state in enumerate(states)]
    assert [row.label for row in configurations(study(trials, readings), "test")] == ["1", "0", "2", "3"]


@pytest.mark.parametrize(
    ("kl", "units", "expected"), [(0.09, 4.0, True), (0.1, 4.0, False), (5.0, 0.0, True), (5.0, 1.0, False)]
)
def test_a_row_is_collapsed_without_active_units_or_with_no_kl(
    simple: Any, kl: float, units: float, expected: bool
) -> None:
    made = simple(("VAE", {}, 0, -9.0, "COMPLETE"), kl=kl, active_units=units)
    assert configurations(made, "test")[0].collapsed is expected


def test_groups_show_their_best_configuration_and_count_all(simple: Any) -> None:
    made = simple(
        ("a", {"flow": "IAF", "k": 10}, 0, -9.0, "COMPLETE"),
        ("b", {"flow": "IAF", "k": 9}, 0, -8.0, "COMPLETE"),
        ("c", {"flow": "IAF", "k": 9, "beta": 0.5}, 0, -7.0, "COMPLETE"),
        ("d", {"flow": "Gaussian"}, 0, -6.0, "PRUNED"),
    )
    found = groups(configurations(made, "test"), ["k"])
    assert [(g.values, g.best and g.best.label, g.complete, g.total) for g in found] == [
        ((None,), None, 0, 1),
        ((9,), "c", 2, 2),
        ((10,), "a", 1, 1),
    ]
    assert [g.values for g in groups(configurations(made, "test"), ["flow", "k"])] == [
        ("Gaussian", None),
        ("IAF", 9),
        ("IAF", 10),
    ]


def best_of(simple: Any, *elbos: list[float]) -> str | None:
    rows = [
        (str(place), {"n": place}, seed, elbo, "COMPLETE")
        for place, values in enumerate(elbos)
        for seed, elbo in enumerate(values)
    ]
    found = clear_best(configurations(simple(*rows), "test"))
    return found.label if found else None


def test_the_best_stands_out_only_beyond_the_noise(simple: Any) -> None:
    assert best_of(simple, [-9.0, -9.2], [-8.0, -8.2]) == "1"
    assert best_of(simple, [-9.0, -9.2], [-8.8, -9.0]) is None
    assert best_of(simple, [-9.0], [-5.0]) is None
    assert best_of(simple, [-9.0, -9.2], [-5.0]) is None
    assert best_of(simple, [-9.0, -9.2]) is None
