"""Tables of what the models of a study write (Table 4.5 of the thesis), and which models those are."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence

from flowsearch.errors import StudyError
from flowsearch.report.tables import Cell, Column, Table, number, text
from flowsearch.results import Study, Trial
from flowsearch.results.samples import Samples, Words

Written = Sequence[tuple[Trial, Samples]]
"""Trials with what their models wrote."""

Text = tuple[str, str, str]
"""What a document is called (a point, a document, a share of the way), how it came about, and its words."""

SCORES = {
    "greedy_distinct_1": ("Greedy D-1", 3),
    "greedy_distinct_2": ("Greedy D-2", 3),
    "greedy_self_bleu": ("Greedy self-BLEU", 3),
    "sampled_distinct_1": ("Sampled D-1", 3),
    "sampled_distinct_2": ("Sampled D-2", 3),
    "sampled_self_bleu": ("Sampled self-BLEU", 3),
    "z_effect": ("z effect", 4),
}
"""Heading and decimals of each score."""


def chosen(study: Study, has_model: Callable[[int], bool], number: int | None = None) -> list[Trial]:
    """The trials whose models are to write: the one that is named, else of each label the best on validation.

    1. Only COMPLETE trials stand for a label; one that is named may have any state.
    2. They come in the order of their labels' first trials.

    Args:
        study: their study.
        has_model: whether a trial's folder still holds its model.
        number: of one trial; None means one per label.

    Raises:
        StudyError: there is no such trial, or none has a model.
    """
    if number is not None:
        if number not in study.trials:
            raise StudyError(f"--trial: {study.name} has no trial {number}; expected one of its {len(study.trials)}")
        if not has_model(number):
            raise StudyError(f"--trial: trial {number} of {study.name} has left no model")
        return [study.trials[number]]
    readings = study.metrics.at(study.best_epochs, "valid")
    found: dict[str, Trial] = {}
    best: dict[str, float] = {}
    for trial in study.trials.values():
        elbo = readings.get(trial.number, {}).get("elbo", -math.inf)
        label = named(trial)
        if trial.state == "COMPLETE" and has_model(trial.number) and (label not in best or elbo > best[label]):
            found[label], best[label] = trial, elbo
    if not found:
        raise StudyError(f"{study.name}: no COMPLETE trial has left a model; results without trials/ have none")
    return list(found.values())


def sample_tables(name: str, written: Written) -> list[Table]:
    """Sentences from the prior, reconstructions, interpolations, and scores.

    1. A model without z is in the first and the last table only.
    """
    points = texts(f"{name}: documents from the prior", "z", written, _points, ("The same points z for all models.",))
    documents = texts(
        f"{name}: reconstructions",
        "document",
        written,
        _reconstructions,
        ("Greedy, from the mean of the posterior and from one sample of it.",),
    )
    steps = texts(
        f"{name}: interpolation",
        "share",
        written,
        _interpolation,
        ("Greedy, on the line from the posterior mean of document 1 to that of document 2.",),
    )
    return [table for table in (points, documents, steps) if table.rows] + [scores(f"{name}: scores", written)]


def texts(
    name: str, what: str, written: Written, of: Callable[[Samples], Iterable[Text]], caption: tuple[str, ...]
) -> Table:
    """A row per document, a rule above each model."""
    columns = (
        Column("model", "Model", align="left"),
        Column("trial", "Trial"),
        Column(what, what.capitalize()),
        Column("from", "From", align="left"),
        Column("text", "Text", align="left"),
    )
    rows: list[tuple[Cell, ...]] = []
    rules: set[int] = set()
    for trial, samples in written:
        rules.add(len(rows))
        head = (text(named(trial)), Cell(str(trial.number), trial.number))
        rows += [(*head, text(place), text(kind), _said(words)) for place, kind, words in of(samples)]
    return Table(name, columns, tuple(rows), caption, frozenset(rules))


def scores(name: str, written: Written) -> Table:
    """A row per model."""
    columns = (
        Column("model", "Model", align="left"),
        Column("trial", "Trial"),
        *(Column(key, heading, "nats/token" if key == "z_effect" else "") for key, (heading, _) in SCORES.items()),
    )
    rows = tuple(
        (
            text(named(trial)),
            Cell(str(trial.number), trial.number),
            *(number(samples.scores.get(key), places) for key, (_, places) in SCORES.items()),
        )
        for trial, samples in written
    )
    caption = (
        "D-n: distinct n-grams / n-grams. Self-BLEU: mean BLEU-4 of a document against the others; 1: all the same.",
        "z effect: standard deviation over z ~ p(z) of log p(x|z) per token of test documents; 0: the decoder ignores "
        "z.",
    )
    return Table(name, columns, rows, caption)


def named(trial: Trial) -> str:
    """The model's name, or the trial's."""
    return trial.label or f"trial {trial.number}"


def _points(samples: Samples) -> Iterable[Text]:
    for place, (greedy, sampled) in enumerate(zip(samples.greedy, samples.sampled, strict=True), start=1):
        yield str(place), "greedy", joined(greedy)
        yield str(place), "sampled", joined(sampled)


def _reconstructions(samples: Samples) -> Iterable[Text]:
    if not samples.from_mean:
        return
    kinds = zip(samples.documents, samples.from_mean, samples.from_sample, strict=True)
    for place, (document, mean, sample) in enumerate(kinds, start=1):
        yield str(place), "test", joined(document)
        yield str(place), "mean", joined(mean)
        yield str(place), "sample", joined(sample)


def _interpolation(samples: Samples) -> Iterable[Text]:
    steps = len(samples.interpolation) - 1
    for place, words in enumerate(samples.interpolation):
        yield f"{place / steps:.2f}", "mean", joined(words)


def joined(words: Words) -> str:
    """Words as a line."""
    return " ".join(words)


def _said(words: str) -> Cell:
    return Cell(words or "(no words)", words)
