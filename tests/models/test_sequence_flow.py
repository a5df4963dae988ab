"""SequenceFlow: a distribution over documents, made by an invertible map of all places at once."""

from __future__ import annotations

import math
from itertools import product
from typing import Any

import pytest
import torch
from torch import Tensor

from flowsearch.models import SequenceFlow
from flowsearch.models.sequence_flow import Around, Lengths
from flowsearch.text.batches import Batch
from flowsearch.text.vocabulary import BOS, EOS, PAD, UNK

pytestmark = pytest.mark.usefixtures("in_float64")

LATENT, CODE = 2, 3


def build(words: int = 3, latent_size: int = LATENT, **knobs: Any) -> SequenceFlow:
    """A decoder over `words` words that is no longer the identity."""
    torch.manual_seed(0)
    sizes = {"code_size": CODE, "couplings": 4, "heads": 2, "head_size": 3} | knobs
    model = SequenceFlow(UNK + words, latent_size, **sizes)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.3 * torch.randn_like(parameter))
    return model


def batch_of(*documents: tuple[int, ...]) -> Batch:
    """Documents of word numbers, 0 being the first word."""
    longest = max(map(len, documents))
    rows = [[BOS, *(UNK + word for word in words), EOS] + [PAD] * (longest - len(words)) for words in documents]
    tokens, lengths = torch.tensor(rows), torch.tensor([len(words) + 1 for words in documents])
    padded = bool(lengths.min() <= longest)
    return Batch(tokens, lengths, torch.arange(len(tokens)), tokens[:, :-1], padded)


def around(lengths: list[int], latent_size: int = LATENT) -> Around:
    """Documents of so many words."""
    places = torch.tensor(lengths) + 1
    z = torch.randn(len(lengths), latent_size)
    return Around.of(z, places, int(places.max()), padded=len(set(lengths)) > 1)


def test_log_det_is_autograds() -> None:
    model, where = build(), around([3])

    def carry(flat: Tensor) -> Tensor:
        codes = torch.cat([flat.view(1, 3, CODE), torch.zeros(1, 1, CODE)], dim=1)
        return model.normalise(codes, where)[0][:, :3].flatten()

    codes = torch.randn(3 * CODE)
    jacobian = torch.autograd.functional.jacobian(carry, codes)
    _, ladj = model.normalise(torch.cat([codes.view(1, 3, CODE), torch.zeros(1, 1, CODE)], dim=1), where)
    torch.testing.assert_close(ladj, torch.linalg.slogdet(jacobian).logabsdet[None], rtol=1e-10, atol=1e-10)
    assert ladj.abs() > 0.1
    by_place = jacobian.view(3, CODE, 3, CODE).abs().amax((1, 3))
    assert (by_place > 1e-6).all()  # every place hears every other, those behind it too


@pytest.mark.parametrize("lengths", [[4, 4], [4, 0, 2]], ids=str)
@pytest.mark.parametrize("couplings", [2, 5])
def test_the_inverse_inverts(lengths: list[int], couplings: int) -> None:
    model, where = build(couplings=couplings), around(lengths)
    base = torch.randn(len(lengths), 5, CODE) * where.is_word.unsqueeze(-1)
    codes = model.invert(base, where)
    torch.testing.assert_close(model.normalise(codes, where)[0], base, rtol=1e-10, atol=1e-10)
    assert (codes[~where.is_word] == 0).all()
    assert not torch.allclose(codes, base)


def test_it_starts_as_the_identity() -> None:
    model = SequenceFlow(UNK + 3, LATENT, code_size=CODE, heads=2, head_size=3)
    codes, where = torch.randn(2, 5, CODE), around([4, 4])
    base, ladj = model.normalise(codes, where)
    torch.testing.assert_close(base, codes)
    assert (ladj == 0).all()


def test_padding_and_company_change_no_score() -> None:
    model, documents = build(), [(0, 2, 1, 1), (), (2,), (1, 0, 0, 2)]
    z, noise = torch.randn(2, 4, LATENT), torch.randn(2, 4, 5, CODE)
    together = model.score(z, batch_of(*documents), noise)
    alone = [
        model.score(z[:, i : i + 1], batch_of(words), noise[:, i : i + 1, : len(words) + 1])
        for i, words in enumerate(documents)
    ]
    torch.testing.assert_close(together, torch.cat(alone, dim=1), rtol=1e-10, atol=1e-10)
    one_by_one = torch.cat([model.score(z[i : i + 1], batch_of(*documents), noise[i : i + 1]) for i in range(2)])
    torch.testing.assert_close(together, one_by_one, rtol=1e-10, atol=1e-10)


def test_padding_learns_nothing() -> None:
    model, documents = build(), [(0, 2, 1, 1), (), (2,)]
    z, noise = torch.randn(1, 3, LATENT), torch.randn(1, 3, 5, CODE)
    gradients = torch.autograd.grad(model.score(z, batch_of(*documents), noise).sum(), list(model.parameters()))
    alone = [
        model.score(z[:, i : i + 1], batch_of(words), noise[:, i : i + 1, : len(words) + 1]).sum()
        for i, words in enumerate(documents)
    ]
    for ours, theirs in zip(gradients, torch.autograd.grad(sum(alone), list(model.parameters())), strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-9, atol=1e-11)


