"""Studies in a database, for a team's optuna-dashboard: `flowsearch dashboard STUDY --storage URL`.

The search never waits for the database and does not need it: a process of its own follows the journal and writes
what is new. It can be stopped, killed and started again at any time.

1. A password is better kept out of the command line: PostgreSQL takes it from `PGPASSWORD` or `~/.pgpass`. What is
   printed never shows it.
2. No connection is held between two looks at the journal.
3. While the database does not answer, it is asked again every `PATIENCE` seconds.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from pathlib import Path

from optuna.exceptions import StorageInternalError
from optuna.storages import BaseStorage, RDBStorage
from sqlalchemy import make_url
from sqlalchemy.exc import ArgumentError, OperationalError, SQLAlchemyError
from sqlalchemy.pool import NullPool

from flowsearch.errors import BadInput, StudyError
from flowsearch.search.follow import FRESH, Follower

PATIENCE = 10.0
"""Seconds between two tries to reach a database that was there before."""


def opened(url: str) -> BaseStorage:
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
    except OperationalError as error:
        raise BadInput(f"--storage: {shown(url)}: {first_line(error)}") from error
    except ArgumentError as error:
        raise BadInput(f"--storage: {shown(url)}; expected postgresql+psycopg://USER@HOST/DATABASE") from error
    except (SQLAlchemyError, StorageInternalError, RuntimeError) as error:
        raise BadInput(f"--storage: {shown(url)}: {first_line(error)}") from error


def kept(folder: Path, url: str, *, sleep: Callable[[float], None] = time.sleep) -> Iterator[str]:
    """Keep a study in a database for as long as this is asked on; something to say after the first copy, and whenever
    the database goes or comes back, else nothing.

    Args:
        folder: of the study.
        url: as `opened` takes it.
        sleep: waits for some seconds.

    Raises:
        BadInput: as `opened`, at first.
        StudyError: the database has another study of that name.
    """
    follower = Follower(folder, opened(url))
    yield f"{folder.name}: {follower.count()} trials in {shown(url)}"
    is_there = True
    while True:
        sleep(FRESH if is_there else PATIENCE)
        try:
            if not is_there:
                follower = Follower(folder, opened(url))
                yield f"{folder.name}: {shown(url)} is back, {follower.count()} trials"
            follower.follow()
            is_there = True
            yield ""
        except StudyError:
            raise
        except (BadInput, SQLAlchemyError, StorageInternalError) as error:
            if is_there:
                yield f"{folder.name}: {shown(url)} is away, asked again every {PATIENCE:g} s: {first_line(error)}"
            is_there = False


def shown(url: str) -> str:
    """A URL without its password.

    >>> shown("postgresql+psycopg://me:secret@db/flowsearch"), shown("nonsense")
    ('postgresql+psycopg://me:***@db/flowsearch', "'nonsense'")
    """
    try:
        return make_url(url).render_as_string(hide_password=True)
    except ArgumentError:
        return repr(url.rpartition("@")[2][:80])


def first_line(error: Exception) -> str:
    """What happened, in a line."""
    cause = error.__cause__ or error
    return (str(cause).splitlines() or [type(cause).__name__])[0]
