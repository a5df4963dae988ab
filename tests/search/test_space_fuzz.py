"""Whatever is in the file, `load` ends in a space or in one line; nothing is imported or called on the way.

FLOWSEARCH_FUZZ says how many examples are tried; `tests/faults/yaml_fuzz.py` prints a table of them.
"""

import os
import resource
import sys
import time
from pathlib import Path

import pytest
from hostile_spaces import EDGES, FRAGMENTS, HEAD, TEXTS, TREES
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from flowsearch.errors import BadInput
from flowsearch.search.space import load

EXAMPLES = int(os.environ.get("FLOWSEARCH_FUZZ", "300"))
FUZZ = settings(max_examples=EXAMPLES, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
SECONDS, MEGABYTES = 5.0, 200.0  # guards on a busy machine; tests/faults/yaml_fuzz.py measures against 1 s


@pytest.fixture
def canary(tmp_path, monkeypatch):
    """A module that a file must never get imported."""
    (tmp_path / "canary.py").write_text("def call(*given): raise SystemExit")
    monkeypatch.syspath_prepend(tmp_path)
    return tmp_path


def answer(file: Path, *overrides: str) -> str:
    """The line with which a file is refused; nothing if it is a space."""
    try:
        load(file, overrides)
    except BadInput as error:
        return str(error)
    return ""


def measured(file: Path) -> str:
    """The answer, if it took no more time and memory than an answer may."""
    began, before = time.process_time(), resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    line = answer(file)
    assert time.process_time() - began < SECONDS
    assert (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024 < MEGABYTES
    return line


@pytest.mark.parametrize("name", EDGES)
def test_a_file_at_the_edge_is_answered_as_quickly(canary, name):
    file = canary / "fuzz.yaml"
    file.write_text(EDGES[name])
    line = measured(file)
    assert line.isprintable()
    assert len(line) < len(str(file)) + 600
    assert bool(line) is (name not in ("a thousand rows", "two thousand corners", "a thousand first"))


@FUZZ
@given(text=TEXTS)
def test_a_file_is_a_space_or_one_line(canary, text):
    file = canary / "fuzz.yaml"
    file.write_bytes(text.encode("utf-8", "surrogatepass"))
    line = measured(file)
    assert line.isprintable()
    assert line.startswith(str(file) if line else "")
    assert len(line) < len(str(file)) + 600
    assert "canary" not in sys.modules


@settings(FUZZ, max_examples=EXAMPLES // 3)
@given(
    key=st.sampled_from(["model.posterior", "model.posterior.k", "objective.beta", "seed", "search.first", "study"])
    | st.text(max_size=12),
    value=st.one_of(TREES.map(str), st.text(), st.lists(st.sampled_from(FRAGMENTS)).map("".join)),
)
def test_an_override_is_applied_or_answered_in_one_line(canary, key, value):
    file = canary / "fuzz.yaml"
    file.write_text(HEAD)
    line = answer(file, f"{key}={value}")
    assert line.isprintable()
    assert len(line) < len(str(file)) + 600
    assert "canary" not in sys.modules
