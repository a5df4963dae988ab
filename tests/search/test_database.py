"""A study in a database is the study in the journal, whoever stops when; PostgreSQL where there is a server."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import optuna
import pytest
import simulation
from toy_spaces import MakeSpace
from typer.testing import CliRunner

from flowsearch import cli
from flowsearch.errors import BadInput, StudyError
from flowsearch.results import Journal, read
from flowsearch.search import database, follow
from flowsearch.search.database import kept, opened
from flowsearch.search.follow import Follower

TWO = {"elbo": "maximize", "active_units": "maximize"}
SEARCHES: dict[str, dict[str, Any]] = {
    "pruned, confirmed": {"pruner": {"ASHA": {"reduction_factor": 2}}, "confirm": {"best": 1, "seeds": 2}},
    "two objectives": {"objectives": TWO},
}


class PostgreSQL:
    """A server of its own, on a free port of this machine, that can be stopped and started.

    Args:
        folder: of the database.
        programs: the folder of `initdb`.
    """

    def __init__(self, folder: Path, programs: Path) -> None:
        self._data, self._programs = folder / "data", programs
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port = free.getsockname()[1]
        folder.chmod(0o755)
        (folder / "password").write_text("secret\n")
        self._data.mkdir()
        if os.getuid() == 0:  # as which it refuses to run
            for path in (self._data, folder / "password"):
                shutil.chown(path, "nobody")
            for parent in folder.parents[:3]:
                parent.chmod(parent.stat().st_mode | 0o011)
        self._run("initdb", "-U", "me", "-A", "scram-sha-256", f"--pwfile={folder / 'password'}", "-N")
        self.start()

    @property
    def url(self) -> str:
        return f"postgresql+psycopg://me:secret@127.0.0.1:{self.port}/postgres"

    def start(self) -> None:
        self._run("pg_ctl", "start", "-w", "-o", f"-h 127.0.0.1 -p {self.port} -k '' -F", "-l", str(self._data / "log"))

    def stop(self) -> None:
        self._run("pg_ctl", "stop", "-m", "immediate")

    def _run(self, program: str, *arguments: str) -> None:
        user = ["setpriv", "--reuid=nobody", "--regid=nogroup", "--clear-groups"] if os.getuid() == 0 else []
        command = [*user, str(self._programs / program), "-D", str(self._data), *arguments]
        done = subprocess.run(command, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
        assert done.returncode == 0, done.stderr.decode()


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[PostgreSQL]:
    pytest.importorskip("psycopg")
    initdb = shutil.which("initdb") or next(map(str, Path("/usr/lib/postgresql").glob("*/bin/initdb")), None)
    if initdb is None:
        pytest.skip("no PostgreSQL server is installed")
    running = PostgreSQL(tmp_path_factory.mktemp("postgresql"), Path(initdb).resolve().parent)
    yield running
    running.stop()


@pytest.fixture(params=["sqlite", "postgresql"])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    if request.param == "sqlite":
        yield f"sqlite:///{tmp_path / 'studies.db'}"
        return
    address = request.getfixturevalue("server").url
    yield address
    for name in optuna.get_all_study_names(opened(address)):
        optuna.delete_study(study_name=name, storage=opened(address))


@pytest.fixture(params=SEARCHES)
def folder(request: pytest.FixtureRequest, make_space: MakeSpace, tmp_path: Path) -> Path:
    """A study that has ended."""
    space = make_space(search={"trials": 6, **SEARCHES[request.param]})
    simulation.simulate(space, tmp_path / "toy")
    (tmp_path / "toy" / "space.yaml").write_text(space.text())
    return tmp_path / "toy"


class Clock:
    """Always later, so that everything is read at once."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        self.now += 10.0
        return self.now


def seen(study: optuna.Study) -> list[Any]:
    shown = [
        (t.number, t.state, t.params, t.distributions, t.intermediate_values, t.user_attrs, t.values)
        for t in study.trials
    ]
    return [study.directions, *shown]


def grow(folder: Path, text: bytes) -> None:
    with (folder / "journal.jsonl").open("ab") as file:
        file.write(text)


def test_a_database_has_what_memory_has(folder: Path, url: str) -> None:
    Follower(folder, opened(url))
    assert seen(optuna.load_study(study_name="toy", storage=opened(url))) == seen(Follower(folder).study)


