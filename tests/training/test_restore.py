"""A trial's model comes back from its folder, or one line says why not."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from flowsearch import metrics
from flowsearch.errors import CorpusError, Damaged
from flowsearch.metrics.samples import write
from flowsearch.text import Corpus, EqualLength, Split, Vocabulary
from flowsearch.training.restore import restore
from flowsearch.training.trial import readings

Tree = Callable[..., dict[str, Any]]


@pytest.fixture
def trained(tree: Tree, tmp_path: Path, corpus: Corpus) -> tuple[Path, list[Any]]:
    """The folder of a trial, and all that it measured."""
    changes = {"model.posterior": {"IAF": {"k": 2, "hidden": 4}}, "training.epochs": 2}
    measured = [reading for epoch in readings(tree(changes), directory=tmp_path, corpus=corpus) for reading in epoch]
    return tmp_path, measured


def test_the_best_model_measures_what_it_measured(trained: tuple[Path, list[Any]], corpus: Corpus) -> None:
    folder, measured = trained
    model = restore(folder, corpus, checksum=corpus.checksum)
    best = [reading for reading in measured if reading.split == "test"][-1]
    batches = EqualLength(corpus.splits["test"], 16)
    again = metrics.likelihood(metrics.evaluate(model.vae, batches.epoch()))
    assert {name: best.values[name] for name in again} == pytest.approx(dict(again), rel=1e-5)
    assert not model.vae.training
    assert model.corpus is corpus
    assert write(model.vae, corpus, points=2, max_words=6).greedy


def test_without_a_corpus_the_one_of_the_configuration_is_loaded(tree: Tree, tmp_path: Path) -> None:
    texts = tmp_path / "texts" / "tiny"
    texts.mkdir(parents=True)
    for split in ("train", "valid", "test"):
        (texts / f"{split}.txt").write_text("the cat\nthe dog sat\n" * 8)
    whole = tree({"data.corpus": "tiny", "data.root": str(tmp_path / "texts"), "training.epochs": 1})
    list(readings(whole, directory=tmp_path / "0"))
    assert restore(tmp_path / "0").corpus.name == "tiny"
    (tmp_path / "texts").rename(tmp_path / "elsewhere")
    with pytest.raises(CorpusError, match="--root says where the corpora lie now"):
        restore(tmp_path / "0")
    moved = restore(tmp_path / "0", root=str(tmp_path / "elsewhere"))
    assert len(moved.corpus.vocabulary) == 8


def test_a_corpus_with_other_words_is_refused(trained: tuple[Path, list[Any]], corpus: Corpus) -> None:
    folder, _ = trained
    more = replace(corpus, vocabulary=Vocabulary((*corpus.vocabulary.words, "unheard")))
    words = len(corpus.vocabulary)
    with pytest.raises(CorpusError, match=rf"a model of {words} words; corpus synthetic has {words + 1}"):
        restore(folder, more)
    cut = replace(corpus, splits={**corpus.splits, "test": Split.encode(corpus.vocabulary, [["a"]])})
    with pytest.raises(CorpusError, match="corpus synthetic has changed since the study was run"):
        restore(folder, cut, checksum=corpus.checksum)


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("config.json", None, r"config.json: not a readable configuration \(FileNotFoundError\)"),
        ("config.json", b"{", "config.json: not a readable configuration"),
        ("config.json", b"[]", "config.json: "),
        ("config.json", b"{}", "config.json: .*missing"),
        ("config.json", b"\xff", "config.json: not a readable configuration"),
        ("best.safetensors", None, "best.safetensors: not a readable model"),
        ("best.safetensors", b"no tensors", "best.safetensors: not a readable model"),
    ],
)
def test_a_file_that_is_missing_or_damaged_is_named(
    trained: tuple[Path, list[Any]], corpus: Corpus, name: str, content: bytes | None, message: str
) -> None:
    folder, _ = trained
    if content is None:
        (folder / name).unlink()
    else:
        (folder / name).write_bytes(content)
    with pytest.raises(Damaged, match=message) as raised:
        restore(folder, corpus)
    assert "\n" not in str(raised.value)


def test_weights_of_another_model_are_refused(trained: tuple[Path, list[Any]], corpus: Corpus) -> None:
    folder, _ = trained
    config = json.loads((folder / "config.json").read_text())
    config["model"]["latent_size"] += 1
    (folder / "config.json").write_text(json.dumps(config))
    with pytest.raises(Damaged, match=r"not the model that config\.json describes"):
        restore(folder, corpus)


def test_restoring_leaves_the_global_generator_alone(trained: tuple[Path, list[Any]], corpus: Corpus) -> None:
    before = torch.get_rng_state()
    restore(trained[0], corpus)
    assert torch.equal(torch.get_rng_state(), before)
