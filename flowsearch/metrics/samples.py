"""What a model writes at points of its latent space, and how much of it z decides.

The scores are about `SCORED` documents of at most `max_words` words, at points z ~ p(z), written greedily and drawn:

    distinct-n   distinct n-grams / n-grams, over all documents together
                 (A Diversity-Promoting Objective Function for Neural Conversation Models; Li et al., 2016)
    self-BLEU    mean BLEU-4 of each document against all the others
                 (Texygen: A Benchmarking Platform for Text Generation Models; Zhu et al., 2018)
    z effect     standard deviation over z ~ p(z) of log p(x|z) / tokens, mean over test documents, in nats per token

A decoder that ignores z writes one greedy document (self-BLEU 1) and has a z effect of 0. The z effect needs nothing of
a decoder but log p(x|z), so it compares decoders of every kind; movements of single words that cancel over a document
are not seen.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import lru_cache

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from flowsearch.metrics.evaluation import expectation
from flowsearch.models import VAE
from flowsearch.results.samples import Samples
from flowsearch.text import Corpus
from flowsearch.text.batches import Batch

SCORED = 100
"""Documents that the scores are about."""

STEPS = 5
"""Points of an interpolation, its ends counted."""

DOCUMENTS, DRAWS, AT_ONCE = 32, 8, 8
"""Test documents and points z behind the z effect, and documents scored at once."""

ORDERS = 4
"""BLEU counts n-grams up to this length."""

Document = Sequence[int]


@torch.no_grad()
def write(
    vae: VAE, corpus: Corpus, *, points: int = 5, temperature: float = 1.0, max_words: int = 40, seed: int = 0
) -> Samples:
    """Have a model write, in evaluation mode, and score it.

    1. The same seed gives the same points to every model with the same prior, and the same documents to every model.
    2. A greater `points` adds points and leaves the first ones as they were.
    3. Of a model without z the z effect is 0, and there is nothing to reconstruct or interpolate.

    Args:
        vae: left in the mode it was in.
        corpus: that it was trained on.
        points: documents of each kind.
        temperature: of the drawn words; 0 is greedy.
        max_words: where a document is cut.
        seed: of everything; the global generator is left as it was.
    """
    test = corpus.splits["test"]
    order = np.random.default_rng(seed).permutation(len(test))
    device = next(vae.parameters()).device

    def words(documents: Sequence[Document]) -> tuple[tuple[str, ...], ...]:
        return tuple(tuple(corpus.vocabulary.decode(document)) for document in documents)

    def greedily(z: Tensor) -> list[list[int]]:
        return vae.generate(z, temperature=0.0, max_words=max_words) if len(z) else []

    with seeded(vae, seed):
        z = vae.prior.sample(max(points, SCORED))
        greedy = greedily(z)
        sampled = vae.generate(z, temperature=temperature, max_words=max_words)
    with seeded(vae, seed):
        shown = Batch.gather(test, order[:points]).to(device)
        mean, sample = ends(vae, shown)
        from_mean, from_sample, between = greedily(mean), greedily(sample), greedily(line(mean))
    documents = [test[int(document)][1:-1].tolist() for document in order[:points]]
    scores = {
        **scored(greedy[:SCORED], "greedy"),
        **scored(sampled[:SCORED], "sampled"),
        "z_effect": z_effect(vae, [Batch.gather(test, some) for some in pieces(order[:DOCUMENTS])], seed=seed),
    }
    return Samples(
        words(greedy[:points]),
        words(sampled[:points]),
        words(documents),
        words(from_mean),
        words(from_sample),
        words(between),
        scores,
    )


@contextmanager
def seeded(vae: VAE, seed: int) -> Iterator[None]:
    """Evaluation mode, and a generator of its own; both are as they were afterwards."""
    device = next(vae.parameters()).device
    training = vae.training
    vae.eval()
    with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
        torch.manual_seed(seed)
        yield
    vae.train(training)


def ends(vae: VAE, batch: Batch) -> tuple[Float[Tensor, "B D"], Float[Tensor, "B D"]]:
    """E[z|x] of each document, and one z ~ q(z|x); no rows from a model without z."""
    if not vae.prior.latent_size:
        none = torch.empty(0, 0)
        return none, none
    q = vae.encode(batch)
    return expectation(q)[0], q.draw(1).z[0]


def line(mean: Float[Tensor, "B D"]) -> Float[Tensor, "S D"]:
    """`STEPS` points from the first row to the second; none where there are no two rows."""
    if len(mean) < 2:
        return mean[:0]
    share = torch.linspace(0, 1, STEPS, dtype=mean.dtype, device=mean.device).unsqueeze(-1)
    return (1 - share) * mean[0] + share * mean[1]


@torch.no_grad()
def z_effect(vae: VAE, batches: Sequence[Batch], *, draws: int = DRAWS, seed: int = 0) -> float:
    """How far log p(x|z) of a given document moves between points z ~ p(z), in nats per token.

    1. A decoder with noise of its own gets the same noise for every z, so that only z makes a difference.

    Args:
        vae: left in the mode it was in.
        batches: the documents.
        draws: points, the same for every document.
        seed: of the points.
    """
    device = next(vae.parameters()).device
    with seeded(vae, seed):
        points = vae.prior.sample(draws).unsqueeze(1)
    moved = [torch.stack([per_token(vae, z, batch.to(device), seed) for z in points]).std(0) for batch in batches]
    return torch.cat(moved).mean().item()


def per_token(vae: VAE, z: Float[Tensor, "1 D"], batch: Batch, seed: int) -> Float[Tensor, " B"]:
    """log p(x|z) of each document at one point, in nats per token."""
    with seeded(vae, seed):
        return (vae.decode(z.expand(1, len(batch), -1), batch)[0] / batch.lengths).double()


def pieces(documents: np.ndarray) -> list[np.ndarray]:
    """`AT_ONCE` documents at a time."""
    return [documents[first : first + AT_ONCE] for first in range(0, len(documents), AT_ONCE)]


def scored(documents: Sequence[Document], kind: str) -> Mapping[str, float]:
    """distinct-1, distinct-2 and self-BLEU under the name of a kind."""
    return {
        f"{kind}_distinct_1": distinct(documents, 1),
        f"{kind}_distinct_2": distinct(documents, 2),
        f"{kind}_self_bleu": self_bleu(documents),
    }


def distinct(documents: Sequence[Document], n: int) -> float:
    """Distinct n-grams / n-grams, over all documents together; NaN where there is no n-gram.

    >>> distinct([[4, 5, 4], [4, 5]], 1), distinct([[4, 5, 4], [4, 5]], 2)
    (0.4, 0.6666666666666666)
    """
    counts: Counter[Document] = Counter()
    for document in documents:
        counts.update(grams(tuple(document), n))
    return len(counts) / counts.total() if counts else math.nan


def self_bleu(documents: Sequence[Document]) -> float:
    """Mean BLEU of each document against all the others: 1 where all are the same; NaN for fewer than two."""
    each = [tuple(document) for document in documents]
    if len(each) < 2:
        return math.nan
    return float(np.mean([bleu(one, each[:place] + each[place + 1 :]) for place, one in enumerate(each)]))


def bleu(candidate: Document, references: Sequence[Document]) -> float:
    """BLEU of one document (Papineni et al., 2002): geometric mean of clipped n-gram precisions times brevity.

    1. Orders 2 to 4 are smoothed by one more n-gram, matched (Lin & Och, 2004); order 1 is not, so without a common
       word it is 0.
    2. A document of fewer than four words is counted by the orders that it has.
    3. The penalty exp(1 - r / c) holds where c words are fewer than r, those of the reference nearest in length (the
       shorter of two).
    4. A document without words is like another one only: 1 if a reference has none, else 0.

    >>> bleu([4, 5, 6, 7], [[4, 5, 6, 7], [8]])
    1.0
    """
    if not candidate:
        return float(any(not reference for reference in references))
    orders = range(1, min(ORDERS, len(candidate)) + 1)
    log = 0.0
    for n in orders:
        counts, others = grams(tuple(candidate), n), [grams(tuple(reference), n) for reference in references]
        matched = sum(min(count, max(other[gram] for other in others)) for gram, count in counts.items())
        extra = int(n > 1)
        if not matched + extra:
            return 0.0
        log += math.log((matched + extra) / (counts.total() + extra)) / len(orders)
    nearest = min((abs(len(reference) - len(candidate)), len(reference)) for reference in references)[1]
    return math.exp(log + min(0.0, 1 - nearest / len(candidate)))


@lru_cache(maxsize=8 * SCORED)
def grams(document: tuple[int, ...], n: int) -> Counter[Document]:
    """How often each n-gram comes."""
    return Counter(document[first : first + n] for first in range(len(document) - n + 1))
