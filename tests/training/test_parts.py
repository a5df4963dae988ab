"""The parts of training: decay rules on scripted losses, clipping, optimisers, float32 products, the watch for NaN."""

from __future__ import annotations

import copy
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from flowsearch.errors import Diverged
from flowsearch.text import Corpus
from flowsearch.training import precision
from flowsearch.training.clip import CLIPS, Joint, PerModule
from flowsearch.training.decay import DECAYS, Cosine, Decay, He2019, Plateau, Verdict
from flowsearch.training.loop import Tally
from flowsearch.training.optimizers import OPTIMIZERS
from flowsearch.training.trial import readings

every_decay = pytest.mark.parametrize("decay", DECAYS.values(), ids=DECAYS)
every_optimizer = pytest.mark.parametrize("optimizer", OPTIMIZERS.values(), ids=OPTIMIZERS)


def decayed(rule: Decay, losses: Sequence[float]) -> list[int]:
    """The epochs at which the learning rate falls."""
    return [epoch for epoch, loss in enumerate(losses, start=1) if rule.judge(epoch, loss).factor < 1]


def rates(rule: Decay, epochs: int) -> list[float]:
    """The learning rate of each epoch, the optimiser's own being 1."""
    found = [rule.first]
    for epoch in range(1, epochs):
        found.append(found[-1] * rule.judge(epoch, 100.0 / epoch).factor)
    return found


@pytest.mark.parametrize("decay", [decay for name, decay in DECAYS.items() if name != "Cosine"])
def test_improvement_never_decays(decay: Any) -> None:
    rule = decay(0, 60)
    assert all(rule.judge(epoch, 100.0 / epoch) == Verdict() for epoch in range(1, 60))


@every_decay
@pytest.mark.parametrize("epochs", [1, 2, 40])
def test_every_epoch_has_a_positive_rate_of_at_most_the_optimisers(decay: Any, epochs: int) -> None:
    rule = decay(0, epochs)
    assert all(0 < rate <= 1 + 1e-12 for rate in rates(rule, epochs))
    assert rule.judge(epochs, math.inf).factor > 0


def test_cosine_rises_in_a_line_and_falls_in_half_a_cosine() -> None:
    found = rates(Cosine(0, 12, rise=2, floor=0.1), 12)
    curve = [0.1 + 0.9 * (1 + math.cos(math.pi * epoch / 10)) / 2 for epoch in range(10)]
    assert found == pytest.approx([1 / 3, 2 / 3, *curve])
    assert rates(Cosine(0, 5), 5) == pytest.approx([(1 + math.cos(math.pi * epoch / 5)) / 2 for epoch in range(5)])
    assert rates(Cosine(0, 4, floor=1.0), 4) == [1.0] * 4
    assert rates(Cosine(0, 3, rise=8), 3) == pytest.approx([1 / 9, 2 / 9, 3 / 9])  # training ends while it rises


def test_a_trial_begins_at_the_first_rate(tree: Any, tmp_path: Path, corpus: Corpus) -> None:
    changes = {"training.decay": {"Cosine": {"rise": 1, "floor": 0.5}}, "training.optimizer": {"SGD": {"lr": 0.2}}}
    epochs = readings(tree({**changes, "training.epochs": 4}), directory=tmp_path, corpus=corpus)
    rates = [epoch[0].values["lr"] for epoch in epochs]
    assert rates == pytest.approx([0.1, 0.2, 0.2 * (0.5 + 0.5 * 0.75), 0.2 * (0.5 + 0.5 * 0.25)])


def test_cosine_hears_no_loss_and_neither_reloads_nor_stops() -> None:
    rule = Cosine(5, 6, rise=1)
    for epoch in range(1, 7):
        falling, rising = rule.judge(epoch, -float(epoch)), rule.judge(epoch, float(epoch))
        assert falling == rising
        assert not falling.reload
        assert not falling.stop


@every_decay
@pytest.mark.parametrize("stop_at", range(0, 40, 3))
def test_a_rule_goes_on_from_its_state(decay: Any, stop_at: int) -> None:
    torch.manual_seed(0)
    losses = (50 + torch.randn(40)).tolist()
    whole, first, second = decay(3, 40), decay(3, 40), decay(3, 40)
    expected = [whole.judge(epoch, loss) for epoch, loss in enumerate(losses, start=1)]
    verdicts = [first.judge(epoch, losses[epoch - 1]) for epoch in range(1, stop_at + 1)]
    second.load_state_dict(copy.deepcopy(first.state_dict()))
    verdicts += [second.judge(epoch, losses[epoch - 1]) for epoch in range(stop_at + 1, 41)]
    assert verdicts == expected


def test_plateau_waits_its_patience_and_keeps_the_best_as_the_bar() -> None:
    assert decayed(Plateau(0, 40, patience=2), [5, 4, 4.5, 4.4, 4.3, 4.2, 3.9, 4.0]) == [4, 6]
    assert decayed(Plateau(0, 40, patience=1), [5, 6, 4, 4.1]) == [2, 4]
    assert decayed(Plateau(0, 40, patience=3), [5, 6, 6, 4.9, 6, 6, 6]) == [7]
    assert decayed(Plateau(0, 40), [5, 5, 5, 5, 5]) == []  # equal is not worse


def test_plateau_does_not_decay_during_warmup_or_grace_but_counts() -> None:
    rising = [float(epoch) for epoch in range(1, 12)]
    assert decayed(Plateau(0, 40), rising)[:2] == [3, 5]
    assert decayed(Plateau(6, 40), rising)[:2] == [7, 9]
    assert decayed(Plateau(0, 40, grace_epochs=6), rising)[:2] == [7, 9]


