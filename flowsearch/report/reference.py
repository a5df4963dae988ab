"""Our rows beside a published table: `flowsearch report STUDY --reference thesis`.

A published figure is a single run, read from print. It is compared with ours only where the text is the same: same
corpus, same vocabulary, same tokens per document. Then a row with at least two seeds has an interval, its mean ± two
standard errors, and a published value outside of it is marked.
"""

from __future__ import annotations

import csv
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from importlib import resources

from flowsearch.errors import BadInput, nearest
from flowsearch.report import caption
from flowsearch.report.marks import legend, model, seeds
from flowsearch.report.measures import ELBO, IW_NLL, KL, PPL, Measure, cells
from flowsearch.report.rows import Configuration, Estimate, configurations
from flowsearch.report.tables import Cell, Column, Table, text
from flowsearch.results import Study

DIFFERS, NOTED = "≠", "§"


@dataclass(frozen=True)
class Text:
    """The test text of a published table.

    Args:
        tokens: per document, `</s>` counted.
        vocabulary: its size, specials counted.
    """

    tokens: float
    vocabulary: int


@dataclass(frozen=True)
class Bound:
    """What a published table means by nats per document, and which columns it has.

    Args:
        measures: published column to the measure of ours that is the same quantity.
        sentence: for the caption.
        names: of published columns that are not called as ours.
        samples: importance samples behind it; None where there are none.
    """

    measures: Mapping[str, Measure]
    sentence: str
    names: Mapping[str, str] = field(default_factory=dict)
    samples: int | None = None


BOUNDS: Mapping[str, Bound] = {
    "negative_elbo": Bound(
        {"nats_per_document": ELBO, "kl": KL, "ppl": PPL},
        "Bound, theirs and ours: ELBO at KL weight 1; PPL is its exponential per token.",
    ),
    "nll": Bound(
        {"nats_per_document": IW_NLL, "kl": KL},
        "Bound: NLL and IW-NLL are importance-weighted bounds, theirs of 500 samples; they are below -ELBO. A model "
        "without z has no bound, its NLL is exact.",
        {"nats_per_document": "NLL"},
        500,
    ),
}
"""By the name that the `bound` column of a reference has."""


@dataclass(frozen=True)
class Reference:
    """Published tables: a CSV in this folder, and what has to be known to read it.

    Args:
        name: of the file, without `.csv`. Columns: table, model, corpus, bound, nats_per_document, kl, ppl; numbers are
            as printed, empty where nothing is.
        source: who says so.
        texts: by corpus.
        order: of its tables; of two that fit a study equally the earlier is taken.
        notes: what is wrong in print, by (table, model, corpus); such a row is shown and not compared.
    """

    name: str
    source: str
    texts: Mapping[str, Text]
    order: tuple[str, ...]
    notes: Mapping[tuple[str, str, str], str] = field(default_factory=dict)

    @cached_property
    def rows(self) -> tuple[Mapping[str, str], ...]:
        """The rows of the file, in order."""
        file = resources.files("flowsearch.report").joinpath(f"{self.name}.csv")
        return tuple(csv.DictReader(file.read_text(encoding="utf-8").splitlines()))

    def table_for(self, names: Iterable[str]) -> str:
        """The table with most models in common with `names`."""
        wanted = set(map(same, names))
        shared = {table: wanted & {same(row["model"]) for row in self._of(table)} for table in self.order}
        return max(self.order, key=lambda table: len(shared[table]))

    def published(self, table: str, corpus: str) -> dict[str, Mapping[str, str]]:
        """The rows of a table by `same` name of their model, in order; without values for a corpus it does not have."""
        models = {same(row["model"]): {"model": row["model"]} for row in self._of(table)}
        return models | {same(row["model"]): row for row in self._of(table) if row["corpus"] == corpus}

    def bound(self, table: str) -> Bound:
        """What the table's nats are."""
        return BOUNDS[self._of(table)[0]["bound"]]

    def _of(self, table: str) -> list[Mapping[str, str]]:
        return [row for row in self.rows if row["table"] == table]


_NO_BOUND = "the published KL is a critic's dual estimate, so the published value bounds nothing."

