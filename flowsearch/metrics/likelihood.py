"""ELBO, its two parts, and the perplexity it bounds."""

from __future__ import annotations

import math
from collections.abc import Mapping

import numpy as np

from flowsearch.metrics.evaluation import Evaluation


def likelihood(evaluation: Evaluation) -> Mapping[str, float]:
    """`elbo`, `reconstruction` (-log p(x|z)) and `kl` in nats per document, KL weight 1; `ppl`, `tokens`, `documents`.

    ppl = exp(-sum elbo / sum tokens), tokens = words + 1: `</s>` is predicted and counted, `<s>` is not. It is an upper
    bound on the model's perplexity.

    1. Without a latent elbo is log p(x) itself, and there is no `kl`.
    2. `kl_is_bound` is 0 where the KL is an estimate from below (an implicit posterior): then elbo and ppl are no
       bounds; elsewhere it is left out.
    """
    elbo, tokens = evaluation.elbo, evaluation.tokens.sum().item()
    values = {
        "elbo": elbo.mean().item(),
        "reconstruction": -evaluation.log_likelihood.mean().item(),
        "ppl": perplexity(-elbo.sum().item(), tokens),
        "tokens": float(tokens),
        "documents": float(len(elbo)),
    }
    if evaluation.expected.shape[1]:
        values["kl"] = evaluation.kl.mean().item()
    return values if evaluation.is_bound else {**values, "kl_is_bound": 0.0}


def by_document(evaluation: Evaluation) -> Mapping[str, np.ndarray]:
    """What a comparison of two models pairs: `tokens`, `elbo`, `reconstruction` and `kl` of each document, [N] each."""
    columns = {
        "tokens": evaluation.tokens,
        "elbo": evaluation.elbo,
        "reconstruction": -evaluation.log_likelihood,
        "kl": evaluation.kl,
    }
    return {name: column.numpy() for name, column in columns.items()}


def perplexity(nats: float, tokens: float) -> float:
    """exp(nats / tokens), infinite where that overflows.

    >>> perplexity(0.0, 3)
    1.0
    """
    return math.exp(nats / tokens) if nats / tokens < 700 else math.inf