def test_plateau_stops_with_its_last_decay() -> None:
    rule = Plateau(0, 40, patience=1, decays=3, factor=0.25)
    verdicts = [rule.judge(epoch, float(epoch)) for epoch in range(1, 5)]
    assert [verdict.factor for verdict in verdicts] == [1.0, 0.25, 0.25, 0.25]
    assert [verdict.stop for verdict in verdicts] == [False, False, False, True]
    assert [verdict.reload for verdict in verdicts] == [False, True, True, True]


def test_reference_rule_waits_fifteen_epochs_and_then_has_to_beat_the_current_loss() -> None:
    rule = He2019(0, 40)
    verdicts = {epoch: rule.judge(epoch, float(epoch)) for epoch in range(1, 25)}
    assert [epoch for epoch, verdict in verdicts.items() if verdict.factor == 0.5] == [16, 18, 20, 22, 24]
    assert [epoch for epoch, verdict in verdicts.items() if verdict.stop] == [24]  # with the fifth
    losses = [10.0] * 15 + [11.0, 12.0, 11.9, 12.5, 12.5, 12.5]
    # At 17 the second worse epoch in a row decays, and 12.0 becomes the bar: 11.9 beats it although 10.0 was the best.
    assert decayed(He2019(0, 40), losses) == [17, 20]
    assert decayed(Plateau(0, 40, grace_epochs=15), losses) == [17, 19, 21]


def model() -> nn.ModuleList:
    torch.manual_seed(0)
    return nn.ModuleList([nn.Linear(3, 4), nn.Linear(4, 2), nn.Linear(2, 2)])


def with_gradients(scales: Sequence[float | None]) -> nn.ModuleList:
    modules = model()
    for module, scale in zip(modules, scales, strict=True):
        for parameter in module.parameters():
            parameter.grad = None if scale is None else torch.full_like(parameter, scale)
    return modules


def norms(modules: nn.ModuleList) -> list[float]:
    return [math.sqrt(sum(float(p.grad.square().sum()) for p in m.parameters() if p.grad is not None)) for m in modules]


def test_joint_clip_has_one_norm_and_per_module_has_one_each() -> None:
    scales = [2.0, 0.01, None]
    joint, each = with_gradients(scales), with_gradients(scales)
    before = norms(joint)
    total = math.hypot(*before)
    assert float(Joint(1.0)(joint)) == pytest.approx(total)
    assert norms(joint) == pytest.approx([norm / total for norm in before], rel=1e-4)
    assert float(PerModule(1.0)(each)) == pytest.approx(total)
    assert norms(each) == pytest.approx([1.0, before[1], 0.0], rel=1e-4)


@pytest.mark.parametrize("name", CLIPS)
def test_a_small_gradient_is_left_alone(name: str) -> None:
    modules = with_gradients([0.1, 0.1, 0.1])
    before = norms(modules)
    CLIPS[name](5.0)(modules)
    assert norms(modules) == before


@pytest.mark.parametrize("name", CLIPS)
def test_a_clip_asks_for_the_gradients_of_what_moves_at_least(name: str) -> None:
    assert {"encoder"} <= CLIPS[name](1.0).learns(("encoder",), ("encoder", "decoder"))
    assert Joint(1.0).learns(("encoder",), ("encoder", "decoder")) == {"encoder", "decoder"}
    assert PerModule(1.0).learns(("encoder",), ("encoder", "decoder")) == {"encoder"}


@every_optimizer
def test_an_optimizer_descends_and_takes_its_rate(optimizer: Any) -> None:
    point = nn.Parameter(torch.tensor([3.0, -2.0]))
    rule = optimizer([point], lr=0.1)
    assert rule.param_groups[0]["lr"] == 0.1
    for _ in range(200):
        rule.zero_grad()
        point.square().sum().backward()
        rule.step()
    assert point.abs().max() < 0.1


def test_plain_sgd_is_the_protocols() -> None:
    point = nn.Parameter(torch.tensor([3.0]))
    rule = OPTIMIZERS["SGD"]([point])
    point.square().sum().backward()
    rule.step()
    assert point.item() == -3.0  # lr 1, no momentum


def test_float32_products_stay_float32(monkeypatch: pytest.MonkeyPatch) -> None:
    before = torch.get_float32_matmul_precision()
    try:
        chosen = precision.fastest_float32.__wrapped__("cpu")
        assert chosen in {"medium", "highest"}
        assert precision.matmul_error("cpu") < precision.TOLERANCE
        monkeypatch.setattr(precision, "matmul_error", lambda device: 3e-3)  # as bfloat16 would be
        assert precision.fastest_float32.__wrapped__("cpu") == "highest"
    finally:
        torch.set_float32_matmul_precision(before)


def test_the_watch_names_the_first_part_that_broke() -> None:
    tally = Tally(10)
    fine, broken = torch.tensor(1.0), torch.tensor(math.nan)
    tally.watch({"kl": fine, "loss": fine})
    tally.look()
    tally.step = 12
    tally.watch({"kl": fine, "loss": torch.tensor(math.inf)})
    tally.step = 13
    tally.watch({"kl": broken, "loss": broken})
    with pytest.raises(Diverged) as raised:
        tally.look()
    assert (raised.value.step, raised.value.part) == (12, "loss")
