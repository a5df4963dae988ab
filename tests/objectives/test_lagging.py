"""Stops, phases, and lagging inference: how often which side moves, and when that ends."""

from __future__ import annotations

import copy
import itertools
import random
from collections.abc import Callable, Iterator, Sequence

import pytest
import torch

from flowsearch.models import VAE, Gaussian, LSTMDecoder, LSTMEncoder, StandardNormal
from flowsearch.objectives import LAGGING_STOPS, Lagging, Objective, Terms, after, plateau
from flowsearch.objectives._base import EVERYTHING
from flowsearch.objectives.elbo import ELBO
from flowsearch.objectives.free_bits import no_free_bits
from flowsearch.objectives.lagging import INFERENCE, He2019, LaggingStop, Tolerant
from flowsearch.text import Corpus
from flowsearch.text.batches import Batch, EqualLength
from flowsearch.training.clip import CLIPS
from flowsearch.training.loop import Tally, descend, train

every_stop = pytest.mark.parametrize("stop", LAGGING_STOPS.values(), ids=LAGGING_STOPS)
every_clip = pytest.mark.parametrize("clip", CLIPS.values(), ids=CLIPS)
GENERATION = ("prior", "decoder")
PUBLISHED = [2.18, 2.56, 2.88, 2.86, 2.84, 2.95]
"""Mutual information on Yelp's validation set, epoch by epoch, in the log that the reference code ships."""


class Scripted(Objective):
    """Its losses are written beforehand; the last one repeats."""

    def __init__(self, losses: Sequence[float]) -> None:
        super().__init__()
        self.losses, self.seen = losses, 0

    def forward(self, vae: VAE, batch: Batch, step: int) -> Terms:
        value = self.losses[min(self.seen, len(self.losses) - 1)]
        self.seen += 1
        return Terms(value + 0 * sum(parameter.sum() for parameter in vae.parameters()))


@pytest.fixture
def vae(corpus: Corpus) -> VAE:
    torch.manual_seed(0)
    size = len(corpus.vocabulary)
    return VAE(
        LSTMEncoder(size, embedding_size=4, hidden_size=5),
        Gaussian(2, 5),
        StandardNormal(2),
        LSTMDecoder(size, 2, embedding_size=4, hidden_size=5),
    )


@pytest.fixture
def batches(corpus: Corpus) -> EqualLength:
    return EqualLength(corpus.splits["train"], 16)


def optimizers(vae: VAE) -> dict[str, torch.optim.Optimizer]:
    return {
        name: torch.optim.SGD(module.parameters(), lr=0.5)
        for name, module in vae.named_children()
        if list(module.parameters())
    }


def history(losses: Sequence[float], tokens: int = 10) -> list[tuple[float, int]]:
    return [(loss, tokens) for loss in losses]


def test_after_counts() -> None:
    assert [after(3)(history([1.0] * n)) for n in range(1, 5)] == [False, False, True, True]


def test_plateau_asks_at_whole_windows_and_needs_two() -> None:
    rising = [float(loss) for loss in range(12)]
    assert [n for n in range(1, 13) if plateau(3)(history(rising[:n]))] == [6, 9, 12]
    assert not any(plateau(3)(history([1.0] * n)) for n in range(1, 13))  # equal is not above
    assert not any(plateau(3)(history(rising[::-1][:n])) for n in range(1, 13))


def test_plateau_compares_loss_per_token() -> None:
    longer = [*history([10.0, 10.0], tokens=10), *history([15.0, 15.0], tokens=20)]
    assert not plateau(2)(longer)
    assert plateau(2)([*history([10.0, 10.0], tokens=20), *history([9.0, 9.0], tokens=10)])


def test_stops_compose() -> None:
    stop = plateau(2) | after(5) | after(7)
    assert [n for n in range(1, 8) if stop(history([1.0] * n))] == [5, 6, 7]
    assert [n for n in range(1, 8) if stop(history([1.0, 1.0, 2.0, 2.0, 2.0, 2.0, 2.0][:n]))] == [4, 5, 6, 7]


