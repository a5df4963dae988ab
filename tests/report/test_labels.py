"""Laws of labels: no two configurations of a study have the same one, and none says more than it must."""

from __future__ import annotations

from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from flowsearch.report.labels import distinct, rounded, shortest

names = st.sampled_from(
    ["objective.beta", "objective.warmup_epochs", "model.posterior", "model.posterior.k", "prior.k"]
)
values = st.integers(0, 3) | st.sampled_from([0.4, 0.4001, 0.40011, 1.0]) | st.sampled_from(["IAF", "Planar"])


@settings(deadline=None)
@given(st.lists(st.tuples(st.sampled_from(["VAE", "β-VAE"]), st.dictionaries(names, values)), max_size=8))
def test_different_configurations_have_different_labels(rows: list[tuple[str, dict[str, Any]]]) -> None:
    unique = {(label, frozenset(params.items())): (label, params) for label, params in rows}  # 1 and 1.0 are one value
    labels, params = [label for label, _ in unique.values()], [given for _, given in unique.values()]
    found = distinct(labels, params)
    assert len(set(found)) == len(found)
    assert all(name.startswith(label) for name, label in zip(found, labels, strict=True))


def test_only_what_differs_is_told_under_its_shortest_name_and_rounded() -> None:
    params = [
        {"objective.warmup_epochs": 3, "objective.beta": 0.41234, "model.latent_size": 32},
        {"objective.warmup_epochs": 0, "objective.beta": 0.6, "model.latent_size": 32},
    ]
    assert distinct(["VAE", "VAE"], params) == ["VAE [beta=0.412, warmup_epochs=3]", "VAE [beta=0.6, warmup_epochs=0]"]
    assert distinct(["a", "b"], params) == ["a", "b"]


def test_values_that_round_to_the_same_are_told_in_full() -> None:
    assert distinct(["V", "V"], [{"o.beta": 0.40001}, {"o.beta": 0.40002}]) == ["V [beta=0.40001]", "V [beta=0.40002]"]


def test_a_parameter_that_only_some_have_is_left_out_of_the_others() -> None:
    assert distinct(["V", "V"], [{"p.k": 2}, {}]) == ["V [k=2]", "V"]


@settings(deadline=None)
@given(st.sets(st.lists(st.sampled_from("abc"), min_size=1, max_size=4).map(".".join)))
def test_shortest_names_are_ends_of_their_names_and_tell_them_apart(dotted: set[str]) -> None:
    found = shortest(dotted)
    assert len(set(found.values())) == len(dotted)
    assert all(name == short or name.endswith(f".{short}") for name, short in found.items())


def test_three_significant_digits() -> None:
    assert [rounded(value) for value in (0.123456, 1e-5, 12.0, 7, "IAF")] == ["0.123", "1e-05", "12", "7", "IAF"]
