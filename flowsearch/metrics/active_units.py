"""Active units: latent dimensions whose posterior mean varies from document to document.

Importance Weighted Autoencoders (Burda, Grosse & Salakhutdinov, 2015): Var_x[E_q[z_i | x]] >= 0.01.
"""

from __future__ import annotations

from collections.abc import Mapping

from jaxtyping import Float
from torch import Tensor

from flowsearch.metrics.evaluation import Evaluation

THRESHOLD = 0.01


def active_units(evaluation: Evaluation) -> Mapping[str, float]:
    """`active_units` of z at the end of the flow, and `active_units_base` of z_0; equal without a flow.

    1. Where E[z|x] comes from samples, their own variance is taken off.
    2. `active_units_base` is left out where there is no Gaussian base, both where there is no z.
    """
    if not evaluation.expected.shape[1]:
        return {}
    end = evaluation.expected.var(0) - evaluation.expected_variance.mean(0)
    found = {"active_units": count(end)}
    return {**found, "active_units_base": count(evaluation.mean.var(0))} if evaluation.mean.shape[1] else found


def count(variance: Float[Tensor, " D"]) -> float:
    """How many reach the threshold."""
    return float((variance >= THRESHOLD).sum())