def inner_steps(vae: VAE, batches: EqualLength, stop: LaggingStop, updates: int, losses: Sequence[float]) -> int:
    lagging = Lagging(Scripted(losses), updates, stop)
    inner, outer = lagging.phases(0)
    tally, same = Tally(0), itertools.repeat(next(batches.epoch()))
    descend(vae, inner, same, optimizers(vae), CLIPS["per_module"](5.0), tally)
    steps = tally.steps
    descend(vae, outer, same, optimizers(vae), CLIPS["per_module"](5.0), tally)
    assert tally.steps == steps + 1
    return steps


def windows(values: Sequence[float]) -> list[float]:
    return [value for value in values for _ in range(15)]


@pytest.mark.parametrize(
    ("losses", "steps"),
    [
        ([5.0], 99),
        (windows([9, 8, 7, 6, 5, 4, 3]), 99),
        (windows([5, 6]), 30),
        (windows([5, 4, 4.5]), 45),
        (windows([5, 4, 4, 4.1]), 60),
        (windows([5, 4, 3, 2, 2.1]), 75),
        (windows([5, 4, 3, 2, 1, 1.1]), 90),
        ([100.0] + [5.0] * 14 + [5.1] * 200, 99),  # worse in the end, but not on average over the window
    ],
)
def test_inner_loop_of_the_reference(vae: VAE, batches: EqualLength, losses: list[float], steps: int) -> None:
    assert inner_steps(vae, batches, He2019(), 100, losses) == steps


def test_inner_loop_of_the_reference_breaks_at_whole_windows_only(vae: VAE, batches: EqualLength) -> None:
    seen = set()
    for seed in range(12):
        chance = random.Random(seed)
        steps = inner_steps(vae, batches, He2019(), 100, [5 - 0.002 * i + 0.5 * chance.random() for i in range(100)])
        seen.add(steps)
    assert seen <= {30, 45, 60, 75, 90, 99}
    assert len(seen) > 1


@pytest.mark.parametrize("updates", [1, 10, 30, 100])
def test_inner_loop_of_the_tolerant_stop_takes_all_updates_at_most(
    vae: VAE, batches: EqualLength, updates: int
) -> None:
    assert inner_steps(vae, batches, Tolerant(), updates, [5.0]) == updates
    assert inner_steps(vae, batches, Tolerant(), updates, windows([5, 6])) == min(updates, 30)


def over_at(stop: LaggingStop, values: Sequence[float]) -> int | None:
    """How many values it takes to end the aggressive phase."""
    return next((n for n in range(1, len(values) + 1) if stop.over(values[:n])), None)


def test_reference_stop_is_strict_and_looks_at_the_last_two() -> None:
    assert over_at(He2019(), PUBLISHED) == 4
    assert over_at(He2019(), [1.0, 1.0, 1.0]) is None
    assert over_at(He2019(), [0.0]) is None
    assert over_at(He2019(), [-0.1, 3.0]) == 1  # below the 0 it starts from
    assert over_at(He2019(), [1.0, 2.0, 1.999999, 5.0]) == 3


def test_tolerant_stop_forgives_noise_and_ends_without_growth() -> None:
    stop = Tolerant(checks=4, patience=3, tolerance=0.05)
    assert over_at(stop, [1.0, 0.9, 1.1, 1.0, 1.2, 1.1, 1.3, 1.2, 1.4]) is None
    assert over_at(stop, [1.0, 2.0, 2.01, 1.9, 2.02, 2.03]) == 5
    assert over_at(stop, [1.0, 1.0, 1.0]) is None  # patience has not passed yet
    assert over_at(stop, [1.0, 1.0, 1.0, 1.0]) == 4
    assert over_at(Tolerant(patience=3, tolerance=0.0), [1.0, 1.0, 1.0, 1.0, 1.0]) is None  # equal is growth enough
    assert over_at(Tolerant(), PUBLISHED) is None


@every_stop
def test_a_rising_information_keeps_every_stop_aggressive(stop: type[LaggingStop]) -> None:
    assert over_at(stop(), [0.2 * n for n in range(1, 40)]) is None


@every_stop
def test_a_falling_information_ends_every_stop(stop: type[LaggingStop]) -> None:
    assert over_at(stop(), [3.0 - 0.2 * n for n in range(30)]) is not None