REFERENCES: Mapping[str, Reference] = {
    "thesis": Reference(
        "thesis",
        "the thesis",
        {"yahoo": Text(79.8673, 20001), "yelp": Text(96.6556, 19997)},
        ("4.3", "4.4", "2.1"),
        {
            (
                "4.3",
                "VAE + IAF(k=3)",
                "yelp",
            ): "printed inconsistently: -ELBO 359.0339 is PPL 41.0409 at 96.6556 tokens "
            "per document, print says 41.0491.",
            ("2.1", "Word dropout 25%", "yahoo"): "the KL's decimal point is lost in print (144), read as 1.44.",
            ("2.1", "Implicit-VAE + Annealing", "yahoo"): _NO_BOUND,
            ("2.1", "Implicit-VAE + Annealing", "yelp"): _NO_BOUND,
        },
    )
}
"""By the name that `--reference` takes; a new one is a CSV file and an entry here."""


def reference(name: str) -> Reference:
    """The reference of that name.

    Raises:
        BadInput: there is none; the message names the nearest.
    """
    if name not in REFERENCES:
        raise BadInput(f"--reference: no '{name}'{nearest(name, REFERENCES)}")
    return REFERENCES[name]


def same(name: str) -> str:
    """A model's name without what differs only in writing.

    >>> same("β-VAE (β=0.4)") == same("beta-VAE (beta=0.4)")
    True
    """
    return name.replace("β", "beta").casefold()


@dataclass(frozen=True)
class Pair:
    """A row of ours and the published one of the same name; either may be missing.

    Args:
        ours: the row of the study.
        theirs: the row of the file.
        note: what is wrong with the published row in print.
    """

    ours: Configuration | None
    theirs: Mapping[str, str]
    note: str = ""

    @property
    def name(self) -> str:
        """Of our row, else as published."""
        return self.ours.name if self.ours else self.theirs["model"]

    @property
    def is_comparable(self) -> bool:
        """Whether the two rows, on the same text, measure the same thing."""
        return self.ours is not None and self.ours.is_bound and not self.note


def reference_table(study: Study, published: Reference, *, split: str = "test") -> Table:
    """A study beside the published table that it has most rows in common with.

    1. Our rows come first, in their order; published rows of the corpus that we do not have follow below a rule.
    2. `≠` stands after our value where the published one, to its printed digits, lies outside our mean ± 2 standard
       errors; rows of one seed have no interval. `§` stands after rows that are wrong in print.
    3. No `≠` is drawn where text or bound differ, or where our row is no bound or wrong in print; the caption says why.
    4. A model without z has an exact likelihood, which stands in the column of any bound.
    """
    shown = [exact_without_z(row) for row in configurations(study, split) if row.complete]
    name = published.table_for(row.name for row in shown)
    corpus = str(study.facts.get("corpus"))
    theirs = published.published(name, corpus)
    notes = {same(row): note for (table, row, of), note in published.notes.items() if (table, of) == (name, corpus)}
    ours = [same(row.name) for row in shown]
    pairs = [Pair(row, theirs.get(key, {}), notes.get(key, "")) for key, row in zip(ours, shown, strict=True)]
    rest = [Pair(None, row, notes.get(key, "")) for key, row in theirs.items() if key not in ours and "corpus" in row]
    bound = published.bound(name)
    differences = [*text_differences(study, published, split), *bound_differences(bound, shown)]
    fields = _fields(bound, shown, is_same=not differences)
    return Table(
        study.name,
        tuple(column for column, _ in fields),
        tuple(tuple(fill(pair) for _, fill in fields) for pair in [*pairs, *rest]),
        (
            caption.data(study, split),
            f"Published: {published.source}, Table {name}, single runs. {bound.sentence}",
            *caption.importance(shown),
            _agreement(differences, [row for row in shown if row.complete > 1]),
            *(f"{NOTED} {pair.name}: {pair.note}" for pair in [*pairs, *rest] if pair.note),
            *legend(shown, split),
            *caption.incomplete(study),
        ),
        frozenset({len(pairs)} if pairs and rest else ()),
    )


def exact_without_z(row: Configuration) -> Configuration:
    """A row without KL has no z: its -ELBO is the likelihood itself, so it is its own IW-NLL."""
    elbo = row.values.get("elbo")
    if elbo is None or "kl" in row.values:
        return row
    return replace(row, values={**row.values, IW_NLL.metric: replace(elbo, mean=-elbo.mean)})


