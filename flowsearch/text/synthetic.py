"""Sentences whose true log-likelihood is known: a slot grammar whose words depend on a latent variable.

A sentence is a walk over slots (determiner, adjective, noun, ...), a first-order Markov chain that knows nothing of z;
each slot then chooses a word,

    z ~ p(z),    word | slot, z ~ softmax(log zipf + strength * U_slot . phi(z)),

and no word belongs to two slots. So log p(x) = log p(slots) + log E_z[prod p(word | slot, z)] is one sum over the
words and one integral over z: enumerated where z is a code, by Gauss-Legendre nodes in the radius and equal steps in
the angle where z is a point of the plane. An exact log p(x) turns every bound into a check, E[-ELBO] >= H(X), and the
excess into a gap that can be taken apart as in "Inference Suboptimality in Variational Autoencoders" (Cremer, Li,
Duvenaud, 2018).
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Annotated, Literal

import numpy as np
from pydantic import Field, NonNegativeInt, PositiveInt

from flowsearch.errors import CorpusError
from flowsearch.text.corpus import Corpus, Floats, Offsets, Split
from flowsearch.text.vocabulary import BOS, EOS, SPECIALS, Vocabulary

EDGE = "edge"  # where every sentence begins and ends
TOLERANCE = 1e-6  # nats: the largest change of log p(x) that doubling the nodes may still make
OWN_SAMPLE = 10_000  # sentences from which I(X;Z) is estimated
MEAN_RADIUS = float(np.sqrt(np.pi / 2))  # of a standard normal in the plane
PROBES = 256  # sentences on which the nodes are chosen
BLOCK = 1 << 21  # numbers in one block of a [documents, nodes] table


@dataclass(frozen=True)
class Grammar:
    """Slots with their words, most frequent first, and the probability of every move from slot to slot.

    `moves[a][b]` is the probability that slot b follows slot a; `EDGE` stands for the beginning and the end. A sentence
    of more than `max_words` words is drawn again, so probabilities are given that it is not.

    >>> tiny = Grammar({"who": ("cats", "dogs"), "does": ("sleep",)},
    ...                {EDGE: {"who": 1.0}, "who": {"who": 0.5, "does": 0.5}, "does": {EDGE: 1.0}}, max_words=3)
    >>> tiny.kept
    0.75
    """

    slots: Mapping[str, tuple[str, ...]]
    moves: Mapping[str, Mapping[str, float]]
    max_words: int

    @cached_property
    def words(self) -> tuple[str, ...]:
        return tuple(word for words in self.slots.values() for word in words)

    @cached_property
    def vocabulary(self) -> Vocabulary:
        return Vocabulary(SPECIALS + self.words)

    @cached_property
    def starts(self) -> Offsets:
        """The position of each slot's first word in `words` [S]."""
        sizes = [len(words) for words in self.slots.values()]
        return np.cumsum([0, *sizes[:-1]])

    @cached_property
    def slot_of_word(self) -> Offsets:
        """The slot of each word [V]."""
        return np.repeat(np.arange(len(self.slots)), [len(words) for words in self.slots.values()])

    @cached_property
    def slot_of_token(self) -> Offsets:
        """The slot of each token id, the special tokens being at the edge [4 + V]."""
        return np.concatenate([np.full(len(SPECIALS), len(self.slots)), self.slot_of_word])

    @cached_property
    def zipf(self) -> Floats:
        """log weight of each word before z has a say: -log of its rank in its slot [V]."""
        rank = np.arange(len(self.words)) - self.starts[self.slot_of_word] + 1
        weight: Floats = -np.log(rank)
        return weight

    @cached_property
    def transition(self) -> Floats:
        """Probability of each move [S + 1, S + 1]; the edge is the last row (beginning) and the last column (end)."""
        places = [*self.slots, EDGE]
        table = np.array([[self.moves[here].get(there, 0.0) for there in places] for here in places])
        assert np.allclose(table.sum(1), 1.0)
        assert table[-1, -1] == 0.0
        return table

    @cached_property
    def _survival(self) -> Floats:
        """Probability of having come to the end when at most n more words may follow this place [L + 1, S + 1]."""
        rows = [self.transition[:, -1]]
        for _ in range(self.max_words):
            rows.append(self.transition[:, -1] + self.transition[:, :-1] @ rows[-1][:-1])
        return np.array(rows)

    @property
    def kept(self) -> float:
        """Probability that a walk has at most `max_words` words."""
        return float(self._survival[self.max_words][-1])

    @cached_property
    def expected_moves(self) -> Floats:
        """How often a sentence makes each move, in expectation [S + 1, S + 1]."""
        arrived = np.eye(len(self.slots) + 1)[-1]
        total = np.zeros_like(self.transition)
        for left in range(self.max_words, -1, -1):
            # after the move, `left - 1` more words may follow a word; none follows the end
            finish = np.append(self._survival[left - 1][:-1] if left else np.zeros(len(self.slots)), 1.0)
            total += arrived[:, None] * self.transition * finish
            arrived = np.append((arrived @ self.transition)[:-1], 0.0)
        return total / self.kept

    @property
    def entropy(self) -> float:
        """Entropy of the slots of a sentence, nats, exact."""
        logs = np.log(self.transition, where=self.transition > 0, out=np.zeros_like(self.transition))
        return float(np.log(self.kept) - (self.expected_moves * logs).sum())

    def log_probability(self, split: Split) -> Floats:
        """log probability of the slots of each document [N], nats."""
        slots = self.slot_of_token[split.tokens]
        logs = np.log(self.transition, where=self.transition > 0, out=np.full_like(self.transition, -np.inf))
        steps = np.append(logs[slots[:-1], slots[1:]], 0.0)
        steps[split.offsets[1:] - 1] = 0.0  # from one document's end to the next one's beginning
        total: Floats = np.add.reduceat(steps, split.offsets[:-1]) - np.log(self.kept)
        return total

    def walk(self, rng: np.random.Generator, count: int) -> Offsets:
        """Slots of `count` sentences, in rows filled up with the edge [count, max_words]."""
        rows = np.empty((0, self.max_words), np.int64)
        while len(rows) < count:
            wanted = int((count - len(rows)) / self.kept * 1.02) + 16
            rows = np.concatenate([rows, self._attempt(rng, wanted)])
        return rows[:count]

    def _attempt(self, rng: np.random.Generator, count: int) -> Offsets:
        """As `walk`, without the sentences that came out too long."""
        edge = len(self.slots)
        cumulative = self.transition.cumsum(1)
        cumulative /= cumulative[:, -1:]
        place = np.full(count, edge)
        rows = np.full((count, self.max_words + 1), edge)
        walking = np.arange(count)
        for step in range(self.max_words + 1):
            draws = rng.random(count)[walking]  # one per sentence: who has ended changes nothing for the others
            place = (cumulative[place] <= draws[:, None]).sum(1)
            rows[walking, step] = place
            walking, place = walking[place != edge], place[place != edge]
        return rows[rows[:, -1] == edge, :-1]


