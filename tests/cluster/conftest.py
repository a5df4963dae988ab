"""Rays of their own, each with its own home, folder and token, so that no test meets another's, or the user's."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[2]


@pytest.fixture
def home() -> Iterator[Path]:
    """A short path, for Ray's sockets lie below it and the system bounds their names."""
    folder = Path(tempfile.mkdtemp(prefix="fs-"))
    yield folder
    shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture
def environment(home: Path) -> dict[str, str]:
    """What a user who has never started Ray has, the commands of this interpreter first."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("RAY_", "PYTEST_"))}
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
    return {**kept, "HOME": str(home), "RAY_TMPDIR": str(home), "PATH": path, "PYTHONPATH": str(ROOT)}


@pytest.fixture
def told(environment: dict[str, str]) -> Callable[..., Any]:
    """Runs a program and reads what its last line says, as JSON."""

    def tell(program: str, *arguments: str, **more: str) -> Any:
        done = subprocess.run(
            [sys.executable, "-c", program, *arguments],
            env=environment | more,
            capture_output=True,
            text=True,
            timeout=200,
            check=False,
        )
        assert done.returncode == 0, done.stdout + done.stderr
        return json.loads(done.stdout.splitlines()[-1])

    return tell
