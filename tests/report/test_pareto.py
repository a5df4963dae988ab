"""The Pareto front: as its definition says, and drawn as the table says."""

from __future__ import annotations

import builtins
import xml.etree.ElementTree as ET
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flowsearch.errors import BadInput
from flowsearch.report import FORMATS
from flowsearch.report.pareto import front, pareto_table
from flowsearch.report.plot import check, draw, info

coarse = st.integers(0, 5).map(float)


@given(st.lists(st.tuples(coarse, coarse), max_size=12))
def test_the_front_is_what_nothing_dominates_and_it_dominates_the_rest(points: list[tuple[float, float]]) -> None:
    found = front(points)
    on = [point for point, is_on in zip(points, found, strict=True) if is_on]
    for (cost, use), is_on in zip(points, found, strict=True):
        beaten = any(c <= cost and u >= use and (c < cost or u > use) for c, u in on)
        assert beaten is not is_on
    by_cost = sorted(set(on))
    assert [use for _, use in by_cost] == sorted({use for _, use in on})


def given_rows(rows: Any) -> Any:
    def of(elbo: float, kl: float, mi: float, **more: float) -> list[dict[str, float]]:
        return [{"elbo": elbo + n / 10, "kl": kl, "mutual_information": mi, **more} for n in range(2)]

    return rows(
        {
            "VAE": of(-9.0, 0.01, 0.0),
            "beta-VAE": of(-9.5, 4.0, 3.0),
            "worse": of(-9.7, 3.0, 3.0),
            "Implicit-VAE": of(-5.0, 9.0, 9.0, kl_is_bound=0.0),
            "LSTM-LM": [{"elbo": -8.0}],
        }
    )


def marks(table: Any, key: str) -> list[str]:
    place = [column.key for column in table.columns].index(key)
    return [row[place].mark for row in table.rows]


def test_rows_on_the_front_are_marked_and_those_without_bound_or_z_have_no_part(rows: Any) -> None:
    table = pareto_table(given_rows(rows))
    assert marks(table, "kl") == ["★", "★", "", "", ""]
    assert marks(table, "mutual_information") == ["★", "★", "", "", ""]
    assert marks(table, "model") == ["†", "", "", "¶", ""]
    assert "★ on the Pareto front" in " ".join(table.caption)
    for style in FORMATS.values():
        assert style([table])
    assert "kl_front" in FORMATS["csv"]([table])


def test_what_is_drawn_is_what_the_table_says(rows: Any) -> None:
    shown = info(pareto_table(given_rows(rows)))
    assert [panel.y for panel in shown.panels] == ["KL (nats/doc)", "MI (nats)"]
    [kl, _] = shown.panels
    assert [(point.row, point.label) for point in kl.points] == [
        (1, "VAE†"),
        (2, "beta-VAE"),
        (3, "worse"),
        (4, "Implicit-VAE¶"),
    ]
    assert kl.front == [pytest.approx((8.95, 0.01)), pytest.approx((9.45, 4.0))]
    assert kl.points[0].x_error == pytest.approx(0.05)


def test_a_panel_without_points_is_left_out(rows: Any) -> None:
    shown = info(pareto_table(rows({"VAE": [{"elbo": -9.0, "kl": 1.0}]})))
    assert [panel.y for panel in shown.panels] == ["KL (nats/doc)"]
    assert info(pareto_table(rows({}))).panels == ()


@pytest.mark.parametrize("suffix", [".svg", ".png"])
def test_a_drawing_is_the_same_bytes_twice(rows: Any, tmp_path: Path, suffix: str) -> None:
    pytest.importorskip("matplotlib")
    shown = info(pareto_table(given_rows(rows)))
    for name in ("a", "b"):
        draw(shown, tmp_path / f"{name}{suffix}")
    first, second = ((tmp_path / f"{name}{suffix}").read_bytes() for name in ("a", "b"))
    assert first == second
    assert len(first) > 1000


def test_names_are_drawn_as_they_are(rows: Any, tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    table = pareto_table(rows({r"$\frac{": [{"elbo": -9.0, "kl": 1.0}], "_<&漢\x1b": [{"elbo": -8.0, "kl": 1.0}]}))
    draw(info(table), tmp_path / "a.svg")
    assert ET.parse(tmp_path / "a.svg").getroot().tag.endswith("svg")


def test_nothing_to_draw_is_an_empty_drawing(rows: Any, tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    draw(info(pareto_table(rows({}))), tmp_path / "a.svg")
    assert (tmp_path / "a.svg").exists()


def test_another_suffix_and_a_missing_library_are_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(BadInput, match=r"--plot: a\.pdf; expected a name that ends with \.svg or \.png"):
        check(Path("a.pdf"))
    honest = builtins.__import__

    def without(name: str, *given: Any, **named: Any) -> Any:
        if name.startswith("matplotlib"):
            raise ImportError(name)
        return honest(name, *given, **named)

    monkeypatch.setattr(builtins, "__import__", without)
    with pytest.raises(BadInput, match=r"pip install 'flowsearch\[plots\]'"):
        check(Path("a.svg"))
