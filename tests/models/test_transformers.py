"""Laws of autoregression and of mixing, over every encoder and decoder, and what the transformers promise besides."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any

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
    NoEncoder,
    SequenceFlow,
    StandardNormal,
    TransformerDecoder,
    TransformerEncoder,
)
from flowsearch.models.likelihood import twice_differentiable
from flowsearch.models.transformers import Layers, sinusoids
from flowsearch.objectives import ELBO
from flowsearch.objectives.free_bits import no_free_bits
from flowsearch.text import Corpus
from flowsearch.text.batches import Batch, BucketAndPad
from flowsearch.text.vocabulary import BOS, EOS, PAD, UNK

WORDS, LATENT = 9, 3
SIZES = {"embedding_size": 4, "hidden_size": 6, "layers": 2, "heads": 2, "head_size": 3, "code_size": 4, "dropout": 0.0}
AUTOREGRESSIVE = {name: kind for name, kind in DECODERS.items() if kind is not SequenceFlow}
every_autoregressive = pytest.mark.parametrize("decoder", AUTOREGRESSIVE.values(), ids=AUTOREGRESSIVE)
every_decoder = pytest.mark.parametrize("decoder", DECODERS.values(), ids=DECODERS)
READERS = {name: kind for name, kind in ENCODERS.items() if kind is not NoEncoder}
every_encoder = pytest.mark.parametrize("encoder", READERS.values(), ids=READERS)
transformers = pytest.mark.parametrize("kind", [TransformerEncoder, TransformerDecoder])
in_float64 = pytest.mark.usefixtures("in_float64")


def build(kind: Callable[..., nn.Module], *given: int, scale: float = 0.7, **knobs: Any) -> Any:
    """A module whose parameters are large enough that every word and every z matters; scale 0 leaves them alone."""
    torch.manual_seed(0)
    known = inspect.signature(kind).parameters
    module = kind(*given, **{name: value for name, value in {**SIZES, **knobs}.items() if name in known})
    with torch.no_grad():
        for parameter in module.parameters() if scale else ():
            parameter.copy_(torch.randn_like(parameter) * scale)
    return module.eval()


def batch_of(rows: Tensor, length: int) -> Batch:
    """Rows of tokens of which the first `length` targets count."""
    lengths = torch.full((len(rows),), length)
    return Batch(rows, lengths, torch.arange(len(rows)), rows[:, :-1], padded=length < rows.shape[1] - 1)


def documents(count: int, words: int) -> Tensor:
    torch.manual_seed(1)
    edge = torch.full((count, 1), BOS)
    return torch.cat([edge, torch.randint(UNK, WORDS, (count, words)), edge * EOS], dim=1)


def prefixes(model: Decoder, z: Tensor, rows: Tensor) -> Tensor:
    """log p of the first 1, 2, ... tokens of each row [T, n, B]."""
    return torch.stack([model(z, batch_of(rows, length)) for length in range(1, rows.shape[1])])


@in_float64
@every_autoregressive
def test_no_word_is_told_of_later_ones(decoder: type[Decoder]) -> None:
    model, z = build(decoder, WORDS, LATENT), torch.randn(2, 5, LATENT)
    rows = documents(5, words=8)
    scores = prefixes(model, z, rows)
    for changed in range(2, rows.shape[1]):
        other = rows.clone()
        other[:, changed] = UNK + (rows[:, changed] - UNK + 1) % (WORDS - UNK)
        theirs = prefixes(model, z, other)
        torch.testing.assert_close(theirs[: changed - 1], scores[: changed - 1], rtol=1e-12, atol=1e-12)
        assert ((theirs[changed - 1 :] - scores[changed - 1 :]).abs() > 1e-6).all()


@in_float64
@every_autoregressive
def test_z_matters_to_every_word(decoder: type[Decoder]) -> None:
    model, z = build(decoder, WORDS, LATENT), torch.randn(1, 5, LATENT, requires_grad=True)
    scores = prefixes(model, z, documents(5, words=8))
    steps = torch.cat([scores[:1], scores[1:] - scores[:-1]])
    for step in steps:
        (slope,) = torch.autograd.grad(step.sum(), z, retain_graph=True)
        assert (slope.abs().sum(-1) > 1e-6).all()


@in_float64
@every_autoregressive
@pytest.mark.parametrize("training", [False, True])
def test_greedy_writes_what_scores_highest(decoder: type[Decoder], training: bool) -> None:
    model, z = build(decoder, WORDS, LATENT, dropout=0.5), torch.randn(6, LATENT)
    model.train(training)  # what is written never has dropout
    written = model.generate(z, temperature=0.0, max_words=10)
    assert model.training == training
    model.eval()
    assert max(map(len, written)) > 3
    for point, document in zip(z, written, strict=True):
        ended = [*document, EOS][:10]
        for place, word in enumerate(ended):
            rows = torch.tensor([[BOS, *ended[:place], candidate] for candidate in range(WORDS)])
            scores = model(point.expand(1, WORDS, LATENT), batch_of(rows, place + 1))[0]
            scores[[PAD, BOS]] = -torch.inf
            assert scores.argmax() == word


@every_encoder
@every_decoder
def test_any_mix_learns(encoder: type[Encoder], decoder: type[Decoder], corpus: Corpus) -> None:
    sizes = {"hidden_size": 16, "embedding_size": 16, "heads": 2, "head_size": 8}
    read = build(encoder, len(corpus.vocabulary), scale=0, **sizes)
    write = build(decoder, len(corpus.vocabulary), LATENT, scale=0, **sizes)
    vae = VAE(read, Gaussian(LATENT, read.state_size), StandardNormal(LATENT), write)
    loss, descent = ELBO(lambda step: 1.0, no_free_bits), torch.optim.Adam(vae.parameters(), lr=0.01)

    def epoch() -> float:
        total = 0.0
        for batch in BucketAndPad(corpus.splits["train"], 16).epoch():
            terms = loss(vae, batch, 0)
            descent.zero_grad()
            terms.loss.backward()
            descent.step()
            total += terms.loss.item()
        return total

    first = epoch()
    for _ in range(3):
        last = epoch()
    assert last < 0.95 * first


@in_float64
def test_places_matter() -> None:
    rows = documents(2, words=8)
    swapped = rows.clone()
    swapped[:, [1, 2]] = rows[:, [2, 1]]
    assert (rows != swapped).any(1).all()
    read = build(TransformerEncoder, WORDS)
    assert ((read(batch_of(rows, 9)) - read(batch_of(swapped, 9))).abs().amax(1) > 1e-6).all()
    # Without places, one layer would give a word the same probability after the same words in any order.
    write, z = build(TransformerDecoder, WORDS, LATENT, layers=1), torch.randn(1, 2, LATENT)
    one, two = ((scores := prefixes(write, z, tokens))[5] - scores[4] for tokens in (rows, swapped))
    assert ((one - two).abs() > 1e-6).all()


@in_float64
@pytest.mark.parametrize("silent", ["before", "beside"])
def test_z_is_heard_both_before_and_beside_the_words(silent: str) -> None:
    model, batch = build(TransformerDecoder, WORDS, LATENT), batch_of(documents(5, words=3), 4)
    with torch.no_grad():
        model.from_z.chunk(2)[silent == "beside"].zero_()
    scores = model(torch.randn(2, 5, LATENT), batch)
    assert ((scores[0] - scores[1]).abs() > 1e-6).all()


@in_float64
@transformers
def test_long_documents_are_read(kind: type[nn.Module]) -> None:
    batch, z = batch_of(documents(2, words=400), 401), torch.randn(1, 2, LATENT)
    states = build(kind, WORDS)(batch) if kind is TransformerEncoder else build(kind, WORDS, LATENT)(z, batch)
    assert states.isfinite().all()


@in_float64
def test_sinusoids_tell_places_apart_at_any_width() -> None:
    for width in (1, 2, 5, 8):
        assert sinusoids(torch.arange(7.0), width).shape == (7, width)
    places = sinusoids(torch.arange(2000.0), 16)
    assert torch.pdist(places).min() > 1e-3
    torch.testing.assert_close(places.square().sum(-1), torch.full((2000,), 8.0))


@in_float64
def test_long_documents_are_written() -> None:
    model = build(TransformerDecoder, WORDS, LATENT)
    with torch.no_grad():  # every state is ones, which like <unk> better than the end
        model.layers.norm.weight.zero_()
        model.layers.norm.bias.fill_(1)
        model.words.weight[EOS] = 0
        model.words.weight[UNK] = 1
    written = model.generate(torch.randn(3, LATENT), temperature=0.0, max_words=300)
    assert [len(document) for document in written] == [300] * 3


@in_float64
def test_a_step_is_the_last_place_of_all() -> None:
    torch.manual_seed(0)
    layers = Layers(3, heads=2, head_size=4, dropout=0.3).eval()
    x = torch.randn(5, 7, 8)
    seen = layers.nothing_seen(5)
    steps = torch.cat([layers.step(x[:, place : place + 1], seen) for place in range(7)], dim=1)
    torch.testing.assert_close(steps, layers(x, causal=True), rtol=1e-10, atol=1e-12)
    assert not torch.allclose(steps, layers(x))


@in_float64
def test_layers_start_different() -> None:
    first, second = Layers(2, heads=2, head_size=4, dropout=0.0).layers
    assert not torch.equal(first.linear1.weight, second.linear1.weight)


@in_float64
@transformers
def test_eval_is_deterministic_and_the_same_without_gradients(kind: type[nn.Module]) -> None:
    rows = documents(3, words=5)
    batch = batch_of(rows, 4)
    given = (batch,) if kind is TransformerEncoder else (torch.randn(2, 3, LATENT), batch)
    model = build(kind, WORDS, LATENT) if kind is TransformerDecoder else build(kind, WORDS)
    with torch.no_grad():  # torch takes another path here
        quiet = model(*given)
    assert torch.equal(model(*given), model(*given))
    torch.testing.assert_close(model(*given), quiet, rtol=1e-12, atol=1e-12)
    noisy = build(kind, WORDS, LATENT, dropout=0.5) if kind is TransformerDecoder else build(kind, WORDS, dropout=0.5)
    assert torch.equal(noisy(*given), model(*given))
    assert not torch.equal(noisy.train()(*given), noisy(*given))


@in_float64
def test_a_language_model_needs_no_z() -> None:
    rows = documents(4, words=5)
    model = build(TransformerDecoder, WORDS, 0)
    scores = model(torch.empty(2, 4, 0), batch_of(rows, 6))
    assert scores.shape == (2, 4)
    assert torch.equal(scores[0], scores[1])
    assert len(set(scores[0].tolist())) == 4
    assert len(model.generate(torch.empty(4, 0), temperature=1.0, max_words=5)) == 4


@in_float64
@every_decoder
def test_state_dict_round_trip(decoder: type[Decoder]) -> None:
    model, other = build(decoder, WORDS, LATENT), build(decoder, WORDS, LATENT, scale=0.1)
    z, batch = torch.randn(1, 3, LATENT), batch_of(documents(3, words=5), 6)
    other.load_state_dict(model.state_dict())
    scores = []
    for one in (model, other):
        torch.manual_seed(2)
        scores.append(one(z, batch))
    assert torch.equal(*scores)


@every_decoder
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
def test_scores_have_the_dtype_of_z(decoder: type[Decoder], dtype: torch.dtype) -> None:
    model = build(decoder, WORDS, LATENT).to(dtype)
    z = torch.randn(1, 3, LATENT, dtype=dtype)
    assert model(z, batch_of(documents(3, words=5), 6)).dtype == dtype
    assert len(model.generate(z[0], temperature=1.0, max_words=4)) == 3


@every_encoder
@every_decoder
@pytest.mark.parametrize("length", [6, 4])
def test_bfloat16_is_close(encoder: type[Encoder], decoder: type[Decoder], length: int) -> None:
    read, write = build(encoder, WORDS, scale=0.3), build(decoder, WORDS, LATENT, scale=0.3)
    given = write, Gaussian(LATENT, read.state_size), StandardNormal(LATENT)
    exact, rough = (VAE(read, given[1], given[2], given[0], bf16=bf16) for bf16 in (False, True))
    z, batch = torch.randn(2, 3, LATENT), batch_of(documents(3, words=5), length)
    scores = []
    for vae in (exact, rough):
        torch.manual_seed(2)
        scores.append(vae.decode(z, batch))
        torch.testing.assert_close(vae.encode(batch).base.mean, exact.encode(batch).base.mean, rtol=2e-2, atol=2e-2)
    assert scores[1].dtype == torch.float32
    torch.testing.assert_close(scores[1], scores[0], rtol=3e-2, atol=0.1)
    scores[1].mean().backward()
    assert all(parameter.grad.isfinite().all() for parameter in write.parameters())


@in_float64
@every_decoder
@pytest.mark.parametrize("length", [3, 2])
def test_scores_have_second_derivatives(decoder: type[Decoder], length: int) -> None:
    model, batch = build(decoder, WORDS, LATENT, scale=0.3), batch_of(documents(2, words=2), length)

    def scores(z: Tensor) -> Tensor:
        torch.manual_seed(2)
        return model(z, batch)

    with twice_differentiable():
        assert torch.autograd.gradgradcheck(scores, (torch.randn(1, 2, LATENT, requires_grad=True),))


@in_float64
def test_reading_has_second_derivatives() -> None:
    torch.manual_seed(0)
    layers = Layers(2, heads=2, head_size=2, dropout=0.0)
    x, padding = torch.randn(2, 3, 4, requires_grad=True), torch.arange(3) >= torch.tensor([[3], [2]])
    with twice_differentiable():
        assert torch.autograd.gradgradcheck(lambda x: layers(x, padding=padding)[:, :2].sin(), (x,))
