"""Semi-amortised inference: the gradient through the steps is the gradient, in both of its forms."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from flowsearch.models import (
    DECODERS,
    ENCODERS,
    POSTERIORS,
    VAE,
    Encoder,
    Gaussian,
    LSTMDecoder,
    LSTMEncoder,
    StandardNormal,
)
from flowsearch.objectives import ELBO, Lagging, SemiAmortized
from flowsearch.objectives.free_bits import no_free_bits
from flowsearch.objectives.lagging import Tolerant
from flowsearch.objectives.semi_amortized import DIFFERENTIATIONS, Descent, FiniteDifference, Noise
from flowsearch.text import Corpus
from flowsearch.text.batches import Batch, EqualLength

pytestmark = pytest.mark.usefixtures("in_float64")

every_way = pytest.mark.parametrize("through", DIFFERENTIATIONS)
REFINABLE = [name for name in POSTERIORS if name != "Implicit"]


def weight(step: int) -> float:
    return 0.7


def model(corpus: Corpus, posterior: str = "Gaussian", dropout: float = 0.0, encoder: Encoder | None = None) -> VAE:
    torch.manual_seed(0)
    size = len(corpus.vocabulary)
    vae = VAE(
        encoder or LSTMEncoder(size, embedding_size=5, hidden_size=6),
        POSTERIORS[posterior](2, 6),
        StandardNormal(2),
        LSTMDecoder(size, 2, embedding_size=5, hidden_size=6, dropout=dropout),
    )
    with torch.no_grad():
        for parameter in vae.parameters():
            parameter.add_(0.5 * torch.randn_like(parameter) / max(1, parameter.shape[-1]) ** 0.5)
    return vae


@pytest.fixture
def batch(corpus: Corpus) -> Batch:
    return next(iter(EqualLength(corpus.splits["train"], 4).epoch()))


def loss_of(objective: SemiAmortized, vae: VAE, batch: Batch) -> Tensor:
    torch.manual_seed(3)
    return objective(vae, batch, 0).loss


def gradients(objective: SemiAmortized, vae: VAE, batch: Batch) -> dict[str, Tensor]:
    vae.zero_grad()
    loss_of(objective, vae, batch).backward()
    return {name: p.grad.clone() for name, p in vae.named_parameters() if p.grad is not None and p.numel()}


@every_way
@pytest.mark.parametrize("posterior", ["Gaussian", "Planar", "IAF"])
def test_the_gradient_is_that_of_the_loss_at_the_refined_parameters(
    corpus: Corpus, batch: Batch, through: str, posterior: str
) -> None:
    vae = model(corpus, posterior, dropout=0.3)
    objective = SemiAmortized(weight, no_free_bits, steps=4, lr=0.1, momentum=0.5, clip=1e6, through=through)
    found = gradients(objective, vae, batch)
    torch.manual_seed(9)
    parameters = {name: p for name, p in vae.named_parameters() if name in found}
    direction = {name: torch.randn_like(p) for name, p in parameters.items()}
    values = []
    for sign in (1, -1):
        with torch.no_grad():
            for name, p in parameters.items():
                p.add_(sign * 1e-5 * direction[name])
        values.append(loss_of(objective, vae, batch).item())
        with torch.no_grad():
            for name, p in parameters.items():
                p.sub_(sign * 1e-5 * direction[name])
    along = sum((found[name] * direction[name]).sum() for name in found).item()
    assert along == pytest.approx((values[0] - values[1]) / 2e-5, rel=1e-3)


@pytest.mark.parametrize("posterior", REFINABLE)
def test_both_ways_give_one_loss_and_one_gradient(
    corpus: Corpus, batch: Batch, posterior: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(FiniteDifference, "WIDTH", 1e-5)  # rectifiers in a flow's network bend within the usual one
    vae = model(corpus, posterior, dropout=0.3)
    exact, finite = (
        SemiAmortized(weight, no_free_bits, steps=3, lr=0.1, clip=0.5, through=through)
        for through in ("exact", "finite_difference")
    )
    torch.testing.assert_close(loss_of(exact, vae, batch), loss_of(finite, vae, batch))
    one, other = gradients(exact, vae, batch), gradients(finite, vae, batch)
    assert one.keys() == other.keys()
    for name, gradient in one.items():
        torch.testing.assert_close(other[name], gradient, rtol=5e-3, atol=5e-4 * gradient.abs().max().item(), msg=name)


def test_what_the_steps_add_to_the_gradient_is_seen(corpus: Corpus, batch: Batch) -> None:
    vae = model(corpus)
    plain, refined = (
        gradients(objective, vae, batch)
        for objective in (ELBO(weight, no_free_bits), SemiAmortized(weight, no_free_bits, steps=3, lr=0.1))
    )
    for name in ("posterior.linear.weight", "encoder.lstm.weight_ih_l0", "decoder.lstm.weight_hh_l0"):
        assert not torch.allclose(plain[name], refined[name], rtol=0.01)


@pytest.mark.parametrize("decoder", [name for name in DECODERS if name != "SequenceFlow"])
@pytest.mark.parametrize("encoder", [name for name in ENCODERS if name != "NoEncoder"])
def test_every_network_can_be_differentiated_twice(corpus: Corpus, batch: Batch, encoder: str, decoder: str) -> None:
    torch.manual_seed(0)
    size, sizes = len(corpus.vocabulary), {"embedding_size": 4, "hidden_size": 4}
    shape = {"layers": 1, "heads": 2, "head_size": 2}

    def build(catalogue: dict[str, type[nn.Module]], name: str, *given: int) -> nn.Module:
        return catalogue[name](*given, **(sizes if name.startswith("LSTM") else shape))

    encoding = build(ENCODERS, encoder, size)
    vae = VAE(encoding, Gaussian(2, encoding.state_size), StandardNormal(2), build(DECODERS, decoder, size, 2))
    found = gradients(SemiAmortized(weight, no_free_bits, steps=2), vae, batch)
    assert all(gradient.isfinite().all() for gradient in found.values())
    assert found.keys() >= {"posterior.linear.weight"}


def test_a_document_is_refined_by_itself(corpus: Corpus, batch: Batch) -> None:
    # Without noise (a posterior that is almost a point) the steps of a document cannot depend on its neighbours.
    vae = model(corpus).eval()
    objective = SemiAmortized(weight, no_free_bits, steps=4, lr=0.001, clip=0.5)
    phi = torch.cat([torch.randn(4, 2), torch.full((4, 2), -60.0)], dim=1)
    together = objective.refine(vae, batch, phi)
    assert not torch.allclose(together, phi)
    for row in range(4):
        one = Batch(
            batch.tokens[row : row + 1],
            batch.lengths[row : row + 1],
            batch.documents[row : row + 1],
            batch.inputs[row : row + 1],
            padded=False,
        )
        torch.testing.assert_close(
            objective.refine(vae, one, phi[row : row + 1])[0], together[row], rtol=1e-7, atol=1e-7
        )


def test_refinement_leaves_a_flows_context_alone_and_no_graph(corpus: Corpus, batch: Batch) -> None:
    vae = model(corpus, "IAF").eval()
    objective = SemiAmortized(weight, no_free_bits, steps=2, lr=0.1)
    phi = vae.amortize(batch)
    refined = objective.refine(vae, batch, phi)
    assert not torch.allclose(refined[:, :4], phi[:, :4])
    assert torch.equal(refined[:, 4:], phi[:, 4:])
    assert not refined.requires_grad
    assert all(parameter.grad is None for parameter in vae.parameters())


def test_clipping_is_per_document() -> None:
    descent = Descent(steps=1, lr=1.0, momentum=0.0, clip=2.0)
    scale = descent.scale(torch.tensor([[3.0, 4.0], [0.3, 0.4], [0.0, 0.0]]))
    torch.testing.assert_close(scale, torch.tensor([[0.4], [1.0], [1.0]]))


def test_noise_comes_again_and_nobody_notices() -> None:
    torch.manual_seed(5)
    noise, first = Noise(torch.device("cpu")), torch.rand(3)
    after = torch.get_rng_state()
    for _ in range(2):
        with noise.again():
            assert torch.equal(torch.rand(3), first)
    assert torch.equal(torch.get_rng_state(), after)


def test_lagging_shows_the_refined_view_as_well(corpus: Corpus) -> None:
    vae = model(corpus)
    lagging = Lagging(SemiAmortized(weight, no_free_bits, steps=2), 3, Tolerant())
    assert lagging.views(vae).keys() == {"refined"}
    assert Lagging(ELBO(weight, no_free_bits), 3, Tolerant()).views(vae) == {}