def test_a_follower_goes_on_where_another_one_ended(folder: Path, url: str, tmp_path: Path) -> None:
    """After any number of lines another process takes over, which may find anything between nothing and all of it."""
    lines = (folder / "journal.jsonl").read_bytes().splitlines(keepends=True)
    growing = tmp_path / "growing"
    growing.mkdir()
    (growing / "space.yaml").write_bytes((folder / "space.yaml").read_bytes())
    cuts = [1, 2, 3, len(lines) // 3, len(lines) // 2, len(lines) - 1, len(lines)]
    for before, cut in zip([0, *cuts], cuts, strict=False):
        follower = Follower(growing, opened(url), Clock()) if before else None
        grow(growing, b"".join(lines[before:cut]))
        (follower or Follower(growing, opened(url), Clock())).follow()
        assert seen(optuna.load_study(study_name="growing", storage=opened(url))) == seen(Follower(growing).study)


def test_another_study_of_that_name_is_left_alone(folder: Path, url: str) -> None:
    theirs = optuna.create_study(study_name="toy", storage=opened(url))
    theirs.add_trial(optuna.trial.create_trial(value=1.0))
    with pytest.raises(StudyError, match="another study of that name"):
        Follower(folder, opened(url))
    assert len(theirs.trials) == 1


def test_whoever_else_writes_is_noticed(folder: Path, url: str) -> None:
    follower = Follower(folder, opened(url), Clock())
    optuna.load_study(study_name="toy", storage=opened(url)).add_trial(
        optuna.trial.create_trial(state=optuna.trial.TrialState.FAIL)
    )
    with Journal(folder / "journal.jsonl") as journal:
        journal.append({"event": "start", "trial": follower.count(), "params": {}, "attempt": 1})
    with pytest.raises(StudyError, match="somebody else writes"):
        follower.follow()


def test_the_command_copies_a_study(folder: Path, url: str) -> None:
    arguments = ["dashboard", "toy", "--results", str(folder.parent), "--storage", url, "--once"]
    for _ in range(2):
        done = CliRunner().invoke(cli.app, arguments)
        assert (done.exit_code, "secret" in done.output) == (0, False)
        assert f"toy: {len(Follower(folder).study.trials)} trials in " in done.output
    assert seen(optuna.load_study(study_name="toy", storage=opened(url))) == seen(Follower(folder).study)


@pytest.mark.parametrize(
    ("url", "fragment"),
    [
        ("nonsense", "'nonsense'; expected postgresql+psycopg://USER@HOST/DATABASE"),
        ("nosuch://me:secret@db/x", "nosuch://me:***@db/x; expected"),
        ("postgresql+psycopg://me:secret@127.0.0.1:1/x", "postgresql+psycopg://me:***@127.0.0.1:1/x: "),
        ("mysql://me:secret@127.0.0.1:1/x", "its driver is not installed; pip install 'flowsearch[postgresql]'"),
        ("sqlite:////nowhere/at/all.db", "unable to open database file"),
    ],
)
def test_a_bad_address_is_one_line_and_2(folder: Path, url: str, fragment: str) -> None:
    pytest.importorskip("psycopg")
    done = CliRunner().invoke(cli.app, ["dashboard", "toy", "--results", str(folder.parent), "--storage", url])
    assert done.exit_code == 2
    assert done.output.count("\n") == 1
    assert fragment in done.output
    assert "secret" not in done.output


@pytest.mark.slow
def test_a_server_that_goes_away_gets_the_rest_when_it_is_back(
    server: PostgreSQL, make_space: MakeSpace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    space = make_space(search={"trials": 4})
    simulation.simulate(space, tmp_path / "away")
    folder = tmp_path / "away"
    (folder / "space.yaml").write_text(space.text())
    lines = (folder / "journal.jsonl").read_bytes().splitlines(keepends=True)
    (folder / "journal.jsonl").write_bytes(b"".join(lines[:5]))

    def lose() -> None:
        server.stop()
        grow(folder, b"".join(lines[5:]))

    steps: list[Callable[[], None]] = [lose, server.start]
    monkeypatch.setattr(follow, "FRESH", 0.0)

    def happen(seconds: float) -> None:
        steps.pop(0)()

    said = kept(folder, server.url, sleep=happen)
    assert "trials in postgresql+psycopg://me:***@" in next(said)
    assert "is away, asked again every 10 s" in next(said)
    told = next(said)
    assert "is back" in told
    assert seen(optuna.load_study(study_name="away", storage=opened(server.url))) == seen(Follower(folder).study)
    assert f"{len({event['trial'] for event in read(folder / 'journal.jsonl').events})} trials" in told
    optuna.delete_study(study_name="away", storage=opened(server.url))


@pytest.mark.slow
def test_optuna_dashboard_opens_it(server: PostgreSQL, folder: Path) -> None:
    """As anybody would, in a process of its own."""
    pytest.importorskip("optuna_dashboard")
    Follower(folder, opened(server.url))
    program = (
        "import json, sys; from optuna_dashboard import wsgi; from optuna.storages import RDBStorage\n"
        "from wsgiref.util import setup_testing_defaults\n"
        "env = {'PATH_INFO': '/api/studies'}; setup_testing_defaults(env)\n"
        "print(b''.join(wsgi(RDBStorage(sys.argv[1]))(env, lambda *_: None)).decode())"
    )
    done = subprocess.run([sys.executable, "-c", program, server.url], capture_output=True, text=True, timeout=60)
    assert '"study_name": "toy"' in done.stdout, done.stderr
    optuna.delete_study(study_name="toy", storage=opened(server.url))


def test_a_missing_driver_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(*arguments: Any, **options: Any) -> None:
        raise ImportError

    monkeypatch.setattr(database, "RDBStorage", missing)
    with pytest.raises(BadInput, match=r"flowsearch\[postgresql\]"):
        opened("postgresql+psycopg://db/x")
