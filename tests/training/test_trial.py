"""A trial follows from (configuration, seed) bit for bit, stopped and continued or not."""

from __future__ import annotations

import json
import math
import shutil
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any
from unittest import mock

import pytest
import torch

from flowsearch import metrics, models, objectives
from flowsearch.errors import Damaged, Diverged
from flowsearch.results.reading import UNITS, Reading
from flowsearch.text import Corpus
from flowsearch.training import checkpoint, config
from flowsearch.training.clip import CLIPS
from flowsearch.training.decay import DECAYS
from flowsearch.training.optimizers import OPTIMIZERS
from flowsearch.training.trial import Trial, build_vae, load_corpus, readings, run_trial

Tree = Callable[..., dict[str, Any]]
Epochs = list[list[Reading]]

WALL = {"seconds", "tokens_per_second", "peak_memory"}
"""What may differ between two runs of the same trial."""
KNOBS = {name: {"nats": 0.2 if "PerDimension" in name else 1.0} for name in objectives.FREE_BITS}
WIDTHS = {name: {"hidden": 6, "k": 2} for name in ("IAF", "NAF", "NSF", "RealNVP")}
TRANSFORMER = {"layers": 1, "heads": 2, "head_size": 3}
LAGGING = {"objective.lagging_updates": 3}
FALLING = {"Plateau": {"patience": 1, "decays": 9}}
"""A rule that does decay within six epochs."""

CASES: dict[str, dict[str, Any]] = {
    "plain": {},
    "annealed lagging": {"objective.warmup_epochs": 2, **LAGGING},
    "word dropout": {"objective.word_dropout": 0.4},
    "bf16": {"training.precision": "bf16"},
    "momentum and decay": {"training.optimizer": {"SGD": {"momentum": 0.9}}, "training.decay": FALLING},
    "reference information": {"metrics.mutual_information": "reference"},
    "importance": {"metrics.importance_samples": 3},
    "language model": {"model.latent_size": 0, "model.encoder": "NoEncoder", "metrics.importance_samples": 2},
    "loss ELBO": {"objective.loss": "ELBO"},
    "loss SemiAmortized": {
        "objective.loss": {"SemiAmortized": {"steps": 2}},
        "model.posterior": "Planar",
        "metrics.importance_samples": 2,
    },
    "loss Implicit": {
        "objective.loss": {"Implicit": {"critic_updates": 2}},
        "model.posterior": "Implicit",
        "training.critic_optimizer": {"Adam": {"lr": 0.001}},
        "training.decay": FALLING,
        "metrics": {"importance_samples": 2, "importance_proposal": "fitted", "mutual_information": "reference"},
        **LAGGING,
    },
    **{f"posterior {name}": {"model.posterior": name} for name in models.POSTERIORS if name != "Implicit"},
    **{f"prior {name}": {"model.prior": {name: WIDTHS.get(name, {})}} for name in models.PRIORS},
    "transformers": {
        "model.encoder": {"TransformerEncoder": TRANSFORMER},
        "model.decoder": {"TransformerDecoder": TRANSFORMER},
    },
    "sequence flow": {"model.decoder": {"SequenceFlow": {"code_size": 3, "heads": 1, "head_size": 4}}},
    **{
        f"annealing {name}": {"objective.annealing": name, "objective.warmup_epochs": 2, "objective.beta": 0.5}
        for name in objectives.ANNEALINGS
    },
    **{f"free bits {name}": {"objective.free_bits": {name: KNOBS.get(name, {})}} for name in objectives.FREE_BITS},
    **{f"lagging {name}": {"objective.lagging_stop": name, **LAGGING} for name in objectives.LAGGING_STOPS},
    **{f"optimizer {name}": {"training.optimizer": {name: {"lr": 0.05}}} for name in OPTIMIZERS},
    **{f"decay {name}": {"training.decay": {name: FALLING.get(name, {})}} for name in DECAYS},
    **{f"clip {name}": {"training.clip": name, "training.clip_norm": 0.5, **LAGGING} for name in CLIPS},
    "in parts": {"training.accumulate": 3, **LAGGING},
    **{f"batching {name}": {"data.batching": name} for name in config.BATCHINGS},
}
assert {f"loss {name}" for name in objectives.LOSSES} <= CASES.keys()
every_case = pytest.mark.parametrize("changes", CASES.values(), ids=CASES)


def comparable(measured: list[Reading]) -> list[Reading]:
    return [
        Reading(r.epoch, r.split, {name: value for name, value in r.values.items() if name not in WALL})
        for r in measured
    ]


def train(tree: dict[str, Any], directory: Path, corpus: Corpus) -> Epochs:
    return [comparable(measured) for measured in readings(tree, directory=directory, corpus=corpus)]


