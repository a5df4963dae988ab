"""Two rows compared: pairs by document, pairs by seed, and tests that promise no more than the seeds allow."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from flowsearch.errors import BadInput, Damaged
from flowsearch.report import FORMATS
from flowsearch.report.compare import compare, compare_table, holm, least_p, wilcoxon
from flowsearch.results import Study
from flowsearch.results.documents import DOCUMENTS, write_documents

Made = Callable[..., tuple[Study, Path]]


@pytest.fixture
def measured(rows: Any, tmp_path: Path) -> Made:
    """A study whose rows have, for each seed, these ELBOs of the documents."""

    def make(given: Mapping[str, Sequence[Sequence[float]]]) -> tuple[Study, Path]:
        study = rows({name: [{"elbo": float(np.mean(one))} for one in seeds] for name, seeds in given.items()})
        each = [one for seeds in given.values() for one in seeds]
        for number, elbos in enumerate(each):
            folder = tmp_path / "trials" / str(number)
            folder.mkdir(parents=True, exist_ok=True)
            write_documents(folder, {"tokens": np.arange(len(elbos)) + 5, "elbo": np.array(elbos)})
        return study, tmp_path

    return make


def cells(table: Any, key: str) -> list[Any]:
    place = [column.key for column in table.columns].index(key)
    return [row[place] for row in table.rows]


def test_differences_by_document_and_by_seed_by_hand(measured: Made) -> None:
    study, folder = measured({"A": [[-1.0, -2.0, -3.0], [-3.0, -2.0, -5.0]], "B": [[-4.0, -2.0, -6.0]] * 2})
    [found] = compare(study, folder, [("A", "B")])
    # A's means over seeds are -2, -2, -4, so the differences 2, 0, 2: mean 4/3, standard error 2/3.
    assert found.difference.mean == pytest.approx(4 / 3)
    assert found.difference.error == pytest.approx(2 / 3)
    assert found.share == pytest.approx(2.5 / 3)
    assert found.by_seed == {0: 2.0, 1: pytest.approx(2 / 3)}
    assert found.p == 0.5


def test_pairing_takes_out_what_the_documents_share(measured: Made) -> None:
    lengths = np.linspace(-500, -5, 40)
    noise = np.random.default_rng(0).normal(0, 0.01, 40)
    study, folder = measured({"A": [lengths + 0.1], "B": [lengths + noise]})
    [found] = compare(study, folder, [("A", "B")])
    assert found.difference.error is not None
    assert found.difference.error < 0.003
    assert found.difference.mean == pytest.approx(0.1, abs=0.01)


def test_the_other_way_round_is_the_other_sign(measured: Made) -> None:
    chance = np.random.default_rng(1)
    study, folder = measured({"A": chance.normal(size=(3, 20)).tolist(), "B": chance.normal(size=(3, 20)).tolist()})
    one, other = compare(study, folder, [("A", "B"), ("B", "A")])
    assert one.difference.mean == pytest.approx(-other.difference.mean)
    assert one.share == pytest.approx(1 - other.share)
    assert one.p == other.p


def test_documents_are_paired_by_their_number(measured: Made) -> None:
    study, folder = measured({"A": [[-1.0, -2.0]], "B": [[-1.0, -2.0]]})
    shuffled = {"document": np.array([1, 0]), "tokens": np.array([6, 5]), "elbo": np.array([-2.0, -1.0])}
    write_documents(folder / "trials" / "1", shuffled)
    [found] = compare(study, folder, [("A", "B")])
    assert (found.difference.mean, found.difference.error) == (0.0, 0.0)


@given(st.lists(st.integers(1, 10**6), min_size=1, max_size=8, unique=True), st.data())
def test_wilcoxon_is_the_count_over_all_signs(sizes: list[int], data: Any) -> None:
    signs = data.draw(st.lists(st.sampled_from([-1, 1]), min_size=len(sizes), max_size=len(sizes)))
    ranks = np.argsort(np.argsort(sizes)) + 1
    total = ranks.sum()

    def extreme(way: Sequence[int]) -> float:
        return abs(float(ranks[np.array(way) > 0].sum()) - total / 2)

    seen = extreme(signs)
    ways = list(itertools.product([-1, 1], repeat=len(sizes)))
    expected = sum(extreme(way) >= seen for way in ways) / len(ways)
    found = wilcoxon([size * sign / 7 for size, sign in zip(sizes, signs, strict=True)])
    assert found == pytest.approx(expected)
    assert found >= least_p(len(sizes)) - 1e-12


def test_the_least_p_is_reached_when_all_agree() -> None:
    for seeds in range(1, 9):
        assert wilcoxon([float(n) for n in range(1, seeds + 1)]) == pytest.approx(least_p(seeds))
    assert wilcoxon([0.0, 0.0]) == 1.0
    assert wilcoxon([]) is None


def test_holm_by_hand() -> None:
    # Sorted 0.01, 0.02, 0.04 times 3, 2, 1: 0.03, 0.04, 0.04.
    assert holm([0.02, None, 0.01, 0.04]) == [0.04, None, 0.03, 0.04]
    assert holm([]) == []


@given(st.lists(st.floats(0, 1), min_size=1, max_size=8))
def test_holm_never_helps_keeps_the_order_and_is_no_harsher_than_bonferroni(ps: list[float]) -> None:
    found = [p or 0.0 for p in holm(list(ps))]
    for before, after in zip(ps, found, strict=True):
        assert before <= after <= min(1.0, len(ps) * before)
    order = np.argsort(ps, kind="stable")
    assert list(np.array(found)[order]) == sorted(found)


def test_the_table_says_how_little_three_seeds_can_say(measured: Made) -> None:
    seeds = [[-1.0, -2.0], [-1.5, -2.5], [-1.0, -3.0]]
    worse = [[value - 1 - seed / 10 for value in one] for seed, one in enumerate(seeds)]
    study, folder = measured({"A": seeds, "B": worse, "C": worse})
    table = compare_table(study, folder, [("A", "B"), ("A", "C")])
    assert [cell.text for cell in cells(table, "p")] == ["0.2500", "0.2500"]
    assert [cell.value for cell in cells(table, "p_holm")] == [0.5, 0.5]
    assert [cell.value for cell in cells(table, "p_least")] == [0.25, 0.25]
    assert cells(table, "share")[0].value == 100.0
    assert cells(table, "by_seed")[0].text == "+1.000, +1.100, +1.200"
    told = " ".join(table.caption)
    for part in ("ELBO at KL weight 1", "2/2^n", "over the 2 comparisons", "Above 0, A is better"):
        assert part in told
    assert all(style([table]) for style in FORMATS.values())


def test_seeds_that_only_one_row_has_are_not_paired(measured: Made) -> None:
    study, folder = measured({"A": [[-1.0], [-2.0]], "B": [[-3.0]]})
    [found] = compare(study, folder, [("A", "B")])
    assert found.by_seed == {0: 2.0}
    assert found.p == 1.0


def test_rows_that_are_not_there_are_answered_with_the_nearest(measured: Made) -> None:
    study, folder = measured({"VAE": [[-1.0]], "SA-VAE": [[-2.0]]})
    with pytest.raises(BadInput, match="--compare: no complete row 'SAVAE' in demo; did you mean 'SA-VAE'"):
        compare(study, folder, [("VAE", "SAVAE")])
    with pytest.raises(BadInput, match="'VAE' with itself"):
        compare(study, folder, [("VAE", "VAE")])


def test_what_cannot_be_paired_is_damage(measured: Made) -> None:
    study, folder = measured({"A": [[-1.0, -2.0]], "B": [[-2.0, -3.0]]})
    place = folder / "trials" / "1"
    write_documents(place, {"tokens": np.array([9, 9]), "elbo": np.array([-1.0, -2.0])})
    with pytest.raises(Damaged, match=r"1/documents\.parquet: not the documents of trial 0"):
        compare(study, folder, [("A", "B")])
    write_documents(place, {"tokens": np.array([9, 9])})
    with pytest.raises(Damaged, match="expected elbo and tokens"):
        compare(study, folder, [("A", "B")])
    (place / DOCUMENTS).unlink()
    with pytest.raises(Damaged, match=r"1/documents\.parquet: missing; --compare needs"):
        compare(study, folder, [("A", "B")])
