"""What models write: scores on cases worked out by hand, and laws of every decoder."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from flowsearch.metrics.samples import SCORED, STEPS, bleu, distinct, self_bleu, write, z_effect
from flowsearch.models import DECODERS, POSTERIORS, VAE, Gaussian, LSTMEncoder, NoEncoder, StandardNormal
from flowsearch.text import Batch, Corpus
from flowsearch.training.component import knobs_of

SIZES = {"embedding_size": 6, "hidden_size": 8, "layers": 1, "heads": 2, "head_size": 4, "code_size": 4}
CAT, DOG, A, THE, ON, MAT = range(4, 10)


def model(corpus: Corpus, decoder: Any = "LSTMDecoder", posterior: Any = Gaussian, latent_size: int = 2) -> VAE:
    torch.manual_seed(0)
    words = len(corpus.vocabulary)
    wanted = {name: SIZES[name] for name in knobs_of(DECODERS[decoder]).model_fields if name in SIZES}
    encoder = LSTMEncoder(words, embedding_size=6, hidden_size=8) if latent_size else NoEncoder(words)
    vae = VAE(
        encoder,
        posterior(latent_size, encoder.state_size),
        StandardNormal(latent_size),
        DECODERS[decoder](words, latent_size, **wanted),
    )
    for parameter in vae.parameters():
        nn.init.normal_(parameter, std=0.5)
    return vae


def batch(corpus: Corpus, count: int = 6) -> Batch:
    return Batch.gather(corpus.splits["test"], np.arange(count))


def test_distinct_counts_ngrams_over_all_documents() -> None:
    assert distinct([[CAT, CAT], [CAT, DOG]], 1) == 2 / 4
    assert distinct([[CAT, CAT], [CAT, DOG]], 2) == 1.0
    assert distinct([[CAT, DOG], [CAT, DOG]], 2) == 0.5
    assert math.isnan(distinct([[CAT], []], 2))
    assert math.isnan(distinct([], 1))


def test_bleu_by_hand() -> None:
    whole = [THE, CAT, A, MAT, ON]
    assert bleu(whole, [whole, [DOG]]) == pytest.approx(1.0)
    assert bleu([DOG, DOG], [whole]) == 0.0  # without a common word
    # 3 of 4 words; of 3, 2 and 1 longer n-grams 2, 1 and 0 match, each with one more; equal lengths
    expected = (3 / 4 * 3 / 4 * 2 / 3 * 1 / 2) ** 0.25
    assert bleu([THE, CAT, A, DOG], [[THE, CAT, A, MAT]]) == pytest.approx(expected)
    # counts are clipped to the reference's: one THE of three, no pair of two, each with one more pair; two orders
    assert bleu([THE, THE], [[THE, CAT]]) == pytest.approx((1 / 2 * 1 / 2) ** 0.5)


def test_bleu_is_short_of_words_where_the_nearest_reference_has_more() -> None:
    short, long = [THE, CAT], [THE, CAT, ON, A, MAT]
    assert bleu(short, [long]) == pytest.approx(math.exp(1 - 5 / 2))
    assert bleu(long, [short]) == pytest.approx((2 / 5 * 2 / 5 * 1 / 4 * 1 / 3) ** 0.25)
    assert bleu(short, [long, [DOG, DOG]]) == pytest.approx(1.0)  # the nearest in length, not the one that matches
    assert bleu([THE, CAT, A], [[THE, CAT], [THE, CAT, A, ON]]) == pytest.approx(1.0)  # the shorter of two as near
    assert bleu([THE, CAT, A], [[THE, CAT, A, ON]]) == pytest.approx(math.exp(1 - 4 / 3))


def test_documents_without_words() -> None:
    assert bleu([], [[CAT], []]) == 1.0
    assert bleu([], [[CAT]]) == 0.0
    assert self_bleu([[], []]) == 1.0
    assert math.isnan(self_bleu([[CAT]]))


def test_self_bleu_is_the_mean_over_documents() -> None:
    first, second, third = [THE, CAT, A, DOG], [THE, CAT, A, MAT], [ON]
    each = [bleu(first, [second, third]), bleu(second, [first, third]), 0.0]
    assert self_bleu([first, second, third]) == pytest.approx(sum(each) / 3)
    assert self_bleu([first] * 4) == pytest.approx(1.0)


@pytest.mark.parametrize("decoder", DECODERS)
def test_z_moves_a_decoder_that_uses_it(corpus: Corpus, decoder: str) -> None:
    assert z_effect(model(corpus, decoder), [batch(corpus)]) > 0.01


@pytest.mark.parametrize("decoder", DECODERS)
def test_without_z_there_is_no_effect_of_z(corpus: Corpus, decoder: str) -> None:
    assert z_effect(model(corpus, decoder, latent_size=0), [batch(corpus)]) == pytest.approx(0.0, abs=1e-6)


class Tilted(nn.Module):
    """log p(x|z) = tokens times z_1: its standard deviation per token is that of z_1."""

    def forward(self, z: Tensor, documents: Batch) -> Tensor:
        return z[..., 0] * documents.lengths


def test_the_effect_is_the_standard_deviation_of_the_log_likelihood_per_token(corpus: Corpus) -> None:
    vae = model(corpus)
    vae.decoder = Tilted()  # type: ignore[assignment]
    effect = z_effect(vae, [batch(corpus), batch(corpus, 3)], draws=500)
    assert effect == pytest.approx(1.0, abs=0.1)


class Noisy(nn.Module):
    """An estimate with noise of its own, which does not depend on z."""

    def forward(self, z: Tensor, documents: Batch) -> Tensor:
        return torch.randn(z.shape[:2])


def test_a_decoders_own_noise_is_no_effect_of_z(corpus: Corpus) -> None:
    vae = model(corpus)
    vae.decoder = Noisy()  # type: ignore[assignment]
    assert z_effect(vae, [batch(corpus)]) == 0.0


@pytest.mark.parametrize("name", POSTERIORS)
def test_every_model_writes_as_much_as_asked(corpus: Corpus, name: str) -> None:
    vae = model(corpus, posterior=POSTERIORS[name]).train()
    torch.manual_seed(7)
    state = torch.get_rng_state()
    samples = write(vae, corpus, points=3, max_words=9)
    assert vae.training
    assert torch.equal(torch.get_rng_state(), state)
    for kind in (samples.greedy, samples.sampled, samples.documents, samples.from_mean, samples.from_sample):
        assert len(kind) == 3
    assert len(samples.interpolation) == STEPS
    written = [*samples.greedy, *samples.sampled, *samples.from_mean, *samples.interpolation]
    assert max(map(len, written)) <= 9
    assert {word for document in written for word in document} <= set(corpus.vocabulary.words[2:])
    assert samples.interpolation[0] == samples.from_mean[0]
    assert samples.interpolation[-1] == samples.from_mean[1]
    assert write(vae, corpus, points=3, max_words=9) == samples


def test_more_points_leave_the_first_as_they_were(corpus: Corpus) -> None:
    few, many = (write(model(corpus), corpus, points=points, max_words=9) for points in (2, 5))
    assert few.greedy == many.greedy[:2]
    assert few.sampled == many.sampled[:2]
    assert few.documents == many.documents[:2]
    assert few.scores == many.scores
    assert write(model(corpus), corpus, points=2, max_words=9, seed=1).documents != few.documents
    assert len(write(model(corpus), corpus, points=SCORED + 1, max_words=3).greedy) == SCORED + 1
    assert len(write(model(corpus), corpus, points=99, max_words=3).documents) == len(corpus.splits["test"])


def test_temperature_zero_is_greedy(corpus: Corpus) -> None:
    samples = write(model(corpus), corpus, temperature=0.0, max_words=9)
    assert samples.sampled == samples.greedy
    assert samples.scores["sampled_self_bleu"] == samples.scores["greedy_self_bleu"]


def test_without_z_only_the_prior_speaks(corpus: Corpus) -> None:
    samples = write(model(corpus, latent_size=0), corpus, points=3, max_words=9)
    assert len(set(samples.greedy)) == 1
    assert len(set(samples.sampled)) > 1
    assert samples.from_mean == samples.from_sample == samples.interpolation == ()
    assert samples.scores["greedy_self_bleu"] == pytest.approx(1.0)
    assert samples.scores["z_effect"] == pytest.approx(0.0, abs=1e-6)


def test_one_document_has_nothing_to_be_interpolated_with(corpus: Corpus) -> None:
    samples = write(model(corpus), corpus, points=1, max_words=9)
    assert len(samples.from_mean) == 1
    assert samples.interpolation == ()