@every_case
def test_stopped_at_any_epoch_and_continued_is_never_stopped(
    tree: Tree, tmp_path: Path, corpus: Corpus, changes: Mapping[str, Any]
) -> None:
    whole, expected = tree(changes), []
    for epoch, measured in enumerate(readings(whole, directory=tmp_path / "whole", corpus=corpus), start=1):
        expected.append(comparable(measured))
        shutil.copytree(tmp_path / "whole", tmp_path / f"stopped-{epoch}")
    for epoch in range(1, whole["training"]["epochs"]):
        torch.manual_seed(epoch)  # whatever happened in between
        torch.rand(epoch)
        again = train(whole, tmp_path / f"stopped-{epoch}", corpus)
        assert again == expected[epoch - 1 :]
        final = [checkpoint.load_best(tmp_path / name, torch.device("cpu")) for name in ("whole", f"stopped-{epoch}")]
        assert all(torch.equal(tensor, final[1][name]) for name, tensor in final[0].items())


def test_the_same_seed_is_the_same_trial_and_another_is_not(tree: Tree, tmp_path: Path, corpus: Corpus) -> None:
    changes = {"objective.word_dropout": 0.2, "model.posterior": "Planar", **LAGGING}
    first = train(tree(changes), tmp_path / "first", corpus)
    torch.manual_seed(99)
    assert train(tree(changes), tmp_path / "second", corpus) == first
    assert train(tree({**changes, "seed": 1}), tmp_path / "third", corpus) != first


def test_a_falling_rate_reloads_the_best_and_reaches_the_checkpoint(tree: Tree, tmp_path: Path, corpus: Corpus) -> None:
    changes = {"training.decay": FALLING, "training.optimizer": {"SGD": {"lr": 8.0}}, "training.epochs": 8}
    epochs = train(tree(changes), tmp_path, corpus)
    rates = [epoch[0].values["lr"] for epoch in epochs]
    elbos = [epoch[1].values["elbo"] for epoch in epochs]
    assert rates[0] == 8.0
    assert len(set(rates)) > 1
    best = -math.inf
    for n, elbo in enumerate(elbos[:-1]):
        assert rates[n + 1] == (rates[n] if elbo >= best else rates[n] / 2)
        best = max(best, elbo)


def test_training_ends_with_the_last_decay(tree: Tree, tmp_path: Path, corpus: Corpus) -> None:
    changes = {"training.decay": {"Plateau": {"patience": 1, "decays": 1}}, "training.epochs": 30}
    changes["training.optimizer"] = {"SGD": {"lr": 20.0}}
    epochs = train(tree(changes), tmp_path, corpus)
    assert len(epochs) < 30
    assert train(tree(changes), tmp_path, corpus) == epochs[-1:]  # and stays ended


def test_what_a_trial_reports(tree: Tree, tmp_path: Path, corpus: Corpus) -> None:
    heard: Epochs = []
    run_trial(tree({"training.epochs": 6, **LAGGING}), heard.append, directory=tmp_path, corpus=corpus)
    best = -math.inf
    for epoch, measured in enumerate(heard, start=1):
        splits = {reading.split: reading for reading in measured}
        assert {reading.epoch for reading in measured} == {epoch}
        improved = splits["valid"].values["elbo"] > best
        best = max(best, splits["valid"].values["elbo"])
        assert list(splits) == ["train", "valid", *(["test"] if improved else [])]
        for reading in measured:
            assert set(reading.values) <= set(UNITS)
            assert all(math.isfinite(value) for value in reading.values.values())
            assert reading.values["documents"] == len(corpus.splits[reading.split])
            assert reading.values["tokens"] == corpus.splits[reading.split].lengths.sum()
        learned = splits["train"].values
        assert learned["elbo"] == pytest.approx(-learned["reconstruction"] - learned["kl"])
        assert learned["ppl"] == pytest.approx(math.exp(-learned["elbo"] * learned["documents"] / learned["tokens"]))


def test_inner_steps_are_counted(tree: Tree, tmp_path: Path, corpus: Corpus) -> None:
    lagging = {"objective.lagging_updates": 4, "objective.lagging_stop": {"Tolerant": {"patience": 100}}}
    epochs = train(tree(lagging), tmp_path / "lagging", corpus)
    trial = Trial.start(config.parse(tree()), corpus)
    assert [epoch[0].values["inner_steps"] for epoch in epochs] == [4.0 * len(trial.batches["train"])] * 3
    plain = train(tree(), tmp_path / "plain", corpus)
    assert [epoch[0].values["inner_steps"] for epoch in plain] == [0.0] * 3


