"""The chunked likelihood is the plain one: same values, same gradients, whatever asks for them."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import torch
from torch import Tensor

from flowsearch.errors import Intractable
from flowsearch.models import likelihood
from flowsearch.models.likelihood import log_likelihood

HIDDEN, WORDS = 7, 11


@pytest.fixture(autouse=True, params=[3, 8, 1000], ids="chunk={}".format)
def chunk(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Chunks that a sequence crosses, that cut unevenly, and that hold everything."""
    monkeypatch.setattr(likelihood, "CHUNK", request.param)
    return


def problem(dtype: torch.dtype, *, masked: bool) -> tuple[Tensor, Tensor, Tensor, Tensor | None]:
    torch.manual_seed(0)
    states = torch.randn(5, 4, HIDDEN, dtype=torch.float64).to(dtype).requires_grad_()
    weight = torch.randn(WORDS, HIDDEN, dtype=torch.float64).to(dtype).requires_grad_()
    targets = torch.randint(WORDS, (5, 4))
    mask = torch.arange(5)[:, None] < torch.tensor([5, 1, 3, 4]) if masked else None
    return states, weight, targets, mask


def plain(states: Tensor, weight: Tensor, targets: Tensor, mask: Tensor | None) -> Tensor:
    scores = (states @ weight.t()).log_softmax(-1).gather(-1, targets[..., None]).squeeze(-1)
    return (scores if mask is None else scores * mask).sum(0)


@pytest.mark.parametrize("masked", [False, True])
@pytest.mark.parametrize("outer", [[1.0, 1.0, 1.0, 1.0], [-0.25, -0.25, -0.25, -0.25], [0.5, -2.0, 0.0, 3.0]], ids=str)
def test_value_and_gradients_are_the_plain_ones(masked: bool, outer: list[float]) -> None:
    states, weight, targets, mask = problem(torch.float64, masked=masked)
    ours, theirs = log_likelihood(states, weight, targets, mask), plain(states, weight, targets, mask)
    torch.testing.assert_close(ours, theirs, rtol=1e-12, atol=1e-12)
    weights = torch.tensor(outer, dtype=torch.float64)
    our_gradients = torch.autograd.grad((ours * weights).sum(), (states, weight))
    for mine, plainly in zip(
        our_gradients, torch.autograd.grad((theirs * weights).sum(), (states, weight)), strict=True
    ):
        torch.testing.assert_close(mine, plainly, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("learns", ["states", "weight"])
def test_one_of_the_two_may_stand_still(learns: str) -> None:
    states, weight, targets, mask = problem(torch.float64, masked=True)
    for name, tensor in (("states", states), ("weight", weight)):
        tensor.requires_grad_(name == learns)
    moving = states if learns == "states" else weight
    (ours,) = torch.autograd.grad(log_likelihood(states, weight, targets, mask).mean(), moving)
    (theirs,) = torch.autograd.grad(plain(states, weight, targets, mask).mean(), moving)
    torch.testing.assert_close(ours, theirs, rtol=1e-12, atol=1e-12)


def test_masked_tokens_do_not_matter() -> None:
    states, weight, targets, mask = problem(torch.float64, masked=True)
    assert mask is not None
    other = torch.where(mask, targets, (targets + 1) % WORDS)
    first, second = (log_likelihood(states, weight, labels, mask) for labels in (targets, other))
    assert torch.equal(first, second)
    gradients = [torch.autograd.grad(score.sum(), (states, weight)) for score in (first, second)]
    for one, two in zip(*gradients, strict=True):
        assert torch.equal(one, two)
    assert (gradients[0][0][~mask] == 0).all()


def test_extreme_logits_stay_finite_and_exact() -> None:
    states, weight, targets, _ = problem(torch.float32, masked=False)
    loud = (states * 300).detach().requires_grad_()  # most targets' probabilities underflow float32
    ours = log_likelihood(loud, weight, targets, None)
    torch.testing.assert_close(ours, plain(loud.double(), weight.double(), targets, None).float(), rtol=1e-5, atol=1e-2)
    assert ours.min() < -1000
    ours.sum().backward()
    assert loud.grad is not None
    assert loud.grad.isfinite().all()


def relative(ours: Tensor, theirs: Tensor) -> float:
    return ((ours.double() - theirs.double()).norm() / theirs.double().norm()).item()


@pytest.mark.parametrize("outer", [[1.0, 1.0, 1.0, 1.0], [0.5, -2.0, 0.0, 3.0]], ids=str)
def test_bfloat16_products_keep_loss_and_gradient(outer: list[float]) -> None:
    torch.manual_seed(0)
    states = torch.randn(40, 4, 64).requires_grad_()
    weight = (torch.randn(200, 64) / 8).requires_grad_()
    targets, weights = torch.randint(200, (40, 4)), torch.tensor(outer)
    exact = plain(states, weight, targets, None)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        rough = log_likelihood(states, weight, targets, None)
    assert rough.dtype == torch.float32
    assert relative(rough, exact) < 1e-3
    gradients = [torch.autograd.grad((score * weights).sum(), (states, weight)) for score in (rough, exact)]
    for ours, theirs in zip(*gradients, strict=True):
        assert ours.dtype == torch.float32
        assert relative(ours, theirs) < 1e-2


def test_no_gradients_are_made_where_none_are_wanted(monkeypatch: pytest.MonkeyPatch) -> None:
    made: list[tuple[bool, bool]] = []
    original = likelihood.chunks

    def spy(*arguments: object) -> tuple[Tensor, Tensor | None, Tensor | None]:
        nll, d_states, d_weight = original(*arguments)
        made.append((d_states is not None, d_weight is not None))
        return nll, d_states, d_weight

    monkeypatch.setattr(likelihood, "chunks", spy)
    states, weight, targets, mask = problem(torch.float64, masked=False)
    with torch.no_grad():
        quiet = log_likelihood(states, weight, targets, mask)
    loud = log_likelihood(states, weight, targets, mask)
    weight.requires_grad_(False)
    log_likelihood(states, weight, targets, mask)
    assert made == [(False, False), (True, True), (True, False)]
    assert not quiet.requires_grad
    assert torch.equal(quiet, loud)


def test_a_second_derivative_is_refused_and_not_wrong() -> None:
    states, weight, targets, _ = problem(torch.float64, masked=False)
    score = log_likelihood(states, weight, targets, None).sum()
    with pytest.raises(Intractable, match="second derivative"):
        torch.autograd.grad(score, states, create_graph=True)
