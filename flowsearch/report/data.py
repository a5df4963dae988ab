"""What a corpus holds, as a table: a row per split."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from flowsearch.report.tables import Cell, Column, Table, number, text

_COLUMNS = (
    Column("split", "Split", align="left"),
    Column("documents", "Documents"),
    Column("tokens_per_document", "Tokens/doc", "</s> counted"),
    Column("longest", "Longest", "words"),
    Column("unknown", "Unknown", "% of words"),
    Column("checksum", "Checksum", align="left"),
)


def corpus_table(summary: Mapping[str, Any]) -> Table:
    """The table of a corpus.

    Args:
        summary: as `flowsearch.text.summary` gives it.
    """
    rows = tuple(_row(name, split) for name, split in summary["splits"].items())
    facts = ", ".join(f"{name} {value:.4f}" for name, value in summary["facts"].items())
    caption = (
        f"Vocabulary {summary['vocabulary']}, the specials counted. Checksum of the whole: {summary['checksum']}.",
        *([f"Known, nats per document: {facts}."] if facts else []),
        *summary["notes"],
    )
    return Table(summary["name"], _COLUMNS, rows, caption)


def _row(name: str, split: Mapping[str, Any]) -> tuple[Cell, ...]:
    documents, longest = split["documents"], split["longest"]
    return (
        text(name),
        Cell(str(documents), documents),
        number(split["tokens_per_document"], 4),
        Cell(str(longest), longest),
        number(100 * split["unknown"], 2),
        text(split["checksum"][:16]),
    )