def test_lagging_hears_the_information_as_often_as_it_asked(tree: Tree, tmp_path: Path, corpus: Corpus) -> None:
    changes = {"objective.lagging_updates": 2, "data.batch_size": 4, "training.epochs": 2}
    for checks in (1, 2, 4):
        stop = {"Tolerant": {"checks": checks, "patience": 100}}
        directory = tmp_path / str(checks)
        train(tree({**changes, "objective.lagging_stop": stop}), directory, corpus)
        state = checkpoint.load_last(directory, torch.device("cpu"))
        assert len(state["objective"]["_extra_state"]["history"]) == 2 * checks


def test_the_weight_of_the_kl_reaches_beta_with_the_warmup(tree: Tree, tmp_path: Path, corpus: Corpus) -> None:
    changes = {"objective.warmup_epochs": 2, "objective.beta": 0.5, "training.epochs": 3}
    weights = [epoch[0].values["kl_weight"] for epoch in train(tree(changes), tmp_path, corpus)]
    assert weights == pytest.approx([0.5 * 0.55, 0.5, 0.5])


def test_the_best_model_measures_as_it_did(tree: Tree, tmp_path: Path, corpus: Corpus) -> None:
    changes = {"training.epochs": 5, "model.posterior": "IAF"}
    whole = tree(changes)
    epochs = train(whole, tmp_path, corpus)
    best = max((epoch[1] for epoch in epochs), key=lambda reading: reading.values["elbo"])
    kept = json.loads((tmp_path / checkpoint.CONFIG).read_text())
    assert config.parse(kept) == config.parse(whole)
    trial = Trial.start(config.parse(kept), corpus)
    trial.vae.load_state_dict(checkpoint.load_best(tmp_path, torch.device("cpu")))
    measured = {name: value for name, value in trial.measure("valid").items() if name not in WALL}
    assert measured == best.values


def test_importance_samples_come_last_and_are_of_the_best_epoch(tree: Tree, tmp_path: Path, corpus: Corpus) -> None:
    whole = tree({"metrics.importance_samples": 5})
    *epochs, (bound,) = train(whole, tmp_path, corpus)
    assert len(epochs) == 3
    tests = [reading for epoch in epochs for reading in epoch if reading.split == "test"]
    assert (bound.epoch, bound.split) == (tests[-1].epoch, "test")
    assert {name: bound.values[name] for name in tests[-1].values} == tests[-1].values
    assert bound.values["iw_samples"] == 5
    trial = Trial.start(config.parse(whole), corpus)
    trial.vae.load_state_dict(checkpoint.load_best(tmp_path, torch.device("cpu")))
    alone = metrics.importance_weighted(trial.vae, trial.batches["test"].epoch(), 5)
    assert {name: bound.values[name] for name in alone} == alone
    assert train(whole, tmp_path, corpus) == [epochs[-1], [bound]]


@pytest.mark.parametrize("keep", [0, 10, 0.5, 0.99])
def test_a_cut_checkpoint_is_damaged(tree: Tree, tmp_path: Path, corpus: Corpus, keep: float) -> None:
    train(tree({"training.epochs": 1}), tmp_path, corpus)
    file = tmp_path / checkpoint.LAST
    content = file.read_bytes()
    file.write_bytes(content[: int(keep if keep > 1 else keep * len(content))])
    with pytest.raises(Damaged, match=r"last\.pt: not a readable checkpoint"):
        train(tree(), tmp_path, corpus)


def test_a_checkpoint_holds_no_code_and_leaves_nothing_half_written(tree: Tree, tmp_path: Path, corpus: Corpus) -> None:
    train(tree({"model.posterior": "IAF", **LAGGING}), tmp_path, corpus)
    torch.load(tmp_path / checkpoint.LAST, weights_only=True)
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        "best.safetensors",
        "config.json",
        "documents.parquet",
        "last.pt",
    ]


