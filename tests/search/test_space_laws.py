"""Laws of spaces, over random spaces: parameters determine configurations, text is lossless, a grid is exact."""

import json
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import optuna
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from flowsearch.search import bounded, compose, ranges
from flowsearch.search.space import Space, draw, grid, load, rebuild, size
from flowsearch.training import config

optuna.logging.disable_default_handler()
LAW = settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


@cache
def base() -> dict[str, Any]:
    return bounded.read(compose.BASE)


def choices(candidates: st.SearchStrategy[Any], most: int = 3) -> st.SearchStrategy[Any]:
    return st.lists(candidates, min_size=1, max_size=most, unique=True).map(lambda items: {"choice": items})


def intervals(word: str, ends: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    return st.tuples(ends, ends).map(lambda pair: {word: sorted(pair)})


INTEGERS = st.integers(1, 6)
WHOLE = st.one_of(INTEGERS, choices(INTEGERS), intervals("int", INTEGERS))
POSITIVE = st.floats(0.01, 10)
REAL = st.one_of(POSITIVE, choices(POSITIVE), intervals("uniform", POSITIVE), intervals("log", POSITIVE))
FREE_BITS = st.sampled_from([None, {"PerDocument": {"nats": {"choice": [2, 5]}}}, {"BatchMean": {"nats": 0.1}}])


@st.composite
def posteriors(draw_: st.DrawFn) -> Any:
    """A name, a component, or a choice of components whose ranges of k are of one kind."""
    kind = draw_(st.sampled_from([INTEGERS, intervals("int", INTEGERS), st.just({"choice": [1, 3]})]))
    flows = [{name: {"k": draw_(kind)}} for name in ("IAF", "Planar", "Radial")]
    candidates = draw_(st.lists(st.sampled_from(["Gaussian", *flows]), min_size=1, unique_by=str))
    return draw_(st.sampled_from([candidates[0], {"choice": candidates}]))


@st.composite
def trees(draw_: st.DrawFn) -> dict[str, Any]:
    """A whole space file: base, with some values replaced by others or by ranges."""
    tree = {key: dict(value) if isinstance(value, dict) else value for key, value in base().items()}
    tree["study"] = draw_(st.from_regex(compose.NAME, fullmatch=True))
    tree["seed"] = draw_(st.integers(0, 2**31))
    tree["model"]["latent_size"] = draw_(WHOLE)
    tree["model"]["posterior"] = draw_(posteriors())
    tree["objective"]["beta"] = draw_(REAL)
    tree["objective"]["warmup_epochs"] = draw_(WHOLE)
    tree["objective"]["free_bits"] = draw_(st.lists(FREE_BITS, min_size=1, unique_by=str).map(lambda c: {"choice": c}))
    tree["training"]["clip"] = draw_(choices(st.sampled_from(["joint", "per_module"])))
    tree["training"]["optimizer"] = {"SGD": {"lr": draw_(REAL)}}
    tree["data"]["corpus"] = draw_(st.text(st.characters(exclude_categories=["Cs", "Cc"]), max_size=20))
    return tree


@pytest.fixture
def file(tmp_path) -> Path:
    return tmp_path / "space.yaml"


def loaded(file: Path, tree: dict[str, Any]) -> Space:
    file.write_text(bounded.dump(tree), encoding="utf-8")
    return load(file)


def suggested(space: Space, seed: int) -> optuna.Trial:
    return optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=seed)).ask()


@LAW
@given(tree=trees(), seed=st.integers(0, 99))
def test_parameters_determine_the_configuration(file, tree, seed):
    space = loaded(file, tree)
    trial = suggested(space, seed)
    configuration = draw(space, trial)
    params = json.loads(json.dumps(trial.params))
    assert rebuild(space, params) == configuration
    assert draw(space, optuna.trial.FixedTrial(params)) == configuration
    assert set(params) <= set(space.names)
    assert config.plain(config.parse(configuration)) == config.plain(
        config.parse(json.loads(json.dumps(configuration)))
    )


@LAW
@given(tree=trees())
def test_text_is_lossless(file, tree):
    space = loaded(file, tree)
    file.write_text(space.text(), encoding="utf-8")
    again = load(file)
    assert again == space
    assert again.hash == space.hash
    assert {key: again.tree[key] for key in ("seed", "model", "objective", "data")} == {
        key: tree[key] for key in ("seed", "model", "objective", "data")
    }


@LAW
@given(tree=trees())
def test_a_grid_holds_every_point_once(file, tree):
    space = loaded(file, tree)
    if size(space) is None:
        return
    points = grid(space)
    assert len(points) == size(space)
    assert len({json.dumps(point, sort_keys=True) for point in points}) == len(points)
    for point in points[:: max(1, len(points) // 20)]:
        config.parse(rebuild(space, point))


@LAW
@given(tree=trees(), seed=st.integers(0, 99))
def test_a_grid_misses_nothing_that_can_be_drawn(file, tree, seed):
    space = loaded(file, tree)
    if size(space) is not None:
        trial = suggested(space, seed)
        draw(space, trial)
        assert trial.params in grid(space)


def candidates(value: Any) -> Iterator[Any]:
    """Every constant that a tree may come to hold."""
    if not isinstance(value, dict):
        yield value
    elif "choice" in value:
        for item in value["choice"]:
            yield from candidates(item)
    elif value.keys() & {"int", "uniform", "log"}:
        yield from next(iter(value.values()))
    else:
        for item in value.values():
            yield from candidates(item)


@LAW
@given(tree=trees())
def test_corners_show_every_candidate_and_are_no_product(tree):
    sections = {key: tree[key] for key in ("model", "objective", "training")}
    corners = ranges.nodes(sections).corners()
    shown = {repr(value) for corner in corners for value in candidates(corner)}
    everything = [repr(value) for value in candidates(sections)]
    assert set(everything) == shown
    assert len(corners) <= len(everything)


SCALARS = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-(2**53), 2**53),
    st.floats(allow_nan=False, allow_infinity=False),
    st.text(st.characters(exclude_categories=["Cs"])).filter(lambda text: "${" not in text),
    st.sampled_from(
        ["1e5", "no", "1:30", "0x1F", "2001-01-01", "~", "=", "<<", "- a", "# b", ".5", ".inf", "\x85", "\ufeff"]
    ),
)
KEYS = st.text("ab1 :#-'\"\n{}[]~", max_size=5)
DATA = st.recursive(SCALARS, lambda inner: st.lists(inner) | st.dictionaries(KEYS, inner), max_leaves=20)


@LAW
@given(data=DATA)
def test_what_is_dumped_is_parsed_back(data):
    assert bounded.parse(bounded.dump({"a": data, "b": {"c": data}}), "dump") == {"a": data, "b": {"c": data}}