@every_stop
def test_phases_before_and_after_and_never_back(stop: type[LaggingStop]) -> None:
    inner = ELBO(lambda step: 1.0, no_free_bits)
    lagging = Lagging(inner, 30, stop())
    assert [phase.moves for phase in lagging.phases(0)] == [INFERENCE, GENERATION]
    assert set(INFERENCE) | set(GENERATION) == set(EVERYTHING)
    assert lagging.describe(0) == {"kl_weight": 1.0, "aggressive": 1.0}
    assert lagging.checks_per_epoch() == stop().checks_per_epoch
    for n in range(40):
        lagging.observe({"mutual_information": 3.0 - 0.2 * n})
    assert [phase.moves for phase in lagging.phases(0)] == [EVERYTHING]
    assert lagging.describe(0)["aggressive"] == 0.0
    assert lagging.checks_per_epoch() == 0
    for n in range(40):
        lagging.observe({"mutual_information": 5.0 + n})
    assert not lagging.aggressive


@every_stop
def test_what_lagging_remembers_survives_a_state_dict(stop: type[LaggingStop]) -> None:
    first, second = (Lagging(ELBO(lambda step: 1.0, no_free_bits), 30, stop()) for _ in range(2))
    for n in range(30):
        fresh = Lagging(ELBO(lambda step: 1.0, no_free_bits), 30, stop())
        fresh.load_state_dict(copy.deepcopy(first.state_dict()))
        assert (fresh.aggressive, fresh.history) == (first.aggressive, first.history)
        second = fresh
        for lagging in (first, second):
            lagging.observe({"mutual_information": 1.0 + (n % 7) * 0.1})
        assert (second.aggressive, second.history) == (first.aggressive, first.history)
    assert len(first.history) == 30


def snapshot(vae: VAE) -> dict[str, torch.Tensor]:
    return {name: tensor.clone() for name, tensor in vae.state_dict().items()}


def moved(vae: VAE, before: dict[str, torch.Tensor]) -> set[str]:
    return {
        name.partition(".")[0] for name, tensor in vae.state_dict().items() if not torch.equal(tensor, before[name])
    }


@every_stop
@every_clip
def test_each_phase_moves_its_side_and_leaves_the_other_bit_for_bit(
    vae: VAE, batches: EqualLength, stop: type[LaggingStop], clip: Callable[[float], object]
) -> None:
    lagging = Lagging(ELBO(lambda step: 1.0, no_free_bits), 5, stop())
    same, steppers = itertools.repeat(next(batches.epoch())), optimizers(vae)
    for phase, expected in zip(lagging.phases(0), ({"encoder", "posterior"}, {"decoder"}), strict=True):
        before = snapshot(vae)
        descend(vae, phase, same, steppers, clip(5.0), Tally(0))
        assert moved(vae, before) == expected
    assert all(parameter.requires_grad for parameter in vae.parameters())


@every_clip
def test_a_repeated_phase_sees_the_batch_once_and_then_others(
    vae: VAE, batches: EqualLength, clip: Callable[[float], object]
) -> None:
    seen: list[tuple[str, Batch]] = []

    class Spy(Objective):
        def forward(self, vae: VAE, batch: Batch, step: int) -> Terms:
            seen.append((f"step {step}", batch))
            return ELBO(lambda step: 1.0, no_free_bits)(vae, batch, step)

    plan = list(batches.epoch())[:3]
    others: Iterator[Batch] = itertools.cycle(list(batches.epoch())[3:5])
    tally = Tally(7)
    list(train(vae, Lagging(Spy(), 4, Tolerant()), plan, others, optimizers(vae), clip(5.0), tally))
    assert [step for step, _ in seen] == [f"step {7 + n}" for n in range(3) for _ in range(5)]
    for n, batch in enumerate(plan):
        mine = [other for _, other in seen[5 * n : 5 * n + 5]]
        assert mine[0] is batch
        assert all(other is not batch for other in mine[1:4])
        assert mine[4] is batch  # the decoder's step
    assert (tally.step, tally.steps, tally.documents) == (10, 15, sum(map(len, plan)))
    assert tally.worked == sum(batch.inputs.numel() for _, batch in seen)
