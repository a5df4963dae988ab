from __future__ import annotations

import warnings

import optuna
import pytest

from flowsearch.search.pruning import ASHA, PRUNERS, Curve, Hyperband, Median, Nothing, is_collapsed, step_of, stops
from flowsearch.search.samplers import SAMPLERS
from flowsearch.training.config import knobs_of


def rising(best: float, epochs: int = 9) -> list[float]:
    return [best - 10 / epoch for epoch in range(1, epochs + 1)]


def annealed(best: float, warmup: int, epochs: int = 9) -> Curve:
    """While the KL weight grows the bound is poor; afterwards the trial learns as a plain one does."""
    return Curve([-200.0] * warmup + rising(best, epochs), warmup)


def test_only_the_best_third_passes_a_rung() -> None:
    values = [-float(number) for number in range(9)]
    found = stops(ASHA(reduction_factor=3), [Curve(rising(value)) for value in values])
    assert found[0] is None
    assert all(epoch is not None for epoch in found[1:])


def test_rungs_are_at_powers_of_the_factor() -> None:
    worse = [Curve([-1.0] * 27), *(Curve([0.0] * epoch + [-9.0] * (27 - epoch)) for epoch in (1, 3, 9))]
    assert stops(ASHA(reduction_factor=3), worse) == [None, 3, 9, None]
    assert stops(ASHA(min_epochs=2, reduction_factor=2), [Curve([-1.0] * 9), Curve([-2.0] * 9)]) == [None, 2]


def test_a_warm_up_changes_nothing_but_the_epoch() -> None:
    bests = [-30.0, -35.0, -28.0, -40.0, -29.0, -27.0, -33.0]
    plain = stops(ASHA(), [Curve(rising(best)) for best in bests])
    warmups = [0, 5, 3, 0, 4, 9, 1]
    shifted = stops(ASHA(), [annealed(best, warmup) for best, warmup in zip(bests, warmups, strict=True)])
    assert shifted == [None if epoch is None else epoch + w for epoch, w in zip(plain, warmups, strict=True)]
    assert {None} < set(plain)


def test_without_the_shift_annealed_trials_would_be_stopped_first() -> None:
    """What the rule is for: the better, annealed trial loses at the first rung if rungs count from epoch 1."""
    good = annealed(-20.0, warmup=4)
    assert stops(ASHA(), [Curve(rising(-30.0)), good]) == [None, None]
    assert stops(ASHA(), [Curve(rising(-30.0)), Curve(good.elbo)]) == [None, 1]


def test_the_last_epoch_is_never_stopped() -> None:
    assert stops(ASHA(), [Curve([-1.0]), Curve([-2.0])]) == [None, None]


def test_nan_is_stopped_at_the_rung() -> None:
    assert stops(ASHA(), [Curve([float("nan")] * 3)]) == [1]


def test_median_waits_for_finished_trials() -> None:
    curves = [Curve(rising(-10.0))] * 5 + [Curve(rising(-50.0)), Curve(rising(-5.0))]
    assert stops(Median(), curves) == [None] * 5 + [1, None]
    assert stops(Median(min_epochs=3), curves)[5] == 3


def test_hyperband_spares_the_trials_of_later_brackets() -> None:
    curves = [Curve(rising(-float(number % 7))) for number in range(40)]
    assert set(stops(Hyperband(max_epochs=9), curves)) > set(stops(ASHA(), curves)) - {None}


def test_no_pruner_stops_nothing() -> None:
    assert stops(Nothing(), [Curve([float(-n)] * 9) for n in range(9)]) == [None] * 9


def test_step_is_epoch_minus_warm_up() -> None:
    assert [step_of(epoch, 3) for epoch in range(1, 7)] == [None, None, None, 1, 2, 3]


@pytest.mark.parametrize(
    ("values", "verdict"),
    [
        ({"kl": 0.1, "active_units": 1.0}, False),
        ({"kl": 0.0999, "active_units": 1.0}, True),
        ({"kl": 3.0, "active_units": 0.0}, True),
        ({"elbo": -40.0}, False),
    ],
)
def test_collapse_is_no_active_unit_or_no_kl(values: dict[str, float], verdict: bool) -> None:
    assert is_collapsed(values) is verdict


@pytest.mark.parametrize("name", PRUNERS)
def test_knobs_of_pruners_have_a_schema_without_traps(name: str) -> None:
    fields = knobs_of(PRUNERS[name]).model_fields
    assert fields
    assert not set(fields) & {"bootstrap_count", "min_resource"}


@pytest.mark.parametrize("name", SAMPLERS)
def test_samplers_are_repeatable_and_silent_in_a_conditional_space(
    name: str, capfd: pytest.CaptureFixture[str]
) -> None:
    def drawn(seed: int) -> list[dict[str, float]]:
        study = optuna.create_study(direction="maximize", sampler=SAMPLERS[name](seed))
        for _ in range(25):
            trial = study.ask()
            value = trial.suggest_float("x", 0, 1)
            if trial.suggest_categorical("kind", ["a", "b"]) == "a":
                value -= trial.suggest_int("k", 1, 4)
            study.tell(trial, value)
        return [trial.params for trial in study.trials]

    optuna.logging.set_verbosity(optuna.logging.WARNING)
    capfd.readouterr()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert drawn(3) == drawn(3)
        assert drawn(3) != drawn(4)
    assert capfd.readouterr().err == ""
