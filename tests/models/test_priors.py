"""Laws of every prior in the catalogue.

Every parameter is perturbed first: at initialisation a prior is N(0, I), or nearly, which obeys most laws by accident.
"""

from __future__ import annotations

import copy
import inspect
import math

import pytest
import torch

from flowsearch.errors import SpaceError
from flowsearch.flows import FLOWS, Flow
from flowsearch.models import (
    PRIORS,
    DiagonalGaussian,
    FlowPrior,
    Mixture,
    Prior,
    StandardNormal,
    gaussian_log_prob,
)
from flowsearch.training.config import parse

pytestmark = pytest.mark.usefixtures("in_float64")

every_prior = pytest.mark.parametrize("name", PRIORS)
every_flow_prior = pytest.mark.parametrize("name", [name for name in PRIORS if name in FLOWS])


@pytest.fixture(autouse=True)
def seeded() -> None:
    torch.manual_seed(0)


def make(name: str, *, scale: float = 0.3, latent_size: int = 2, **knobs: object) -> Prior:
    """A prior with noise on all parameters; its steps small, and (if it has any) three of them."""
    known = inspect.signature(PRIORS[name]).parameters
    usual = {"k": 3, "hidden": 24, "components": 4} | knobs
    prior = PRIORS[name](latent_size, **{knob: value for knob, value in usual.items() if knob in known})
    with torch.no_grad():
        for parameter in prior.parameters():
            summed = max(1, parameter.shape[-1]) if parameter.ndim > 1 else 1
            parameter.add_(scale / math.sqrt(summed) * torch.randn_like(parameter))
    return prior


@every_prior
@pytest.mark.parametrize("latent_size", [1, 3])
@pytest.mark.parametrize("shape", [(), (5,), (2, 5)], ids=str)
def test_shapes(name: str, latent_size: int, shape: tuple[int, ...]) -> None:
    prior = make(name, latent_size=latent_size)
    z = torch.randn(*shape, latent_size)
    assert prior.log_prob(z).shape == shape
    alone = torch.stack([prior.log_prob(point) for point in z.reshape(-1, latent_size)])
    torch.testing.assert_close(prior.log_prob(z).flatten(), alone)
    assert prior.sample(7).shape == (7, latent_size)


@every_prior
@torch.no_grad()
def test_density_integrates_to_one_and_is_the_samples(name: str) -> None:
    p = make(name)
    axis = torch.linspace(-9, 9, 361)
    grid, cell = torch.cartesian_prod(axis, axis), (axis[1] - axis[0]) ** 2
    mass = p.log_prob(grid).exp() * cell
    assert mass.sum().item() == pytest.approx(1, abs=2e-3)
    samples = p.sample(5000)
    # Share of the samples in each of 36 boxes, against the density's mass there.
    edges = torch.tensor([-1.5, -0.7, 0.0, 0.7, 1.5])
    (row, column), (own_row, own_column) = (torch.bucketize(at.T.contiguous(), edges) for at in (grid, samples))
    box, held = 6 * row + column, 6 * own_row + own_column
    expected = torch.zeros(36).index_add(0, box, mass)
    found = held.bincount(minlength=36) / len(samples)
    assert (expected > 1e-3).sum() > 20
    assert ((found - expected).abs() < 4.5 * (expected / len(samples)).sqrt() + 0.01).all()


@every_prior
@torch.no_grad()
def test_importance_weights_of_a_narrow_gaussian_average_to_one(name: str) -> None:
    # E_p[N(z) / p(z)] = 1 for any N inside p's reach: a sample that is not the density's breaks it.
    p = make(name, latent_size=3)
    z = p.sample(4000)
    weights = (gaussian_log_prob(z, z.mean(0), z.var(0).log() - 1) - p.log_prob(z)).exp()
    error = weights.std() / math.sqrt(len(weights))
    assert (weights.mean() - 1).abs() < 4 * error
    assert error < 0.08


@every_prior
def test_every_parameter_learns(name: str) -> None:
    p = make(name, latent_size=3)
    z = torch.randn(50, 3, requires_grad=True)
    p.log_prob(z).mean().backward()
    assert (z.grad.abs().sum(-1) > 0).all()
    for parameter_name, parameter in p.named_parameters():
        assert parameter.grad is not None, parameter_name
        assert parameter.numel() == 0 or parameter.grad.abs().max() > 0, parameter_name


@pytest.mark.parametrize("name", [name for name in PRIORS if name != "StandardNormal"])
def test_a_learned_prior_learns(name: str) -> None:
    p = make(name, scale=0.0)
    z = torch.randn(500, 2) * torch.tensor([0.5, 1.5]) + torch.tensor([1.0, -1.0])
    descent = torch.optim.Adam(p.parameters(), lr=0.03)
    before = p.log_prob(z).mean().item()
    for _ in range(40):
        descent.zero_grad()
        loss = -p.log_prob(z).mean()
        loss.backward()
        descent.step()
    # N(0, I) is 1.25 nats worse than the best there is.
    assert p.log_prob(z).mean().item() > before + 0.8


