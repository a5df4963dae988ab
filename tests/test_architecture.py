"""The examples of ARCHITECTURE.md work as they stand: each is run, registered as it says, and used for real."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml

from flowsearch import objectives, text
from flowsearch.metrics import METRICS, evaluate
from flowsearch.models import POSTERIORS
from flowsearch.models.posteriors import by
from flowsearch.text.batches import EqualLength
from flowsearch.training import config, trial

ROOT = Path(__file__).parents[1]


def example(file: str) -> dict[str, Any]:
    """Run the code block that begins with this file's name; what it defines."""
    blocks = re.findall(r"```python\n(.*?)```", (ROOT / "ARCHITECTURE.md").read_text(), re.S)
    (block,) = [block for block in blocks if block.startswith(f"# {file}")]
    namespace: dict[str, Any] = {"__name__": file}
    exec(compile(block, file, "exec", dont_inherit=True), namespace)
    return namespace


@pytest.fixture
def tree() -> dict[str, Any]:
    """A configuration that trains in a second or two."""
    base = yaml.safe_load((ROOT / "flowsearch" / "base.yaml").read_text())
    sizes = {"embedding_size": 8, "hidden_size": 16}
    small = {name: base[name] for name in ("seed", "data", "model", "objective", "training", "metrics")}
    small["data"]["corpus"] = {"synthetic": {"train": 60, "valid": 20, "test": 20}}
    small["model"] |= {"latent_size": 3, "encoder": {"LSTMEncoder": sizes}, "decoder": {"LSTMDecoder": sizes}}
    small["training"] |= {"epochs": 1, "optimizer": "Adam"}
    return json.loads(json.dumps(small))


def trained(tree: dict[str, Any], directory: Path) -> dict[str, float]:
    """The validation reading of the last epoch."""
    return dict(list(trial.readings(tree, directory=directory))[-1][1].values)


def test_a_flow(tree: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    flow = example("flowsearch/flows/scaling.py")["Scaling"]
    step, z, h = flow(3, 4).double(), torch.randn(5, 3).double(), torch.randn(5, 4).double()
    torch.nn.init.normal_(step.log_scale.weight)
    moved, ladj = step(z, h)
    jacobian = torch.autograd.functional.jacobian(lambda point: step(point, h[0])[0], z[0])
    assert torch.allclose(ladj[0], torch.linalg.slogdet(jacobian).logabsdet)
    assert torch.allclose(step.inverse(moved, h)[0], z)
    monkeypatch.setitem(POSTERIORS, "Scaling", by(flow))
    tree["model"]["posterior"] = {"Scaling": {"k": 2}}
    assert trained(tree, tmp_path)["kl"] >= 0


def test_an_objective(tree: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    many = example("flowsearch/objectives/many_samples.py")["ManySamples"]
    monkeypatch.setitem(objectives.LOSSES, "ManySamples", many)
    tree["objective"] |= {"loss": {"ManySamples": {"samples": 3}}, "lagging_updates": 2}
    assert trained(tree, tmp_path)["elbo"] < 0


def test_a_metric(tree: dict[str, Any]) -> None:
    spread = example("flowsearch/metrics/spread.py")["spread"]
    corpus = trial.load_corpus(config.parse(tree).data)
    vae = trial.build_vae(config.parse(tree).model, len(corpus.vocabulary))
    evaluation = evaluate(vae, EqualLength(corpus.splits["valid"], 8).epoch())
    assert spread(evaluation)["kl_stddev"] == evaluation.kl.std().item()
    assert not any("kl_stddev" in metric(evaluation) for metric in METRICS)


def test_a_corpus(tree: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    digits = example("flowsearch/text/digits.py")["digits"]
    monkeypatch.setattr(text, "digits", digits, raising=False)
    monkeypatch.setattr(text, "CORPORA", (*text.CORPORA, "digits"))
    monkeypatch.setitem(config.CORPORA, "digits", digits)  # type: ignore[index]
    tree["data"]["corpus"] = {"digits": {"train": 100}}
    assert trained(tree, tmp_path)["documents"] == 10


def test_a_sampler() -> None:
    optuna = pytest.importorskip("optuna")
    sampler = example("flowsearch/search/samplers.py")["Genetic"](0, population=4)
    study = optuna.create_study(sampler=sampler)
    study.tell(study.ask(), 1.0)
    assert study.best_value == 1.0
