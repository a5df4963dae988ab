"""What a study asked of its trials beside a good ELBO, as its journal says: limits and further objectives.

Both are read at a trial's best epoch on validation, where the search read them.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from flowsearch.results import Study
from flowsearch.results.front import front
from flowsearch.results.journal import last
from flowsearch.results.store import JOURNAL

Facts = Mapping[str, Any]


def names(folder: Path) -> tuple[str, ...]:
    """The metrics that the study's limits and objectives are about: columns to load."""
    path = folder / JOURNAL
    facts = (last(path, "study") if path.exists() else None) or {}
    return (*facts.get("require", ()), *facts.get("objectives", ()))


def broken(facts: Facts, values: Mapping[str, float]) -> str | None:
    """The first limit that a reading breaks; None if it keeps them all. One that was not measured breaks none.

    >>> facts = {"require": {"active_units": {"min": 1.0}}}
    >>> broken(facts, {"active_units": 0.0}), broken(facts, {"active_units": 4.0}), broken(facts, {"kl": 0.0})
    ('active_units >= 1', None, None)
    """
    for name, limit in facts.get("require", {}).items():
        value = values.get(name)
        if value is None:
            continue
        if "min" in limit and not value >= limit["min"]:
            return f"{name} >= {limit['min']:g}"
        if "max" in limit and not value <= limit["max"]:
            return f"{name} <= {limit['max']:g}"
    return None


def pareto(study: Study) -> list[int]:
    """The COMPLETE trials of the search that no other beats in every objective, highest ELBO first; of those that keep
    every limit, if any does."""
    objectives = study.facts.get("objectives", {"elbo": "maximize"})
    complete = {
        trial: values
        for trial, values in study.metrics.at(study.best_epochs, "valid").items()
        if study.trials[trial].state == "COMPLETE" and study.trials[trial].phase == "search"
    }
    measured = {trial: values for trial, values in complete.items() if objectives.keys() <= values.keys()}
    kept = {trial: values for trial, values in measured.items() if not broken(study.facts, values)} or measured
    signs = {"maximize": 1, "minimize": -1}
    points = [[signs[way] * values[name] for name, way in objectives.items()] for values in kept.values()]
    found = [trial for trial, is_on in zip(kept, front(points), strict=True) if is_on]
    return sorted(found, key=lambda trial: -kept[trial]["elbo"])


def on_front(study: Study) -> str:
    """`Pareto front of elbo, kl: trials 4, 7.`; nothing with one objective, or before any trial is COMPLETE."""
    objectives = study.facts.get("objectives", {})
    trials = pareto(study) if objectives else []
    listed = ", ".join(map(str, trials))
    return f"Pareto front of {', '.join(objectives)}: trials {listed}." if trials else ""
