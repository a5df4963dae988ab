"""Closed forms and laws of every exported metric, on evaluations written by hand."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
import torch
from torch import Tensor

from flowsearch.metrics import (
    INFORMATION,
    METRICS,
    Evaluation,
    active_units,
    likelihood,
    mutual_information,
    mutual_information_reference,
    optimum,
    perplexity,
)
from flowsearch.metrics.information import aggregate_log_prob
from flowsearch.models import gaussian_log_prob
from flowsearch.results.reading import UNITS

pytestmark = pytest.mark.usefixtures("in_float64")

ALL = {metric.__name__: metric for metric in (*METRICS, *(m for extra in INFORMATION.values() for m in extra))}
every_metric = pytest.mark.parametrize("metric", ALL.values(), ids=ALL)


def evaluation(mean: Tensor, logvar: Tensor | float = 0.0, *, seed: int = 0, batch_size: int = 32) -> Evaluation:
    """N documents with these Gaussian posteriors, one sample each, in batches of `batch_size`."""
    torch.manual_seed(seed)
    n = len(mean)
    logvar = torch.as_tensor(logvar).expand(mean.shape)
    kl = 0.5 * (mean.square() + logvar.exp() - logvar - 1).sum(-1)
    origin = mean + (0.5 * logvar).exp() * torch.randn_like(mean)
    return Evaluation(
        log_likelihood=-10 - torch.rand(n),
        kl=kl,
        tokens=torch.randint(3, 9, (n,)),
        mean=mean,
        logvar=logvar,
        origin=origin,
        expected=mean,
        expected_variance=torch.zeros_like(mean),
        batch=torch.arange(n) // batch_size,
    )


@every_metric
def test_every_value_is_a_finite_float_with_a_unit(metric: object) -> None:
    measured = metric(replace(evaluation(torch.randn(50, 3)), true_log_probability=-10 - torch.rand(50)))
    assert measured
    for name, value in measured.items():
        assert name in UNITS
        assert isinstance(value, float)
        assert math.isfinite(value)


@every_metric
def test_no_metric_depends_on_the_order_of_the_documents(metric: object) -> None:
    torch.manual_seed(3)
    first = replace(evaluation(torch.randn(64, 3)), true_log_probability=-10 - torch.rand(64))
    order = torch.randperm(64)
    second = Evaluation(**{name: column[order] for name, column in vars(first).items() if name != "is_bound"})
    for name, value in metric(first).items():
        assert metric(second)[name] == pytest.approx(value, rel=1e-9, abs=1e-9)


def test_likelihood_in_closed_form() -> None:
    measured = likelihood(
        replace(
            evaluation(torch.zeros(2, 1)),
            log_likelihood=torch.tensor([-10.0, -20.0]),
            kl=torch.tensor([1.0, 3.0]),
            tokens=torch.tensor([4, 6]),
        )
    )
    assert measured == {
        "elbo": -17.0,
        "reconstruction": 15.0,
        "kl": 2.0,
        "ppl": pytest.approx(math.exp(34 / 10)),
        "tokens": 10.0,
        "documents": 2.0,
    }


def test_perplexity_of_a_uniform_model_is_the_vocabulary_and_overflow_is_infinite() -> None:
    assert perplexity(12 * math.log(5000), 12) == pytest.approx(5000)
    assert perplexity(1e6, 1) == math.inf


@pytest.mark.parametrize("active", [0, 1, 3, 5])
def test_active_units_counts_planted_variances(active: int) -> None:
    torch.manual_seed(0)
    spread = torch.randn(4000, 5)
    spread = (spread - spread.mean(0)) / spread.std(0)
    deviations = torch.where(torch.arange(5) < active, 0.101, 0.099)  # on both sides of variance 0.01
    measured = active_units(evaluation(spread * deviations + torch.arange(5)))
    assert measured == {"active_units": active, "active_units_base": active}


def test_active_units_sees_what_a_flow_moves_and_not_its_noise() -> None:
    torch.manual_seed(0)
    n, samples = 2000, 16
    still = evaluation(torch.zeros(n, 3))
    noise = torch.randn(n, 3) * torch.tensor([0.0, 0.0, 2.0])  # dimension 2: noisy within a document, the same for all
    moved = still.mean.clone()
    moved[:, 1] += torch.randn(n)  # dimension 1: moved by a function of x
    flowed = replace(
        still,
        expected=moved + noise / math.sqrt(samples),
        expected_variance=torch.tensor([0.0, 0.0, 4.0 / samples]).expand(n, 3),
    )
    assert active_units(flowed) == {"active_units": 1, "active_units_base": 0}
    undone = replace(evaluation(moved), expected=0 * moved)
    assert active_units(undone) == {"active_units": 0, "active_units_base": 1}


def brute_force(z: Tensor, mean: Tensor, logvar: Tensor) -> Tensor:
    return gaussian_log_prob(z[:, None], mean[None], logvar[None]).logsumexp(1) - math.log(len(mean))


@pytest.mark.parametrize("offset", [0.0, 50.0])
@pytest.mark.parametrize("logvar", [0.0, -4.0, -8.0])
def test_aggregate_is_the_broadcast_one(offset: float, logvar: float, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("flowsearch.metrics.information.ROWS", 7)
    here = evaluation(torch.randn(60, 4) + offset, logvar + 0.3 * torch.randn(60, 4))
    ours = aggregate_log_prob(here.origin, here.mean, here.logvar)
    torch.testing.assert_close(ours, brute_force(here.origin, here.mean, here.logvar), rtol=1e-9, atol=1e-9)


def test_mutual_information_is_the_broadcast_one() -> None:
    here = evaluation(torch.randn(100, 3), -1 + 0.3 * torch.randn(100, 3))
    own = gaussian_log_prob(here.origin, here.mean, here.logvar)
    expected = (own - brute_force(here.origin, here.mean, here.logvar)).mean().item()
    assert mutual_information(here)["mutual_information"] == pytest.approx(expected, abs=1e-9)


def test_mutual_information_is_nothing_when_all_posteriors_are_one() -> None:
    for seed in range(5):
        here = evaluation(torch.full((200, 3), 0.7), -0.3, seed=seed)
        assert mutual_information(here)["mutual_information"] == pytest.approx(0, abs=1e-9)
    nearly = evaluation(1e-3 * torch.randn(500, 3))
    assert abs(mutual_information(nearly)["mutual_information"]) < 1e-3


def test_mutual_information_of_posteriors_far_apart_is_log_n() -> None:
    apart = evaluation(torch.arange(300.0).view(-1, 1) * 100)
    assert mutual_information(apart)["mutual_information"] == pytest.approx(math.log(300), abs=1e-9)


def test_mutual_information_of_a_gaussian_channel() -> None:
    # x ~ N(0, s^2 I), z | x ~ N(x, I): I = D/2 log(1 + s^2).
    here = evaluation(2 * torch.randn(5000, 2))
    assert mutual_information(here)["mutual_information"] == pytest.approx(math.log(1 + 4), abs=0.1)


@pytest.mark.parametrize("batch_size", [1, 7, 32])
def test_reference_information_is_capped_by_the_batch(batch_size: int) -> None:
    apart = evaluation(torch.arange(224.0).view(-1, 1) * 100, batch_size=batch_size)
    entropy_noise = 0.5 * (1 - (apart.origin - apart.mean).square().mean().item())
    measured = mutual_information_reference(apart)["mutual_information_reference"]
    assert measured == pytest.approx(math.log(batch_size) - entropy_noise, abs=1e-6)
    # Up to the noise of the entropy, which the estimator takes as exact, the batch's size is the most it can say.
    assert mutual_information(apart)["mutual_information"] == pytest.approx(math.log(224), abs=1e-6)


def test_reference_information_weighs_batches_by_their_documents() -> None:
    here = evaluation(torch.randn(10, 2), batch_size=8)
    parts = []
    for index, size in ((0, 8), (1, 2)):
        mine = here.batch == index
        own = -0.5 * (1 + here.logvar[mine] + math.log(2 * math.pi)).sum(-1).mean()
        parts.append(size * (own - brute_force(here.origin[mine], here.mean[mine], here.logvar[mine]).mean()).item())
    measured = mutual_information_reference(here)["mutual_information_reference"]
    assert measured == pytest.approx(sum(parts) / 10, abs=1e-9)


def test_optimum_is_paired() -> None:
    here = evaluation(torch.zeros(100, 1))
    assert optimum(here) == {}
    truth = here.elbo + 2.0
    measured = optimum(replace(here, true_log_probability=truth))
    assert measured["gap"] == pytest.approx(2.0)
    assert measured["gap_stderr"] == pytest.approx(0, abs=1e-9)  # though documents differ
    assert measured["entropy"] == pytest.approx(-truth.mean().item())
    noisy = optimum(replace(here, true_log_probability=truth + torch.randn(100)))
    assert noisy["gap_stderr"] == pytest.approx(0.1, rel=0.3)


def passes(here: Evaluation) -> bool:
    """The check that trained models are put to: never better than the source beyond three standard errors."""
    measured = optimum(here)
    return measured["gap"] >= -3 * measured["gap_stderr"]


def test_the_check_against_the_source_catches_a_metric_that_cheats() -> None:
    # A model as good as can be: log p(x|z) - KL = log p(x), up to the noise of one sample.
    torch.manual_seed(0)
    best = evaluation(torch.randn(500, 4))
    truth = best.elbo + 0.3 * torch.randn(500)
    honest = replace(best, true_log_probability=truth - truth.mean() + best.elbo.mean() + 0.01)
    assert passes(honest)
    assert not passes(replace(honest, kl=torch.zeros(500)))  # forgets the KL
    assert not passes(replace(honest, kl=honest.kl / 2))  # weighs it
    assert not passes(replace(honest, log_likelihood=honest.log_likelihood * 12 / 13))  # forgets </s>
