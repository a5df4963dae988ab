"""Mutual information between a document and its latent: how much of x the latent can carry.

ELBO Surgery (Hoffman & Johnson, 2016): I = E_x KL(q(z|x) || p(z)) - KL(q(z) || p(z)), q(z) the mean of q(z|x) over
documents. Of z_0, the Gaussian base: a flow that depends on x has no tractable aggregate.
"""

from __future__ import annotations

import math
from collections.abc import Mapping

import torch
from jaxtyping import Float
from torch import Tensor

from flowsearch.metrics.evaluation import Evaluation
from flowsearch.models import gaussian_log_prob

ROWS = 1024


def mutual_information(evaluation: Evaluation) -> Mapping[str, float]:
    """`mutual_information` in nats: mean of log q(z|x) - log q(z), one z per document, q(z) over the whole split.

    1. At most log N; never capped by a batch size.
    2. Both terms at the same z: their noise cancels, so a collapsed posterior gives 0 and not 0 +- 0.2.
    3. Left out where there is no Gaussian base.
    """
    if not evaluation.mean.shape[1]:
        return {}
    own = gaussian_log_prob(evaluation.origin, evaluation.mean, evaluation.logvar)
    aggregate = aggregate_log_prob(evaluation.origin, evaluation.mean, evaluation.logvar)
    return {"mutual_information": (own - aggregate).mean().item()}


def mutual_information_reference(evaluation: Evaluation) -> Mapping[str, float]:
    """`mutual_information_reference` in nats: the estimator of He et al. (2019), to compare with published ones.

    The aggregate is each batch's own, so it cannot exceed log(batch size) = 3.47; the entropy of q(z|x) is exact, so
    near 0 the estimate is noisy and can be negative. Left out where there is no Gaussian base.
    """
    if not evaluation.mean.shape[1]:
        return {}
    total = 0.0
    for index in evaluation.batch.unique():
        here = evaluation.batch == index
        mean, logvar, z = evaluation.mean[here], evaluation.logvar[here], evaluation.origin[here]
        entropy = 0.5 * (1 + logvar + math.log(2 * math.pi)).sum(-1).mean()
        total += float((-entropy - aggregate_log_prob(z, mean, logvar).mean()) * len(z))
    return {"mutual_information_reference": total / len(evaluation.kl)}


def aggregate_log_prob(
    z: Float[Tensor, "M D"], mean: Float[Tensor, "N D"], logvar: Float[Tensor, "N D"]
) -> Float[Tensor, " M"]:
    """log (1/N) sum_j N(z; mean_j, exp(logvar_j)) by two matrix products, without an M x N x D array; float64 in, out.

    Points and means are centred first, which keeps the expanded square from cancelling.
    """
    centre = mean.mean(0)
    z, mean, precision = z - centre, mean - centre, (-logvar).exp()
    constant = -0.5 * (mean.square() * precision + logvar + math.log(2 * math.pi)).sum(-1)
    parts = [
        (constant + block @ (mean * precision).t() - 0.5 * block.square() @ precision.t()).logsumexp(1)
        for block in z.split(ROWS)
    ]
    return torch.cat(parts) - math.log(len(mean))
