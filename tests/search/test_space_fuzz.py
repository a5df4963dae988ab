"""Whatever is in the file, `load` ends in a space or in one line; nothing is imported or called on the way."""

import sys
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from flowsearch.errors import BadInput
from flowsearch.search import compose
from flowsearch.search.space import load

FUZZ = settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
HEAD = "defaults: [base, _self_]\n"
SPACE = HEAD + compose.BASE.read_text().replace("???", "fuzz")
WORDS = [
    *(
        "choice",
        "int",
        "uniform",
        "log",
        "model",
        "posterior",
        "IAF",
        "k",
        "Gaussian",
        "search",
        "first",
        "sampler",
        "TPE",
    ),
    *(
        "objective",
        "beta",
        "warmup_epochs",
        "training",
        "epochs",
        "seed",
        "study",
        "defaults",
        "base",
        "data",
        "corpus",
    ),
    *("_target_", "_partial_", "_self_", "hydra", "canary.call", "latent_size", "resources", "concurrent"),
]
FRAGMENTS = [
    *(
        "&a ",
        "*a",
        "!!python/object/apply:canary.call []",
        "!!python/name:canary.call",
        "!!float x",
        "!!binary AA==",
        "${x}",
    ),
    *(
        "[" * 15,
        "{a: " * 15,
        "]",
        "}",
        "---\n",
        "...\n",
        "? ",
        ": ",
        "- ",
        "\n",
        "\t",
        "\x00",
        "\x85",
        "\u2028",
        "\ufeff",
    ),
    *("<<: *a", "'", '"', "%YAML 1.1\n", "|\n", ">-\n", "9" * 3900, "-.inf", "1e999", "0x1F", "é", "\U0001f600", "???"),
    *(
        "_target_: canary.call",
        "{int: [1, 4]}",
        "{choice: []}",
        "{log: [0, 1]}",
        "{choice: [{IAF: {k: {int: [1, 2]}}}]}",
    ),
]
SCALARS = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8) | st.sampled_from(WORDS)
KEYS = st.sampled_from(WORDS) | st.text(max_size=4) | st.integers() | st.none()
TREES = st.recursive(SCALARS, lambda inner: st.lists(inner, max_size=4) | st.dictionaries(KEYS, inner, max_size=3))
SECTIONS = ["data", "model", "objective", "training", "metrics", "search", "resources"]


@st.composite
def nearly(draw: st.DrawFn) -> str:
    """A good file in which one value is anything."""
    tree: dict[str, Any] = yaml.safe_load(SPACE)
    section = tree[draw(st.sampled_from(SECTIONS))]
    section[draw(st.sampled_from([*section]))] = draw(
        TREES | st.dictionaries(st.sampled_from(WORDS[:4]), TREES, max_size=1)
    )
    return yaml.safe_dump(tree, sort_keys=False)


@st.composite
def spliced(draw: st.DrawFn) -> str:
    """A good file with fragments put in, or cut out, anywhere."""
    text = SPACE
    for fragment in draw(st.lists(st.sampled_from(FRAGMENTS), min_size=1, max_size=4)):
        start = draw(st.integers(0, len(text)))
        text = text[:start] + fragment + text[start + draw(st.integers(0, 12)) :]
    return text


TEXTS = st.one_of(
    nearly(), spliced(), TREES.map(yaml.safe_dump), st.text(), st.lists(st.sampled_from(FRAGMENTS)).map("".join)
)


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


@FUZZ
@given(text=TEXTS)
def test_a_file_is_a_space_or_one_line(canary, text):
    file = canary / "fuzz.yaml"
    file.write_bytes(text.encode("utf-8", "surrogatepass"))
    line = answer(file)
    assert line.isprintable()
    assert line.startswith(str(file) if line else "")
    assert len(line) < len(str(file)) + 600
    assert "canary" not in sys.modules


@settings(FUZZ, max_examples=100)
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
