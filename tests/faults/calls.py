"""The calls by which a program changes its disk, counted; at one of them something happens."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NoReturn
from unittest import mock

Act = Callable[[Callable[[], object]], object]
"""Is given what does the call by half."""


def kill(half: Callable[[], object]) -> NoReturn:
    """`kill -9` before the call."""
    os.kill(os.getpid(), signal.SIGKILL)
    raise AssertionError


def half_and_kill(half: Callable[[], object]) -> NoReturn:
    """`kill -9` with half the bytes written; where there are none, after the call."""
    half()
    kill(half)


class Fail:
    """The call fails: before anything is done, or with half the bytes written."""

    def __init__(self, number: int, *, halfway: bool) -> None:
        self.number, self.halfway = number, halfway

    def __call__(self, half: Callable[[], object]) -> NoReturn:
        if self.halfway:
            half()
        raise OSError(self.number, os.strerror(self.number))


@contextmanager
def calls(at: int = -1, act: Act = kill) -> Iterator[list[str]]:
    """Count writes, fsyncs, renames and removals by name; `act` at the one with number `at`, from 0."""
    seen: list[str] = []

    def counted(name: str, real: Callable[..., Any], half: Callable[..., Any] | None = None) -> Callable[..., Any]:
        def call(*given: Any, **options: Any) -> Any:
            seen.append(name)
            if len(seen) - 1 == at:
                act(lambda: (half or real)(*given, **options))
            return real(*given, **options)

        return call

    class Written:
        """An open file whose writes count."""

        def __init__(self, file: Any) -> None:
            self._file = file
            self.write = counted("write", file.write, self._half)

        def _half(self, data: Any) -> None:
            self._file.write(data[: len(data) // 2])
            self._file.flush()

        def __getattr__(self, name: str) -> Any:
            return getattr(self._file, name)

        def __enter__(self) -> Written:
            return self

        def __exit__(self, *error: object) -> None:
            self._file.close()

    def opened(path: Path, mode: str = "r", *given: Any, **options: Any) -> Any:
        file = real_open(path, mode, *given, **options)
        return Written(file) if "w" in mode else file

    real_open, real_write = Path.open, os.write
    patched = {name: counted(name, getattr(os, name)) for name in ("fsync", "replace", "unlink")}
    patched["write"] = counted("write", real_write, lambda file, data: real_write(file, data[: len(data) // 2]))
    with mock.patch.object(Path, "open", opened), mock.patch.multiple(os, **patched):
        yield seen
