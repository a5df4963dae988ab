"""optuna-dashboard shows what the journal says, follows it, and changes nothing."""

from __future__ import annotations

import json
import math
import re
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from urllib.error import HTTPError
from urllib.request import Request, urlopen

import pytest
import simulation
from optuna.trial import TrialState
from simulation import Clock
from toy_spaces import MakeSpace
from typer.testing import CliRunner

from flowsearch import cli
from flowsearch.errors import BadInput
from flowsearch.results import Journal, fold, read
from flowsearch.search import dashboard
from flowsearch.search.dashboard import check, server
from flowsearch.search.follow import Follower
from flowsearch.search.space import Space

PRUNED = {"trials": 6, "pruner": {"ASHA": {"reduction_factor": 2}}, "confirm": {"best": 1, "seeds": 2}}


@pytest.fixture
def folder(make_space: MakeSpace, tmp_path: Path) -> Path:
    """A study that has ended: complete, pruned and confirmed trials."""
    return recorded(make_space(search=PRUNED), tmp_path / "toy")


def recorded(space: Space, at: Path) -> Path:
    simulation.simulate(space, at)
    (at / "space.yaml").write_text(space.text())
    return at


def test_every_trial_is_there_with_its_curve_its_parameters_and_how_it_ended(folder: Path) -> None:
    storage = Follower(folder).storage
    trials = storage.get_all_trials(storage.get_all_studies()[0]._study_id)
    told = fold(read(folder / "journal.jsonl").events)
    assert [one.number for one in trials] == sorted(told.trials)
    for one, known in zip(trials, told.trials.values(), strict=True):
        assert one.state.name == known.state
        assert one.params == known.params
        assert one.user_attrs["label"] == known.label
        assert one.user_attrs.get("phase") == known.phase
        assert one.user_attrs.get("reason") == known.reason
        curve = {e: v["elbo"] for (n, e, split), v in told.readings.items() if n == one.number and split == "valid"}
        assert one.intermediate_values == curve
        assert one.user_attrs["kl"] == 2.0
        assert one.user_attrs["active_units"] == one.params["model.latent_size"]
        assert one.value == (max(curve.values()) if known.state == "COMPLETE" else one.value)
    assert {known.state for known in told.trials.values()} == {"COMPLETE", "PRUNED"}
    assert [one.user_attrs["phase"] for one in trials].count("confirm") == 2


def test_it_follows_the_journal_event_by_event(folder: Path, tmp_path: Path) -> None:
    """What a follower holds after any prefix of the journal is what a fresh one makes of that prefix."""
    lines = (folder / "journal.jsonl").read_bytes().splitlines(keepends=True)
    growing = tmp_path / "growing"
    growing.mkdir()
    (growing / "space.yaml").write_bytes((folder / "space.yaml").read_bytes())
    (growing / "journal.jsonl").touch()
    follower = Follower(growing, clock=Clock())
    for place, line in enumerate(lines):
        with (growing / "journal.jsonl").open("ab") as file:
            file.write(line)
        follower.follow()
        if place % 10 == 0 or place == len(lines) - 1:
            assert seen(follower) == seen(Follower(growing))


def seen(follower: Follower) -> list[Any]:
    return [(t.number, t.state, t.params, t.intermediate_values, t.user_attrs, t.value) for t in follower.study.trials]


def test_reading_is_not_done_twice_in_a_moment(folder: Path) -> None:
    follower = Follower(folder, clock=lambda: 5.0)
    before = len(follower.study.trials)
    with Journal(folder / "journal.jsonl") as journal:
        journal.append({"event": "start", "trial": before, "params": {}, "attempt": 1})
    follower.follow()
    assert len(follower.study.trials) == before
    assert len(Follower(folder).study.trials) == before + 1


