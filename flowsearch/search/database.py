"""Studies in a database, for a team's optuna-dashboard: `flowsearch dashboard STUDY --storage URL`.

The search never waits for the database and does not need it: a process of its own follows the journal and writes
what is new. It can be stopped, killed and started again at any time.

1. A password is better kept out of the command line: PostgreSQL takes it from `PGPASSWORD` or `~/.pgpass`. What is
   printed never shows it.
2. Between two looks at the journal no connection is held; in PostgreSQL a single one is, whose lock keeps a second
   follower of a study of that name out. A pooler in between must leave sessions alone.
3. While the database does not answer, it is asked again every `PATIENCE` seconds; so it is when another follower has
   taken over in the meantime. At first either ends the command.
4. A URL that cannot be read is shown without whatever might be a password.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Generator, Iterator
from contextlib import closing, contextmanager
from pathlib import Path

from optuna.exceptions import StorageInternalError
from optuna.storages import RDBStorage
from sqlalchemy import Connection, make_url, text
from sqlalchemy.engine import URL
from sqlalchemy.exc import ArgumentError, SQLAlchemyError
from sqlalchemy.pool import NullPool

from flowsearch.errors import BadInput, StudyError
from flowsearch.search.follow import FRESH, Follower
from flowsearch.search.view import clean

PATIENCE = 10.0
"""Seconds between two tries to reach a database that was there before."""

TRIES = 5
"""Times that the lock is asked for: the server may learn of a follower's end a moment later."""

PAUSE = 0.2
"""Seconds between them."""

HIDDEN = "***"
SECRETS = ("pass", "pwd", "secret", "token", "odbc_connect")
"""What the name of a parameter contains whose value is not shown."""


class TakenError(StudyError):
    """Another follower keeps the study."""


def opened(url: str) -> RDBStorage:
    """The Optuna storage at a URL; its tables are made if they are not there.

    Args:
        url: as SQLAlchemy has it, `postgresql+psycopg://USER@HOST/DATABASE`.

    Raises:
        BadInput: no such kind of database, no driver for it, or it does not let us in.
    """
    try:
        return RDBStorage(url, engine_kwargs={"poolclass": NullPool})
    except ImportError as error:
        raise BadInput(
            f"--storage: {shown(url)}: its driver is not installed; pip install 'flowsearch[postgresql]' brings that "
            "of postgresql+psycopg://"
        ) from error
    except (ArgumentError, ValueError, TypeError, LookupError) as error:
        raise BadInput(f"--storage: {shown(url)}; expected postgresql+psycopg://USER@HOST/DATABASE") from error
    except (SQLAlchemyError, StorageInternalError, RuntimeError) as error:
        raise BadInput(f"--storage: {shown(url)}: {first_line(error, url)}") from error


def kept(folder: Path, url: str, *, sleep: Callable[[float], None] = time.sleep) -> Generator[str]:
    """Keep a study in a database for as long as this is asked on; something to say after the first copy, and whenever
    the database goes or comes back, else nothing. To close it lets another follower in.

    Args:
        folder: of the study.
        url: as `opened` takes it.
        sleep: waits for some seconds.

    Raises:
        BadInput: as `opened`, at first; or nothing may be written there.
        StudyError: the database has another study of that name, somebody else has changed the study in it or, at
            first, keeps it.
    """
    name, where = folder.name, shown(url)
    was_there = is_away = False
    while True:
        try:
            with closing(_looks(folder, url, sleep)) as looks:
                count = next(looks)
                yield f"{name}: {where} is back, {count} trials" if was_there else f"{name}: {count} trials in {where}"
                was_there, is_away = True, False
                for _ in looks:
                    yield ""
        except (BadInput, SQLAlchemyError, StorageInternalError) as error:
            is_final = not was_there or (isinstance(error, StudyError) and not isinstance(error, TakenError))
            if is_final and isinstance(error, BadInput):
                raise
            line = first_line(error, url)
            if is_final:
                raise BadInput(f"--storage: {where}: {line}") from error
            if not is_away:
                yield f"{name}: {where} is away, asked again every {PATIENCE:g} s: {line}"
            is_away = True
        sleep(PATIENCE)