def text_differences(study: Study, published: Reference, split: str) -> list[str]:
    """In what the study's text is not the published one, a phrase with both values each; empty if in nothing.

    What a study does not say counts as different.
    """
    corpus = study.facts.get("corpus")
    theirs = published.texts.get(str(corpus))
    if theirs is None:
        return [f"corpus {corpus or 'unknown'} here, {' or '.join(published.texts)} there"]
    told = study.facts.get("tokens_per_document")
    tokens = told.get(split) if isinstance(told, dict) else told
    found = [] if split == "test" else [f"split {split} here, test there"]
    if tokens is None or round(float(tokens), 4) != theirs.tokens:
        shown = "unknown" if tokens is None else f"{tokens:.4f}"
        found.append(f"{shown} tokens per document here, {theirs.tokens:.4f} there")
    vocabulary = study.facts.get("vocabulary_size")
    if vocabulary != theirs.vocabulary:
        found.append(f"vocabulary {vocabulary or 'unknown'} here, {theirs.vocabulary} there")
    return found


def bound_differences(bound: Bound, shown: Sequence[Configuration]) -> list[str]:
    """In what our bound is looser or tighter than the published one, a phrase each."""
    counts = {row.values["iw_samples"].mean for row in shown if "iw_samples" in row.values} - {bound.samples}
    if bound.samples is None or not counts:
        return []
    return [f"{', '.join(f'{count:g}' for count in sorted(counts))} importance samples here, {bound.samples} there"]


def lies_outside(printed: str, ours: Estimate) -> bool:
    """Whether a published number, to its printed digits, is further from our mean than two standard errors.

    >>> lies_outside("328.0", Estimate(328.3, 0.1, 3)), lies_outside("328.0", Estimate(328.24, 0.1, 3))
    (True, False)
    """
    if ours.error is None:
        return False
    digits = len(printed.partition(".")[2])
    return abs(float(printed) - ours.mean) > 2 * ours.error + 0.5 * 10.0**-digits


Field = tuple[Column, Callable[[Pair], Cell]]
"""A column and how a pair fills it."""


def _fields(bound: Bound, shown: Sequence[Configuration], *, is_same: bool) -> list[Field]:
    fields: list[Field] = [(Column("model", "Model", align="left"), _model)]
    for printed, measure in bound.measures.items():
        column = measure.column
        theirs = Column(f"published_{column.key}", f"{bound.names.get(printed, column.name)} published", column.unit)
        fields += [
            (theirs, _published(printed)),
            (replace(column, name=f"{column.name} ours"), _ours(measure, printed, shown, is_same=is_same)),
        ]
    return [*fields, (Column("seeds", "Seeds"), lambda pair: seeds(pair.ours) if pair.ours else text(None))]


def _model(pair: Pair) -> Cell:
    cell = model(pair.ours, pair.name)
    return replace(cell, mark=cell.mark + NOTED * bool(pair.note))


def _published(column: str) -> Callable[[Pair], Cell]:
    def cell(pair: Pair) -> Cell:
        printed = pair.theirs.get(column)
        return Cell(printed, float(printed)) if printed else text(None)

    return cell


def _ours(measure: Measure, printed: str, shown: Sequence[Configuration], *, is_same: bool) -> Callable[[Pair], Cell]:
    write = cells(measure, shown)

    def cell(pair: Pair) -> Cell:
        written, theirs = write(pair.ours), pair.theirs.get(printed)
        if not (is_same and pair.is_comparable and theirs and isinstance(written.value, float)):
            return written
        is_outside = lies_outside(
            theirs, Estimate(written.value, written.error, pair.ours.complete if pair.ours else 0)
        )
        return replace(written, mark=DIFFERS * is_outside)

    return cell


def _agreement(differences: Sequence[str], with_interval: Sequence[Configuration]) -> str:
    if differences:
        return f"Not comparable, so nothing is marked: {'; '.join(differences)}."
    if not with_interval:
        return f"One seed per row has no interval, so no {DIFFERS} is drawn."
    return (
        f"{DIFFERS} the published value, to its printed digits, lies outside our mean ± 2 standard errors over seeds; "
        "rows of one seed have no interval."
    )
