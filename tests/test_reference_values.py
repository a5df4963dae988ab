"""Our modules, given the weights and noise of a micro model, agree with values computed by the reference code to 1e-9.

The values belong to a research-only corpus, so they are read by path and the tests skip where they are absent.
"""

from __future__ import annotations

import math
import os
from pathlib import Path

import numpy as np
import pytest
import torch

from flowsearch.metrics import Evaluation, iw_nll, mutual_information_reference
from flowsearch.models import VAE, Gaussian, LSTMDecoder, LSTMEncoder, StandardNormal
from flowsearch.objectives import ELBO
from flowsearch.objectives.free_bits import no_free_bits
from flowsearch.text.batches import Batch
from flowsearch.training.clip import Joint

SHARED = Path(os.environ.get("FLOWSEARCH_REFERENCE", Path(__file__).parents[2] / "shared" / "reference"))
FILE = SHARED / "he2019_micro.npz"
pytestmark = pytest.mark.skipif(not FILE.exists(), reason="the micro model's values are not on this machine")

NAMES = {
    "encoder.embed.weight": "encoder.embed.weight",
    "encoder.linear.weight": "posterior.linear.weight",
    "decoder.embed.weight": "decoder.embed.weight",
    "decoder.trans_linear.weight": "decoder.start.weight",
    "decoder.pred_linear.weight": "decoder.words.weight",
    **{f"{side}.lstm.{name}": f"{side}.lstm.{name}" for side in ("encoder", "decoder")
       for name in ("weight_ih_l0", "weight_hh_l0", "bias_ih_l0", "bias_hh_l0")},
}  # fmt: skip


@pytest.fixture(scope="module")
def values() -> dict[str, np.ndarray]:
    with np.load(FILE) as file:
        return {name: file[name] for name in file.files}


@pytest.fixture
def vae(values: dict[str, np.ndarray]) -> VAE:
    size = len(values["w.encoder.embed.weight"])
    model = VAE(
        LSTMEncoder(size, embedding_size=8, hidden_size=16),
        Gaussian(4, 16),
        StandardNormal(4),
        LSTMDecoder(size, 4, embedding_size=8, hidden_size=16, dropout=0.0, last_word_learns=False),
    ).double()
    model.load_state_dict({ours: torch.from_numpy(values[f"w.{theirs}"]) for theirs, ours in NAMES.items()})
    return model


def batch_of(tokens: np.ndarray) -> Batch:
    whole = torch.from_numpy(tokens)
    lengths = torch.full((len(whole),), whole.shape[1] - 1)
    return Batch(whole, lengths, torch.arange(len(whole)), whole[:, :-1], False)


@pytest.fixture
def batch(values: dict[str, np.ndarray]) -> Batch:
    return batch_of(values["x"])


@pytest.fixture
def noise(values: dict[str, np.ndarray], monkeypatch: pytest.MonkeyPatch) -> np.ndarray:
    """The posterior's noise is the recorded one."""
    recorded = torch.from_numpy(values["eps"]).transpose(0, 1)
    monkeypatch.setattr(torch, "randn", lambda *shape, **_: recorded.expand(*shape))
    return values["eps"]


def assert_agrees(ours: torch.Tensor | float, theirs: np.ndarray) -> None:
    np.testing.assert_allclose(
        np.asarray(ours.detach() if isinstance(ours, torch.Tensor) else ours), theirs, rtol=1e-9, atol=1e-9
    )


def test_encoder_statistics_and_kl(vae: VAE, batch: Batch, values: dict[str, np.ndarray]) -> None:
    q = vae.encode(batch)
    assert_agrees(q.base.mean, values["mu"])
    assert_agrees(q.base.logvar, values["logvar"])
    assert_agrees(q.kl_per_dimension().sum(-1), values["kl"])


@pytest.mark.usefixtures("noise")
def test_reconstruction(vae: VAE, batch: Batch, values: dict[str, np.ndarray]) -> None:
    assert_agrees(-vae.decode(vae.encode(batch).draw(1).z, batch)[0], values["rec"])


@pytest.mark.usefixtures("noise")
def test_loss_joint_norm_and_one_clipped_step(vae: VAE, batch: Batch, values: dict[str, np.ndarray]) -> None:
    terms = ELBO(lambda step: 0.3, no_free_bits)(vae, batch, 0)
    assert_agrees(terms.loss, values["loss_w0.3"].mean())
    terms.loss.backward()
    assert_agrees(Joint(5.0)(vae.children()), values["gnorm_all"])
    torch.optim.SGD(vae.parameters(), lr=1.0).step()
    q = vae.encode(batch)
    assert_agrees(-vae.decode(q.draw(1).z, batch)[0], values["after_step_rec"])
    assert_agrees(q.kl_per_dimension().sum(-1), values["after_step_kl"])


def test_importance_weighted_nll(
    vae: VAE, batch: Batch, values: dict[str, np.ndarray], monkeypatch: pytest.MonkeyPatch
) -> None:
    for document, (noise, expected) in enumerate(zip(values["iw_eps"], values["iw_nll"], strict=True)):
        recorded = torch.from_numpy(noise).unsqueeze(1)
        monkeypatch.setattr(torch, "randn", lambda *shape, recorded=recorded, **_: recorded.expand(*shape))
        alone = batch_of(values["x"][document : document + 1])
        assert_agrees(iw_nll(vae, alone, len(noise))[0], expected)


def test_greedy_documents(vae: VAE, values: dict[str, np.ndarray]) -> None:
    written = vae.generate(torch.from_numpy(values["dec_z"]), temperature=0.0, max_words=99)
    known = dict(enumerate(values["first_vocab"]))
    for ours, theirs in zip(written, values["greedy"], strict=True):
        words = str(theirs).split()
        assert len(ours) == len(words)
        assert [ours.index(word) for word in ours] == [words.index(word) for word in words]
        assert all(known.get(word, theirs_word) == theirs_word for word, theirs_word in zip(ours, words, strict=True))


def test_mutual_information_of_a_batch(values: dict[str, np.ndarray]) -> None:
    mean, logvar = torch.from_numpy(values["mu"]), torch.from_numpy(values["logvar"])
    z = mean + (0.5 * logvar).exp() * torch.from_numpy(values["eps"][:, 0])
    nothing = torch.zeros(len(mean))
    evaluation = Evaluation(nothing, nothing, nothing, mean, logvar, z, mean, mean * 0, nothing)
    ours = mutual_information_reference(evaluation)["mutual_information_reference"]
    assert_agrees(ours, values["mi_batch"])
    assert ours <= math.log(len(mean))