@every_prior
def test_state_dict_and_precision_round_trip(name: str) -> None:
    p, other = make(name), make(name)
    z = torch.randn(4, 2)
    other.load_state_dict(copy.deepcopy(p.state_dict()))
    assert torch.equal(other.log_prob(z), p.log_prob(z))
    rough = copy.deepcopy(p).float()
    assert rough.sample(2).dtype == rough.log_prob(z.float()).dtype == torch.float32
    torch.testing.assert_close(rough.log_prob(z.float()).double(), p.log_prob(z), rtol=1e-4, atol=1e-4)
    back = copy.deepcopy(rough).double()
    assert back.sample(2).dtype == back.log_prob(z).dtype == torch.float64


@every_prior
def test_it_moves_to_another_device_as_a_whole(name: str) -> None:
    p = make(name).to("meta")
    assert {tensor.device.type for tensor in (*p.parameters(), *p.buffers())} == {"meta"}
    assert p.log_prob(torch.empty(4, 2, device="meta")).device.type == "meta"


@every_prior
@torch.no_grad()
def test_kl_is_its_own_estimate_in_expectation_and_not_negative(name: str) -> None:
    p = make(name, latent_size=3)
    q = DiagonalGaussian(torch.randn(4, 3), torch.randn(4, 3) - 1)
    draw = q.draw(5000)
    estimate = draw.log_q - p.log_prob(draw.z)
    error = estimate.std(0) / math.sqrt(len(estimate))
    assert ((p.kl(q, draw).mean(0) - estimate.mean(0)).abs() <= 4 * error).all()
    assert (estimate.mean(0) > 0).all()


@torch.no_grad()
def test_kl_to_a_mixture_of_one_has_a_closed_form() -> None:
    p = make("Mixture", scale=0.5, latent_size=3, components=1)
    q = DiagonalGaussian(torch.randn(4, 3), torch.randn(4, 3) - 1)
    draw = q.draw(50_000)
    estimate = p.kl(q, draw)
    wide = torch.distributions.Normal(p.mean[0], (0.5 * p.logvar[0]).exp())
    narrow = torch.distributions.Normal(q.mean, (0.5 * q.logvar).exp())
    exact = torch.distributions.kl_divergence(narrow, wide).sum(-1)
    error = estimate.std(0) / math.sqrt(len(estimate))
    assert ((estimate.mean(0) - exact).abs() < 4 * error).all()
    assert (error < 0.02).all()


@torch.no_grad()
def test_mixture_agrees_with_torch_distributions() -> None:
    p = make("Mixture", scale=1.0, latent_size=3, components=5)
    normal = torch.distributions.Independent(torch.distributions.Normal(p.mean, (0.5 * p.logvar).exp()), 1)
    theirs = torch.distributions.MixtureSameFamily(torch.distributions.Categorical(logits=p.log_weight), normal)
    z = 3 * torch.randn(7, 2, 3)
    torch.testing.assert_close(p.log_prob(z), theirs.log_prob(z))
    torch.testing.assert_close(p.sample(50_000).mean(0), theirs.mean, rtol=0, atol=0.05)


@torch.no_grad()
def test_a_mixture_starts_near_the_standard_normal_with_components_that_differ() -> None:
    p = Mixture(32)
    z = torch.randn(5000, 32)
    gap = gaussian_log_prob(z) - p.log_prob(z)
    assert 0 < gap.mean() < 0.3
    assert torch.cdist(p.mean, p.mean).fill_diagonal_(1).min() > 0.3


@every_flow_prior
@torch.no_grad()
def test_a_flow_prior_starts_as_the_standard_normal(name: str) -> None:
    p = make(name, scale=0.0, latent_size=3)
    z = 2 * torch.randn(20, 3)
    torch.testing.assert_close(p.log_prob(z), StandardNormal(3).log_prob(z), rtol=0, atol=1e-10)
    torch.manual_seed(4)
    samples = p.sample(5)
    torch.manual_seed(4)
    torch.testing.assert_close(samples, StandardNormal(3).sample(5), rtol=0, atol=1e-10)


def test_the_flows_that_can_be_sampled_are_priors() -> None:
    assert set(PRIORS) - {"StandardNormal", "Mixture"} == {"IAF", "NAF", "NSF", "RealNVP"}
    assert all((name in PRIORS) == (flow.inverse is not Flow.inverse) for name, flow in FLOWS.items())


@every_flow_prior
def test_a_prior_named_after_a_flow_takes_the_flows_own_knobs(name: str) -> None:
    own = {p.name for p in inspect.signature(FLOWS[name]).parameters.values() if p.kind is p.KEYWORD_ONLY}
    knobs = {p.name for p in inspect.signature(PRIORS[name]).parameters.values() if p.kind is p.KEYWORD_ONLY}
    assert knobs == own | {"k"}
    prior = PRIORS[name](3, k=2)
    assert isinstance(prior, FlowPrior)
    assert [type(step) for step in prior.chain.steps] == [FLOWS[name]] * 2
    assert all(step.context_size == 0 for step in prior.chain.steps)


def test_a_space_names_priors_and_their_knobs(tree) -> None:
    prior = parse(tree({"model.prior": {"RealNVP": {"k": 4}}})).model.prior
    assert (prior.name, prior.knobs) == ("RealNVP", {"k": 4, "hidden": 320})
    with pytest.raises(SpaceError, match=r"model\.prior.*unknown key"):
        parse(tree({"model.prior": {"RealNVP": {"conditioned": True}}}))
    with pytest.raises(SpaceError, match=r"model\.prior: 'Planar'; unknown name"):
        parse(tree({"model.prior": "Planar"}))
