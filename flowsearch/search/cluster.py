"""The machines: a Ray of our own on this computer, or a cluster that is there already.

1. Our own Ray has its dashboard on 127.0.0.1 and token authentication on all its ports, those that Ray opens to the
   network among them; only RAY_AUTH_MODE=disabled turns it off. The token lies in a file that its owner alone can read.
2. A cluster whose dashboard serves others than its own machine without asking for a token is not joined: its jobs API
   runs whatever it is sent (CVE-2023-48022).
3. The nodes of a cluster need Ray and torch. This package and what it imports in a worker travel with the job.
4. A process that has started Ray already keeps it: it is used, and left running.
5. Ray reports nothing to its makers, unless RAY_USAGE_STATS_ENABLED says so.
"""

from __future__ import annotations

import importlib.util
import logging
import math
import os
import secrets
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext, suppress
from dataclasses import dataclass
from http.client import HTTPConnection, HTTPException
from ipaddress import ip_address
from pathlib import Path
from typing import Any

from flowsearch.errors import FlowsearchError
from flowsearch.search.reaper import reaped

QUIET = {
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_AIR_NEW_OUTPUT": "0",
    "TUNE_DISABLE_AUTO_CALLBACK_LOGGERS": "1",
    "TUNE_DISABLE_SIGINT_HANDLER": "1",
    "TUNE_GLOBAL_CHECKPOINT_S": "86400",
    "TUNE_PRINT_ALL_TRIAL_ERRORS": "0",
}
"""Ray's own result files, snapshots, tables and signal handler off: the journal and the view take their place."""

MODULES = ("flowsearch", "jaxtyping", "safetensors", "wadler_lindig", "zuko")
"""What a worker imports beyond Ray, torch and what Ray itself depends on (NumPy, PyArrow, pydantic)."""


TOKEN = Path("~/.ray/auth_token").expanduser()
"""Where Ray keeps its token unless told otherwise."""

PATIENCE = 3.0
"""Seconds that a dashboard has to answer."""


@dataclass(frozen=True)
class Machines:
    """Where trials run.

    Args:
        concurrent: trials at once.
        dashboard: address of Ray's dashboard, or None.
    """

    concurrent: int
    dashboard: str | None


@contextmanager
def machines(address: str | None, resources: Any, trials: int) -> Iterator[Machines]:
    """Start Ray or join a cluster, and leave nothing behind.

    Args:
        address: of a cluster, or None for a Ray of our own.
        resources: `cpus_per_trial`, `gpus_per_trial` and `concurrent`, which None leaves to what fits.
        trials: the most that can run at once.

    Raises:
        FlowsearchError: Ray does not start, the cluster cannot be reached or is open to everybody, or not even one
            trial fits.
    """
    for name, value in QUIET.items():
        os.environ.setdefault(name, value)
    if address and has_token():
        os.environ.setdefault("RAY_AUTH_MODE", "token")
    if not address:
        keep_token()
    import ray  # not before: it reads its settings when it is imported

    logging.getLogger("ray").setLevel(logging.CRITICAL)
    if ray.is_initialized():
        yield Machines(fitting(ray.cluster_resources(), resources, trials, joined=False), None)
        return
    with nullcontext() if address else reaped():
        try:
            url = connected(address, away() if address else own(resources, trials))
            refuse_open(url)
            there = ray.cluster_resources()
            concurrent = fitting(there, resources, trials, joined=address is not None)
            yield Machines(concurrent, f"http://{url}" if url else None)
        finally:
            ray.shutdown()


def connected(address: str | None, options: dict[str, Any]) -> str | None:
    """Start or join Ray; the address of its dashboard, if it has one.

    Raises:
        FlowsearchError: it did not answer.
    """
    import ray

    try:
        context = ray.init(address or "local", logging_level=logging.CRITICAL, log_to_driver=False, **options)
    except Exception as error:
        where = f"Ray at {address}" if address else "Ray"
        advice = f"; if it wants a token, put it in {TOKEN} or RAY_AUTH_TOKEN" if address and not has_token() else ""
        raise FlowsearchError(f"{where} did not answer: {_first_line(error)}{advice}") from error
    url: str | None = context.dashboard_url
    return url


