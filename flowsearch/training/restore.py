"""A trial's best model, from what its folder holds."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from flowsearch.errors import CorpusError, Damaged, SpaceError
from flowsearch.models import VAE
from flowsearch.text import Corpus
from flowsearch.training import checkpoint, config
from flowsearch.training.config import TrialConfig
from flowsearch.training.trial import build_vae, load_corpus


@dataclass(frozen=True)
class Restored:
    """A model and what it was made from.

    Args:
        vae: in evaluation mode, on the CPU or the GPU that there is.
        corpus: that it was trained on.
        settings: of its trial.
    """

    vae: VAE
    corpus: Corpus
    settings: TrialConfig


def restore(
    directory: Path, corpus: Corpus | None = None, *, root: str | None = None, checksum: str | None = None
) -> Restored:
    """The best model of a trial.

    Args:
        directory: the trial's folder, with `best.safetensors` and `config.json`.
        corpus: already loaded; None loads what the configuration names.
        root: where the corpora lie now; None where the configuration says.
        checksum: that the corpus had.

    Raises:
        CorpusError: the corpus cannot be loaded, or is not the one that the model was trained on.
        Damaged: a file is missing, or cannot be read.
    """
    settings = read_config(directory / checkpoint.CONFIG)
    corpus = corpus or find_corpus(settings, root)
    if checksum is not None and corpus.checksum != checksum:
        raise CorpusError(f"corpus {corpus.name} has changed since the study was run; --root says where corpora lie")
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    with torch.random.fork_rng(devices=[]):
        vae = build_vae(settings.model, len(corpus.vocabulary), bf16=settings.training.precision == "bf16")
    weights = checkpoint.load_best(directory, device)
    check_words(weights, vae.state_dict(), corpus, directory)
    try:
        vae.load_state_dict(weights)
    except RuntimeError as error:
        raise Damaged(f"{directory / checkpoint.BEST}: not the model that config.json describes") from error
    return Restored(vae.to(device).eval(), corpus, settings)


def read_config(path: Path) -> TrialConfig:
    """The configuration that a trial left beside its model.

    Raises:
        Damaged: it is missing, or this version cannot read it.
    """
    try:
        return config.parse(json.loads(path.read_text()))
    except (OSError, ValueError, AttributeError) as error:
        raise Damaged(f"{path}: not a readable configuration ({type(error).__name__})") from error
    except SpaceError as error:
        raise Damaged(f"{path}: {error}") from error


def find_corpus(settings: TrialConfig, root: str | None) -> Corpus:
    """The corpus of a configuration, under another root if one is given.

    Raises:
        CorpusError: with the advice that there is such an option.
    """
    data = settings.data if root is None else settings.data.model_copy(update={"root": root})
    try:
        return load_corpus(data)
    except CorpusError as error:
        raise CorpusError(f"{error}; --root says where the corpora lie now") from error


def check_words(weights: Mapping[str, Tensor], built: Mapping[str, Tensor], corpus: Corpus, directory: Path) -> None:
    """Raises CorpusError where a weight that should have a row per word has another number of rows."""
    words = len(corpus.vocabulary)
    for name, tensor in built.items():
        saved = weights.get(name, tensor)
        if saved.shape != tensor.shape and tensor.shape[:1] == (words,):
            raise CorpusError(f"{directory}: a model of {len(saved)} words; corpus {corpus.name} has {words}")
