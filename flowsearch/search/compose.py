"""One plain tree from a space file, the files it starts from, and overrides.

Hydra composes (https://hydra.cc: `initialize_config_dir`, `compose`, `defaults`), but never reads a user's file: each
is read as bounded plain data first, and what Hydra merges are copies in which every value of every section is one
opaque text. So sections merge key by key, and a range or a component replaces what it overrides whole.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from threading import Lock
from typing import Any

from hydra import compose as hydra_compose
from hydra import initialize_config_dir
from hydra.errors import HydraException
from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException

from flowsearch import errors
from flowsearch.errors import SpaceError, nearest
from flowsearch.search import bounded

NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")
"""Names that users give: studies, corpora, files in `defaults`."""

BASE = Path(errors.__file__).with_name("base.yaml")
SELF = "_self_"
HYDRA = Lock()  # Hydra's compose goes through a global


def compose(file: Path, sections: Sequence[str], constants: Sequence[str]) -> dict[str, Any]:
    """The tree of a space file and of everything that its `defaults` name.

    Args:
        file: where `defaults` finds siblings by name; `base` is the file that ships with flowsearch, from anywhere.
        sections: the top-level keys that hold keys.
        constants: the top-level keys that hold a value.

    Raises:
        SpaceError: a file that is not bounded plain data, or has another shape.
    """
    documents = gather(file, {}, ())
    for path, document in documents.items():
        refuse_shape(path, document, sections, constants)
    names = {path: f"file{number}" for number, path in enumerate(documents)}
    with TemporaryDirectory() as folder, HYDRA:
        for path, document in documents.items():
            copy = opaque(document) | {"defaults": [names.get(sibling(path, e), e) for e in defaults(path, document)]}
            Path(folder, f"{names[path]}.yaml").write_text(bounded.dump(copy), encoding="utf-8")
        try:
            with initialize_config_dir(folder, version_base="1.3"):
                merged = OmegaConf.to_container(hydra_compose(names[file]))
        except (HydraException, OmegaConfBaseException) as error:
            raise SpaceError(f"{file}: {error.__cause__ or error}") from error
    assert isinstance(merged, dict)
    return {str(key): transparent(value) for key, value in merged.items()}


def gather(file: Path, found: dict[Path, Any], above: tuple[Path, ...]) -> dict[Path, Any]:
    """Every file that composes one, by path, that file first."""
    if file in found:
        raise SpaceError(f"{above[-1]}: defaults: {file.stem}; reached twice, expected each file once")
    found[file] = bounded.read(file)
    for entry in defaults(file, found[file]):
        if entry != SELF:
            gather(sibling(file, entry), found, (*above, file))
    return found


def defaults(file: Path, document: Any) -> list[str]:
    """The entries of a file's `defaults`; the file itself comes last unless it says where."""
    if not isinstance(document, Mapping):
        raise SpaceError(f"{file}: {document!r:.80}; expected a mapping")
    entries = document.get("defaults", [SELF])
    if not isinstance(entries, list):
        raise SpaceError(f"{file}: defaults: {entries!r:.80}; expected a list of names, as in [base, {SELF}]")
    for entry in entries:
        if not isinstance(entry, str) or (entry != SELF and not NAME.fullmatch(entry)):
            raise SpaceError(f"{file}: defaults: {entry!r:.80}; expected the name of a file beside this one, or base")
        if entry != SELF and not sibling(file, entry).is_file():
            known = [BASE.stem, *(path.stem for path in file.parent.glob("*.yaml") if path != file)]
            raise SpaceError(f"{file}: defaults: {entry}; no such file{nearest(entry, known)}")
    if len({*entries}) < len(entries):
        raise SpaceError(f"{file}: defaults: {entries!r:.80}; expected each name once")
    return entries if SELF in entries else [*entries, SELF]


def sibling(file: Path, name: str) -> Path:
    """The file that a name in `defaults` means."""
    beside = file.with_name(f"{name}.yaml")
    if name != BASE.stem:
        return beside
    if beside.exists() and not beside.samefile(BASE):
        raise SpaceError(f"{beside}: {name} is the file that ships with flowsearch; expected another name for this one")
    return BASE


def refuse_shape(file: Path, document: Mapping[str, Any], sections: Sequence[str], constants: Sequence[str]) -> None:
    """Refuse unknown top-level keys, and sections that hold no keys."""
    for key, value in document.items():
        known = [*sections, *constants]
        if key not in [*known, "defaults"]:
            raise SpaceError(f"{file}: {key}: {value!r:.80}; unknown key{nearest(key, known)}")
        if key in sections and not isinstance(value, Mapping):
            raise SpaceError(f"{file}: {key}: {value!r:.80}; expected a mapping of keys")


def opaque(document: Mapping[str, Any]) -> dict[str, Any]:
    """The copy that Hydra may merge: sections of texts."""
    sections = {key: value for key, value in document.items() if isinstance(value, Mapping)}
    texts = {key: {name: json.dumps(item) for name, item in value.items()} for key, value in sections.items()}
    return {key: texts[key] if key in texts else json.dumps(value) for key, value in document.items()}


def transparent(value: Any) -> Any:
    """What `opaque` hid."""
    return {key: json.loads(item) for key, item in value.items()} if isinstance(value, Mapping) else json.loads(value)
