"""How far a model is from the best possible one, where the corpus knows its own log p(x)."""

from __future__ import annotations

from collections.abc import Mapping

from flowsearch.metrics.evaluation import Evaluation


def optimum(evaluation: Evaluation) -> Mapping[str, float]:
    """`entropy`, the mean of -log p*(x); `gap` = -elbo - entropy, paired per document, and its standard error; in nats.

    No model has a gap below 0 in expectation. Empty for real text.
    """
    truth = evaluation.true_log_probability
    if truth is None:
        return {}
    gap = truth - evaluation.elbo
    error = (gap.std() / len(gap) ** 0.5).item()
    return {"entropy": -truth.mean().item(), "gap": gap.mean().item(), "gap_stderr": error}
