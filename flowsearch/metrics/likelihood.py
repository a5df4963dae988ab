"""ELBO, its two parts, and the perplexity it bounds."""

from __future__ import annotations

import math
from collections.abc import Mapping

from flowsearch.metrics.evaluation import Evaluation


def likelihood(evaluation: Evaluation) -> Mapping[str, float]:
    """`elbo`, `reconstruction` (-log p(x|z)) and `kl` in nats per document, KL weight 1; `ppl`, `tokens`, `documents`.

    ppl = exp(-sum elbo / sum tokens), tokens = words + 1: `</s>` is predicted and counted, `<s>` is not. It is an upper
    bound on the model's perplexity.
    """
    elbo, tokens = evaluation.elbo, evaluation.tokens.sum().item()
    return {
        "elbo": elbo.mean().item(),
        "reconstruction": -evaluation.log_likelihood.mean().item(),
        "kl": evaluation.kl.mean().item(),
        "ppl": perplexity(-elbo.sum().item(), tokens),
        "tokens": float(tokens),
        "documents": float(len(elbo)),
    }


def perplexity(nats: float, tokens: float) -> float:
    """exp(nats / tokens), infinite where that overflows.

    >>> perplexity(0.0, 3)
    1.0
    """
    return math.exp(nats / tokens) if nats / tokens < 700 else math.inf
