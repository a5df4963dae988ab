"""optuna-dashboard on a study that is followed, served to this machine.

    follower = Follower(find(results, "iaf"))
    server(follower, "127.0.0.1", 8080).serve_forever()

1. Every request first takes in what the journal has gained.
2. Only reading requests are served, and only under this machine's own names, so that no web page can reach the server
   through a name that it has made to point here (DNS rebinding). The address that it listens on is such a name.
3. An address with colons, and a name that only IPv6 has, is listened to by IPv6.
"""

from __future__ import annotations

import re
import socket
from collections.abc import Callable, Iterable
from importlib.util import find_spec
from ipaddress import ip_address
from socketserver import ThreadingMixIn
from typing import Any
from wsgiref.simple_server import WSGIRequestHandler, WSGIServer, make_server

from flowsearch.errors import BadInput
from flowsearch.search.follow import Follower

LOCAL = ("localhost", "127.0.0.1", "[::1]")
"""Names of this machine that no name server decides."""

Environment = dict[str, Any]
Application = Callable[[Environment, Any], Iterable[bytes]]


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


def bracketed(host: str) -> str:
    """An address as URLs and requests write it.

    >>> bracketed("::1"), bracketed("127.0.0.1")
    ('[::1]', '127.0.0.1')
    """
    return f"[{host}]" if ":" in host else host


def asked_for(header: str) -> str:
    """The name in a request's `Host`, without its port; nothing if it is none.

    >>> asked_for("[::1]"), asked_for("[::1]:8080"), asked_for("LocalHost:80"), asked_for("::1")
    ('[::1]', '[::1]', 'localhost', '')
    """
    found = re.fullmatch(r"(\[[^\[\]]*\]|[^:\[\]]*)(?::\d*)?", header)
    return found[1].lower() if found else ""


def application(follower: Follower, host: str = "127.0.0.1", *, public: bool = False) -> Application:
    """optuna-dashboard on a study that is brought up to date before each answer.

    Args:
        follower: of the study.
        host: the address that is listened on, a name to answer under if it is this machine's own.
        public: whether to answer under any name.
    """
    from optuna_dashboard import wsgi

    inner: Application = wsgi(follower.storage)
    names = {*LOCAL, bracketed(host).lower()} if is_local(host) else set(LOCAL)

    def answer(environment: Environment, start: Any) -> Iterable[bytes]:
        if environment["REQUEST_METHOD"] not in ("GET", "HEAD"):
            return refuse(start, "405 Method Not Allowed", "this dashboard only shows; the study is not changed here")
        if not public and asked_for(environment.get("HTTP_HOST", "")) not in names:
            return refuse(start, "403 Forbidden", "ask for 127.0.0.1 or localhost")
        follower.follow()
        return inner(environment, start)

    return answer


def refuse(start: Any, status: str, reason: str) -> list[bytes]:
    """A short answer that says no."""
    start(status, [("Content-Type", "text/plain; charset=utf-8")])
    return [f"{reason}\n".encode()]


class Server(ThreadingMixIn, WSGIServer):
    """Answers several requests at a time; the process does not wait for them when it ends."""

    daemon_threads = True


class Server6(Server):
    """The same, by IPv6."""

    address_family = socket.AF_INET6


class Quiet(WSGIRequestHandler):
    """Logs no request."""

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002  the base class' own name
        """Nothing."""


def server(follower: Follower, host: str, port: int, *, public: bool = False) -> WSGIServer:
    """A server for a followed study, listening; `serve_forever` answers.

    Args:
        follower: of the study.
        host: the address to listen on.
        port: 0 takes any that is free.
        public: as in `check`.

    Raises:
        BadInput: the port is taken, or the address is not this machine's.
    """
    app: Any = application(follower, host, public=public)
    try:
        return make_server(host, port, app, server_class=kind(host), handler_class=Quiet)
    except OSError as error:
        raise BadInput(f"dashboard: {host}:{port}: {error.strerror or error}; --port chooses another") from error


def kind(host: str) -> type[Server]:
    """The server for an address or a name: by IPv4 wherever that is possible.

    >>> kind("127.0.0.1").__name__, kind("::1").__name__
    ('Server', 'Server6')
    """
    families = {found[0] for found in socket.getaddrinfo(host, None, type=socket.SOCK_STREAM)} if host else set()
    return Server6 if families == {socket.AF_INET6} else Server
