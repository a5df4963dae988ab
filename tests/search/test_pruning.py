from __future__ import annotations

import warnings
from typing import get_args

import optuna
import pytest

from flowsearch.search.pruning import ASHA, PRUNERS, Curve, Hyperband, Median, Nothing, is_collapsed, stops
from flowsearch.search.resources import RESOURCES, Name, step_of
from flowsearch.search.samplers import SAMPLERS
from flowsearch.training.component import knobs_of


def rising(best: float, epochs: int = 9) -> list[float]:
    return [best - 10 / epoch for epoch in range(1, epochs + 1)]


AFTER, NAMES = "epochs_after_warmup", get_args(Name)


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
    plain = stops(ASHA(resource=AFTER), [Curve(rising(best)) for best in bests])
    warmups = [0, 5, 3, 0, 4, 9, 1]
    shifted = stops(ASHA(resource=AFTER), [annealed(best, warmup) for best, warmup in zip(bests, warmups, strict=True)])
    assert shifted == [None if epoch is None else epoch + w for epoch, w in zip(plain, warmups, strict=True)]
    assert {None} < set(plain)


def test_inside_its_warm_up_an_annealed_trial_would_be_stopped_first() -> None:
    """The better, annealed trial loses at the first rung if it is judged inside its warm-up, and otherwise not."""
    good = annealed(-20.0, warmup=4)
    for resource in NAMES:
        rule = ASHA(resource=resource)
        assert stops(rule, [Curve(rising(-30.0)), good]) == [None, None]
        assert stops(rule, [Curve(rising(-30.0)), Curve(good.elbo)]) == [None, 1]


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


def test_every_resource_has_a_name_that_a_space_may_give() -> None:
    assert tuple(RESOURCES) == NAMES


@pytest.mark.parametrize("resource", NAMES)
@pytest.mark.parametrize("factor", [2, 3])
def test_the_only_winner_is_never_lost_to_a_warm_up(resource: str, factor: int) -> None:
    """A trial that is ahead of every other after as much of the resource stays, whatever its warm-up and cost."""
    plain = [Curve(rising(-30.0 - number)) for number in range(6)]
    for warmup in range(6):
        winner = Curve([-200.0] * warmup + [-12.0 + epoch / 10 for epoch in range(9)], warmup)
        for place in range(7):
            curves = [*plain[:place], winner, *plain[place:]]
            assert stops(ASHA(reduction_factor=factor, resource=resource), curves)[place] is None


def test_as_many_epochs_in_all_gives_no_start_to_a_warm_up() -> None:
    """The same training, once with a warm-up that changes nothing: only counted after it does the warm-up pay."""
    plain, with_start = Curve(rising(-30.0)), Curve(rising(-30.5), 3)
    assert stops(ASHA(reduction_factor=2, resource=AFTER), [with_start, plain]) == [None, 1]
    assert stops(ASHA(reduction_factor=2, resource=AFTER), [plain, with_start]) == [None, None]
    assert stops(ASHA(reduction_factor=2), [with_start, plain]) == [None, None]
    assert stops(ASHA(reduction_factor=2), [plain, with_start]) == [None, 4]


def test_as_many_seconds_is_fair_to_what_costs_less() -> None:
    """A lagging trial gains more per epoch and less per second than a plain one."""
    lagging = Curve([-40 + 4.0 * epoch for epoch in range(9)], seconds=[60.0] * 9)
    plain = Curve([-40 + 1.0 * epoch for epoch in range(27)], seconds=[10.0] * 27)
    assert stops(ASHA(reduction_factor=2), [lagging, plain])[1] is not None
    assert stops(ASHA(reduction_factor=2, resource="seconds"), [lagging, plain])[1] is None
    assert stops(ASHA(reduction_factor=2, resource="seconds"), [plain, lagging])[1] is not None


@pytest.mark.parametrize("resource", NAMES)
def test_nobody_is_judged_before_the_longest_warm_up_if_so_asked(resource: str) -> None:
    rule = ASHA(4, reduction_factor=2, resource=resource, after_longest_warmup=True)
    curves = [annealed(-20.0, 4, epochs=20), *(Curve(rising(-30.0 - n, 20)) for n in range(8))]
    found = stops(rule, curves, workers=3)
    assert any(found)
    assert all(epoch is None or epoch > 4 for epoch in found)


def test_rungs_by_epochs_after_the_longest_warm_up_judge_everyone_at_the_same_epochs() -> None:
    rule = ASHA(4, reduction_factor=2, resource="epochs", after_longest_warmup=True)
    curves = [Curve([-10.0] * 30), *(annealed(-20.0 - n, n % 5, epochs=30) for n in range(8))]
    assert {epoch for epoch in stops(rule, curves) if epoch} <= {5, 10, 20}


def test_workers_take_the_next_trial_when_they_are_free() -> None:
    """Of two workers, one is busy for long: everyone else arrives at the other, in order."""
    curves = [Curve([-1.0] * 9, seconds=[1000.0] * 9), *(Curve([-2.0 - n] * 9) for n in range(4))]
    assert stops(ASHA(), curves, workers=2) == [None, None, 1, 1, 1]
    assert stops(ASHA(), curves, workers=1) == [None, 1, 1, 1, 1]


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
