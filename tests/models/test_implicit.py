"""The implicit posterior: its critic finds a KL from below, and neither spoils the other's learning."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from flowsearch.errors import Intractable
from flowsearch.models import Implicit, Pushforward, StandardNormal

pytestmark = pytest.mark.usefixtures("in_float64")

LATENT, STATE = 2, 3


def make(hidden: int | None = None) -> Implicit:
    torch.manual_seed(0)
    return Implicit(LATENT, STATE, hidden=hidden, critic_hidden=32)


def affine() -> tuple[Implicit, Tensor, Tensor]:
    """One whose z is Gaussian for every document, the documents' states, and their KL to N(0, I)."""
    posterior, h = make(), torch.tensor([[0.5, 0.0, 1.0], [0.0, -1.0, 0.2]])
    with torch.no_grad():
        posterior.generator[0].weight.copy_(torch.tensor([[1.0, 0.0, 0.5, 0.6, 0.0], [0.0, 1.0, 0.0, 0.3, 0.8]]))
        posterior.generator[0].bias.zero_()
    weight = posterior.generator[0].weight.detach()
    mean, covariance = h @ weight[:, :STATE].t(), weight[:, STATE:] @ weight[:, STATE:].t()
    trace, determinant = covariance.trace(), torch.logdet(covariance)
    return posterior, h, 0.5 * (mean.square().sum(-1) + trace - LATENT - determinant)


@pytest.mark.parametrize("hidden", [None, 16])
def test_it_draws_and_knows_no_density(hidden: int | None) -> None:
    posterior = make(hidden)
    q = posterior.at(posterior.amortize(torch.randn(4, STATE)))
    draw = q.draw(5)
    assert draw.z.shape == (5, 4, LATENT)
    assert q.kl(draw).shape == (5, 4)
    assert draw.log_q is None
    assert q.base is None
    assert not posterior.has_density
    for ask in (lambda: draw.log_density, lambda: q.log_prob(draw.z), q.kl_per_dimension):
        with pytest.raises(Intractable):
            ask()


def test_any_critic_sees_less_than_the_kl() -> None:
    posterior, h, kl = affine()
    for seed in range(10):
        torch.manual_seed(seed)
        with torch.no_grad():
            for parameter in posterior.critic.parameters():
                parameter.copy_(0.4 * torch.randn_like(parameter))
            q = posterior.at(h)
            seen = q.kl(q.draw(20_000))
        error = seen.std(0) / math.sqrt(len(seen))
        assert (seen.mean(0) < kl + 4 * error).all()


def test_a_trained_critic_sees_most_of_it() -> None:
    posterior, h, kl = affine()
    optimizer = torch.optim.Adam(posterior.critic.parameters(), lr=3e-3)
    q, prior = posterior.at(h), StandardNormal(LATENT)
    for _ in range(600):
        optimizer.zero_grad()
        q.critic_loss(prior, q.draw(128)).backward()
        optimizer.step()
    with torch.no_grad():
        seen = q.kl(q.draw(50_000)).mean(0)
    assert (kl > 0.4).all()
    torch.testing.assert_close(seen, kl, rtol=0.12, atol=0.03)


def test_model_and_critic_learn_apart() -> None:
    posterior = make(8)
    h = torch.randn(4, STATE, requires_grad=True)
    q = posterior.at(posterior.amortize(h))
    q.kl(q.draw(3)).sum().backward()
    assert all(parameter.grad is None for parameter in posterior.critic.parameters())
    assert all(parameter.grad.abs().max() > 0 for parameter in posterior.generator.parameters())
    assert (h.grad.abs().sum(-1) > 0).all()
    posterior.zero_grad()
    h.grad = None
    q = posterior.at(posterior.amortize(h))
    q.critic_loss(StandardNormal(LATENT), q.draw(3)).backward()
    assert all(parameter.grad.abs().max() > 0 for parameter in posterior.critic.parameters() if parameter.numel() > 1)
    assert all(parameter.grad is None for parameter in posterior.generator.parameters())
    assert h.grad is None


def test_its_parts_are_all_of_it_and_disjoint() -> None:
    posterior = make(8)
    parts = posterior.parts()
    assert parts.keys() == {"posterior", "critic"}
    owned = [id(parameter) for module in parts.values() for parameter in module.parameters()]
    assert sorted(owned) == sorted(map(id, posterior.parameters()))


def test_a_wild_critic_does_not_overflow() -> None:
    posterior = make().float()
    with torch.no_grad():
        for parameter in posterior.critic.parameters():
            parameter.mul_(1e6)
    q = posterior.at(torch.randn(4, STATE).float())
    assert q.kl(q.draw(3)).isfinite().all()


def test_state_dict_round_trip() -> None:
    posterior, other = make(8), Implicit(LATENT, STATE, hidden=8, critic_hidden=32)
    other.load_state_dict(posterior.state_dict())
    found = []
    for one in (posterior, other):
        torch.manual_seed(3)
        q = one.at(torch.ones(2, STATE))
        assert isinstance(q, Pushforward)
        found.append(q.kl(q.draw(2)))
    assert torch.equal(*found)
