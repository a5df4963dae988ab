"""A folder kept in a second place: a bucket (`s3://`, `gs://`) or another disk (`file://`), which outlives the machine.

1. What has changed is copied whole, the journal first: tables are believed only if the journal vouches for them, so
   whoever reads between two copies reads the journal.
2. An object is there whole or not at all, for object stores show it when it is finished; on a disk it is renamed into
   place.
3. Names that come from there are checked before anything is written here.
4. Credentials are those that the cloud's own tools find; one in an address would be seen by every user of the machine,
   and is refused.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple
from urllib.parse import urlsplit

from flowsearch.errors import BadInput, Damaged, StudyError, nearest
from flowsearch.results.store import JOURNAL, NAME, TRIALS

if TYPE_CHECKING:
    from pyarrow import fs as pafs

CHUNK = 2**22
HEAVY = (".pt", ".safetensors")
"""How the names end of what a report does not read."""


class Place(NamedTuple):
    """A folder of a file system.

    Args:
        fs: the file system.
        path: of the folder there, without a slash at its end.
    """

    fs: pafs.FileSystem
    path: str

    def __truediv__(self, name: object) -> Place:
        return Place(self.fs, f"{self.path}/{name}")


def place(uri: str) -> Place:
    """The folder that an address names.

    Raises:
        BadInput: it is no address of a file system that pyarrow knows, or has a credential in it.
    """
    import pyarrow as pa
    from pyarrow import fs as pafs

    try:
        parts = urlsplit(uri)
    except ValueError as error:
        raise BadInput(f"{uri}: {_line(error)}; expected s3://BUCKET/FOLDER") from None
    if parts.password is not None or (parts.scheme == "s3" and parts.username is not None):
        raise BadInput(
            f"{parts.scheme}://...@{parts.hostname}: a credential in an address; leave it to the environment"
        )
    try:
        found, path = pafs.FileSystem.from_uri(uri)
    except (pa.ArrowException, OSError, ValueError) as error:
        raise BadInput(
            f"{uri}: {_line(error)}; expected s3://BUCKET/FOLDER, gs://BUCKET/FOLDER or file:///FOLDER"
        ) from None
    return Place(found, path.rstrip("/"))


class Mirror:
    """A folder, and the place that its files are copied to; files in folders below it are others' business.

    Args:
        folder: here.
        there: its copy.
    """

    def __init__(self, folder: Path, there: Place) -> None:
        self.folder, self.there = folder, there
        self._sent: dict[str, tuple[int, int]] = {}

    def push(self) -> None:
        """Copy what has changed since the last time.

        Raises:
            OSError: the network or the other side refused; whatever was not sent is sent next time.
        """
        for file in self._files():
            stamp = _stamp(file)
            if self._sent.get(file.name) != stamp:
                _send(file, self.there / file.name)
                self._sent[file.name] = stamp

    def pull(self) -> None:
        """Fetch what is newer there, or is not here.

        Raises:
            OSError: as `push`.
        """
        self.folder.mkdir(parents=True, exist_ok=True)
        for name, info in _below(self.there, recursive=False):
            file = self.folder / name
            if not file.exists() or (info.mtime_ns or 0) > file.stat().st_mtime_ns:
                _take(self.there / name, file)
                self._sent[name] = _stamp(file)

    def _files(self) -> Iterator[Path]:
        """The regular files that readers read, the journal first."""
        found = [file for file in self.folder.iterdir() if file.is_file() and NAME.fullmatch(file.name)]
        yield from sorted(found, key=lambda file: (file.name != JOURNAL, file.name))


def studies_at(there: Place) -> list[str]:
    """The names of the studies in a place, sorted."""
    found = {name.rpartition("/") for name, _ in _below(there, recursive=True)}
    return sorted({study for study, _, file in found if file in (JOURNAL, TRIALS) and NAME.fullmatch(study)})


def fetch(there: Place, names: list[str], results: Path, *, heavy: bool) -> list[Path]:
    """Copy studies from a place.

    Args:
        there: the folder of studies.
        names: of studies; none means all.
        results: the folder to put them in.
        heavy: models and checkpoints, too.

    Returns:
        Their folders.

    Raises:
        StudyError: there is no such study, or one is here already.
        Damaged: the place cannot be read.
    """
    try:
        known = studies_at(there)
        if not known:
            raise StudyError(f"{there.path}: no studies there")
        for name in names or known:
            if name not in known:
                raise StudyError(f"{there.path}: no study '{name}'{nearest(name, known)}")
            if (results / name).exists():
                raise StudyError(f"{results / name}: exists; move it away, or fetch to another folder")
        for name in names or known:
            for below, _ in _below(there / name, recursive=True):
                if heavy or not below.endswith(HEAVY):
                    _take(there / name / below, results / name / below)
    except OSError as error:
        raise Damaged(f"{there.path}: {_line(error)}") from error
    return [results / name for name in names or known]


def _below(there: Place, *, recursive: bool) -> Iterator[tuple[str, Any]]:
    """The files of a place whose names are harmless here, by path from there."""
    from pyarrow import fs as pafs

    selector = pafs.FileSelector(there.path, allow_not_found=True, recursive=recursive)
    for info in sorted(there.fs.get_file_info(selector), key=lambda info: info.path):
        name = info.path[len(there.path) :].lstrip("/")
        if info.type == pafs.FileType.File and all(NAME.fullmatch(part) for part in name.split("/")):
            yield name, info


def _send(file: Path, there: Place) -> None:
    is_disk = there.fs.type_name not in ("s3", "gcs", "abfs")
    head, _, name = there.path.rpartition("/")
    target = f"{head}/_{name}" if is_disk else there.path
    if is_disk:
        there.fs.create_dir(head, recursive=True)
    with file.open("rb") as source, there.fs.open_output_stream(target) as sink:
        shutil.copyfileobj(source, sink, CHUNK)
    if is_disk:
        there.fs.move(target, there.path)


def _take(there: Place, file: Path) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    partial = file.with_name(f"_{file.name}")
    with there.fs.open_input_stream(there.path) as source, partial.open("wb") as sink:
        shutil.copyfileobj(source, sink, CHUNK)
        sink.flush()
        os.fsync(sink.fileno())
    partial.replace(file)


def _stamp(file: Path) -> tuple[int, int]:
    found = file.stat()
    return found.st_size, found.st_mtime_ns


def _line(error: BaseException) -> str:
    return str(error).strip().partition("\n")[0] or type(error).__name__
