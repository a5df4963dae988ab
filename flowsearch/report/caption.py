"""The sentences under a table: without them its numbers cannot be compared with anybody else's."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Any

from flowsearch.report.rows import COLLAPSED_KL, Configuration
from flowsearch.results import Study
from flowsearch.results.journal import STATES


def caption(study: Study, split: str, shown: Sequence[Configuration], *, has_best: bool) -> tuple[str, ...]:
    """What was measured, how it was chosen, what is missing, and what each mark means.

    Args:
        study: whose table it is.
        split: that the values are of.
        shown: the configurations whose means the table shows.
        has_best: whether one of them is bold.
    """
    lines = [
        _data(study, split),
        f"Bound: ELBO at KL weight 1. Best epoch and ranking by validation ELBO; values on {split}.",
        f"Trials: {states(study)}. {_seeds(shown, has_best)}",
        "KL: exact for a Gaussian posterior, a Monte Carlo mean for a flow. AU: active units of z_K, after the flow.",
        "MI: of z_0, the Gaussian base. Seconds: all trials of the row.",
        _importance(shown),
        _gap(split, shown),
        _collapsed(shown),
        _absent(split, shown),
        *(f"Incomplete: {note}." for note in study.notes),
    ]
    return tuple(line.strip() for line in lines if line)


def states(study: Study) -> str:
    """How many trials are in each state.

    >>> from flowsearch.results import Metrics, Trial
    >>> states(Study("s", {}, {0: Trial(0, "COMPLETE"), 1: Trial(1, "PRUNED")}, Metrics.of({})))
    '1 COMPLETE, 1 PRUNED'
    """
    counts = Counter(trial.state for trial in study.trials.values())
    return ", ".join(f"{counts[state]} {state}" for state in STATES if counts[state]) or "none yet"


def _data(study: Study, split: str) -> str:
    facts = study.facts
    told = facts.get("tokens_per_document")
    tokens = told if isinstance(told, dict) else {"test": told}
    given = {
        "Study {}": study.name,
        "corpus {}": facts.get("corpus"),
        "split {}": split,
        "{} tokens per document (</s> counted)": tokens.get(split),
        "vocabulary {}": facts.get("vocabulary_size"),
        "true entropy H(X) {} nats per document": facts.get("entropy"),
    }
    parts = [phrase.replace("{}", _fact(value)) for phrase, value in given.items() if value is not None]
    return ", ".join(parts) + "."


def _fact(value: Any) -> str:
    return f"{value:.4f}" if isinstance(value, float) else str(value)


def _seeds(shown: Sequence[Configuration], has_best: bool) -> str:
    most = max((configuration.complete for configuration in shown), default=0)
    if most == 0:
        return "No configuration is complete yet."
    if most == 1:
        return "One seed per configuration: one seed cannot rank, so nothing is bold."
    spread = "± is the standard error of the mean over seeds; a row of one seed has none."
    noise = "by more than two combined standard errors"
    best = f"Bold: better than the runner-up {noise}." if has_best else f"No row is better than the next {noise}."
    return f"{spread} {best}"


def _importance(shown: Sequence[Configuration]) -> str:
    counts = sorted({row.values["iw_samples"].mean for row in shown if "iw_samples" in row.values})
    if not counts:
        return ""
    samples = ", ".join(f"{count:g}" for count in counts)
    return f"IW-NLL: the importance-weighted bound on -log p(x), K = {samples} samples per document."


def _gap(split: str, shown: Sequence[Configuration]) -> str:
    known = [row.values["entropy"].mean for row in shown if "entropy" in row.values]
    if not known:
        return ""
    return f"gap: -ELBO minus the true -log p(x) of the same {split} documents, {known[0]:.2f} nats in the mean."


def _collapsed(shown: Sequence[Configuration]) -> str:
    if not any(configuration.collapsed for configuration in shown):
        return ""
    return f"† collapsed for at least one seed: no active unit, or KL below {COLLAPSED_KL} nats."


def _absent(split: str, shown: Sequence[Configuration]) -> str:
    if not any(configuration.absent for configuration in shown):
        return ""
    return f"‡ at least one seed has no reading on {split} at its best epoch and is left out of the mean."
