"""What is measured: functions of one evaluation pass, and the importance-weighted bound that needs its own."""

from collections.abc import Callable, Mapping

from flowsearch.metrics.active_units import active_units
from flowsearch.metrics.evaluation import Evaluation, evaluate, information_only
from flowsearch.metrics.importance import importance_weighted, iw_nll
from flowsearch.metrics.information import mutual_information, mutual_information_reference
from flowsearch.metrics.likelihood import by_document, likelihood, perplexity
from flowsearch.metrics.optimum import optimum

__all__ = [
    "Evaluation",
    "active_units",
    "by_document",
    "evaluate",
    "importance_weighted",
    "information_only",
    "iw_nll",
    "likelihood",
    "mutual_information",
    "mutual_information_reference",
    "optimum",
    "perplexity",
]

Metric = Callable[[Evaluation], Mapping[str, float]]
METRICS: tuple[Metric, ...] = (likelihood, active_units, mutual_information, optimum)
"""Measured after every epoch."""

OF_VIEWS: tuple[Metric, ...] = (likelihood, active_units, mutual_information)
"""Measured of an objective's other views of the model, as its refined posteriors; `UNITS` says what is kept of it."""

INFORMATION: Mapping[str, tuple[Metric, ...]] = {"full": (), "reference": (mutual_information_reference,)}
"""What the key `metrics.mutual_information` adds to them."""
