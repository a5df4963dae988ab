"""Training times: what is summed, until when, and relative to what."""

from __future__ import annotations

import json
from typing import Any

import pytest

from flowsearch.errors import BadInput
from flowsearch.report import FORMATS
from flowsearch.report.rows import Estimate
from flowsearch.report.times import ratio, times_table
from flowsearch.results import Trial


@pytest.fixture
def timed(study: Any) -> Any:
    """A study of (row, seconds of each epoch, best epoch); 10 steps an epoch, inner ones as many as seconds."""

    def make(*given: tuple[str, list[float], int], **facts: Any) -> Any:
        trials, readings = [], {}
        for number, (name, seconds, best) in enumerate(given):
            trials.append(Trial(number, "COMPLETE", None, name, number, 99.0, None, {"row": name}))
            for epoch, value in enumerate(seconds, start=1):
                readings[number, epoch, "train"] = {"seconds": value, "steps": 10.0, "inner_steps": value}
                readings[number, epoch, "valid"] = {"elbo": -abs(epoch - best) - 5.0, "seconds": 1000.0} | (
                    {} if name == "LSTM-LM" else {"kl": 1.0}
                )
        return study(trials, readings, **facts)

    return make


def values(table: Any, key: str) -> list[Any]:
    return [row[key]["value"] for row in json.loads(FORMATS["json"]([table]))[0]["rows"]]


def errors(table: Any, key: str) -> list[Any]:
    return [row[key]["stderr"] for row in json.loads(FORMATS["json"]([table]))[0]["rows"]]


def test_times_steps_and_ratios_by_hand(timed: Any) -> None:
    made = timed(("VAE", [1.0, 3.0, 2.0], 3), ("VAE + Lagging Inference", [9.0, 9.0, 3.0, 3.0], 2))
    table = times_table(made)
    assert values(table, "seconds_per_epoch") == [2.0, 6.0]
    assert values(table, "epoch_ratio") == [1.0, 3.0]
    assert values(table, "epochs") == [3.0, 2.0]
    assert values(table, "seconds_to_best") == [6.0, 18.0]
    assert values(table, "best_ratio") == [1.0, 3.0]
    assert values(table, "encoder_steps") == [36.0, 38.0]
    assert values(table, "steps_ratio") == [1.0, pytest.approx(38 / 36)]


def test_a_model_without_z_has_no_encoder_to_step(timed: Any) -> None:
    table = times_table(timed(("VAE", [2.0], 1), ("LSTM-LM", [1.0], 1)))
    assert values(table, "encoder_steps") == [12.0, None]
    assert values(table, "epoch_ratio") == [1.0, 0.5]


def test_means_over_seeds_have_errors_and_the_ratio_has_both(timed: Any) -> None:
    made = timed(("VAE", [2.0], 1), ("VAE", [2.2], 1), ("SA-VAE", [20.0], 1), ("SA-VAE", [22.0], 1))
    table = times_table(made)
    assert values(table, "seconds_per_epoch") == pytest.approx([2.1, 21.0])
    assert errors(table, "seconds_per_epoch") == pytest.approx([0.1, 1.0])
    assert values(table, "epoch_ratio") == pytest.approx([1.0, 10.0])
    # Both means are known to 1 part in 21; independent, so the ratio is to sqrt(2) times that.
    assert errors(table, "epoch_ratio") == [None, pytest.approx(10 * 2**0.5 / 21)]


def test_another_row_may_be_the_baseline(timed: Any) -> None:
    made = timed(("VAE", [2.0], 1), ("SA-VAE", [20.0], 1))
    assert values(times_table(made, baseline="SA-VAE"), "epoch_ratio") == [0.1, 1.0]
    with pytest.raises(BadInput, match="--baseline: no complete row 'SAVAE' in demo; did you mean 'SA-VAE'"):
        times_table(made, baseline="SAVAE")


def test_without_a_plain_row_there_are_no_ratios_and_the_caption_says_so(timed: Any) -> None:
    table = times_table(timed(("SA-VAE", [20.0], 1)))
    assert values(table, "epoch_ratio") == [None]
    assert values(table, "seconds_per_epoch") == [20.0]
    assert "No complete row VAE" in " ".join(table.caption)


def test_a_missing_epoch_leaves_the_way_to_the_best_unknown(study: Any) -> None:
    readings = {(0, epoch, "valid"): {"elbo": float(epoch)} for epoch in (1, 2)}
    readings[0, 2, "train"] = {"seconds": 4.0, "inner_steps": 0.0}
    table = times_table(study([Trial(0, "COMPLETE", label="VAE")], readings))
    assert values(table, "seconds_per_epoch") == [4.0]
    assert values(table, "seconds_to_best") == [None]
    assert values(table, "encoder_steps") == [None]
    assert "This study did not record them" in " ".join(table.caption)


def test_the_caption_says_on_what(timed: Any) -> None:
    told = " ".join(times_table(timed(("VAE", [2.0], 1), platform="Linux-6")).caption)
    for part in (
        "wall time of training alone",
        "posterior are none",
        "on Linux-6",
        "shared is not known",
        "mean of row VAE",
    ):
        assert part in told
    assert all(style([times_table(timed(("VAE", [2.0], 1)))]) for style in FORMATS.values())


def test_a_ratio_needs_both_and_an_error_needs_both() -> None:
    assert ratio(None, Estimate(1.0, None, 1)) is None
    assert ratio(Estimate(1.0, None, 1), Estimate(0.0, None, 1)) is None
    assert ratio(Estimate(3.0, 0.1, 2), Estimate(2.0, None, 1)) == Estimate(1.5, None, 2)
