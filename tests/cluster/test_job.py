"""`ray job submit -- flowsearch run ...`, for real: a head here that wants a token, a study sent to its jobs API."""

from __future__ import annotations

import os
import secrets
import signal
import socket
import subprocess
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
import yaml

from flowsearch.results import load

SPACE = {
    "defaults": ["base", "_self_"],
    "study": "sent",
    "data": {"corpus": {"synthetic": {"train": 64, "valid": 16, "test": 16}}},
    "model": {
        "latent_size": {"choice": [2, 3]},
        "encoder": {"LSTMEncoder": {"embedding_size": 4, "hidden_size": 4}},
        "decoder": {"LSTMDecoder": {"embedding_size": 4, "hidden_size": 4, "dropout": 0.5}},
    },
    "training": {"epochs": 2},
    "search": {"trials": 2, "sampler": "Grid"},
}

pytestmark = [pytest.mark.ray, pytest.mark.slow]


@dataclass(frozen=True)
class Head:
    """A Ray that somebody has started.

    Args:
        url: of its dashboard.
        environment: of one who knows its token.
        stranger: of one who does not.
    """

    url: str
    environment: dict[str, str]
    stranger: dict[str, str]

    def status(self, path: str, **headers: str) -> int:
        """What the dashboard answers; 0 while it does not."""
        try:
            with urllib.request.urlopen(urllib.request.Request(self.url + path, headers=headers), timeout=10) as answer:
                return int(answer.status)
        except urllib.error.HTTPError as error:
            return error.code
        except OSError:
            return 0


def free_ports(count: int) -> list[int]:
    """Ports of the loopback interface that nobody listens on."""
    sockets = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    ports = [opened.getsockname()[1] for opened in sockets]
    for opened in sockets:
        opened.close()
    return ports


def processes_of(folder: Path) -> list[int]:
    """Processes whose command names a folder, which is nobody else's."""
    found = subprocess.run(["ps", "-eo", "pid,args"], capture_output=True, text=True, check=True).stdout.splitlines()
    return [int(line.split()[0]) for line in found if str(folder) in line]


@pytest.fixture
def head(home: Path, environment: dict[str, str]) -> Iterator[Head]:
    port, dashboard, client, metrics, agent = free_ports(5)
    stranger = environment | {"HOME": str(home / "stranger"), "RAY_USAGE_STATS_ENABLED": "0"}
    known = environment | {
        "RAY_AUTH_MODE": "token",
        "RAY_AUTH_TOKEN": secrets.token_hex(32),
        "RAY_USAGE_STATS_ENABLED": "0",
    }
    Path(stranger["HOME"]).mkdir()
    command = f"ray start --head --port={port} --dashboard-host=127.0.0.1 --dashboard-port={dashboard} --num-cpus=2"
    command += f" --ray-client-server-port={client} --metrics-export-port={metrics} --temp-dir={home / 'ray'} --block"
    command += f" --dashboard-agent-listen-port={agent}"
    log = (home / "log").open("w")
    process = subprocess.Popen(command.split(), env=known, stdout=log, stderr=subprocess.STDOUT)
    found = Head(f"http://127.0.0.1:{dashboard}", known, stranger)
    bearer = f"Bearer {known['RAY_AUTH_TOKEN']}"
    for _ in range(240):
        if process.poll() is not None or found.status("/api/jobs/", Authorization=bearer) == 200:
            break
        time.sleep(0.5)
    assert process.poll() is None, (home / "log").read_text()
    yield found
    process.terminate()
    process.wait(30)
    log.close()
    for left in processes_of(home / "ray"):
        os.kill(left, signal.SIGKILL)


def submit(head: Head, environment: dict[str, str], folder: Path) -> subprocess.CompletedProcess[str]:
    """As `cluster/README.md` has it."""
    command = ["ray", "job", "submit", "--address", head.url, "--working-dir", str(folder / "spaces"), "--"]
    command += ["flowsearch", "run", "sent.yaml", "--address", "auto", "--results", str(folder / "results")]
    for _ in range(30):
        done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=240, check=False)
        if "No available agent" not in done.stderr:  # the head answers before it can take jobs
            break
        time.sleep(1)
    return done


def test_a_study_is_sent_by_who_has_the_token_and_by_nobody_else(head: Head, home: Path) -> None:
    (home / "spaces").mkdir()
    (home / "spaces" / "sent.yaml").write_text(yaml.safe_dump(SPACE))
    assert head.status("/api/jobs/") == 401
    refused = submit(head, head.stranger, home)
    assert refused.returncode != 0
    assert not (home / "results").exists()

    done = submit(head, head.environment, home)
    said = done.stdout + done.stderr
    assert done.returncode == 0, said
    assert "sent: 2 of 2 trials ended (2 COMPLETE)" in said
    assert "succeeded" in said
    study = load(home / "results" / "sent")
    assert [trial.state for trial in study.trials.values()] == ["COMPLETE", "COMPLETE"]
    assert study.notes == ()
    assert sorted(study.metrics.epoch[study.metrics.split == 1].tolist()) in ([1, 1, 2, 2], [2, 2])
    shown = subprocess.run(
        ["flowsearch", "report", "sent", "--results", str(home / "results")],
        env=head.environment,
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    assert "Trials: 2 COMPLETE" in shown
