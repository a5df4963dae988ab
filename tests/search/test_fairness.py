"""What rungs count, judged on recorded curves: why `epochs` is the default.

`recorded.json` holds whole curves of unpruned grids on two synthetic corpora, LSTMs of 16 to 32, latent size 4 to 8:
warm-ups of 0, 3 and 6 of 18 or 16 epochs, with and without lagging inference, three learning rates. They are small
models that mostly ignored z; what they show is how fast trials with and without a warm-up come down. The committed
studies on Yelp and Penn Treebank were recorded under a pruner, so most of their curves are cut.
"""

from __future__ import annotations

import json
from pathlib import Path
from statistics import fmean
from typing import NamedTuple

import pytest

from flowsearch.search.pruning import ASHA, Curve, Rule, stops
from flowsearch.search.replay import Recorded, outcome, permutations, recorded, row, winner

HERE = Path(__file__).parent
RESULTS = HERE.parents[1] / "results"
CURVES = {
    study: [
        Recorded(number, Curve(elbo, warmup, seconds), is_whole=True, is_collapsed=False)
        for number, (warmup, elbo, seconds) in enumerate(rows)
    ]
    for study, rows in json.loads((HERE / "recorded.json").read_text()).items()
}
WARMUPS = (0, 3, 6)
ORDERS = 40


class Cost(NamedTuple):
    """Means over orders of arrival."""

    saved: float
    regret: float
    killed: float


def won_by(curves: list[Recorded], warmup: int) -> list[Recorded]:
    """The curves without those of other warm-ups that are better than the best of this one."""
    best = max(one.best for one in curves if one.curve.warmup_epochs == warmup)
    return [one for one in curves if one.best <= best]


def cost(curves: list[Recorded], factor: int, resource: str, *, longest: bool = False) -> Cost:
    def rule() -> Rule:
        return ASHA(max(WARMUPS), reduction_factor=factor, resource=resource, after_longest_warmup=longest)

    orders = [list(map(int, order)) for order in permutations(len(curves), ORDERS, 0)]
    found = [
        outcome(curves, order, stops(rule(), [curves[place].curve for place in order], workers=4)) for order in orders
    ]
    means = row("", curves, found)
    return Cost(means["epochs_saved"], means["regret"], means["winner_killed"])


@pytest.mark.parametrize("study", CURVES)
@pytest.mark.parametrize("factor", [2, 3])
def test_epochs_in_all_lose_less_than_epochs_after_warm_up(study: str, factor: int) -> None:
    """Whichever warm-up the winner has, for savings that are at most a third smaller."""
    for warmup in WARMUPS:
        curves = won_by(CURVES[study], warmup)
        assert winner(curves).curve.warmup_epochs == warmup
        ours, other = cost(curves, factor, "epochs"), cost(curves, factor, "epochs_after_warmup")
        assert ours.regret <= other.regret + 1e-3
        assert ours.saved > 2 / 3 * other.saved


def test_epochs_in_all_stop_fewer_winners() -> None:
    each = [(won_by(curves, warmup), factor) for curves in CURVES.values() for warmup in WARMUPS for factor in (2, 3)]
    ours = fmean(cost(curves, factor, "epochs").killed for curves, factor in each)
    other = fmean(cost(curves, factor, "epochs_after_warmup").killed for curves, factor in each)
    assert ours < other - 5


@pytest.mark.parametrize("study", CURVES)
@pytest.mark.parametrize("factor", [2, 3])
def test_waiting_for_the_longest_warm_up_hardly_loses_anything(study: str, factor: int) -> None:
    for warmup in WARMUPS:
        curves = won_by(CURVES[study], warmup)
        patient, other = (cost(curves, factor, name, longest=True) for name in ("epochs", "epochs_after_warmup"))
        assert patient.killed <= 15
        assert patient.regret <= other.regret + 1e-3
        assert patient.saved > other.saved


@pytest.mark.parametrize("study", ["iaf-yelp", "iaf-ptb"])
@pytest.mark.parametrize("factor", [2, 3])
def test_on_real_text_fewer_are_stopped_while_ahead_of_the_winner(study: str, factor: int) -> None:
    """Of the trials that a rule stops, how many stood above the winner's ELBO at the same epoch. A cut curve goes on
    for an epoch, so that it can be stopped where it was cut."""
    curves, _ = recorded(RESULTS / study, everything=True)
    best = winner(curves)

    def longer(one: Recorded) -> Curve:
        elbo, seconds = one.curve.elbo, one.curve.times
        return one.curve if one.is_whole else Curve([*elbo, elbo[-1]], one.curve.warmup_epochs, [*seconds, seconds[-1]])

    def share(resource: str) -> float:
        ahead = []
        for order in permutations(len(curves), ORDERS, 0):
            rule = ASHA(reduction_factor=factor, resource=resource)
            found = stops(rule, [longer(curves[place]) for place in order], workers=2)
            for place, epoch in zip(order, found, strict=True):
                elbo = curves[place].curve.elbo
                if epoch is not None and epoch <= len(elbo):
                    ahead.append(elbo[epoch - 1] > best.curve.elbo[epoch - 1])
        return fmean(ahead)

    assert share("epochs") < share("epochs_after_warmup")
