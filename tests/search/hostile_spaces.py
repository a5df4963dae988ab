"""Space files that nobody would write: strategies of hypothesis, and files at the edge of what is allowed.

Tests and `tests/faults/yaml_fuzz.py` import this module.
"""

from __future__ import annotations

from typing import Any

import yaml
from hypothesis import strategies as st

from flowsearch.search import compose

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

LAUGHS = "".join(
    f"{now}: &{now} [{', '.join([f'*{last}'] * 9)}]\n" for last, now in zip("abcdefgh", "bcdefghi", strict=True)
)
EDGES = {
    "a choice of too many": HEAD + f"model: {{latent_size: {{choice: {list(range(1, 1902))}}}}}\n",
    "a thousand rows": HEAD
    + "search:\n  rows:\n"
    + "".join(f"    r{i}: {{model.latent_size: {i + 1}}}\n" for i in range(1000)),
    "two thousand corners": HEAD
    + "model: {posterior: {choice: [Gaussian, Planar]}}\nsearch:\n  rows:\n"
    + "".join(f"    r{i}: {{model.latent_size: {i + 1}}}\n" for i in range(1000)),
    "a thousand first": HEAD
    + "model: {latent_size: {int: [1, 10000]}}\nsearch:\n  first:\n"
    + "".join(f"    - {{model.latent_size: {i + 1}}}\n" for i in range(1000)),
    "many keys": HEAD + "model:\n" + "".join(f"  k{i}: 1\n" for i in range(60_000)),
    "a long list": HEAD + f"model: [{'1, ' * 300_000}]\n",
    "a long text": HEAD + f"study: {'a' * 900_000}\n",
    "a long integer": HEAD + f"seed: {'9' * 4_500}\n",
    "a long number": HEAD + f"objective: {{beta: {'9' * 100_000}.5}}\n",
    "a long number with marks": HEAD + f"objective: {{beta: {'1_' * 50_000}}}\n",
    "a long number to base 60": HEAD + f"objective: {{beta: {'1:' * 5_000}1}}\n",
    "deep lists": HEAD + f"model: {'[' * 100_000}\n",
    "deep mappings": HEAD + f"model: {'{a: ' * 100_000}\n",
    "a billion laughs": HEAD + "a: &a [x, x, x, x, x, x, x, x, x]\n" + LAUGHS,
    "itself": HEAD + "model: &a {encoder: *a}\n",
}
"""Files as long, deep or wide as a file can be."""
