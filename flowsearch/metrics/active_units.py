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
    """`active_units` of z_k, at the end of the flow, and `active_units_base` of z_0; equal without a flow.

    E[z_k|x] = mean + E[z_k - z_0|x], the second part from samples, whose own variance is taken off; so a flow near the
    identity is measured without noise.
    """
    end = (evaluation.mean + evaluation.shift).var(0) - evaluation.shift_variance.mean(0)
    return {"active_units": count(end), "active_units_base": count(evaluation.mean.var(0))}


def count(variance: Float[Tensor, " D"]) -> float:
    """How many reach the threshold."""
    return float((variance >= THRESHOLD).sum())
