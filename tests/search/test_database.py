"""A study in a database is the study in the journal, whoever stops when; PostgreSQL where there is a server."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import optuna
import pytest
import simulation
from simulation import Clock
from sqlalchemy.exc import OperationalError
from toy_spaces import MakeSpace
from typer.testing import CliRunner

from flowsearch import cli
from flowsearch.errors import BadInput, StudyError
from flowsearch.results import Journal, read
from flowsearch.search import database, follow
from flowsearch.search.database import kept, opened
from flowsearch.search.follow import ORIGIN, Follower

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
def server() -> Iterator[PostgreSQL]:
    pytest.importorskip("psycopg")
    initdb = shutil.which("initdb") or next(map(str, Path("/usr/lib/postgresql").glob("*/bin/initdb")), None)
    if initdb is None:
        pytest.skip("no PostgreSQL server is installed")
    with tempfile.TemporaryDirectory(prefix="postgresql-") as folder:  # its user may not enter pytest's
        running = PostgreSQL(Path(folder), Path(initdb).resolve().parent)
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


def ran(folder: Path, url: str) -> Any:
    arguments = ["dashboard", "toy", "--results", str(folder.parent), "--storage", url, "--once"]
    return CliRunner().invoke(cli.app, arguments)


def refused(folder: Path, url: str, fragment: str) -> None:
    """By the command, in a line that shows no password."""
    done = ran(folder, url)
    assert (done.exit_code, done.output.count("\n"), "secret" in done.output) == (2, 1, False), done.output
    assert fragment in done.output


def begun(folder: Path, url: str, **options: Any) -> optuna.Study:
    """A study in a database that says that it is the folder's."""
    study = optuna.create_study(study_name="toy", storage=opened(url), **options)
    study.set_user_attr(ORIGIN, read(folder / "journal.jsonl").events[0]["time"])
    return study


def until_the_last_finish(folder: Path) -> bytes:
    """Cut the journal before it, and give what was cut."""
    lines = (folder / "journal.jsonl").read_bytes().splitlines(keepends=True)
    cut = max(place for place, line in enumerate(lines) if b'"finish"' in line)
    (folder / "journal.jsonl").write_bytes(b"".join(lines[:cut]))
    return b"".join(lines[cut:])


def test_rows_that_are_not_the_journals_are_not_added_to(folder: Path, url: str) -> None:
    known = Follower(folder).study
    directions = ["maximize"] * len(known.directions)
    study = begun(folder, url, directions=directions)
    study.add_trials([known.trials[0], *known.trials[:3]])
    refused(folder, url, "optuna delete-study --study-name toy --storage URL makes room, then start again")
    assert len(study.trials) == 4


def test_a_row_more_than_the_journal_has_is_refused(folder: Path, url: str) -> None:
    last = Follower(folder, opened(url)).study.trials[-1]
    optuna.load_study(study_name="toy", storage=opened(url)).add_trial(last)
    refused(folder, url, f"trial {last.number + 1} in the storage is not the journal's")


def test_of_two_followers_the_later_one_writes_no_row_twice(folder: Path, url: str) -> None:
    both = [Follower(folder, opened(url), Clock()) for _ in range(2)]
    with Journal(folder / "journal.jsonl") as journal:
        journal.append({"event": "start", "trial": both[0].count(), "params": {}, "attempt": 1})
    both[0].follow()
    with pytest.raises(StudyError, match="somebody else writes"):
        both[1].follow()
    assert seen(optuna.load_study(study_name="toy", storage=opened(url))) == seen(Follower(folder).study)


def test_one_follower_at_a_time(server: PostgreSQL, folder: Path) -> None:
    first = kept(folder, server.url)
    next(first)
    refused(folder, server.url, "toy: another follower keeps this study in the database")
    first.close()
    second = kept(folder, server.url)
    assert "trials in" in next(second)
    second.close()
    optuna.delete_study(study_name="toy", storage=opened(server.url))


def test_a_trial_that_another_follower_has_ended_is_no_error(folder: Path, url: str) -> None:
    rest = until_the_last_finish(folder)
    both = [Follower(folder, opened(url), Clock()) for _ in range(2)]
    grow(folder, rest)
    for follower in both:
        follower.follow()
    assert seen(optuna.load_study(study_name="toy", storage=opened(url))) == seen(Follower(folder).study)


