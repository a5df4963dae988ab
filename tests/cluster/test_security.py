"""Nobody else gets in: who may ask a Ray of ours for anything, and what is read that others wrote."""

from __future__ import annotations

import http.server
import os
import pickle
import re
import stat
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from flowsearch.errors import Damaged, FlowsearchError
from flowsearch.search import cluster
from flowsearch.search.cluster import QUIET, answers_anybody, refuse_open
from flowsearch.training.checkpoint import BEST, LAST, load_best, load_last, save_last

OURS = """
import json, urllib.error, urllib.request
from pathlib import Path
from types import SimpleNamespace
from flowsearch.search.cluster import TOKEN, answers_anybody, machines

def status(path, **headers):
    try:
        request = urllib.request.Request(there.dashboard + path, headers=headers)
        with urllib.request.urlopen(request, timeout=30) as answer:
            return answer.status
    except urllib.error.HTTPError as error:
        return error.code

with machines(None, SimpleNamespace(cpus_per_trial=1, gpus_per_trial=0, concurrent=1), 1) as there:
    import ray
    from ray._common.usage import usage_lib
    host = there.dashboard.removeprefix("http://")
    bearer = {"Authorization": f"Bearer {TOKEN.read_text()}"}
    told = {
        "host": host.partition(":")[0],
        "without": [status(path) for path in ("/api/jobs/", "/nodes?view=summary", "/api/v0/actors")],
        "wrong": status("/api/jobs/", Authorization="Bearer " + "0" * 64),
        "with": status("/api/jobs/", **bearer),
        "open": answers_anybody(host),
        "file": oct(TOKEN.stat().st_mode & 0o777),
        "folder": sorted(path.name for path in TOKEN.parent.iterdir()),
        "length": len(TOKEN.read_text()),
        "worker": ray.get(ray.remote(lambda: __import__("os").environ["RAY_USAGE_STATS_ENABLED"]).remote()),
        "usage": usage_lib.usage_stats_enabled(),
    }
print(json.dumps(told))
"""


@pytest.mark.ray
@pytest.mark.slow
def test_a_ray_of_ours_answers_only_who_has_the_token(told: Callable[..., Any]) -> None:
    """On a machine that has never had a token: it is made, private, and asked for; nothing is reported to anybody."""
    assert told(OURS) == {
        "host": "127.0.0.1",
        "without": [401, 401, 401],
        "wrong": 403,
        "with": 200,
        "open": False,
        "file": "0o600",
        "folder": ["auth_token"],
        "length": 64,
        "worker": "0",
        "usage": False,
    }


