"""The sentences under a table: without them its numbers cannot be compared with anybody else's."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Any

from flowsearch.report.effort import sentence
from flowsearch.report.marks import legend
from flowsearch.report.rows import ROW, Configuration
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
        data(study, split),
        f"Bound: ELBO at KL weight 1. Best epoch {_order(shown)}; values on {split}.",
        f"Trials: {states(study)}. {_seeds(shown, has_best)}",
        _confirmed(shown),
        sentence(study),
        "KL: exact for a Gaussian posterior, a Monte Carlo mean for a flow. AU: active units of z_K, after the flow.",
        "MI: of z_0, the Gaussian base. Seconds: all trials of the row.",
        *importance(shown),
        _gap(split, shown),
        _parts(study, shown),
        _refined(shown),
        *legend(shown, split),
        *incomplete(study),
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


def data(study: Study, split: str) -> str:
    """The study, and the text that it is of: what must agree before two tables can be compared."""
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


def _order(shown: Sequence[Configuration]) -> str:
    has_rows = any(ROW in row.params for row in shown)
    return "by validation ELBO, rows as the space names them" if has_rows else "and ranking by validation ELBO"


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


def importance(shown: Sequence[Configuration]) -> list[str]:
    """What IW-NLL is, where a row has it."""
    counts = sorted({row.values["iw_samples"].mean for row in shown if "iw_samples" in row.values})
    if not counts:
        return []
    samples = ", ".join(f"{count:g}" for count in counts)
    return [f"IW-NLL: the importance-weighted bound on -log p(x), K = {samples} samples per document."]


def incomplete(study: Study) -> list[str]:
    """What is wrong with the study's files."""
    return [f"Incomplete: {note}." for note in study.notes]


def _gap(split: str, shown: Sequence[Configuration]) -> str:
    known = [row.values["entropy"].mean for row in shown if "entropy" in row.values]
    if not known:
        return ""
    return f"gap: -ELBO minus the true NLL, -log p(x), of the same {split} documents, {known[0]:.2f} nats in the mean."


def _parts(study: Study, shown: Sequence[Configuration]) -> str:
    known = {name for row in shown for name in row.values}
    lines = []
    if "model_part" in known:
        lines.append(
            "Model part: IW-NLL - true NLL, at most too large; inference part: -ELBO - IW-NLL, at most too small; "
            "they sum to the gap."
        )
    if "kl_share" in known:
        lines.append(f"KL / I(X;Z): KL over the source's own I(X;Z), {study.facts['information']:.4f} nats.")
    return " ".join(lines)


def _refined(shown: Sequence[Configuration]) -> str:
    if not any("elbo_refined" in row.values for row in shown):
        return ""
    return (
        "Refined: at test time the posterior of each document takes gradient steps on the ELBO of that very document."
    )


def _confirmed(shown: Sequence[Configuration]) -> str:
    counts = sorted({row.complete for row in shown if row.confirmed})
    if not counts:
        return ""
    many = f"{counts[0]}" if len(counts) == 1 else f"{counts[0]} to {counts[-1]}"
    return f"Confirmed rows: {sum(row.confirmed for row in shown)}, each the mean over {many} fresh seed(s)."
