"""What the tests of several rooms share: a tiny corpus, a configuration that trains on it in a blink, real text."""

from __future__ import annotations

import copy
import os
from collections.abc import Callable, Iterator, Mapping
from importlib import resources
from pathlib import Path
from typing import Any
from unittest import mock

import pytest
import torch
import yaml
from pyarrow import fs

from flowsearch.text import Corpus, synthetic
from flowsearch.training.config import TrialConfig

torch.set_num_threads(1)

TINY = {
    "data.batch_size": 16,
    "model.latent_size": 2,
    "model.encoder": {"LSTMEncoder": {"embedding_size": 8, "hidden_size": 12}},
    "model.decoder": {"LSTMDecoder": {"embedding_size": 8, "hidden_size": 12, "dropout": 0.5}},
    "training.epochs": 3,
}
"""base.yaml with sizes that train an epoch in a tenth of a second."""


@pytest.fixture(scope="session")
def speak() -> Callable[..., Corpus]:
    """`synthetic` with facts from few sentences; they are expensive, and most tests do not ask for them."""

    def few(**knobs: Any) -> Corpus:
        with mock.patch("flowsearch.text.synthetic.OWN_SAMPLE", 100):
            return synthetic(**{"train": 96, "valid": 48, "test": 40} | knobs)

    return few


@pytest.fixture(scope="session")
def corpus(speak: Callable[..., Corpus]) -> Corpus:
    """A tiny synthetic corpus."""
    return speak()


@pytest.fixture(scope="session")
def defaults() -> dict[str, Any]:
    """The sections of base.yaml that make a trial."""
    text = resources.files("flowsearch").joinpath("base.yaml").read_text(encoding="utf-8")
    return {key: value for key, value in yaml.safe_load(text).items() if key in TrialConfig.model_fields}


@pytest.fixture
def tree(defaults: dict[str, Any]) -> Callable[..., dict[str, Any]]:
    """Makes a tiny configuration, some of its dotted keys changed: `tree({"model.latent_size": 3})`."""

    def make(changes: Mapping[str, Any] | None = None) -> dict[str, Any]:
        whole = copy.deepcopy(defaults)
        for path, value in {**TINY, **(changes or {})}.items():
            *sections, key = path.split(".")
            inner = whole
            for section in sections:
                inner = inner[section]
            inner[key] = value
        return whole

    return make


@pytest.fixture
def in_float64() -> Iterator[None]:
    """Modules are made in float64, where rounding does not hide a difference."""
    torch.set_default_dtype(torch.float64)
    yield
    torch.set_default_dtype(torch.float32)


@pytest.fixture(scope="session")
def s3() -> Iterator[str]:
    """The address of a folder in an S3 that is served here: real requests, over HTTP, to a bucket in memory."""
    server = pytest.importorskip("moto.server").ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    account = {"AWS_ACCESS_KEY_ID": "testing", "AWS_SECRET_ACCESS_KEY": "testing", "AWS_EC2_METADATA_DISABLED": "true"}
    with mock.patch.dict(os.environ, account):
        address = f"s3://bucket/studies?endpoint_override={host}:{port}&scheme=http&region=us-east-1"
        found, path = fs.FileSystem.from_uri(f"{address}&allow_bucket_creation=true")
        found.create_dir(path.partition("/")[0])
        yield address
    server.stop()


@pytest.fixture(scope="session")
def real_text() -> Path:
    """The folder of real corpora: $FLOWSEARCH_DATA, else the one beside the checkout."""
    beside = Path(__file__).parents[2] / "shared" / "data"
    home = Path(os.environ.get("FLOWSEARCH_DATA", beside))
    if not home.is_dir():
        pytest.skip(f"no real text: {home} is not a folder (set FLOWSEARCH_DATA)")
    return home
