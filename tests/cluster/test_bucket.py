"""A study whose driver is gone with its disk goes on from its bucket: S3 over HTTP, real training, the command line."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import yaml

from flowsearch.results import load, read

SPACE = {
    "defaults": ["base", "_self_"],
    "study": "toy",
    "data": {"corpus": {"synthetic": {"train": 256, "valid": 64, "test": 64}}},
    "model": {
        "latent_size": 4,
        "encoder": {"LSTMEncoder": {"embedding_size": 16, "hidden_size": 16}},
        "decoder": {"LSTMDecoder": {"embedding_size": 16, "hidden_size": 16, "dropout": 0.5}},
    },
    "objective": {"beta": {"choice": [0.5, 1.0]}},
    "training": {"epochs": 3},
    "search": {"sampler": "Grid"},
    "resources": {"concurrent": 1},
}


def flowsearch(*words: str) -> str:
    done = subprocess.run([sys.executable, "-m", "flowsearch", *words], capture_output=True, text=True, timeout=150)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.mark.ray
@pytest.mark.slow
def test_a_study_goes_on_from_its_bucket(tmp_path: Path, s3: str) -> None:
    (tmp_path / "toy.yaml").write_text(yaml.safe_dump(SPACE, sort_keys=False))
    words = ["run", str(tmp_path / "toy.yaml"), "--plain", "--mirror", s3]
    here, there = tmp_path / "here", tmp_path / "there"
    command = [sys.executable, "-m", "flowsearch", *words, "--results", str(here)]
    driver = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    journal, end = here / "toy" / "journal.jsonl", time.monotonic() + 120
    while not journal.exists() or journal.read_bytes().count(b'"event":"finish"') < 1:
        assert driver.poll() is None
        assert time.monotonic() < end
        time.sleep(0.05)
    driver.send_signal(signal.SIGTERM)
    assert driver.wait(60) == 143
    before = read(journal).events

    assert "VAE" in flowsearch("report", "toy", "--results", s3, "--split", "valid")
    flowsearch("fetch", s3, "toy", "--results", str(there))
    assert read(there / "toy" / "journal.jsonl").events == before
    os.rename(here, tmp_path / "gone")
    flowsearch(*words, "--results", str(there), "--resume")
    study = load(there / "toy")
    assert {trial.state for trial in study.trials.values()} == {"COMPLETE"}
    assert read(there / "toy" / "journal.jsonl").events[: len(before)] == before
    assert flowsearch("report", "toy", "--results", s3) == flowsearch("report", "toy", "--results", str(there))