def _looks(folder: Path, url: str, sleep: Callable[[float], None]) -> Generator[int]:
    """The trials that a database has after every look at the journal, until something goes wrong."""
    storage = opened(url)
    with _alone(storage, folder.name) as check:
        follower = Follower(folder, storage)
        while True:
            yield follower.count()
            sleep(FRESH)
            check()
            follower.follow()


@contextmanager
def _alone(storage: RDBStorage, name: str) -> Iterator[Callable[[], None]]:
    """Keep other followers of a study out, where the database can; what comes fails once that is over."""
    if storage.engine.dialect.name != "postgresql":
        yield lambda: None
        return
    connection = storage.engine.connect().execution_options(isolation_level="AUTOCOMMIT")
    try:
        _lock(connection, name)
        yield lambda: connection.execute(text("SELECT 1")).close()
    finally:
        connection.invalidate()  # with no last word to a server that may not be there
        connection.close()


def _lock(connection: Connection, name: str) -> None:
    """Take the lock of a study's name, which ends with the connection."""
    asked = text("SELECT pg_try_advisory_lock(hashtext('flowsearch'), hashtext(:name))")
    for left in reversed(range(TRIES)):
        if connection.execute(asked, {"name": name}).scalar():
            return
        time.sleep(PAUSE if left else 0)
    raise TakenError(f"{name}: another follower keeps this study in the database, and only one at a time can")


def shown(url: str) -> str:
    """A URL without its passwords.

    >>> shown("postgresql+psycopg://me:secret@db/flowsearch"), shown("nonsense")
    ('postgresql+psycopg://me:***@db/flowsearch', "'nonsense'")
    >>> shown("postgresql://db/x?password=secret&sslmode=require"), shown("postgresql://me:secret@db:port/x")
    ('postgresql://db/x?password=***&sslmode=require', "'db:port/x'")
    """
    try:
        address = make_url(url)
    except (ArgumentError, ValueError):
        return repr(_remains(url)[:80])
    query = {name: HIDDEN if is_secret(name) else value for name, value in address.query.items()}
    host = address.host and address.host.rpartition("@")[2]  # an @ that was not written %40 is the password's
    masked = address.set(query=query, host=host).render_as_string(hide_password=True)
    return clean(masked.replace("%2A%2A%2A", HIDDEN))


def _remains(url: str) -> str:
    """What of an address that cannot be read is surely no password.

    >>> _remains("db://me:a?b@c:port/x"), _remains("db://h:port/x?password=a@b")
    ('db://...', 'db://...')
    """
    before, _, after = url.rpartition("@")
    is_clear = "?" not in before and "@" not in before
    return after.partition("?")[0] if is_clear else f"{url.partition('://')[0].partition(':')[0]}://..."


def is_secret(name: str) -> bool:
    """Whether a parameter of a URL is a password.

    >>> is_secret("password"), is_secret("sslpassword"), is_secret("sslmode"), is_secret("passfile")
    (True, True, False, False)
    """
    return name.lower() != "passfile" and any(part in name.lower() for part in SECRETS)


def first_line(error: Exception, url: str) -> str:
    """What happened, in a line without control characters or the passwords of the URL."""
    cause = error.__cause__ or error
    line = (str(cause).splitlines() or [type(cause).__name__])[0]
    for secret in sorted(_secrets(url), key=len, reverse=True):
        line = line.replace(secret, HIDDEN)
    return clean(line)


def _secrets(url: str) -> set[str]:
    """The passwords in a URL."""
    try:
        address: URL = make_url(url)
    except (ArgumentError, ValueError):
        return set()
    values = [value for name, value in address.query.items() if is_secret(name)]
    found = {one for value in values for one in ([value] if isinstance(value, str) else value)}
    found |= {str(address.password or ""), (address.host or "").rpartition("@")[0]}
    return found - {""}
