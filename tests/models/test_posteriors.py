"""Laws of every exported posterior, and of the densities behind them."""

from __future__ import annotations

import copy
import inspect
import math

import pytest
import torch
from torch import Tensor

from flowsearch.errors import Intractable
from flowsearch.flows import FLOWS, Flow
from flowsearch.models import (
    POSTERIORS,
    DiagonalGaussian,
    Flowed,
    Gaussian,
    Posterior,
    StandardNormal,
    gaussian_log_prob,
)

pytestmark = pytest.mark.usefixtures("in_float64")

LATENT, STATE = 3, 6
WITH_DENSITY = [name for name in POSTERIORS if name != "Implicit"]  # whose laws are in test_implicit.py
every_posterior = pytest.mark.parametrize("name", WITH_DENSITY)


def make(name: str, *, scale: float, **knobs: object) -> Posterior:
    """A posterior, its chain (if it has one) of three steps, with noise on all parameters."""
    torch.manual_seed(0)
    known = inspect.signature(POSTERIORS[name]).parameters
    posterior = POSTERIORS[name](LATENT, STATE, **{knob: value for knob, value in knobs.items() if knob in known})
    with torch.no_grad():
        for parameter in posterior.parameters():
            summed = max(1, parameter.shape[-1]) if parameter.ndim > 1 else 1
            parameter.add_(scale / math.sqrt(summed) * torch.randn_like(parameter))
    return posterior


def at(posterior: Posterior, documents: int = 4) -> tuple[object, Tensor]:
    torch.manual_seed(1)
    h = torch.randn(documents, STATE)
    return posterior.at(posterior.amortize(h)), h


@every_posterior
def test_shapes(name: str) -> None:
    posterior = make(name, scale=0.3, k=2)
    q, h = at(posterior)
    draw = q.draw(5)
    assert draw.z.shape == draw.origin.shape == (5, 4, LATENT)
    assert draw.log_q.shape == posterior.at(posterior.amortize(h)).kl(draw).shape == (5, 4)
    assert q.base.mean.shape == q.base.logvar.shape == (4, LATENT)


@every_posterior
@pytest.mark.parametrize("conditioned", [True, False])
def test_log_q_is_the_density_at_the_draw(name: str, conditioned: bool) -> None:
    q, _ = at(make(name, scale=0.3, k=3, conditioned=conditioned))
    draw = q.draw(7)
    if name in FLOWS and FLOWS[name].inverse is Flow.inverse:
        with pytest.raises(Intractable, match="no closed-form inverse"):
            q.log_prob(draw.z)
        return
    torch.testing.assert_close(q.log_prob(draw.z), draw.log_q, rtol=1e-8, atol=1e-8)


@every_posterior
def test_importance_weights_of_the_prior_average_to_one(name: str) -> None:
    # E_q[p(z) / q(z|x)] = 1 for any p inside q's reach: wrong ladj, wrong constants and wrong signs all break it.
    q, _ = at(make(name, scale=0.25, k=2))
    draw = q.draw(40_000)
    narrow = gaussian_log_prob(draw.z, q.base.mean, torch.tensor(-1.0)) - draw.log_q
    weights = narrow.exp()
    error = weights.std(0) / math.sqrt(len(weights))
    assert ((weights.mean(0) - 1).abs() < 4 * error).all()
    assert (error < 0.05).all()


@every_posterior
def test_kl_is_the_gaussians_at_initialisation(name: str) -> None:
    posterior = make(name, scale=0.0, k=4)
    with torch.no_grad():
        gaussian = posterior if isinstance(posterior, Gaussian) else posterior.gaussian
        gaussian.linear.weight.normal_(0, 0.4)
    q, _ = at(posterior)
    draw = q.draw(20_000)
    torch.testing.assert_close(draw.z, draw.origin, rtol=0, atol=1e-10)
    torch.testing.assert_close(draw.log_q, q.base.log_prob(draw.z), rtol=0, atol=1e-9)
    kl = q.kl(draw)
    error = (draw.log_q - gaussian_log_prob(draw.z)).std(0) / math.sqrt(len(kl))
    assert ((kl.mean(0) - q.base.kl_per_dimension().sum(-1)).abs() <= 4 * error).all()
    assert (q.base.kl_per_dimension().sum(-1) > 0.05).all()


