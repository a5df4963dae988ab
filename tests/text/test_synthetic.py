"""The synthetic corpora know their own log p(x): on a grammar small enough to write out, everything is checked."""

from __future__ import annotations

import math
from importlib import import_module
from itertools import pairwise, product
from typing import Literal

import numpy as np
import pytest

from flowsearch.errors import CorpusError
from flowsearch.text import Split, synthetic
from flowsearch.text.synthetic import EDGE, ENGLISH, LATENTS, Codes, Grammar, Language, generate

TINY = Grammar(
    slots={"which": ("the", "this"), "how": ("old", "new", "red"), "what": ("cat", "dog"), "does": ("eats", "runs")},
    moves={
        EDGE: {"which": 1.0},
        "which": {"how": 0.5, "what": 0.5},
        "how": {"how": 0.4, "what": 0.6},
        "what": {"does": 1.0},
        "does": {EDGE: 0.8, "which": 0.2},
    },
    max_words=6,
)
KINDS = sorted(LATENTS)
MODULE = import_module("flowsearch.text.synthetic")  # the room exports a function of the same name


Kind = Literal["codes", "gauss", "banana", "twin"]


def walks(grammar: Grammar) -> list[tuple[str, ...]]:
    """Every sequence of slots, by going every way."""
    found: list[tuple[str, ...]] = []
    open_ends: list[tuple[str, ...]] = [(EDGE,)]
    while open_ends:
        walk = open_ends.pop()
        for there in grammar.moves[walk[-1]]:
            if there == EDGE:
                found.append(walk[1:])
            elif len(walk) <= grammar.max_words:
                open_ends.append((*walk, there))
    return found


def sentences(grammar: Grammar) -> list[tuple[str, ...]]:
    return [words for walk in walks(grammar) for words in product(*(grammar.slots[slot] for slot in walk))]


def language(kind: str, grammar: Grammar = TINY) -> Language:
    return Language.invent(grammar, LATENTS[kind], strength=1.0, rng=np.random.default_rng(3))


def every_sentence() -> Split:
    return Split.encode(TINY.vocabulary, sentences(TINY))


@pytest.mark.parametrize("kind", KINDS)
def test_all_sentences_together_have_probability_one(kind: str) -> None:
    split = every_sentence()
    assert len(split) > 300
    assert math.fsum(np.exp(language(kind).log_probability(split))) == pytest.approx(1, abs=1e-12)


@pytest.mark.parametrize("kind", KINDS)
def test_all_sentences_have_probability_one_under_each_z(kind: str) -> None:
    split, tongue = every_sentence(), language(kind)
    for phi in tongue.latent.draw(np.random.default_rng(0), 3):
        each = tongue.log_conditional(split, np.tile(phi, (len(split), 1)))
        assert math.fsum(np.exp(each)) == pytest.approx(1, abs=1e-12)


def test_enumeration_over_codes_equals_an_explicit_loop() -> None:
    tongue = Language.invent(TINY, Codes(5), strength=1.0, rng=np.random.default_rng(3))
    vocabulary = TINY.vocabulary
    slot_of = {word: slot for slot, words in TINY.slots.items() for word in words}
    score = {
        (word, code): -math.log(words.index(word) + 1) + tongue.loadings[vocabulary.encode([word])[0] - 4, code]
        for words in TINY.slots.values()
        for word in words
        for code in range(5)
    }
    kept = math.fsum(
        math.prod(TINY.moves[a][b] for a, b in zip((EDGE, *w), (*w, EDGE), strict=True)) for w in walks(TINY)
    )
    for words in sentences(TINY)[::37]:
        places = [EDGE, *(slot_of[word] for word in words), EDGE]
        probability = math.prod(TINY.moves[a][b] for a, b in pairwise(places)) / kept
        mixture = 0.0
        for code in range(5):
            given = 1.0
            for word in words:
                rivals = TINY.slots[slot_of[word]]
                given *= math.exp(score[word, code]) / sum(math.exp(score[rival, code]) for rival in rivals)
            mixture += given / 5
        found = tongue.log_probability(Split.encode(vocabulary, [words]))[0]
        assert found == pytest.approx(math.log(probability * mixture), abs=1e-12)


@pytest.mark.parametrize("kind", ["gauss", "banana", "twin"])
def test_the_nodes_integrate_the_prior(kind: str) -> None:
    latent = LATENTS[kind]
    phi, log_weight = latent.nodes(64)
    draws = latent.draw(np.random.default_rng(0), 400_000)
    assert np.exp(log_weight).sum() == pytest.approx(1, abs=1e-12)
    assert np.exp(log_weight) @ phi == pytest.approx(draws.mean(0), abs=0.01)
    assert np.exp(log_weight) @ phi**2 == pytest.approx((draws**2).mean(0), abs=0.01)


@pytest.mark.parametrize("kind", KINDS)
def test_quadrature_agrees_with_draws_from_the_prior(kind: str) -> None:
    tongue = language(kind, ENGLISH)
    split, _ = tongue.sample(np.random.default_rng(0), 3)
    for document, exact in zip(split, tongue.log_probability(split), strict=True):
        one = Split(document, np.array([0, len(document)]))
        phi = tongue.latent.draw(np.random.default_rng(1), 40_000)
        many = Split(np.tile(one.tokens, 40_000), np.arange(40_001) * len(document))
        ratio = np.exp(tongue.log_conditional(many, phi) - exact)
        assert abs(ratio.mean() - 1) < 4 * ratio.std() / 200


