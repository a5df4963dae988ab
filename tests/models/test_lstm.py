"""Laws of every exported encoder and decoder, and what the LSTM ones promise beyond them."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from flowsearch.models import (
    DECODERS,
    ENCODERS,
    VAE,
    Decoder,
    Encoder,
    Gaussian,
    LSTMDecoder,
    LSTMEncoder,
    SequenceFlow,
    StandardNormal,
)
from flowsearch.text import Split
from flowsearch.text.batches import Batch
from flowsearch.text.vocabulary import BOS, EOS, PAD

pytestmark = pytest.mark.usefixtures("in_float64")

WORDS, LATENT = 9, 3
SIZES = {"embedding_size": 4, "hidden_size": 5, "dropout": 0.0}
SIZES |= {"layers": 2, "heads": 2, "head_size": 3, "code_size": 4}
READING = {name: kind for name, kind in ENCODERS.items() if name != "NoEncoder"}
every_encoder = pytest.mark.parametrize("encoder", READING.values(), ids=READING)
every_decoder = pytest.mark.parametrize("decoder", DECODERS.values(), ids=DECODERS)
EXACT = {name: kind for name, kind in DECODERS.items() if kind is not SequenceFlow}  # whose score is an estimate
every_exact_decoder = pytest.mark.parametrize("decoder", EXACT.values(), ids=EXACT)


def loud(module: nn.Module) -> nn.Module:
    """Parameters large enough that every word and every z matters."""
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.copy_(torch.randn_like(parameter) * 0.7)
    return module.eval()


def build(kind: Callable[..., nn.Module], *given: int, **knobs: Any) -> Any:
    torch.manual_seed(0)
    known = inspect.signature(kind).parameters
    return loud(kind(*given, **{name: value for name, value in {**SIZES, **knobs}.items() if name in known}))


@pytest.fixture(scope="module")
def split() -> Split:
    rng = np.random.default_rng(0)
    documents = [[BOS, *rng.integers(3, WORDS, words), EOS] for words in (4, 1, 7, 4, 0)]
    tokens = np.array([token for document in documents for token in document], np.int32)
    return Split(tokens, np.cumsum([0, *map(len, documents)]))


@pytest.fixture
def together(split: Split) -> Batch:
    return Batch.gather(split, np.arange(len(split)))


@pytest.fixture
def alone(split: Split) -> list[Batch]:
    return [Batch.gather(split, np.array([document])) for document in range(len(split))]


@every_encoder
def test_padding_changes_no_state(encoder: type[Encoder], together: Batch, alone: list[Batch]) -> None:
    model = build(encoder, WORDS)
    states = model(together)
    assert together.padded
    assert states.shape == (5, model.state_size)
    torch.testing.assert_close(states, torch.cat([model(batch) for batch in alone]), rtol=1e-12, atol=1e-12)
    assert not torch.allclose(states[0], states[3])  # as long, but other words


@every_exact_decoder
def test_padding_changes_no_score(decoder: type[Decoder], together: Batch, alone: list[Batch]) -> None:
    model = build(decoder, WORDS, LATENT)
    z = torch.randn(2, 5, LATENT)
    scores = model(z, together)
    assert scores.shape == (2, 5)
    one_by_one = torch.cat([model(z[:, i : i + 1], batch) for i, batch in enumerate(alone)], dim=1)
    torch.testing.assert_close(scores, one_by_one, rtol=1e-12, atol=1e-12)


@every_exact_decoder
def test_padding_learns_nothing(decoder: type[Decoder], together: Batch, alone: list[Batch]) -> None:
    model = build(decoder, WORDS, LATENT)
    z = torch.randn(1, 5, LATENT)
    model(z, together).sum().backward()
    gradients = [parameter.grad.clone() for parameter in model.parameters()]
    model.zero_grad()
    sum(model(z[:, i : i + 1], batch).sum() for i, batch in enumerate(alone)).backward()
    for padded, parameter in zip(gradients, model.parameters(), strict=True):
        torch.testing.assert_close(padded, parameter.grad, rtol=1e-10, atol=1e-12)


@every_exact_decoder
def test_n_samples_are_n_decodes(decoder: type[Decoder], together: Batch) -> None:
    model = build(decoder, WORDS, LATENT)
    z = torch.randn(4, 5, LATENT)
    scores = model(z, together)
    separately = torch.cat([model(sample[None], together) for sample in z])
    torch.testing.assert_close(scores, separately, rtol=1e-12, atol=1e-12)
    assert not torch.allclose(scores[0], scores[1])


@every_exact_decoder
def test_scores_are_log_probabilities(decoder: type[Decoder]) -> None:
    # Every document of at most one word, and everything longer by its first two tokens: they share out probability 1.
    model = build(decoder, WORDS, LATENT)
    z = torch.randn(1, 1, LATENT)

    def total(prefixes: list[list[int]]) -> Tensor:
        tokens = torch.tensor([[BOS, *prefix] for prefix in prefixes])
        lengths = torch.full((len(tokens),), tokens.shape[1] - 1)
        batch = Batch(tokens, lengths, torch.arange(len(tokens)), tokens[:, :-1], padded=False)
        return model(z.expand(1, len(tokens), LATENT), batch).exp().sum()

    ended = total([[EOS]])
    going_on = total([[first, second] for first in range(WORDS) if first != EOS for second in range(WORDS)])
    torch.testing.assert_close(ended + going_on, torch.tensor(1.0), rtol=1e-12, atol=1e-12)


@every_decoder
def test_every_parameter_learns_from_scores(decoder: type[Decoder], together: Batch) -> None:
    model = build(decoder, WORDS, LATENT)
    z = torch.randn(1, 5, LATENT, requires_grad=True)
    model(z, together).sum().backward()
    assert z.grad is not None
    assert (z.grad.abs().sum(-1) > 0).all()
    for name, parameter in model.named_parameters():
        assert parameter.grad.abs().max() > 0, name


@every_decoder
def test_generation_stops_at_the_end_and_writes_words_only(decoder: type[Decoder]) -> None:
    model = build(decoder, WORDS, LATENT)
    torch.manual_seed(3)
    written = model.generate(torch.randn(200, LATENT), temperature=1.0, max_words=12)
    assert len(written) == 200
    assert all(len(document) <= 12 for document in written)
    assert not {PAD, BOS, EOS} & {word for document in written for word in document}
    assert {len(document) for document in written} >= {0, 1, 2}


@every_decoder
def test_greedy_is_deterministic_and_the_limit_of_low_temperature(decoder: type[Decoder]) -> None:
    model = build(decoder, WORDS, LATENT)
    z = torch.randn(50, LATENT)
    greedy = model.generate(z, temperature=0.0, max_words=12)
    torch.manual_seed(9)
    assert model.generate(z, temperature=0.0, max_words=12) == greedy
    assert model.generate(z, temperature=1e-4, max_words=12) == greedy
    assert model.generate(z, temperature=1.0, max_words=12) != greedy
    alone = [model.generate(point[None], temperature=0.0, max_words=12)[0] for point in z]
    assert alone == greedy


@every_exact_decoder
def test_temperature_flattens(decoder: type[Decoder]) -> None:
    model = build(decoder, WORDS, LATENT)
    z = torch.randn(1, LATENT).expand(3000, LATENT)

    def spread(temperature: float) -> float:
        torch.manual_seed(4)
        first = [document[:1] for document in model.generate(z, temperature=temperature, max_words=1)]
        share = torch.tensor([first.count(word) / 3000 for word in ([], *([w] for w in range(3, WORDS)))])
        return -(share * share.clamp(min=1e-9).log()).sum().item()

    assert spread(0.3) < spread(1.0) - 0.05 < spread(3.0) - 0.1


@every_exact_decoder
def test_samples_follow_the_scores(decoder: type[Decoder]) -> None:
    model = build(decoder, WORDS, LATENT)
    z = torch.randn(1, 1, LATENT)
    tokens = torch.tensor([[BOS, word] for word in range(WORDS)])
    batch = Batch(tokens, torch.ones(WORDS, dtype=torch.long), torch.arange(WORDS), tokens[:, :-1], padded=False)
    share = model(z.expand(1, WORDS, LATENT), batch)[0].exp()
    share[[PAD, BOS]] = 0  # never written
    torch.manual_seed(5)
    written = model.generate(z[0].expand(20_000, LATENT), temperature=1.0, max_words=1)
    seen = torch.tensor(
        [sum(document[:1] == ([] if word == EOS else [word]) for document in written) for word in range(WORDS)]
    )
    torch.testing.assert_close(seen / 20_000, (share / share.sum()).detach(), rtol=0, atol=0.02)


@pytest.mark.parametrize("learns", [True, False])
def test_the_last_word_can_stand_still(learns: bool) -> None:
    model = build(LSTMDecoder, WORDS, LATENT, last_word_learns=learns)
    tokens = torch.tensor([[BOS, WORDS - 1, WORDS - 2, EOS]])
    batch = Batch(tokens, torch.tensor([3]), torch.tensor([0]), tokens[:, :-1], padded=False)
    model(torch.randn(1, 1, LATENT), batch).sum().backward()
    assert bool(model.embed.weight.grad[WORDS - 1].any()) == learns
    assert model.embed.weight.grad[WORDS - 2].any()
    fresh = LSTMDecoder(WORDS, LATENT, embedding_size=4, hidden_size=5, last_word_learns=learns)
    assert fresh.embed.weight[WORDS - 1].any()  # as it was initialised, and not the zero of a padding row


def test_dropout_works_in_training_only(together: Batch) -> None:
    model = build(LSTMDecoder, WORDS, LATENT, dropout=0.5)
    z = torch.randn(1, 5, LATENT)
    assert torch.equal(model(z, together), model(z, together))
    model.train()
    assert not torch.equal(model(z, together), model(z, together))


def test_initialisation_is_the_protocols() -> None:
    encoder = LSTMEncoder(50, embedding_size=20, hidden_size=30)
    decoder = LSTMDecoder(50, LATENT, embedding_size=20, hidden_size=30)
    posterior = Gaussian(LATENT, 30)
    for module in (encoder, decoder, posterior):
        for name, parameter in module.named_parameters():
            bound = 0.1 if name.startswith("embed") else 0.01
            assert 0.8 * bound < parameter.abs().max() <= bound, name  # uniform, LSTM biases included


def test_a_vae_encodes_decodes_and_writes(together: Batch) -> None:
    vae = VAE(build(LSTMEncoder, WORDS), Gaussian(LATENT, 5), StandardNormal(LATENT), build(LSTMDecoder, WORDS, LATENT))
    draw = vae.encode(together).draw(2)
    assert vae.decode(draw.z, together).shape == (2, 5)
    assert len(vae.generate(draw.z[0], temperature=0.0, max_words=3)) == 5
    assert [name for name, _ in vae.named_children()] == ["encoder", "posterior", "prior", "decoder"]


def test_bfloat16_keeps_what_is_about_z_in_float32(together: Batch) -> None:
    torch.set_default_dtype(torch.float32)
    models = build(LSTMEncoder, WORDS), Gaussian(LATENT, 5), StandardNormal(LATENT), build(LSTMDecoder, WORDS, LATENT)
    exact, rough = VAE(*models), VAE(*models, bf16=True)
    q = rough.encode(together)
    assert q.base.mean.dtype == torch.float32
    z = torch.randn(1, 5, LATENT)
    score = rough.decode(z, together)
    assert score.dtype == torch.float32
    torch.testing.assert_close(score, exact.decode(z, together), rtol=2e-2, atol=0.1)
    assert not torch.equal(score, exact.decode(z, together))
