"""A study in which everything that a user names is hostile: in every view and every format it is shown, and inert.

Each text stands as label, row, parameter, corpus, metric and reason in a journal; what is printed is compared with what
an innocent word in its place gives.
"""

from __future__ import annotations

import csv
import io
import json
import re
import unicodedata
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest
from hostile import HOSTILE

from flowsearch.cli import complain
from flowsearch.report import FORMATS, Table, overview, plot, report, running, status
from flowsearch.report.escapes import _LATEX
from flowsearch.report.samples import SCORES, sample_tables
from flowsearch.results import Journal, Trial
from flowsearch.results.samples import Samples

INNOCENT = "word"


def journal(folder: Path, name: str) -> Path:
    """A study of five trials, one of them running, in which `name` is whatever a user can name."""
    folder.mkdir(parents=True)
    values = {"elbo": -30.0, "kl": 2.0, "active_units": 3.0, "mutual_information": 1.0, "ppl": 9.0, f"x{name}": 1.0}
    events: list[dict[str, Any]] = [{"event": "study", "corpus": name, "vocabulary_size": 9}]
    for number, label in enumerate((name, "VAE", f"{name} + IAF", name, name)):
        params = {name or "none": name, "row": label, "model.posterior": name}
        events.append({"event": "start", "trial": number, "params": params, "seed": number, "label": label})
        measured = values | {"elbo": -30.0 - number}
        rows = [{"split": split, "values": measured} for split in ("valid", "test")]
        events.append({"event": "report", "trial": number, "epoch": 1, "readings": rows})
        if number < 4:
            state, reason = ("FAIL", name) if number == 3 else ("COMPLETE", None)
            events.append({"event": "finish", "trial": number, "state": state, "reason": reason, "seconds": 2.0})
    with Journal(folder / "journal.jsonl") as written:
        for place, event in enumerate(events):
            written.append(event | {"time": 100.0 + place})
    return folder


def views(results: Path, name: str) -> Iterator[tuple[str, list[Table]]]:
    """Everything that prints tables of a study."""
    journal(results / "demo", name)
    for table in ("study", "times", "pareto"):
        given: dict[str, Any] = {"times": {"baseline": "VAE"}, "study": {"everything": True}}.get(table, {})
        yield table, report(results, ["demo"], split="test", table=table, **given)[0]
    yield "by", report(results, ["demo"], by=[name or "none"], split="test", everything=True)[0]
    found = status(results / "demo")
    yield "status", [running(found, 250.0), overview([found], 250.0)]
    words, said = (name, name), dict.fromkeys(SCORES, 0.5)
    wrote = Samples((words, ()), (words, words), (words,), (words,), (words,), (words, words), said)
    yield "samples", sample_tables("demo", [(Trial(0, label=name), wrote)])


@pytest.fixture(scope="module")
def innocent(tmp_path_factory: pytest.TempPathFactory) -> dict[str, list[Table]]:
    return dict(views(tmp_path_factory.mktemp("innocent"), INNOCENT))


def bare_markdown(shown: str) -> Counter[str]:
    """Marks that Markdown or HTML would act on."""
    return Counter(
        re.findall(r"[|*_`<>\[\]~#!$@]|&(?!#?\w+;)", re.sub(r"\\[\\*_\[\]~#!$]|&#\d+;|&(lt|gt|amp);", "", shown))
    )


def bare_latex(shown: str) -> Counter[str]:
    """Marks that LaTeX would act on; a minus sign is set in mathematics."""
    shown = shown.replace("$-$", "-")
    for escape in sorted(_LATEX.values(), key=len, reverse=True):
        shown = shown.replace(escape, "") if escape != "--" else shown
    return Counter(re.findall(r"\\[a-zA-Z]+|[\\{}$&#%_^~]", shown))


@pytest.mark.slow
@pytest.mark.parametrize("name", HOSTILE, ids=ascii)
def test_in_every_view_and_format_it_is_inert(tmp_path: Path, name: str, innocent: dict[str, list[Table]]) -> None:
    for view, tables in views(tmp_path, name):
        same = innocent[view]
        shapes = [(len(table.rows), len(table.columns), len(table.caption)) for table in tables]
        assert shapes == [(len(table.rows), len(table.columns), len(table.caption)) for table in same]
        for style, format_ in FORMATS.items():
            shown, expected = format_(tables), format_(same)
            assert all(unicodedata.category(mark)[0] != "C" for mark in shown.replace("\n", "")), (view, style)
            assert len(shown.splitlines()) == len(expected.splitlines()), (view, style)
        assert bare_markdown(FORMATS["markdown"](tables)) == bare_markdown(FORMATS["markdown"](same)), view
        assert bare_latex(FORMATS["latex"](tables)) == bare_latex(FORMATS["latex"](same)), view
        rows = list(csv.reader(io.StringIO(FORMATS["csv"](tables))))
        assert {len(row) for row in rows} == {len(rows[0])}, view
        numbers = re.compile(r"-?\d+(\.\d+)?(e-?\d+)?")
        for field in (field for row in rows for field in row if not numbers.fullmatch(field)):
            assert not re.match("[=+\\-@\t\r\uff1d\uff0b\uff0d\uff20]", field), (view, field)
        assert len(json.loads(FORMATS["json"](tables))) == len(tables)


SAFE = {"svg", "metadata", "RDF", "Work", "type", "format", "creator", "Agent", "title", "defs", "style", "g", "path"}
SAFE |= {"use", "clipPath", "rect"}


def test_in_a_drawing_they_are_letters(tmp_path: Path) -> None:
    """All of them in one SVG: well formed, of shapes alone, and asks nobody for anything."""
    pytest.importorskip("matplotlib")
    values = {"elbo": -30.0, "kl": 2.0, "active_units": 3.0, "mutual_information": 1.0, "ppl": 9.0}
    (tmp_path / "demo").mkdir()
    with Journal(tmp_path / "demo" / "journal.jsonl") as written:
        for number, label in enumerate(HOSTILE):
            start = {"event": "start", "trial": number, "params": {"row": label}, "seed": 0, "label": label}
            rows = [{"split": split, "values": values | {"kl": 2.0 + number}} for split in ("valid", "test")]
            written.append(start)
            written.append({"event": "report", "trial": number, "epoch": 1, "readings": rows})
            written.append({"event": "finish", "trial": number, "state": "COMPLETE"})
    plot(tmp_path, ["demo"], tmp_path / "demo.svg")
    text = (tmp_path / "demo.svg").read_text(encoding="utf-8")
    assert all(unicodedata.category(mark)[0] != "C" for mark in text.replace("\n", ""))
    assert "<!ENTITY" not in text
    for element in ElementTree.fromstring(text).iter():
        assert element.tag.rpartition("}")[2] in SAFE
        for attribute, value in element.attrib.items():
            assert not attribute.lower().startswith("on")
            assert not attribute.endswith("href") or value.startswith("#")


@pytest.mark.parametrize("name", HOSTILE, ids=ascii)
def test_in_a_complaint_it_is_one_line(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    complain(f"no study '{name}'")
    said = capsys.readouterr().err
    assert said.startswith("flowsearch: no study ")
    assert said.count("\n") == 1
    assert all(unicodedata.category(mark)[0] != "C" for mark in said[:-1])
