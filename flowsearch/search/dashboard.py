"""The study in optuna-dashboard: an Optuna study in memory that follows the journal, served to this machine.

    mirror = Mirror(find(results, "iaf"))
    serve(mirror, "127.0.0.1", 8080)

The journal is read, never written: whatever somebody does in the browser changes nothing that was measured.

1. Every request first takes in what the journal has gained, at most once in `FRESH` seconds.
2. Curves are intermediate values, an epoch each, those of the warm-up included: what was measured, not what the pruner
   saw. NaN is kept.
3. A trial has the number of its Optuna trial, also where the journal has lost a start. A trial that confirms has the
   user attribute `phase`.
4. Recorded parameters that the space no longer has leave a trial without parameters.
5. Only reading requests are served, and only under this machine's own names, so that no web page can reach the server
   through a name that it has made to point here (DNS rebinding).
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterable, Mapping
from importlib.util import find_spec
from ipaddress import ip_address
from pathlib import Path
from socketserver import ThreadingMixIn
from typing import Any
from wsgiref.simple_server import WSGIRequestHandler, WSGIServer, make_server

import optuna
from optuna.storages import InMemoryStorage
from optuna.trial import TrialState

from flowsearch.errors import BadInput, SpaceError
from flowsearch.results import read
from flowsearch.results.store import JOURNAL
from flowsearch.search.space import Space, draw, load, rebuild

FRESH = 1.0
"""Seconds for which what was read of the journal is taken to be all of it."""

SHOWN = ("kl", "active_units", "ppl", "mutual_information")
"""Metrics of the latest validation reading that a trial has as user attributes."""

LOCAL = ("localhost", "127.0.0.1", "[::1]", "::1")
"""Names of this machine that no name server decides."""

Environment = dict[str, Any]
Application = Callable[[Environment, Any], Iterable[bytes]]


def storage_of(folder: Path) -> InMemoryStorage:
    """An Optuna storage with everything that a study's journal holds now.

    Args:
        folder: of the study.
    """
    return Mirror(folder).storage


class Mirror:
    """A study's journal as an Optuna study, which grows as the journal does.

    Args:
        folder: of the study.
        clock: seconds, from any origin.

    Raises:
        SpaceError: the study's own space cannot be read.
    """

    def __init__(self, folder: Path, clock: Callable[[], float] = time.monotonic) -> None:
        optuna.logging.set_verbosity(optuna.logging.WARNING)
        self._folder, self._clock = folder, clock
        self._space: Space = load(folder / "space.yaml")
        self._lock = threading.Lock()
        self._offset, self._read = 0, -FRESH
        self._trials: dict[int, optuna.Trial] = {}
        self.storage = InMemoryStorage()
        self.study = optuna.create_study(
            study_name=folder.name,
            storage=self.storage,
            direction="maximize",
            sampler=optuna.samplers.RandomSampler(seed=0),
        )
        self.follow()

    def follow(self) -> None:
        """Take in what the journal has gained since the last time."""
        with self._lock:
            if self._clock() - self._read < FRESH:
                return
            self._read = self._clock()
            found = read(self._folder / JOURNAL, self._offset)
            self._offset = found.end
            for event in found.events:
                step = STEPS.get(event["event"])
                if step is not None:
                    step(self, event)

    def start(self, event: Mapping[str, Any]) -> None:
        """A trial begins, or begins again."""
        number = int(event["trial"])
        while len(self.study.get_trials(deepcopy=False)) < number:
            self._ask({})
        if number not in self._trials:
            trial = self._ask(event["params"])
            for name in ("label", "seed", "phase"):
                if event.get(name) is not None:
                    trial.set_user_attr(name, event[name])

    def report(self, event: Mapping[str, Any]) -> None:
        """An epoch was measured."""
        trial = self._running(event)
        valid = next((one["values"] for one in event["readings"] if one["split"] == "valid"), None)
        if trial is None or valid is None or "elbo" not in valid:
            return
        trial.report(float(valid["elbo"]), int(event["epoch"]))
        for name in SHOWN:
            if name in valid:
                trial.set_user_attr(name, valid[name])

    def finish(self, event: Mapping[str, Any]) -> None:
        """A trial ends."""
        trial = self._running(event)
        if trial is None:
            return
        for name in ("reason", "seconds", "best_epoch"):
            if event.get(name) is not None:
                trial.set_user_attr(name, event[name])
        curve = self.study.get_trials(deepcopy=False)[trial.number].intermediate_values
        finite = [value for value in curve.values() if value == value]
        is_complete = event["state"] == "COMPLETE" and bool(finite)
        state = TrialState[event["state"]] if is_complete or event["state"] != "COMPLETE" else TrialState.FAIL
        self.study.tell(trial, max(finite) if is_complete else None, state=state)

    def _ask(self, params: Mapping[str, Any]) -> optuna.Trial:
        """The next trial, with these parameters if the space has them."""
        try:
            rebuild(self._space, params)
            self.study.enqueue_trial(dict(params))
            trial = self.study.ask()
            draw(self._space, trial)
        except SpaceError:
            trial = self.study.ask()
        self._trials[trial.number] = trial
        return trial

    def _running(self, event: Mapping[str, Any]) -> optuna.Trial | None:
        number = int(event["trial"])
        trials = self.study.get_trials(deepcopy=False)
        is_running = number < len(trials) and not trials[number].state.is_finished()
        return self._trials[number] if is_running else None


STEPS: Mapping[str, Callable[[Mirror, Mapping[str, Any]], None]] = {
    "start": Mirror.start,
    "report": Mirror.report,
    "finish": Mirror.finish,
}


def check(host: str, *, public: bool) -> None:
    """Refuse to serve what cannot be served, or what was not meant to be.

    Args:
        host: the address to listen on.
        public: whether others may reach it: the dashboard asks nobody who they are.

    Raises:
        BadInput: with what to do.
    """
    if find_spec("optuna_dashboard") is None:
        raise BadInput("dashboard: optuna-dashboard is not installed; pip install 'flowsearch[dashboard]'")
    if not is_local(host) and not public:
        raise BadInput(
            f"--host: '{host}' lets others in, and optuna-dashboard asks for no password; reach it through "
            "ssh -L 8080:127.0.0.1:8080, or say --public"
        )


def is_local(host: str) -> bool:
    """Whether an address is this machine's own.

    >>> is_local("127.0.0.1"), is_local("::1"), is_local("localhost"), is_local("0.0.0.0"), is_local("example.org")
    (True, True, True, False, False)
    """
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def application(mirror: Mirror, *, public: bool = False) -> Application:
    """optuna-dashboard on a mirror that is brought up to date before each answer.

    Args:
        mirror: of the study.
        public: whether to answer under any name.
    """
    from optuna_dashboard import wsgi

    inner: Application = wsgi(mirror.storage)

    def answer(environment: Environment, start: Any) -> Iterable[bytes]:
        name = environment.get("HTTP_HOST", "").rpartition(":")[0] or environment.get("HTTP_HOST", "")
        if environment["REQUEST_METHOD"] not in ("GET", "HEAD"):
            return refuse(start, "405 Method Not Allowed", "this dashboard only shows; the study is not changed here")
        if not public and name not in LOCAL:
            return refuse(start, "403 Forbidden", "ask for 127.0.0.1 or localhost")
        mirror.follow()
        return inner(environment, start)

    return answer


def refuse(start: Any, status: str, reason: str) -> list[bytes]:
    """A short answer that says no."""
    start(status, [("Content-Type", "text/plain; charset=utf-8")])
    return [f"{reason}\n".encode()]


class Server(ThreadingMixIn, WSGIServer):
    """Answers several requests at a time; the process does not wait for them when it ends."""

    daemon_threads = True


class Quiet(WSGIRequestHandler):
    """Logs no request."""

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002  the base class' own name
        """Nothing."""


def server(mirror: Mirror, host: str, port: int, *, public: bool = False) -> WSGIServer:
    """A server for a mirror, listening; `serve_forever` answers.

    Args:
        mirror: of the study.
        host: the address to listen on.
        port: 0 takes any that is free.
        public: as in `check`.

    Raises:
        BadInput: the port is taken, or the address is not this machine's.
    """
    app: Any = application(mirror, public=public)
    try:
        return make_server(host, port, app, server_class=Server, handler_class=Quiet)
    except OSError as error:
        raise BadInput(f"dashboard: {host}:{port}: {error.strerror or error}; --port chooses another") from error