class Latent(ABC):
    """A distribution of z, seen through its features phi(z)."""

    features: int

    @abstractmethod
    def draw(self, rng: np.random.Generator, count: int) -> Floats:
        """phi(z) of `count` draws [count, features]."""

    @abstractmethod
    def nodes(self, level: int) -> tuple[Floats, Floats]:
        """phi(z) at nodes [G, features] and the nodes' log weights [G]; more of them for a higher level."""


@dataclass(frozen=True)
class Codes(Latent):
    """z is one of `features` codes, all as likely; phi is one-hot."""

    features: int = 64

    def draw(self, rng: np.random.Generator, count: int) -> Floats:
        return np.eye(self.features)[rng.integers(self.features, size=count)]

    def nodes(self, level: int) -> tuple[Floats, Floats]:
        return np.eye(self.features), np.full(self.features, -np.log(self.features))


@dataclass(frozen=True)
class Plane(Latent):
    """z is standard normal in the plane; phi is a function of its polar coordinates (radius, angle)."""

    features: int
    phi: Callable[[Floats, Floats], tuple[Floats, ...]]

    def draw(self, rng: np.random.Generator, count: int) -> Floats:
        x, y = rng.standard_normal((2, count))
        return np.stack(self.phi(np.hypot(x, y), np.arctan2(y, x)), axis=-1)

    def nodes(self, level: int) -> tuple[Floats, Floats]:
        """`level` radii times `level` angles; a higher level also reaches further out."""
        reach = 8 + level / 32
        unit, weight = np.polynomial.legendre.leggauss(level)
        radius = reach * (unit + 1) / 2
        radial = np.log(weight * radius) - radius**2 / 2
        radial -= np.logaddexp.reduce(radial)
        angle = 2 * np.pi * np.arange(level) / level
        grid = np.meshgrid(radius, angle, indexing="ij")
        phi = np.stack([values.ravel() for values in self.phi(*grid)], axis=-1)
        return phi, np.repeat(radial - np.log(level), level)