@pytest.mark.parametrize("kind", KINDS)
def test_exact_entropy_agrees_with_the_facts_and_with_a_sample(kind: str) -> None:
    tongue = language(kind)
    log_p = tongue.log_probability(every_sentence())
    entropy = -math.fsum(np.exp(log_p) * log_p)
    facts = tongue.facts(np.random.default_rng(1))
    assert abs(facts["entropy"] - entropy) < 4 * facts["entropy_stderr"]
    assert facts["entropy_stderr"] < 0.02
    sample, _ = tongue.sample(np.random.default_rng(2), 20_000)
    own = -tongue.log_probability(sample)
    assert abs(own.mean() - entropy) < 4 * own.std() / np.sqrt(20_000)


def test_conditional_entropy_of_codes_equals_enumeration() -> None:
    tongue = Language.invent(TINY, Codes(5), strength=1.0, rng=np.random.default_rng(3))
    split = every_sentence()
    each = [tongue.log_conditional(split, np.tile(phi, (len(split), 1))) for phi in np.eye(5)]
    expected = -math.fsum(math.fsum(np.exp(log_p) * log_p) for log_p in each) / 5
    assert tongue.conditional_entropy() == pytest.approx(expected, abs=1e-12)


def test_moves_are_counted_and_sentences_kept_as_enumeration_says() -> None:
    places = [*TINY.slots, EDGE]
    kept, expected = 0.0, np.zeros_like(TINY.transition)
    for walk in walks(TINY):
        steps = list(zip((EDGE, *walk), (*walk, EDGE), strict=True))
        probability = math.prod(TINY.moves[a][b] for a, b in steps)
        kept += probability
        for here, there in steps:
            expected[places.index(here), places.index(there)] += probability
    assert TINY.kept == pytest.approx(kept, abs=1e-12)
    assert TINY.expected_moves == pytest.approx(expected / kept, abs=1e-12)


def test_samples_follow_the_grammar_and_its_probabilities() -> None:
    tongue = language("codes")
    sample, _ = tongue.sample(np.random.default_rng(0), 50_000)
    seen: dict[bytes, int] = {}
    for document in sample:
        seen[document.tobytes()] = seen.get(document.tobytes(), 0) + 1
    everything = every_sentence()
    known = {document.tobytes(): p for document, p in zip(everything, tongue.log_probability(everything), strict=True)}
    assert seen.keys() <= known.keys()
    likely = [key for key, log_p in known.items() if 50_000 * math.exp(log_p) > 25]
    excess = [
        (seen.get(key, 0) - 50_000 * math.exp(known[key])) / math.sqrt(50_000 * math.exp(known[key])) for key in likely
    ]
    assert len(likely) > 50
    assert np.mean(np.square(excess)) == pytest.approx(1, abs=5 * math.sqrt(2 / len(likely)))


@pytest.mark.parametrize("kind", KINDS)
def test_a_corpus_is_determined_by_its_knobs(kind: Kind, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(MODULE, "OWN_SAMPLE", 500)
    one, again, other = (synthetic(kind=kind, train=200, valid=20, test=20, seed=seed) for seed in (1, 1, 2))
    assert one.checksum == again.checksum
    assert dict(one.facts) == dict(again.facts)
    assert one.checksum != other.checksum
    more = synthetic(kind=kind, train=400, valid=20, test=20, seed=1)
    assert more.splits["valid"].checksum == one.splits["valid"].checksum
    assert dict(more.facts) == dict(one.facts)


@pytest.mark.parametrize("kind", KINDS)
def test_the_facts_hold_on_the_splits(kind: Kind) -> None:
    corpus = synthetic(kind=kind, train=4_000, valid=100, test=100)
    log_p = corpus.splits["train"].log_probability
    assert log_p is not None
    assert abs(-log_p.mean() - corpus.facts["entropy"]) < 4 * log_p.std() / np.sqrt(len(log_p))
    assert corpus.facts["quadrature_error"] < 1e-6
    assert 1 < corpus.facts["information"] < 4
    assert 12 < corpus.splits["train"].tokens_per_document < 14
    assert len(corpus.vocabulary) - 4 == len(ENGLISH.words) == len(set(ENGLISH.words))


def test_without_strength_z_says_nothing() -> None:
    facts = synthetic(kind="gauss", train=10, valid=1, test=1, strength=0.0).facts
    assert facts["information"] == pytest.approx(0, abs=1e-9)


def test_a_strength_that_no_quadrature_can_follow_is_refused() -> None:
    with pytest.raises(CorpusError, match="expected a smaller strength"):
        generate(ENGLISH, LATENTS["gauss"], {"train": 10}, strength=200.0)


def test_blocks_of_documents_do_not_change_their_probabilities(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(MODULE, "BLOCK", 1)
    tongue = language("gauss", ENGLISH)
    split, _ = tongue.sample(np.random.default_rng(0), 70)
    halves = [Split(document, np.array([0, len(document)])) for document in split]
    alone = np.concatenate([tongue.log_probability(half) for half in halves[::23]])
    assert tongue.log_probability(split)[::23] == pytest.approx(alone, abs=1e-12)