def test_a_trial_that_a_person_has_ended_is_one_line(folder: Path, url: str) -> None:
    rest = until_the_last_finish(folder)
    follower = Follower(folder, opened(url), Clock())
    running = next(trial for trial in follower.study.trials if not trial.state.is_finished())
    opened(url).set_trial_state_values(running._trial_id, optuna.trial.TrialState.FAIL)
    grow(folder, rest)
    with pytest.raises(StudyError, match=f"somebody else has ended trial {running.number}"):
        follower.follow()
    refused(folder, url, f"trial {running.number} in the storage is not the journal's")


def test_a_study_that_was_deleted_meanwhile_is_one_line(folder: Path, url: str) -> None:
    rest = until_the_last_finish(folder)
    follower = Follower(folder, opened(url), Clock())
    optuna.delete_study(study_name="toy", storage=opened(url))
    grow(folder, rest)
    with pytest.raises(StudyError, match="was deleted from the storage; the same command makes it anew"):
        follower.follow()


def test_who_may_only_read_is_told_so(folder: Path, url: str) -> None:
    opened(url)
    if url.startswith("sqlite"):
        refused(folder, url.replace("sqlite:///", "sqlite:///file:") + "?mode=ro&uri=true", "readonly database")
    else:
        refused(folder, f"{url}?options=-cdefault_transaction_read_only%3Don", "read-only transaction")


def test_a_study_whose_maker_was_killed_at_once_is_ours(folder: Path, url: str) -> None:
    directions = ["maximize"] * len(Follower(folder).study.directions)
    optuna.create_study(study_name="toy", storage=opened(url), directions=directions)
    study = Follower(folder, opened(url)).study
    assert seen(study) == seen(Follower(folder).study)
    assert study.user_attrs[ORIGIN] == read(folder / "journal.jsonl").events[0]["time"]
    with pytest.warns(optuna.exceptions.ExperimentalWarning):
        study.set_metric_names([*study.metric_names])


def test_a_study_that_has_not_begun_is_not_kept(folder: Path, url: str) -> None:
    (folder / "journal.jsonl").write_bytes(b"")
    refused(folder, url, "toy: the study has not begun yet")
    assert optuna.get_all_study_names(opened(url)) == []
    assert Follower(folder).count() == 0


def test_other_objectives_are_refused(folder: Path, url: str) -> None:
    begun(folder, url, directions=["minimize"])
    refused(folder, url, "the study in the storage has other objectives")


def test_the_command_copies_a_study(folder: Path, url: str) -> None:
    for _ in range(2):
        done = ran(folder, url)
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
        ("postgresql+psycopg://me:secret@h:abc/db", "'h:abc/db'; expected"),
        ("postgresql+psycopg://me:secret@[::1/db", "'[::1/db'; expected"),
        ("postgresql+psycopg://h:abc/db?password=secret", "//h:abc/db'; expected"),
        ("postgresql+psycopg://me:a?secret@h:abc/db", "postgresql+psycopg://...'; expected"),
        ("postgresql+psycopg://me:{secret}@h/db", "me:***@h/db; expected"),
        ("sqlite:///x.db?timeout=no", "sqlite:///x.db?timeout=no; expected"),
        ("postgresql+psycopg://me:a@secret@127.0.0.1:1/x", "me:***@127.0.0.1:1/x: "),
        ("postgresql+psycopg://127.0.0.1:1/x?password=secret", "127.0.0.1:1/x?password=***: "),
        ("postgresql+psycopg://127.0.0.1:1/x?sslpassword=secret&sslmode=prefer", "sslmode=prefer&sslpassword=***: "),
    ],
)
def test_a_bad_address_is_one_line_and_2(folder: Path, url: str, fragment: str) -> None:
    pytest.importorskip("psycopg")
    refused(folder, url, fragment)


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


def test_what_a_server_says_is_cleaned(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*arguments: Any, **options: Any) -> None:
        raise OperationalError("SELECT", {}, Exception("no\x1b]0;title\x07 secret\nmore"))

    monkeypatch.setattr(database, "RDBStorage", refuse)
    with pytest.raises(BadInput) as caught:
        opened("postgresql+psycopg://me:secret@db/x")
    assert str(caught.value).isprintable()
    assert "secret" not in str(caught.value)
