"""Laws of every exported annealing, of every kind of free bits and of every target of the KL."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from torch import Tensor

from flowsearch.errors import Intractable
from flowsearch.models import POSTERIORS, DiagonalGaussian
from flowsearch.objectives import ANNEALINGS, FREE_BITS
from flowsearch.objectives.annealing import Cyclical, He2019, Linear, Pace, Sigmoid
from flowsearch.objectives.free_bits import (
    BatchMean,
    PerDimension,
    PerDocument,
    Target,
    TargetPerDimension,
    TargetPerDocument,
    no_free_bits,
)

every_annealing = pytest.mark.parametrize("annealing", ANNEALINGS.values(), ids=ANNEALINGS)
every_kind = pytest.mark.parametrize("free_bits", FREE_BITS.values(), ids=FREE_BITS)
every_free_bits = pytest.mark.parametrize("free_bits", [k for k in FREE_BITS.values() if not issubclass(k, Target)])
every_target = pytest.mark.parametrize("target", [k for k in FREE_BITS.values() if issubclass(k, Target)])

PACES = [Pace(146, 125.0), Pace(10, 10.0), Pace(3, 2.5), Pace(1, 0.1)]


def shares(annealing: Any, warmup: int, pace: Pace, epochs: int = 6) -> list[float]:
    return [annealing(warmup, pace).share(step) for step in range(epochs * pace.batches)]


@every_annealing
@pytest.mark.parametrize("pace", PACES, ids=str)
@pytest.mark.parametrize("warmup", [0, 1, 2, 5])
def test_share_is_one_from_the_end_of_the_warmup(annealing: Any, warmup: int, pace: Pace) -> None:
    values = shares(annealing, warmup, pace)
    assert all(0 <= value <= 1 for value in values)
    assert set(values[max(0, warmup * pace.batches - 1) :]) == {1.0}
    if warmup > 1 and pace.batches > 3:
        assert values[0] < 1


@pytest.mark.parametrize("annealing", [Linear, He2019, Sigmoid])
@pytest.mark.parametrize("pace", PACES, ids=str)
def test_share_never_falls_without_cycles(annealing: Any, pace: Pace) -> None:
    values = shares(annealing, 5, pace)
    assert values == sorted(values)


@every_annealing
@pytest.mark.parametrize("pace", PACES, ids=str)
def test_no_warmup_is_full_weight_throughout(annealing: Any, pace: Pace) -> None:
    assert set(shares(annealing, 0, pace)) == {1.0}


@pytest.mark.parametrize("annealing", [Linear, He2019])
def test_start_is_a_knob_and_one_increment_has_been_made_at_the_first_step(annealing: Any) -> None:
    pace = Pace(100, 100.0)
    assert annealing(2, pace, start=0.0).share(0) == pytest.approx(1 / 200)
    assert annealing(2, pace, start=0.1).share(99) == pytest.approx(0.55)
    assert annealing(2, pace).share(99) == pytest.approx(0.55)  # 0.1 is the default
    assert annealing(2, pace, start=1.0).share(0) == 1.0


def test_the_reference_counts_nominal_steps_and_is_done_early() -> None:
    # yahoo_small: 4000 documents in batches of 32 are 125 nominal, but 146 of equal length.
    pace = Pace(146, 125.0)
    rise = 1 + shares(He2019, 2, pace).index(1.0)
    assert rise == 250
    assert rise / 146 == pytest.approx(1.71, abs=0.005)
    assert 1 + shares(Linear, 2, pace).index(1.0) == 2 * 146


def test_sigmoid_is_the_logistic_function_of_the_time_and_symmetric_about_its_middle() -> None:
    pace, steepness = Pace(50, 50.0), 12.0
    values = shares(lambda *given: Sigmoid(*given, steepness=steepness), 2, pace)[:100]
    expected = [1 / (1 + math.exp(-steepness * (step / 100 - 0.5))) for step in range(1, 100)]
    assert values == pytest.approx([*expected, 1.0])
    assert values[49] == 0.5
    assert [a + b for a, b in zip(values[:49], values[98:49:-1], strict=True)] == pytest.approx([1.0] * 49)
    steep = shares(lambda *given: Sigmoid(*given, steepness=1e5), 2, pace)[:100]
    assert steep == [0.0] * 49 + [0.5] + [1.0] * 50


def test_cyclical_repeats_its_cycle_and_holds_one_after_the_ramp() -> None:
    values = shares(lambda *given: Cyclical(*given, cycles=4, ramp=0.5), 4, Pace(10, 10.0), epochs=6)
    cycle = [0.2, 0.4, 0.6, 0.8, 1.0, 1.0, 1.0, 1.0, 1.0, 1.0]
    assert values[:40] == pytest.approx(cycle * 4)
    assert set(values[40:]) == {1.0}
    whole = shares(lambda *given: Cyclical(*given, cycles=1, ramp=1.0), 4, Pace(10, 10.0))
    assert whole == pytest.approx(shares(lambda *given: Linear(*given, start=0.0), 4, Pace(10, 10.0)))
    assert set(shares(lambda *given: Cyclical(*given, cycles=40), 4, Pace(10, 10.0))) == {1.0}  # a step each


@pytest.mark.parametrize("cycles", [1, 3, 7])
def test_cyclical_begins_again_as_often_as_it_has_cycles(cycles: int) -> None:
    values = shares(lambda *given: Cyclical(*given, cycles=cycles, ramp=0.8), 5, Pace(23, 20.0))
    falls = [step for step in range(1, len(values)) if values[step] < values[step - 1]]
    assert falls == [math.ceil(115 * cycle / cycles) for cycle in range(1, cycles)]


def gaussian(scale: float) -> tuple[DiagonalGaussian, Tensor]:
    """A Gaussian whose KL is small or large in every dimension of every document, and what it depends on."""
    torch.manual_seed(0)
    mean = (scale * (1 + torch.rand(4, 3))).requires_grad_()
    return DiagonalGaussian(mean, torch.zeros(4, 3)), mean


@every_free_bits
def test_nothing_is_learnt_below_the_target(free_bits: Any) -> None:
    q, mean = gaussian(0.1)
    kl = q.kl(q.draw(1))
    counted = free_bits(nats=2.0)(kl, q)
    assert counted.shape == kl.shape
    assert (counted >= kl).all()
    assert torch.autograd.grad(counted.mean(), mean)[0].abs().max() == 0


@every_free_bits
def test_the_kl_itself_counts_above_the_target(free_bits: Any) -> None:
    q, mean = gaussian(2.0)
    kl = q.kl(q.draw(2))
    counted = free_bits(nats=0.5)(kl, q)
    torch.testing.assert_close(counted.mean(), kl.mean())
    (ours,), (plain,) = (
        torch.autograd.grad(term.mean(), mean, retain_graph=True) for term in (counted, no_free_bits(kl, q))
    )
    torch.testing.assert_close(ours, plain)


@every_free_bits
def test_the_target_is_where_it_sets_in(free_bits: Any) -> None:
    q, _ = gaussian(1.0)
    kl = q.kl(q.draw(1))
    values = [free_bits(nats=nats)(kl, q).mean().item() for nats in (1e-6, 0.5, 1.0, 5.0, 20.0)]
    assert values == sorted(values)
    assert values[0] == pytest.approx(kl.mean().item())
    assert values[-1] > kl.mean().item()


def slope(term: Tensor, at: Tensor) -> Tensor:
    """d(mean of the term) / d(at)."""
    return torch.autograd.grad(term.mean(), at, retain_graph=True)[0]


@every_target
def test_a_target_is_the_kl_less_its_constant_above_it(target: Any) -> None:
    q, mean = gaussian(2.0)
    kl = q.kl(q.draw(2))
    counted = target(nats=0.5)(kl, q)
    assert counted.shape == kl.shape
    per_document = 0.5 * (mean.shape[1] if target is TargetPerDimension else 1)
    torch.testing.assert_close(counted.mean(), kl.mean() - per_document)
    torch.testing.assert_close(slope(counted, mean), slope(kl, mean))


@every_target
def test_a_target_pulls_a_kl_below_it_up(target: Any) -> None:
    q, mean = gaussian(0.1)
    kl = q.kl(q.draw(2))
    counted = target(nats=2.0)(kl, q)
    per_document = 2.0 * (mean.shape[1] if target is TargetPerDimension else 1)
    torch.testing.assert_close(counted.mean(), per_document - kl.mean())
    torch.testing.assert_close(slope(counted, mean), -slope(kl, mean))


def test_what_the_target_holds_over() -> None:
    mean = torch.tensor([[2.0, 0.0], [0.0, 0.2]])
    q = DiagonalGaussian(mean, torch.zeros(2, 2))  # KL of the documents: 2.0 and 0.02; of the dimensions: 1.0 and 0.01
    kl = q.kl(q.draw(1))
    assert PerDocument(nats=1.5)(kl, q).tolist() == [[2.0, 1.5]]
    assert BatchMean(nats=1.5)(kl, q).tolist() == [[1.5, 1.5]]
    assert BatchMean(nats=0.5)(kl, q)[0].tolist() == pytest.approx([1.01, 1.01])
    assert PerDimension(nats=0.5)(kl, q)[0].tolist() == pytest.approx([1.5, 1.5])
    assert TargetPerDocument(nats=1.5)(kl, q)[0].tolist() == pytest.approx([0.5, 1.48])
    assert TargetPerDimension(nats=0.5)(kl, q)[0].tolist() == pytest.approx([0.5 + 0.49] * 2)


@every_kind
@pytest.mark.parametrize("name", POSTERIORS)
def test_free_bits_work_with_every_posterior_or_say_that_they_cannot(free_bits: Any, name: str) -> None:
    posterior = POSTERIORS[name](3, 4)
    q = posterior.at(posterior.amortize(torch.randn(5, 4)))
    kl = q.kl(q.draw(1))
    if free_bits in (PerDimension, TargetPerDimension) and q.base is not q:
        with pytest.raises(Intractable, match="KL per dimension"):
            free_bits(nats=1.0)(kl, q)
    else:
        assert free_bits(nats=1.0)(kl, q).shape == kl.shape
