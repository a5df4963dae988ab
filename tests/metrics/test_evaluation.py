"""One pass over a split: deterministic, in the order of the documents, and nobody notices that it happened."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from flowsearch.metrics import evaluate, importance_weighted, information_only
from flowsearch.models import POSTERIORS, VAE, LSTMDecoder, LSTMEncoder, StandardNormal
from flowsearch.text import Corpus
from flowsearch.text.batches import BucketAndPad, EqualLength

WITH_BASE = [name for name in POSTERIORS if name != "Implicit"]
every_posterior = pytest.mark.parametrize("name", WITH_BASE)
PASSES = {
    "evaluate": lambda vae, batches, seed=0: evaluate(vae, batches.epoch(), seed=seed).elbo,
    "information_only": lambda vae, batches, seed=0: information_only(vae, batches.epoch(), seed=seed).origin,
    "importance_weighted": lambda vae, batches, seed=0: torch.tensor(
        list(importance_weighted(vae, batches.epoch(), 3, seed=seed).values())
    ),
}
every_pass = pytest.mark.parametrize("measure", PASSES.values(), ids=PASSES)


def build(corpus: Corpus, name: str = "Gaussian") -> VAE:
    torch.manual_seed(0)
    size = len(corpus.vocabulary)
    vae = VAE(
        LSTMEncoder(size, embedding_size=8, hidden_size=12),
        POSTERIORS[name](2, 12),
        StandardNormal(2),
        LSTMDecoder(size, 2, embedding_size=8, hidden_size=12),
    )
    with torch.no_grad():
        for parameter in vae.parameters():
            parameter.add_(0.2 * torch.randn_like(parameter) / max(1, parameter.shape[-1]) ** 0.5)
    return vae


@pytest.fixture
def batches(corpus: Corpus) -> EqualLength:
    return EqualLength(corpus.splits["valid"], 8)


@every_pass
@pytest.mark.parametrize("training", [True, False])
def test_a_pass_leaves_generator_mode_and_weights_alone(
    corpus: Corpus, batches: EqualLength, measure: object, training: bool
) -> None:
    vae = build(corpus).train(training)
    weights = {key: tensor.clone() for key, tensor in vae.state_dict().items()}
    torch.manual_seed(5)
    expected = torch.rand(3)
    torch.manual_seed(5)
    measure(vae, batches)
    assert torch.equal(torch.rand(3), expected)
    assert {module.training for module in vae.modules()} == {training}
    assert all(torch.equal(tensor, weights[key]) for key, tensor in vae.state_dict().items())
    assert all(parameter.grad is None and parameter.requires_grad for parameter in vae.parameters())


@every_pass
def test_a_pass_depends_on_its_seed_alone_and_not_on_dropout(
    corpus: Corpus, batches: EqualLength, measure: object
) -> None:
    vae = build(corpus)
    first = measure(vae.train(), batches)
    torch.manual_seed(123)
    assert torch.equal(measure(vae.eval(), batches), first)
    assert not torch.equal(measure(vae, batches, seed=1), first)


@every_posterior
def test_rows_stand_in_the_order_of_the_split(corpus: Corpus, name: str) -> None:
    vae, split = build(corpus, name), corpus.splits["valid"]
    for kind in (EqualLength, BucketAndPad):
        measured = evaluate(vae, kind(split, 8).epoch())
        assert measured.tokens.tolist() == split.lengths.tolist()
        alone = torch.cat([vae.encode(batch).base.mean for batch in EqualLength(split, 1).epoch()])
        order = torch.cat([batch.documents for batch in EqualLength(split, 1).epoch()]).argsort()
        torch.testing.assert_close(measured.mean, alone[order].double(), rtol=1e-4, atol=1e-5)
        assert measured.elbo.dtype == torch.float64
        assert len(measured.batch.unique()) == len(kind(split, 8))


@every_posterior
def test_expectation_is_exact_but_for_what_the_flow_does(corpus: Corpus, batches: EqualLength, name: str) -> None:
    vae = build(corpus, name)
    measured = evaluate(vae, batches.epoch())
    flowed = name != "Gaussian"
    assert bool((measured.expected - measured.mean).any()) == flowed
    assert bool(measured.expected_variance.any()) == flowed
    many = [evaluate(vae, batches.epoch(), seed=seed).expected for seed in range(20)]
    spread = torch.stack(many).var(0).mean()
    # The variance reported for one pass is the variance seen over passes.
    torch.testing.assert_close(measured.expected_variance.mean(), spread, rtol=0.35, atol=1e-12)


def test_information_only_sees_what_a_full_pass_sees(corpus: Corpus) -> None:
    vae = build(corpus)
    whole = EqualLength(corpus.splits["valid"], 1000)  # one batch per length draws z before anything else
    first = list(whole.epoch())[:1]
    full, encoder = evaluate(vae, first), information_only(vae, first)
    for column in ("mean", "logvar", "origin", "kl"):
        assert torch.equal(getattr(full, column), getattr(encoder, column))
    assert encoder.log_likelihood.eq(0).all()


def test_the_truth_travels_along(corpus: Corpus, batches: EqualLength) -> None:
    truth = torch.from_numpy(corpus.splits["valid"].log_probability.copy())
    measured = evaluate(build(corpus), batches.epoch(), true_log_probability=truth)
    assert torch.equal(measured.true_log_probability, truth)
    assert replace(measured, true_log_probability=None).true_log_probability is None


def test_importance_weighting_is_tighter_and_chunks_do_not_bias_it(
    corpus: Corpus, batches: EqualLength, monkeypatch: pytest.MonkeyPatch
) -> None:
    vae = build(corpus)
    with torch.no_grad():
        vae.posterior.linear.weight.normal_(0, 20)  # far from p(z|x), so that the bounds differ
    elbo = evaluate(vae, batches.epoch()).elbo.mean().item()
    whole = importance_weighted(vae, batches.epoch(), 50)["iw_nll"]
    monkeypatch.setattr("flowsearch.metrics.importance.SEQUENCES", 17)
    cut = importance_weighted(vae, batches.epoch(), 50)["iw_nll"]
    assert whole < -elbo - 0.5
    assert cut == pytest.approx(whole, abs=0.2)