@pytest.fixture
def token(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where the token would be; there is none, and nothing in the environment says anything of it."""
    for name in ("RAY_AUTH_MODE", "RAY_AUTH_TOKEN", "RAY_AUTH_TOKEN_PATH"):
        monkeypatch.delenv(name, raising=False)
    path = tmp_path / ".ray" / "auth_token"
    monkeypatch.setattr(cluster, "TOKEN", path)
    return path


def test_a_token_is_private_from_its_first_byte_and_kept(token: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seen = []
    link = os.link
    monkeypatch.setattr(os, "link", lambda a, b: (seen.append(stat.S_IMODE(Path(a).stat().st_mode)), link(a, b))[1])
    umask = os.umask(0)
    try:
        cluster.keep_token()
    finally:
        os.umask(umask)
    assert seen == [0o600]
    first = token.read_text()
    token.chmod(0o644)
    cluster.keep_token()
    assert token.read_text() == first
    assert stat.S_IMODE(token.stat().st_mode) == 0o600
    assert [path.name for path in token.parent.iterdir()] == ["auth_token"]


@pytest.mark.parametrize(
    ("name", "value"), [("RAY_AUTH_MODE", "disabled"), ("RAY_AUTH_TOKEN", "x"), ("RAY_AUTH_TOKEN_PATH", "x")]
)
def test_no_token_is_made_where_the_environment_has_one_or_wants_none(
    token: Path, monkeypatch: pytest.MonkeyPatch, name: str, value: str
) -> None:
    monkeypatch.setenv(name, value)
    cluster.keep_token()
    assert not token.exists()


def test_a_driver_that_was_first_by_a_moment_keeps_its_token(token: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    link = os.link

    def beaten(partial: Path, path: Path) -> None:
        path.write_text("theirs")
        link(partial, path)

    monkeypatch.setattr(os, "link", beaten)
    cluster.keep_token()
    assert token.read_text() == "theirs"
    assert [path.name for path in token.parent.iterdir()] == ["auth_token"]


def test_usage_reporting_is_off_unless_the_user_says_so() -> None:
    assert QUIET["RAY_USAGE_STATS_ENABLED"] == "0"


@pytest.fixture
def dashboard() -> Iterator[Callable[[int], str]]:
    """Starts a server that answers everything with a status; gives its address."""
    servers = []

    def start(status: int) -> str:
        class Handler(http.server.BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                self.send_response(status)
                self.send_header("Content-Length", "2")
                self.end_headers()
                self.wfile.write(b"[]")

            def log_message(self, *_: Any) -> None:
                pass

        server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        servers.append((server, thread))
        return f"127.0.0.1:{server.server_port}"

    yield start
    for server, thread in servers:
        server.shutdown()
        server.server_close()
        thread.join()


@pytest.mark.parametrize(("status", "is_open"), [(200, True), (401, False), (403, False), (404, False), (500, False)])
def test_a_dashboard_is_open_if_it_lists_its_jobs_to_a_stranger(
    dashboard: Callable[[int], str], status: int, is_open: bool
) -> None:
    assert answers_anybody(dashboard(status)) is is_open


def test_a_dashboard_that_cannot_be_reached_is_not_open(dashboard: Callable[[int], str]) -> None:
    assert not answers_anybody("127.0.0.1:1")


@pytest.mark.parametrize("host", ["10.0.0.5:8265", "0.0.0.0:8265", "[2001:db8::1]:8265", "head.example:8265", "x"])
def test_an_open_dashboard_beyond_its_machine_is_refused(host: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cluster, "answers_anybody", lambda url: True)
    with pytest.raises(FlowsearchError, match="runs anybody's jobs; start the cluster with RAY_AUTH_MODE=token"):
        refuse_open(host)
    monkeypatch.setattr(cluster, "answers_anybody", lambda url: False)
    refuse_open(host)


@pytest.mark.parametrize("host", ["127.0.0.1:8265", "[::1]:8265", "localhost:8265", None])
def test_a_dashboard_for_its_own_machine_may_be_open(host: str | None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cluster, "answers_anybody", lambda url: True)
    refuse_open(host)


class Bomb:
    """Makes a folder when it is unpickled."""

    def __init__(self, mark: Path) -> None:
        self.mark = mark

    def __reduce__(self) -> tuple[Any, tuple[str]]:
        return os.mkdir, (str(self.mark),)


@pytest.mark.parametrize("wrapped", [False, True], ids=["bare pickle", "inside a checkpoint"])
def test_a_checkpoint_is_read_and_never_run(tmp_path: Path, wrapped: bool) -> None:
    mark = tmp_path / "mark"
    if wrapped:
        save_last(tmp_path, {"epoch": 1, "model": Bomb(mark)})
    else:
        (tmp_path / LAST).write_bytes(pickle.dumps({"epoch": 1, "model": Bomb(mark)}))
    with pytest.raises(Damaged, match="not a readable checkpoint"):
        load_last(tmp_path, torch.device("cpu"))
    assert not mark.exists()
    torch.load(tmp_path / LAST, weights_only=False) if wrapped else pickle.loads((tmp_path / LAST).read_bytes())
    assert mark.exists()  # the bomb was a bomb


def test_a_model_is_read_and_never_run(tmp_path: Path) -> None:
    (tmp_path / BEST).write_bytes(pickle.dumps(Bomb(tmp_path / "mark")))
    with pytest.raises(Damaged, match="not a readable model"):
        load_best(tmp_path, torch.device("cpu"))
    assert not (tmp_path / "mark").exists()


def test_nothing_reads_a_pickle() -> None:
    """`torch.load` is told so wherever it is called; Ray's own account of an error, in the driver's folder, is all that
    is unpickled."""
    package = Path(cluster.__file__).parents[1]
    text = {path.name: path.read_text() for path in package.rglob("*.py")}
    assert [name for name, said in text.items() if said.count("torch.load(") != said.count("weights_only=True")] == []
    for forbidden in (
        r"pickle\.loads?\(",
        r"^import pickle",
        r"(?<![.\w])(eval|exec)\(",
        r"yaml\.load\(",
        "shell=True",
    ):
        found = {name for name, said in text.items() if re.search(forbidden, said, re.MULTILINE)}
        assert found <= {"scheduler.py"}, forbidden
    assert text["scheduler.py"].count("pickle.load") == text["scheduler.py"].count("trial.pickled_error_file)")