def test_the_words_it_reads_do_not_matter_beside_those_it_scores() -> None:
    model, batch = build(), batch_of((0, 1, 2))
    noise = torch.randn(1, 1, 4, CODE)
    hidden = Batch(batch.tokens, batch.lengths, batch.documents, torch.full_like(batch.inputs, UNK), padded=False)
    z = torch.randn(1, 1, LATENT)
    assert torch.equal(model.score(z, batch, noise), model.score(z, hidden, noise))
    assert not torch.allclose(model.score(z, batch, noise), model.score(z, batch_of((0, 2, 2)), noise))
    assert not torch.allclose(model.score(z, batch, noise), model.score(z + 1, batch, noise))


def test_forward_draws_its_noise() -> None:
    model, batch, z = build(), batch_of((0, 1), (2,)), torch.randn(2, 2, LATENT)
    torch.manual_seed(3)
    score = model(z, batch)
    torch.manual_seed(3)
    assert torch.equal(score, model.score(z, batch, torch.randn(2, 2, 3, CODE)))
    assert not torch.equal(score, model(z, batch))


def spread_out(latent_size: int = LATENT) -> SequenceFlow:
    """A decoder whose codes reach everywhere that its flow goes, so that few samples settle an average."""
    model = build(latent_size=latent_size)
    with torch.no_grad():
        model.means.mul_(0.5)
        model.log_scales.mul_(0.3).add_(0.8)
        for coupling in model.couplings:
            coupling.write.weight.mul_(0.2)
            coupling.write.bias.mul_(0.2)
    return model


def estimates(model: SequenceFlow, z: Tensor, documents: list[tuple[int, ...]], samples: int) -> Tensor:
    """p(x|z) estimated `samples` times [n, documents]."""
    with torch.no_grad():
        return model(z.expand(samples, len(documents), -1), batch_of(*documents)).exp()


def everything(words: int) -> list[tuple[int, ...]]:
    """Every document of at most two words."""
    return [document for length in range(3) for document in product(range(words), repeat=length)]


@pytest.mark.parametrize("latent_size", [LATENT, 0])
def test_documents_share_out_probability_one(latent_size: int) -> None:
    # E_q[p(e) p(x|e) / q(e|x)] = p(x|z), whatever q: constants, log-determinants and Bayes' rule all have to be right.
    model = spread_out(latent_size)
    z = torch.randn(latent_size)
    total = estimates(model, z, everything(3), 4000).sum(-1)
    share = model.lengths(z.expand(3, -1), torch.arange(3)).exp().sum()
    error = total.std() / math.sqrt(len(total))
    assert (total.mean() - share).abs() < 4 * error
    assert error < 0.01 * share


def test_what_is_written_follows_the_scores() -> None:
    model, z, documents = spread_out(), torch.randn(LATENT), everything(3)
    share = estimates(model, z, documents, 4000).mean(0)
    torch.manual_seed(4)
    written = model.generate(z.expand(20_000, -1), temperature=1.0, max_words=2)
    counts = dict.fromkeys(documents, 0)
    for document in written:
        counts[tuple(word - UNK for word in document)] += 1
    seen = torch.tensor([counts[document] / 20_000 for document in documents])
    torch.testing.assert_close(seen, share / share.sum(), rtol=0, atol=0.015)
    assert seen.max() - seen.min() > 0.05


def test_bayes_rule_is_that_of_the_codes() -> None:
    model = build(words=4)
    codes = torch.randn(6, CODE)
    q = torch.distributions.Normal(model.means, model.log_scales.exp()).log_prob(codes.unsqueeze(1)).sum(-1)
    expected = (model.log_prior + q).log_softmax(-1)
    features = torch.cat([codes.square(), codes, torch.ones(6, 1)], dim=1)
    torch.testing.assert_close((features @ model.bayes().t()).log_softmax(-1), expected, rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("latent_size", [LATENT, 0])
def test_lengths_share_out_probability_one(latent_size: int) -> None:
    torch.manual_seed(0)
    lengths = Lengths(latent_size)
    with torch.no_grad():
        for parameter in lengths.parameters():
            parameter.add_(0.3 * torch.randn_like(parameter))
    possible = torch.arange(20_000)
    share = lengths(torch.randn(latent_size).expand(len(possible), -1), possible).exp()
    torch.testing.assert_close(share.sum(), torch.tensor(1.0), rtol=1e-8, atol=0)
    assert (share[:200] > 1e-5).all()


@pytest.mark.parametrize("log_scale", [-8.0, 8.0])
def test_extreme_lengths_stay_finite(log_scale: float) -> None:
    lengths = Lengths(0).float()
    with torch.no_grad():
        lengths.mixture.bias[-4:] = log_scale
    score = lengths(torch.empty(5, 0, dtype=torch.float32), torch.tensor([0, 1, 6, 300, 100_000]))
    assert score.isfinite().all()
    score.sum().backward()
    assert lengths.mixture.bias.grad.isfinite().all()


def test_all_words_are_written_in_one_pass() -> None:
    model, passes = build(), []
    for coupling in model.couplings:
        coupling.layers.register_forward_hook(lambda *_: passes.append(1))
    written = model.generate(torch.randn(20, LATENT), temperature=1.0, max_words=40)
    assert max(map(len, written)) > 10
    assert len(passes) == len(model.couplings)


def test_nothing_but_empty_documents() -> None:
    model, z = build(), torch.randn(1, 2, LATENT)
    score = model(z, batch_of((), ()))
    torch.testing.assert_close(score, model.lengths(z, torch.zeros(1, 2)))
    assert model.generate(z[0], temperature=1.0, max_words=0) == [[], []]