def has_token() -> bool:
    """Whether there is a token to show: Ray started where one lies asks for it, a driver does not show it unasked."""
    return TOKEN.is_file() or any(name in os.environ for name in ("RAY_AUTH_TOKEN", "RAY_AUTH_TOKEN_PATH"))


def keep_token() -> None:
    """Have a token for a Ray of our own in a file that was never anybody else's to read: Ray would write it for all.

    1. A token that is there already is kept, and closed to others.
    2. None is made where the environment names one, or says that there is to be none.
    """
    if TOKEN.is_file():
        TOKEN.chmod(0o600)
    elif not has_token() and os.environ.get("RAY_AUTH_MODE", "token") == "token":
        TOKEN.parent.mkdir(parents=True, exist_ok=True)
        partial = TOKEN.with_name(f"_{TOKEN.name}.{os.getpid()}")
        with open(partial, "w", opener=lambda path, flags: os.open(path, flags, 0o600)) as file:
            file.write(secrets.token_hex(32))
        with suppress(FileExistsError):  # another driver's first start
            os.link(partial, TOKEN)
        partial.unlink()


def refuse_open(url: str | None) -> None:
    """Refuse a dashboard that serves whoever reaches it.

    1. One on a loopback address serves the users of its own machine only.
    2. One that cannot be reached from here is not refused.

    Args:
        url: `host:port`, or None where there is no dashboard.

    Raises:
        FlowsearchError: with what to do.
    """
    if url and not is_loopback(url) and answers_anybody(url):
        raise FlowsearchError(
            f"Ray's dashboard at {url} runs anybody's jobs; start the cluster with RAY_AUTH_MODE=token, "
            "or with --dashboard-host=127.0.0.1"
        )


def is_loopback(url: str) -> bool:
    """Whether an address is of the machine itself.

    >>> is_loopback("127.0.0.1:8265"), is_loopback("[::1]:8265"), is_loopback("10.0.0.5:8265")
    (True, True, False)
    """
    host = url.rpartition(":")[0].strip("[]")
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def answers_anybody(url: str) -> bool:
    """Whether a dashboard lists its jobs to one who shows no token."""
    connection = HTTPConnection(url, timeout=PATIENCE)
    try:
        connection.request("GET", "/api/jobs/")
        return connection.getresponse().status == 200
    except (OSError, HTTPException):
        return False
    finally:
        connection.close()


def processors() -> int:
    """Processors of this machine that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def own(resources: Any, trials: int) -> dict[str, Any]:
    """How to start a Ray of our own: with no more processors than the trials can use."""
    wanted = math.ceil((resources.concurrent or trials) * resources.cpus_per_trial)
    has_dashboard = importlib.util.find_spec("aiohttp_cors") is not None
    return {
        "num_cpus": max(1, min(processors(), wanted)),
        "include_dashboard": has_dashboard,
        "dashboard_host": "127.0.0.1",
    }


def away() -> dict[str, Any]:
    """How to join a cluster whose nodes do not have this package."""
    found = [importlib.util.find_spec(name) for name in MODULES]
    folders = [str(Path(spec.origin).parent) for spec in found if spec is not None and spec.origin is not None]
    return {"runtime_env": {"py_modules": folders}}


def fitting(there: dict[str, float], resources: Any, trials: int, *, joined: bool) -> int:
    """Trials at once, given what a cluster has.

    1. `resources.concurrent` is taken at its word on a cluster, which may grow; a Ray of our own cannot.

    Raises:
        FlowsearchError: no trial fits.
    """
    needs = {"CPU": resources.cpus_per_trial, "GPU": resources.gpus_per_trial}
    fits = min(math.floor(there.get(kind, 0) / need + 1e-9) for kind, need in needs.items() if need)
    concurrent = resources.concurrent
    if joined and concurrent:
        return min(int(concurrent), trials)
    if fits < 1:
        has = ", ".join(f"{there.get(kind, 0):g} {kind}" for kind in needs)
        raise FlowsearchError(
            f"resources: a trial needs {needs['CPU']:g} CPU and {needs['GPU']:g} GPU; there are {has}"
            + ("; a cluster that grows needs resources.concurrent" if joined else "")
        )
    return min(fits, trials, concurrent or fits)


def _first_line(error: BaseException) -> str:
    return str(error).strip().partition("\n")[0] or type(error).__name__