@pytest.mark.parametrize(
    "params", [{"model.latent_size": 9000, "objective.beta": 0.5}, {"gone": 1}, {}], ids=["out", "unknown", "none"]
)
def test_what_the_space_no_longer_has_and_what_the_journal_has_lost(
    make_space: MakeSpace, tmp_path: Path, params: dict[str, Any]
) -> None:
    (tmp_path / "space.yaml").write_text(make_space(search={"trials": 9}).text())
    nan = [{"split": "valid", "values": {"elbo": math.nan, "kl": 1.0}}]
    with Journal(tmp_path / "journal.jsonl") as journal:
        journal.append({"event": "start", "trial": 2, "params": params, "attempt": 1, "label": "<script>", "seed": 0})
        journal.append({"event": "report", "trial": 2, "epoch": 1, "readings": nan})
        journal.append({"event": "report", "trial": 2, "epoch": 2, "readings": [{"split": "test", "values": {}}]})
        journal.append({"event": "finish", "trial": 2, "state": "COMPLETE", "reason": None, "seconds": 1.0})
        journal.append({"event": "finish", "trial": 2, "state": "FAIL", "reason": "again"})
        journal.append({"event": "report", "trial": 7, "epoch": 1, "readings": nan})
        journal.append({"event": "of another version"})
    trials = Follower(tmp_path).study.trials
    assert [one.state for one in trials] == [TrialState.RUNNING, TrialState.RUNNING, TrialState.FAIL]
    assert trials[2].params == {}
    assert list(trials[2].intermediate_values) == [1]
    assert math.isnan(trials[2].intermediate_values[1])


def test_others_are_not_let_in_unless_it_is_said() -> None:
    for host in ("0.0.0.0", "192.168.0.7", "example.org", "::"):
        with pytest.raises(BadInput, match="asks for no password"):
            check(host, public=False)
        check(host, public=True)
    for host in ("127.0.0.1", "127.3.2.1", "::1", "localhost"):
        check(host, public=False)


def test_a_missing_library_is_one_line_and_2(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dashboard, "find_spec", lambda name: None)
    done = CliRunner().invoke(cli.app, ["dashboard", "toy", "--results", str(folder.parent)])
    assert done.exit_code == 2
    assert done.stderr == (
        "flowsearch: dashboard: optuna-dashboard is not installed; pip install 'flowsearch[dashboard]'\n"
    )


def test_bad_input_is_one_line_and_2(folder: Path) -> None:
    for arguments in (["toy", "--once"], ["toi"], ["toy", "--host", "0.0.0.0"], ["toy", "--port", "70000"]):
        done = CliRunner().invoke(cli.app, ["dashboard", *arguments, "--results", str(folder.parent)])
        assert done.exit_code == 2
        assert "Traceback" not in done.output


@pytest.fixture
def serving(folder: Path) -> Iterator[Callable[..., Any]]:
    """A real server on a free port; asks it for paths."""
    pytest.importorskip("optuna_dashboard")
    with server(Follower(folder, clock=Clock()), "127.0.0.1", 0) as listening:
        thread = threading.Thread(target=listening.serve_forever, kwargs={"poll_interval": 0.02})
        thread.start()

        def ask(path: str, method: str = "GET", **headers: str) -> bytes:
            request = Request(f"http://127.0.0.1:{listening.server_port}{path}", method=method, headers=headers)
            with urlopen(request, timeout=20) as answer:
                return bytes(answer.read())

        yield ask
        listening.shutdown()
        thread.join()