LATENTS: Mapping[str, Latent] = {
    "codes": Codes(),
    "gauss": Plane(2, lambda r, t: (r * np.cos(t), r * np.sin(t))),
    "banana": Plane(3, lambda r, t: (r - MEAN_RADIUS, np.cos(t), np.sin(t))),
    "twin": Plane(3, lambda r, t: (r - MEAN_RADIUS, np.cos(2 * t), np.sin(2 * t))),
}


@dataclass(frozen=True, eq=False)
class Language:
    """A grammar whose words depend on z: `loadings` [V, features] is strength * U; `level` sets the nodes over z.

    >>> english = Language.invent(ENGLISH, Codes(4), strength=1.0, rng=np.random.default_rng(0))
    >>> split, phi = english.sample(np.random.default_rng(1), 3)
    >>> len(split), phi.shape, english.log_probability(split).shape
    (3, (3, 4), (3,))
    """

    grammar: Grammar
    latent: Latent
    loadings: Floats
    level: int = 64

    @classmethod
    def invent(cls, grammar: Grammar, latent: Latent, *, strength: float, rng: np.random.Generator) -> Language:
        """The language with U drawn from a standard normal."""
        return cls(grammar, latent, strength * rng.standard_normal((len(grammar.words), latent.features)))

    def sample(self, rng: np.random.Generator, count: int) -> tuple[Split, Floats]:
        """`count` sentences and the phi(z) [count, features] that each was made with."""
        slots = self.grammar.walk(rng, count)
        phi = self.latent.draw(rng, count)
        inside = slots != len(self.grammar.slots)
        document, place = np.nonzero(inside)
        words = self._choose(rng, slots[inside], document, phi)
        offsets = np.concatenate([[0], (inside.sum(1) + 2).cumsum()])
        tokens = np.empty(offsets[-1], np.int32)
        tokens[offsets[:-1]], tokens[offsets[1:] - 1] = BOS, EOS
        tokens[offsets[document] + 1 + place] = words + len(SPECIALS)
        return Split(tokens, offsets), phi

    def _choose(self, rng: np.random.Generator, slots: Offsets, document: Offsets, phi: Floats) -> Offsets:
        """A word for each slot [M], which stands in a document [M] with its phi [N, features]."""
        draws = rng.random(len(slots))
        words = np.empty(len(slots), np.int64)
        for slot, (first, last) in enumerate(zip(self.grammar.starts, self._ends, strict=True)):
            here = np.flatnonzero(slots == slot)
            scores = self.grammar.zipf[first:last] + phi[document[here]] @ self.loadings[first:last].T
            cumulative = np.exp(scores - scores.max(1, keepdims=True)).cumsum(1)
            words[here] = first + (cumulative <= draws[here, None] * cumulative[:, -1:]).sum(1)
        return words

    @property
    def _ends(self) -> Offsets:
        return np.append(self.grammar.starts[1:], len(self.grammar.words))

    def log_words(self, phi: Floats) -> tuple[Floats, Floats]:
        """log p(word | its slot, z) [G, V] for each phi [G, features], and the slots' log normalisers [G, S]."""
        scores = self.grammar.zipf + phi @ self.loadings.T
        starts, slot = self.grammar.starts, self.grammar.slot_of_word
        top = np.maximum.reduceat(scores, starts, axis=1)
        normaliser = top + np.log(np.add.reduceat(np.exp(scores - top[:, slot]), starts, axis=1))
        return scores - normaliser[:, slot], normaliser

    def _statistics(self, split: Split) -> tuple[Floats, Floats]:
        """What a document says about z [N, features + S], and its part of log p(x | z) that z does not enter [N].

        log p(words | slots, z) = constant + (sum of loadings) . phi(z) - (slot counts) . (log normalisers at z).
        """
        grammar = self.grammar
        of_word = np.hstack([self.loadings, -np.eye(len(grammar.slots))[grammar.slot_of_word], grammar.zipf[:, None]])
        of_token = np.vstack([np.zeros((len(SPECIALS), of_word.shape[1])), of_word])
        sums = np.add.reduceat(of_token[split.tokens], split.offsets[:-1], axis=0)
        return sums[:, :-1], sums[:, -1] + grammar.log_probability(split)

    def log_conditional(self, split: Split, phi: Floats) -> Floats:
        """log p(x | z) of each document [N] under its own phi(z) [N, features], nats."""
        statistics, constant = self._statistics(split)
        total: Floats = constant + (statistics * np.hstack([phi, self.log_words(phi)[1]])).sum(1)
        return total

    def log_probability(self, split: Split) -> Floats:
        """log p(x) of each document [N], nats."""
        phi, log_weight = self.latent.nodes(self.level)
        table = np.hstack([phi, self.log_words(phi)[1]]).T
        rows = min(4096, max(32, BLOCK // len(phi)))
        blocks = []
        for part in _parts(split, rows):
            statistics, constant = self._statistics(part)
            blocks.append(constant + _logsumexp(statistics @ table + log_weight))
        return np.concatenate(blocks)

    def settle(self, split: Split) -> tuple[Language, float]:
        """The language with enough nodes for these documents, and the most that doubling them changed log p(x).

        Raises CorpusError if no affordable number of nodes is enough.
        """
        for level in (48, 64, 96, 128):
            fine, finer = replace(self, level=level), replace(self, level=2 * level)
            change = float(np.abs(fine.log_probability(split) - finer.log_probability(split)).max())
            if change < TOLERANCE:
                return fine, change
        raise CorpusError(f"synthetic: log p(x) is known to {change:.0e} nats only; expected a smaller strength")

    def conditional_entropy(self) -> float:
        """H(X | Z) in nats per document: given z, the words of a sentence depend on their slots alone."""
        phi, log_weight = self.latent.nodes(self.level)
        log_words, _ = self.log_words(phi)
        surprise = -np.add.reduceat(np.exp(log_words) * log_words, self.grammar.starts, axis=1)
        visits = self.grammar.expected_moves.sum(0)[:-1]
        return self.grammar.entropy + float(np.exp(log_weight) @ surprise @ visits)

    def facts(self, rng: np.random.Generator) -> dict[str, float]:
        """H(X) = H(X|Z) + I(X;Z) in nats per document: H(X|Z) exact, I(X;Z) the mean of log p(x|z) - log p(x).

        Both standard errors are therefore that of the information, over `OWN_SAMPLE` sentences.
        """
        split, phi = self.sample(rng, OWN_SAMPLE)
        gain = self.log_conditional(split, phi) - self.log_probability(split)
        error = float(gain.std(ddof=1) / np.sqrt(len(gain)))
        conditional, information = self.conditional_entropy(), float(gain.mean())
        return {
            "entropy": conditional + information,
            "entropy_stderr": error,
            "conditional_entropy": conditional,
            "information": information,
            "information_stderr": error,
        }


def _parts(split: Split, size: int) -> Iterator[Split]:
    """The split in pieces of `size` documents, whose [documents, nodes] tables fit in memory."""
    for first in range(0, len(split), size):
        offsets = split.offsets[first : first + size + 1]
        yield Split(split.tokens[offsets[0] : offsets[-1]], offsets - offsets[0])


def _logsumexp(table: Floats) -> Floats:
    """log of the sum of exp over the last axis; overwrites the table."""
    top = table.max(1, keepdims=True)
    table -= top
    np.exp(table, out=table)
    total: Floats = np.log(table.sum(1)) + top[:, 0]
    return total


def generate(
    grammar: Grammar, latent: Latent, sizes: Mapping[str, int], *, strength: float = 1.0, seed: int = 0
) -> tuple[Language, Corpus]:
    """A language and a corpus in it with so many documents per split; each split has its own stream of numbers."""
    invention, probes, own, *streams = np.random.default_rng(seed).spawn(3 + len(sizes))
    language = Language.invent(grammar, latent, strength=strength, rng=invention)
    language, quadrature = language.settle(language.sample(probes, PROBES)[0])
    splits = {}
    for (name, size), rng in zip(sizes.items(), streams, strict=True):
        split, _ = language.sample(rng, size)
        splits[name] = replace(split, log_probability=language.log_probability(split))
    facts = language.facts(own) | {"quadrature_error": quadrature}
    return language, Corpus("synthetic", grammar.vocabulary, splits, facts=facts)


def synthetic(
    *,
    kind: Literal["codes", "gauss", "banana", "twin"] = "codes",
    train: PositiveInt = 10_000,
    valid: PositiveInt = 1_000,
    test: PositiveInt = 1_000,
    seed: NonNegativeInt = 0,
    strength: Annotated[float, Field(ge=0, le=2)] = 1.0,
) -> Corpus:
    """Sentences with their exact log p(x), about 13 tokens each from about 200 words.

    `kind` is what words depend on: `codes`, one of 64 codes; `gauss`, a point z of the plane; `banana`, z's radius and
    direction, so that the posterior is curved; `twin`, its radius and twice its angle, so that the posterior has two
    modes. `train`, `valid` and `test` are documents, `strength` how much words depend on z (0: not at all). The same
    knobs give the same bytes, and a split does not depend on the size of the others.

    `facts`, nats per document: `entropy` H(X), `conditional_entropy` H(X|Z), `information` I(X;Z), `entropy_stderr` and
    `information_stderr`, and `quadrature_error`, the largest change of log p(x) on doubling the nodes over z.
    Raises CorpusError if `strength` makes that error exceed 1e-6.

    >>> corpus = synthetic(train=100, valid=10, test=10)
    >>> corpus.splits["valid"].log_probability.shape
    (10,)
    """
    sizes = {"train": train, "valid": valid, "test": test}
    return generate(ENGLISH, LATENTS[kind], sizes, strength=strength, seed=seed)[1]


def _listed(words: str) -> tuple[str, ...]:
    return tuple(words.split())


ENGLISH = Grammar(
    slots={
        "determiner": _listed("the this every that one another"),
        "adjective": _listed(
            "old young quiet happy tired clever brave gentle hungry proud lonely busy famous honest curious "
            "patient nervous cheerful stubborn careless elegant humble sleepy wealthy polite reckless shy witty"
        ),
        "noun": _listed(
            "man woman child teacher doctor farmer sailor chef painter singer soldier student baker poet tailor "
            "driver lawyer hunter pilot dancer gardener priest nurse banker clown judge queen thief miner monk "
            "carpenter detective actor scholar shepherd"
        ),
        "adverb": _listed(
            "often slowly quietly always never suddenly carefully quickly rarely proudly gladly secretly calmly "
            "sadly eagerly boldly barely politely gently finally"
        ),
        "verb": _listed(
            "sees finds takes wants buys sells loves paints breaks hides carries steals cleans repairs watches "
            "borrows throws admires guards forgets builds drops follows counts polishes draws lifts opens keeps "
            "misses"
        ),
        "possessive": _listed("his her their our my your"),
        "quality": _listed(
            "small red wooden golden broken heavy green ancient silver empty shiny dusty blue expensive round "
            "tiny rusty secret"
        ),
        "object": _listed(
            "house book horse boat letter table garden hat knife lamp coat mirror piano bicycle clock basket ring "
            "ladder guitar cake camera blanket bottle umbrella statue map drum sword kettle violin"
        ),
        "preposition": _listed("in near outside around behind beyond past beneath"),
        "place": _listed(
            "london paris rome berlin madrid vienna athens cairo lisbon dublin prague oslo tokyo delhi lima havana"
        ),
        "conjunction": _listed("and but while because until although"),
    },
    moves={
        EDGE: {"determiner": 1.0},
        "determiner": {"adjective": 0.4, "noun": 0.6},
        "adjective": {"adjective": 0.2, "noun": 0.8},
        "noun": {"adverb": 0.35, "verb": 0.65},
        "adverb": {"adverb": 0.1, "verb": 0.9},
        "verb": {"possessive": 0.85, "preposition": 0.15},
        "possessive": {"quality": 0.4, "object": 0.6},
        "quality": {"quality": 0.1, "object": 0.9},
        "object": {"preposition": 0.4, "conjunction": 0.25, EDGE: 0.35},
        "preposition": {"place": 1.0},
        "place": {"conjunction": 0.4, EDGE: 0.6},
        "conjunction": {"determiner": 1.0},
    },
    max_words=40,
)
