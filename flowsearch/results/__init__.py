"""What was measured: readings, the journal that keeps them, and the Parquet tables made from it."""

from __future__ import annotations

from flowsearch.results.journal import Journal, Replay, Tables, Trial, fold, read
from flowsearch.results.reading import SPLITS, UNITS, Reading
from flowsearch.results.repair import Repair, repair
from flowsearch.results.store import Metrics, Study, compact, find, load, studies

__all__ = [
    "SPLITS",
    "UNITS",
    "Journal",
    "Metrics",
    "Reading",
    "Repair",
    "Replay",
    "Study",
    "Tables",
    "Trial",
    "compact",
    "find",
    "fold",
    "load",
    "read",
    "repair",
    "studies",
]