def test_the_dashboard_answers_live(serving: Callable[..., bytes], folder: Path) -> None:
    studies = json.loads(serving("/api/studies"))["study_summaries"]
    assert [one["study_name"] for one in studies] == ["toy"]
    assert b"<html" in serving("/dashboard").lower()
    detail = f"/api/studies/{studies[0]['study_id']}?after=0"
    before = json.loads(serving(detail))["trials"]
    assert len(before) == 8
    assert {one["state"] for one in before} == {"Complete", "Pruned"}
    assert before[0]["intermediate_values"][0]["step"] == 1
    with Journal(folder / "journal.jsonl") as journal:
        params = {"model.latent_size": 12, "objective.beta": 0.5}
        journal.append({"event": "start", "trial": 8, "params": params, "seed": 0, "label": "VAE", "attempt": 1})
    assert len(json.loads(serving("/api/studies"))["study_summaries"]) == 1
    for _ in range(100):  # it keeps its own copy for two seconds
        trials = json.loads(serving(detail))["trials"]
        if len(trials) == 9:
            break
        threading.Event().wait(0.1)
    assert trials[8]["state"] == "Running"
    assert {one["name"] for one in trials[8]["params"]} == {"model.latent_size", "objective.beta"}


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE"])
def test_nothing_can_be_changed(serving: Callable[..., bytes], folder: Path, method: str) -> None:
    before = (folder / "journal.jsonl").read_bytes()
    with pytest.raises(HTTPError, match="405"):
        serving("/api/studies/0", method)
    assert (folder / "journal.jsonl").read_bytes() == before


@pytest.mark.parametrize("name", ["evil.example", "evil.example:8080", "127.0.0.1.evil.example", ""])
def test_a_name_that_somebody_made_to_point_here_is_refused(serving: Callable[..., bytes], name: str) -> None:
    with pytest.raises(HTTPError, match="403"):
        serving("/api/studies", Host=name)
    assert serving("/api/studies", Host="localhost:1234")


@pytest.mark.parametrize("host", ["127.0.0.5", "::1", "localhost"])
def test_the_address_that_is_listened_on_answers(folder: Path, host: str) -> None:
    pytest.importorskip("optuna_dashboard")
    if ":" in host and not has_ipv6():
        pytest.skip("this machine has no IPv6")
    with server(Follower(folder), host, 0) as listening:
        thread = threading.Thread(target=listening.serve_forever, kwargs={"poll_interval": 0.02})
        thread.start()
        try:
            place = f"http://{dashboard.bracketed(host)}:{listening.server_port}/api/studies"
            for name in ({}, {"Host": dashboard.bracketed(host)}, {"Host": "[::1]"}):
                with urlopen(Request(place, headers=name), timeout=20) as answer:
                    assert answer.status == 200
            with pytest.raises(HTTPError, match="403"):
                urlopen(Request(place, headers={"Host": "127.0.0.6"}), timeout=20)
        finally:
            listening.shutdown()
            thread.join()


def has_ipv6() -> bool:
    with socket.socket(socket.AF_INET6) as one:
        try:
            one.bind(("::1", 0))
        except OSError:
            return False
        return True


def test_a_host_that_nobody_knows_is_one_line(folder: Path) -> None:
    pytest.importorskip("optuna_dashboard")
    with pytest.raises(BadInput, match=r"dashboard: nosuch\.invalid:0: "):
        server(Follower(folder), "nosuch.invalid", 0, public=True)


def test_a_port_that_is_taken_is_one_line(folder: Path) -> None:
    pytest.importorskip("optuna_dashboard")
    with server(Follower(folder), "127.0.0.1", 0) as one, pytest.raises(BadInput, match="--port chooses another"):
        server(Follower(folder), "127.0.0.1", one.server_port)


def test_the_command_prints_its_address_and_ends_with_ctrl_c(folder: Path) -> None:
    pytest.importorskip("optuna_dashboard")
    words = ["-m", "flowsearch", "dashboard", "toy", "--results", str(folder.parent), "--port", "0"]
    command = ["env", "--default-signal=INT", sys.executable, *words]  # a background job's children ignore Ctrl-C
    with subprocess.Popen(command, text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        try:
            assert process.stdout is not None
            said = process.stdout.readline()
            address = re.search(r"optuna-dashboard of toy: (http://127\.0\.0\.1:\d+)/dashboard", said)
            assert address is not None
            with urlopen(f"{address[1]}/api/studies", timeout=20) as answer:
                assert json.loads(answer.read())["study_summaries"][0]["study_name"] == "toy"
            process.send_signal(signal.SIGINT)
            _, complaint = process.communicate(timeout=20)
        finally:
            process.kill()
    assert process.returncode == 130
    assert complaint == ""