@every_posterior
def test_kl_is_not_negative_in_expectation(name: str) -> None:
    q, _ = at(make(name, scale=0.3, k=3))
    kl = q.kl(q.draw(5000))
    assert (kl.mean(0) > -4 * kl.std(0) / math.sqrt(5000)).all()


@every_posterior
@pytest.mark.parametrize("conditioned", [True, False])
def test_every_parameter_and_the_state_learn(name: str, conditioned: bool) -> None:
    posterior = make(name, scale=0.3, k=2, conditioned=conditioned)
    h = torch.randn(4, STATE, requires_grad=True)
    q = posterior.at(posterior.amortize(h))
    draw = q.draw(3)
    (q.kl(draw).sum() + draw.z.square().sum()).backward()
    assert h.grad is not None
    assert (h.grad.abs().sum(-1) > 0).all()
    for parameter_name, parameter in posterior.named_parameters():
        assert parameter.grad is not None, parameter_name
        assert parameter.numel() == 0 or parameter.grad.abs().max() > 0, parameter_name


@every_posterior
def test_state_dict_round_trip(name: str) -> None:
    posterior, other = make(name, scale=0.3, k=2), make(name, scale=0.0, k=2)
    other.load_state_dict(copy.deepcopy(posterior.state_dict()))
    draws = []
    for one in (posterior, other):
        q, _ = at(one)
        torch.manual_seed(2)
        draws.append(q.draw(3))
    assert torch.equal(draws[0].z, draws[1].z)
    assert torch.equal(draws[0].log_q, draws[1].log_q)


@every_posterior
def test_only_flows_have_no_kl_per_dimension(name: str) -> None:
    q, _ = at(make(name, scale=0.3))
    if q.base is q:
        torch.testing.assert_close(q.kl_per_dimension().sum(-1).expand(2, 4), q.kl(q.draw(2)))
        return
    with pytest.raises(Intractable, match="KL per dimension"):
        q.kl_per_dimension()


def test_gaussian_agrees_with_torch_distributions() -> None:
    torch.manual_seed(0)
    mean, logvar, z = torch.randn(4, LATENT), torch.randn(4, LATENT), torch.randn(5, 4, LATENT)
    q, theirs = DiagonalGaussian(mean, logvar), torch.distributions.Normal(mean, (0.5 * logvar).exp())
    standard = torch.distributions.Normal(torch.zeros(()), torch.ones(()))
    torch.testing.assert_close(q.kl_per_dimension(), torch.distributions.kl_divergence(theirs, standard))
    torch.testing.assert_close(q.log_prob(z), theirs.log_prob(z).sum(-1))
    draw = q.draw(100_000)
    torch.testing.assert_close(draw.z.mean(0), mean, rtol=0, atol=0.05)
    torch.testing.assert_close(draw.z.var(0), logvar.exp(), rtol=0.05, atol=0)
    torch.testing.assert_close(draw.log_q, theirs.log_prob(draw.z).sum(-1))


@pytest.mark.parametrize("name", FLOWS)
def test_a_posterior_named_after_a_flow_takes_the_flows_own_knobs(name: str) -> None:
    knobs = {p.name for p in inspect.signature(POSTERIORS[name]).parameters.values() if p.kind is p.KEYWORD_ONLY}
    own = {p.name for p in inspect.signature(FLOWS[name]).parameters.values() if p.kind is p.KEYWORD_ONLY}
    assert knobs == own | {"k", "conditioned"}
    posterior = POSTERIORS[name](LATENT, STATE, k=3)
    assert isinstance(posterior, Flowed)
    assert [type(step) for step in posterior.chain.steps] == [FLOWS[name]] * 3


def test_standard_normal_is_exact_where_the_posterior_is_gaussian() -> None:
    q, _ = at(make("Gaussian", scale=0.5))
    kl = StandardNormal(LATENT).kl(q, q.draw(3))
    torch.testing.assert_close(kl, q.base.kl_per_dimension().sum(-1).expand(3, 4))
