"""What a study seeks, in words: before it starts, when it ends, and for its journal."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any

from flowsearch.search.asktell import AskTell, Trial
from flowsearch.search.constraints import Limit
from flowsearch.search.samplers import CONSTRAINED
from flowsearch.search.space import Search

SHOWN = 5
"""Trials listed when a study ends."""


def planned(search: Search) -> Iterator[str]:
    """What a study is to seek, in lines; none where it is the ELBO alone."""
    if len(search.objectives) > 1:
        sought = ", ".join(f"{direction} {name}" for name, direction in search.objectives.items())
        yield f"objectives: {sought}, each at the epoch of the best elbo; the best trials are the Pareto front"
    if search.require:
        known = "" if search.sampler.name in CONSTRAINED else f"; the sampler {search.sampler.name} does not learn it"
        yield f"required after warm-up: {', '.join(map(spelled, search.require, search.require.values()))}{known}"


def spelled(name: str, limit: Limit) -> str:
    """A limit, whole.

    >>> spelled("kl", Limit(min=0.1, max=9.0, after=2))
    '0.1 <= kl <= 9 (from epoch 3 after it)'
    """
    least = f"{limit.min:g} <= " if limit.min is not None else ""
    most = f" <= {limit.max:g}" if limit.max is not None else ""
    return f"{least}{name}{most}" + (f" (from epoch {limit.after + 1} after it)" if limit.after else "")


def facts(search: Search) -> dict[str, Any]:
    """What the journal says of it, for tables to rank by."""
    found: dict[str, Any] = {}
    if len(search.objectives) > 1:
        found["objectives"] = dict(search.objectives)
    if search.require:
        found["require"] = {
            name: limit.model_dump(exclude_none=True, include={"min", "max"}) for name, limit in search.require.items()
        }
    return found


def best(search: AskTell, count: int = SHOWN) -> list[Trial]:
    """The best COMPLETE trials: the whole Pareto front, or the `count` with the highest ELBO; one that breaks a limit
    comes after all that break none, and one whose objective is no bound after those of which it is."""
    if len(search.space.search.objectives) > 1:
        return search.pareto()
    complete = [trial for trial in search.trials if trial.state == "COMPLETE"]
    return sorted(complete, key=ranked)[:count]


def ranked(trial: Trial) -> tuple[bool, bool, float]:
    """What COMPLETE trials are sorted by, best first."""
    return trial.broken is not None, not trial.is_bound, -(trial.value or 0.0)


def concluded(search: AskTell, headline: Callable[[Mapping[str, float]], str]) -> Iterator[str]:
    """The best trials in lines.

    Args:
        search: that has ended.
        headline: what is said of a validation reading.
    """
    objectives = search.space.search.objectives
    found = best(search)
    if len(objectives) > 1 and found:
        yield f"Pareto front of {', '.join(objectives)}: {len(found)} trial(s)"
    for trial in found:
        values = "".join(f", {text}" for text in others(objectives, trial.best))
        broken = f"; breaks {trial.broken}" if trial.broken else ""
        broken += "" if trial.is_bound else "; no bound"
        yield (
            f"  trial {trial.number}  {trial.label}  {headline(trial.best)}{values}  epoch {trial.best_epoch}{broken}"
        )


def others(objectives: Mapping[str, str], values: Mapping[str, float]) -> list[str]:
    """Objectives that the headline of a reading does not have.

    >>> others({"elbo": "maximize", "mutual_information": "maximize"}, {"elbo": -38.0, "mutual_information": 1.25})
    ['mutual_information 1.25']
    """
    return [f"{name} {values[name]:.2f}" for name in objectives if name not in ("elbo", "kl", "active_units")]