def test_a_write_that_fails_leaves_the_old_files_and_says_why(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    old, new = ({"weight": torch.full((3,), value)} for value in (1.0, 2.0))
    checkpoint.save_last(tmp_path, old)
    checkpoint.save_best(tmp_path, old, {"seed": 1})

    def fail(_: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.fsync", fail)
    with pytest.raises(OSError, match="No space left"):
        checkpoint.save_last(tmp_path, new)
    with pytest.raises(OSError, match="No space left"):
        checkpoint.save_best(tmp_path, new, {"seed": 2})
    cpu = torch.device("cpu")
    for kept in (checkpoint.load_last(tmp_path, cpu), checkpoint.load_best(tmp_path, cpu)):
        assert kept is not None
        assert torch.equal(kept["weight"], old["weight"])
    assert json.loads((tmp_path / checkpoint.CONFIG).read_text()) == {"seed": 1}
    assert len(list(tmp_path.iterdir())) == 3


@pytest.mark.parametrize(
    ("poisoned", "part"),
    [("decoder.words.weight", "reconstruction"), ("posterior.linear.weight", "reconstruction"), ("prior", "kl")],
)
def test_a_parameter_that_is_not_finite_is_found_out(
    tree: Tree, tmp_path: Path, corpus: Corpus, monkeypatch: pytest.MonkeyPatch, poisoned: str, part: str
) -> None:
    whole = tree({"data.batch_size": 2})  # many steps, so that the regular look finds it
    fine = objectives.ELBO.forward

    def poison(self: Any, vae: models.VAE, batch: Any, step: int) -> Any:
        if step >= 7:
            with torch.no_grad():
                if poisoned == "prior":
                    vae.prior.kl = lambda q, draw: q.kl(draw) + math.inf
                else:
                    vae.get_parameter(poisoned)[0].fill_(math.nan)
        return fine(self, vae, batch, step)

    monkeypatch.setattr(objectives.ELBO, "forward", poison)
    with pytest.raises(Diverged) as raised:
        train(whole, tmp_path, corpus)
    assert (raised.value.step, raised.value.part) == (7, part)
    assert not (tmp_path / checkpoint.LAST).exists()


def test_a_trial_loads_the_corpus_that_it_names(tree: Tree, speak: Callable[..., Corpus]) -> None:
    sizes = {"train": 20, "valid": 5, "test": 5}
    with mock.patch("flowsearch.text.synthetic.OWN_SAMPLE", 100):
        loaded = load_corpus(config.parse(tree({"data.corpus": {"synthetic": sizes}})).data)
    assert loaded.checksum == speak(**sizes).checksum


def test_every_module_has_its_own_optimizer(tree: Tree, corpus: Corpus) -> None:
    settings = config.parse(tree())
    trial = Trial.start(settings, corpus)
    assert set(trial.optimizers) == {"encoder", "posterior", "decoder"}
    held = [
        id(p) for optimizer in trial.optimizers.values() for group in optimizer.param_groups for p in group["params"]
    ]
    assert sorted(held) == sorted(map(id, trial.vae.parameters()))
    assert build_vae(settings.model, 50, bf16=True).bf16


@pytest.mark.parametrize("kind", ["codes", "gauss", "banana", "twin"])
def test_no_trained_model_beats_the_source(tree: Tree, tmp_path: Path, speak: Callable[..., Corpus], kind: str) -> None:
    corpus = speak(kind=kind, train=300, valid=100, test=100)
    whole = tree({"training.epochs": 4, "training.optimizer": {"Adam": {"lr": 0.02}}, "metrics.importance_samples": 20})
    whole["model"]["posterior"] = "IAF"
    *epochs, (bound,) = train(whole, tmp_path, corpus)
    for reading in (reading for epoch in epochs for reading in epoch if reading.split != "train"):
        values = reading.values
        assert values["gap"] >= -3 * values["gap_stderr"]
        assert values["gap"] == pytest.approx(-values["elbo"] - values["entropy"])
    assert bound.values["iw_nll"] >= bound.values["entropy"] - 3 * bound.values["gap_stderr"]
    first, last = epochs[0][1].values, epochs[-1][1].values
    assert last["gap"] < first["gap"] - 1  # it learnt something


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_an_epoch_of_the_reference_protocol_on_real_text(tree: Tree, tmp_path: Path, real_text: Path) -> None:
    if not (real_text / "yahoo_small").is_dir():
        pytest.skip(f"no yahoo_small in {real_text}")
    sizes = {"embedding_size": 128, "hidden_size": 256}
    whole = tree(
        {
            "data.corpus": "yahoo_small",
            "data.root": str(real_text),
            "data.batch_size": 32,
            "model.latent_size": 32,
            "model.encoder": {"LSTMEncoder": sizes},
            "model.decoder": {"LSTMDecoder": {**sizes, "dropout": 0.5}},
            "training.epochs": 1,
        }
    )
    corpus = load_corpus(config.parse(whole).data)
    ((learned, valid, test),) = train(whole, tmp_path, corpus)
    split = corpus.splits["train"]
    targets = torch.from_numpy(split.tokens[split.tokens != 1].astype("int64"))
    share = targets.bincount().double() / len(targets)
    unigram = -(share[share > 0] * share[share > 0].log()).sum().item()
    assert math.log(learned.values["ppl"]) < math.log(len(corpus.vocabulary))
    for reading in (valid, test):
        assert math.isfinite(reading.values["elbo"])
        assert reading.values["elbo"] <= -reading.values["reconstruction"]
        assert math.log(reading.values["ppl"]) < unigram
