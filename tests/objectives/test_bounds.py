"""The bounds on a model whose log p(x) is known: z ~ N(0, I), x = W z + noise, the columns of W orthogonal.

Its true posterior is then a diagonal Gaussian that the encoder can hit exactly.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import pytest
import torch
from torch import Tensor

from flowsearch.errors import Intractable
from flowsearch.metrics import importance_weighted, iw_nll
from flowsearch.metrics.importance import PROPOSALS
from flowsearch.models import VAE, Decoder, Encoder, Gaussian, Implicit, StandardNormal, gaussian_log_prob
from flowsearch.objectives import LOSSES, Loss, SemiAmortized
from flowsearch.objectives.free_bits import no_free_bits
from flowsearch.text.batches import Batch

pytestmark = pytest.mark.usefixtures("in_float64")

LATENT, WIDTH, NOISE = 2, 5, 0.6
KNOBS = {"SemiAmortized": {"steps": 3, "lr": 0.01}}
MADE = {name: partial(loss, **KNOBS.get(name, {})) for name, loss in LOSSES.items()}
every_loss = pytest.mark.parametrize("loss", MADE.values(), ids=MADE)
AMORTIZED = {name: loss for name, loss in MADE.items() if name != "SemiAmortized"}
every_amortized_loss = pytest.mark.parametrize("loss", AMORTIZED.values(), ids=AMORTIZED)
Make = Callable[..., Loss]


class Sees(Encoder):
    """h = (x, 1)."""

    state_size = WIDTH + 1

    def __init__(self, data: Tensor) -> None:
        super().__init__(0)
        self.data = data

    def forward(self, batch: Batch) -> Tensor:
        x = self.data[batch.documents]
        return torch.cat([x, torch.ones(len(x), 1)], dim=1)


class Linear(Decoder):
    """p(x|z) = N(W z, NOISE^2)."""

    def __init__(self, data: Tensor, loadings: Tensor) -> None:
        super().__init__(0, LATENT)
        self.data, self.loadings = data, loadings

    def forward(self, z: Tensor, batch: Batch) -> Tensor:
        return gaussian_log_prob(self.data[batch.documents], z @ self.loadings.t(), 2 * math.log(NOISE))

    def generate(self, z: Tensor, *, temperature: float, max_words: int) -> list[list[int]]:
        raise NotImplementedError


@dataclass
class Toy:
    vae: VAE
    batch: Batch
    log_p: Tensor


def toy(documents: int, *, off: float) -> Toy:
    """The model; `off` moves the encoder's weights away from the true posterior's."""
    torch.manual_seed(0)
    loadings = torch.linalg.qr(torch.randn(WIDTH, LATENT)).Q * torch.tensor([1.5, 0.7])
    data = torch.randn(documents, LATENT) @ loadings.t() + NOISE * torch.randn(documents, WIDTH)
    precision = loadings.square().sum(0) / NOISE**2 + 1
    posterior = Gaussian(LATENT, WIDTH + 1)
    with torch.no_grad():
        posterior.linear.weight.zero_()
        posterior.linear.weight[:LATENT, :WIDTH] = (loadings / NOISE**2 / precision).t()
        posterior.linear.weight[LATENT:, WIDTH] = -precision.log()
        posterior.linear.weight += off * torch.randn_like(posterior.linear.weight)
    covariance = loadings @ loadings.t() + NOISE**2 * torch.eye(WIDTH)
    log_p = torch.distributions.MultivariateNormal(torch.zeros(WIDTH), covariance).log_prob(data)
    tokens, documents_ = torch.zeros(documents, 2, dtype=torch.long), torch.arange(documents)
    batch = Batch(tokens, torch.ones(documents, dtype=torch.long), documents_, tokens[:, :-1], padded=False)
    return Toy(VAE(Sees(data), posterior, StandardNormal(LATENT), Linear(data, loadings)), batch, log_p)


def one_sample_bound(model: Toy, vae: VAE | None = None) -> Tensor:
    vae = vae or model.vae
    q = vae.encode(model.batch)
    draw = q.draw(1)
    return (vae.decode(draw.z, model.batch) - vae.kl(q, draw))[0].detach()


@pytest.mark.parametrize("samples", [1, 3, 50])
def test_every_importance_weight_is_log_p_at_the_true_posterior(samples: int) -> None:
    model = toy(20, off=0.0)
    torch.testing.assert_close(-iw_nll(model.vae, model.batch, samples), model.log_p, rtol=1e-10, atol=1e-10)


def test_elbo_is_log_p_at_the_true_posterior() -> None:
    model = toy(4000, off=0.0)
    gap = model.log_p - one_sample_bound(model)
    assert abs(gap.mean()) < 4 * gap.std() / math.sqrt(len(gap))
    assert gap.std() / math.sqrt(len(gap)) < 0.05


def test_bounds_tighten_with_samples_and_never_pass_log_p() -> None:
    model = toy(4000, off=0.15)
    bounds = [one_sample_bound(model), *(-iw_nll(model.vae, model.batch, samples) for samples in (2, 8, 64))]
    for looser, tighter in zip(bounds, [*bounds[1:], model.log_p], strict=True):
        gain = tighter - looser
        assert gain.mean() > -3 * gain.std() / math.sqrt(len(gain))
    gaps = [(model.log_p - bound).mean().item() for bound in bounds]
    assert gaps[0] > 0.1 > 0.05 > gaps[-1]


def test_importance_samples_are_all_counted_and_divided_by_k(monkeypatch: pytest.MonkeyPatch) -> None:
    model = toy(6, off=0.15)
    monkeypatch.setattr("flowsearch.metrics.importance.SEQUENCES", 6 * 4)  # four samples at once
    torch.manual_seed(1)
    ours = iw_nll(model.vae, model.batch, 10)  # 4 + 4 + 2
    torch.manual_seed(1)
    q = model.vae.encode(model.batch)
    draws = [q.draw(n) for n in (4, 4, 2)]
    weights = [model.vae.decode(d.z, model.batch) + gaussian_log_prob(d.z) - d.log_q for d in draws]
    torch.testing.assert_close(ours, math.log(10) - torch.cat(weights).logsumexp(0))
    monkeypatch.setattr("flowsearch.metrics.importance.SEQUENCES", 1)  # fewer than documents: still one at a time
    torch.manual_seed(1)
    draws = [q.draw(1) for _ in range(10)]
    torch.manual_seed(1)
    weights = [model.vae.decode(d.z, model.batch) + gaussian_log_prob(d.z) - d.log_q for d in draws]
    torch.testing.assert_close(iw_nll(model.vae, model.batch, 10), math.log(10) - torch.cat(weights).logsumexp(0))


def test_the_metric_is_the_mean_over_documents() -> None:
    model = toy(7, off=0.0)
    measured = importance_weighted(model.vae.train(), [model.batch], 3)
    assert measured["iw_nll"] == pytest.approx(-model.log_p.mean().item(), abs=1e-9)
    assert measured["iw_ppl"] == pytest.approx(math.exp(-model.log_p.sum().item() / 7), rel=1e-9)
    assert measured["iw_samples"] == 3
    assert model.vae.training


@every_loss
@pytest.mark.parametrize("weight", [0.0, 0.3, 1.0, 2.0])
def test_a_loss_is_the_negative_bound_with_its_kl_weighted(loss: Make, weight: float) -> None:
    model = toy(50, off=0.3)
    terms = loss(lambda step: weight * step, no_free_bits)(model.vae, model.batch, 1)
    parts = {name: float(value) for name, value in terms.parts.items()}
    assert terms.loss.item() == pytest.approx(parts["reconstruction"] + weight * parts["kl"])
    assert not any(value.requires_grad for value in terms.parts.values())


@every_amortized_loss
def test_an_amortized_loss_counts_the_kl_of_the_encoders_posterior(loss: Make) -> None:
    model = toy(50, off=0.3)
    kl = loss(lambda step: 1.0, no_free_bits)(model.vae, model.batch, 1).parts["kl"].item()
    assert kl == pytest.approx(model.vae.encode(model.batch).kl_per_dimension().sum(-1).mean().item())


@every_loss
def test_a_loss_says_the_weight_of_the_moment(loss: Make) -> None:
    assert loss(lambda step: step / 10, no_free_bits).describe(4) == {"kl_weight": 0.4}


@every_loss
def test_descending_reaches_the_true_posterior(loss: Make) -> None:
    model = toy(400, off=0.4)
    objective = loss(lambda step: 1.0, no_free_bits)
    optimizer = torch.optim.Adam(model.vae.posterior.parameters(), lr=0.02)
    for step in range(600):
        optimizer.zero_grad()
        objective(model.vae, model.batch, step).loss.backward()
        optimizer.step()
    vae = objective.views(model.vae).get("refined", model.vae)
    gap = (model.log_p - torch.stack([one_sample_bound(model, vae) for _ in range(50)]).mean(0)).mean()
    assert abs(gap) < 0.05


def bound_of(model: Toy, vae: VAE) -> Tensor:
    return torch.stack([one_sample_bound(model, vae) for _ in range(30)]).mean(0)


@pytest.mark.parametrize("steps", [1, 5, 30])
def test_refinement_raises_the_bound_and_never_passes_log_p(steps: int) -> None:
    model = toy(400, off=0.3)
    objective = SemiAmortized(lambda step: 1.0, no_free_bits, steps=steps, lr=0.03)
    before, after = bound_of(model, model.vae), bound_of(model, objective.views(model.vae)["refined"])
    gain, left = after - before, model.log_p - after
    assert gain.mean() > 4 * gain.std() / math.sqrt(len(gain))
    assert left.mean() > -3 * left.std() / math.sqrt(len(left))
    assert steps < 30 or left.mean() < 0.25 * (model.log_p - before).mean()


def test_importance_weights_of_a_fitted_proposal_bound_log_p_without_a_density() -> None:
    model = toy(300, off=0.0)
    implicit = Implicit(LATENT, WIDTH + 1)
    with torch.no_grad():
        known = model.vae.posterior.linear.weight
        implicit.generator[0].weight.zero_()
        implicit.generator[0].bias.zero_()
        implicit.generator[0].weight[:, : WIDTH + 1] = known[:LATENT]
        implicit.generator[0].weight[:, WIDTH + 1 :] = torch.diag((0.5 * known[LATENT:, WIDTH]).exp())
        vae = VAE(model.vae.encoder, implicit, model.vae.prior, model.vae.decoder)
        bounds = [-iw_nll(vae, model.batch, samples, PROPOSALS["fitted"]) for samples in (1, 8, 256)]
    for looser, tighter in zip(bounds, [*bounds[1:], model.log_p], strict=True):
        gain = tighter - looser
        assert gain.mean() > -3 * gain.std() / math.sqrt(len(gain))
    assert (model.log_p - bounds[-1]).mean() < 0.03
    with pytest.raises(Intractable, match="no density"):
        iw_nll(vae, model.batch, 2)
