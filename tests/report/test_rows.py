"""Laws of the rows: which trials, which epoch, which mean, which rank."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from flowsearch.report.rows import clear_best, configurations, estimate, groups, with_parts
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


def test_named_rows_keep_their_order_and_nameless_ones_are_ranked(rows: Any, simple: Any) -> None:
    given = {"VAE": [{"elbo": -9.0}], "VAE + Annealing": [{"elbo": -7.0}], "LSTM-LM": [{"elbo": -8.0}]}
    assert [row.name for row in configurations(rows(given), "test")] == list(given)
    ranked = simple(("a", {"k": 1}, 0, -9.0, "COMPLETE"), ("b", {"k": 2}, 0, -7.0, "COMPLETE"))
    assert [row.name for row in configurations(ranked, "test")] == ["b", "a"]


def test_a_group_of_named_rows_still_shows_its_best(rows: Any) -> None:
    made = rows({"VAE": [{"elbo": -9.0}], "VAE + Annealing": [{"elbo": -7.0}]})
    [group] = groups(configurations(made, "test"), ["objective.beta"])
    assert group.best is not None
    assert group.best.name == "VAE + Annealing"


def test_a_confirmed_row_is_the_mean_of_its_fresh_seeds_alone(study: Any) -> None:
    def trial(number: int, state: str, phase: str) -> Trial:
        return Trial(number, state, label="VAE", seed=number, seconds=10.0, params={"k": 1}, phase=phase)

    readings = {(n, 1, split): {"elbo": -5.0 - n} for n in range(4) for split in ("valid", "test")}
    search = [trial(0, "COMPLETE", "search")]
    [row] = configurations(study([*search, trial(1, "RUNNING", "confirm")], readings), "test")
    assert (row.confirmed, row.values["elbo"].mean, len(row.replicates)) == (False, -5.0, 1)
    fresh = [trial(1, "COMPLETE", "confirm"), trial(2, "COMPLETE", "confirm"), trial(3, "FAIL", "confirm")]
    [row] = configurations(study([*search, *fresh], readings), "test")
    assert (row.confirmed, row.values["elbo"].mean, row.validation) == (True, -6.5, -6.5)
    assert (row.complete, len(row.replicates), row.seconds) == (2, 3, 40.0)


def test_a_lucky_seed_of_the_search_does_not_beat_a_confirmed_row(study: Any) -> None:
    elbos = {"lucky": (-1.0, -1.1), "found": (-5.0, -5.1), "other": (-9.0, -9.1)}
    each = [(name, seed, elbo) for name, values in elbos.items() for seed, elbo in enumerate(values)]
    trials = [
        Trial(
            n, "COMPLETE", label=name, seed=seed, params={"n": name}, phase="search" if name == "lucky" else "confirm"
        )
        for n, (name, seed, _) in enumerate(each)
    ]
    readings = {(n, 1, split): {"elbo": elbo} for n, (_, _, elbo) in enumerate(each) for split in ("valid", "test")}
    best = clear_best(configurations(study(trials, readings), "test"))
    assert best is not None
    assert best.label == "found"


def test_a_row_that_is_no_bound_is_never_the_best(rows: Any) -> None:
    def of(elbo: float, **more: float) -> list[dict[str, float]]:
        return [{"elbo": elbo, **more}, {"elbo": elbo - 0.1, **more}]

    given = {"Implicit-VAE": of(-1.0, kl_is_bound=0.0), "VAE": of(-5.0), "LSTM-LM": of(-9.0)}
    found = configurations(rows(given), "test")
    assert [row.is_bound for row in found] == [False, True, True]
    best = clear_best(found)
    assert best is not None
    assert best.name == "VAE"
    assert clear_best(found[:2]) is None


@given(st.floats(1, 400), st.floats(1, 400), st.floats(1, 400))
def test_model_and_inference_part_sum_to_the_gap(nll: float, iw_nll: float, entropy: float) -> None:
    found = with_parts({"elbo": -nll, "iw_nll": iw_nll, "entropy": entropy}, None)
    assert found["model_part"] + found["inference_part"] == pytest.approx(nll - entropy, abs=1e-9)


def test_parts_need_the_truth_and_their_error_is_of_the_pair(rows: Any) -> None:
    assert with_parts({"elbo": -9.0, "kl": 1.0, "iw_nll": 8.0}, None).keys() == {"elbo", "kl", "iw_nll"}
    seeds = [{"elbo": -9.0 - n, "iw_nll": 8.0 + n, "entropy": 7.0, "kl": 2.0} for n in range(2)]
    [row] = configurations(rows({"VAE": seeds}, information=4.0), "test")
    assert (row.values["inference_part"].mean, row.values["inference_part"].error) == (1.0, 0.0)
    assert (row.values["model_part"].mean, row.values["model_part"].error) == (1.5, 0.5)
    assert row.values["kl_share"].mean == 0.5


def test_a_model_without_z_is_not_called_collapsed(rows: Any) -> None:
    [row] = configurations(rows({"LSTM-LM": [{"elbo": -9.0, "ppl": 20.0}]}), "test")
    assert not row.collapsed
