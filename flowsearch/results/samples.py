"""What one model wrote: documents in words, and scores of many more."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

Words = tuple[str, ...]


@dataclass(frozen=True)
class Samples:
    """Documents of one model, without `<s>` and `</s>`.

    1. A model without z has neither reconstructions nor an interpolation.

    Args:
        greedy: the likeliest words at each of N points z ~ p(z).
        sampled: words drawn at the same points.
        documents: N documents of the test split.
        from_mean: greedy, from E[z|x] of each of them.
        from_sample: greedy, from one z ~ q(z|x) of each.
        interpolation: greedy, at equal steps on the line between E[z|x] of the first two.
        scores: name to value (see `flowsearch.metrics.samples`).
    """

    greedy: tuple[Words, ...]
    sampled: tuple[Words, ...]
    documents: tuple[Words, ...]
    from_mean: tuple[Words, ...]
    from_sample: tuple[Words, ...]
    interpolation: tuple[Words, ...]
    scores: Mapping[str, float]
